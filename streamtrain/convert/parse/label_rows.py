"""Rows parsed without labels, and the lines of a label file → labelled rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from streamtrain.block import Array, Block
from streamtrain.convert.dialect.dialect import Dialect
from streamtrain.convert.parse.label_file import LabelSlice
from streamtrain.convert.parse.parse import Parsed
from streamtrain.convert.parse.row_parser import BadRow, BadRows, RowParser, bad_row
from streamtrain.convert.text.cells import RowError, line_text, split_label_line
from streamtrain.convert.text.chunks import Chunk


def add_labels(parsed: Parsed, chunk: Chunk, taken: LabelSlice, dialect: Dialect) -> Parsed:
    """Return the rows of a chunk with their labels; a row whose label is not valid is a bad row."""
    parser = RowParser(chunk, dialect)
    block = parsed.block
    # A bad row has a line in the label file too, which is skipped.
    place = np.arange(len(block)) + np.searchsorted(parsed.bad.lines, block.lines)
    lines = [taken.lines[i] for i in place.tolist()]
    index = {line: _index(line, parser) for line in dict.fromkeys(lines)}
    labels = np.fromiter(map(index.__getitem__, lines), dtype=np.int32, count=len(lines))
    good = labels >= 0
    if good.all():
        return replace(parsed, block=Block(block.pixels, labels, block.lines), words=tuple(parser.words))
    faults = _Faults(chunk, taken, parser, block.lines[~good], place[~good])
    return replace(
        parsed,
        block=Block(block.pixels[good], labels[good], block.lines[good]),
        bad=_merged(parsed.bad, BadRows(faults.rows, faults.bad_row)),
        words=tuple(parser.words),
    )


@dataclass(frozen=True)
class _Faults:
    """Rows of a chunk whose labels are not valid.

    rows:  (rows,) int64, their lines over all sources; place: (rows,) where their labels are in `taken`
    """

    chunk: Chunk
    taken: LabelSlice
    parser: RowParser
    rows: Array
    place: Array

    @cached_property
    def starts(self) -> Array:
        """(lines + 1,) where each line of the chunk starts, and where the last one ends."""
        ends = np.flatnonzero(self.chunk.data[: self.chunk.size] == ord("\n")) + 1
        return np.concatenate([[0], ends, [self.chunk.size]])

    def bad_row(self, at: int) -> BadRow:
        """Return one of the rows with its fault."""
        place, number = int(self.place[at]), int(self.rows[at]) - self.chunk.line
        start, stop = self.starts[number : number + 2].tolist()
        text = line_text(self.chunk.text(start, stop))
        text = text if self.chunk.offset or number else text.removeprefix("\ufeff")
        what = f"its label in {self.taken.path}:{self.taken.first_line + place}"
        return bad_row(self.chunk, number, start, text, _fault(self.taken.lines[place], self.parser, what))


def _merged(one: BadRows, other: BadRows) -> BadRows:
    """Return the bad rows of both in the order of their lines."""
    lines = np.concatenate([one.lines, other.lines])
    order = np.argsort(lines)

    def make(at: int) -> BadRow:
        number = int(order[at])
        return one[number] if number < len(one) else other[number - len(one)]

    return BadRows(lines[order], make)


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
