"""Rows gathered, cast and scaled in one pass: what NumPy takes three for."""

from __future__ import annotations

import numpy as np

from streamtrain.block import Array
from streamtrain.compiled import Compiled
from streamtrain.compiled.words import prefetch

_AHEAD = 2  # rows
_LINE = 64  # bytes that come from memory together


def _gather_scaled(pixels: Array, order: Array, low: np.float32, span: np.float32, at: int, out: Array) -> None:
    """Write (rows − low) / span to out (rows, features) float32: of pixels, the rows from order[at] on.

    pixels: (any, features) uint8; order: (any,) int64, each a row of them, which is not checked
    """
    rows, features = out.shape
    last = len(order) - 1
    for i in range(at, at + rows):
        coming = order[min(i + _AHEAD, last)]  # at random, so the processor cannot guess it: half the time
        for j in range(0, features, _LINE):
            prefetch(pixels, coming, j)
        row = order[i]
        for j in range(features):
            out[i - at, j] = (np.float32(pixels[row, j]) - low) / span


gather_scaled = Compiled(
    _gather_scaled,
    ("uint8[:, :]", "int64[:]", "float32", "float32", "int64", "float32[:, :]"),
    apart=True,
)
