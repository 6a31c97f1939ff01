"""Products in slices are the plain ones, the same to the bit on any number of threads."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from streamtrain.engine import dense as dense
from streamtrain.engine.dense import bind_accumulate, bind_affine, bind_input_gradient, one_thread


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 600), units=st.integers(1, 130), features=st.integers(1, 300), threads=st.integers(1, 4)
)
def test_they_are_the_plain_products(rows: int, units: int, features: int, threads: int) -> None:
    a, weight, bias, dz = drawn(rows, features), drawn(units, features), drawn(units), drawn(rows, units)
    z, da, moved = torch.empty(rows, units).double(), torch.empty(rows, features).double(), weight.clone()
    with pytest.MonkeyPatch.context() as patch, one_thread():
        patch.setattr(dense, "LARGE", 1 << 16)  # so that most are cut
        bind_affine(a, weight, bias, alpha=0.5, out=z, threads=threads)()
        bind_input_gradient(dz, weight, out=da, threads=threads)()
        bind_accumulate(moved, dz, a, threads=threads)(0.75, -2.0)
        assert torch.get_num_threads() == 1
    torch.testing.assert_close(z, 0.5 * a @ weight.T + bias)
    torch.testing.assert_close(da, dz @ weight)
    torch.testing.assert_close(moved, 0.75 * weight - 2 * dz.T @ a)


@pytest.mark.parametrize(("rows", "units"), [(256, 100), (1000, 64), (250, 101), (96, 100), (2048, 512)])
def test_no_number_of_threads_changes_a_bit(rows: int, units: int) -> None:
    features = 784
    a, weight, bias, dz = (
        drawn(*shape).float() for shape in ((rows, features), (units, features), (units,), (rows, units))
    )

    def computed(threads: int) -> list[Tensor]:
        z, da, moved = torch.empty(rows, units), torch.empty(rows, features), weight.clone()
        with one_thread():
            bind_affine(a, weight, bias, out=z, threads=threads)()
            bind_input_gradient(dz, weight, out=da, threads=threads)()
            bind_accumulate(moved, dz, a, threads=threads)(1.0, -0.1)
        return [z, da, moved]

    alone = computed(1)
    for threads in (2, 3, 8, 16):
        assert all(torch.equal(one, other) for one, other in zip(alone, computed(threads), strict=True)), threads


def test_a_call_computes_again_from_what_its_tensors_hold_then() -> None:
    a, weight, bias, out = torch.zeros(256, 784), torch.ones(100, 784), torch.ones(100), torch.empty(256, 100)
    with one_thread():
        call = bind_affine(a, weight, bias, out=out, threads=2)
        call()
        assert (out == 1).all()
        a.fill_(1.0)
        bias.fill_(2.0)
        call()
        assert (out == 786).all()


def test_torch_has_its_threads_back_after_an_error_too() -> None:
    threads = torch.get_num_threads()

    def fail() -> None:
        with one_thread() as before:
            assert before == threads
            assert torch.get_num_threads() == 1
            call = bind_affine(
                torch.zeros(256, 9000), torch.zeros(1, 9001), torch.zeros(1), out=torch.zeros(256, 1), threads=2
            )
            call()

    with pytest.raises(RuntimeError, match="size"):
        fail()
    assert torch.get_num_threads() == threads
