"""An opened folder of shards: its row groups, read in order or held a window at a time.

This is the only place that holds decoded rows for longer than a call.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from streamtrain.block import Array, Block
from streamtrain.budget import Plan, plan
from streamtrain.errors import UsageError
from streamtrain.schema import Schema
from streamtrain.shards.manifest import Manifest
from streamtrain.shards.read import ShardFile, group_rows
from streamtrain.stream.pipeline import Minibatch, minibatches


def open_shards(path: str | Path, *, workers: int = os.cpu_count() or 1) -> Shards:
    """Open a folder of shards for reading, decoded by `workers` threads.

    Raises DataError where its manifest is missing or damaged.
    """
    folder = Path(path)
    manifest = Manifest.load(folder)
    return Shards(folder, manifest, manifest.schema, None, workers)


class Shards:
    """A data set on disk; loop over `minibatches(…)`, or over `blocks()` to see every row in order.

    folder: where the shards lie; manifest: what they hold
    schema: the meaning that rows are given, another data set's where `label_map` translates the labels
    resident_rows: rows that the window buffer has room for, at most so far
    """

    def __init__(
        self, folder: Path, manifest: Manifest, schema: Schema, label_map: Array | None, workers: int
    ) -> None:
        self.folder, self.manifest, self.schema = folder, manifest, schema
        self.label_map, self.workers = label_map, workers
        self.groups = group_rows(manifest)  # (groups, 3)
        self.group_rows: Array = self.groups[:, 2]
        self.resident_rows = 0
        self._held: tuple[int, ...] = ()
        self._pixels = torch.empty((0, manifest.schema.row_bytes), dtype=torch.uint8)
        self._labels = torch.empty(0, dtype=torch.int64)

    @property
    def rows(self) -> int:
        """Rows in all shards."""
        return self.manifest.rows

    def like(self, schema: Schema) -> Shards:
        """The same rows with another data set's meaning: its class indices and its pixel range.

        Raises DataError where they cannot be read so: other pixels, or a class that `schema` lacks.
        """
        if schema == self.schema:
            return self
        label_map = schema.label_map(self.manifest.schema, where=str(self.folder))
        meant = replace(schema, dtype=self.schema.dtype)
        return Shards(self.folder, self.manifest, meant, label_map, self.workers)

    def plan(self, memory_bytes: int, *, batch_size: int, parameters: int = 0, units: int = 0) -> Plan:
        """The sizes that keep a pass within a budget; see `budget.plan`."""
        return plan(
            memory_bytes,
            self.schema,
            rows=self.rows,
            group_rows=int(self.group_rows.max()),
            batch_size=batch_size,
            parameters=parameters,
            units=units,
            workers=self.workers,
        )

    def minibatches(
        self, *, batch_size: int = 256, seed: int = 0, epoch: int = 1, memory_bytes: int = 256_000_000
    ) -> Minibatches:
        """The shuffled, normalised minibatches of an epoch; loop over them as often as you like."""
        if batch_size < 1:
            raise UsageError(f"a batch has at least 1 row, not {batch_size}")
        window_rows = self.plan(memory_bytes, batch_size=batch_size).window_rows
        return Minibatches(self, batch_size, seed, epoch, window_rows)

    def load(self, groups: Array) -> tuple[Tensor, Tensor]:
        """Decode row groups into the one window buffer: raw pixels (rows, row bytes) uint8, labels (rows,).

        groups: ascending indices. What was loaded before is overwritten; the same groups are not read again.
        """
        wanted = tuple(groups.tolist())
        stops = np.cumsum(self.group_rows[groups])
        rows = int(stops[-1])
        if wanted != self._held:
            self._held = ()
            if len(self._pixels) < rows:
                self._pixels = torch.empty(0)  # give the smaller buffer back before the larger is taken
                self._pixels = torch.empty((rows, self.manifest.schema.row_bytes), dtype=torch.uint8)
                self._labels = torch.empty(rows, dtype=torch.int64)
                self.resident_rows = rows
            pixels, labels = self._pixels.numpy(), self._labels.numpy()

            def decode(run: list[int]) -> None:
                for stop, block in zip(stops[np.searchsorted(groups, run)], self.read(run), strict=True):
                    pixels[stop - len(block) : stop] = block.pixels.view(np.uint8).reshape(len(block), -1)
                    labels[stop - len(block) : stop] = block.labels

            with ThreadPoolExecutor(self.workers) as pool:
                list(pool.map(decode, [run for _, run in self._by_shard(wanted)]))
            self._held = wanted
        return self._pixels[:rows], self._labels[:rows]

    def read(self, groups: Sequence[int]) -> Iterator[Block]:
        """Decode row groups one by one, each shard opened once for a run of its groups."""
        size = self.manifest.rows_per_group
        for shard, run in self._by_shard(groups):
            facts = self.manifest.shards[shard]
            with ShardFile(self.folder, facts, self.manifest.schema, rows_per_group=size) as file:
                for _, group, _ in self.groups[run].tolist():
                    block = file.read_group(group)
                    if self.label_map is not None:
                        block = Block(block.pixels, self.label_map[block.labels], block.lines)
                    yield block

    def _by_shard(self, groups: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
        """Consecutive groups of one shard together."""
        for shard, run in itertools.groupby(groups, key=lambda group: int(self.groups[group, 0])):
            yield shard, list(run)

    def blocks(self) -> Iterator[Block]:
        """Every row group in order, each once; out of the window buffer where that holds them all."""
        if len(self._held) == len(self.groups):
            kind = np.dtype(self.schema.dtype).newbyteorder("<")
            at = 0
            for rows in self.group_rows.tolist():
                pixels = self._pixels[at : at + rows].numpy().view(kind)
                labels = self._labels[at : at + rows].numpy()
                yield Block(pixels, labels, np.zeros(rows, dtype=np.int64))
                at += rows
        else:
            yield from self.read(range(len(self.groups)))


@dataclass(frozen=True)
class Minibatches:
    """The minibatches of one epoch, in an order that its fields alone decide; each loop yields them anew."""

    shards: Shards
    batch_size: int
    seed: int
    epoch: int
    window_rows: int

    def __iter__(self) -> Iterator[Minibatch]:
        return minibatches(
            self.shards,
            batch_size=self.batch_size,
            seed=self.seed,
            epoch=self.epoch,
            window_rows=self.window_rows,
        )
