"""Blocks → a folder of shards for each part of a split, and their manifests: for `write_shards` and for `convert`.

The class indices of a shard are fixed when it is written, but only the last row shows which classes there are, and
whether all pixels are fractions of one denominator. A shard that does not agree with what `finish` finds is read
and written again: a hidden second pass.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from streamtrain.block import Block, joined
from streamtrain.errors import DataError, argument
from streamtrain.metrics.label_disorder import LabelDisorder
from streamtrain.metrics.pixel_statistics import ClassSums, PixelStatistics
from streamtrain.metrics.row_range import RowMaximum, lonely_row, row_extremes
from streamtrain.schema import Schema
from streamtrain.shards.declare import MOST_CLASSES
from streamtrain.shards.fractions import numerators, quotients
from streamtrain.shards.manifest import LineCounts, Manifest, Shard, Source
from streamtrain.shards.parts import WrittenPart, WrittenRows, part_of_row
from streamtrain.shards.reader import ShardFile
from streamtrain.shards.statistics import tallies
from streamtrain.shards.writer import rows_per_group, write_shard
from streamtrain.storage.permissions import make_folder


class _Stored(NamedTuple):
    """A shard as it is on disk: its entry, the names of its class indices, and the denominator of its pixels."""

    shard: Shard
    names: tuple[str, ...]
    denominator: int


@dataclass
class _Sums:
    """The sums over the rows of shards of one denominator."""

    pixels: PixelStatistics | None = None
    classes: ClassSums = field(default_factory=lambda: ClassSums({}))
    extremes: tuple[RowMaximum, RowMaximum] | None = None

    def add(self, written: WrittenPart) -> None:
        """Take the next shard."""
        self.pixels = written.pixels if self.pixels is None else self.pixels + written.pixels
        self.classes = self.classes + written.classes
        self.extremes = _both(self.extremes, written.extremes)


@dataclass
class _Part:
    """One part of the output so far: its folder, its shards, and the sums over their rows by denominator."""

    folder: Path
    shards: list[_Stored] = field(default_factory=list)
    sums: dict[int, _Sums] = field(default_factory=dict)
    disorder: LabelDisorder = field(default_factory=LabelDisorder)

    def add(self, written: WrittenPart) -> None:
        """Take the next shard."""
        self.shards.append(_Stored(written.shard, written.names, written.denominator))
        self.sums.setdefault(written.denominator, _Sums()).add(written)


class ShardBuilder:
    """Data sets that are being written, one for each part of a split: `write` rows, `add` them up, `finish`.

    folder:   exists; a part lies in the folder of its name there, the part "" in `folder` itself
    schema:   of the manifests, once `finish` has found the classes and the range that are not declared
    shares:   the share of the rows for each part; one part takes all rows
    compression: of the shards, one of `declare.COMPRESSIONS`
    disorder: label disorder of all rows in their order
    bytes_written: of the shards that were added
    denominator: if above 1, float32 pixels that are all fractions of it are stored as their numerators
    """

    def __init__(
        self,
        folder: Path,
        schema: Schema,
        shares: Mapping[str, float],
        *,
        declared_range: bool,
        compression: str = "zstd",
        denominator: int = 1,
    ) -> None:
        self.schema, self.shares, self.declared_range = schema, shares, declared_range
        self.compression, self.denominator = compression, denominator
        self.parts = {name: _Part(folder / name) for name in shares}
        for part in self.parts.values():
            if not part.folder.exists():
                make_folder(part.folder)
        self.disorder, self.bytes_written = LabelDisorder(), 0
        self._classes: dict[str, int] = {}  # the names of the labels that occur → where `disorder` counts them

    def write(self, block: Block, number: int, names: tuple[str, ...]) -> WrittenRows:
        """Write rows, synced to disk, as shard `number` of each part that has some of them; in any thread.

        names: the class names that the labels are indices into; empty if there are no labels
        """
        part_numbers = part_of_row(block.pixels, self.shares)
        found = numerators(block.pixels, self.denominator) if self.denominator > 1 else None
        denominator = 1 if found is None else self.denominator
        block = block if found is None else Block(found, block.labels, block.lines)
        written = {}
        for i, (name, part) in enumerate(self.parts.items()):
            rows = block if len(self.parts) == 1 else block.take(part_numbers == i)
            if len(rows):
                path = part.folder / f"shard-{number:05d}.parquet"
                written[name] = self._write_part(path, rows, names, denominator)
        return WrittenRows(names, block.labels, part_numbers, written)

    def _write_part(self, path: Path, rows: Block, names: tuple[str, ...], denominator: int) -> WrittenPart:
        shard = self._write_shard(path, rows, self._as_written(names, denominator))
        return WrittenPart(shard, names, denominator, *tallies(rows, names), row_extremes(rows))

    def _as_written(self, names: tuple[str, ...], denominator: int) -> Schema:
        """Return the schema of a shard with these classes and this denominator."""
        schema = replace(self.schema, classes=names)
        return schema if denominator == schema.denominator else schema.stored_as("uint8", denominator)

    def add(self, rows: WrittenRows) -> None:
        """Account for rows that were written, in their order; none is kept."""
        for name, part in self.parts.items():
            if name in rows.parts:
                part.add(rows.parts[name])
                self.bytes_written += rows.parts[name].shard.bytes
        if rows.names:
            present = np.flatnonzero(np.bincount(rows.labels, minlength=len(rows.names)))
            place = np.full(len(rows.names), -1, dtype=np.int64)
            for label in present.tolist():
                place[label] = self._classes.setdefault(rows.names[label], len(self._classes))
            if len(self._classes) > MOST_CLASSES:
                raise DataError(
                    f"the labels have more than {MOST_CLASSES:,} different values. Is it the right column? Name "
                    "another with `label`",
                    option="label",
                )
            places = place[rows.labels]
            self.disorder.update(places)
            for number, part in enumerate(self.parts.values()):
                part.disorder.update(places[rows.part_of_row == number])

    def finish(
        self, *, sources: tuple[Source, ...], parse: dict[str, Any], totals: LineCounts
    ) -> dict[str, Manifest]:
        """Fix what only all rows show, the classes and the pixel range, and write the manifests by part.

        sources, parse, totals: as in `Manifest`
        Raises DataError if a part has no rows.
        """
        for name, part in self.parts.items():
            if not part.shards:
                what = f"part {name} of the split" if name else sources[0].path
                raise DataError(f"{what} has no rows. Check the source, or the shares of `split`")
        self._settle_denominator()
        try:
            self.schema = replace(self.schema, classes=self._class_names(), pixel_range=self._pixel_range())
        except ValueError as error:
            raise DataError(f"{sources[0].path}: {error}. Scale the pixels, as to 0..1") from error
        manifests = {}
        for name, part in self.parts.items():
            shards = tuple(self._final_shard(part.folder, stored) for stored in part.shards)
            sums = part.sums[self.schema.denominator]
            assert sums.pixels is not None
            manifests[name] = Manifest(
                schema=self.schema,
                sources=sources,
                parse=parse,
                rows_per_group=rows_per_group(self.schema),
                shards=shards,
                totals=replace(totals, in_other_parts=totals.kept - sum(s.rows for s in shards)),
                pixels=sums.pixels.to_json(),
                label_disorder=part.disorder.value(),
                shuffle=None,
                class_sums=sums.classes.to_json(self.schema.classes),
                compression=self.compression,
            )
            manifests[name].write(part.folder)
        return manifests

    def _settle_denominator(self) -> None:
        """Fix whether the pixels are stored as numerators, which they are if those of every shard are.

        Otherwise such shards are written again, as the float32 numbers that they stand for.
        """
        found = {stored.denominator for part in self.parts.values() for stored in part.shards}
        if found == {self.denominator}:
            self.schema = self._as_written(self.schema.classes, self.denominator)
            return
        for part in self.parts.values():
            for number, stored in enumerate(part.shards):
                if stored.denominator > 1:
                    block = self._read_shard(part.folder, stored)
                    block = Block(quotients(block.pixels, stored.denominator), block.labels, block.lines)
                    written = self._write_part(part.folder / stored.shard.file, block, stored.names, 1)
                    part.shards[number] = _Stored(written.shard, written.names, 1)
                    part.sums.setdefault(1, _Sums()).add(written)

    def _class_names(self) -> tuple[str, ...]:
        """Return the declared classes, or those found: numbers in their order, then words in the alphabet's."""
        if self.schema.classes:
            return self.schema.classes
        return tuple(sorted(self._classes, key=_class_order))

    def _pixel_range(self) -> tuple[float, float]:
        """Return the declared range, or that of all rows, which begins at 0 unless a pixel is below."""
        if self.declared_range:
            return self.schema.pixel_range
        sums = (part.sums[self.schema.denominator] for part in self.parts.values())
        pixels = [each.pixels for each in sums if each.pixels is not None]
        low = min(each.min.min().item() for each in pixels)
        return min(low, 0), max(each.max.max().item() for each in pixels)

    def warnings(self) -> list[str]:
        """Return what is odd about the rows that were added, in sentences."""
        by = self.schema.denominator
        extremes = functools.reduce(_both, (part.sums[by].extremes for part in self.parts.values()))
        lonely = None if self.declared_range or extremes is None else lonely_row(*extremes)
        if lonely is None:
            return []
        line, value, limits = lonely
        value, low, high = (number / by if by > 1 else number for number in (value, *limits))  # as in the source
        narrower = argument("pixel_range", (low, high))
        return [
            f"line {line:,} alone has a pixel of {value:g}, all other rows lie in {low:g}..{high:g}, and all are "
            f"scaled by it. If that row is damaged, pass {narrower}"
        ]

    def _write_shard(self, path: Path, block: Block, schema: Schema) -> Shard:
        return write_shard(path, block, schema, labelled=bool(schema.classes), compression=self.compression)

    def _read_shard(self, folder: Path, stored: _Stored) -> Block:
        schema = self._as_written(stored.names, stored.denominator)
        size, groups = rows_per_group(schema), range(-(-stored.shard.rows // rows_per_group(schema)))
        with ShardFile(folder, stored.shard, schema, rows_per_group=size) as file:
            return joined([file.read_group(group) for group in groups])

    def _final_shard(self, folder: Path, stored: _Stored) -> Shard:
        """Return a shard with the final class indices: as it is if its labels are those, else written again."""
        shard, names, _ = stored
        if not names:
            return shard
        index = {name: i for i, name in enumerate(self.schema.classes)}
        final = np.array([index.get(name, -1) for name in names], dtype=np.int32)
        present = np.flatnonzero(shard.label_counts)
        if np.array_equal(final[present], present):
            counts = np.zeros(len(index), dtype=np.int64)
            counts[present] = np.array(shard.label_counts)[present]
            return replace(shard, label_counts=tuple(counts.tolist()))
        block = self._read_shard(folder, stored)
        block = Block(block.pixels, final[block.labels], block.lines)
        return self._write_shard(folder / shard.file, block, self.schema)


def _class_order(name: str) -> tuple[bool, int, str]:
    """Return the sort key of a class name: whole numbers by their value, words after them by their letters."""
    number = name.removeprefix("-")
    whole = number.isascii() and number.isdecimal()
    return not whole, int(name) if whole else 0, name


def _both(
    one: tuple[RowMaximum, RowMaximum] | None, other: tuple[RowMaximum, RowMaximum] | None
) -> tuple[RowMaximum, RowMaximum] | None:
    """Return the extremes of two sets of rows, either of which may be empty."""
    if one is None or other is None:
        return one or other
    return one[0] + other[0], one[1] + other[1]
