"""Exact sums over the pixels of a block."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamtrain.block import Block
from streamtrain.metrics.pixel_statistics import ClassSums, PixelStatistics, class_sums
from streamtrain.native.statistics import add_rows


def tallies(block: Block, names: Sequence[str]) -> tuple[PixelStatistics, ClassSums]:
    """Return the statistics of a block of at least one row; for uint8 pixels in one pass.

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
        add_rows(np.ascontiguousarray(block.pixels), group, sums, squares, low, high)
        pixels = PixelStatistics(sums.sum(axis=0), squares, low, high)
    if not len(present):
        return pixels, ClassSums(None)
    return pixels, ClassSums.of([names[label] for label in present.tolist()], sums)
