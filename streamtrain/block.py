"""The unit that travels from text to shards and from shards to minibatches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of decoded pixels with their labels and the lines that they came from.

    pixels: (rows, features) uint8, uint16 or float32
    labels: (rows,) integer class indices; -1 throughout where the data has no labels
    lines:  (rows,) int64, the physical line over all sources, counted from 1
    """

    pixels: Array
    labels: Array
    lines: Array

    def __post_init__(self) -> None:
        if not self.pixels.ndim == 2 or not len(self.pixels) == len(self.labels) == len(self.lines):
            raise ValueError(
                f"a block needs as many labels and lines as rows of pixels, not {self.pixels.shape}, "
                f"{self.labels.shape} and {self.lines.shape}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Array | slice) -> Block:
        """The rows that an index array, a boolean mask or a slice selects, in its order."""
        return Block(self.pixels[index], self.labels[index], self.lines[index])


def joined(blocks: Sequence[Block]) -> Block:
    """The rows of blocks, at least one, after each other; of one block, itself."""
    if len(blocks) == 1:
        return blocks[0]
    columns = ([getattr(block, name) for block in blocks] for name in ("pixels", "labels", "lines"))
    return Block(*map(np.concatenate, columns))
