"""A chunk of lines → a block of rows, every other line accounted for: the kernel, then the careful path."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from streamtrain.block import Block
from streamtrain.ingest import kernel
from streamtrain.ingest.careful import BadRow, Careful
from streamtrain.ingest.dialect import Dialect
from streamtrain.ingest.source import Chunk


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


def parse_chunk(chunk: Chunk, dialect: Dialect) -> Parsed:
    """The rows of a chunk in their order, and what every other line is."""
    lines = chunk.lines
    features = len(dialect.pixel_columns)
    pixels, labels, starts = kernel.outputs(chunk.data, fields=dialect.fields, features=features, lines=lines)
    kept = kernel.parse(
        np.frombuffer(chunk.data, dtype=np.uint8),
        ord(dialect.delimiter),
        dialect.fields,
        -1 if dialect.label is None else dialect.label,
        int(dialect.high) if dialect.fits_kernel else -1,
        pixels,
        labels,
        starts,
    )
    status = starts[:lines, 1]
    if dialect.header and chunk.file_line == 1:
        status[0] = kernel.REFUSED if status[0] != kernel.KEPT else status[0]
    careful = Careful(chunk, dialect)
    at = np.flatnonzero(status == kernel.KEPT)
    clean = Block(pixels[:kept], labels[:kept], chunk.line + at)
    if dialect.classes and dialect.label is not None:
        clean = careful.check_labels(clean, starts[at])
    for index in np.flatnonzero(status == kernel.REFUSED):
        careful.take(int(index), int(starts[index, 0]), int(starts[index + 1, 0]))
    return Parsed(
        block=careful.merged(clean),
        lines=lines,
        header=careful.header,
        blank=int((status == kernel.BLANK).sum()) + careful.blank,
        comments=careful.comments,
        repeated_headers=careful.repeated_headers,
        bad=sorted(careful.bad, key=lambda row: row.line),
        words=tuple(careful.words),
    )
