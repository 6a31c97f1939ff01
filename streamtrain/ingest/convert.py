"""The pass over a whole source: text → shards and a manifest, in parallel, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from streamtrain.block import Array, Block
from streamtrain.errors import DataError, UsageError
from streamtrain.files import exclusive, publish_folder, refuse_existing
from streamtrain.ingest.dialect import Dialect
from streamtrain.ingest.opening import FileFacts, TextFile, size_on_disk
from streamtrain.ingest.parse import Parsed, parse_chunk
from streamtrain.ingest.sniff import SAMPLE_BYTES, Verdict, Wanted, sniff
from streamtrain.ingest.source import Chunk, chunks, find_sources
from streamtrain.schema import Schema
from streamtrain.shards.manifest import REJECTED, Manifest, Shard, Source, Totals
from streamtrain.shards.read import ShardFile
from streamtrain.shards.write import rows_per_group, write_shard
from streamtrain.tally import DisorderTally, PixelTally


@dataclass(frozen=True)
class Progress:
    """How far a conversion is: bytes read of the files on disk, of how many, and in which time."""

    bytes_read: int
    bytes_total: int
    rows: int
    seconds: float


@dataclass(frozen=True)
class Conversion:
    """What a finished conversion did. `manifests` has one entry, or one a part of a split."""

    verdict: Verdict
    manifests: Mapping[str, Manifest]
    folders: Mapping[str, Path]
    totals: Totals
    schema: Schema
    label_disorder: float | None
    bytes_in: int
    bytes_out: int
    seconds: float


@dataclass(frozen=True)
class _Written:
    """A shard on disk, its labels as they stand there: integers as written, or indices into `words`."""

    shard: Shard
    pixels: PixelTally
    labels: Array
    words: tuple[str, ...]


@dataclass
class _Part:
    """One part of the output while it is made."""

    folder: Path
    written: list[_Written]
    pixels: PixelTally | None
    disorder: DisorderTally


@dataclass(frozen=True)
class _Done:
    """A chunk's result: what was parsed, its rows left out, all labels, and each part's shard."""

    parsed: Parsed
    labels: Array
    parts: dict[str, _Written]


def convert(
    sources: Sequence[str | os.PathLike[str]] | str | Path, dest: str | Path, **options: Any
) -> Conversion:
    """Convert CSV files to a folder of shards; the arguments are those of `converting`."""
    *_, conversion = converting(sources, dest, **options)
    assert isinstance(conversion, Conversion)
    return conversion


def converting(
    sources: Sequence[str | os.PathLike[str]] | str | Path,
    dest: str | Path,
    *,
    label: str | None = None,
    header: bool | None = None,
    shape: tuple[int, ...] | None = None,
    pixel_range: tuple[float, float] | None = None,
    classes: tuple[str, ...] | None = None,
    split: Mapping[str, float] | None = None,
    on_bad_row: str = "error",
    overwrite: bool = False,
    workers: int = os.cpu_count() or 1,
) -> Iterator[Progress | Conversion]:
    """Yield Progress while CSV files become shards, and the Conversion at the end.

    label: "first", "last", "none", a name of the header or a column's number from 1
    split: the share of the rows for each part, summing to 1: DEST/train, DEST/val, … A row's part follows
        from its pixels alone, so it stays when data is appended.
    on_bad_row: "error" stops at the first bad row; "reject" keeps it in DEST/rejected.jsonl and goes on.
    Raises DataError with file, line and column for bad data, UsageError for a request that cannot be.
    """
    paths = find_sources([sources] if isinstance(sources, str | os.PathLike) else sources)
    if not paths:
        raise UsageError("convert needs a source. Name a CSV file")
    if on_bad_row not in ("error", "reject"):
        raise UsageError(f"--on-bad-row is error or reject, not {on_bad_row}")
    if workers < 1:
        raise UsageError(f"--workers is at least 1, not {workers}")
    shares = dict(split or {"": 1.0})
    if abs(sum(shares.values()) - 1) > 1e-9 or min(shares.values()) <= 0:
        raise UsageError("the shares of --split are positive and sum to 1, as in train=0.9,val=0.1")
    dest = Path(dest)
    refuse_existing(dest, overwrite=overwrite)
    wanted = Wanted(label, header, shape, pixel_range, classes)
    return _converting(paths, dest, wanted, shares, on_bad_row=on_bad_row, workers=workers)


def _converting(
    paths: list[Path], dest: Path, wanted: Wanted, shares: dict[str, float], *, on_bad_row: str, workers: int
) -> Iterator[Progress | Conversion]:
    started = time.monotonic()
    lock = dest.with_name(f".{dest.name}.lock")
    with exclusive(lock, busy=f"{dest} is being written by another convert. Wait for it, or choose another name"):
        staging = dest.with_name(f".{dest.name}.unfinished")
        shutil.rmtree(staging, ignore_errors=True)
        try:
            verdict = _sniff_all(paths, wanted)
            pass_ = _Pass(verdict.dialect, staging, shares, on_bad_row=on_bad_row)
            yield from pass_.run(paths, workers=workers)
            manifests = pass_.finish()
            publish_folder(staging, dest)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    yield Conversion(
        verdict=verdict,
        manifests=manifests,
        folders={name: dest / name for name in manifests},
        totals=pass_.totals,
        schema=pass_.schema,
        label_disorder=pass_.disorder.value(),
        bytes_in=sum(facts.size for facts in pass_.facts),
        bytes_out=sum(shard.bytes for manifest in manifests.values() for shard in manifest.shards),
        seconds=time.monotonic() - started,
    )


def _sniff_all(paths: list[Path], wanted: Wanted) -> Verdict:
    """The dialect of the first file, which the others have to share."""
    verdicts = []
    for path in paths:
        with TextFile(path) as file:
            sample = file.read(SAMPLE_BYTES)
            verdicts.append(sniff(sample, path=str(path), whole=not file.read(1), wanted=wanted))
    first = verdicts[0].dialect
    for path, verdict in zip(paths[1:], verdicts[1:], strict=True):
        other = verdict.dialect
        for what in ("delimiter", "header", "fields", "label", "image_shape", "dtype"):
            mine, theirs = getattr(first, what), getattr(other, what)
            if mine != theirs:
                raise DataError(
                    f"{path} differs from {paths[0]} in {what.replace('_', ' ')}: {theirs!r}, not {mine!r}. "
                    "Convert them apart, or say what both have (--label, --header, --shape, --range)"
                )
    decimal = any(verdict.dialect.decimal for verdict in verdicts)
    return replace(verdicts[0], dialect=replace(first, decimal=decimal))


class _Pass:
    """One pass over all files: chunks go to worker threads, their results are taken in order."""

    def __init__(self, dialect: Dialect, staging: Path, shares: dict[str, float], *, on_bad_row: str) -> None:
        self.dialect, self.staging, self.shares, self.on_bad_row = dialect, staging, shares, on_bad_row
        self.parts = {name: _Part(staging / name, [], None, DisorderTally()) for name in shares}
        for part in self.parts.values():
            part.folder.mkdir(parents=True)
        self.disorder = DisorderTally()
        self.facts: list[Source] = []
        self.words: dict[str, int] = {}
        self.labelled = dialect.label is not None
        self.schema = Schema(dialect.image_shape, dialect.dtype, (0, 1), dialect.classes)
        self._counts: Counter[str] = Counter()
        self._seen: set[int] = set()

    @property
    def totals(self) -> Totals:
        """Every line so far."""
        return Totals(**self._counts)

    def run(self, paths: list[Path], *, workers: int) -> Iterator[Progress]:
        """Parse every file and write the shards."""
        total = sum(map(size_on_disk, paths))
        read_before = number = 0
        started = time.monotonic()
        waiting: deque[Future[_Done]] = deque()
        with ThreadPoolExecutor(workers) as pool:
            try:
                for path in paths:
                    first_line = 1 + sum(facts.lines for facts in self.facts)
                    lines = 0
                    with TextFile(path) as file:
                        for chunk in chunks(file, first_line=first_line):
                            lines += chunk.lines
                            waiting.append(pool.submit(self._work, chunk, f"shard-{number:05d}.parquet"))
                            number += 1
                            while len(waiting) > workers:
                                self._take(waiting.popleft().result())
                            read, kept = read_before + file.raw_bytes, self._counts["kept"]
                            yield Progress(read, total, kept, time.monotonic() - started)
                        facts = file.facts()
                    read_before += facts.size
                    self.facts.append(_source(facts, lines, first_line))
                while waiting:
                    self._take(waiting.popleft().result())
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _work(self, chunk: Chunk, file: str) -> _Done:
        """In a worker thread: parse a chunk, write its rows as a shard of each part."""
        parsed = parse_chunk(chunk, self.dialect)
        done = {}
        if not (parsed.bad and self.on_bad_row == "error"):
            for name, rows in _split(parsed.block, self.shares):
                if len(rows):
                    path = self.parts[name].folder / file
                    shard = write_shard(path, rows, self.schema, labelled=self.labelled)
                    done[name] = _Written(shard, PixelTally.of(rows.pixels), rows.labels, parsed.words)
        return _Done(replace(parsed, block=parsed.block.take(np.arange(0))), parsed.block.labels, done)

    def _take(self, done: _Done) -> None:
        """In the main thread, in the order of the source: account for a chunk."""
        parsed = done.parsed
        if parsed.bad and self.on_bad_row == "error":
            raise DataError(str(parsed.bad[0]))
        if parsed.bad:
            with (self.staging / REJECTED).open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(asdict(row)) + "\n" for row in parsed.bad)
        for name in ("lines", "header", "blank", "comments", "repeated_headers"):
            self._counts[name] += getattr(parsed, name)
        self._counts["rejected"] += len(parsed.bad)
        self._counts["kept"] += len(done.labels)
        ids = np.array([self.words.setdefault(word, len(self.words)) for word in parsed.words], dtype=np.int64)
        for name, written in done.parts.items():
            part = self.parts[name]
            part.written.append(written)
            part.pixels = written.pixels if part.pixels is None else part.pixels + written.pixels
            if self.labelled:
                part.disorder.update(ids[written.labels] if len(ids) else written.labels)
        if self.labelled:
            self.disorder.update(ids[done.labels] if len(ids) else done.labels)
            self._seen |= set() if len(ids) else set(np.unique(done.labels).tolist())

    def finish(self) -> dict[str, Manifest]:
        """Fix what only the full pass knows, the classes and the pixel range, and write the manifests."""
        for name, part in self.parts.items():
            if part.pixels is None:
                said = f"part {name} of the split" if name else self.facts[0].path
                raise DataError(f"{said} has no rows. Check the source, or the shares of --split")
        classes = self._classes()
        self.schema = replace(self.schema, classes=classes, pixel_range=self._pixel_range())
        manifests = {}
        for name, part in self.parts.items():
            shards = tuple(self._final_shard(part.folder, written) for written in part.written)
            assert part.pixels is not None
            rows = sum(shard.rows for shard in shards)
            manifests[name] = Manifest(
                schema=self.schema,
                sources=tuple(self.facts),
                parse=self.dialect.to_json(),
                rows_per_group=rows_per_group(self.schema),
                shards=shards,
                totals=replace(self.totals, in_other_parts=self._counts["kept"] - rows),
                pixels=part.pixels.to_json(),
                label_disorder=part.disorder.value(),
                shuffle=None,
            )
            manifests[name].write(part.folder)
        return manifests

    def _classes(self) -> tuple[str, ...]:
        if self.dialect.classes or not self.labelled:
            return self.dialect.classes
        return tuple(sorted(self.words) if self.words else map(str, sorted(self._seen)))

    def _pixel_range(self) -> tuple[float, float]:
        if self.dialect.declared_range:
            return self.dialect.low, self.dialect.high
        tallies = [part.pixels for part in self.parts.values() if part.pixels is not None]
        low = min(tally.min.min().item() for tally in tallies)
        return min(low, 0), max(tally.max.max().item() for tally in tallies)

    def _final_shard(self, folder: Path, written: _Written) -> Shard:
        """A shard with class indices: as it is where its labels are those already, else written anew."""
        if not self.labelled:
            return written.shard
        labels, index = written.labels, {name: i for i, name in enumerate(self.schema.classes)}
        if not self.dialect.classes:
            names = written.words or tuple(map(str, range(int(labels.max()) + 1)))
            to_index = np.array([index.get(name, -1) for name in names], dtype=np.int64)
            labels = to_index[labels]
            if not np.array_equal(labels, written.labels):
                as_written = replace(self.schema, classes=names)
                size = rows_per_group(self.schema)
                with ShardFile(folder, written.shard, as_written, rows_per_group=size) as file:
                    blocks = [file.read_group(g) for g in range(-(-written.shard.rows // size))]
                block = Block(
                    np.concatenate([b.pixels for b in blocks]),
                    labels,
                    np.concatenate([b.lines for b in blocks]),
                )
                return write_shard(folder / written.shard.file, block, self.schema, labelled=True)
        counts = np.bincount(labels, minlength=len(self.schema.classes))
        return replace(written.shard, label_counts=tuple(counts.tolist()))


def _source(facts: FileFacts, lines: int, first_line: int) -> Source:
    return Source(facts.path, facts.size, facts.mtime_ns, facts.digest, lines, first_line)


def _split(block: Block, shares: Mapping[str, float]) -> Iterator[tuple[str, Block]]:
    """Each part's rows: a row goes where its hash, as a fraction of 1, falls among the shares."""
    if len(shares) == 1:
        yield next(iter(shares)), block
        return
    place = row_hash(block.pixels)
    stop = np.cumsum(list(shares.values()))
    stop[-1] = 1.0
    part = np.searchsorted(stop, place, side="right")
    for number, name in enumerate(shares):
        yield name, block.take(part == number)


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
