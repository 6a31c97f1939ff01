"""Images seen through an affine map and a smooth random field, by bilinear interpolation.

All numbers are integers, so that C and NumPy give the same bytes: coordinates are in 1/256 of a pixel, the affine
map in 1/65536. A point outside the image has the nearest pixel of its edge.
"""

from __future__ import annotations

import numpy as np

from streamtrain.block import Array
from streamtrain.native import available, core

GRID = 7  # control points of a field along each side
MOST_SIDE = 1024  # pixels of an image


def spline_of(side: int) -> Array:
    """Return how a field at each of `side` pixels follows from its control points, (side, 5) int32.

    The first of four control points, and their weights in 1/256: those of the uniform cubic B-spline, which are
    (1 − t)³, 3t³ − 6t² + 4, −3t³ + 3t² + 3t + 1 and t³, over 6.
    """
    place = np.arange(side) * ((GRID - 3) / side)
    first = place.astype(np.int32)
    t = place - first
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1)
    whole = np.rint(weights * (256 / 6)).astype(np.int32)
    whole[:, 1] += 256 - whole.sum(axis=1)
    return np.ascontiguousarray(np.column_stack([first, whole]), dtype=np.int32)


def warp_reference(
    pixels: Array, height: int, affine: Array, grid: Array, spline_y: Array, spline_x: Array, out: Array
) -> None:
    """Write images as they look through a map: pixel (x, y) of `out` is point (X, Y) of `pixels`.

    X = a x + b y + c + field, and Y likewise
    pixels, out: (rows, height · width), of any one dtype; C takes uint8
    affine: (rows, 6) int32, a, b, c of X and then of Y
    grid: (rows, 98) int32, the control points of the field of X, then of Y, (7, 7) each; (0, 98) for no field
    spline_y, spline_x: `spline_of` height and width
    """
    rows, width = len(pixels), len(spline_x)
    images, x, y = pixels.reshape(rows, height, width), np.arange(width), np.arange(height)[:, None]
    sides, at = (width, height), []
    for axis, side in enumerate(sides):
        a, b, c = (affine[:, 3 * axis + each, None, None].astype(np.int64) for each in range(3))
        coordinates = (a * x + (b * y + c)) >> 8  # (rows, height, width)
        if len(grid):
            points = grid.reshape(rows, 2, GRID, GRID)[:, axis].astype(np.int64)
            coordinates += _field(_field(points, spline_x).swapaxes(1, 2), spline_y).swapaxes(1, 2)
        at.append(coordinates.clip(0, (side - 1) << 8))
    left, top = (np.minimum(each >> 8, side - 2) for each, side in zip(at, sides, strict=True))
    right, below = at[0] - (left << 8), at[1] - (top << 8)
    wide = images.astype(np.float64 if images.dtype.kind == "f" else np.int64)
    of = np.arange(rows)[:, None, None]
    upper = wide[of, top, left] * (256 - right) + wide[of, top, left + 1] * right
    lower = wide[of, top + 1, left] * (256 - right) + wide[of, top + 1, left + 1] * right
    mixed = upper * (256 - below) + lower * below
    mixed = mixed / 65536 if images.dtype.kind == "f" else (mixed + 32768) >> 16
    out[:] = mixed.reshape(out.shape).astype(out.dtype)


def _field(points: Array, spline: Array) -> Array:
    """Return the field along the last axis of its control points, (rows, any, 7) → (rows, any, side)."""
    chosen = points[:, :, spline[:, :1] + np.arange(4)]  # (rows, any, side, 4)
    blended: Array = np.einsum("rasw,sw->ras", chosen, spline[:, 1:].astype(np.int64))
    return (blended + 128) >> 8


def warp(
    pixels: Array, height: int, affine: Array, grid: Array, spline_y: Array, spline_x: Array, out: Array
) -> None:
    """Run the loop for the dtype of the pixels; see `warp_reference`."""
    loop = core.warp if available() and pixels.dtype == np.uint8 else warp_reference
    loop(pixels, height, affine, grid, spline_y, spline_x, out)
