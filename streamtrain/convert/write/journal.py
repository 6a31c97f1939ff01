"""What a conversion has finished, chunk by chunk, so that an interrupted one goes on where it stopped.

The journal lies in the unfinished folder and goes before that is published. A record is written when its shards
are; it begins with the digest of the rest, so that one which a power cut tore is none.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from streamtrain._version import __version__
from streamtrain.convert.parse.row_parser import BadRow
from streamtrain.convert.text.chunks import Chunk, ChunkBuffer
from streamtrain.convert.text.text_file import physical_path
from streamtrain.convert.write.chunk_writer import ChunkResult, ChunkWriter, PartResult
from streamtrain.errors import DataError, UsageError
from streamtrain.metrics.metrics import ClassSums, PixelStatistics
from streamtrain.shards.manifest import LineCounts, Shard, digest_bytes, digest_of_file
from streamtrain.storage.files import staging_of, write_file

_FOLDER, _RECIPE = ".journal", "recipe.json"
_ANEW = "Start anew: the same convert without --resume"


def can_resume(dest: Path) -> bool:
    """Whether a conversion to `dest` was interrupted and can go on."""
    return (staging_of(dest) / _FOLDER / _RECIPE).exists()


def fingerprint(paths: Sequence[Path], options: Mapping[str, Any]) -> dict[str, Any]:
    """All that decides the bytes of the shards, as JSON values: sources, options by their flag, versions."""
    files = [physical_path(path) for path in paths]
    facts = [(file.stat().st_size, file.stat().st_mtime_ns) if file else None for file in files]
    names = [path.absolute() if file else path for path, file in zip(paths, files, strict=True)]
    said = {
        "sources": {str(name): fact for name, fact in zip(names, facts, strict=True)},
        "options": dict(options),
        "versions": {"streamtrain": __version__, "pyarrow": pa.__version__},
    }
    return dict(json.loads(json.dumps(said)))


@dataclass(frozen=True)
class Journal:
    """A recorder that keeps what it made, for when the same chunk comes again and its shards are still there."""

    folder: Path
    recorder: ChunkWriter

    def __call__(self, chunk: Chunk, number: int, room: ChunkBuffer) -> ChunkResult:
        """The record of a chunk, its shards on the disk. Raises DataError where the chunk's text is another."""
        path = self.folder / f"{number:05d}.record"
        record = _read(path)
        if record and record.digest != digest_bytes(chunk.data[: chunk.size].data):
            raise DataError(f"{chunk.path} changed since its conversion was interrupted. {_ANEW}")
        if record and all(self._is_there(name, part.shard) for name, part in record.parts.items()):
            if self.recorder.labels:
                self.recorder.labels.take(number, record.totals.kept + record.totals.rejected)
            return record
        record = self.recorder(chunk, number, room)
        if not (record.bad and self.recorder.strict):
            body = _packed(record)
            path.write_bytes(digest_bytes(body).encode() + body)
        return record

    def _is_there(self, part: str, shard: Shard) -> bool:
        path = self.recorder.folders[part] / shard.file
        return path.exists() and digest_of_file(path) == shard.digest


def open_journal(staging: Path, wanted: dict[str, Any], *, resume: bool) -> Path:
    """The folder of the journal: that of an interrupted conversion, where one goes on, else a new one.

    Raises UsageError or DataError, by name, for an option or a source that is not what it was.
    """
    folder = staging / _FOLDER
    if resume and (folder / _RECIPE).exists():
        _refuse_changes(json.loads((folder / _RECIPE).read_bytes()), wanted)
        for path in [*staging.glob("*"), *staging.glob("*/*")]:
            if path.is_file() and path.parent != folder and path.suffix != ".parquet":
                path.unlink()  # what is written at the end
    else:
        shutil.rmtree(staging, ignore_errors=True)
        folder.mkdir(parents=True)
        write_file(folder / _RECIPE, json.dumps(wanted).encode())
    return folder


def _refuse_changes(before: dict[str, Any], now: dict[str, Any]) -> None:
    for name in before["options"] | before["versions"]:
        one, other = ((said["options"] | said["versions"]).get(name) for said in (before, now))
        if one != other:
            raise UsageError(f"{name} was {one} when the conversion was interrupted, now it is {other}. {_ANEW}")
    if [*before["sources"]] != [*now["sources"]]:
        raise UsageError(f"the sources were {', '.join(before['sources'])[:150]}. Name the same. {_ANEW}")
    for path, facts in before["sources"].items():
        if facts != now["sources"][path]:
            raise DataError(f"{path} changed since its conversion was interrupted. {_ANEW}")


def _packed(record: ChunkResult) -> bytes:
    """A line of JSON, then the arrays in NumPy's own format, in the order that `_read` takes them."""
    parts, arrays = {}, [record.labels, record.part_of_row]
    for name, part in record.parts.items():
        sums = part.classes.sums
        parts[name] = {"shard": asdict(part.shard), "names": part.names, "classes": sums and [*sums]}
        pixels = part.pixels
        arrays += [pixels.sum, pixels.sum_of_squares, pixels.min, pixels.max, np.array([*(sums or {}).values()])]
    said = {
        "digest": record.digest,
        "totals": asdict(record.totals),
        "bad": [asdict(row) for row in record.bad],
        "names": record.names,
        "parts": parts,
    }
    file = io.BytesIO()
    file.write(json.dumps(said).encode() + b"\n")
    for array in arrays:
        np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _read(path: Path) -> ChunkResult | None:
    """A record, or None where there is none that is whole."""
    data = path.read_bytes() if path.exists() else b""
    start = len(digest_bytes(b""))
    if data[:start] != digest_bytes(data[start:]).encode():
        return None
    file = io.BytesIO(data[start:])
    said = json.loads(file.readline())
    labels, part_of_row = np.load(file), np.load(file)
    return ChunkResult(
        said["digest"],
        LineCounts(**said["totals"]),
        tuple(BadRow(**row) for row in said["bad"]),
        tuple(said["names"]),
        labels,
        part_of_row,
        {name: _part(part, file) for name, part in said["parts"].items()},
    )


def _part(said: dict[str, Any], file: io.BytesIO) -> PartResult:
    shard = Shard(**said["shard"] | {"label_counts": tuple(said["shard"]["label_counts"])})
    pixels, sums, names = PixelStatistics(*(np.load(file) for _ in range(4))), np.load(file), said["classes"]
    classes = ClassSums(None if names is None else dict(zip(names, sums, strict=True)))
    return PartResult(shard, tuple(said["names"]), pixels, classes)
