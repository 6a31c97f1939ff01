"""An opened folder of shards: what users loop over."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable

from streamtrain.block import Array, Block
from streamtrain.memory import EvaluationSizes, Plan, Workload, plan
from streamtrain.schema import Schema
from streamtrain.settings import Integer, checked
from streamtrain.shards.manifest import Manifest
from streamtrain.shards.row_groups import RowGroups
from streamtrain.storage.objects import Location, ObjectPath, given_place
from streamtrain.stream.batches import Minibatches, Transform
from streamtrain.stream.order import Cursor, Order
from streamtrain.stream.windows import DecodedRows


def open_shards(path: str | os.PathLike[str] | ObjectPath, *, workers: int = os.cpu_count() or 1) -> Shards:
    """Open a folder of shards for reading.

    path:    the folder, or its address as s3://bucket/shards; a later change of the current folder does not matter
    workers: how many threads may decode
    Raises DataError if its manifest is missing or damaged, UsageError if `workers` is below 1.
    """
    return Shards(RowGroups.open(given_place(path, "path")), workers=checked("workers", workers, Integer(1)))


class Shards:
    """A data set on disk. Loop over `minibatches(epoch=…)`, or over `blocks()` to see every row in stored order.

    `len()` is its number of rows.
    """

    def __init__(self, row_groups: RowGroups, *, workers: int) -> None:
        self.row_groups, self.workers = row_groups, workers
        self.decoded = DecodedRows(row_groups)

    def __len__(self) -> int:
        return self.rows

    def __repr__(self) -> str:
        schema = self.schema
        shape = "×".join(map(str, schema.image_shape))
        classes = f"{len(schema.classes)} classes" if schema.classes else "no labels"
        return f"<Shards {self.folder}: {self.rows:,} rows of {shape} {schema.dtype}, {classes}>"

    @property
    def folder(self) -> Location:
        """Where the shards lie."""
        return self.row_groups.folder

    @property
    def manifest(self) -> Manifest:
        """What the folder holds."""
        return self.row_groups.manifest

    @property
    def schema(self) -> Schema:
        """The meaning of every row; that of another data set after `with_schema`."""
        return self.row_groups.schema

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.row_groups.rows

    @property
    def group_rows(self) -> Array:
        """(groups,) int64, the rows of each row group."""
        return self.row_groups.group_rows

    @property
    def density(self) -> float:
        """The share of pixels that are not zero, in a sample of the row groups."""
        return self.row_groups.density

    @property
    def resident_rows(self) -> int:
        """The largest number of decoded rows ever buffered."""
        return self.decoded.peak_rows

    def part(self, groups: Array, start: int = 0, stop: int | None = None) -> Shards:
        """Return some of its row groups as a data set of their own; groups: indices.

        start, stop: only these rows of them, counted over `groups` end to end, in the order that it has
        """
        return Shards(self.row_groups.select(groups, start, stop), workers=self.workers)

    def with_schema(self, schema: Schema) -> Shards:
        """Return the same rows with the class indices and the pixel range of `schema`, such as a model's.

        Raises DataError if they cannot be read so: another number of pixels, or a class that `schema` lacks.
        """
        if schema == self.schema:
            return self
        return Shards(self.row_groups.with_schema(schema), workers=self.workers)

    def blocks(self, groups: Iterable[int] | None = None, *, lines: bool = True) -> Generator[Block]:
        """Yield every row group, or those named, one by one.

        lines: whether to read line numbers; they are zeros otherwise, and if the set is resident in memory
        Raises CorruptShardError if a byte of what is read is damaged.
        """
        return self.decoded.blocks(range(len(self.row_groups)) if groups is None else groups, lines=lines)

    def minibatches(
        self,
        *,
        batch_size: int = 256,
        seed: int = 0,
        epoch: int = 1,
        memory_bytes: int = 256_000_000,
        transform: Transform | None = None,
    ) -> Minibatches:
        """Return the shuffled, normalised minibatches of one epoch.

        The order is a function of the arguments, so a loop over the result, or over the same call, repeats it.
        Name the epoch to reshuffle, as `DistributedSampler.set_epoch` does in PyTorch:

            for epoch in range(1, 21):
                for x, y in shards.minibatches(epoch=epoch):
                    ...

        x is (rows, features) float32, y (rows,) int64; both are independent copies.
        transform: a function of raw rows (rows, features) and a `Cursor`, the place of the first in the epoch. It
        returns rows of the same shape and dtype, which are normalised then. If what it draws at random follows
        from the place, a loop over the result can be repeated.
        Raises UsageError for sizes out of range, or too little memory for a row group and a batch.
        """
        batch_size = checked("batch_size", batch_size, Integer(1))
        start = Cursor(checked("epoch", epoch, Integer(1)), 0)
        plan = self.plan(checked("memory_bytes", memory_bytes, Integer(1)), batch_size=batch_size)
        order = Order(checked("seed", seed, Integer(0)), plan.window_rows)
        transforms = (transform,) if transform else ()
        return Minibatches(self.decoded, order, start, batch_size, plan.prefetch_threads, transforms)

    def plan(
        self,
        memory_bytes: int,
        *,
        batch_size: int,
        parameters: int = 0,
        units: int = 0,
        evaluation: EvaluationSizes | None = None,
        augmented: bool = False,
    ) -> Plan:
        """Return the sizes that keep a loop over batches within a budget.

        parameters, units, evaluation, augmented: of the model that is trained, if any; see `Workload`
        Raises UsageError, with the smallest budget that works, if `memory_bytes` is too small.
        """
        group_rows = self.row_groups.stored_group_rows
        compressed = max(shard.bytes / shard.rows for shard in self.manifest.shards)
        work = Workload(
            schema=self.schema,
            rows=self.rows,
            group_rows=group_rows,
            group_file_bytes=int(group_rows * compressed),
            batch_size=batch_size,
            parameters=parameters,
            units=units,
            evaluation=evaluation,
            augmented=augmented,
        )
        return plan(memory_bytes, work, workers=self.workers)
