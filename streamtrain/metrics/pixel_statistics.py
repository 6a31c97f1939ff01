"""Sums of pixels by position, over all rows and by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypedDict

import numpy as np

from streamtrain.block import Array
from streamtrain.decode import Number

_ROWS_AT_A_TIME = 256  # widened to int64 or float64 at a time


class Pixels(TypedDict):
    """The statistics of every pixel position as JSON values."""

    sum: list[Number]
    sum_of_squares: list[Number]
    min: list[Number]
    max: list[Number]


@dataclass(frozen=True, eq=False)
class PixelStatistics:
    """Sum, sum of squares, minimum and maximum of every pixel position. Add two to get those of both.

    >>> both = PixelStatistics.of(np.array([[1, 2]], np.uint8)) + PixelStatistics.of(np.array([[3, 9]], np.uint8))
    >>> both.to_json()
    {'sum': [4, 11], 'sum_of_squares': [10, 85], 'min': [1, 2], 'max': [3, 9]}

    Each is (features,); the sums are int64 and exact for integer pixels, float64 for float ones.
    """

    sum: Array
    sum_of_squares: Array
    min: Array
    max: Array

    @classmethod
    def of(cls, pixels: Array) -> PixelStatistics:
        """Return the statistics of pixels (rows, features), at least one row."""
        kind = np.float64 if pixels.dtype.kind == "f" else np.int64
        squares = np.zeros(pixels.shape[1], dtype=kind)
        for start in range(0, len(pixels), _ROWS_AT_A_TIME):
            wide = pixels[start : start + _ROWS_AT_A_TIME].astype(kind)
            squares += np.einsum("rf,rf->f", wide, wide)
        return cls(pixels.sum(axis=0, dtype=kind), squares, pixels.min(axis=0), pixels.max(axis=0))

    def __add__(self, other: PixelStatistics) -> PixelStatistics:
        return PixelStatistics(
            self.sum + other.sum,
            self.sum_of_squares + other.sum_of_squares,
            np.minimum(self.min, other.min),
            np.maximum(self.max, other.max),
        )

    def to_json(self) -> Pixels:
        """Return a list of JSON numbers for each, by pixel position."""
        return Pixels(
            sum=self.sum.tolist(),
            sum_of_squares=self.sum_of_squares.tolist(),
            min=self.min.tolist(),
            max=self.max.tolist(),
        )


@dataclass(frozen=True, eq=False)
class ClassSums:
    """For each class name the sums (features,) of its rows' pixels, by position. Add two to get those of both.

    The sums are int64 and exact for integer pixels, float64 for float ones. `sums` becomes None rather than hold
    more than MAX_SUMS numbers.
    """

    sums: Mapping[str, Array] | None

    MAX_SUMS: ClassVar[int] = 1 << 20

    @classmethod
    def of(cls, names: Sequence[str], sums: Array) -> ClassSums:
        """Return the sums (classes, features) by name, one row for each name."""
        return cls(dict(zip(names, sums, strict=True)) if sums.size <= cls.MAX_SUMS else None)

    def __add__(self, other: ClassSums) -> ClassSums:
        if self.sums is None or other.sums is None:
            return ClassSums(None)
        both = dict(self.sums)
        for name, sums in other.sums.items():
            both[name] = both[name] + sums if name in both else sums
        most = max((len(sums) * len(both) for sums in both.values()), default=0)
        return ClassSums(both if most <= self.MAX_SUMS else None)

    def to_json(self, names: Sequence[str]) -> list[list[int | float]] | None:
        """Return lists of JSON numbers by class, in the order of `names`, and pixel position."""
        if not self.sums:
            return None
        nothing = np.zeros_like(next(iter(self.sums.values())))
        return [self.sums.get(name, nothing).tolist() for name in names]


def class_sums(pixels: Array, labels: Array, *, classes: int) -> Array:
    """Return the sums (classes, features) of pixels (rows, features) by class index, from labels (rows,)."""
    sums = np.zeros((classes, pixels.shape[1]), dtype=np.float64 if pixels.dtype.kind == "f" else np.int64)
    order = np.argsort(labels, kind="stable")
    present, starts = np.unique(labels[order], return_index=True)
    for label, rows in zip(present.tolist(), np.split(order, starts[1:]), strict=True):
        sums[label] = pixels[rows].sum(axis=0, dtype=sums.dtype)
    return sums
