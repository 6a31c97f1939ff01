"""Rows as text → pixels: every dialect in C, clean rows of small integers in NumPy.

What C reads, it reads as the careful row parser does; a row that it does not read for certain is refused, and the
careful row parser decides. NumPy reads rows of exactly the expected fields, each of 1 to 3 digits and in range,
between single delimiters, ended by a newline or CR newline.

Every buffer goes on with PADDING newlines that belong to no line, so that a load never leaves it.
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
_SLAB = 1 << 20  # bytes that NumPy works on at a time, at least a line


class Layout(NamedTuple):
    """How rows are written.

    parts:     (parts, 2) int32, from the left: PIXEL, LABEL or DROPPED, and how many columns are that
    flags:     (6,) int64: the delimiter, of spaces any run of them; whether a pixel may have a fraction or
               exponent; the place in LABEL_KINDS; whether a delimiter may follow the last value; the column of
               `guard`, or −1; how many words there are
    limits:    (2,) float64: the least and the greatest pixel
    classes:   (labels,) int32: what becomes of a label that is a number, −1 for one to refuse; of another kind of
               label only how many there are counts
    word_text: (bytes,) uint8, the words that are known, after each other; words that are met are added if
               they begin with a letter or, as text, are whole numbers, and words are not declared
    word_ends: (most words,) int32, where each ends
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
        """Return it with words of its own, to which a parse may add some."""
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
    """Parse the lines of `data`, whose rows are as the seven arrays of a `Layout` say.

    data:   (≥ size + PADDING,) uint8, whole lines
    skip:   this many lines from the start are refused whatever they hold
    pixels: (rows, features) uint8, uint16 or float32, out: the kept rows
    labels: (rows,) int32, out: their labels, −1 if there is none
    lines:  (rows,) int32, out: their lines, from 0
    odd:    (lines, 3) int32, out: line, start and end of what is refused, with its line end
    counts: (4,) int64, out: how many lines are kept rows, blank, and refused, and how many words there are
    """
    text = data[: size + 1]  # with a newline behind a last line that has none
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
    """Return which rows have a label that is a known number, or none; of other kinds of labels no row."""
    if LABEL not in roles:
        return np.ones(len(values), dtype=bool)
    if kind not in ("number", "decimal"):
        return np.zeros(len(values), dtype=bool)
    table = np.append(classes[:1000], -1)
    known: Array = table[np.minimum(values[:, np.argmax(roles == LABEL)], len(table) - 1)] >= 0
    return known


def _clean_rows(text: Array, roles: Array, delimiter: int, limits: Array) -> tuple[Array, Array]:
    """Return which lines of `text` are clean rows, and their values (lines, fields), anything for other lines."""
    returns = text[:-1] == RETURN
    if returns.any():  # those of line ends are left out
        text = text[np.append(~(returns & (text[1:] == NEWLINE)), True)]
    ends = np.flatnonzero(text - np.uint8(48) > 9)  # of values: what is not a digit
    marks, digits = text[ends], np.diff(ends, prepend=-1) - 1
    number = (text[ends - 1] - np.uint8(48)).astype(np.uint16)
    for place, power in ((2, 10), (3, 100)):
        number += np.where(digits >= place, text[ends - place] - np.uint8(48), 0).astype(np.uint16) * np.uint16(
            power
        )
    number[(digits < 1) | (digits > 3)] = 1000
    last = np.flatnonzero(marks == NEWLINE)  # value of each line
    first = np.concatenate([[0], last[:-1] + 1])
    clean = last - first == len(roles) - 1
    values = np.full((len(last), len(roles)), 1000, dtype=np.uint16)
    of_clean = first[clean][:, None] + np.arange(len(roles))
    values[clean] = number[of_clean]
    clean[clean] = (marks[of_clean[:, :-1]] == delimiter).all(axis=1)
    low, high = np.where((roles == PIXEL)[:, None], limits, (0, 999)).T
    return clean & ((values >= low) & (values <= np.minimum(high, 999))).all(axis=1), values


def count_lines_reference(data: Array, size: int) -> int:
    """Return the lines in data[:size], a last one without a line end included."""
    return int(np.count_nonzero(data[:size] == NEWLINE)) + int(size > 0 and data[size - 1] != NEWLINE)


def end_lines_reference(data: Array, start: int, stop: int) -> None:
    """Make newlines of the carriage returns in data[start:stop] that none follows."""
    text = data[start:stop]
    text[(text == RETURN) & (np.append(text[1:], 0) != NEWLINE)] = NEWLINE


parse = core.parse if available() else parse_reference
count_lines = core.count_lines if available() else count_lines_reference
end_lines = core.end_lines if available() else end_lines_reference
