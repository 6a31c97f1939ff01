"""Exact sums over the pixels of a block, compiled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamtrain.block import Array, Block
from streamtrain.ingest.compiled import compiled
from streamtrain.tally import ClassTally, PixelTally, class_sums

_ROWS = 32_768  # of 255² each, whose sum fits 32 bits


def _accumulate(pixels: Array, group: Array, sums: Array, squares: Array, low: Array, high: Array) -> None:
    """Add pixels (rows, features) uint8 to the sums and take them into low and high (features,) uint8.

    group: (rows,) int64, which row of sums (groups, features) int64 each adds to; squares: (features,) int64
    """
    rows, features = pixels.shape
    short_sums = np.empty((len(sums), features), dtype=np.uint32)
    short_squares = np.empty(features, dtype=np.uint32)
    for start in range(0, rows, _ROWS):
        short_sums[:] = 0
        short_squares[:] = 0
        for row in range(start, min(start + _ROWS, rows)):
            own = short_sums[group[row]]
            for feature in range(features):
                value = np.uint32(pixels[row, feature])
                own[feature] += value
                short_squares[feature] += value * value
                low[feature] = min(low[feature], pixels[row, feature])
                high[feature] = max(high[feature], pixels[row, feature])
        sums += short_sums
        squares += short_squares


accumulate = compiled(
    _accumulate, "void(uint8[:, ::1], int64[::1], int64[:, ::1], int64[::1], uint8[::1], uint8[::1])"
)


def tallies(block: Block, names: Sequence[str]) -> tuple[PixelTally, ClassTally]:
    """The tallies of a block of at least one row; of pixels of one byte in compiled code.

    names: what the block's labels are indices into; empty where there are none
    """
    features = block.pixels.shape[1]
    present, group = np.unique(block.labels, return_inverse=True)
    if not names or len(present) * features > ClassTally.MOST_SUMS:
        present, group = present[:0], np.zeros(len(block), dtype=np.int64)
    groups = max(1, len(present))
    if block.pixels.dtype != np.uint8:
        pixels, sums = PixelTally.of(block.pixels), class_sums(block.pixels, group, classes=groups)
    else:
        sums, squares = np.zeros((groups, features), dtype=np.int64), np.zeros(features, dtype=np.int64)
        low, high = np.full(features, 255, dtype=np.uint8), np.zeros(features, dtype=np.uint8)
        accumulate(np.ascontiguousarray(block.pixels), group, sums, squares, low, high)
        pixels = PixelTally(sums.sum(axis=0), squares, low, high)
    if not len(present):
        return pixels, ClassTally(None)
    return pixels, ClassTally.of([names[label] for label in present.tolist()], sums)
