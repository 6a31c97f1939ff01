"""The largest pixel of all rows, and the row that reaches it if there is only one."""

from __future__ import annotations

import math
from dataclasses import dataclass

from streamtrain.block import Array, Block


@dataclass(frozen=True)
class RowMaximum:
    """The row with the largest pixel, and the largest pixel of all other rows. Add two to get that of both.

    >>> RowMaximum(9, 4, 7) + RowMaximum(8, 6, 1)
    RowMaximum(value=9, line=4, others=8)
    """

    value: float
    line: int
    others: float = -math.inf

    @classmethod
    def of(cls, maxima: Array, lines: Array) -> RowMaximum:
        """Return that of rows whose largest pixels are `maxima` (rows,), at least one, in `lines` (rows,)."""
        row = int(maxima.argmax())
        others = max(maxima[:row].max(initial=-math.inf), maxima[row + 1 :].max(initial=-math.inf))
        return cls(maxima[row].item(), int(lines[row]), float(others))

    def __add__(self, other: RowMaximum) -> RowMaximum:
        high, low = (self, other) if self.value >= other.value else (other, self)
        return RowMaximum(high.value, high.line, max(high.others, low.value))


def row_extremes(block: Block) -> tuple[RowMaximum, RowMaximum]:
    """Return the rows of a block with the largest pixel and with the smallest, the latter's values negated."""
    lowest = -block.pixels.min(axis=1).astype(float)
    return RowMaximum.of(block.pixels.max(axis=1).astype(float), block.lines), RowMaximum.of(lowest, block.lines)


def lonely_row(highest: RowMaximum, lowest: RowMaximum) -> tuple[int, float, tuple[float, float]] | None:
    """Return a row that alone widens the range of the pixels: its line, its value, and the range of the others.

    One value that is a little larger than all others is not worth a word: at least 5 % of the range are.
    """
    high, low = highest.value, min(0.0, -lowest.value)
    least = (high - low) / 20
    if math.isfinite(highest.others) and high - highest.others > least:
        return highest.line, high, (low, highest.others)
    if -lowest.value < 0 and math.isfinite(lowest.others) and lowest.value - max(lowest.others, 0.0) > least:
        return lowest.line, -lowest.value, (min(0.0, -lowest.others), high)
    return None
