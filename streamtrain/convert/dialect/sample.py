"""The lines of a file's first bytes that decide its dialect, and what their columns hold."""

from __future__ import annotations

import functools
import heapq
import itertools
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xxhash

from streamtrain.block import Array
from streamtrain.convert.text.cells import DECIMAL
from streamtrain.errors import DataError

SAMPLE_BYTES = 8 << 20
_MOST_LINES = 1 << 17  # of the sample: millions of short lines would take a gigabyte
_SAMPLE_ROWS = 250
_FIRST_LINES = 5
_NOT_OF_A_ROW = b" \t\v\f#"  # what a blank line or a comment begins with


class NoRowsError(DataError):
    """A file is empty, or has a header alone."""


@dataclass(frozen=True)
class Line:
    """A line that is neither blank nor a comment, and its number in the file from 1."""

    number: int
    text: str


def sample_lines(sample: bytes, *, whole: bool, path: str) -> tuple[list[Line], list[Line]]:
    """Return the first lines, and lines chosen by their content alone: any order of them gives the same choice.

    A line that the file repeats is not chosen again before all others are: some files hold an image many times.

    sample: decompressed; whole: whether it is all of the file.
    Raises DataError if no line ends in the sample, or if there is none.
    """
    if not whole:
        sample = sample[: sample.rfind(b"\n") + 1]
        if not sample:
            raise DataError(
                f"{path}:1: the line is longer than {SAMPLE_BYTES >> 20} MB, the limit for a row. "
                "Does a newline end each row?"
            )
    if sample.count(b"\n") > _MOST_LINES:
        sample, whole = sample[: -len(sample.split(b"\n", _MOST_LINES)[-1])], False
    lines = enumerate(sample.removeprefix(b"\xef\xbb\xbf").splitlines(), 1)
    kept = [(n, line) for n, line in lines if (line and line[0] not in _NOT_OF_A_ROW) or _is_row(line)]
    if not kept and whole:
        raise NoRowsError(f"{path} has only blank lines and comments. Check the download, or name another file")
    if not kept:
        count = sample.count(b"\n")
        raise DataError(
            f"{path}: the first {count:,} lines are blank or comments, and no more are looked at. "
            "Remove them, then try again"
        )
    ranked = [(0, xxhash.xxh3_64_intdigest(line), line, n) for n, line in kept]
    chosen = heapq.nsmallest(_SAMPLE_ROWS, ranked)
    if len({digest for _, digest, _, _ in chosen}) < len(chosen):
        times: Counter[int] = Counter()  # of each line so far, by its digest
        for i, (_, digest, line, n) in enumerate(ranked):
            ranked[i] = (times[digest], digest, line, n)
            times[digest] += 1
        chosen = heapq.nsmallest(_SAMPLE_ROWS, ranked)
    first, others = (
        [Line(n, line.decode("utf-8", "surrogateescape")) for n, line in some]
        for some in (kept[:_FIRST_LINES], [(n, line) for _, _, line, n in chosen])
    )
    return first, others


def _is_row(line: bytes) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith(b"#")


@dataclass(frozen=True)
class Sample:
    """Rows of equal width: their text, their line numbers, and the columns' names or nothing."""

    path: str
    rows: Sequence[Sequence[str]]
    lines: Sequence[int]
    names: tuple[str, ...] = ()

    @property
    def fields(self) -> int:
        """How many columns there are."""
        return len(self.rows[0])

    @functools.cached_property
    def table(self) -> Array:
        """(rows, fields) float64, NaN for what is not a number."""
        return numbers(self.rows)

    def cells(self, column: int) -> list[str]:
        """Return what the rows hold in a column."""
        return [row[column] for row in self.rows]

    @functools.cached_property
    def facts(self) -> Facts:
        """What each column holds."""
        return Facts.of(self)

    @functools.cached_property
    def odd_names(self) -> frozenset[int]:
        """The columns that are named unlike most, whose names differ in a number alone."""
        stems = [re.sub(r"[0-9]+", "#", name) for name in self.names]
        times = Counter(stems)
        numbered = sum(count for stem, count in times.items() if "#" in stem and count > 1)
        if numbered < 0.8 * len(stems) and (numbered < 4 or numbered < len(stems) - 4):
            return frozenset()
        return frozenset(c for c, stem in enumerate(stems) if times[stem] == 1 or "#" not in stem)

    def title(self, column: int) -> str:
        """Return how messages name a column: its number from 1, and its name if it has one."""
        name = self.names[column][:20] if self.names else ""
        return f"column {column + 1} ({quoted(name)})" if name else f"column {column + 1}"

    def option_value(self, column: int) -> str:
        """Return how `label` and `drop` name a column: its name if that is unambiguous, otherwise its number."""
        name = self.names[column] if self.names else ""
        plain = name.isprintable() and name.isascii() and not set(name) & set(",-'") and len(name) <= 40
        if plain and name and not name.isdecimal() and self.names.count(name) == 1 and name not in RESERVED:
            return shlex.quote(name)
        number = str(column + 1)
        taken = number in self.names and self.names.index(number) != column
        return f"{number}-{number}" if taken else number

    def first_cell(self, column: int, wrong: Sequence[bool]) -> str:
        """Return the place and the text of the first cell of a column that is wrong, for an error."""
        line, row = min((self.lines[i], i) for i in range(len(self.rows)) if wrong[i])
        return f"{self.path}:{line}: {self.title(column)} is {quoted(self.rows[row][column])}"


RESERVED = ("first", "last", "none")


@dataclass(frozen=True)
class Facts:
    """Facts about the columns of a sample, each an array (fields,).

    numeric, empty, whole: the share of cells that are numbers, empty, and whole numbers
    distinct: the share of different values among all
    low, middle, high: the least, the median and the largest number; NaN if a column has none
    """

    numeric: Array
    empty: Array
    whole: Array
    distinct: Array
    low: Array
    middle: Array
    high: Array

    @classmethod
    def of(cls, sample: Sample) -> Facts:
        """Compute the facts of all columns."""
        table, count = sample.table, len(sample.rows)
        known = ~np.isnan(table)
        ordered = np.sort(table, axis=0)  # NaN last
        numeric = known.sum(axis=0)
        changes = (ordered[1:] != ordered[:-1]) & ~np.isnan(ordered[1:])
        distinct = (changes.sum(axis=0) + (numeric > 0)).astype(float)
        for column in np.flatnonzero(numeric < count).tolist():
            distinct[column] = len(set(sample.cells(column)))
        columns = np.arange(sample.fields)
        last = np.maximum(numeric - 1, 0)
        empty = np.zeros(sample.fields)
        for column in np.flatnonzero(numeric < count).tolist():
            empty[column] = sample.cells(column).count("")
        return cls(
            numeric=numeric / count,
            empty=empty / count,
            whole=(np.floor(table) == table).sum(axis=0) / count,
            distinct=distinct / count,
            low=ordered[0],
            middle=ordered[last // 2, columns],
            high=ordered[last, columns],
        )


def numbers(rows: Sequence[Sequence[str]]) -> Array:
    """Return (rows, fields) float64, NaN for what is not a number."""
    distinct = set().union(*rows)
    try:
        value = {cell: float(cell) for cell in distinct}
    except ValueError:
        value = {cell: float(cell) if DECIMAL.fullmatch(cell) else np.nan for cell in distinct}
    cells = map(value.__getitem__, itertools.chain.from_iterable(rows))
    table = np.fromiter(cells, dtype=np.float64).reshape(len(rows), -1)
    table[~np.isfinite(table)] = np.nan
    return table


def median(values: Array) -> float:
    """Return the median of at least one number. NumPy's own imports numpy.ma, which takes 15 ms."""
    ordered = np.sort(values)
    return float(ordered[(len(values) - 1) // 2] + ordered[len(values) // 2]) / 2


def most_common(values: Sequence[int]) -> tuple[int, int]:
    """Return the most frequent number, the largest of several, and how often it occurs."""
    (value, times), *_ = sorted(Counter(values).items(), key=lambda item: (-item[1], -item[0]))
    return value, times


def quoted(text: str) -> str:
    """Return a value for an error: quoted, its control characters escaped, cut after 20 characters."""
    shown = text if len(text) <= 20 else f"{text[:20]}…"
    return f'"{shown}"' if shown.isprintable() else ascii(shown)
