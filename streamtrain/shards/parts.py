"""The parts of a split: which row belongs to which, and the facts about the rows of each for its manifest."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from streamtrain.block import Array
from streamtrain.metrics.pixel_statistics import ClassSums, PixelStatistics
from streamtrain.metrics.row_range import RowMaximum
from streamtrain.shards.manifest import Shard


@dataclass(frozen=True)
class WrittenPart:
    """The rows of one part as they are on disk.

    shard: its `label_counts` are those of `names`
    names: the class names that the labels in the shard are indices into; empty if there are no labels
    denominator: of the stored pixels, which the sums are of; see `Schema`
    """

    shard: Shard
    names: tuple[str, ...]
    denominator: int
    pixels: PixelStatistics
    classes: ClassSums
    extremes: tuple[RowMaximum, RowMaximum]  # see row_extremes


@dataclass(frozen=True)
class WrittenRows:
    """Rows that were written, without their pixels.

    names:       the class names that `labels` are indices into; empty if there are no labels
    labels:      (rows,) integers
    part_of_row: (rows,) the number of each row's part
    parts:       by name, those that have rows
    """

    names: tuple[str, ...]
    labels: Array
    part_of_row: Array
    parts: Mapping[str, WrittenPart]

    @classmethod
    def none(cls) -> WrittenRows:
        """Return the value for no rows."""
        return cls((), np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.int8), {})


def part_of_row(pixels: Array, shares: Mapping[str, float]) -> Array:
    """Return the number of the part of each row (rows,): where its hash, in 0..1, falls among the shares."""
    if len(shares) == 1:
        return np.zeros(len(pixels), dtype=np.int8)
    stop = np.cumsum(list(shares.values()))
    stop[-1] = 1.0
    return np.searchsorted(stop, row_hash(pixels), side="right").astype(np.int8)


@functools.lru_cache(maxsize=64)
def numbered_classes(count: int) -> tuple[str, ...]:
    """Return the names of classes that are numbers: 0, 1, 2, …"""
    return tuple(map(str, range(count)))


def row_hash(pixels: Array) -> Array:
    """Return a number in [0, 1) for each row of pixels (rows, features), which decide it alone: (rows,) float64.

    Multilinear hashing of 32-bit words w: the high 32 bits of c_0 + Σ c_i·w_i modulo 2^64, with random
    c_i (Lemire and Kaser, "Strongly universal string hashing is fast", 2014).
    """
    width = pixels.shape[1] * pixels.itemsize
    padded = np.zeros((len(pixels), -(-width // 4) * 4), dtype=np.uint8)
    padded[:, :width] = np.ascontiguousarray(pixels).view(np.uint8).reshape(len(pixels), width)
    words = padded.view("<u4")
    multipliers = np.random.PCG64(0).random_raw(words.shape[1] + 1)
    total = np.full(len(pixels), multipliers[0])
    for start in range(0, len(pixels), 512):  # a few rows at a time: the products take 8 bytes a word
        products = words[start : start + 512].astype(np.uint64) * multipliers[1:]
        total[start : start + 512] += products.sum(axis=1, dtype=np.uint64)
    return (total >> np.uint64(32)).astype(np.float64) / 2.0**32
