"""Shards → shards in an exact uniform permutation of all their rows, in two passes and bounded memory.

Every row draws a 64-bit key, and the permutation is the rows sorted by key: a function of the seed and the order
of the source alone. The first pass scatters rows to spill files by ranges of the key; the second sorts each file
in RAM. (Rows with equal keys keep their order; among n rows there is such a pair with probability n²/2^65.)
"""

from __future__ import annotations

import os
import shutil
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from streamtrain.block import Array, Block, joined
from streamtrain.errors import RunError, UsageError, argument
from streamtrain.metrics.label_disorder import LabelDisorder
from streamtrain.process import machine_memory
from streamtrain.schema import Schema
from streamtrain.settings import Integer, checked
from streamtrain.shards.folders import split_folders
from streamtrain.shards.manifest import Manifest, Shard, Shuffled
from streamtrain.shards.reader import ShardFile
from streamtrain.shards.writer import GROUP_BYTES, GROUPS_PER_SHARD, rows_per_group, write_shard
from streamtrain.storage.destination import Destination
from streamtrain.storage.names import given_path
from streamtrain.storage.object_file import open_to_read
from streamtrain.storage.objects import Location, ObjectPath, given_place
from streamtrain.storage.ownership import REJECTED
from streamtrain.storage.permissions import make_folder, opened

METHOD = "sorted by the outputs of PCG64(seed), one a row"
_COPIED_ROWS = 1024  # of a batch at a time
_FIXED_BYTES = 60 << 20  # a shard that is written, its columns and compressed bytes; a row group that is decoded


@dataclass(frozen=True, eq=False)
class ShuffleProgress:
    """How far a shuffle is.

    done:      rows read plus rows written, at the end twice `rows`
    rows:      rows of the source
    manifests: at the end the manifest of each part, under "" if there are no parts; empty before
    """

    done: int
    rows: int
    manifests: dict[str, Manifest]


def shuffle(
    data: str | Path | ObjectPath,
    dest: str | Path,
    *,
    seed: int = 0,
    memory_bytes: int = 256_000_000,
    overwrite: bool = False,
) -> dict[str, Manifest]:
    """Shuffle a folder of shards, or each part of it; return the manifests by part, under "" without parts.

    data:         the folder of shards
    dest:         the folder to write, which appears whole or not at all
    seed:         decides the order, together with the rows of `data`
    memory_bytes: what the shuffle may hold; it does not change the order
    overwrite:    whether to replace shards that stand at `dest`
    Raises UsageError for too little memory or a `dest` that exists, RunError if the disk has too little space,
    DataError if `data` is damaged.
    """
    (last,) = deque(iter_shuffle(data, dest, seed=seed, memory_bytes=memory_bytes, overwrite=overwrite), maxlen=1)
    return last.manifests


def iter_shuffle(
    data: str | Path | ObjectPath,
    dest: str | Path,
    *,
    seed: int = 0,
    memory_bytes: int = 256_000_000,
    overwrite: bool = False,
) -> Iterator[ShuffleProgress]:
    """Shuffle as `shuffle` does; yield the progress, and with the last one the manifests."""
    source, dest = given_place(data, "data"), given_path(dest, "dest")
    seed = checked("seed", seed, Integer(0))
    memory_bytes = checked("memory_bytes", memory_bytes, Integer(1))
    destination = Destination(dest, overwrite, [source])
    destination.check()
    for part in split_folders(source):
        max_rows_in_memory(Manifest.load(part).schema, memory_bytes)

    def run() -> Iterator[ShuffleProgress]:
        with destination.published() as staging:
            yield from shuffle_into(source, staging, seed=seed, memory_bytes=memory_bytes)

    return run()


def shuffle_into(source: Location, folder: Path, *, seed: int, memory_bytes: int) -> Iterator[ShuffleProgress]:
    """Shuffle into a folder that exists and is not published yet; see `shuffle` for the arguments."""
    manifests = {part: Manifest.load(part) for part in split_folders(source)}
    rows, done = sum(manifest.rows for manifest in manifests.values()), 0
    shuffled = {}
    for part, manifest in manifests.items():
        name = "" if part == source else part.name
        if name:
            make_folder(folder / name)
        work = _Shuffle(part, manifest, folder / name, seed=seed, memory_bytes=memory_bytes)
        for step in work.run():
            done += step
            yield ShuffleProgress(done, rows, {})
        shuffled[name] = work.finish()
    if (source / REJECTED).exists():
        with open_to_read(source / REJECTED) as read, opened(folder / REJECTED, "xb") as written:
            shutil.copyfileobj(read, written)
            written.flush()
            os.fsync(written.fileno())
    yield ShuffleProgress(done, rows, shuffled)


def _spilled(schema: Schema) -> np.dtype[np.void]:
    """Return the dtype of a row in a spill file."""
    pixels = ("pixels", np.uint8, (schema.row_bytes,))
    return np.dtype([("key", np.uint64), ("line", np.int64), ("label", np.int32), pixels])


def max_rows_in_memory(schema: Schema, memory_bytes: int) -> int:
    """Return how many rows may be held at once, including their sort keys and order.

    Raises UsageError, with the smallest budget that works, if `memory_bytes` is too small.
    """
    each = _spilled(schema).itemsize + 32
    memory_bytes = min(memory_bytes, machine_memory() // 2)  # more would change nothing but the time
    least = _FIXED_BYTES + 4 * max(GROUP_BYTES, each)
    if memory_bytes < least:
        raise UsageError(
            f"{argument('memory_bytes', memory_bytes)} is too small to shuffle. Pass "
            f"{argument('memory_bytes', -(-least // 10**6) * 10**6)} or more",
            option="memory_bytes",
        )
    return (memory_bytes - _FIXED_BYTES) // each


class _Shuffle:
    """Make the two passes over one folder of shards."""

    def __init__(
        self, source: Location, manifest: Manifest, folder: Path, *, seed: int, memory_bytes: int
    ) -> None:
        self.source, self.manifest, self.folder, self.seed = source, manifest, folder, seed
        self.spill = folder / "spill"
        self.batch_rows = max_rows_in_memory(manifest.schema, memory_bytes)
        # The number of rows in a range of the key is binomial: leave six of its standard deviations free.
        self.buckets = -(-manifest.rows // max(1, int(self.batch_rows - 6 * self.batch_rows**0.5)))
        self.shards: list[Shard] = []
        self.disorder = LabelDisorder()

    def run(self) -> Iterator[int]:
        """Write the shards; yield the rows read or written by each step."""
        self._check_disk()
        make_folder(self.spill)
        for batch in self._batches():
            self._scatter(batch)
            yield len(batch)
        del batch  # the second pass needs its memory
        for block in self._blocks():
            path = self.folder / f"shard-{len(self.shards):05d}.parquet"
            schema, codec = self.manifest.schema, self.manifest.compression or "zstd"
            labelled = bool(schema.classes)
            self.shards.append(write_shard(path, block, schema, labelled=labelled, compression=codec))
            if labelled:
                self.disorder.update(block.labels)
            yield len(block)
            del block  # before the next is made
        self.spill.rmdir()

    def _blocks(self) -> Iterator[Block]:
        """Yield the rows in the order of their keys, as many as a shard holds at a time."""
        size = GROUPS_PER_SHARD * rows_per_group(self.manifest.schema)
        pieces: list[Block] = []
        missing = size
        for bucket in range(self.buckets):
            path = self.spill / str(bucket)
            rows = np.fromfile(path, dtype=_spilled(self.manifest.schema))
            path.unlink()
            order = np.argsort(rows["key"], kind="stable")
            start = 0
            while start < len(order):
                index = order[start : start + missing]
                pieces.append(self._block(rows, index))
                start, missing = start + len(index), missing - len(index)
                if not missing:
                    whole, pieces, missing = joined(pieces), [], size
                    yield whole
            del rows  # before the next are read
        if pieces:
            yield joined(pieces)

    def _block(self, rows: Array, index: Array) -> Block:
        kind = self.manifest.schema.stored_dtype
        return Block(rows["pixels"][index].view(kind), rows["label"][index], rows["line"][index])

    def _check_disk(self) -> None:
        """Raise RunError if the spill files do not fit; each is deleted before its rows are written again."""
        needed = self.manifest.rows * _spilled(self.manifest.schema).itemsize + (16 << 20)
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise RunError(
                f"{self.folder.parent}: shuffling needs {needed:,} bytes of disk, {free:,} are free. "
                "Free some, or write to another disk"
            )

    def _batches(self) -> Iterator[Array]:
        """Yield the rows in their stored order with their keys, `batch_rows` at most at a time."""
        manifest, filled = self.manifest, 0
        batch = np.empty(min(self.batch_rows, manifest.rows), dtype=_spilled(manifest.schema))
        keys = np.random.PCG64(self.seed)
        for shard in manifest.shards:
            with ShardFile(self.source, shard, manifest.schema, rows_per_group=manifest.rows_per_group) as file:
                for group in range(-(-shard.rows // manifest.rows_per_group)):
                    block = file.read_group(group)
                    if filled + len(block) > len(batch):
                        yield batch[:filled]
                        filled = 0
                    rows = batch[filled : filled + len(block)]
                    rows["key"], rows["line"], rows["label"] = (
                        keys.random_raw(len(block)),
                        block.lines,
                        block.labels,
                    )
                    rows["pixels"] = block.pixels.view(np.uint8).reshape(len(block), -1)
                    filled += len(block)
        yield batch[:filled]

    def _scatter(self, batch: Array) -> None:
        """Append each row to the file for its key's range."""
        # The high 32 bits decide, so that the product does not overflow; ranges differ in width by 2^-32 at most.
        bucket = ((batch["key"] >> np.uint64(32)) * np.uint64(self.buckets)) >> np.uint64(32)
        order = np.argsort(bucket, kind="stable")
        stops = np.cumsum(np.bincount(bucket.astype(np.int64), minlength=self.buckets))
        for number, index in enumerate(np.split(order, stops[:-1])):
            with opened(self.spill / str(number), "ab") as file:
                for start in range(0, len(index), _COPIED_ROWS):
                    # Not `tofile`, which does not report a full disk.
                    file.write(batch[index[start : start + _COPIED_ROWS]].tobytes())

    def finish(self) -> Manifest:
        """Write the manifest: the source's, with the new shards and how their order was made."""
        manifest = replace(
            self.manifest,
            shards=tuple(self.shards),
            label_disorder=self.disorder.value(),
            shuffle=Shuffled(method=METHOD, seed=self.seed, source=self.manifest.digest),
        )
        if manifest.rows != self.manifest.rows or manifest.label_counts != self.manifest.label_counts:
            raise RunError(f"{self.folder}: a spill file lost rows. Check the disk, then shuffle again")
        manifest.write(self.folder)
        return manifest
