"""A chunk of lines → a block of rows, every other line accounted for: the kernel, then the row parser."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import numpy as np

from streamtrain.block import Array, Block
from streamtrain.convert.dialect.dialect import Dialect
from streamtrain.convert.parse.row_parser import BadRow, RowParser
from streamtrain.convert.text.chunks import Chunk, ChunkBuffer
from streamtrain.native import parse as kernel


@dataclass(frozen=True)
class Parsed:
    """A parsed chunk. Labels of the block are integers as written or, for words, indices into `words`."""

    block: Block
    lines: int
    header: int = 0
    blank: int = 0
    comments: int = 0
    repeated_headers: int = 0
    bad: list[BadRow] = field(default_factory=list)
    words: tuple[str, ...] = ()


def parse_chunk(chunk: Chunk, dialect: Dialect, buffer: ChunkBuffer) -> Parsed:
    """Return the rows of a chunk in their order, and what every other line is.

    The pixels may be in the memory of `buffer`: they are valid until its next use.
    """
    rows = min(chunk.lines, (chunk.size + 1) // (2 * dialect.fields))  # a value takes at least two bytes
    features = len(dialect.pixel_columns)
    pixels = buffer.pixels_for(rows if dialect.fits_kernel else 0, features)
    labels, lines = np.empty(rows, dtype=np.int32), np.empty(rows, dtype=np.int32)
    leftover = np.empty((chunk.lines, 3), dtype=np.int32)  # memory is used only as far as it is written
    counts = np.empty(3, dtype=np.int64)
    kernel.parse(
        chunk.data,
        chunk.size,
        ord(dialect.delimiter),
        dialect.fields,
        -1 if dialect.label is None else dialect.label,
        int(dialect.high) if dialect.fits_kernel else 0,
        _class_of_label(dialect),
        int(dialect.header and chunk.file_line == 1),
        pixels,
        labels,
        lines,
        leftover,
        counts,
    )
    kept, blank, refused = counts.tolist()
    parser = RowParser(chunk, dialect)
    for index, start, stop in leftover[:refused].tolist():
        parser.parse_line(index, start, stop)
    return Parsed(
        block=parser.merge(Block(pixels[:kept], labels[:kept], chunk.line + lines[:kept].astype(np.int64))),
        lines=chunk.lines,
        header=parser.header,
        blank=blank + parser.blank,
        comments=parser.comments,
        repeated_headers=parser.repeated_headers,
        bad=parser.bad,
        words=tuple(parser.words),
    )


@functools.lru_cache(maxsize=16)
def _class_of_label(dialect: Dialect) -> Array:
    """Return (kernel.LABELS,) int32: the stored label for each label as written, −1 for one that is refused."""
    if not dialect.source_labels or not dialect.fits_kernel:
        return np.arange(kernel.LABELS, dtype=np.int32)
    table = np.full(kernel.LABELS, -1, dtype=np.int32)
    for index, name in enumerate(dialect.source_labels):
        if int(name) < kernel.LABELS:
            table[int(name)] = index
    return table
