"""Rows in memory: the unit that travels from text to shards and from shards to minibatches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Rows of decoded pixels with their labels and the lines that they came from. `len()` is the number of rows.

    pixels: (rows, features) uint8, uint16 or float32
    labels: (rows,) integer class indices; all -1 if the data has no labels
    lines:  (rows,) int64, the physical line over all sources, counted from 1
    Two blocks are equal only if they are the same object: compare the arrays.
    Raises ValueError if the arrays have different numbers of rows.
    """

    pixels: Array
    labels: Array
    lines: Array

    def __post_init__(self) -> None:
        if not self.pixels.ndim == 2 or not len(self.pixels) == len(self.labels) == len(self.lines):
            raise ValueError(
                f"a block needs pixels (rows, features), labels (rows,) and lines (rows,), not "
                f"{self.pixels.shape}, {self.labels.shape} and {self.lines.shape}"
            )

    def __repr__(self) -> str:
        return f"<Block of {len(self)} rows, {self.pixels.shape[1]} pixels {self.pixels.dtype}>"

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Array | slice) -> Block:
        """Return the rows that an index array, a boolean mask or a slice selects, in its order."""
        return Block(self.pixels[index], self.labels[index], self.lines[index])


def joined(blocks: Sequence[Block]) -> Block:
    """Return the rows of one or more blocks, end to end. A single block is returned as it is."""
    if len(blocks) == 1:
        return blocks[0]
    columns = ([getattr(block, name) for block in blocks] for name in ("pixels", "labels", "lines"))
    return Block(*map(np.concatenate, columns))
