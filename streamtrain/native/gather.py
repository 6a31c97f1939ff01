"""Gather, cast and scale rows in one pass; NumPy needs three."""

from __future__ import annotations

import numpy as np

from streamtrain.block import Array
from streamtrain.native import available, core


def gather_scaled_reference(pixels: Array, order: Array, low: float, span: float, at: int, out: Array) -> None:
    """Write (rows − low) / span to out (rows, features) float32, with the rows pixels[order[at:]].

    pixels: (any, features) uint8; order: (any,) int64, row indices; low and span are rounded to float32
    """
    rows = pixels[order[at : at + len(out)]].astype(np.float32)
    np.divide(rows - np.float32(low), np.float32(span), out=out)


gather_scaled = core.gather_scaled if available() else gather_scaled_reference
