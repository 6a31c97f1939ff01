"""The row groups of a folder of shards, read one by one with the meaning that their rows are given."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Generator, Iterable
from dataclasses import dataclass, replace

import numpy as np

from streamtrain.block import Array, Block
from streamtrain.schema import Schema
from streamtrain.shards.manifest import Manifest
from streamtrain.shards.reader import ShardFile, row_group_table
from streamtrain.storage.objects import Location, absolute

_DENSITY_SAMPLES = 8  # row groups, evenly spaced: the first alone may hold one class


@dataclass(frozen=True, eq=False)
class RowGroups:
    """Row groups of a data set on disk, in order: all of them, or those that `select` picked.

    folder:    where the shards lie, as it was named
    absolute:  the same from the root, for the current folder may change
    manifest:  what they hold
    schema:    the meaning that rows are given
    table:     (groups,) structured int64: `shard`, `group` (its number within the shard) and `rows`
    label_map: (stored classes,) the class index in `schema` of each stored one; None if they are the same
    first:     (groups,) int64, the first row of each that is read, of `rows` rows; None if all are read whole
    """

    folder: Location
    absolute: Location
    manifest: Manifest
    schema: Schema
    table: Array
    label_map: Array | None = None
    first: Array | None = None

    @classmethod
    def open(cls, folder: Location) -> RowGroups:
        """Return those of a folder of shards. Raises DataError if its manifest is missing or damaged."""
        manifest = Manifest.load(folder)
        return cls(folder, absolute(folder), manifest, manifest.schema, row_group_table(manifest, folder))

    def __len__(self) -> int:
        return len(self.table)

    @functools.cached_property
    def group_rows(self) -> Array:
        """(groups,) int64, the rows of each."""
        return np.ascontiguousarray(self.table["rows"])

    @property
    def rows(self) -> int:
        """Rows in all of them."""
        return int(self.group_rows.sum())

    @functools.cached_property
    def density(self) -> float:
        """The share of pixels that are not zero, in up to eight row groups spread over the set."""
        count = min(len(self), _DENSITY_SAMPLES)
        groups = np.linspace(0, len(self) - 1, count).astype(np.int64)
        nonzero = pixels = 0
        for block in self.read(groups.tolist(), lines=False):
            nonzero += int(np.count_nonzero(block.pixels))
            pixels += block.pixels.size
            del block  # before the next is decoded
        return nonzero / pixels

    @property
    def stored_group_rows(self) -> int:
        """Rows of the largest row group as it is stored, and so as it is decoded."""
        return min(self.manifest.rows_per_group, max(shard.rows for shard in self.manifest.shards))

    def select(self, groups: Array, start: int = 0, stop: int | None = None) -> RowGroups:
        """Return some of the row groups, in stored order; groups: their indices.

        start, stop: only these rows of them, counted over `groups` end to end, in the order that it has
        """
        ends = self.group_rows[groups].cumsum()
        before = np.maximum(start - ends + self.group_rows[groups], 0)
        after = np.zeros_like(ends) if stop is None else np.maximum(ends - stop, 0)
        rows = self.group_rows[groups] - before - after
        kept = np.flatnonzero(rows > 0)
        kept = kept[groups[kept].argsort()]
        table, first = self.table[groups[kept]], before[kept]
        table["rows"] = rows[kept]
        return replace(self, table=table, first=first if self.first is None else self.first[groups[kept]] + first)

    def with_schema(self, schema: Schema) -> RowGroups:
        """Return the same rows with the class indices and the pixel range of `schema`.

        Raises DataError if they cannot be read so: another number of pixels, or a class that `schema` lacks.
        """
        label_map = schema.label_map(self.manifest.schema, where=str(self.folder))
        return replace(
            self, schema=schema.stored_as(self.schema.dtype, self.schema.denominator), label_map=label_map
        )

    def read(self, groups: Iterable[int], *, lines: bool = True) -> Generator[Block]:
        """Decode row groups one by one as they are asked for; each shard is opened once for a run of its groups.

        lines: whether to read line numbers too; zeros otherwise
        Raises CorruptShardError if a byte of what is read is damaged.
        """
        for shard, run in itertools.groupby(groups, key=self.shard_of):
            with self._open(shard) as file:
                for group in run:
                    # Not bound to a name, which would keep it in memory while the next is decoded.
                    yield self._relabel(file.read_group(int(self.table["group"][group]), lines=lines), group)

    def read_labels(self, groups: Array) -> Array:
        """Return the labels (rows,) of row groups end to end, reading no pixels; groups: ascending indices."""
        found = []
        for shard, run in itertools.groupby(groups.tolist(), key=self.shard_of):
            with self._open(shard) as file:
                found += [file.read_labels(int(self.table["group"][group]))[self._read_of(group)] for group in run]
        labels = np.concatenate(found) if found else np.empty(0, np.int64)
        return labels if self.label_map is None else self.label_map[labels]

    def shard_of(self, group: int) -> int:
        """Return the index of the shard that a row group lies in."""
        return int(self.table["shard"][group])

    def _open(self, shard: int) -> ShardFile:
        entry, size = self.manifest.shards[shard], self.manifest.rows_per_group
        return ShardFile(self.absolute, entry, self.manifest.schema, rows_per_group=size)

    def _read_of(self, group: int) -> slice:
        """Return which rows of a row group are read."""
        first = 0 if self.first is None else int(self.first[group])
        return slice(first, first + int(self.table["rows"][group]))

    def _relabel(self, block: Block, group: int) -> Block:
        """Return the rows of a stored row group that are read, with the class indices of `schema`."""
        block = block.take(self._read_of(group))
        return block if self.label_map is None else replace(block, labels=self.label_map[block.labels])
