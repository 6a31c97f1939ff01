"""The share of an epoch that one worker of a loader reads, in one of several ranks."""

from __future__ import annotations

import bisect
import contextlib
import itertools
import operator
import sys
from collections.abc import Generator, Iterator
from typing import NamedTuple

import numpy as np
from torch import distributed

from streamtrain.block import Array
from streamtrain.engine.sparse import EVALUATION
from streamtrain.errors import UsageError, argument
from streamtrain.memory import Plan
from streamtrain.stream.batches import Minibatch, Minibatches
from streamtrain.stream.dataset import Shards
from streamtrain.stream.order import Cursor, Order, permutation

_DEALING = 1 << 32  # in the key of a permutation, where the order of rows has the numbers of windows


def distributed_rank() -> tuple[int, int]:
    """Return the rank of this process in torch.distributed and the number of ranks: (0, 1) without it.

    Raises UsageError if accelerate runs the ranks. A loader that it prepares is read by one rank, which gives the
    others their batches: one rank's share of the rows would be shared out again, and the rest never read.
    """
    if not distributed.is_available() or not distributed.is_initialized():
        return 0, 1
    ranks, accelerate = distributed.get_world_size(), sys.modules.get("accelerate.state")
    if ranks > 1 and accelerate and accelerate.is_initialized():
        raise UsageError(
            f"accelerate runs {ranks} processes. If its `prepare` takes the loader, it shares out the batches: "
            "pass `rank=0, ranks=1`. If not, pass `rank=accelerator.process_index, "
            "ranks=accelerator.num_processes`",
            option="ranks",
        )
    return distributed.get_rank(), ranks


class Share(NamedTuple):
    """Who reads: a worker of a loader, of `workers`, in a rank, of `ranks`. All shares give each row once.

    The row groups are laid end to end in a random order and cut into ranks of nearly equal size. A rank is cut
    into batches, and the workers share these.
    """

    rank: int
    ranks: int
    worker: int = 0
    workers: int = 1

    def batch_ends(self, rows: int, batch_size: int) -> Array:
        """Return the row after each batch of the rank, counted from its first row, (batches,) int64.

        rows: of all ranks. Each rank gets equally many or one more, and all get the same number of batches: if one
        row more makes one batch more, the other ranks divide their last batch.
        Raises UsageError if there are too few rows for that.

        >>> [Share(rank, ranks=2).batch_ends(9, batch_size=4).tolist() for rank in (0, 1)]
        [[3, 4], [4, 5]]
        """
        mine = self._first_row(rows, self.rank + 1) - self._first_row(rows, self.rank)
        largest = -(-rows // self.ranks)
        count = -(-largest // batch_size)
        ends: Array = np.minimum(np.arange(1, count + 1) * batch_size, mine)
        if mine <= (count - 1) * batch_size:
            if mine < count:
                raise UsageError(
                    f"{rows} rows in batches of {batch_size} do not give {self.ranks} ranks equally many batches"
                )
            ends[-2] = mine - 1
        return ends

    def batches(self, ends: Array) -> range:
        """Return which batches of the rank the worker gives."""
        first, stop = (len(ends) * worker // self.workers for worker in (self.worker, self.worker + 1))
        return range(first, stop)

    def read(
        self, store: Shards, taken: int, *, batch_size: int, seed: int, epoch: int, memory_bytes: int
    ) -> Iterator[Minibatch]:
        """Return the batches of the worker from its batch number `taken` on.

        memory_bytes: for all workers of the rank. Raises UsageError if it is too small.
        """
        ends = self.batch_ends(store.rows, batch_size)
        mine = self.batches(ends)
        if taken >= len(mine):
            return iter(())
        bounds = np.concatenate([[0], ends])[mine.start : mine.stop + 1]
        part = store
        if self.ranks * self.workers > 1:
            dealt = permutation(len(store.group_rows), seed, epoch, _DEALING)
            part = store.part(dealt, *(bounds[[0, -1]] + self._first_row(store.rows, self.rank)).tolist())
        plan = self._plan(store, part, memory_bytes, batch_size)
        bounds -= bounds[0]
        start = Cursor(epoch, int(bounds[taken]))
        order = Order(seed, plan.window_rows)
        batches = iter(Minibatches(part.decoded, order, start, batch_size, plan.prefetch_threads))
        return _cut(batches, start.rows, bounds[taken + 1 :].tolist())

    def _first_row(self, rows: int, rank: int) -> int:
        return rows * rank // self.ranks

    def _plan(self, store: Shards, part: Shards, memory_bytes: int, batch_size: int) -> Plan:
        """Return the sizes that keep this worker within its part of `memory_bytes`."""
        try:
            return _plan(part, memory_bytes // self.workers, batch_size)
        except UsageError as error:
            least = self.workers * _least_memory(store, batch_size)
            raise UsageError(
                f"{argument('memory_bytes', memory_bytes)} is too small if {self.workers} workers share it. "
                f"Pass {argument('memory_bytes', least)} or more, or use fewer workers",
                option="memory_bytes",
            ) from error


def batches_given(taken: int, batches: list[int]) -> tuple[list[int], int]:
    """Return how many of its `batches` each worker gave when `taken` were taken in turn, and whose turn is next.

    >>> batches_given(6, [1, 4, 3])
    ([1, 3, 2], 2)
    """
    given, turn = [0] * len(batches), 0
    while taken > 0 and given != batches:
        if given[turn] < batches[turn]:
            given[turn] += 1
            taken -= 1
        turn = (turn + 1) % len(batches)
    return given, turn


def _cut(batches: Generator[Minibatch], row: int, ends: list[int]) -> Iterator[Minibatch]:
    """Yield the batches from `row` on; one that contains one of `ends` is divided there."""
    with contextlib.closing(batches):
        for x, y in batches:
            stops = [end - row for end in ends[-2:] if row < end < row + len(y)]
            for first, stop in itertools.pairwise([0, *stops, len(y)]):
                yield Minibatch(x[first:stop], y[first:stop])
            row += len(y)


def _plan(store: Shards, memory_bytes: int, batch_size: int) -> Plan:
    # An evaluation's memory is left free, so that a state of an earlier version continues in the same order.
    return store.plan(memory_bytes, batch_size=batch_size, evaluation=EVALUATION)


def _least_memory(store: Shards, batch_size: int) -> int:
    """Return the least `memory_bytes`, in whole megabytes, that holds a row group and a batch."""

    def enough(megabytes: int) -> bool:
        try:
            _plan(store, megabytes * 10**6, batch_size)
        except UsageError:
            return False
        return True

    return 10**6 * bisect.bisect_left(range(1 << 40), True, key=enough)


def checked_ranks(rank: int | None, ranks: int | None) -> tuple[int, int] | None:
    """Return the two as integers, or None if neither is given. Raises UsageError if they are not valid."""
    if rank is None and ranks is None:
        return None
    if rank is None or ranks is None or not 0 <= rank < ranks:
        raise UsageError(f"`rank` is one of 0 … `ranks` − 1, and both must be given: {rank} of {ranks}")
    return operator.index(rank), operator.index(ranks)
