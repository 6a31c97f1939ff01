"""The byte kernel: clean rows of small integers → pixels, several hundred megabytes a second.

It takes rows of exactly the expected fields, each 1 to 3 digits and in range, between single delimiters,
ended by a newline or CR newline. Whatever else a row is, the kernel refuses it and the careful path decides.
"""

from __future__ import annotations

import numba
import numpy as np

from streamtrain.block import Array

KEPT, BLANK, REFUSED = 0, 1, 2
_ZERO, _NEWLINE, _RETURN = 48, 10, 13


@numba.njit(cache=True, nogil=True, boundscheck=False)
def parse(
    data: Array,
    delimiter: int,
    fields: int,
    label: int,
    limit: int,
    pixels: Array,
    labels: Array,
    starts: Array,
) -> int:
    """Parse the lines of `data`; returns the number of kept rows, or −1 where the outputs are too short.

    data:   (bytes,) uint8, whole lines
    label:  the label's column from 0, or −1
    limit:  the largest pixel
    pixels: (rows, features) uint8, out: the kept rows
    labels: (rows,) int64, out: their labels, −1 where there is none
    starts: (lines + 1, 2) int64, out: where each line begins and what became of it; one more row ends it
    """
    size = data.size
    kept = 0
    line = 0
    at = 0
    while at < size:
        start = at
        starts[line, 0] = start
        column = 0
        pixel = 0
        fine = kept < pixels.shape[0]
        value_label = -1
        status = REFUSED
        while fine:
            value = 0
            digits = 0
            while at < size and digits < 4:
                digit = data[at] - _ZERO
                if digit < 0 or digit > 9:
                    break
                value = value * 10 + digit
                digits += 1
                at += 1
            if digits == 0 or digits == 4:
                break
            if column == label:
                value_label = value
            elif value > limit or pixel >= pixels.shape[1]:
                break
            else:
                pixels[kept, pixel] = value
                pixel += 1
            column += 1
            if at < size and data[at] == delimiter:
                at += 1
                continue
            ended = at == size or data[at] == _NEWLINE
            if not ended and data[at] == _RETURN and (at + 1 == size or data[at + 1] == _NEWLINE):
                at += 1
                ended = True
            if ended and column == fields:
                status = KEPT
            break
        if status == KEPT:
            labels[kept] = value_label
            kept += 1
            at += 1
        else:
            at = start
            while at < size and data[at] != _NEWLINE:
                at += 1
            if at == start or (at == start + 1 and data[start] == _RETURN):
                status = BLANK
            at += 1
        starts[line, 1] = status
        line += 1
    starts[line, 0] = size
    starts[line, 1] = BLANK
    return kept


def outputs(data: bytes, *, fields: int, features: int, lines: int) -> tuple[Array, Array, Array]:
    """Arrays that hold whatever `parse` finds in `data`: a kept row takes two bytes a field at least."""
    rows = min(lines, (len(data) + 1) // (2 * fields))
    return (
        np.empty((rows, features), dtype=np.uint8),
        np.empty(rows, dtype=np.int64),
        np.empty((lines + 1, 2), dtype=np.int64),
    )
