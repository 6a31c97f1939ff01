"""A chunk of lines → a block of rows, every other line accounted for: the kernel, then the careful path."""

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
    """A chunk as parsed. The block's labels are integers as written or, of words, indices into `words`."""

    block: Block
    lines: int
    header: int = 0
    blank: int = 0
    comments: int = 0
    repeated_headers: int = 0
    bad: list[BadRow] = field(default_factory=list)
    words: tuple[str, ...] = ()


def parse_chunk(chunk: Chunk, dialect: Dialect, room: ChunkBuffer) -> Parsed:
    """The rows of a chunk in their order, and what every other line is.

    The pixels may lie in `room`, and stay only until its next use.
    """
    rows = min(chunk.lines, (chunk.size + 1) // (2 * dialect.fields))  # two bytes a value at least
    features = len(dialect.pixel_columns)
    pixels = room.pixels_for(rows if dialect.fits_kernel else 0, features)
    labels, lines = np.empty(rows, dtype=np.int32), np.empty(rows, dtype=np.int32)
    odd = np.empty((chunk.lines, 3), dtype=np.int32)  # whose memory is taken only as far as it is written
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
        odd,
        counts,
    )
    kept, blank, refused = counts.tolist()
    careful = RowParser(chunk, dialect)
    for index, start, stop in odd[:refused].tolist():
        careful.take(index, start, stop)
    return Parsed(
        block=careful.merged(Block(pixels[:kept], labels[:kept], chunk.line + lines[:kept].astype(np.int64))),
        lines=chunk.lines,
        header=careful.header,
        blank=blank + careful.blank,
        comments=careful.comments,
        repeated_headers=careful.repeated_headers,
        bad=careful.bad,
        words=tuple(careful.words),
    )


@functools.lru_cache(maxsize=16)
def _class_of_label(dialect: Dialect) -> Array:
    """(kernel.LABELS,) int32: what a label as written is stored as; −1 for one that is refused."""
    if not dialect.written or not dialect.fits_kernel:
        return np.arange(kernel.LABELS, dtype=np.int32)
    table = np.full(kernel.LABELS, -1, dtype=np.int32)
    for index, name in enumerate(dialect.written):
        if int(name) < kernel.LABELS:
            table[int(name)] = index
    return table
