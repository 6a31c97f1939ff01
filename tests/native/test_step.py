"""The loops in machine code compute what NumPy and the plain formulas do, and what they say in Python."""

import math

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
    pixels = sparse(rows, features, share, seed)
    random = torch.Generator().manual_seed(2)
    weight, bias = torch.randn(features, 3, 24, generator=random), torch.randn(3, 24, generator=random)
    dz, z = torch.randn(rows, 3, 24, generator=random), torch.full((rows, 3, 24), torch.nan)
    dense = torch.from_numpy(pixels).double() / 255
    kernel.forward(24)(X, weight.numpy(), bias.numpy(), z.numpy(), pixels.reshape(-1))
    torch.testing.assert_close(
        z.double(), torch.einsum("rf,fnl->rnl", dense, weight.double()) + bias, rtol=0, atol=1e-4
    )
    moved, bias_moved = weight.clone(), bias.clone()
    kernel.accumulate(24)(X, *listed(pixels), dz.numpy(), 0.9, -0.5, moved.numpy(), bias_moved.numpy())
    by_weight = torch.einsum("rf,rnl->fnl", dense, dz.double())
    torch.testing.assert_close((moved - 0.9 * weight).double(), -0.5 * by_weight, rtol=0, atol=1e-5)
    torch.testing.assert_close((bias_moved - 0.9 * bias).double(), -0.5 * dz.double().sum(0), rtol=0, atol=1e-5)


def test_rows_of_any_width_are_listed_and_multiplied_whole() -> None:
    pixels = np.ones((2, 1 << 17), np.uint8)
    counts, shares = listed(pixels)
    assert set(counts.tolist()) == {2}
    assert set(shares[:, :2].reshape(-1).tolist()) == {1, 257}
    one, z = (torch.zeros(rows, 1, 8).numpy() for rows in (1 << 17, 2))
    one[:] = 1
    kernel.forward(8)(np.ones(256, np.float32), one, one[0], z, pixels.reshape(-1))
    assert set(z.reshape(-1).tolist()) == {(1 << 17) + 1}


def test_the_loops_say_the_same_in_python() -> None:
    pixels = sparse(4, 85, 0.3, 5)
    counts, shares = listed(pixels)
    again_counts, again_shares = np.zeros_like(counts), np.full_like(shares, 77)
    kernel._listed(again_counts, again_shares, pixels.reshape(-1))
    assert np.array_equal(again_counts, counts)
    assert np.array_equal(again_shares, shares)
    random = np.random.default_rng(1)
    weight, bias, dz, z = (torch.zeros(n, 1, 8).numpy() for n in (85, 1, 4, 4))
    weight[:], bias[:], dz[:] = (random.standard_normal(a.shape) for a in (weight, bias, dz))
    again = [a.copy() for a in (weight, bias, z)]
    kernel.forward(8)(X, weight, bias[0], z, pixels.reshape(-1))
    kernel._forwarded(X, again[0], again[1][0], again[2], pixels.reshape(-1))
    assert z.any()
    np.testing.assert_allclose(z, again[2], rtol=0, atol=1e-6)
    kernel.accumulate(8)(X, counts, shares, dz, 0.25, 0.5, weight, bias[0])
    kernel._accumulated(X, counts, shares, dz, np.float32(0.25), np.float32(0.5), again[0], again[1][0])
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
