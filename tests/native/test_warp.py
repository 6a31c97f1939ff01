"""An image seen through a map is what the formula says, with every instruction set to the byte."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrain.block import Array
from streamtrain.native import core
from streamtrain.native.warp import GRID, spline_of, warp, warp_reference

NO_FIELD = np.empty((0, 98), np.int32)
IDENTITY = [65536, 0, 0, 0, 65536, 0]


def seen(images: Array, affine: Array, grid: Array = NO_FIELD) -> Array:
    """Images (rows, height, width) through maps (rows, 6)."""
    rows, height, width = images.shape
    flat, out = images.reshape(rows, -1), np.empty((rows, height * width), images.dtype)
    maps = np.ascontiguousarray(np.broadcast_to(np.array(affine, np.int32), (rows, 6)))
    warp(flat, height, maps, grid, spline_of(height), spline_of(width), out)
    return out.reshape(images.shape)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 40), st.integers(2, 40), st.integers(0, 5), st.booleans(), st.integers(0, 1 << 32))
def test_every_instruction_set_gives_the_bytes_of_the_reference(
    on_each_isa: Callable[[], Iterator[str]], height: int, width: int, rows: int, bent: bool, seed: int
) -> None:
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (rows, height * width), dtype=np.uint8)
    affine = (np.array(IDENTITY) + random.integers(-40_000, 40_000, (rows, 6))).astype(np.int32)
    affine[:, [2, 5]] *= 10
    grid = random.integers(-2000, 2000, (rows if bent else 0, 98)).astype(np.int32)
    given_ = pixels, height, affine, grid, spline_of(height), spline_of(width)
    expected = np.empty_like(pixels)
    warp_reference(*given_, expected)
    for name in on_each_isa():
        room = np.full((rows + 2, height * width), 77, np.uint8)
        warp(*given_, room[1:-1])
        assert (room[1:-1] == expected).all(), name
        assert (room[[0, -1]] == 77).all(), name


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_the_identity_a_shift_and_half_a_pixel_are_what_they_say(dtype: type) -> None:
    images = np.random.default_rng(1).integers(0, 250, (3, 6, 9)).astype(dtype)
    assert (seen(images, IDENTITY) == images).all()
    assert (seen(images, IDENTITY, np.zeros((3, 98), np.int32)) == images).all()
    right = seen(images, [65536, 0, 2 << 16, 0, 65536, 1 << 16])
    assert (right[:, :-1, :-2] == images[:, 1:, 2:]).all()
    assert (right[:, :-1, -2:] == images[:, 1:, -1:]).all()  # the nearest pixel of the edge
    between = seen(images, [65536, 0, 1 << 15, 0, 65536, 0])[:, :, :-1]
    exact = (images[:, :, :-1].astype(float) + images[:, :, 1:]) / 2
    assert np.abs(between - exact).max() <= (0 if dtype is np.float32 else 0.5)


def test_a_quarter_turn_is_numpys() -> None:
    images = np.random.default_rng(2).integers(0, 256, (2, 8, 8), dtype=np.uint8)
    turned = seen(images, [0, -65536, 7 << 16, 65536, 0, 0])  # X = 7 − y, Y = x
    assert (turned == np.rot90(images, axes=(1, 2))).all()


def test_a_field_whose_control_points_agree_is_a_shift_and_another_is_smooth() -> None:
    images = np.random.default_rng(3).integers(0, 256, (1, 28, 28), dtype=np.uint8)
    same = np.zeros((1, 2, GRID, GRID), np.int32)
    same[:, 0] = 256
    assert (seen(images, IDENTITY, same.reshape(1, 98))[:, :, :-1] == images[:, :, 1:]).all()
    weights = spline_of(28)
    assert (weights[:, 1:].sum(axis=1) == 256).all()
    assert (weights[:, 1:] >= 0).all()
    assert (np.diff(weights[:, 0]) >= 0).all()
    assert weights[-1, 0] == GRID - 4
    ramp = (np.arange(GRID)[weights[:, :1] + np.arange(4)] * weights[:, 1:]).sum(axis=1)
    assert np.abs(np.diff(ramp) - 256 * 4 / 28).max() <= 3  # a straight line of control points stays one


def test_arrays_that_do_not_fit_are_refused() -> None:
    assert core
    pixels, affine, spline = np.zeros((2, 12), np.uint8), np.zeros((2, 6), np.int32), spline_of(4)
    good = [pixels, 3, affine, NO_FIELD, spline_of(3), spline, pixels.copy()]
    core.warp(*good)
    beyond = spline_of(4)
    beyond[0, 0] = 4
    wrong = [(0, pixels[:1]), (1, 4), (2, affine[:1]), (3, np.zeros((1, 98), np.int32)), (4, spline), (5, beyond)]
    for at, value in [*wrong, (5, spline_of(1)), (6, pixels[:1].copy())]:
        with pytest.raises(ValueError, match="do not fit"):
            core.warp(*good[:at], value, *good[at + 1 :])
