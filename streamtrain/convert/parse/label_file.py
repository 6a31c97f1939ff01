"""Labels in a file of their own, one a line → the labels of the data rows, in order."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from streamtrain.block import Block
from streamtrain.convert.dialect.columns import Sample, numbers
from streamtrain.convert.dialect.detect import Detection, read_labels, refuse_foreign
from streamtrain.convert.dialect.dialect import Dialect
from streamtrain.convert.dialect.options import ReadOptions
from streamtrain.convert.parse.parse import Parsed
from streamtrain.convert.parse.row_parser import DECIMAL, RowError, RowParser, bad_row, line_text, split_row
from streamtrain.convert.text.chunks import Chunk
from streamtrain.convert.text.text_file import FileFacts, TextFile
from streamtrain.errors import DataError

_SAMPLE_BYTES = 128 << 10
_READ_BYTES = 1 << 20  # of text at a time
_LONGEST_LABEL = 64 << 10


def detect_labels(path: Path, verdict: Detection, wanted: ReadOptions) -> Detection:
    """The verdict on data without labels, with that on the file of its labels.

    Raises DataError where the file does not hold one label a line.
    """
    with TextFile(path) as file:
        sample = file.read(_SAMPLE_BYTES)
        lines = sample.split(b"\n") if len(sample) < _SAMPLE_BYTES else sample.split(b"\n")[:-1]
    refuse_foreign(sample, path=str(path))
    rows = [_values(line) for line in lines if line.strip()]
    if 2 * sum(len(row) == 1 for row in rows) <= len(rows):
        raise DataError(
            f"{path}: most lines do not hold one label alone. Cut the column of labels out: cut -d, -f1"
        )
    values = [" ".join(row) for row in rows]
    empty = not lines[0].strip()  # which is a label at fault, for a header is line 1 or none
    header = not empty and _is_header(values, verdict.dialect.header, wanted)
    cells = [[value] for value in values[header:]]
    labelling = read_labels(Sample(str(path), cells, numbers(cells), ()), range(1), (), wanted)
    dialect = replace(
        verdict.dialect,
        label_kind=labelling.kind,
        classes=labelling.classes,
        written=labelling.written,
        labels_file=str(path),
        labels_header=header,
    )
    said = f"the labels are those of {path}" + (f", whose line 1 is a header: {values[0][:20]}" if header else "")
    reasons = [reason for reason in verdict.reasons if not reason.startswith("no label")]
    return Detection(dialect, (*reasons, said, *labelling.reasons))


def _is_header(values: list[str], data_has_one: bool, wanted: ReadOptions) -> bool:
    """Whether the first value is no label: a word before numbers, or a word of its own that can be none."""
    first, *rest = values
    if 2 * sum(DECIMAL.fullmatch(value) is not None for value in rest) > len(rest):
        return not DECIMAL.fullmatch(first)
    declared = wanted.labels or wanted.classes or ()
    return bool(rest) and first not in rest and (first not in declared if declared else data_has_one)


def _values(line: bytes) -> list[str]:
    """What a line holds: one value, unless it is at fault."""
    try:
        return split_row(line_text(line).removeprefix("\ufeff"), ",")
    except RowError:
        return []


@dataclass(frozen=True)
class LabelSlice:
    """Lines of a file of labels: one a data row, or fewer where it is too short for that."""

    path: Path
    first_line: int
    lines: list[bytes]
    short: bool


class LabelFile:
    """The labels of a pass, handed out a chunk of rows at a time, in order; use it in a `with`."""

    def __init__(self, dialect: Dialect) -> None:
        self.path = Path(dialect.labels_file)
        self._header = dialect.labels_header
        self._file = TextFile(self.path)
        self._lines = itertools.islice(_to_the_last_label(self._file), int(self._header), None)
        self._rows = self._labels = self._next = 0
        self._abandoned = False
        self._turn = threading.Condition()

    def __enter__(self) -> LabelFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()
        self._file.__exit__()

    def take(self, number: int, rows: int) -> LabelSlice:
        """The labels of the `rows` data rows of chunk `number`, once those of the chunks before are taken."""
        with self._turn:
            self._turn.wait_for(lambda: self._next == number or self._abandoned)
            if self._abandoned:
                raise RuntimeError("the pass has ended")
            first_line = self._labels + self._header + 1
            lines = list(itertools.islice(self._lines, rows))
            self._rows += rows
            self._labels += len(lines)
            self._next += 1
            self._turn.notify_all()
        return LabelSlice(self.path, first_line, lines, short=len(lines) < rows)

    def cancel(self) -> None:
        """Let those go that wait for a turn which does not come."""
        with self._turn:
            self._abandoned = True
            self._turn.notify_all()

    def end(self) -> FileFacts:
        """What was read, at the end of the data.

        Raises DataError where there are more or fewer labels than rows, or the file changed meanwhile.
        """
        self._labels += sum(1 for _ in self._lines)
        facts = self._file.facts()
        if self._labels != self._rows:
            first = "its header" if self._header else "a label"
            raise DataError(
                f"{self.path} has {self._labels:,} labels, the data {self._rows:,} rows. Give one label a row, in "
                f"the order of the rows; line 1 was read as {first}"
            )
        return facts


def _to_the_last_label(file: TextFile) -> Iterator[bytes]:
    """The lines of a file but for blank ones at its end."""
    blank = 0
    for line in _lines(file):
        if not line.strip():
            blank += 1
            continue
        yield from itertools.repeat(b"", blank)
        yield line
        blank = 0


def _lines(file: TextFile) -> Iterator[bytes]:
    rest = b""
    while data := file.read(_READ_BYTES):
        *lines, rest = (rest + data).split(b"\n")
        yield from lines
        if len(rest) > _LONGEST_LABEL:
            raise DataError(f"{file.path}: a line of over 64 KiB. Is this a text file with one label a line?")
    yield rest


def labelled(parsed: Parsed, chunk: Chunk, taken: LabelSlice, dialect: Dialect) -> Parsed:
    """The rows of a chunk with the labels taken for them; a row whose label is at fault is a bad row."""
    careful = RowParser(chunk, dialect)
    block = parsed.block
    # A bad row has a label too, which nobody reads.
    place = np.arange(len(block)) + np.searchsorted([row.line for row in parsed.bad], block.lines)
    lines = [taken.lines[i] for i in place.tolist()]
    index = {line: _index(line, careful) for line in dict.fromkeys(lines)}
    labels = np.fromiter(map(index.__getitem__, lines), dtype=np.int32, count=len(lines))
    faults = np.flatnonzero(labels < 0)
    if not len(faults):
        return replace(parsed, block=Block(block.pixels, labels, block.lines), words=tuple(careful.words))
    starts = [0, *(np.flatnonzero(chunk.data[: chunk.size] == ord("\n")) + 1).tolist(), chunk.size]
    bad = list(parsed.bad)
    for row in faults.tolist():
        number = int(block.lines[row]) - chunk.line
        text = line_text(chunk.text(starts[number], starts[number + 1]))
        text = text if chunk.offset or number else text.removeprefix("\ufeff")
        what = f"its label in {taken.path}:{taken.first_line + int(place[row])}"
        bad.append(bad_row(chunk, number, starts[number], text, _fault(lines[row], careful, what)))
    good = labels >= 0
    return replace(
        parsed,
        block=Block(block.pixels[good], labels[good], block.lines[good]),
        bad=sorted(bad, key=lambda row: row.line),
        words=tuple(careful.words),
    )


def _index(line: bytes, careful: RowParser) -> int:
    """The label of a line as `RowParser.label_of` gives it, −1 for one at fault."""
    values = _values(line)
    try:
        return careful.label_of(values) if len(values) == 1 else -1
    except ValueError:
        return -1


def _fault(line: bytes, careful: RowParser, what: str) -> RowError:
    values = _values(line)
    value, said = " ".join(values), f"is a line of {len(values)} values" if values else "has a quote left open"
    if len(values) == 1:
        try:
            careful.label_of(values)
        except ValueError as fault:
            said = str(fault)
    return RowError("label", f"{what} {said}", value=value)
