"""Augmentation: each image is shifted, turned, scaled, sheared or bent at random before a step learns it.

What a row gets is a function of the seed, the epoch and the row's place in the epoch's order, and of nothing else:
not of the size of a batch, of threads, or of what came before. So a resume goes on with the same images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from streamtrain.block import Array
from streamtrain.errors import UsageError
from streamtrain.native.warp import GRID, MOST_SIDE, spline_of, warp
from streamtrain.schema import Schema
from streamtrain.stream.order import Cursor

_FIELD = 2 * GRID * GRID  # numbers of a smooth field: x and y of each control point
_DRAWS = 5 + _FIELD
_GOLDEN = 0x9E3779B97F4A7C15
_TAG = int.from_bytes(b"augm")


class Augmentation:
    """Draws a deformation for each row and applies it; a `Transform`.

    schema: of the rows, whose images have two sides of 2 to 1024 pixels
    amounts: the most of each kind: shift in pixels, rotate in degrees, scale and shear as shares, and elastic in
    pixels by which the 7×7 control points of a smooth field move (Simard, Steinkraus and Platt 2003, with a cubic
    B-spline in place of the Gaussian)
    seed: of the training
    Raises UsageError if a row is not such an image.
    """

    def __init__(self, schema: Schema, amounts: Mapping[str, float], *, seed: int) -> None:
        shape = schema.image_shape
        if len(shape) != 2 or min(shape) < 2 or max(shape) > MOST_SIDE:
            sides = "×".join(map(str, shape))
            raise UsageError(
                f"`augment` needs images of 2 to {MOST_SIDE} pixels a side, but a row is {sides} pixels. Convert "
                "the data with `shape`, or leave `augment` out",
                option="augment",
            )
        self._amounts, self._seed = amounts, seed
        self._height, self._width = shape
        self._splines = spline_of(shape[0]), spline_of(shape[1])
        self._out = np.empty((0, schema.features), schema.stored_dtype)

    def __call__(self, pixels: Array, at: Cursor) -> Array:
        """Return the images (rows, features) deformed, in a buffer that the next call fills again.

        at: the place of the first row
        """
        if len(self._out) < len(pixels):
            self._out = np.empty_like(pixels)
        out, draws = self._out[: len(pixels)], draws_for(self._seed, at, len(pixels))
        field = np.empty((0, _FIELD), np.int32)
        if elastic := self._amounts.get("elastic", 0.0):
            field = (draws[:, 5:] * round(256 * elastic)) >> 15
        warp(pixels, self._height, self._affine(draws), field, *self._splines, out)
        return out

    def _affine(self, draws: Array) -> Array:
        """Return the maps (rows, 6) int32 of `warp`; draws: as `draws_for` returns them.

        About the middle: X = (x cos − y sin) / s + shear · y + shift, Y = (x sin + y cos) / s + shift.
        """
        shift, rotate, scale, shear = (
            self._amounts.get(name, 0.0) for name in ("shift", "rotate", "scale", "shear")
        )
        dx, dy, turn, size, slant = draws[:, :5].T / 32768
        sin, cos = sine_and_cosine(turn * (rotate * math.pi / 180))
        factor = 1 / (1 + scale * size)
        a, b = cos * factor, shear * slant - sin * factor
        d, e = sin * factor, cos * factor
        middle_x, middle_y = (self._width - 1) / 2, (self._height - 1) / 2
        c = middle_x - a * middle_x - b * middle_y + shift * dx
        f = middle_y - d * middle_x - e * middle_y + shift * dy
        maps: Array = np.rint(np.stack([a, b, c, d, e, f], axis=1) * 65536)
        return maps.astype(np.int32)


def draws_for(seed: int, at: Cursor, rows: int) -> Array:
    """Return int32 (rows, 103) in −32768 … 32767 for the rows from a place on: of seed, epoch and place alone.

    They are the highest bits of SplitMix64 (Steele, Lea and Flood 2014).
    """
    start = np.array([seed], np.uint64)
    for word in (_TAG, at.epoch):
        start = _mixed(start ^ _mixed(np.array([word], np.uint64)))
    own = _mixed(start + np.arange(at.rows, at.rows + rows, dtype=np.uint64))
    steps = np.arange(1, _DRAWS + 1, dtype=np.uint64) * np.uint64(_GOLDEN)
    draws: Array = (_mixed(own[:, None] + steps) >> np.uint64(48)).astype(np.int32)
    return draws - 32768


def sine_and_cosine(angle: Array) -> tuple[Array, Array]:
    """Return sin and cos of angles in −π … π to 1e-13, by products and sums alone: the same bits everywhere."""
    square = angle * angle
    sine, cosine = np.zeros_like(angle), np.zeros_like(angle)
    for n in range(12, -1, -1):
        sine = 1 - square / ((2 * n + 2) * (2 * n + 3)) * sine if n < 12 else np.ones_like(angle)
        cosine = 1 - square / ((2 * n + 1) * (2 * n + 2)) * cosine if n < 12 else np.ones_like(angle)
    return angle * sine, cosine


def _mixed(state: Array) -> Array:
    """Return 64 bits (any,) that look random for each of others: the finalizer of SplitMix64."""
    z = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    bits: Array = z ^ (z >> np.uint64(31))
    return bits
