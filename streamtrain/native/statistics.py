"""Exact sums over the pixels of rows, by class and by position."""

from __future__ import annotations

import numpy as np

from streamtrain.block import Array
from streamtrain.native import available, core

_ROWS = 256  # converted to int64 at a time


def add_rows_reference(pixels: Array, group: Array, sums: Array, squares: Array, low: Array, high: Array) -> None:
    """Add pixels (rows, features) uint8 to the sums; update the extremes low and high (features,) uint8.

    group: (rows,) int64, for each row the index in sums (groups, features) int64; squares: (features,) int64
    """
    np.minimum(low, pixels.min(axis=0, initial=255), out=low)
    np.maximum(high, pixels.max(axis=0, initial=0), out=high)
    for start in range(0, len(pixels), _ROWS):
        wide = pixels[start : start + _ROWS].astype(np.int64)
        squares += np.einsum("rf,rf->f", wide, wide)
        for of in set(group[start : start + _ROWS].tolist()):
            sums[of] += wide[group[start : start + _ROWS] == of].sum(axis=0)


add_rows = core.add_rows if available() else add_rows_reference
