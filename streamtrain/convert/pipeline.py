"""The pass over a whole source: text → shards and a manifest, in parallel, whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from streamtrain.convert.dialect.detect import Detection
from streamtrain.convert.dialect.dialect import Dialect
from streamtrain.convert.dialect.files import detect_files
from streamtrain.convert.dialect.label_file import detect_labels
from streamtrain.convert.dialect.options import ReadOptions
from streamtrain.convert.options import ConvertOptions
from streamtrain.convert.parse.label_file import LabelFile
from streamtrain.convert.text.physical_file import physical_path, size_of
from streamtrain.convert.text.sources import find_labels_file, find_sources
from streamtrain.convert.write.chunk_writer import ChunkWriter
from streamtrain.convert.write.journal import Fingerprint, Journal, fingerprint, open_journal
from streamtrain.convert.write.ledger import Ledger
from streamtrain.convert.write.parallel import map_chunks
from streamtrain.errors import DataError, UsageError, argument
from streamtrain.schema import Schema
from streamtrain.shards.builder import ShardBuilder
from streamtrain.shards.manifest import LineCounts, Manifest
from streamtrain.shards.shuffle import ShuffleProgress, max_rows_in_memory, shuffle_into
from streamtrain.storage.destination import Destination, discard, remove_unfinished, staging_of
from streamtrain.storage.locks import lock_folder
from streamtrain.storage.names import given_path, hidden_sibling
from streamtrain.storage.objects import Location, local_paths, location
from streamtrain.storage.publish import check_space

_SHARE_TO_JUDGE_BY = 50  # a fiftieth of the source shows how large the shards will be


@dataclass(frozen=True)
class Progress:
    """How far a conversion is.

    bytes_read, bytes_total: of the files on disk; the total is 0 for standard input
    rows:                    kept so far
    """

    bytes_read: int
    bytes_total: int
    rows: int
    seconds: float


@dataclass(frozen=True, repr=False)
class Conversion:
    """The result of a finished conversion.

    detection:          how the source is written, and why
    manifests, folders: by part of a split; without a split one entry, named ""
    label_disorder:     of the rows in the order of the source or, if shuffled, of the worst part
    bytes_in:           of the files on disk; bytes_out: of the shards
    warnings:           what is odd about the rows, in sentences that name parameters as errors do
    """

    detection: Detection
    manifests: Mapping[str, Manifest]
    folders: Mapping[str, Path]
    totals: LineCounts
    schema: Schema
    label_disorder: float | None
    bytes_in: int
    bytes_out: int
    seconds: float
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        folders = ", ".join(str(folder) for folder in self.folders.values())
        return (
            f"<Conversion to {folders}: {self.totals.kept} rows kept, {self.totals.rejected} rejected, "
            f"{len(self.schema.classes)} classes>"
        )


def iter_convert(
    sources: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
    dest: str | os.PathLike[str],
    options: ConvertOptions | None = None,
) -> Iterator[Progress | ShuffleProgress | Conversion]:
    """Yield Progress while CSV files become shards, and the Conversion at the end; see `streamtrain.convert`.

    Raises UsageError at the call for a request that cannot be met, DataError with file, line and column for bad
    data.
    """
    options = options or ConvertOptions()
    paths = find_sources([sources] if isinstance(sources, str | os.PathLike) else sources)
    if not paths:
        raise UsageError("convert needs a source. Name a CSV file")
    labels_file = None if options.labels is None else find_labels_file(options.labels, options.label, paths)
    files = [physical_path(path) for path in [*paths, *([labels_file] if labels_file else [])]]
    destination = Destination(
        given_path(dest, "dest"), options.overwrite, [*_folders(sources), *(file for file in files if file)]
    )
    destination.check()
    return _Request(paths, labels_file, destination, options, options.read_options()).run()


def _folders(sources: Sequence[str | os.PathLike[str]] | str | os.PathLike[str]) -> list[Path]:
    """Return the folders among the sources, whose files are found by now."""
    named = [sources] if isinstance(sources, str | os.PathLike) else sources
    return [folder for folder in local_paths(map(location, named)) if folder.is_dir()]


@dataclass(frozen=True)
class _Request:
    """One conversion: its files found, its options checked."""

    paths: list[Location]
    labels_file: Location | None
    destination: Destination
    options: ConvertOptions
    read_options: ReadOptions

    def run(self) -> Iterator[Progress | ShuffleProgress | Conversion]:
        """Convert into a folder next to its destination, then move it there."""
        started, dest = time.monotonic(), self.destination.path
        with lock_folder(dest):
            staging = finished = staging_of(dest)
            shuffled = hidden_sibling(dest, "shuffled")
            remove_unfinished(shuffled)  # left by a killed process
            journal = open_journal(self.destination, self._fingerprint(), resume=self.options.resume)
            try:
                detection = self._detect()
                ledger = yield from self._pass(detection.dialect, staging, journal)
                manifests = ledger.finish()
                if self.options.shuffle:
                    finished = shuffled
                    manifests = yield from self._shuffle(staging, shuffled)
                shutil.rmtree(journal)
                self.destination.publish(finished)
                discard(staging)
            except (DataError, UsageError):
                discard(staging)  # after any other error it stays, to be resumed
                raise
        disorders = [m.label_disorder for m in manifests.values() if m.label_disorder is not None]
        in_source = ledger.builder.disorder.value()
        yield Conversion(
            detection=detection,
            manifests=manifests,
            folders={name: dest / name for name in manifests},
            totals=ledger.totals,
            schema=ledger.builder.schema,
            label_disorder=max(disorders, default=None) if self.options.shuffle else in_source,
            bytes_in=sum(source.size for source in ledger.sources),
            bytes_out=sum(shard.bytes for manifest in manifests.values() for shard in manifest.shards),
            seconds=time.monotonic() - started,
            warnings=tuple(ledger.builder.warnings()),
        )

    def _fingerprint(self) -> Fingerprint:
        """Return all that decides the bytes of the shards."""
        declared = self.read_options.options()
        options = {"--labels FILE": self.labels_file and str(self.labels_file)} | declared
        split = ",".join(f"{name}={share!r}" for name, share in self.options.shares.items())  # their order decides
        options |= {"--split": split, "--on-bad-row": self.options.on_bad_row}
        options |= {"--compression": self.options.compression}
        return fingerprint([*self.paths, *([self.labels_file] if self.labels_file else [])], options)

    def _detect(self) -> Detection:
        """Find how the sources are written. Raises UsageError early if shuffling needs more memory."""
        detection = detect_files(self.paths, self.read_options)
        if self.labels_file:
            detection = detect_labels(self.labels_file, detection, self.read_options)
        if self.options.shuffle:
            max_rows_in_memory(_schema(detection.dialect), self.options.memory_bytes)
        return detection

    def _pass(self, dialect: Dialect, staging: Path, journal: Path) -> Generator[Progress, None, Ledger]:
        """Parse every file and write the shards into `staging`, yielding Progress on the way."""
        started, options = time.monotonic(), self.options
        total = sum(map(size_of, self.paths))
        builder = ShardBuilder(
            staging,
            _schema(dialect),
            options.shares,
            declared_range=dialect.declared_range,
            compression=options.compression,
            denominator=dialect.denominator,
        )
        ledger = Ledger(dialect, staging, builder)
        with contextlib.ExitStack() as stack:
            labels = stack.enter_context(LabelFile(dialect)) if dialect.labels_file else None
            writer = ChunkWriter(dialect, builder, options.strict, labels)
            cancel = labels.cancel if labels else lambda: None
            steps = map_chunks(self.paths, Journal(journal, writer), workers=options.workers, cancel=cancel)
            for step in stack.enter_context(contextlib.closing(steps)):
                if options.strict and step.result.bad:
                    bad = step.result.bad[0]
                    raise DataError(str(bad), path=bad.path, line=bad.file_line, column=bad.column)
                ledger.add(step.result)
                self._check_rejected(ledger.totals, ended=False)
                read = sum(source.size for source in ledger.sources) + step.bytes_read
                if step.facts:
                    ledger.end_file(step.facts)
                if read * _SHARE_TO_JUDGE_BY > total > 0:
                    all_bytes = builder.bytes_written * total / read * (2 if options.shuffle else 1)
                    check_space(staging, all_bytes - builder.bytes_written)
                yield Progress(read, total, ledger.totals.kept, time.monotonic() - started)
            if labels:
                ledger.end_file(labels.end())
        self._check_rejected(ledger.totals, ended=True)
        return ledger

    def _check_rejected(self, totals: LineCounts, *, ended: bool) -> None:
        """Raise DataError if too many rows are rejected; their share is known at the end of the pass."""
        limit = self.options.max_rejected
        if limit is None or (limit < 1 and not ended):
            return
        rows = totals.kept + totals.rejected
        if totals.rejected > (limit if limit >= 1 else limit * rows):
            option = argument("max_rejected", int(limit) if limit.is_integer() else limit)
            raise DataError(
                f"{totals.rejected:,} of {rows:,} rows rejected, more than {option} allows. Convert without it, "
                "then see the reason for each in rejected.jsonl",
                option="max_rejected",
            )

    def _shuffle(self, staging: Path, folder: Path) -> Generator[ShuffleProgress, None, dict[str, Manifest]]:
        """Shuffle what was converted into another folder, yielding how far it is."""
        options = self.options
        self.destination.make(folder)
        try:
            for step in shuffle_into(staging, folder, seed=options.seed, memory_bytes=options.memory_bytes):
                yield step
        except BaseException:
            discard(folder)
            raise
        return {name: step.manifests[name] for name in options.shares}


def _schema(dialect: Dialect) -> Schema:
    """Return what is known of the rows before the pass."""
    limits = (dialect.low, dialect.high) if dialect.declared_range else (0, 1)
    return Schema(dialect.image_shape, dialect.dtype, limits, dialect.classes)
