"""Which row when: a pure function of the row groups, the seed, the epoch and the window.

An epoch visits every row once. The row groups are permuted over the whole set and dealt into windows of
nearly equal size; inside a window the rows are permuted. Nothing is remembered, so any position can be
computed without the ones before it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.random import PCG64, SeedSequence

from streamtrain.block import Array
from streamtrain.errors import UsageError


class Cursor(NamedTuple):
    """A position in training: the epoch, from 1, and the rows of it handed to the model so far."""

    epoch: int
    rows: int


class Window(NamedTuple):
    """Rows that are shuffled together.

    number: of the window in its epoch, from 0
    start:  rows of the epoch that come before it
    rows:   number of rows in it
    groups: (groups,) int64, the ascending indices of its row groups
    """

    number: int
    start: int
    rows: int
    groups: Array


def permutation(length: int, *key: int) -> Array:
    """Return a uniform random permutation of 0 … length − 1, (length,) int64, the same on every machine.

    key: non-negative integers; another key gives an independent permutation
    It sorts raw PCG64 output, whose stream NumPy keeps stable across versions, unlike that of
    `Generator.permutation`. Among n 64-bit keys two are equal with a probability below n² / 2^65; equal ones keep
    their order.
    """

    def keys() -> Array:
        return PCG64(SeedSequence(key)).random_raw(length)

    # Each key's lowest bits are replaced by its index. Sorting these takes a twelfth of the time of a stable
    # argsort, and gives the same order if no two keys are equal in the bits above.
    low = np.uint64((1 << length.bit_length()) - 1)
    placed = keys()
    placed &= ~low
    placed |= np.arange(length, dtype=np.uint64)
    placed.sort()
    order: Array = (placed & low).view(np.int64)
    placed &= ~low
    return order if (placed[1:] != placed[:-1]).all() else np.argsort(keys(), kind="stable")


def windows(group_rows: Array, *, seed: int, epoch: int, window_rows: int) -> list[Window]:
    """Return the windows of an epoch, in order, each of at most `window_rows` rows.

    group_rows:  (groups,) int64, the rows of each row group
    window_rows: at least the largest group; if it holds all rows, there is one window
    Raises UsageError if a row group does not fit.
    """
    total, largest = int(group_rows.sum()), int(group_rows.max(initial=0))
    if window_rows < largest:
        raise UsageError(
            f"a window of {window_rows} rows cannot hold a row group of {largest}. Raise `memory_bytes`",
            option="memory_bytes",
        )
    if total <= window_rows:
        return [Window(0, 0, total, np.arange(len(group_rows)))] if total else []
    count = -(-len(group_rows) // (window_rows // largest))
    dealt = np.array_split(permutation(len(group_rows), seed, epoch), count)
    starts = np.cumsum([0] + [group_rows[groups].sum() for groups in dealt])
    return [
        Window(number, int(starts[number]), int(group_rows[groups].sum()), np.sort(groups))
        for number, groups in enumerate(dealt)
    ]


def row_order(window: Window, *, seed: int, epoch: int) -> Array:
    """Return the permutation of a window's rows: (rows,) int64 indices into its groups laid end to end."""
    return permutation(window.rows, seed, epoch, window.number + 1)


class Order(NamedTuple):
    """All that decides the order of each epoch of a data set: the seed and the rows that are shuffled together."""

    seed: int
    window_rows: int

    def windows(self, group_rows: Array, epoch: int) -> list[Window]:
        """Return the windows of an epoch; see `windows`."""
        return windows(group_rows, seed=self.seed, epoch=epoch, window_rows=self.window_rows)

    def rows(self, window: Window, epoch: int) -> Array:
        """Return the permutation of a window's rows, (rows,) int64; see `row_order`."""
        return row_order(window, seed=self.seed, epoch=epoch)
