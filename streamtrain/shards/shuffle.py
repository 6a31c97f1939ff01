"""Shards → shards in an exact uniform permutation of all their rows, in two passes and bounded memory.

Every row draws a 64-bit key, and the rows sorted by key are the permutation: a function of the seed and the
order of the source alone. The first pass scatters rows to spill files by ranges of the key; the second sorts
each file in RAM. (Rows with equal keys, of n rows a pair with a chance of n²/2^65, keep their order.)
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from streamtrain.block import Array, Block, joined
from streamtrain.errors import RunError, UsageError, argument
from streamtrain.metrics.label_disorder import LabelDisorder
from streamtrain.schema import Schema
from streamtrain.shards.manifest import REJECTED, Manifest, Shard, split_folders
from streamtrain.shards.reader import ShardFile
from streamtrain.shards.writer import GROUP_BYTES, rows_per_group, write_shard
from streamtrain.storage.files import published, refuse_existing

METHOD = "sorted by the outputs of PCG64(seed), one a row"
GROUPS_PER_SHARD = 4
_COPIED_ROWS = 1024
_FIXED = 60 << 20  # a shard to be written, its columns and compressed bytes; a row group while it is decoded


@dataclass(frozen=True)
class ShuffleProgress:
    """How far a shuffle is, in rows read and rows written, of twice `rows`; and the manifests at the end."""

    done: int
    rows: int
    manifests: dict[str, Manifest]


def shuffle(data: str | Path, dest: str | Path, **options: object) -> dict[str, Manifest]:
    """Shuffle a folder of shards; the arguments are those of `iter_shuffle`. One manifest a part, "" where one."""
    *_, last = iter_shuffle(data, dest, **options)  # type: ignore[arg-type]  # named by shuffling
    return last.manifests


def iter_shuffle(
    data: str | Path, dest: str | Path, *, seed: int = 0, memory_bytes: int = 256_000_000, overwrite: bool = False
) -> Iterator[ShuffleProgress]:
    """Yield how far it is while DATA, or each part of it, is written to DEST in a random order.

    The order depends on the seed and the rows of DATA, not on the memory. DEST appears whole or not at all.
    Raises UsageError for too little memory or a DEST that exists, RunError where the disk is too full,
    DataError where DATA is damaged.
    """
    source, dest = Path(data), Path(dest)
    if seed < 0:
        raise UsageError(f"`seed` must be 0 or more, not {seed}", option="seed")
    refuse_existing(dest, overwrite=overwrite)
    for part in split_folders(source):
        max_rows_in_memory(Manifest.load(part).schema, memory_bytes)

    def run() -> Iterator[ShuffleProgress]:
        with published(dest, overwrite=overwrite) as staging:
            yield from shuffle_into(source, staging, seed=seed, memory_bytes=memory_bytes)

    return run()


def shuffle_into(source: Path, folder: Path, *, seed: int, memory_bytes: int) -> Iterator[ShuffleProgress]:
    """Shuffle into a folder that exists and is not published yet; the arguments are those of `iter_shuffle`."""
    manifests = {part: Manifest.load(part) for part in split_folders(source)}
    rows, done = sum(manifest.rows for manifest in manifests.values()), 0
    shuffled = {}
    for part, manifest in manifests.items():
        name = "" if part == source else part.name
        (folder / name).mkdir(exist_ok=True)
        work = _Shuffle(part, manifest, folder / name, seed=seed, memory_bytes=memory_bytes)
        for step in work.run():
            done += step
            yield ShuffleProgress(done, rows, {})
        shuffled[name] = work.finish()
    if (source / REJECTED).exists():
        shutil.copyfile(source / REJECTED, folder / REJECTED)
    yield ShuffleProgress(done, rows, shuffled)


def _record(schema: Schema) -> np.dtype[np.void]:
    """A row in a spill file."""
    pixels = ("pixels", np.uint8, (schema.row_bytes,))
    return np.dtype([("key", np.uint64), ("line", np.int64), ("label", np.int32), pixels])


def max_rows_in_memory(schema: Schema, memory_bytes: int) -> int:
    """Rows that may be held at once, their sort keys and order included."""
    each = _record(schema).itemsize + 32
    least = _FIXED + 4 * max(GROUP_BYTES, each)
    if memory_bytes < least:
        raise UsageError(
            f"{argument('memory_bytes', memory_bytes)} is too small to shuffle. Pass "
            f"{argument('memory_bytes', -(-least // 10**6) * 10**6)} or more",
            option="memory_bytes",
        )
    return (memory_bytes - _FIXED) // each


class _Shuffle:
    """The two passes over one folder of shards."""

    def __init__(self, source: Path, manifest: Manifest, folder: Path, *, seed: int, memory_bytes: int) -> None:
        self.source, self.manifest, self.folder, self.seed = source, manifest, folder, seed
        self.spill = folder / "spill"
        room = max_rows_in_memory(manifest.schema, memory_bytes)
        # A range of the key has a binomial number of rows: six standard deviations of it are left free.
        self.buckets = -(-manifest.rows // max(1, int(room - 6 * room**0.5)))
        self.batch_rows = room
        self.shards: list[Shard] = []
        self.disorder = LabelDisorder()

    def run(self) -> Iterator[int]:
        """Write the shards; yield the number of rows of each step, read or written."""
        self._check_disk()
        self.spill.mkdir()
        for batch in self._batches():
            self._scatter(batch)
            yield len(batch)
        del batch  # it would keep its memory from the second pass
        for block in self._blocks():
            path = self.folder / f"shard-{len(self.shards):05d}.parquet"
            labelled = bool(self.manifest.schema.classes)
            self.shards.append(write_shard(path, block, self.manifest.schema, labelled=labelled))
            if labelled:
                self.disorder.update(block.labels)
            yield len(block)
            del block  # before the next is made
        self.spill.rmdir()

    def _blocks(self) -> Iterator[Block]:
        """The rows in the order of their keys, a shard's at a time."""
        size = GROUPS_PER_SHARD * rows_per_group(self.manifest.schema)
        pieces: list[Block] = []
        missing = size
        for bucket in range(self.buckets):
            path = self.spill / str(bucket)
            rows = np.fromfile(path, dtype=_record(self.manifest.schema))
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
        """Raise RunError where the spill files would not fit; each is gone before its rows are written again."""
        needed = self.manifest.rows * _record(self.manifest.schema).itemsize + (16 << 20)
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise RunError(
                f"{self.folder.parent}: shuffling needs {needed:,} bytes of disk, {free:,} are free. "
                "Free some, or name a DEST on another disk"
            )

    def _batches(self) -> Iterator[Array]:
        """The rows in their order, with their keys, as many at a time as there is room for."""
        manifest, filled = self.manifest, 0
        batch = np.empty(min(self.batch_rows, manifest.rows), dtype=_record(manifest.schema))
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
        """Append each row to the file of its key's range."""
        # The high 32 bits decide, so that the product does not overflow: ranges of equal width but for 2^-32.
        bucket = ((batch["key"] >> np.uint64(32)) * np.uint64(self.buckets)) >> np.uint64(32)
        order = np.argsort(bucket, kind="stable")
        stops = np.cumsum(np.bincount(bucket.astype(np.int64), minlength=self.buckets))
        for number, index in enumerate(np.split(order, stops[:-1])):
            with (self.spill / str(number)).open("ab") as file:
                for start in range(0, len(index), _COPIED_ROWS):
                    file.write(
                        batch[index[start : start + _COPIED_ROWS]].tobytes()
                    )  # tofile keeps a full disk to itself

    def finish(self) -> Manifest:
        """Write the manifest: the source's, with the new shards and how they came to their order."""
        manifest = replace(
            self.manifest,
            shards=tuple(self.shards),
            label_disorder=self.disorder.value(),
            shuffle={"method": METHOD, "seed": self.seed, "source": self.manifest.digest},
        )
        if manifest.rows != self.manifest.rows or manifest.label_counts != self.manifest.label_counts:
            raise RunError(f"{self.folder}: a spill file lost rows. Check the disk, then shuffle again")
        manifest.write(self.folder)
        return manifest
