"""The loops in machine code compute what NumPy and the plain formulas do, and what they say in Python."""

import math
from collections.abc import Callable, Iterator
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from streamtrain.native import step as kernel
from streamtrain.nn.functional import cross_entropy_gradient


def sparse(rows: int, features: int, share: float, seed: int) -> np.ndarray:
    """Pixels, of which about that share is not zero."""
    random = np.random.default_rng(seed)
    return (random.integers(1, 256, (rows, features)) * (random.random((rows, features)) < share)).astype(np.uint8)


def listed(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many pixels at each place are not zero, and what is listed of these."""
    rows, features = pixels.shape
    counts, shares = np.full(features, 77, np.uint32), np.full((features, rows + 1), 77, np.uint32)
    kernel.list_nonzero(counts, shares, pixels.reshape(-1))
    return counts, shares


X = np.arange(256, dtype=np.float32) / np.float32(255)


# rows, features, share of pixels that are not zero, seed
of_any_pixels = given(
    some.integers(1, 9),
    some.integers(1, 200),
    some.sampled_from([0.0, 0.02, 0.2, 0.9, 1.0]),
    some.integers(0, 1 << 32),
)


@of_any_pixels
@settings(max_examples=300, deadline=None)
def test_every_pixel_that_is_not_zero_is_listed_once_in_its_place(
    rows: int, features: int, share: float, seed: int
) -> None:
    pixels = sparse(rows, features, share, seed)
    counts, shares = listed(pixels)
    assert counts.tolist() == np.count_nonzero(pixels, axis=0).tolist()
    for place, count in enumerate(counts.tolist()):
        (there,) = np.nonzero(pixels[:, place])
        assert shares[place, :count].tolist() == [row * 256 + int(pixels[row, place]) for row in there]
        assert set(shares[place, count:].tolist()) == {77}


@of_any_pixels
@settings(max_examples=100, deadline=None)
def test_products_without_the_zeros_are_the_dense_ones(rows: int, features: int, share: float, seed: int) -> None:
    units = 16 * (1 + seed % 20)
    pixels = sparse(rows, features, share, seed)
    random = torch.Generator().manual_seed(2)
    weight, bias = torch.randn(features, units, generator=random), torch.randn(units, generator=random)
    dz, z = torch.randn(rows, units, generator=random), torch.full((rows, units), torch.nan)
    dense = torch.from_numpy(pixels).double() / 255
    kernel.forward(X, weight.numpy(), bias.numpy(), z.numpy(), pixels.reshape(-1))
    torch.testing.assert_close(
        z.double(), torch.einsum("rf,fu->ru", dense, weight.double()) + bias, rtol=0, atol=1e-4
    )
    moved, bias_moved = weight.clone(), bias.clone()
    kernel.accumulate(X, *listed(pixels), dz.numpy(), moved.numpy(), bias_moved.numpy(), 0.9, -0.5)
    by_weight = torch.einsum("rf,ru->fu", dense, dz.double())
    torch.testing.assert_close((moved - 0.9 * weight).double(), -0.5 * by_weight, rtol=0, atol=1e-5)
    torch.testing.assert_close((bias_moved - 0.9 * bias).double(), -0.5 * dz.double().sum(0), rtol=0, atol=1e-5)


def test_rows_of_any_width_are_listed_and_multiplied_whole() -> None:
    pixels = np.ones((2, 1 << 17), np.uint8)
    counts, shares = listed(pixels)
    assert set(counts.tolist()) == {2}
    assert set(shares[:, :2].reshape(-1).tolist()) == {1, 257}
    one, z = np.zeros((1 << 17, 16), np.float32), np.zeros((2, 16), np.float32)
    one[:] = 1
    kernel.forward(np.ones(256, np.float32), one, one[0], z, pixels.reshape(-1))
    assert set(z.reshape(-1).tolist()) == {(1 << 17) + 1}


@of_any_pixels
@settings(max_examples=100, deadline=None)
def test_every_instruction_set_computes_what_the_references_say_and_the_same_bits(
    on_each_isa: Callable[[], Iterator[str]], rows: int, features: int, share: float, seed: int
) -> None:
    random, units = np.random.default_rng(seed), 16 * (1 + seed % 20)
    pixels = sparse(rows, features, share, seed)
    counts, shares = np.full(features, 77, np.uint32), np.full((features, rows + 1), 77, np.uint32)
    kernel.list_nonzero_reference(counts, shares, pixels.reshape(-1))
    weight, bias, dz = (
        random.standard_normal(n).astype(np.float32) for n in ((features, units), units, (rows, units))
    )
    z, moved, bias_moved = np.zeros_like(dz), weight.copy(), bias.copy()
    kernel.forward_reference(X, weight, bias, z, pixels.reshape(-1))
    kernel.accumulate_reference(X, counts, shares, dz, moved, bias_moved, 0.25, -0.5)
    bits = set()
    for name in on_each_isa():
        assert all(np.array_equal(*pair) for pair in zip(listed(pixels), (counts, shares), strict=True)), name
        mine = np.full_like(z, np.nan), weight.copy(), bias.copy()
        kernel.forward(X, weight, bias, mine[0], pixels.reshape(-1))
        kernel.accumulate(X, counts, shares, dz, *mine[1:], 0.25, -0.5)
        for found, expected in zip(mine, (z, moved, bias_moved), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)
        bits.add(b"".join(array.tobytes() for array in mine))
    assert len(bits) == 1


def test_a_product_is_added_with_one_rounding_even_by_a_processor_that_has_no_such_instruction(
    on_each_isa: Callable[[], Iterator[str]],
) -> None:
    random = np.random.default_rng(7)
    x = np.zeros(256, np.float32)
    pixels = np.array([3], np.uint8)
    for exponents in ((-3, 3), (-60, 60), (-149, -100), (-75, -60)):
        a, w, b = (np.ldexp(random.uniform(-2, 2, 4096), random.integers(*exponents, 4096)) for _ in range(3))
        w, b = w.astype(np.float32), b.astype(np.float32)
        b[::3] = -(np.float32(a[0]) * w)[::3]  # whose sum is what rounding the product took
        x[3] = a[0]
        exact = [
            float(Fraction(float(x[3])) * Fraction(float(p)) + Fraction(float(q)))
            for p, q in zip(w, b, strict=True)
        ]
        for name in on_each_isa():
            z = np.full((1, 4096), np.nan, np.float32)
            kernel.forward(x, w[None], b, z, pixels)
            found = z[0].astype(np.float64)
            near = np.spacing(np.abs(z[0])).astype(np.float64)
            assert (np.abs(found - exact) <= near / 2).all(), name


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@settings(max_examples=60, deadline=None)
@given(some.integers(1, 9), some.integers(1, 40), some.sampled_from([0, 1, 30, 1e4]), some.integers(0, 1 << 32))
def test_every_instruction_set_scores_as_the_reference(
    on_each_isa: Callable[[], Iterator[str]], dtype: type, rows: int, classes: int, scale: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    logits, labels = (
        (random.standard_normal((rows, classes + 3)) * scale).astype(dtype),
        random.integers(0, classes, rows),
    )
    totals, expected = np.zeros(2), np.full((rows, classes + 1), 9, dtype)
    kernel.score_reference(logits, classes, labels, expected, totals)
    bits = set()
    for _ in on_each_isa():
        found, dlogits = np.zeros(2), np.full((rows, classes + 1), 9, dtype)
        kernel.score(logits, classes, labels, dlogits, found)
        np.testing.assert_allclose(found, totals, rtol=1e-5 if dtype == np.float32 else 1e-12, atol=1e-14)
        np.testing.assert_allclose(dlogits, expected, rtol=1e-5 if dtype == np.float32 else 1e-12, atol=1e-40)
        bits.add(found.tobytes() + dlogits.tobytes())
    assert len(bits) == 1


def test_an_exponential_is_within_one_unit_in_the_last_place(on_each_isa: Callable[[], Iterator[str]]) -> None:
    magnitudes = np.arange(0, np.float32(89).view(np.int32), 997, dtype=np.int32).view(np.float32)
    x = np.concatenate([magnitudes, -magnitudes, -np.linspace(88, 104, 9999, dtype=np.float32)])
    exact, bits = np.exp(x.astype(np.float64)), set()
    x, exact = x[exact < np.finfo(np.float32).max], exact[exact < np.finfo(np.float32).max]
    for _ in on_each_isa():
        found = x.copy()
        kernel.exponentials(found)
        ulp = np.spacing(exact.astype(np.float32))
        assert (np.abs(found - exact) / ulp).max() < 1
        bits.add(found.tobytes())
    assert len(bits) == 1


def test_an_exponential_beyond_float_is_infinite_zero_or_not_a_number() -> None:
    found = np.array([89.5, 1e30, np.inf, -105, -1e30, -np.inf, np.nan, 0, -0.0], np.float32)
    kernel.exponentials(found)
    np.testing.assert_array_equal(found, np.array([np.inf] * 3 + [0] * 3 + [np.nan, 1, 1], np.float32))


def test_a_logarithm_is_within_one_unit_in_the_last_place() -> None:
    """Of many classes with one logit, the loss is the logarithm of their number."""
    with localcontext() as context:
        context.prec = 60
        for classes in (1, 2, 3, 5, 10, 11, 22, 23, 100, 1000):
            totals = np.zeros(2)
            kernel.score(
                np.zeros((1, classes), np.float32),
                classes,
                np.array([0]),
                np.empty((1, classes), np.float32),
                totals,
            )
            assert abs(Decimal(float(totals[0])) - Decimal(classes).ln()) <= Decimal(math.ulp(totals[0]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, 1e4])
def test_a_score_is_that_of_the_plain_formula(dtype: torch.dtype, scale: float) -> None:
    logits = torch.randn(50, 12, dtype=dtype, generator=torch.Generator().manual_seed(3)) * scale
    labels = torch.arange(50) % 10
    room, totals = torch.full_like(logits, torch.nan), np.zeros(2)
    kernel.score(logits.numpy(), 10, labels.numpy(), room.numpy(), totals)
    losses, gradient = cross_entropy_gradient(logits[:, :10].double(), labels)
    assert totals[0] == pytest.approx(float(losses.sum()), rel=1e-5)
    assert totals[1] == int((logits[:, :10].argmax(1) == labels).sum())
    torch.testing.assert_close(room[:, :10].double() / 50, gradient, rtol=0, atol=1e-6)
    assert bool(room[:, 10:].isnan().all())


@pytest.mark.parametrize("fault", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 3, 9])
def test_the_score_of_a_logit_that_is_not_finite_is_not_finite(fault: float, place: int) -> None:
    logits, totals = np.zeros((2, 10), np.float32), np.zeros(2)
    logits[1, place] = fault
    kernel.score(logits, 10, np.array([1, 3]), np.empty_like(logits), totals)
    assert math.isfinite(totals[0]) == (fault == -math.inf and place != 3)
