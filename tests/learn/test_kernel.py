"""The loops in machine code compute what NumPy and the plain formulas do, and what they say in Python."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from streamtrain.learn import kernel
from streamtrain.learn.functional import cross_entropy_gradient


def sparse(rows: int, features: int, share: float, seed: int) -> np.ndarray:
    """Pixels, of which about that share is not zero."""
    random = np.random.default_rng(seed)
    return (random.integers(1, 256, (rows, features)) * (random.random((rows, features)) < share)).astype(np.uint8)


def listed(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rows, features = pixels.shape
    starts, places = np.full(rows + 1, -1, np.int64), np.full(pixels.size + 8, 65_535, np.uint16)
    counts, shares = np.full(features, 77, np.uint32), np.empty((features, rows + 1), np.uint32)
    kernel.list_nonzero(features, places.view(np.uint8)[None], counts, shares, pixels.reshape(-1), starts)
    return starts, places, counts, shares


X = np.arange(256, dtype=np.float32) / np.float32(255)


@given(
    some.integers(1, 9),
    some.integers(1, 70),
    some.sampled_from([0.0, 0.02, 0.2, 0.9, 1.0]),
    some.integers(0, 1 << 32),
)
@settings(max_examples=300, deadline=None)
def test_every_pixel_that_is_not_zero_is_listed_once_in_its_place(
    rows: int, features: int, share: float, seed: int
) -> None:
    pixels = sparse(rows, features, share, seed)
    starts, places, counts, shares = listed(pixels)
    expected_rows, expected_places = np.nonzero(pixels)
    assert starts.tolist() == [int((expected_rows < row).sum()) for row in range(rows + 1)]
    assert places[: starts[-1]].tolist() == expected_places.tolist()
    assert counts.tolist() == np.count_nonzero(pixels, axis=0).tolist()
    for place, count in enumerate(counts.tolist()):
        (there,) = np.nonzero(pixels[:, place])
        assert shares[place, :count].tolist() == [row * 256 + int(pixels[row, place]) for row in there]


def test_the_widest_row_that_a_place_can_name_is_listed_whole() -> None:
    pixels = np.ones((2, 1 << 16), np.uint8)
    starts, places, counts, _ = listed(pixels)
    assert set(counts.tolist()) == {2}
    assert starts.tolist() == [0, 1 << 16, 1 << 17]
    assert np.array_equal(places[: 1 << 16], np.arange(1 << 16))
    assert places[(1 << 17) - 1] == (1 << 16) - 1


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_products_with_listed_pixels_are_the_dense_ones(share: float) -> None:
    pixels = sparse(30, 49, share, 5)
    starts, places, *by_place = listed(pixels)
    random = torch.Generator().manual_seed(2)
    weight, bias = torch.randn(49, 3, 24, generator=random), torch.randn(3, 24, generator=random)
    dz, z = torch.randn(30, 3, 24, generator=random), torch.full((30, 3, 24), torch.nan)
    dense = torch.from_numpy(pixels).double() / 255
    kernel.multiply(24)(X, pixels, starts, places, weight.numpy(), bias.numpy(), z.numpy())
    at_once, room = torch.full_like(z, torch.nan), np.full((1, 2 * 49 + 16), 255, np.uint8)
    kernel.forward(24)(X, room, weight.numpy(), bias.numpy(), at_once.numpy(), pixels.reshape(-1))
    assert torch.equal(at_once, z)
    torch.testing.assert_close(
        z.double(), torch.einsum("rf,fnl->rnl", dense, weight.double()) + bias, rtol=0, atol=1e-5
    )
    moved, bias_moved = weight.clone(), bias.clone()
    kernel.accumulate(24)(X, *by_place, dz.numpy(), 0.9, -0.5, moved.numpy(), bias_moved.numpy())
    by_weight = torch.einsum("rf,rnl->fnl", dense, dz.double())
    torch.testing.assert_close((moved - 0.9 * weight).double(), -0.5 * by_weight, rtol=0, atol=1e-5)
    torch.testing.assert_close((bias_moved - 0.9 * bias).double(), -0.5 * dz.double().sum(0), rtol=0, atol=1e-5)


def test_the_loops_say_the_same_in_python() -> None:
    pixels = sparse(4, 21, 0.3, 5)
    starts, places, *by_place = listed(pixels)
    again_starts, again_places, *again_by_place = (np.zeros_like(a) for a in (starts, places, *by_place))
    kernel._listed(21, again_places.view(np.uint8)[None], *again_by_place, pixels.reshape(-1), again_starts)
    assert np.array_equal(again_starts, starts)
    assert np.array_equal(again_places[: starts[-1]], places[: starts[-1]])
    assert np.array_equal(again_by_place[0], by_place[0])
    for place, count in enumerate(by_place[0].tolist()):
        assert np.array_equal(again_by_place[1][place, :count], by_place[1][place, :count])
    random = np.random.default_rng(1)
    weight, bias, dz, z = (torch.zeros(n, 1, 8).numpy() for n in (21, 1, 4, 4))
    weight[:], bias[:], dz[:] = (random.standard_normal(a.shape) for a in (weight, bias, dz))
    again = [a.copy() for a in (weight, bias, z)]
    kernel.multiply(8)(X, pixels, starts, places, weight, bias[0], z)
    kernel._multiplied(X, pixels, starts, places, again[0], again[1][0], again[2])
    np.testing.assert_allclose(z, again[2], rtol=0, atol=1e-6)
    again[2][:] = 7
    kernel._forwarded(X, np.zeros((1, 2 * 21 + 16), np.uint8), again[0], again[1][0], again[2], pixels.reshape(-1))
    np.testing.assert_allclose(z, again[2], rtol=0, atol=1e-6)
    kernel.accumulate(8)(X, *by_place, dz, 0.25, 0.5, weight, bias[0])
    kernel._accumulated(X, *by_place, dz, np.float32(0.25), np.float32(0.5), again[0], again[1][0])
    np.testing.assert_allclose(weight, again[0], rtol=0, atol=1e-6)
    np.testing.assert_allclose(bias, again[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, 1e4])
def test_a_score_is_that_of_the_plain_formula(dtype: torch.dtype, scale: float) -> None:
    logits = torch.randn(50, 12, dtype=dtype, generator=torch.Generator().manual_seed(3)) * scale
    labels = torch.arange(50) % 10
    room, told = torch.full_like(logits, torch.nan), np.zeros(2)
    kernel.score(str(dtype).removeprefix("torch."))(logits.numpy(), 10, labels.numpy(), room.numpy(), told)
    losses, gradient = cross_entropy_gradient(logits[:, :10].double(), labels)
    assert told[0] == pytest.approx(float(losses.sum()), rel=1e-5)
    assert told[1] == int((logits[:, :10].argmax(1) == labels).sum())
    torch.testing.assert_close(room[:, :10].double() / 50, gradient, rtol=0, atol=1e-6)
    assert bool(room[:, 10:].isnan().all())


@pytest.mark.parametrize("fault", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 3, 9])
def test_the_score_of_a_logit_that_is_not_finite_is_not_finite(fault: float, place: int) -> None:
    logits, told = np.zeros((2, 10), np.float32), np.zeros(2)
    logits[1, place] = fault
    kernel.score("float32")(logits, 10, np.array([1, 3]), np.empty_like(logits), told)
    assert math.isfinite(told[0]) == (fault == -math.inf and place != 3)
