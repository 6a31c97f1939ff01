"""The manifest: what a folder of shards holds, in what order, from which source, with which digests."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import xxhash

from streamtrain.errors import DataError
from streamtrain.schema import Schema
from streamtrain.storage.ownership import FORMAT, MANIFEST
from streamtrain.storage.publish import write_file

VERSION = 1


@dataclass(frozen=True)
class Shard:
    """One Parquet file: its name, rows, bytes, digest, and rows of each class index."""

    file: str
    rows: int
    bytes: int
    digest: str
    label_counts: tuple[int, ...]


@dataclass(frozen=True)
class Source:
    """A file that the rows came from; `first_line` is the number of its first line over all sources."""

    path: str
    size: int
    mtime_ns: int
    digest: str
    lines: int
    first_line: int


@dataclass(frozen=True)
class LineCounts:
    """The lines of the sources: lines = header + blank + repeated_headers + kept + rejected.

    comments:       how many of the blank lines hold a comment
    in_other_parts: how many of the kept rows a split put into other parts
    Raises ValueError if they do not add up.
    """

    lines: int = 0
    header: int = 0
    blank: int = 0
    repeated_headers: int = 0
    kept: int = 0
    rejected: int = 0
    comments: int = 0
    in_other_parts: int = 0

    def __post_init__(self) -> None:
        if self.lines != self.header + self.blank + self.repeated_headers + self.kept + self.rejected:
            raise ValueError(f"lines do not add up: {self}")


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` says; see the fields of `Schema`, `Source`, `Shard` and `LineCounts`.

    parse:          how the source was read, and the settings of the conversion
    rows_per_group: rows of every row group but a shard's last
    pixels:         sum, sum_of_squares, min and max of every pixel position
    label_disorder: D of the stored order; None if there is no whole batch or fewer than two classes
    shuffle:        how the order was made, if the shards were shuffled
    class_sums:     (classes, features) sums of the pixels of each class's rows, of which there are `label_counts`;
                    None without labels, and if there would be more than a million numbers
    """

    schema: Schema
    sources: tuple[Source, ...]
    parse: dict[str, Any]
    rows_per_group: int
    shards: tuple[Shard, ...]
    totals: LineCounts
    pixels: dict[str, Any]
    label_disorder: float | None
    shuffle: dict[str, Any] | None
    class_sums: list[list[int | float]] | None = None

    def __repr__(self) -> str:
        return f"<Manifest of {self.rows:,} rows in {len(self.shards)} shards>"

    def __hash__(self) -> int:
        return hash((self.schema, self.shards))

    @property
    def rows(self) -> int:
        """Rows in all shards together."""
        return sum(shard.rows for shard in self.shards)

    @property
    def label_counts(self) -> list[int]:
        """Rows of each class index."""
        return [sum(column) for column in zip(*(shard.label_counts for shard in self.shards), strict=True)]

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, including their digest."""
        body: dict[str, Any] = {"format": FORMAT, "version": VERSION, "rows": self.rows}
        body |= {each.name: getattr(self, each.name) for each in fields(self)}
        body |= {"schema": self.schema.to_json(), "totals": asdict(self.totals)}
        body |= {name: [asdict(each) for each in body[name]] for name in ("sources", "shards")}
        body = dict(json.loads(json.dumps(body)))
        return body | {"digest": digest_of_json(body)}

    @property
    def digest(self) -> str:
        """The digest at the end of the file, over all its other keys."""
        return str(self.to_json()["digest"])

    @property
    def content_digest(self) -> str:
        """The digest of what is streamed: the schema, and the shards' bytes and order.

        Paths and times are left out, so that data which moved, or was converted again from a copy, has the same.
        """
        shards = [asdict(shard) for shard in self.shards]
        return digest_of_json(
            {"schema": self.schema.to_json(), "rows_per_group": self.rows_per_group, "shards": shards}
        )

    def matches(self, recorded: object) -> bool:
        """Return whether a digest that a run recorded is of this data.

        Runs record the content digest; earlier versions recorded the digest of the whole manifest.
        """
        return recorded == self.content_digest or recorded == self.digest

    def write(self, folder: Path) -> None:
        """Publish `manifest.json`; the last file of a folder to be written."""
        write_file(folder / MANIFEST, _text(self.to_json()))

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Return the manifest of a folder of shards.

        Raises DataError if it is missing, damaged or of another version.
        """
        path = folder / MANIFEST
        if not path.exists():
            raise DataError(_what_is_missing(folder), path=folder)
        try:
            text = path.read_bytes()
            body = json.loads(text)
            if text.translate(None, b" \n") != _compact(body):  # 1E5 instead of 1e5 has the same digest
                raise ValueError("it is not the text that was written")
            claimed = body.pop("digest")
            if body["format"] != FORMAT or claimed != digest_of_json(body):
                raise ValueError("its digest does not match")
            if body["version"] == VERSION:
                return cls._from_json(body)
            message = f"{path}: version {body['version']}, this program reads {VERSION}. Upgrade it"
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
            raise DataError(f"{path} is damaged: {error}. Convert the source again", path=path) from error
        raise DataError(message, path=path)

    @classmethod
    def _from_json(cls, body: dict[str, Any]) -> Manifest:
        """Return the manifest that these JSON values say; raises ValueError, KeyError or TypeError otherwise."""
        return cls(
            schema=Schema.from_json(body["schema"]),
            sources=tuple(Source(**source) for source in body["sources"]),
            parse=body["parse"],
            rows_per_group=body["rows_per_group"],
            shards=tuple(
                Shard(**shard | {"label_counts": tuple(shard["label_counts"])}) for shard in body["shards"]
            ),
            totals=LineCounts(**body["totals"]),
            pixels=body["pixels"],
            label_disorder=body["label_disorder"],
            shuffle=body["shuffle"],
            class_sums=body["class_sums"],
        )


def _what_is_missing(folder: Path) -> str:
    """Return the message for a folder without a manifest."""
    command = f"streamtrain convert CSV {shlex.quote(str(folder))}"
    if folder.is_file():
        command = shlex.join(["streamtrain", "convert", str(folder), f"{folder}.shards"])
        return f"{folder} is a file, not a folder of shards. Convert it first: {command}"
    if not folder.exists():
        return f"{folder}: there is no such folder. Make it: {command}"
    parts = sorted(part.parent.name for part in folder.glob(f"[!.]*/{MANIFEST}"))
    if parts:
        return f"{folder} has parts: {', '.join(parts)[:100]}. Name one: {folder / parts[0]}"
    return (
        f"{folder}: no {MANIFEST}, so it holds no shards, or their conversion is unfinished. Make them: {command}"
    )


def split_folders(folder: Path) -> list[Path]:
    """Return the folder itself if a manifest lies in it, the parts of a split below it otherwise.

    Raises DataError if there is no manifest in either.
    """
    parts = [folder]
    if folder.is_dir() and not (folder / MANIFEST).exists():
        parts = sorted(path.parent for path in folder.glob(f"[!.]*/{MANIFEST}")) or parts
    if not (parts[0] / MANIFEST).exists():
        Manifest.load(folder)  # says what is missing
    return parts


def _text(body: dict[str, Any]) -> bytes:
    """Return the text of a file: each key begins a line, and so does each part of what it stands for."""
    return f"{{\n{_joined(f'{json.dumps(key)}: {_lines(value)}' for key, value in body.items())}\n}}\n".encode()


def _lines(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{\n{_joined(f' {json.dumps(key)}: {json.dumps(each)}' for key, each in value.items())}\n}}"
    if isinstance(value, list) and value and isinstance(value[0], dict | list):
        return f"[\n{_joined(f' {json.dumps(each)}' for each in value)}\n]"
    return json.dumps(value)


def _joined(lines: Iterable[str]) -> str:
    return ",\n".join(lines)


def _compact(body: dict[str, Any]) -> bytes:
    """Return the text without spaces and line ends, which json writes without leaving C."""
    return json.dumps(body).encode().translate(None, b" \n")


def digest_of_file(path: Path) -> str:
    """Return `xxh3_128:` and the digest of a file's bytes, read a buffer at a time. Raises OSError."""
    with path.open("rb", buffering=0) as file:
        return f"xxh3_128:{hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()}"


def digest_bytes(data: bytes | memoryview) -> str:
    """Return `xxh3_128:` and the digest of bytes."""
    return f"xxh3_128:{xxhash.xxh3_128_hexdigest(data)}"


def digest_of_json(body: dict[str, Any]) -> str:
    """Return `xxh3_128:` and the digest of the canonical JSON text: sorted keys, no spaces."""
    return digest_bytes(json.dumps(body, sort_keys=True, separators=(",", ":")).encode())
