"""Rows → a shard for each part of a split, and the facts about them for the manifest."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from streamtrain.block import Array, Block
from streamtrain.metrics.pixel_statistics import ClassSums, PixelStatistics
from streamtrain.metrics.row_range import RowMaximum, row_extremes
from streamtrain.schema import Schema
from streamtrain.shards.manifest import Shard
from streamtrain.shards.statistics import tallies
from streamtrain.shards.writer import write_shard


@dataclass(frozen=True)
class WrittenPart:
    """The rows of one part as they are on disk.

    shard: its `label_counts` are those of `names`
    names: the class names that the labels in the shard are indices into; empty if there are no labels
    """

    shard: Shard
    names: tuple[str, ...]
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


@dataclass(frozen=True)
class PartWriter:
    """Writes rows as shards, in any thread.

    schema:  of the shards, but for the classes
    folders: by part
    shares:  the share of the rows for each part; one part takes all rows
    """

    schema: Schema
    folders: Mapping[str, Path]
    shares: Mapping[str, float]

    def write(self, block: Block, number: int, names: tuple[str, ...]) -> WrittenRows:
        """Write rows, synced to disk, as shard `number` of each part that has some of them.

        names: the class names that the labels are indices into; empty if there are no labels
        """
        part_of_row = self._part_of_row(block)
        parts = {}
        for name, rows in self._split(block, part_of_row):
            if len(rows):
                path = self.folders[name] / f"shard-{number:05d}.parquet"
                shard = write_shard(path, rows, replace(self.schema, classes=names), labelled=bool(names))
                parts[name] = WrittenPart(shard, names, *tallies(rows, names), row_extremes(rows))
        return WrittenRows(names, block.labels, part_of_row, parts)

    def _part_of_row(self, block: Block) -> Array:
        """Return the part of each row (rows,): where its hash, in 0..1, falls among the shares."""
        if len(self.shares) == 1:
            return np.zeros(len(block), dtype=np.int8)
        stop = np.cumsum(list(self.shares.values()))
        stop[-1] = 1.0
        return np.searchsorted(stop, row_hash(block.pixels), side="right").astype(np.int8)

    def _split(self, block: Block, part_of_row: Array) -> Iterator[tuple[str, Block]]:
        for number, name in enumerate(self.shares):
            yield name, block if len(self.shares) == 1 else block.take(part_of_row == number)


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
