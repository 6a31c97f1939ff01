"""How often each class was predicted for each other one: counts of the pairs that occur."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from streamtrain.block import Array

MATRIX_CLASSES = 100  # up to which a matrix of all pairs is shown to people

Piece = tuple[Array, Array]  # codes of pairs (pairs,) ascending, and the rows of each (pairs,), both int64


@dataclass(frozen=True, eq=False)
class Confusion:
    """The rows of each pair (true class, predicted class). Add two to get those of both.

    >>> one = Confusion.of(np.array([0, 0, 1]), np.array([0, 2, 1]), classes=3)
    >>> (one + one).matrix()
    array([[2, 0, 2],
           [0, 2, 0],
           [0, 0, 0]])
    >>> (one + one).worst(10)
    [(0, 2, 2)]

    A matrix of all pairs would take gigabytes with thousands of classes; at most as many pairs occur as there are
    rows.

    pieces: parts of the sum. Two are merged when they are of about one size, so that a sum of many is not sorted
            again for each
    """

    classes: int
    pieces: tuple[Piece, ...] = ()

    @classmethod
    def of(cls, labels: Array, predicted: Array, *, classes: int) -> Confusion:
        """Count rows with these true and predicted class indices (rows,)."""
        return cls.of_codes(labels * classes + predicted, classes=classes)

    @classmethod
    def of_codes(cls, codes: Array, *, classes: int) -> Confusion:
        """Count rows by true · classes + predicted, (rows,) int64."""
        return cls(classes, (np.unique(codes, return_counts=True),))

    @classmethod
    def of_matrix(cls, matrix: Array) -> Confusion:
        """Return the counts that a matrix (classes, classes) holds, the true class down."""
        codes = np.flatnonzero(matrix)
        return cls(len(matrix), ((codes, np.asarray(matrix).ravel()[codes].astype(np.int64)),))

    def __add__(self, other: Confusion) -> Confusion:
        pieces = [*self.pieces, *other.pieces]
        while len(pieces) > 1 and len(pieces[-2][0]) <= 2 * len(pieces[-1][0]):
            pieces[-2:] = [_merged(pieces[-2:])]
        return Confusion(self.classes, tuple(pieces))

    @property
    def rows(self) -> int:
        """How many rows were counted."""
        return int(sum(rows.sum() for _, rows in self.pieces))

    @cached_property
    def pairs(self) -> tuple[Array, Array, Array]:
        """The true class, the predicted class and the rows of each pair that occurs, (pairs,) int64 each."""
        codes, rows = _merged(self.pieces)
        return codes // self.classes, codes % self.classes, rows

    @property
    def right(self) -> Array:
        """(classes,) int64, the rows of each class that were predicted as it."""
        true, predicted, rows = self.pairs
        return self._by_class(true[true == predicted], rows[true == predicted])

    @property
    def support(self) -> Array:
        """(classes,) int64, the rows of each true class."""
        true, _, rows = self.pairs
        return self._by_class(true, rows)

    @property
    def predicted(self) -> Array:
        """(classes,) int64, the rows predicted as each class."""
        _, predicted, rows = self.pairs
        return self._by_class(predicted, rows)

    def _by_class(self, classes: Array, rows: Array) -> Array:
        return np.bincount(classes, weights=rows, minlength=self.classes).astype(np.int64)

    def worst(self, most: int) -> list[tuple[int, int, int]]:
        """Return up to `most` pairs of different classes, the most frequent first: true, predicted, rows."""
        true, predicted, rows = (each[self.pairs[0] != self.pairs[1]] for each in self.pairs)
        order = np.argsort(-rows, kind="stable")[:most]
        return list(zip(*(each[order].tolist() for each in (true, predicted, rows)), strict=True))

    def by_pair(self) -> dict[tuple[int, int], int]:
        """Return the rows of each pair (true, predicted) that occurs."""
        true, predicted, rows = (each.tolist() for each in self.pairs)
        return dict(zip(zip(true, predicted, strict=True), rows, strict=True))

    def matrix(self) -> Array:
        """Return all pairs, (classes, classes) int64, the true class down, the predicted across."""
        true, predicted, rows = self.pairs
        matrix = np.zeros((self.classes, self.classes), dtype=np.int64)
        matrix[true, predicted] = rows
        return matrix


def _merged(pieces: Sequence[Piece]) -> Piece:
    if len(pieces) == 1:
        return pieces[0]
    nothing = np.zeros(0, np.int64)
    codes, rows = (np.concatenate([nothing, *(piece[i] for piece in pieces)]) for i in (0, 1))
    order = np.argsort(codes, kind="stable")
    codes, rows = codes[order], rows[order]
    first = np.flatnonzero(np.diff(codes, prepend=-1))
    return codes[first], np.add.reduceat(rows, first) if len(first) else rows
