"""Exact sums over the pixels of a block, compiled."""

from __future__ import annotations

import numpy as np

from streamtrain.block import Array
from streamtrain.ingest.compiled import compiled
from streamtrain.tally import PixelTally

_ROWS = 32_768  # of 255² each, whose sum fits 32 bits


def _accumulate(pixels: Array, sums: Array, squares: Array, low: Array, high: Array) -> None:
    """Add pixels (rows, features) uint8 to the sums (features,) int64 and take them into low and high, uint8."""
    rows, features = pixels.shape
    short_sums = np.empty(features, dtype=np.uint32)
    short_squares = np.empty(features, dtype=np.uint32)
    for start in range(0, rows, _ROWS):
        short_sums[:] = 0
        short_squares[:] = 0
        for row in range(start, min(start + _ROWS, rows)):
            for feature in range(features):
                value = np.uint32(pixels[row, feature])
                short_sums[feature] += value
                short_squares[feature] += value * value
                low[feature] = min(low[feature], pixels[row, feature])
                high[feature] = max(high[feature], pixels[row, feature])
        for feature in range(features):
            sums[feature] += short_sums[feature]
            squares[feature] += short_squares[feature]


accumulate = compiled(_accumulate, "void(uint8[:, ::1], int64[::1], int64[::1], uint8[::1], uint8[::1])")


def pixel_tally(pixels: Array) -> PixelTally:
    """The tally of pixels (rows, features), at least one row; those of one byte in compiled code."""
    if pixels.dtype != np.uint8:
        return PixelTally.of(pixels)
    features = pixels.shape[1]
    sums, squares = np.zeros(features, dtype=np.int64), np.zeros(features, dtype=np.int64)
    low, high = np.full(features, 255, dtype=np.uint8), np.zeros(features, dtype=np.uint8)
    accumulate(np.ascontiguousarray(pixels), sums, squares, low, high)
    return PixelTally(sums, squares, low, high)
