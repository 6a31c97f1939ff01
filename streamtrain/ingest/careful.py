"""The careful path: a line that the kernel refuses, split by the csv module and read value by value."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamtrain.block import Block
from streamtrain.ingest.chunks import Chunk
from streamtrain.ingest.dialect import Dialect

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")

LARGEST_LABEL = 65_535


@dataclass(frozen=True)
class BadRow:
    """A row that is not what the dialect says: where it stands, why, and what it holds.

    line:   over all sources, from 1; file_line: in its file, from 1
    column: of the value at fault, from 1; None where the row as a whole is
    reason: fields, empty, not_a_number, not_an_integer, out_of_range, label, quote
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
        where = f"{self.path}:{self.file_line}: {self.what}"
        return f"{where}. Keep going without such rows: --on-bad-row reject"


class _RowError(Exception):
    """What is wrong with a row: reason, column from 0 or None, value, and the fault in words."""

    def __init__(self, reason: str, what: str, *, column: int | None = None, value: str = "") -> None:
        super().__init__(reason)
        self.reason, self.what, self.column, self.value = reason, what, column, value


class Careful:
    """The careful path over one chunk: takes lines one by one, collects rows and faults."""

    def __init__(self, chunk: Chunk, dialect: Dialect) -> None:
        self.chunk, self.dialect = chunk, dialect
        self.header = self.blank = self.comments = self.repeated_headers = 0
        self.bad: list[BadRow] = []
        self.words: dict[str, int] = {}
        self._classes = {name: index for index, name in enumerate(dialect.classes)}
        self._rows: list[list[float]] = []
        self._labels: list[int] = []
        self._lines: list[int] = []

    def take(self, index: int, start: int, stop: int) -> None:
        """Account for the chunk's line `index`, its bytes [start, stop)."""
        text = self.chunk.text(start, stop).decode("utf-8", "replace").rstrip("\r\n")
        if start == 0 and self.chunk.offset == 0:
            text = text.removeprefix("\ufeff")
        if self.dialect.header and self.chunk.file_line + index == 1:
            self.header += 1
        elif not text.strip():
            self.blank += 1
        elif text.lstrip().startswith("#"):
            self.blank += 1
            self.comments += 1
        else:
            self._take_row(index, start, text)

    def _take_row(self, index: int, start: int, text: str) -> None:
        try:
            cells = self._split(text)
            if self.dialect.names and tuple(cells) == self.dialect.names:
                self.repeated_headers += 1
                return
            if len(cells) != self.dialect.fields:
                raise _RowError("fields", f"the row has {len(cells)} values, not {self.dialect.fields}")
            row = [self._pixel(int(c), cells[c]) for c in self.dialect.pixel_columns]
            label = -1 if self.dialect.label is None else self._label(self.dialect.label, cells)
        except _RowError as fault:
            self._reject(index, start, text, fault)
            return
        self._rows.append(row)
        self._labels.append(label)
        self._lines.append(self.chunk.line + index)

    def _split(self, text: str) -> list[str]:
        delimiter = self.dialect.delimiter
        if '"' not in text:
            return [cell.strip() for cell in (text.split() if delimiter == " " else text.split(delimiter))]
        try:
            (cells,) = csv.reader([text], delimiter=delimiter, strict=True, skipinitialspace=True)
        except (csv.Error, ValueError) as error:
            raise _RowError("quote", f"a quote is left open or stands inside a value ({error})") from error
        return [cell.strip() for cell in cells]

    def _pixel(self, column: int, text: str) -> float:
        dialect = self.dialect
        pattern = _DECIMAL if dialect.decimal else _INTEGER
        value = float(text) if pattern.fullmatch(text) else math.nan
        if dialect.low <= value <= dialect.high and (dialect.dtype == "float32" or value.is_integer()):
            return value
        if not text:
            reason, said = "empty", "is empty"
        elif not _DECIMAL.fullmatch(text):
            reason, said = "not_a_number", f"is {_shown(text)}"
        elif dialect.low <= float(text) <= dialect.high:
            reason, said = "not_an_integer", f"is {_shown(text)}"
        else:
            reason, said = "out_of_range", f"is {_shown(text)}"
        what = f"{dialect.column(column)} {said}, not {dialect.number}"
        raise _RowError(reason, what, column=column, value=text)

    def _label(self, column: int, cells: Sequence[str]) -> int:
        text, dialect = cells[column], self.dialect
        if dialect.text_labels:
            if text and not _DECIMAL.fullmatch(text) and (not self._classes or text in self._classes):
                return self._classes[text] if self._classes else self.words.setdefault(text, len(self.words))
        else:
            pattern = _DECIMAL if dialect.decimal else _INTEGER
            value = float(text) if pattern.fullmatch(text) else math.nan
            if value.is_integer() and 0 <= value <= LARGEST_LABEL:
                if not self._classes:
                    return int(value)
                if str(int(value)) in self._classes:
                    return self._classes[str(int(value))]
        raise self._label_fault(column, text)

    def _label_fault(self, column: int, text: str) -> _RowError:
        if self._classes:
            wanted = f"one of the {len(self._classes)} classes {_few(self.dialect.classes)}"
        else:
            wanted = "a word" if self.dialect.text_labels else "a class number (0, 1, 2, …)"
        what = f"the label in {self.dialect.column(column)} is {_shown(text)}, not {wanted}"
        return _RowError("label", what, column=column, value=text)

    def merged(self, clean: Block) -> Block:
        """The kernel's rows and those of the careful path, in the order of their lines."""
        dtype = np.dtype(self.dialect.dtype)
        if not self._rows:
            return (
                clean
                if clean.pixels.dtype == dtype
                else Block(clean.pixels.astype(dtype), clean.labels, clean.lines)
            )
        pixels = np.array(self._rows, dtype=np.float64).astype(dtype)
        both = Block(
            np.concatenate([clean.pixels.astype(dtype, copy=False), pixels]),
            np.concatenate([clean.labels, np.array(self._labels, dtype=np.int64)]),
            np.concatenate([clean.lines, np.array(self._lines, dtype=np.int64)]),
        )
        return both.take(np.argsort(both.lines)) if len(clean) else both

    def _reject(self, index: int, start: int, text: str, fault: _RowError) -> None:
        self.bad.append(
            BadRow(
                path=self.chunk.path,
                line=self.chunk.line + index,
                file_line=self.chunk.file_line + index,
                byte_offset=self.chunk.offset + start,
                column=None if fault.column is None else fault.column + 1,
                reason=fault.reason,
                value=fault.value,
                what=fault.what,
                raw=text,
            )
        )


def _shown(text: str) -> str:
    """A value for an error: quoted, its control characters escaped, cut after 20 characters."""
    shown = text if len(text) <= 20 else f"{text[:20]}…"
    return f'"{shown}"' if shown.isprintable() else ascii(shown)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{names[0]}, {names[1]}, … {names[-1]}"
