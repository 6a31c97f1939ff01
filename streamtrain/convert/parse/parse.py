"""A chunk of lines → a block of rows, every other line accounted for: the kernel, then the row parser."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamtrain.block import Block
from streamtrain.convert.dialect.dialect import Dialect
from streamtrain.convert.parse.layout import NO_ROWS, layout_of, words_of
from streamtrain.convert.parse.row_parser import BadRows, RowParser
from streamtrain.convert.text.chunks import Chunk, ChunkBuffer
from streamtrain.native import parse as kernel

_LINES_AT_A_TIME = 4096


@dataclass(frozen=True)
class Parsed:
    """A parsed chunk. Labels of the block are integers as written or, for words, indices into `words`."""

    block: Block
    lines: int
    header: int
    blank: int
    comments: int
    repeated_headers: int
    bad: BadRows
    words: tuple[str, ...] = ()


def parse_chunk(chunk: Chunk, dialect: Dialect, buffer: ChunkBuffer, *, strict: bool = False) -> Parsed:
    """Return the rows of a chunk in their order, and what every other line is.

    strict: whether to stop at the first bad row; the lines after it are then not accounted for
    The pixels may be in the memory of `buffer`: they are valid until its next use, and so are the bad rows.
    """
    layout = layout_of(dialect)
    shortest = 2 * dialect.fields - len(dialect.dropped)  # bytes of a row: only what is left out may be empty
    rows = min(chunk.lines, (chunk.size + 1) // shortest) if layout else 0
    pixels = buffer.pixels_for(rows, len(dialect.pixel_columns), dialect.dtype)
    labels, lines = np.empty(rows, dtype=np.int32), np.empty(rows, dtype=np.int32)
    leftover = np.empty((chunk.lines, 3), dtype=np.int32)  # memory is used only as far as it is written
    counts = np.empty(4, dtype=np.int64)
    layout = (layout or NO_ROWS).fresh()
    # The first line of a file may be more than a row: a header, a list of the classes, one with a byte order mark.
    skip = int(chunk.file_line == 1)
    kernel.parse(chunk.data, chunk.size, *layout, skip, pixels, labels, lines, leftover, counts)
    kept, blank, refused, words = counts.tolist()
    pixels = pixels[:kept]
    if dialect.pixel_order:
        pixels = pixels[:, np.searchsorted(np.sort(dialect.pixel_columns), dialect.pixel_columns)]
    parser = RowParser(chunk, dialect, () if dialect.source_labels else words_of(layout, words))
    for first in range(0, refused, _LINES_AT_A_TIME):  # as Python's integers, millions would take gigabytes
        some = leftover[first : min(first + _LINES_AT_A_TIME, refused)].tolist()
        if not all(parser.parse_line(*line) or not strict for line in some):
            break
    return Parsed(
        block=parser.merge(Block(pixels, labels[:kept], chunk.line + lines[:kept].astype(np.int64))),
        lines=chunk.lines,
        header=parser.header,
        blank=blank + parser.blank,
        comments=parser.comments,
        repeated_headers=parser.repeated_headers,
        bad=parser.bad,
        words=tuple(parser.words),
    )
