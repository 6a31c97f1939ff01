"""An opened folder of shards: its row groups, read in order or decoded into slots, a window each.

This is the only place that holds decoded rows for longer than a call.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from streamtrain.block import Array, Block
from streamtrain.errors import UsageError
from streamtrain.memory import Plan, Workload, plan
from streamtrain.schema import Schema
from streamtrain.shards.manifest import Manifest
from streamtrain.shards.reader import ShardFile, group_rows
from streamtrain.stream.batches import Minibatch, epochs, tensors
from streamtrain.stream.order import Cursor

_GROUPS = 4  # of a shard that are one task: more, and a thread has nothing to do while another ends


def open_shards(path: str | Path, *, workers: int = os.cpu_count() or 1) -> Shards:
    """Open a folder of shards for reading, decoded by up to `workers` threads.

    Raises DataError where its manifest is missing or damaged.
    """
    folder = Path(path)
    manifest = Manifest.load(folder)
    return Shards(folder, manifest, manifest.schema, None, workers)


class WindowBuffer(NamedTuple):
    """Room for a window of decoded rows; whoever holds it may write to it, nobody else.

    pixels: (rows, row bytes) uint8, raw; labels: (rows,) int64; order: (rows,) int64, in which to visit them
    held: its pixels and labels are those of the whole set, shared and never written again
    """

    pixels: Array
    labels: Array
    order: Array
    resident: bool


class Shards:
    """A data set on disk; loop over `minibatches(…)`, or over `blocks()` to see every row in order.

    folder: where the shards lie; manifest: what they hold
    schema: the meaning that rows are given, another data set's where `label_map` translates the labels
    resident_rows: decoded rows that there was room for in memory, at most so far
    """

    def __init__(
        self, folder: Path, manifest: Manifest, schema: Schema, label_map: Array | None, workers: int
    ) -> None:
        self.folder, self.manifest, self.schema = folder, manifest, schema
        self.label_map, self.workers = label_map, workers
        self.groups = group_rows(manifest)  # (groups, 3)
        self.group_rows: Array = self.groups[:, 2]
        self.resident_rows = 0
        self._room_now = 0
        self._held: WindowBuffer | None = None

    @property
    def rows(self) -> int:
        """Rows in all its row groups."""
        return int(self.group_rows.sum())

    @functools.cached_property
    def density(self) -> float:
        """The share of pixels that are not zero, in the first row group."""
        block = next(self.blocks([0], lines=False))
        return np.count_nonzero(block.pixels) / block.pixels.size

    def part(self, groups: Array) -> Shards:
        """Some of its row groups, as a data set of their own; groups: indices."""
        part = Shards(self.folder, self.manifest, self.schema, self.label_map, self.workers)
        part.groups = self.groups[np.sort(groups)]
        part.group_rows = part.groups[:, 2]
        return part

    def with_schema(self, schema: Schema) -> Shards:
        """The same rows with another data set's meaning: its class indices and its pixel range.

        Raises DataError where they cannot be read so: other pixels, or a class that `schema` lacks.
        """
        if schema == self.schema:
            return self
        label_map = schema.label_map(self.manifest.schema, where=str(self.folder))
        meant = replace(schema, dtype=self.schema.dtype)
        return Shards(self.folder, self.manifest, meant, label_map, self.workers)

    def plan(self, memory_bytes: int, *, batch_size: int, parameters: int = 0, units: int = 0) -> Plan:
        """The sizes that keep training within a budget; see `budget.plan`."""
        compressed = max(shard.bytes / shard.rows for shard in self.manifest.shards)
        group_rows = int(self.group_rows.max())
        need = Workload(
            schema=self.schema,
            rows=self.rows,
            group_rows=group_rows,
            group_bytes=int(group_rows * compressed),
            batch_size=batch_size,
            parameters=parameters,
            units=units,
        )
        return plan(memory_bytes, need, workers=self.workers)

    def minibatches(
        self, *, batch_size: int = 256, seed: int = 0, epoch: int = 1, memory_bytes: int = 256_000_000
    ) -> Minibatches:
        """The shuffled, normalised minibatches of an epoch; loop over them as often as you like.

        Each is yours: it stays as it is. The first ever of uint8 pixels waits two seconds for a compiler.
        Raises UsageError for sizes out of range.
        """
        if batch_size < 1:
            raise UsageError(f"a batch has at least 1 row, not {batch_size}")
        if epoch < 1 or seed < 0:
            raise UsageError(f"epochs count from 1 and a seed is not below 0: {epoch}, {seed}")
        plan = self.plan(memory_bytes, batch_size=batch_size)
        return Minibatches(self, batch_size, seed, epoch, plan.window_rows, plan.prefetch_threads)

    @contextlib.contextmanager
    def slots(self, window_rows: int, *, count: int, workers: int) -> Iterator[list[WindowBuffer]]:
        """`count` slots for windows of so many rows inside a `with`; where one holds the whole set, that in each.

        workers: threads that decode the whole set
        """
        if window_rows >= self.rows:
            resident = self._hold(workers)
            yield [resident._replace(order=np.empty(self.rows, np.int64)) for _ in range(count)]
            return
        self._count_room(count * window_rows)
        try:
            yield [self._empty_slot(window_rows) for _ in range(count)]
        finally:
            self._count_room(-count * window_rows)

    def _hold(self, workers: int) -> WindowBuffer:
        """The whole set, decoded at the first call and kept from then on, read-only."""
        if self._held is None:
            slot = self._empty_slot(self.rows)
            with ThreadPoolExecutor(workers) as pool:
                for task in [pool.submit(task) for task in self.decode_tasks(np.arange(len(self.groups)), slot)]:
                    task.result()
            slot.pixels.flags.writeable = slot.labels.flags.writeable = False
            self._held = slot._replace(resident=True)
            self._count_room(self.rows)
        return self._held

    def _empty_slot(self, rows: int) -> WindowBuffer:
        pixels = np.empty((rows, self.manifest.schema.row_bytes), np.uint8)
        return WindowBuffer(pixels, np.empty(rows, np.int64), np.empty(rows, np.int64), resident=False)

    def _count_room(self, rows: int) -> None:
        self._room_now += rows
        self.resident_rows = max(self.resident_rows, self._room_now)

    def decode_tasks(self, groups: Array, slot: WindowBuffer) -> Iterator[Callable[[], None]]:
        """Tasks that together decode row groups into a slot, end to end; they may run at the same time.

        groups: ascending indices
        """
        at = 0
        for _, of_shard in itertools.groupby(groups.tolist(), key=self._shard_of):
            left = list(of_shard)
            while left:
                run, left = left[:_GROUPS], left[_GROUPS:]
                yield functools.partial(self._decode, run, slot, at)
                at += int(self.group_rows[run].sum())

    def _decode(self, run: list[int], slot: WindowBuffer, at: int) -> None:
        """Decode row groups of one shard into a slot, from its row `at` on."""
        for block in self.read(run, lines=False):
            stop = at + len(block)
            slot.pixels[at:stop] = block.pixels.view(np.uint8).reshape(len(block), -1)
            slot.labels[at:stop] = block.labels
            at = stop
            del block  # or it would stay in memory while the next is decoded

    def labels(self, groups: Array) -> Array:
        """The labels (rows,) of row groups, end to end, read without their pixels; groups: ascending indices."""
        found = []
        for shard, run in itertools.groupby(groups.tolist(), key=self._shard_of):
            with self._opened(shard) as file:
                found += [file.read_labels(int(self.groups[group, 1])) for group in run]
        labels = np.concatenate(found) if found else np.empty(0, np.int64)
        return labels if self.label_map is None else self.label_map[labels]

    def read(self, groups: Iterable[int], *, lines: bool = True) -> Generator[Block]:
        """Decode row groups one by one as they are asked for, each shard opened once for a run of its groups."""
        for shard, run in itertools.groupby(groups, key=self._shard_of):
            with self._opened(shard) as file:
                for group in run:
                    yield self._relabel(file.read_group(int(self.groups[group, 1]), lines=lines))

    def _opened(self, shard: int) -> ShardFile:
        facts, size = self.manifest.shards[shard], self.manifest.rows_per_group
        return ShardFile(self.folder, facts, self.manifest.schema, rows_per_group=size)

    def _relabel(self, block: Block) -> Block:
        """A block as it was stored, with the class indices of `schema`."""
        return block if self.label_map is None else replace(block, labels=self.label_map[block.labels])

    def _shard_of(self, group: int) -> int:
        return int(self.groups[group, 0])

    def blocks(self, groups: Iterable[int] | None = None, *, lines: bool = True) -> Generator[Block]:
        """Every row group, or those named, as they are asked for; out of memory where the whole set is held there.

        lines: whether the numbers of their lines are wanted; else these are zeros, as they are out of memory
        """
        if groups is None:
            groups = range(len(self.groups))
        if self._held is None:
            yield from self.read(groups, lines=lines)
            return
        stops = self.group_rows.cumsum()
        for group in groups:
            rows = slice(int(stops[group] - self.group_rows[group]), int(stops[group]))
            pixels, labels = self._held.pixels[rows].view(self.schema.stored_dtype), self._held.labels[rows]
            yield Block(pixels, labels, np.zeros(len(labels), dtype=np.int64))


@dataclass(frozen=True)
class Minibatches:
    """The minibatches of one epoch, in an order that its fields alone decide; each loop yields them anew."""

    shards: Shards
    batch_size: int
    seed: int
    epoch: int
    window_rows: int
    prefetch_threads: int

    def __iter__(self) -> Iterator[Minibatch]:
        with contextlib.closing(
            epochs(
                self.shards,
                batch_size=self.batch_size,
                seed=self.seed,
                window_rows=self.window_rows,
                prefetch_threads=self.prefetch_threads,
                start=Cursor(self.epoch, 0),
                last=self.epoch,
            )
        ) as stream:
            for epoch in stream:
                yield from tensors(epoch)
