"""The pass over a whole source: text → shards and a manifest, in parallel, whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from streamtrain.convert.dialect.detect import SAMPLE_BYTES, Detection, detect
from streamtrain.convert.dialect.dialect import Dialect
from streamtrain.convert.dialect.label_file import detect_labels
from streamtrain.convert.dialect.options import ReadOptions, declared
from streamtrain.convert.parse.label_file import LabelFile
from streamtrain.convert.text.sources import find_labels, find_sources
from streamtrain.convert.text.text_file import TextFile, size_on_disk
from streamtrain.convert.write.chunk_writer import ChunkWriter
from streamtrain.convert.write.journal import Journal, begin, recipe
from streamtrain.convert.write.manifest_builder import ManifestBuilder
from streamtrain.convert.write.parallel import map_chunks
from streamtrain.errors import DataError, UsageError
from streamtrain.schema import Schema
from streamtrain.shards.manifest import LineCounts, Manifest
from streamtrain.shards.shuffle import ShuffleProgress, max_rows_in_memory, shuffle_into
from streamtrain.storage.files import beside, filling, publish_folder, refuse_existing, staging_of


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

    verdict: Detection
    manifests: Mapping[str, Manifest]
    folders: Mapping[str, Path]
    totals: LineCounts
    schema: Schema
    label_disorder: float | None
    bytes_in: int
    bytes_out: int
    seconds: float


def convert(
    sources: Sequence[str | os.PathLike[str]] | str | Path, dest: str | Path, **options: Any
) -> Conversion:
    """Convert CSV files to a folder of shards; the arguments are those of `iter_convert`."""
    *_, conversion = iter_convert(sources, dest, **options)
    assert isinstance(conversion, Conversion)
    return conversion


def iter_convert(
    sources: Sequence[str | os.PathLike[str]] | str | Path,
    dest: str | Path,
    *,
    label: str | None = None,
    labels: str | os.PathLike[str] | None = None,
    header: bool | None = None,
    shape: tuple[int, ...] | None = None,
    pixel_range: tuple[float, float] | None = None,
    classes: tuple[str, ...] | None = None,
    delimiter: str | None = None,
    drop: tuple[str, ...] | None = None,
    preset: str | None = None,
    split: Mapping[str, float] | None = None,
    on_bad_row: str = "error",
    shuffle: bool = False,
    seed: int = 0,
    memory_bytes: int = 256_000_000,
    resume: bool = False,
    max_rejected: float | None = None,
    overwrite: bool = False,
    workers: int = os.cpu_count() or 1,
) -> Iterator[Progress | ShuffleProgress | Conversion]:
    """Yield Progress while CSV files become shards, and the Conversion at the end.

    label: "first", "last", "none", a name of the header, a column's number from 1, or a range of columns of a
        one-hot label, as "257-266"
    labels: a file of the labels, one a data row in order, where the rows have none: plain or compressed, with a
        header or without; of several sources one for all
    delimiter: "comma", "semicolon", "tab", "space", or the byte itself
    drop: names or numbers of columns that are neither label nor pixels
    preset: a known set's name or a .toml file, which the options above overrule
    split: the share of the rows for each part, summing to 1: DEST/train, DEST/val, … A row's part follows
        from its pixels alone, so it stays when data is appended.
    on_bad_row: "error" stops at the first bad row; "reject" keeps it in DEST/rejected.jsonl and goes on.
    shuffle: whether the rows come to lie in a random order, decided by `seed`, in `memory_bytes`
    resume: go on with a conversion to `dest` that was interrupted, where there is one
    max_rejected: the most rows that may be rejected: a number of them, or below 1 their share
    Raises DataError with file, line and column for bad data, UsageError for a request that cannot be.
    """
    paths = find_sources([sources] if isinstance(sources, str | os.PathLike) else sources)
    if not paths:
        raise UsageError("convert needs a source. Name a CSV file")
    if on_bad_row not in ("error", "reject"):
        raise UsageError(f"--on-bad-row is error or reject, not {on_bad_row}")
    if max_rejected is not None and (on_bad_row != "reject" or max_rejected < 0):
        raise UsageError("--max-rejected is a number or share of rows, as 100 or 0.01, with --on-bad-row reject")
    if workers < 1:
        raise UsageError(f"--workers is at least 1, not {workers}")
    shares = dict(split or {"": 1.0})
    if abs(sum(shares.values()) - 1) > 1e-9 or min(shares.values()) <= 0:
        raise UsageError("the shares of --split are positive and sum to 1, as in train=0.9,val=0.1")
    if split and not all(re.fullmatch(r"\w[\w.-]*", name) for name in split):
        raise UsageError("the parts of --split are names of folders, as in train=0.9,val=0.1")
    dest = Path(dest)
    refuse_existing(dest, overwrite=overwrite)
    labels_path = None if labels is None else find_labels(labels, label, paths)
    label = "none" if labels_path else label
    own = ReadOptions(label, header, shape, pixel_range, classes, delimiter=delimiter, drop=drop)
    wanted = declared(own, preset)
    most = 0 if on_bad_row == "error" else float("inf") if max_rejected is None else max_rejected
    options: dict[str, Any] = {"--labels FILE": labels_path and str(labels_path)}
    options |= wanted.options() | {"--split": shares, "--on-bad-row": on_bad_row}
    mix = ShuffleOptions(seed, memory_bytes) if shuffle else None
    return _converting(
        paths,
        labels_path,
        dest,
        wanted,
        shares,
        options,
        strict=on_bad_row == "error",
        most=most,
        mix=mix,
        resume=resume,
        workers=workers,
    )


class ShuffleOptions(NamedTuple):
    """How the rows are to be shuffled."""

    seed: int
    memory_bytes: int


def _converting(
    paths: list[Path],
    labels_path: Path | None,
    dest: Path,
    wanted: ReadOptions,
    shares: dict[str, float],
    options: dict[str, Any],
    *,
    strict: bool,
    most: float,
    mix: ShuffleOptions | None,
    resume: bool,
    workers: int,
) -> Iterator[Progress | ShuffleProgress | Conversion]:
    started = time.monotonic()
    with filling(dest):
        staging = finished = staging_of(dest)
        mixed = beside(dest, "shuffled")
        shutil.rmtree(mixed, ignore_errors=True)  # of a killed process
        journal = begin(staging, recipe([*paths, *([labels_path] if labels_path else [])], options), resume=resume)
        try:
            verdict = _sniff_all(paths, wanted)
            if labels_path:
                verdict = detect_labels(labels_path, verdict, wanted)
            if mix:
                dialect = verdict.dialect
                max_rows_in_memory(Schema(dialect.image_shape, dialect.dtype, (0, 1), ()), mix.memory_bytes)
            outcome = yield from _pass(
                paths, verdict.dialect, staging, shares, journal=journal, strict=strict, most=most, workers=workers
            )
            _refuse_too_many(outcome.totals, most, ended=True)
            manifests = outcome.finish()
            if mix:
                finished = mixed
                shuffled = yield from _mixed(staging, mixed, mix)
                manifests = {name: shuffled[name] for name in shares}
            shutil.rmtree(journal)
            publish_folder(finished, dest)
            shutil.rmtree(staging, ignore_errors=True)
        except (DataError, UsageError):
            shutil.rmtree(staging, ignore_errors=True)  # after anything else it stays, for --resume
            raise
    disorders = [manifest.label_disorder for manifest in manifests.values() if manifest.label_disorder is not None]
    yield Conversion(
        verdict=verdict,
        manifests=manifests,
        folders={name: dest / name for name in manifests},
        totals=outcome.totals,
        schema=outcome.schema,
        label_disorder=max(disorders, default=None) if mix else outcome.disorder.value(),
        bytes_in=sum(source.size for source in outcome.sources),
        bytes_out=sum(shard.bytes for manifest in manifests.values() for shard in manifest.shards),
        seconds=time.monotonic() - started,
    )


def _mixed(
    staging: Path, folder: Path, mix: ShuffleOptions
) -> Generator[ShuffleProgress, None, dict[str, Manifest]]:
    """Shuffle what was converted into another folder, yielding how far it is."""
    folder.mkdir()
    try:
        for step in shuffle_into(staging, folder, seed=mix.seed, memory_bytes=mix.memory_bytes):
            yield step
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return step.manifests


def _pass(
    paths: list[Path],
    dialect: Dialect,
    staging: Path,
    shares: dict[str, float],
    *,
    journal: Path,
    strict: bool,
    most: float,
    workers: int,
) -> Generator[Progress, None, ManifestBuilder]:
    """Parse every file and write the shards into `staging`, yielding Progress on the way."""
    started = time.monotonic()
    total = sum(map(size_on_disk, paths))
    folders = {name: staging / name for name in shares}
    for folder in folders.values():
        folder.mkdir(exist_ok=True)
    schema = Schema(dialect.image_shape, dialect.dtype, (0, 1), dialect.classes)
    outcome = ManifestBuilder(dialect, schema, staging, folders)
    with contextlib.ExitStack() as stack:
        labels = stack.enter_context(LabelFile(dialect)) if dialect.labels_file else None
        recorder = Journal(journal, ChunkWriter(dialect, schema, folders, shares, strict, labels))
        cancel = labels.cancel if labels else lambda: None
        steps = stack.enter_context(
            contextlib.closing(map_chunks(paths, recorder, workers=workers, cancel=cancel))
        )
        for step in steps:
            if strict and step.result.bad:
                raise DataError(str(step.result.bad[0]))
            outcome.add(step.result)
            _refuse_too_many(outcome.totals, most, ended=False)
            read = sum(source.size for source in outcome.sources) + step.bytes_read
            if step.facts:
                outcome.end_file(step.facts)
            yield Progress(read, total, outcome.totals.kept, time.monotonic() - started)
        if labels:
            outcome.end_file(labels.end())
    return outcome


def _refuse_too_many(totals: LineCounts, most: float, *, ended: bool) -> None:
    """Raise DataError where more rows are rejected than --max-rejected allows; a share is known at the end."""
    rows = totals.kept + totals.rejected
    if totals.rejected > (most if most >= 1 else most * rows) and (ended or most >= 1):
        raise DataError(
            f"{totals.rejected:,} of {rows:,} rows rejected, more than --max-rejected {most:g}. See what is wrong "
            "with them without that option, in rejected.jsonl"
        )


def _sniff_all(paths: list[Path], wanted: ReadOptions) -> Detection:
    """The dialect of the first file, which the others have to share; of a header, one file may have it for all."""
    first = _sniff(paths[0], wanted)
    dialect, ends = first.dialect, {0: "first", first.dialect.fields - 1: "last"}
    if dialect.label in ends and wanted.label is None and not dialect.dropped and dialect.label_width == 1:
        wanted = replace(wanted, label=ends[dialect.label])  # a short file alone may not tell
    for path in paths[1:]:
        other = _sniff(path, wanted).dialect
        for what in ("delimiter", "fields", "label", "label_kind", "image_shape", "dtype", "dropped", "names"):
            mine, theirs = getattr(dialect, what), getattr(other, what)
            if mine != theirs and (what != "names" or (mine and theirs)):
                raise DataError(
                    f"{path} differs from {paths[0]} in {what.replace('_', ' ')}: {str(theirs)[:40]!r}, not "
                    f"{str(mine)[:40]!r}. Convert them apart, or say what both have (--label, --shape, --range)"
                )
        dialect = replace(
            dialect,
            header=dialect.header or other.header,
            names=dialect.names or other.names,
            decimal=dialect.decimal or other.decimal,
        )
    named = (f"{len(paths)} files, {paths[0]} to {paths[-1]}",) if len(paths) > 1 else ()
    return Detection(dialect, (*named, *first.reasons))


def _sniff(path: Path, wanted: ReadOptions) -> Detection:
    with TextFile(path) as file:
        sample = file.read(SAMPLE_BYTES)
        return detect(sample, path=str(path), whole=not file.read(1), wanted=wanted)
