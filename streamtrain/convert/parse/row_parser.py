"""The slow, careful path: lines that the kernel refuses, read value by value, with the exact fault of each."""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from streamtrain.block import Array, Block
from streamtrain.convert.dialect.dialect import Dialect
from streamtrain.convert.dialect.label_column import TRUTH
from streamtrain.convert.dialect.labels import LARGEST_LABEL, canonical, is_class_name
from streamtrain.convert.dialect.sample import quoted
from streamtrain.convert.text.cells import BLANKS, DECIMAL, INTEGER, RowError, line_text, split_row
from streamtrain.convert.text.chunks import Chunk
from streamtrain.errors import argument

_NO_INTEGER = re.compile(r"[^0-9+-]", re.ASCII)
_NO_DECIMAL = re.compile(r"[^0-9+.eE-]", re.ASCII)


@dataclass(frozen=True)
class BadRow:
    """A row that does not fit the dialect: its place, the fault, and its text.

    line:   over all sources, from 1; file_line: in its file, from 1
    column: of the value at fault, from 1; None if the whole row is at fault
    reason: fields, empty, not_a_number, not_an_integer, out_of_range, label, quote
    raw:    its text; bytes that are not UTF-8 are lone surrogates (`errors="surrogateescape"` restores them)
    """

    path: str
    line: int
    file_line: int
    byte_offset: int
    column: int | None
    reason: str
    value: str
    what: str
    raw: str

    def __str__(self) -> str:
        fault = f"{self.path}:{self.file_line}: {self.what}"
        return f"{fault}. Keep going without such rows: {argument('on_bad_row', 'reject')}"


class BadRows:
    """The bad rows of a chunk in the order of their lines, each made when asked for: there may be millions.

    lines: (rows,) int64, their lines over all sources
    make:  returns the bad row at an index; it may read the chunk, so use it while that is in memory
    """

    def __init__(self, lines: Array, make: Callable[[int], BadRow]) -> None:
        self.lines, self._make = lines, make

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, index: int) -> BadRow:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._make(index)

    def __iter__(self) -> Iterator[BadRow]:
        return map(self._make, range(len(self)))


class RowParser:
    """Parses lines of one chunk, one by one, and collects rows and faults."""

    def __init__(self, chunk: Chunk, dialect: Dialect, words: Sequence[str] = ()) -> None:
        self.chunk, self.dialect = chunk, dialect
        self.header = self.blank = self.comments = self.repeated_headers = self._skipped = 0
        self._bad = array("i")  # index, start and stop of each bad line
        self.words = {word: index for index, word in enumerate(words)}  # those that the kernel met first
        self._classes = {name: index for index, name in enumerate(dialect.source_labels)}
        self._word_columns = dialect.label is not None and dialect.text_labels
        self._columns = dialect.pixel_columns.tolist()
        self._rows: list[Array] = []
        self._labels: list[int] = []
        self._lines: list[int] = []

    @property
    def bad(self) -> BadRows:
        """The bad rows so far."""
        return BadRows(self.chunk.line + np.array(self._bad[::3], dtype=np.int64), self._bad_row)

    def parse_line(self, index: int, start: int, stop: int) -> bool:
        """Parse line `index` of the chunk, its bytes [start, stop); return whether it is well."""
        try:
            self._parse(index, start, self._text(start, stop))
        except RowError:
            self._bad.extend((index, start, stop))
            return False
        return True

    def _bad_row(self, number: int) -> BadRow:
        """Return a bad row, whose line is parsed once more for the fault."""
        index, start, stop = self._bad[3 * number : 3 * number + 3]
        text = self._text(start, stop)
        try:
            self._parse(index, start, text)
        except RowError as fault:
            return bad_row(self.chunk, index, start, text, fault)
        raise AssertionError(f"line {self.chunk.line + index} was bad before")

    def _text(self, start: int, stop: int) -> str:
        text = line_text(self.chunk.text(start, stop))
        return text.removeprefix("\ufeff") if self._is_first(start) else text

    def _is_first(self, start: int) -> bool:
        """Whether a line that starts there in the chunk is the first of its file."""
        return start == 0 and self.chunk.offset == 0

    def _parse(self, index: int, start: int, text: str) -> None:
        if not text.strip(" " if self.dialect.delimiter == "\t" else BLANKS):
            self.blank += 1
        elif text.lstrip(BLANKS).startswith("#") and not self._word_columns:
            self.blank += 1
            self.comments += 1
        else:
            self._take_row(index, split_row(text, self.dialect.delimiter), self._is_first(start))

    def _take_row(self, index: int, cells: list[str], first: bool) -> None:
        dialect = self.dialect
        if dialect.trailing_delimiter and len(cells) > dialect.fields and not cells[-1]:
            cells.pop()
        if dialect.names and tuple(cells) == dialect.names:
            if self.chunk.offset or self.header > self._skipped or self._lines or self._bad:
                self.repeated_headers += 1
            else:
                self.header += 1
        elif tuple(cells) in dialect.skipped or (first and tuple(cells) == dialect.class_header != ()):
            self.header += 1
            self._skipped += 1
        elif len(cells) != dialect.fields:
            if cells[0].startswith("#"):
                self.blank += 1
                self.comments += 1
                return
            raise RowError("fields", f"the row has {len(cells)} values, not {dialect.fields}")
        else:
            row = self._pixels(cells)
            label = self._label(cells)
            self._rows.append(row)
            self._labels.append(label)
            self._lines.append(self.chunk.line + index)

    def _pixels(self, cells: list[str]) -> Array:
        """Return (features,) float64: read at once if all are valid, else one by one to find the fault."""
        dialect = self.dialect
        texts = [cells[c] for c in self._columns]
        if not (_NO_DECIMAL if dialect.decimal else _NO_INTEGER).search("".join(texts)):
            try:
                row = np.array(list(map(float, texts)))  # six times as fast as NumPy reads text
            except ValueError:
                row = np.full(1, np.nan)
            inside = dialect.low <= row.min() and row.max() <= dialect.high
            if inside and (dialect.dtype == "float32" or not (row % 1).any()):
                return row
        try:
            return np.array([self._pixel(c, cells[c]) for c in self._columns])
        except RowError as fault:
            if dialect.label is not None and dialect.label < (fault.column or 0):
                self._label(cells)  # a fault of the label comes first in the row
            raise

    def _pixel(self, column: int, text: str) -> float:
        dialect = self.dialect
        value = float(text) if (DECIMAL if dialect.decimal else INTEGER).fullmatch(text) else math.nan
        if dialect.low <= value <= dialect.high and (dialect.dtype == "float32" or value.is_integer()):
            return value
        said = f"is {quoted(text)}"
        if not text:
            reason, said = "empty", "is empty"
        elif not DECIMAL.fullmatch(text):
            reason = "not_a_number"
        elif dialect.low <= float(text) <= dialect.high:
            reason = "not_an_integer"
        else:
            reason = "out_of_range"
        what = f"{dialect.column(column)} {said}, not {dialect.number}"
        raise RowError(reason, what, column=column, value=text)

    def _label(self, cells: Sequence[str]) -> int:
        column = self.dialect.label
        if column is None:
            return -1
        parts = [cells[c] for c in self.dialect.label_columns]
        try:
            return self.label_of(parts)
        except ValueError as fault:
            what = f"the label in {self.dialect.column(column)} {fault}"
            raise RowError("label", what, column=column, value=" ".join(parts)) from None

    def label_of(self, parts: Sequence[str]) -> int:
        """Return the label as an integer: a class index if classes are declared, an index into `words` for a word.

        parts: the values of a one-hot label, one for each column, or the only value of any other label
        Raises ValueError with the fault, as `is "x", not a word`.
        """
        dialect, text = self.dialect, " ".join(parts)
        if dialect.label_kind in ("onehot", "digits"):
            parts = list(text) if dialect.label_kind == "digits" else parts
            values = [TRUTH.get(part.lower(), _number(part)) for part in parts]
            ones, zeros = [i for i, value in enumerate(values) if value == 1], values.count(0)
            if len(ones) == 1 and zeros == len(parts) - 1 == len(dialect.classes) - 1:
                return ones[0]
        elif dialect.text_labels:
            name = canonical(text)
            if name in self._classes:
                return self._classes[name]
            number = DECIMAL.fullmatch(name) and (dialect.label_kind == "word" or not INTEGER.fullmatch(name))
            if not self._classes and not number and is_class_name(name):
                return self.words.setdefault(name, len(self.words))
        elif DECIMAL.fullmatch(text):
            value = float(text)
            if value.is_integer() and 0 <= value <= LARGEST_LABEL:
                if not self._classes:
                    return int(value)
                if str(int(value)) in self._classes:
                    return self._classes[str(int(value))]
        raise ValueError(f"is {quoted(text)}, not {self._wanted_label()}")

    def _wanted_label(self) -> str:
        if self.dialect.label_kind in ("onehot", "digits"):
            return f"one 1 among {len(self.dialect.classes)} digits"
        if self._classes:
            return f"one of the {len(self._classes)} classes {_few(self.dialect.source_labels)}"
        if self.dialect.text_labels:
            return "a word" if self.dialect.label_kind == "word" else "a word or a whole number"
        return f"a class number (0, 1, 2, … {LARGEST_LABEL:,})"

    def merge(self, clean: Block) -> Block:
        """Return the kernel's rows and those parsed here, in the order of their lines, with images upright."""
        dtype = np.dtype(self.dialect.dtype)
        block = Block(clean.pixels.astype(dtype, copy=False), clean.labels, clean.lines)
        if self._rows:
            both = Block(
                np.concatenate([block.pixels, np.array(self._rows).astype(dtype)]),
                np.concatenate([block.labels, np.array(self._labels, dtype=np.int64)]),
                np.concatenate([block.lines, np.array(self._lines, dtype=np.int64)]),
            )
            block = both.take(np.argsort(both.lines)) if len(clean) else both
        if not self.dialect.transposed:
            return block
        height, width = self.dialect.image_shape
        upright = block.pixels.reshape(-1, width, height).swapaxes(1, 2)
        return Block(np.ascontiguousarray(upright).reshape(block.pixels.shape), block.labels, block.lines)


def bad_row(chunk: Chunk, index: int, start: int, text: str, fault: RowError) -> BadRow:
    """Return the record of a fault in line `index` of the chunk, which begins at its byte `start`."""
    return BadRow(
        path=chunk.path,
        line=chunk.line + index,
        file_line=chunk.file_line + index,
        byte_offset=chunk.offset + start,
        column=None if fault.column is None else fault.column + 1,
        reason=fault.reason,
        value=fault.value,
        what=fault.what,
        raw=text,
    )


def _number(text: str) -> float:
    return float(text) if DECIMAL.fullmatch(text) else math.nan


def _few(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{names[0]}, {names[1]}, … {names[-1]}"
