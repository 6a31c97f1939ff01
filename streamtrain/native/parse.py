"""Rows as text → pixels: every dialect in C, clean rows of small integers in NumPy.

The loop in C gives the same values as the careful row parser. It refuses every row that it is not sure of, and the
careful row parser decides. NumPy reads rows that have exactly the expected fields, each of 1 to 3 digits and in
range, with single delimiters between them and a newline or CR newline at the end.

Every buffer ends with PADDING newlines that belong to no line, so that the last load stays inside it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from streamtrain.block import Array
from streamtrain.native import available, core

PADDING = 32
NEWLINE, RETURN = 10, 13
PIXEL, LABEL, DROPPED = 0, 1, 2
LABEL_KINDS = ("number", "decimal", "word", "text", "declared word", "onehot", "digits")
MOST_WORDS, WORD_BYTES = 4096, 1 << 16
_SLAB = 1 << 20  # bytes that NumPy processes at a time, rounded up to a whole line


class Layout(NamedTuple):
    """How rows are written.

    parts:     (parts, 2) int32, from the left: PIXEL, LABEL or DROPPED, and the number of such columns
    flags:     (6,) int64: the delimiter (a space stands for any number of them); whether a pixel may have a
               fraction or exponent; the index in LABEL_KINDS; whether a delimiter may follow the last value; the
               column of `guard`, or −1; the number of known words
    limits:    (2,) float64: the least and the greatest pixel
    classes:   (labels,) int32: the class index of each label that is a number, −1 to refuse it; for other kinds of
               label only its length is used
    word_text: (bytes,) uint8, the known words, one after another. Unless the words are declared, new ones are
               added if they begin with a letter or, for kind "text", are whole numbers
    word_ends: (MOST_WORDS,) int32, the end of each word in word_text
    guard:     (bytes,) uint8: a row with this text in its column is refused, since it may be the header
    """

    parts: Array
    flags: Array
    limits: Array
    classes: Array
    word_text: Array
    word_ends: Array
    guard: Array

    def fresh(self) -> Layout:
        """Return a copy with its own arrays of words, to which a parse may add new ones."""
        return self._replace(word_text=self.word_text.copy(), word_ends=self.word_ends.copy())


def parse_reference(
    data: Array,
    size: int,
    parts: Array,
    flags: Array,
    limits: Array,
    classes: Array,
    word_text: Array,
    word_ends: Array,
    guard: Array,
    skip: int,
    pixels: Array,
    labels: Array,
    lines: Array,
    odd: Array,
    counts: Array,
) -> None:
    """Parse the lines of `data`; the seven arrays from `parts` to `guard` are those of a `Layout`.

    data:   (≥ size + PADDING,) uint8, whole lines
    skip:   the number of lines at the start that are refused whatever they hold
    pixels: (rows, features) uint8, uint16 or float32, out: the kept rows
    labels: (rows,) int32, out: their labels, −1 if there is none
    lines:  (rows,) int32, out: their lines, from 0
    odd:    (lines, 3) int32, out: line, start and end of each refused line, its line break included
    counts: (4,) int64, out: the numbers of kept rows, blank lines, refused lines, and known words
    """
    text = data[: size + 1]  # includes a padding newline, which ends a last line without one
    stops = np.flatnonzero(text == NEWLINE) + 1
    if not size or data[size - 1] == NEWLINE:
        stops = stops[:-1]
    starts = np.append(0, stops)[:-1]
    roles = np.repeat(parts[:, 0], parts[:, 1])
    kept = blank = refused = first = 0
    while first < len(stops):
        last = max(first + 1, int(np.searchsorted(stops, starts[first] + _SLAB)))
        begin, end = int(starts[first]), int(stops[last - 1])
        is_row, values = _clean_rows(text[begin:end], roles, int(flags[0]), limits)
        is_row &= _known_labels(values, roles, LABEL_KINDS[flags[2]], classes)
        is_blank = _blank_lines(text, starts[first:last], stops[first:last])
        is_row &= ~is_blank & (np.arange(first, last) >= skip)
        places = np.flatnonzero(is_row)[: len(pixels) - kept]
        stop = kept + len(places)
        if len(places):
            pixels[kept:stop] = values[places][:, roles == PIXEL]
            labels[kept:stop] = classes[values[places, np.argmax(roles == LABEL)]] if LABEL in roles else -1
            lines[kept:stop] = places + first
        is_blank[places] = True
        left = np.flatnonzero(~is_blank)
        rest = np.stack(
            [left + first, starts[first:last][left], np.minimum(stops[first:last][left], size)], axis=1
        )
        odd[refused : refused + len(left)] = rest
        blank += last - first - len(left) - len(places)
        kept, refused, first = stop, refused + len(left), last
    counts[:] = kept, blank, refused, flags[5]


def _blank_lines(text: Array, starts: Array, stops: Array) -> Array:
    """Return which lines hold nothing, or a lone carriage return."""
    lengths = stops - starts
    blank: Array = (lengths == 1) | ((lengths == 2) & (text[starts] == RETURN))
    return blank


def _known_labels(values: Array, roles: Array, kind: str, classes: Array) -> Array:
    """Return which rows have a known number as label; all rows if there is no label, none for other kinds."""
    if LABEL not in roles:
        return np.ones(len(values), dtype=bool)
    if kind not in ("number", "decimal"):
        return np.zeros(len(values), dtype=bool)
    table = np.append(classes[:1000], -1)
    known: Array = table[np.minimum(values[:, np.argmax(roles == LABEL)], len(table) - 1)] >= 0
    return known


def _clean_rows(text: Array, roles: Array, delimiter: int, limits: Array) -> tuple[Array, Array]:
    """Return which lines of `text` are clean rows, and the values (lines, fields), arbitrary for other lines."""
    returns = text[:-1] == RETURN
    if returns.any():  # leave out the carriage returns that end a line
        text = text[np.append(~(returns & (text[1:] == NEWLINE)), True)]
    ends = np.flatnonzero(text - np.uint8(48) > 9)  # the byte after each value, which is not a digit
    marks, digits = text[ends], np.diff(ends, prepend=-1) - 1
    number = (text[ends - 1] - np.uint8(48)).astype(np.uint16)
    for place, power in ((2, 10), (3, 100)):
        number += np.where(digits >= place, text[ends - place] - np.uint8(48), 0).astype(np.uint16) * np.uint16(
            power
        )
    number[(digits < 1) | (digits > 3)] = 1000
    last = np.flatnonzero(marks == NEWLINE)  # index of the last value of each line
    first = np.concatenate([[0], last[:-1] + 1])
    clean = last - first == len(roles) - 1
    values = np.full((len(last), len(roles)), 1000, dtype=np.uint16)
    of_clean = first[clean][:, None] + np.arange(len(roles))
    values[clean] = number[of_clean]
    clean[clean] = (marks[of_clean[:, :-1]] == delimiter).all(axis=1)
    low, high = np.where((roles == PIXEL)[:, None], limits, (0, 999)).T
    return clean & ((values >= low) & (values <= np.minimum(high, 999))).all(axis=1), values


def count_lines_reference(data: Array, size: int) -> int:
    """Return the number of lines in data[:size]; a last line without a line break counts."""
    return int(np.count_nonzero(data[:size] == NEWLINE)) + int(size > 0 and data[size - 1] != NEWLINE)


def end_lines_reference(data: Array, start: int, stop: int) -> None:
    """Replace each carriage return in data[start:stop] that no newline follows by a newline."""
    text = data[start:stop]
    text[(text == RETURN) & (np.append(text[1:], 0) != NEWLINE)] = NEWLINE


parse = core.parse if available() else parse_reference
count_lines = core.count_lines if available() else count_lines_reference
end_lines = core.end_lines if available() else end_lines_reference
