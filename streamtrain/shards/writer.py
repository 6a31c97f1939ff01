"""Blocks → one Parquet file that any tool opens."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from streamtrain.block import Block
from streamtrain.schema import Schema
from streamtrain.shards.digests import digest_bytes
from streamtrain.shards.manifest import Piece, Shard
from streamtrain.storage.permissions import opened

GROUP_BYTES = 1 << 20  # decoded pixels in a row group, at most
_LEVEL = {"zstd": 1}  # docs/explanation/benchmarks.md compares the levels
GROUPS_PER_SHARD = 4  # row groups in a shard, unless the text it comes from decides


def rows_per_group(schema: Schema) -> int:
    """Return the rows of every row group but a shard's last."""
    return max(1, GROUP_BYTES // schema.row_bytes)


def column_types(schema: Schema, *, labelled: bool) -> pa.Schema:
    """Return the columns of a shard: `label` if there are labels, `line`, and `image` as one binary."""
    label = [("label", pa.int32())] if labelled else []
    return pa.schema([*label, ("line", pa.int64()), ("image", pa.binary(schema.row_bytes))])


def write_shard(path: Path, block: Block, schema: Schema, *, labelled: bool, compression: str = "zstd") -> Shard:
    """Write a block as a shard, synced to disk, and return its entry in the manifest.

    Columns: `label` int32 (only if `labelled`), `line` int64, and `image`, one fixed-size
    binary of the row's pixels, row-major and little-endian.

    compression: one of `declare.COMPRESSIONS`
    """
    types = column_types(schema, labelled=labelled)
    arrays = [block.labels.astype("<i4", copy=False)] if labelled else []
    arrays += [
        block.lines.astype("<i8", copy=False),
        block.pixels.astype(schema.stored_dtype, copy=False),
    ]
    buffers = [pa.py_buffer(np.ascontiguousarray(array).reshape(-1)) for array in arrays]
    columns = [
        pa.Array.from_buffers(kind, len(block), [None, buffer])  # pa.array() would import pandas: 40 MB
        for kind, buffer in zip(types.types, buffers, strict=True)
    ]
    sink, written = pa.BufferOutputStream(), list[pq.FileMetaData]()
    pq.write_table(
        pa.table(columns, schema=types),
        sink,
        row_group_size=rows_per_group(schema),
        compression=compression,
        compression_level=_LEVEL.get(compression),
        use_dictionary=False,
        write_statistics=False,
        write_page_checksum=True,
        column_encoding={"line": "DELTA_BINARY_PACKED"},
        metadata_collector=written,
    )
    data = memoryview(sink.getvalue())
    with opened(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    counts = np.bincount(block.labels, minlength=len(schema.classes)).tolist() if schema.classes else []
    return Shard(path.name, len(block), len(data), digest_bytes(data), tuple(counts), *_pieces(data, written[0]))


def _pieces(data: memoryview, metadata: pq.FileMetaData) -> tuple[tuple[Piece, ...], Piece]:
    """Return the row groups of a Parquet file, whose column chunks follow one another, and the rest."""
    groups = map(metadata.row_group, range(metadata.num_row_groups))
    columns = [[group.column(c) for c in range(group.num_columns)] for group in groups]
    starts = [chunks[0].data_page_offset for chunks in columns]
    last = starts[-1] + sum(chunk.total_compressed_size for chunk in columns[-1])
    bounds = itertools.pairwise([*starts, last, len(data)])
    *pieces, footer = (Piece(start, stop - start, digest_bytes(data[start:stop])) for start, stop in bounds)
    return tuple(pieces), footer
