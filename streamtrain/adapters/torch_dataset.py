"""Shards as a `torch.utils.data.IterableDataset`, for training loops that are built on DataLoader."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from streamtrain.engine.sparse import EVALUATION
from streamtrain.errors import UsageError
from streamtrain.stream.batches import Minibatches
from streamtrain.stream.dataset import Shards, open_shards
from streamtrain.stream.order import Cursor, Order, permutation

_DEALING = 1 << 32  # in a key of a permutation, where the order of rows has the numbers of windows


class ShardDataset(IterableDataset[tuple[Tensor, Tensor]]):
    """Shuffled, normalised minibatches of one epoch: x (rows, features) float32 and y (rows,) int64.

    Batches come whole, so say `DataLoader(dataset, batch_size=None, num_workers=2)`. Each worker has row groups of
    its own, dealt out anew every epoch, and its share of `memory_bytes`; together they give every row once. The
    order is decided by the arguments, the epoch and the number of workers. Call `set_epoch` before each epoch; a
    loop without it gives the rows of the epoch before again, in the same order.
    """

    def __init__(
        self, path: str | Path, *, batch_size: int = 256, seed: int = 0, memory_bytes: int = 256_000_000
    ) -> None:
        store = open_shards(path)
        store.minibatches(batch_size=batch_size, seed=seed, memory_bytes=memory_bytes)  # refuses what cannot be
        self.path, self.batch_size, self.seed, self.memory_bytes = Path(path), batch_size, seed, memory_bytes
        self.manifest_digest = store.manifest.digest
        self._epoch = torch.ones((), dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]  # torch's; so workers that stay see it change
        self.set_epoch(1)

    def set_epoch(self, epoch: int) -> None:
        """Give the batches of this epoch, from 1, from its first on. Raises UsageError where it is none."""
        self._go_on_at(epoch, 0)

    def _go_on_at(self, epoch: Any, batches: Any, *, of_worker: bool = False) -> None:
        """The place where the next loop begins, after so many batches of all workers, or of this one alone."""
        if not all(isinstance(n, int | np.integer) and n >= least for n, least in ((epoch, 1), (batches, 0))):
            raise UsageError(f"an epoch counts from 1, its batches from 0: {epoch!r}, {batches!r}")
        self._epoch.fill_(epoch)
        self._batches, self._of_worker, self._begun = batches, of_worker, False

    def state_dict(self, batches: int | None = None) -> dict[str, Any]:
        """Where the epoch stands; after `load_state_dict` a loop with as many workers goes on from there.

        batches: that were taken of the epoch. Known without workers, and to a loader that asks each worker, as
        torchdata's StatefulDataLoader does; with DataLoader's workers, which run ahead, count them yourself.
        """
        taken = self._batches if batches is None else batches
        recipe = {"batch_size": self.batch_size, "seed": self.seed, "memory_bytes": self.memory_bytes}
        return {**recipe, "manifest_digest": self.manifest_digest, "epoch": int(self._epoch), "batches": taken}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next loop go on from a state, and `set_epoch` come before the one after.

        Raises UsageError where it is no state, or of other data or of another order.
        """
        for name, own in self.state_dict().items():
            if name not in ("epoch", "batches") and state.get(name) != own:
                raise UsageError(f"the state is of {name} {state.get(name)}, this data set has {own}")
        self._go_on_at(state.get("epoch", 0), state.get("batches", 0), of_worker=get_worker_info() is not None)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        store = open_shards(self.path)
        if store.manifest.digest != self.manifest_digest:
            raise UsageError(f"{self.path} changed since this data set was opened")
        if self._begun:
            self._batches, self._of_worker = 0, False
        self._begun = True
        epoch = int(self._epoch)
        parts = self._parts(store, workers, epoch)
        if not self._of_worker:
            given, turn = _dealt(self._batches, [-(-part.rows // self.batch_size) for part in parts])
            worker = (worker + turn) % workers  # a loader asks its first worker first
            self._batches, self._of_worker = given[worker], workers > 1
        return self._rest(parts[worker], epoch, memory_bytes=self.memory_bytes // workers)

    def _parts(self, store: Shards, workers: int, epoch: int) -> list[Shards]:
        """The rows of each worker: row groups dealt out at random."""
        if workers == 1:
            return [store]
        dealt = permutation(len(store.group_rows), self.seed, epoch, _DEALING)
        return [store.part(dealt[worker::workers]) for worker in range(workers)]

    def _rest(self, part: Shards, epoch: int, *, memory_bytes: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of one worker that are still to come."""
        if not part.rows:
            return
        # An evaluation's memory is left free, so that a state of an earlier version goes on in the same order.
        plan = part.plan(memory_bytes, batch_size=self.batch_size, evaluation=EVALUATION)
        order = Order(self.seed, plan.window_rows)
        start = Cursor(epoch, min(part.rows, self._batches * self.batch_size))
        batches = Minibatches(part.decoded, order, start, self.batch_size, plan.prefetch_threads)
        with contextlib.closing(iter(batches)) as stream:
            for x, y in stream:
                self._batches += 1
                yield x, y


def _dealt(taken: int, batches: list[int]) -> tuple[list[int], int]:
    """How many of its `batches` each worker gave when `taken` were taken in turn, and whose turn it is.

    >>> _dealt(6, [1, 4, 3])
    ([1, 3, 2], 2)
    """
    given, turn = [0] * len(batches), 0
    while taken > 0 and given != batches:
        if given[turn] < batches[turn]:
            given[turn] += 1
            taken -= 1
        turn = (turn + 1) % len(batches)
    return given, turn
