"""Rows gathered, cast and scaled in one pass: what NumPy takes three for."""

from __future__ import annotations

import numpy as np

from streamtrain.block import Array
from streamtrain.native import Compiled
from streamtrain.native.intrinsics import prefetch

_AHEAD = 3  # rows
_LINE = 64  # bytes that come from memory together


def _gather_scaled(pixels: Array, order: Array, low: np.float32, span: np.float32, at: int, out: Array) -> None:
    """Write (rows − low) / span to out (rows, features) float32: of pixels, the rows from order[at] on.

    pixels: (any, features) uint8; order: (any,) int64, each a row of them, which is not checked
    """
    rows, features = out.shape
    last, whole = len(order) - 1, features - features % _LINE
    for i in range(rows):
        row = order[at + i]
        coming = order[min(at + i + _AHEAD, last)]  # at random, so the processor cannot guess it: half the time
        for line in range(0, whole, _LINE):  # one asked for while one is divided: all at once take a fifth longer
            prefetch(pixels, coming, line)
            for j in range(line, line + _LINE):
                out[i, j] = (np.float32(pixels[row, j]) - low) / span
        prefetch(pixels, coming, features - 1)
        for j in range(whole, features):
            out[i, j] = (np.float32(pixels[row, j]) - low) / span


gather_scaled = Compiled(
    _gather_scaled,
    ("uint8[:, :]", "int64[:]", "float32", "float32", "int64", "float32[:, :]"),
    apart=True,
)
