"""Parquet shards → blocks, every page's checksum, every size and row count checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from streamtrain.block import Array, Block
from streamtrain.errors import DataError
from streamtrain.schema import Schema
from streamtrain.shards.manifest import Manifest, Shard


class ShardFile:
    """One open shard; use it in a `with`. `read_group` decodes a row group."""

    def __init__(self, folder: Path, shard: Shard, schema: Schema, *, rows_per_group: int) -> None:
        self.path = folder / shard.file
        self.shard, self.schema, self.rows_per_group = shard, schema, rows_per_group
        try:
            size = self.path.stat().st_size
        except OSError as error:
            raise DataError(f"{self.path} is missing. Convert the source again") from error
        if size != shard.bytes:
            raise self._damaged(f"it has {size} bytes, the manifest says {shard.bytes}")
        try:
            self._file = pq.ParquetFile(self.path, page_checksum_verification=True)
        except (OSError, pa.ArrowException) as error:
            raise self._damaged(str(error)) from error
        if self._file.metadata.num_rows != shard.rows:
            self._file.close()
            raise self._damaged(f"it has {self._file.metadata.num_rows} rows, the manifest says {shard.rows}")

    def __enter__(self) -> ShardFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back."""
        self._file.close()

    def read_group(self, group: int) -> Block:
        """The rows of a row group, counted from 0. Raises DataError where a byte of it is damaged."""
        rows = min(self.rows_per_group, self.shard.rows - group * self.rows_per_group)
        try:
            table = self._file.read_row_group(group, use_threads=False).combine_chunks()
            pixels = _fixed_binary(table.column("image").chunk(0), self.schema)
            lines = table.column("line").chunk(0).to_numpy()
            if self.schema.classes:
                labels = table.column("label").chunk(0).to_numpy()
            else:
                labels = np.full(len(lines), -1, dtype=np.int32)
        except (OSError, KeyError, IndexError, ValueError, pa.ArrowException) as error:
            raise self._damaged(str(error)) from error
        if len(lines) != rows:
            raise self._damaged(f"row group {group} has {len(lines)} rows, not {rows}")
        if self.schema.classes and not 0 <= labels.min() <= labels.max() < len(self.schema.classes):
            raise self._damaged(f"row group {group} has a label outside its {len(self.schema.classes)} classes")
        return Block(pixels, labels, lines)

    def _damaged(self, what: str) -> DataError:
        return DataError(f"{self.path} is damaged: {what[:120]}. Find all damage: streamtrain verify")


def _fixed_binary(column: pa.FixedSizeBinaryArray, schema: Schema) -> Array:
    """View a column's bytes as pixels (rows, features), without copying them."""
    width = schema.row_bytes
    if not pa.types.is_fixed_size_binary(column.type) or column.type.byte_width != width or column.null_count:
        raise ValueError(f"column image is {column.type}, not {width} bytes in every row")
    data = np.frombuffer(column.buffers()[1], dtype=np.dtype(schema.dtype).newbyteorder("<"))
    start = column.offset * schema.features
    return data[start : start + len(column) * schema.features].reshape(len(column), schema.features)


def group_rows(manifest: Manifest) -> Array:
    """(groups, 3) int64: shard, row group within it, and rows, of every row group in order."""
    size = manifest.rows_per_group
    return np.array(
        [
            (s, g, min(size, shard.rows - g * size))
            for s, shard in enumerate(manifest.shards)
            for g in range(-(-shard.rows // size))
        ],
        dtype=np.int64,
    ).reshape(-1, 3)
