"""Rows parsed without labels, and the lines of a label file → labelled rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from streamtrain.block import Block
from streamtrain.convert.dialect.dialect import Dialect
from streamtrain.convert.parse.label_file import LabelSlice
from streamtrain.convert.parse.parse import Parsed
from streamtrain.convert.parse.row_parser import RowParser, bad_row
from streamtrain.convert.text.cells import RowError, line_text, split_label_line
from streamtrain.convert.text.chunks import Chunk


def add_labels(parsed: Parsed, chunk: Chunk, taken: LabelSlice, dialect: Dialect) -> Parsed:
    """Return the rows of a chunk with their labels; a row whose label is not valid is a bad row."""
    parser = RowParser(chunk, dialect)
    block = parsed.block
    # A bad row has a line in the label file too, which is skipped.
    place = np.arange(len(block)) + np.searchsorted([row.line for row in parsed.bad], block.lines)
    lines = [taken.lines[i] for i in place.tolist()]
    index = {line: _index(line, parser) for line in dict.fromkeys(lines)}
    labels = np.fromiter(map(index.__getitem__, lines), dtype=np.int32, count=len(lines))
    faults = np.flatnonzero(labels < 0)
    if not len(faults):
        return replace(parsed, block=Block(block.pixels, labels, block.lines), words=tuple(parser.words))
    starts = [0, *(np.flatnonzero(chunk.data[: chunk.size] == ord("\n")) + 1).tolist(), chunk.size]
    bad = list(parsed.bad)
    for row in faults.tolist():
        number = int(block.lines[row]) - chunk.line
        text = line_text(chunk.text(starts[number], starts[number + 1]))
        text = text if chunk.offset or number else text.removeprefix("\ufeff")
        what = f"its label in {taken.path}:{taken.first_line + int(place[row])}"
        bad.append(bad_row(chunk, number, starts[number], text, _fault(lines[row], parser, what)))
    good = labels >= 0
    return replace(
        parsed,
        block=Block(block.pixels[good], labels[good], block.lines[good]),
        bad=sorted(bad, key=lambda row: row.line),
        words=tuple(parser.words),
    )


def _index(line: bytes, parser: RowParser) -> int:
    """Return the label of a line as `RowParser.label_of` does, −1 if it is not valid."""
    values = split_label_line(line)
    try:
        return parser.label_of(values) if len(values) == 1 else -1
    except ValueError:
        return -1


def _fault(line: bytes, parser: RowParser, what: str) -> RowError:
    values = split_label_line(line)
    value, reason = " ".join(values), f"is a line of {len(values)} values" if values else "has a quote left open"
    if len(values) == 1:
        try:
            parser.label_of(values)
        except ValueError as fault:
            reason = str(fault)
    return RowError("label", f"{what} {reason}", value=value)
