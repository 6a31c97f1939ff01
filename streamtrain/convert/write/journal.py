"""The results of finished chunks on disk, so that an interrupted conversion resumes where it stopped.

The journal lies in the unfinished folder and is removed before that is published. A chunk's record is written
after its shards; it begins with the digest of the rest, so a record that a power cut tore is not read.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from msgspec import Meta, Struct, to_builtins
from msgspec.structs import asdict
from numpy.lib.format import read_array, write_array

from streamtrain._version import __version__
from streamtrain.convert.parse.row_parser import BadRow
from streamtrain.convert.text.chunks import Chunk, ChunkBuffer
from streamtrain.convert.text.physical_file import Version, physical_path
from streamtrain.convert.write.chunk_writer import ChunkResult, ChunkWriter
from streamtrain.decode import decode_json
from streamtrain.errors import DataError, UsageError
from streamtrain.metrics.pixel_statistics import ClassSums, PixelStatistics
from streamtrain.metrics.row_range import RowMaximum
from streamtrain.shards.digests import digest_bytes, digest_of_file
from streamtrain.shards.manifest import LineCounts, Shard
from streamtrain.shards.parts import WrittenPart, WrittenRows
from streamtrain.storage.destination import Destination, refuse_foreign, staging_of
from streamtrain.storage.objects import Location
from streamtrain.storage.ownership import MARK
from streamtrain.storage.permissions import make_folder, opened
from streamtrain.storage.publish import write_file

_FOLDER, _FINGERPRINT = ".journal", "recipe.json"
_START_AGAIN = "Start again: the same conversion without `resume`"


class Fingerprint(Struct):
    """The sources, options and versions that decide the bytes of the shards.

    sources: by name, the size and time of each, in their order; options: by flag; versions: of what writes them
    """

    sources: dict[str, tuple[int, int] | None]
    options: dict[str, Any]
    versions: dict[str, str]


def can_resume(dest: Path) -> bool:
    """Return whether a conversion to `dest` was interrupted and can be resumed."""
    return (staging_of(dest) / _FOLDER / _FINGERPRINT).exists()


def fingerprint(paths: Sequence[Location], options: Mapping[str, Any]) -> Fingerprint:
    """Return what decides the bytes of the shards made from some files."""
    files = [physical_path(path) for path in paths]
    versions = [Version.of(file) if file else None for file in files]
    facts = [(version.size, version.mtime_ns) if version else None for version in versions]
    names = [
        str(path.absolute() if file and isinstance(path, Path) else path)
        for path, file in zip(paths, files, strict=True)
    ]
    programs = {"streamtrain": __version__, "pyarrow": pa.__version__}
    now = Fingerprint(dict(zip(names, facts, strict=True)), dict(options), programs)
    return decode_json(json.dumps(asdict(now)), Fingerprint)  # options as JSON has them: tuples become lists


@dataclass(frozen=True)
class Journal:
    """A chunk writer that keeps its results, and returns them if the same chunk comes again.

    A result counts only if its shards are still there as they were written.
    """

    folder: Path
    writer: ChunkWriter

    def __call__(self, chunk: Chunk, number: int, buffer: ChunkBuffer) -> ChunkResult:
        """Return the result of a chunk, its shards on the disk. Raises DataError if the chunk's text changed."""
        path = self.folder / f"{number:05d}.record"
        result = self._earlier(path)
        if result and result.digest != digest_bytes(chunk.data[: chunk.size].data):
            raise DataError(
                f"{chunk.path} changed since its conversion was interrupted. {_START_AGAIN}", path=chunk.path
            )
        if result:
            if self.writer.labels:
                self.writer.labels.take(number, result.totals.kept + result.totals.rejected)
            return result
        result = self.writer(chunk, number, buffer)
        if result.bad and self.writer.strict:
            return replace(result, bad=(result.bad[0],))
        if result.bad:
            result = replace(result, bad=(), rejected=_write_rejected(path, result.bad))
        body = _pack(result)
        with opened(path, "wb") as file:
            file.write(digest_bytes(body).encode() + body)
        return result

    def _earlier(self, path: Path) -> ChunkResult | None:
        """Return the result that was recorded, or None if something of it is missing or torn."""
        found = _read(path)
        if not found:
            return None
        result, rejected_digest = found
        parts = result.rows.parts
        if not all(name in self.writer.builder.parts for name in parts):
            return None
        if not all(self._is_there(name, part.shard) for name, part in parts.items()):
            return None
        return result if not result.rejected or _is_file(result.rejected, rejected_digest) else None

    def _is_there(self, part: str, shard: Shard) -> bool:
        path = self.writer.builder.parts[part].folder / shard.file
        return _is_file(path, shard.digest)


def open_journal(destination: Destination, now: Fingerprint, *, resume: bool) -> Path:
    """Return the folder of the journal: that of an interrupted conversion if it is resumed, else a new one.

    now: the fingerprint of this conversion
    Raises UsageError or DataError for an option or a source that is not what it was, by its name, and for a
    conversion of another user.
    """
    staging = staging_of(destination.path)
    folder = staging / _FOLDER
    if resume and (folder / _FINGERPRINT).exists():
        refuse_foreign(staging)
        for path in (staging, folder, folder / _FINGERPRINT):
            if not _is_own(path):
                raise UsageError(
                    f"{path} belongs to another user (uid {path.stat().st_uid}), whose conversion is not "
                    "continued. Choose another destination, or have them remove it"
                )
        _refuse_changes(_read_fingerprint(folder / _FINGERPRINT), now)
        for path in [*staging.glob("*"), *staging.glob("*/*")]:
            if path.is_file() and path.parent != folder and path.suffix != ".parquet" and path.name != MARK:
                path.unlink()  # written at the end of a pass
    else:
        destination.make(staging)
        make_folder(folder)
        write_file(folder / _FINGERPRINT, json.dumps(asdict(now)).encode())
    return folder


def _is_own(path: Path) -> bool:
    """Return whether a file or folder belongs to this user, and so cannot have been forged by another."""
    return path.lstat().st_uid == os.geteuid()


def _read_fingerprint(path: Path) -> Fingerprint:
    try:
        return decode_json(path.read_bytes(), Fingerprint)
    except ValueError as error:
        raise DataError(f"{path} is damaged: {error}. {_START_AGAIN}", path=path) from error


def _refuse_changes(before: Fingerprint, now: Fingerprint) -> None:
    for name in before.options | now.options | before.versions:
        one, other = ((each.options | each.versions).get(name) for each in (before, now))
        if one != other:
            option = name.removesuffix(" FILE").removeprefix("--").replace("-", "_")
            what = f"`{option}`" if name in now.options else name[:40]
            raise UsageError(
                f"{what} was {str(one)[:60]} when the conversion was interrupted, now it is {str(other)[:60]}. "
                f"{_START_AGAIN}",
                option=option if name in now.options else None,
            )
    if [*before.sources] != [*now.sources]:
        raise UsageError(f"the sources were {', '.join(before.sources)[:150]}. Name the same. {_START_AGAIN}")
    for path, facts in before.sources.items():
        if facts != now.sources[path]:
            raise DataError(f"{path} changed since its conversion was interrupted. {_START_AGAIN}", path=path)


class _PartRecord(Struct):
    """The facts about a part in the first line of a record."""

    shard: Shard
    names: tuple[str, ...]
    classes: list[str] | None
    extremes: tuple[tuple[float, int, float], tuple[float, int, float]]
    denominator: Annotated[int, Meta(ge=1, le=255)]


class _Record(Struct):
    """The first line of a record; the arrays follow, in the order in which `_read` takes them."""

    digest: str
    totals: LineCounts
    rejected_digest: str
    names: tuple[str, ...]
    parts: dict[str, _PartRecord]


def _pack(result: ChunkResult) -> bytes:
    """Return a `_Record` as a line of JSON, then the arrays in NumPy's own format."""
    parts, arrays = {}, [result.rows.labels, result.rows.part_of_row]
    for name, part in result.rows.parts.items():
        sums, (highest, lowest) = part.classes.sums, part.extremes
        extremes = astuple(highest), astuple(lowest)
        parts[name] = _PartRecord(
            part.shard, part.names, None if sums is None else [*sums], extremes, part.denominator
        )
        pixels = part.pixels
        arrays += [pixels.sum, pixels.sum_of_squares, pixels.min, pixels.max, np.array([*(sums or {}).values()])]
    rejected_digest = digest_of_file(result.rejected) if result.rejected else ""
    record = _Record(result.digest, result.totals, rejected_digest, result.rows.names, parts)
    file = io.BytesIO()
    file.write(json.dumps(to_builtins(record)).encode() + b"\n")
    for array in arrays:
        write_array(file, array, allow_pickle=False)
    return file.getvalue()


def _read(path: Path) -> tuple[ChunkResult, str] | None:
    """Return a result and the digest of its rejected rows.

    Returns None for a record that is missing, torn, of another user, or not as `_pack` writes it.
    """
    data = path.read_bytes() if path.exists() and _is_own(path) else b""
    start = len(digest_bytes(b""))
    if data[:start] != digest_bytes(data[start:]).encode():
        return None
    file = io.BytesIO(data[start:])
    try:
        record = decode_json(file.readline(), _Record)
        labels, part_of_row = read_array(file), read_array(file)
        parts = {name: _part(part, file) for name, part in record.parts.items()}
    except (ValueError, MemoryError):
        return None
    rows = WrittenRows(record.names, labels, part_of_row, parts)
    rejected = _rejected(path) if record.rejected_digest else None
    result = ChunkResult(record.digest, record.totals, rows, rejected=rejected)
    return (result, record.rejected_digest) if _is_whole(result) else None


def _rejected(record: Path) -> Path:
    """Return the file for the rejected rows of a chunk, next to its record."""
    return record.with_suffix(".rejected")


def _write_rejected(record: Path, rows: Iterable[BadRow]) -> Path:
    with opened(_rejected(record), "wb") as file:
        file.writelines(json.dumps(to_builtins(row)).encode() + b"\n" for row in rows)
    return _rejected(record)


def _is_file(path: Path, digest: str) -> bool:
    return path.exists() and digest_of_file(path) == digest


def _part(record: _PartRecord, file: io.BytesIO) -> WrittenPart:
    pixels, sums = PixelStatistics(*(read_array(file) for _ in range(4))), read_array(file)
    classes = ClassSums(None if record.classes is None else dict(zip(record.classes, sums, strict=True)))
    highest, lowest = (RowMaximum(*numbers) for numbers in record.extremes)
    return WrittenPart(record.shard, record.names, record.denominator, pixels, classes, (highest, lowest))


def _is_whole(result: ChunkResult) -> bool:
    """Return whether the numbers of a record agree with each other."""
    rows, kept = result.rows, result.totals.kept
    parts = rows.parts.values()
    least, most = (0, len(rows.names) - 1) if rows.names else (-1, -1)
    arrays = [getattr(part.pixels, name) for part in parts for name in ("sum", "sum_of_squares", "min", "max")]
    arrays += [each for part in parts for each in (part.classes.sums or {}).values()]
    return (
        bool(result.rejected) == bool(result.totals.rejected)
        and kept == sum(part.shard.rows for part in parts)
        and len({*rows.names}) == len(rows.names)
        and all(part.names == rows.names for part in parts)
        and all(len(part.shard.label_counts) == len(rows.names) for part in parts)
        and all({*(part.classes.sums or ())} <= {*rows.names} for part in parts)
        and rows.labels.shape == rows.part_of_row.shape == (kept,)
        and all(array.dtype.kind in "iu" for array in (rows.labels, rows.part_of_row))
        and (not kept or bool(least <= rows.labels.min() and rows.labels.max() <= most))
        and all(each.dtype.kind in "iuf" and each.ndim == 1 and each.shape == arrays[0].shape for each in arrays)
    )
