"""The manifest: what a folder of shards holds, in what order, from which source, with which digests."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypedDict

from msgspec import Meta

from streamtrain.decode import Count, Finite, Number, PathText, Positive, convert, parse
from streamtrain.errors import DataError
from streamtrain.metrics.pixel_statistics import Pixels
from streamtrain.schema import Schema
from streamtrain.shards.consistency import contradictions
from streamtrain.shards.digests import digest_of_json
from streamtrain.shards.folders import what_is_missing
from streamtrain.storage.objects import Location
from streamtrain.storage.ownership import FORMAT, MANIFEST
from streamtrain.storage.publish import write_file

VERSION = 2  # 1: without the pieces of the shards, and sources have a plain digest


class Piece(NamedTuple):
    """Bytes of a shard that can be fetched and proved alone: its first byte, how many, their digest."""

    start: Count
    length: Positive
    digest: str


@dataclass(frozen=True)
class Shard:
    """One Parquet file: its name, rows, bytes, digest, and rows of each class index.

    groups: its row groups, which follow one another from byte 4 on
    footer: the rest, to the end of the file; None and no groups in version 1
    """

    file: Annotated[str, Meta(pattern=r"\Ashard-\d{5,}\.parquet\Z")]
    rows: Positive
    bytes: Positive
    digest: str
    label_counts: tuple[Count, ...]
    groups: tuple[Piece, ...] = ()
    footer: Piece | None = None

    def content(self) -> dict[str, Any]:
        """Return JSON values of what says which rows it holds: all but where its pieces lie."""
        values = asdict(self)
        del values["groups"], values["footer"]
        return values


@dataclass(frozen=True)
class Source:
    """A file that the rows came from; `first_line` is the number of its first line over all sources."""

    path: PathText
    size: Count
    mtime_ns: int
    digest: str
    lines: Count
    first_line: Positive


@dataclass(frozen=True)
class LineCounts:
    """The lines of the sources: lines = header + blank + repeated_headers + kept + rejected.

    comments:       how many of the blank lines hold a comment
    in_other_parts: how many of the kept rows a split put into other parts
    Raises ValueError if they do not add up.
    """

    lines: Count = 0
    header: Count = 0
    blank: Count = 0
    repeated_headers: Count = 0
    kept: Count = 0
    rejected: Count = 0
    comments: Count = 0
    in_other_parts: Count = 0

    def __post_init__(self) -> None:
        if self.lines != self.header + self.blank + self.repeated_headers + self.kept + self.rejected:
            raise ValueError(f"lines do not add up: {self}")


@dataclass(frozen=True)
class Parse:
    """The part of `parse`, how the sources were read, that is used again.

    names: of the columns, or empty; pixel_order: the columns of the pixels, if that is not their order
    label, label_width: the first column of the label, counted from 0, and how many there are
    dropped: the columns that are neither label nor pixel
    """

    declared_range: bool = False
    transposed: bool = False
    names: tuple[str, ...] = ()
    pixel_order: tuple[Count, ...] = ()
    label: Count | None = None
    label_width: Positive = 1
    dropped: tuple[Count, ...] = ()


class Shuffled(TypedDict):
    """How an order was made: the method, its seed, and the digest of the manifest of the rows before."""

    method: str
    seed: int
    source: str


@dataclass(frozen=True)
class Manifest:
    """The content of `manifest.json`; see the fields of `Schema`, `Source`, `Shard` and `LineCounts`.

    parse:          how the source was read, and the settings of the conversion
    rows_per_group: rows of every row group but a shard's last
    pixels:         sum, sum_of_squares, min and max of every pixel position
    label_disorder: D of the stored order; None if there is no whole batch or fewer than two classes
    shuffle:        how the order was made, if the shards were shuffled
    class_sums:     (classes, features) sums of the pixels of each class's rows, of which there are `label_counts`;
                    None without labels, and if there would be more than a million numbers
    compression:    of the pages: zstd, lz4 or none; None in manifests of earlier versions, whose shards are zstd
    """

    schema: Schema
    sources: Annotated[tuple[Source, ...], Meta(min_length=1)]
    parse: dict[str, Any]
    rows_per_group: Positive
    shards: Annotated[tuple[Shard, ...], Meta(min_length=1)]
    totals: LineCounts
    pixels: Pixels
    label_disorder: Finite | None
    shuffle: Shuffled | None
    class_sums: list[list[Number]] | None = None
    compression: Annotated[str, Meta(pattern=r"\A(zstd|lz4|none)\Z")] | None = None

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

    @property
    def version(self) -> int:
        """2 if all its shards have pieces, otherwise 1, which has none."""
        return VERSION if all(shard.footer for shard in self.shards) else 1

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, including their digest."""
        body: dict[str, Any] = {"format": FORMAT, "version": self.version, "rows": self.rows}
        body |= {each.name: getattr(self, each.name) for each in fields(self)}
        body |= {"schema": self.schema.to_json(), "totals": asdict(self.totals)}
        body["sources"] = [asdict(source) for source in self.sources]
        body["shards"] = [asdict(shard) if self.version > 1 else shard.content() for shard in self.shards]
        if self.compression is None:
            del body["compression"]  # so that the digest stays what it was
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
        shards = [shard.content() for shard in self.shards]
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
    def load(cls, folder: Location) -> Manifest:
        """Return the manifest of a folder of shards.

        Raises DataError if it is missing, damaged, of another version or contradicts itself.
        """
        manifest = cls.read(folder)
        if found := contradictions(manifest):
            raise _damaged(folder / MANIFEST, found[0])
        return manifest

    @classmethod
    def read(cls, folder: Location) -> Manifest:
        """Return the manifest of a folder, whatever it says. Raises DataError as `load` does for the rest."""
        path = folder / MANIFEST
        if not path.exists():
            raise DataError(what_is_missing(folder), path=folder)
        try:
            text = path.read_bytes()
            body = convert(parse(json.loads, text), dict[str, Any])
            if text.translate(None, b" \n") != _compact(body):  # 1E5 instead of 1e5 has the same digest
                raise ValueError("it is not the text that was written")
            if body.get("format") != FORMAT or body.pop("digest", None) != digest_of_json(body):
                raise ValueError("its digest does not match")
            if body.get("version") in (1, VERSION):
                return cls._of(body)
        except (ValueError, RecursionError) as error:  # text nested just so deep can be read, but not written
            raise _damaged(path, str(error)) from error
        message = (
            f"{path}: version {str(body.get('version'))[:20]}, this program reads 1 and {VERSION}. Upgrade it"
        )
        raise DataError(message, path=path)

    @classmethod
    def _of(cls, body: dict[str, Any]) -> Manifest:
        manifest, derived = convert(body, cls), convert(body, _Derived)
        if derived["rows"] != manifest.rows:
            raise ValueError(f"rows is {derived['rows']}, but the shards have {manifest.rows}")
        if body["version"] != manifest.version:
            raise ValueError(f"it is of version {body['version']}, but its shards are of {manifest.version}")
        return manifest


class _Derived(TypedDict):
    """The keys of a manifest that are checked in addition to its fields."""

    rows: Positive
    parse: Parse


def _damaged(path: Location, what: str) -> DataError:
    return DataError(f"{path} is damaged: {what}. Convert the source again", path=path)


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
