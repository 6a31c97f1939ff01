"""The results of finished chunks on disk, so that an interrupted conversion resumes where it stopped.

The journal lies in the unfinished folder and is removed before that is published. A chunk's record is written
after its shards; it begins with the digest of the rest, so a record that a power cut tore is not read.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from streamtrain._version import __version__
from streamtrain.convert.parse.row_parser import BadRow
from streamtrain.convert.text.chunks import Chunk, ChunkBuffer
from streamtrain.convert.text.text_file import physical_path
from streamtrain.convert.write.chunk_writer import ChunkResult, ChunkWriter
from streamtrain.errors import DataError, UsageError
from streamtrain.metrics.pixel_statistics import ClassSums, PixelStatistics
from streamtrain.metrics.row_range import RowMaximum
from streamtrain.shards.manifest import LineCounts, Shard, digest_bytes, digest_of_file
from streamtrain.shards.parts import WrittenPart, WrittenRows
from streamtrain.storage.destination import Destination, refuse_foreign, staging_of
from streamtrain.storage.ownership import MARK
from streamtrain.storage.permissions import make_folder, opened
from streamtrain.storage.publish import write_file

_FOLDER, _FINGERPRINT = ".journal", "recipe.json"
_START_AGAIN = "Start again: the same conversion without `resume`"


def can_resume(dest: Path) -> bool:
    """Return whether a conversion to `dest` was interrupted and can be resumed."""
    return (staging_of(dest) / _FOLDER / _FINGERPRINT).exists()


def fingerprint(paths: Sequence[Path], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what decides the bytes of the shards, as JSON values: sources, options by flag, versions."""
    files = [physical_path(path) for path in paths]
    facts = [(file.stat().st_size, file.stat().st_mtime_ns) if file else None for file in files]
    names = [path.absolute() if file else path for path, file in zip(paths, files, strict=True)]
    values = {
        "sources": {str(name): fact for name, fact in zip(names, facts, strict=True)},
        "options": dict(options),
        "versions": {"streamtrain": __version__, "pyarrow": pa.__version__},
    }
    return dict(json.loads(json.dumps(values)))


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
        result = _read(path)
        if result and result.digest != digest_bytes(chunk.data[: chunk.size].data):
            raise DataError(
                f"{chunk.path} changed since its conversion was interrupted. {_START_AGAIN}", path=chunk.path
            )
        if result and all(self._is_there(name, part.shard) for name, part in result.rows.parts.items()):
            if self.writer.labels:
                self.writer.labels.take(number, result.totals.kept + result.totals.rejected)
            return result
        result = self.writer(chunk, number, buffer)
        if not (result.bad and self.writer.strict):
            body = _pack(result)
            with opened(path, "wb") as file:
                file.write(digest_bytes(body).encode() + body)
        return result

    def _is_there(self, part: str, shard: Shard) -> bool:
        path = self.writer.builder.parts[part].folder / shard.file
        return path.exists() and digest_of_file(path) == shard.digest


def open_journal(destination: Destination, now: dict[str, Any], *, resume: bool) -> Path:
    """Return the folder of the journal: that of an interrupted conversion if it is resumed, else a new one.

    now: the fingerprint of this conversion
    Raises UsageError or DataError for an option or a source that is not what it was, by its name.
    """
    staging = staging_of(destination.path)
    folder = staging / _FOLDER
    if resume and (folder / _FINGERPRINT).exists():
        refuse_foreign(staging)
        _refuse_changes(json.loads((folder / _FINGERPRINT).read_bytes()), now)
        for path in [*staging.glob("*"), *staging.glob("*/*")]:
            if path.is_file() and path.parent != folder and path.suffix != ".parquet" and path.name != MARK:
                path.unlink()  # written at the end of a pass
    else:
        destination.make(staging)
        make_folder(folder)
        write_file(folder / _FINGERPRINT, json.dumps(now).encode())
    return folder


def _refuse_changes(before: dict[str, Any], now: dict[str, Any]) -> None:
    for name in before["options"] | before["versions"]:
        one, other = ((each["options"] | each["versions"]).get(name) for each in (before, now))
        if one != other:
            option = name.removesuffix(" FILE").removeprefix("--").replace("-", "_") if name[0] == "-" else None
            raise UsageError(
                f"{f'`{option}`' if option else name} was {one} when the conversion was interrupted, now it is "
                f"{other}. {_START_AGAIN}",
                option=option,
            )
    if [*before["sources"]] != [*now["sources"]]:
        raise UsageError(f"the sources were {', '.join(before['sources'])[:150]}. Name the same. {_START_AGAIN}")
    for path, facts in before["sources"].items():
        if facts != now["sources"][path]:
            raise DataError(f"{path} changed since its conversion was interrupted. {_START_AGAIN}", path=path)


def _pack(result: ChunkResult) -> bytes:
    """Return a line of JSON, then the arrays in NumPy's own format, in the order in which `_read` takes them."""
    parts, arrays = {}, [result.rows.labels, result.rows.part_of_row]
    for name, part in result.rows.parts.items():
        sums = part.classes.sums
        parts[name] = {
            "shard": asdict(part.shard),
            "names": part.names,
            "classes": sums and [*sums],
            "extremes": [astuple(extreme) for extreme in part.extremes],
        }
        pixels = part.pixels
        arrays += [pixels.sum, pixels.sum_of_squares, pixels.min, pixels.max, np.array([*(sums or {}).values()])]
    values = {
        "digest": result.digest,
        "totals": asdict(result.totals),
        "bad": [asdict(row) for row in result.bad],
        "names": result.rows.names,
        "parts": parts,
    }
    file = io.BytesIO()
    file.write(json.dumps(values).encode() + b"\n")
    for array in arrays:
        np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _read(path: Path) -> ChunkResult | None:
    """Return a result, or None if there is none or only a torn one."""
    data = path.read_bytes() if path.exists() else b""
    start = len(digest_bytes(b""))
    if data[:start] != digest_bytes(data[start:]).encode():
        return None
    file = io.BytesIO(data[start:])
    values = json.loads(file.readline())
    labels, part_of_row = np.load(file), np.load(file)
    return ChunkResult(
        values["digest"],
        LineCounts(**values["totals"]),
        tuple(BadRow(**row) for row in values["bad"]),
        WrittenRows(
            tuple(values["names"]),
            labels,
            part_of_row,
            {name: _part(part, file) for name, part in values["parts"].items()},
        ),
    )


def _part(values: dict[str, Any], file: io.BytesIO) -> WrittenPart:
    shard = Shard(**values["shard"] | {"label_counts": tuple(values["shard"]["label_counts"])})
    pixels, sums, names = PixelStatistics(*(np.load(file) for _ in range(4))), np.load(file), values["classes"]
    classes = ClassSums(None if names is None else dict(zip(names, sums, strict=True)))
    highest, lowest = (RowMaximum(*numbers) for numbers in values["extremes"])
    return WrittenPart(shard, tuple(values["names"]), pixels, classes, (highest, lowest))
