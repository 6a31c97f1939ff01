"""Words of bytes: what machine code has an instruction for, and these functions say in Python.

`build` puts the instructions in their place.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from streamtrain.block import Array


def load8(data: Array, at: int) -> np.uint64:
    """The 8 bytes from data[at] as an integer, the first of them lowest."""
    return np.uint64(int.from_bytes(data[at : at + 8].tobytes(), "little"))


def bytes_in(data: Array, at: int, first: np.uint64, last: np.uint64) -> np.uint64:
    """Which of the 16 bytes from data[at] are in first..last: a bit each, the lowest for the first byte."""
    return np.uint64(sum(1 << i for i, byte in enumerate(data[at : at + 16].tolist()) if first <= byte <= last))


def zeros_below(word: np.uint64) -> np.uint64:
    """How many bits below the lowest set bit; 64 of zero."""
    return np.uint64((int(word) & -int(word)).bit_length() - 1 if word else 64)


def store(pixels: Array, row: int, pixel: int, word: np.unsignedinteger[Any]) -> None:
    """Write the bytes of an integer, the lowest first, to pixels[row, pixel:]."""
    pixels[row, pixel : pixel + word.nbytes] = np.frombuffer(word.tobytes(), dtype=np.uint8)


def prefetch(pixels: Array, row: int, pixel: int) -> None:
    """Have the memory at pixels[row, pixel] fetched, for who will read it soon."""
