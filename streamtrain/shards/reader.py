"""Parquet shards → blocks; every digest, page checksum, size and row count is checked."""

from __future__ import annotations

import functools
import os
import shlex
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from streamtrain.block import Array, Block
from streamtrain.errors import CorruptShardError, DataError
from streamtrain.schema import Schema
from streamtrain.shards.digests import digest_bytes, digest_of_file
from streamtrain.shards.fetched import FetchedShard
from streamtrain.shards.manifest import Manifest, Shard
from streamtrain.shards.writer import column_types
from streamtrain.storage.objects import Location, NoSuchObjectError, ObjectPath

_LEAST_GROUP_BYTES = 100  # of a row group in a file: what the footer says of its columns alone takes more
_UNCHECKED_GROUPS = 64  # of a shard: the table of as many takes no memory to speak of


def _corrupt(path: Location, what: str) -> CorruptShardError:
    command = f"streamtrain verify {shlex.quote(str(path.parent))}"
    message = f"{path} is damaged: {what}. Find all damage: {command}"
    return CorruptShardError(message, what=what, path=path)


class ShardFile:
    """One open shard, for a `with`; `read_group` decodes a row group.

    Its digest is checked before Arrow reads it for the first time: Arrow trusts footers and page headers, which
    no checksum covers, and may allocate as much memory as a damaged one says. Page checksums are checked at every
    read.
    Raises DataError if the file is missing, CorruptShardError if it is not the one that the manifest describes.
    """

    def __init__(self, folder: Location, shard: Shard, schema: Schema, *, rows_per_group: int) -> None:
        self.path = folder / shard.file
        self.shard, self.schema, self.rows_per_group = shard, schema, rows_per_group
        self._fetched: FetchedShard | None = None
        try:
            # pre_buffer=True would have Arrow's threads fill a buffer first; from a disk that costs a tenth.
            opened = functools.partial(pq.ParquetFile, page_checksum_verification=True, pre_buffer=False)
            if isinstance(self.path, ObjectPath):
                self._fetched = FetchedShard(self.path, shard)
                self._file = opened(self._fetched, metadata=self._fetched.metadata)
            else:
                check_whole(self.path, shard)
                self._file = opened(self.path)
        except (FileNotFoundError, NoSuchObjectError) as error:
            raise DataError(f"{self.path} is missing. Convert the source again", path=self.path) from error
        except UnicodeEncodeError:  # Parquet opens files by names that are text
            raise
        except (OSError, ValueError, pa.ArrowException) as error:  # ValueError: the name of a column, a digest
            raise _corrupt(self.path, str(error)[:120]) from error
        try:
            self._check_layout()
        except BaseException:
            self._file.close()
            raise

    def _check_layout(self) -> None:
        """Raise CorruptShardError if the footer describes other columns or row groups than the manifest."""
        metadata, size = self._file.metadata, self.rows_per_group
        if metadata.num_rows != self.shard.rows:
            raise _corrupt(self.path, f"it has {metadata.num_rows} rows, the manifest says {self.shard.rows}")
        columns = column_types(self.schema, labelled=bool(self.schema.classes))
        if not self._file.schema_arrow.equals(columns):
            raise _corrupt(self.path, f"its columns are {', '.join(map(str, self._file.schema_arrow))}"[:120])
        groups = [metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)]
        if groups != [min(size, metadata.num_rows - start) for start in range(0, metadata.num_rows, size)]:
            raise _corrupt(self.path, f"its row groups are not of {size} rows each")

    def __enter__(self) -> ShardFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def compression(self) -> set[str]:
        """The compressions of its columns, as a manifest names them."""
        groups = map(self._file.metadata.row_group, range(self._file.metadata.num_row_groups))
        names = {group.column(c).compression.lower() for group in groups for c in range(group.num_columns)}
        return {"none" if name == "uncompressed" else name for name in names}

    def read_group(self, group: int, *, lines: bool = True) -> Block:
        """Return the rows of a row group.

        group: counted from 0
        lines: whether to read line numbers; otherwise they are zeros, and reading takes a tenth less
        Raises CorruptShardError if a byte of what is read is damaged.
        """
        rows = min(self.rows_per_group, self.shard.rows - group * self.rows_per_group)
        try:
            self._fetch(group)
            names = [*(["label"] if self.schema.classes else []), *(["line"] if lines else []), "image"]
            table = self._file.read_row_group(group, names, use_threads=False).combine_chunks()
            pixels = _fixed_binary(table.column("image").chunk(0), self.schema)
            numbers = (
                _integers(table.column("line").chunk(0), np.int64) if lines else np.zeros(len(pixels), np.int64)
            )
            if self.schema.classes:
                labels = _integers(table.column("label").chunk(0), np.int32)
            else:
                labels = np.full(len(pixels), -1, dtype=np.int32)
        except (OSError, KeyError, IndexError, ValueError, pa.ArrowException) as error:
            raise _corrupt(self.path, str(error)[:120]) from error
        if len(pixels) != rows:
            raise _corrupt(self.path, f"row group {group} has {len(pixels)} rows, not {rows}")
        if self.schema.classes and not 0 <= labels.min() <= labels.max() < len(self.schema.classes):
            raise _corrupt(
                self.path, f"row group {group} has a label outside its {len(self.schema.classes)} classes"
            )
        return Block(pixels, labels, numbers)

    def prove_pieces(self) -> list[str]:
        """Read all bytes; return which pieces of the manifest they are not. Raises as `read_group` does."""
        try:
            data = self._fetched.fetch_all() if self._fetched else self.path.read_bytes()
        except (OSError, ValueError) as error:
            raise _corrupt(self.path, str(error)[:120]) from error
        pieces = [*self.shard.groups, *([self.shard.footer] if self.shard.footer else [])]
        wrong = [p for p in pieces if digest_bytes(data[p.start : p.start + p.length]) != p.digest]
        return [f"the bytes from {piece.start:,} on are not those of the manifest" for piece in wrong]

    def _fetch(self, group: int) -> None:
        if self._fetched:
            self._fetched.fetch(group)

    def read_labels(self, group: int) -> Array:
        """Return the labels (rows,) of a row group without reading its pixels. Raises as `read_group` does."""
        try:
            self._fetch(group)
            table = self._file.read_row_group(group, columns=["label"], use_threads=False)
            return _integers(table.combine_chunks().column("label").chunk(0), np.int32)
        except (OSError, KeyError, IndexError, ValueError, pa.ArrowException) as error:
            raise _corrupt(self.path, str(error)[:120]) from error


def check_whole(path: Path, shard: Shard) -> None:
    """Raise CorruptShardError if a file has other bytes than the manifest says, OSError if it is missing."""
    facts = path.stat()
    if facts.st_size != shard.bytes:
        raise _corrupt(path, f"it has {facts.st_size} bytes, the manifest says {shard.bytes}")
    check_digest(path, shard.digest, _identity(facts))


def _identity(facts: os.stat_result) -> tuple[int, ...]:
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


@functools.lru_cache(maxsize=1 << 16)
def check_digest(path: Path, digest: str, identity: tuple[int, ...]) -> None:
    """Raise CorruptShardError if a file has another digest.

    An epoch opens a shard often, so the result is cached while `identity` stays the same. Failures are not cached;
    `check_digest.cache_clear()` clears the rest.
    """
    if digest_of_file(path) != digest:
        raise _corrupt(path, "its bytes are not those that were written (digest)")


def _integers(column: pa.Array, kind: type) -> Array:
    """View a column's values without a copy, and without `to_numpy`, which imports pandas (40 MB)."""
    if column.null_count:
        raise ValueError(f"column of {column.type} has empty cells")
    values = np.frombuffer(column.buffers()[1], dtype=np.dtype(kind).newbyteorder("<"))
    return values[column.offset : column.offset + len(column)]


def _fixed_binary(column: pa.FixedSizeBinaryArray, schema: Schema) -> Array:
    """View a column's bytes as pixels (rows, features), without a copy."""
    width = schema.row_bytes
    if not pa.types.is_fixed_size_binary(column.type) or column.type.byte_width != width or column.null_count:
        raise ValueError(f"column image is {column.type}, not {width} bytes in every row")
    data = np.frombuffer(column.buffers()[1], dtype=schema.stored_dtype)
    start = column.offset * schema.features
    return data[start : start + len(column) * schema.features].reshape(len(column), schema.features)


def row_group_table(manifest: Manifest, folder: Location) -> Array:
    """Return (groups,) structured int64 with `shard`, `group` (within the shard) and `rows`, in order.

    Raises DataError for a shard that is too small for the rows that the manifest says, or missing: a manifest of a
    kilobyte may claim a table of any size.
    """
    size = manifest.rows_per_group
    rows = np.array([shard.rows for shard in manifest.shards], dtype=np.int64)
    for shard, groups in zip(manifest.shards, (-(-rows // size)).tolist(), strict=True):
        if groups > _UNCHECKED_GROUPS and groups * _LEAST_GROUP_BYTES > _size_of(folder / shard.file):
            raise _corrupt(folder / shard.file, f"it is too small for the {shard.rows:,} rows of the manifest")
    groups = -(-rows // size)
    table = np.empty(int(groups.sum()), dtype=[("shard", np.int64), ("group", np.int64), ("rows", np.int64)])
    table["shard"] = np.repeat(np.arange(len(rows)), groups)
    table["group"] = np.arange(len(table)) - np.repeat(groups.cumsum() - groups, groups)
    table["rows"] = np.minimum(size, rows[table["shard"]] - table["group"] * size)
    return table


def _size_of(path: Location) -> int:
    try:
        if isinstance(path, ObjectPath):
            return path.stat().size
        return path.stat().st_size
    except (FileNotFoundError, NoSuchObjectError) as error:
        raise DataError(f"{path} is missing. Convert the source again", path=path) from error
