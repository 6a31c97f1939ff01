"""Pixels that are all n / d for one integer d, stored as n: a quarter of the disk, and nothing is lost."""

from __future__ import annotations

import numpy as np

from streamtrain.block import Array

LARGEST = 255  # of n and of d
_ROWS = 256  # computed at a time


def numerators(pixels: Array, denominator: int) -> Array | None:
    """Return n of pixels (rows, features) float32 as uint8, or None unless each is the float32 of n / denominator.

    n lies in 0..255. The float32 of a quotient is what IEEE 754 division gives of two float32 integers.

    >>> numerators(np.array([[0, 0.003921569, 1]], np.float32), 255)
    array([[  0,   1, 255]], dtype=uint8)
    """
    found, by = np.empty(pixels.shape, dtype=np.uint8), np.float32(denominator)
    for start in range(0, len(pixels), _ROWS):
        values = pixels[start : start + _ROWS]
        with np.errstate(over="ignore"):
            n = np.rint(values * by)
        if not ((n >= 0) & (n <= LARGEST) & (n / by == values)).all():
            return None
        found[start : start + _ROWS] = n
    return found


def quotients(found: Array, denominator: int) -> Array:
    """Return the float32 pixels that `numerators` was given."""
    return found.astype(np.float32) / np.float32(denominator)


def denominator_of(pixels: Array) -> int:
    """Return the d for which `numerators` finds those of all pixels: 255 if it is one, else the least; 1 if none.

    >>> denominator_of(np.array([[0.5, 0.25]]))
    4
    """
    values = np.unique(pixels.astype(np.float32))[None]
    if values.size > LARGEST + 1:
        return 1
    return next((d for d in (LARGEST, *range(2, LARGEST)) if numerators(values, d) is not None), 1)
