"""The byte kernel: clean rows of small integers → pixels, one to two gigabytes a second.

It takes rows of exactly the expected fields, each 1 to 3 digits and in range, between single delimiters, ended by
a newline or CR newline. Whatever else a row is, the kernel refuses it and the careful path decides.

Four zeros, as in most of a digit's picture, are one load and one store. Else 16 bytes are looked at at once: they
hold four whole values at least, whose ends are the bytes that are no digits, and no branch asks how long each is.

Every buffer goes on with PADDING newlines that belong to no line, so that a load never leaves it.
"""

from __future__ import annotations

import numpy as np

from streamtrain.block import Array
from streamtrain.native import Compiled
from streamtrain.native.intrinsics import bytes_in, load8, store, zeros_below

PADDING = 32
NEWLINE, RETURN = 10, 13
LABELS = 1000  # numbers of up to three digits

_ONE, _TWO, _THREE, _EIGHT, _SIXTY_FOUR = (np.uint64(n) for n in (1, 2, 3, 8, 64))
_ZERO, _NINE, _BYTE, _SIXTEEN_BITS = (np.uint64(n) for n in (48, 57, 0xFF, 0xFFFF))
_DIGITS = np.uint64(0x3030303030303030)
_FOUR_ZEROS, _FOUR_DELIMITERS = np.uint64(0x0030003000300030), np.uint64(0x0100010001000100)


def _number(data: Array, at: int, digits: np.uint64) -> np.uint64:
    """The number in data[at : at + digits], 1 to 3 of them."""
    top = (load8(data, at) ^ _DIGITS) << (_SIXTY_FOUR - digits * _EIGHT)  # its last digit is the highest byte now
    ones, tens, hundreds = top >> np.uint64(56), top >> np.uint64(48) & _BYTE, top >> np.uint64(40) & _BYTE
    return ones + np.uint64(10) * tens + np.uint64(100) * hundreds


def _four(
    data: Array, at: int, delimiter: np.uint64, limit: np.uint64, pixels: Array, row: int, pixel: int
) -> int:
    """Read four values, each before a delimiter, into pixels[row, pixel:]; returns the place after, or −1."""
    marks = bytes_in(data, at, _ZERO, _NINE) ^ _SIXTEEN_BITS  # of the bytes that are no digits
    marks_2 = marks & (marks - _ONE)  # from the second on
    marks_3 = marks_2 & (marks_2 - _ONE)
    marks_4 = marks_3 & (marks_3 - _ONE)
    reached = marks_4 ^ (marks_4 - _ONE)  # the bits up to the fourth; all of them where there is none
    digits = ~marks
    faults = marks ^ bytes_in(data, at, delimiter, delimiter)
    faults |= marks & (marks << _ONE | _ONE)  # a value of no digit
    faults |= digits & digits >> _ONE & digits >> _TWO & digits >> _THREE  # or of four
    if faults & reached:
        return -1
    end, end_2, end_3, end_4 = zeros_below(marks), zeros_below(marks_2), zeros_below(marks_3), zeros_below(marks_4)
    value = _number(data, at, end)
    value_2 = _number(data, at + int(end) + 1, end_2 - end - _ONE)
    value_3 = _number(data, at + int(end_2) + 1, end_3 - end_2 - _ONE)
    value_4 = _number(data, at + int(end_3) + 1, end_4 - end_3 - _ONE)
    if max(max(value, value_2), max(value_3, value_4)) > limit:
        return -1
    four = value | value_2 << np.uint64(8) | value_3 << np.uint64(16) | value_4 << np.uint64(24)
    store(pixels, row, pixel, np.uint32(four))
    return at + int(end_4) + 1


def _digits(data: Array, at: int) -> tuple[int, int]:
    """The number of up to three digits at data[at:], −1 where there is none, and the place after it."""
    number, start = 0, at
    while at < start + 3 and 48 <= data[at] <= 57:
        number = number * 10 + int(data[at]) - 48
        at += 1
    return number if at > start else -1, at


def _values(
    data: Array, at: int, count: int, delimiter: np.uint64, limit: np.uint64, pixels: Array, row: int, first: int
) -> int:
    """Read `count` values, each before a delimiter, into pixels[row, first:]; returns the place after, or −1."""
    four_zeros = _FOUR_ZEROS | _FOUR_DELIMITERS * delimiter
    pixel, stop = first, first + count
    while pixel + 4 <= stop:
        if load8(data, at) == four_zeros:
            store(pixels, row, pixel, np.uint32(0))
            at += 8
        else:
            at = _four(data, at, delimiter, limit, pixels, row, pixel)
            if at < 0:
                return -1
        pixel += 4
    while pixel < stop:
        number, at = _digits(data, at)
        if number < 0 or np.uint64(number) > limit or data[at] != delimiter:
            return -1
        pixels[row, pixel] = number
        pixel += 1
        at += 1
    return at


def _line_end(data: Array, at: int, size: int) -> int:
    """The place after the line end at `at`, or −1 where there is none; the text's end is one."""
    if at < size and data[at] == RETURN:
        at += 1
    return at + 1 if at >= size or data[at] == NEWLINE else -1


def _row(
    data: Array,
    at: int,
    size: int,
    delimiter: np.uint64,
    fields: int,
    label: int,
    limit: np.uint64,
    classes: Array,
    pixels: Array,
    labels: Array,
    row: int,
) -> int:
    """Read a row into pixels[row] and labels[row]; returns the place of the next line, or −1."""
    last = fields - 1
    before = last if label < 0 or label == last else label
    at = _values(data, at, before, delimiter, limit, pixels, row, 0)
    if at < 0:
        return -1
    if before == label:
        number, at = _digits(data, at)
        if number < 0 or classes[number] < 0:
            return -1
        labels[row] = classes[number]
        if label == last:
            return _line_end(data, at, size)
        if data[at] != delimiter:
            return -1
        at = _values(data, at + 1, last - label - 1, delimiter, limit, pixels, row, label)
        if at < 0:
            return -1
    else:
        labels[row] = -1
    number, at = _digits(data, at)
    if number < 0 or np.uint64(number) > limit:
        return -1
    pixels[row, pixels.shape[1] - 1] = number
    return _line_end(data, at, size)


def _parse(
    data: Array,
    size: int,
    delimiter: int,
    fields: int,
    label: int,
    limit: int,
    classes: Array,
    skip: int,
    pixels: Array,
    labels: Array,
    lines: Array,
    odd: Array,
    counts: Array,
) -> None:
    """Parse the lines of `data`.

    data:    (≥ size + PADDING,) uint8, whole lines
    label:   the label's column from 0, or −1
    limit:   the largest pixel; where it is negative no row is kept
    classes: (LABELS,) int32: what becomes of a label, or −1 for one to refuse
    skip:    this many lines from the start are refused whatever they hold
    pixels:  (rows, features) uint8, out: the kept rows
    labels:  (rows,) int32, out: their labels, −1 where there is none
    lines:   (rows,) int32, out: their lines, from 0
    odd:     (lines, 3) int32, out: line, start and end of what is refused, with its line end
    counts:  (3,) int64, out: how many lines are kept rows, blank, and refused
    """
    kept = blank = refused = line = at = 0
    while at < size:
        after = _line_end(data, at, size)
        if after >= 0:
            blank += 1
        else:
            if line >= skip and kept < pixels.shape[0]:
                after = _row(
                    data,
                    at,
                    size,
                    np.uint64(delimiter),
                    fields,
                    label,
                    np.uint64(limit),
                    classes,
                    pixels,
                    labels,
                    kept,
                )
            if after >= 0:
                lines[kept] = line
                kept += 1
            else:
                after = at
                while after < size and data[after] != NEWLINE:
                    after += 1
                after += 1
                odd[refused, 0] = line
                odd[refused, 1] = at
                odd[refused, 2] = min(after, size)
                refused += 1
        line += 1
        at = after
    counts[0], counts[1], counts[2] = kept, blank, refused


def _count_lines(data: Array, size: int) -> int:
    """Lines in data[:size], a last one without a line end included."""
    lines = 0
    for at in range(size):
        lines += data[at] == NEWLINE
    return lines + (size > 0 and data[size - 1] != NEWLINE)


def _end_lines(data: Array, start: int, stop: int) -> None:
    """Make newlines of the carriage returns in data[start:stop] that none follows."""
    for at in range(start, stop):
        if data[at] == RETURN and (at + 1 == stop or data[at + 1] != NEWLINE):
            data[at] = NEWLINE


_NUMBER, _BYTES = "int64", "uint8[:]"
parse = Compiled(
    _parse,
    (
        *(_BYTES, _NUMBER, _NUMBER, _NUMBER, _NUMBER, _NUMBER, "int32[:]", _NUMBER),
        *("uint8[:, :]", "int32[:]", "int32[:]", "int32[:, :]", "int64[:]"),
    ),
)
count_lines = Compiled(_count_lines, (_BYTES, _NUMBER), "int64")
end_lines = Compiled(_end_lines, (_BYTES, _NUMBER, _NUMBER))
