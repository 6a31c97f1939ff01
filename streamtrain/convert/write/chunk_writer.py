"""A chunk → its rows as a shard of each part, and a record of all that the rest of the pass has to know."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamtrain.block import Array, Block
from streamtrain.convert.dialect.dialect import Dialect
from streamtrain.convert.parse.label_file import LabelFile
from streamtrain.convert.parse.label_rows import labelled
from streamtrain.convert.parse.parse import Parsed, parse_chunk
from streamtrain.convert.parse.row_parser import BadRow
from streamtrain.convert.text.chunks import Chunk, ChunkBuffer
from streamtrain.convert.write.statistics import tallies
from streamtrain.metrics.pixel_statistics import ClassSums, PixelStatistics
from streamtrain.schema import Schema
from streamtrain.shards.manifest import LineCounts, Shard, digest_bytes
from streamtrain.shards.writer import write_shard


@dataclass(frozen=True)
class PartResult:
    """One part's rows of a chunk, as they are on the disk.

    shard:  its label_counts are those of `names`
    names:  the class names that the labels stored in the shard are indices into; empty where there are none
    """

    shard: Shard
    names: tuple[str, ...]
    pixels: PixelStatistics
    classes: ClassSums


@dataclass(frozen=True)
class ChunkResult:
    """What came of a chunk; nothing else of it is needed any more.

    digest: of its text
    names, labels: the class names, and of every kept row (rows,) int32 the index of its own
    parts:  by name, those that have rows of it. Empty where a bad row ends the conversion
    """

    digest: str
    totals: LineCounts
    bad: tuple[BadRow, ...]
    names: tuple[str, ...]
    labels: Array
    part_of_row: Array
    parts: Mapping[str, PartResult]


@dataclass(frozen=True)
class ChunkWriter:
    """Makes the records of a pass, in any thread.

    schema: of the shards, its classes those that were declared
    shares: the share of the rows for each part
    strict: whether a bad row ends the conversion
    labels: those of a file of labels, where the rows have none
    """

    dialect: Dialect
    schema: Schema
    folders: Mapping[str, Path]
    shares: Mapping[str, float]
    strict: bool
    labels: LabelFile | None = None

    def __call__(self, chunk: Chunk, number: int, room: ChunkBuffer) -> ChunkResult:
        """Parse a chunk and write its rows, synced to disk, as shard `number` of each part."""
        parsed = parse_chunk(chunk, self.dialect, room)
        short = False  # of labels, which ends the conversion
        if self.labels:
            taken = self.labels.take(number, len(parsed.block) + len(parsed.bad))
            short = taken.short
            parsed = parsed if short else labelled(parsed, chunk, taken, self.dialect)
        names = () if short else self._names(parsed)
        part_of_row = _part_of_row(parsed.block, self.shares)
        parts = {}
        if not (short or (parsed.bad and self.strict)):
            for name, rows in _split(parsed.block, part_of_row, self.shares):
                if len(rows):
                    path = self.folders[name] / f"shard-{number:05d}.parquet"
                    schema = Schema(self.schema.image_shape, self.schema.dtype, self.schema.pixel_range, names)
                    shard = write_shard(path, rows, schema, labelled=self.dialect.labelled)
                    parts[name] = PartResult(shard, names, *tallies(rows, names))
        totals = LineCounts(
            lines=parsed.lines,
            header=parsed.header,
            blank=parsed.blank,
            repeated_headers=parsed.repeated_headers,
            kept=len(parsed.block),
            rejected=len(parsed.bad),
            comments=parsed.comments,
        )
        digest = digest_bytes(chunk.data[: chunk.size].data)
        return ChunkResult(digest, totals, tuple(parsed.bad), names, parsed.block.labels, part_of_row, parts)

    def _names(self, parsed: Parsed) -> tuple[str, ...]:
        """What the labels of a chunk are indices into: the declared classes, its words, or 0, 1, 2, …"""
        if not self.dialect.labelled:
            return ()
        if self.dialect.classes or parsed.words:
            return self.dialect.classes or parsed.words
        return _numbers(int(parsed.block.labels.max(initial=-1)) + 1)


@functools.lru_cache(maxsize=64)
def _numbers(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))


def _part_of_row(block: Block, shares: Mapping[str, float]) -> Array:
    """(rows,) each row's part: it goes where its hash, as a fraction of 1, falls among the shares."""
    if len(shares) == 1:
        return np.zeros(len(block), dtype=np.int8)
    stop = np.cumsum(list(shares.values()))
    stop[-1] = 1.0
    return np.searchsorted(stop, row_hash(block.pixels), side="right").astype(np.int8)


def _split(block: Block, part_of_row: Array, shares: Mapping[str, float]) -> Iterator[tuple[str, Block]]:
    for number, name in enumerate(shares):
        yield name, block if len(shares) == 1 else block.take(part_of_row == number)


def row_hash(pixels: Array) -> Array:
    """A number in [0, 1) for each row (rows, features), a function of its pixels alone: (rows,) float64.

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
