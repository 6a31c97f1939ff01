"""Exact sums over the pixels of a block, compiled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamtrain.block import Array, Block
from streamtrain.metrics.pixel_statistics import ClassSums, PixelStatistics, class_sums
from streamtrain.native import Compiled

_ROWS = 32_768  # the sum of that many squares of 255 fits in 32 bits


def _accumulate(
    pixels: Array,
    group: Array,
    sums: Array,
    squares: Array,
    low: Array,
    high: Array,
    short_sums: Array,
    short_squares: Array,
) -> None:
    """Add pixels (rows, features) uint8 to the sums and take them into low and high (features,) uint8.

    group: (rows,) int64, which row of sums (groups, features) int64 each adds to; squares: (features,) int64
    short_sums, short_squares: of the shapes of sums and squares, uint32 zeros, left as zeros
    """
    rows, features = pixels.shape
    for start in range(0, rows, _ROWS):
        for row in range(start, min(start + _ROWS, rows)):
            own = short_sums[group[row]]
            for feature in range(features):
                value = np.uint32(pixels[row, feature])
                own[feature] += value
                short_squares[feature] += value * value
                low[feature] = min(low[feature], pixels[row, feature])
                high[feature] = max(high[feature], pixels[row, feature])
        for feature in range(features):
            squares[feature] += short_squares[feature]
            short_squares[feature] = 0
            for g in range(len(sums)):
                sums[g, feature] += short_sums[g, feature]
                short_sums[g, feature] = 0


accumulate = Compiled(
    _accumulate,
    (
        *("uint8[:, :]", "int64[:]", "int64[:, :]", "int64[:]", "uint8[:]", "uint8[:]"),
        *("uint32[:, :]", "uint32[:]"),
    ),
)


def tallies(block: Block, names: Sequence[str]) -> tuple[PixelStatistics, ClassSums]:
    """Return the statistics of a block of at least one row; for uint8 pixels in compiled code.

    names: what the block's labels are indices into; empty if there are none
    """
    features = block.pixels.shape[1]
    occurs = np.bincount(block.labels, minlength=len(names)) > 0 if names else np.zeros(0, dtype=bool)
    present = np.flatnonzero(occurs)
    if 0 < len(present) * features <= ClassSums.MAX_SUMS:
        group = (np.cumsum(occurs) - 1)[block.labels]
    else:
        present, group = present[:0], np.zeros(len(block), dtype=np.int64)
    groups = max(1, len(present))
    if block.pixels.dtype != np.uint8:
        pixels, sums = PixelStatistics.of(block.pixels), class_sums(block.pixels, group, classes=groups)
    else:
        sums, squares = np.zeros((groups, features), dtype=np.int64), np.zeros(features, dtype=np.int64)
        low, high = np.full(features, 255, dtype=np.uint8), np.zeros(features, dtype=np.uint8)
        short = sums.astype(np.uint32), squares.astype(np.uint32)
        accumulate(np.ascontiguousarray(block.pixels), group, sums, squares, low, high, *short)
        pixels = PixelStatistics(sums.sum(axis=0), squares, low, high)
    if not len(present):
        return pixels, ClassSums(None)
    return pixels, ClassSums.of([names[label] for label in present.tolist()], sums)
