"""The rows of a CSV in their order, numbered, without making shards: the input of a prediction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from streamtrain.block import Array, Block
from streamtrain.convert.dialect.files import detect_file
from streamtrain.convert.dialect.options import ReadOptions, resolve
from streamtrain.convert.parse.parse import parse_chunk
from streamtrain.convert.parse.row_parser import BadRows
from streamtrain.convert.text.chunks import ChunkBuffer, chunks
from streamtrain.convert.text.sources import find_sources
from streamtrain.convert.text.text_file import TextFile
from streamtrain.errors import DataError, UsageError
from streamtrain.storage.objects import Location


class Rows(NamedTuple):
    """Data rows of a chunk: the good ones as a block, and the bad ones, each with its ordinal in the file from 0.

    ordinals, bad_ordinals: (rows,) int64
    share: of the file that was read so far, 0..1; 0 for standard input, whose size is not known
    parse: how the file is written, as JSON values
    """

    block: Block
    ordinals: Array
    bad: BadRows
    bad_ordinals: Array
    share: float
    parse: dict[str, Any]


def iter_rows(
    source: str | Location,
    *,
    features: int,
    label: str | None = None,
    header: bool | None = None,
    preset: str | None = None,
) -> Iterator[Rows]:
    """Read a CSV whose rows have `features` pixels and perhaps a label, chunk by chunk.

    label, header, preset: as for `convert`
    Raises DataError at the call if rows have another width, or if it is not clear which column is the label.
    """
    path, *more = find_sources([source])
    if more:
        raise UsageError(f"{source} names {len(more) + 1} files. Name one of them, such as {path}")
    options = resolve(ReadOptions(label, header, features=features), preset)
    dialect = detect_file(path, options).dialect
    if len(dialect.pixel_columns) != features:
        raise DataError(
            f"{path}: a row has {len(dialect.pixel_columns)} pixels, but the model takes {features}. "
            "Does it have further columns, or another label?"
        )

    def rows() -> Iterator[Rows]:
        before, parse = 0, dialect.to_json()
        with TextFile(path) as file:
            for chunk in chunks(file):
                parsed = parse_chunk(chunk, dialect, ChunkBuffer())
                lines = np.concatenate([parsed.block.lines, parsed.bad.lines])
                ordinals = np.empty(len(lines), dtype=np.int64)
                ordinals[np.argsort(lines)] = np.arange(before, before + len(lines))
                share = file.raw_bytes / file.size if file.size else 0.0
                good, bad = np.split(ordinals, [len(parsed.block)])
                yield Rows(parsed.block, good, parsed.bad, bad, share, parse)
                before += len(lines)

    return rows()
