"""Shards as a `torch.utils.data.IterableDataset`, for training loops that are built on DataLoader."""

from __future__ import annotations

import operator
import os
import warnings
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from inspect import GEN_CLOSED, getgeneratorstate
from pathlib import Path
from typing import Any, NamedTuple, NoReturn
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import distributed
from torch.utils.data import IterableDataset, get_worker_info
from torch.utils.data._utils.collate import default_collate_fn_map  # the place that torch's documentation names

from streamtrain.adapters.shares import Share, batches_given, checked_ranks, distributed_rank
from streamtrain.errors import UsageError
from streamtrain.schema import Schema
from streamtrain.storage.objects import absolute, given_place
from streamtrain.stream.batches import Minibatch
from streamtrain.stream.dataset import open_shards
from streamtrain.train.compatibility import check_like

_ENDED, _WORKERS, _BEGUN = 4, 5, 6  # indices in the memory that workers share, after those of a _Start
_MOST_WORKERS = 1024
_RECIPE = ("batch_size", "seed", "memory_bytes", "manifest_digest", "ranks")  # what decides the order


class _Start(NamedTuple):
    """Where loops begin, until one of them has ended.

    number:  counts the starts, so that a worker can report which one has ended
    batches: how many of the epoch are skipped, since `workers` workers gave them before
    own:     whether `batches` counts those of this worker alone, not of all workers
    """

    number: int
    epoch: int
    batches: int
    workers: int
    own: bool = False


@dataclass
class _Position:
    """Where a loop is: the batches of the epoch that it has given or skipped, of this process alone."""

    start: int
    epoch: int
    batches: int


class ShardDataset(IterableDataset[Minibatch]):
    """Iterate over the shuffled, normalised minibatches of an epoch.

    Each is a pair: x (rows, features) float32 and y (rows,) int64. The dataset makes the batches, so switch off
    those of the loader: `DataLoader(dataset, batch_size=None, num_workers=2)`. The arguments, the epoch, and the
    number of workers and of ranks decide the order. Loops over the same dataset do not disturb each other.

    Call `set_epoch` before each epoch, as for torch's DistributedSampler, which also counts from 0; without it,
    each loop gives the rows of the same epoch in the same order. accelerate calls it, Lightning does not: do so in
    `on_train_epoch_start`.

    Workers and ranks share the rows, and together give each row once. The ranks of `torch.distributed` are found
    when a loop begins. All ranks give the same number of batches, so that none waits for a step of another that
    has ended.

    path:         the folder of shards, or its address; workers that read from a store must be spawned, not forked
    memory_bytes: for all workers of a loader together
    like:         a Schema, or something that has one (Shards, another ShardDataset, a trained model, a
                  checkpoint): rows are read with its class indices and its pixel range
    rank, ranks:  instead of those of torch.distributed. With `rank=0, ranks=1` each process gives every row, as
                  accelerate needs it: it shares out the batches of a loader that it prepares

    Raises DataError if the shards cannot be read, or not like `like`, and UsageError for an argument out of range.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        batch_size: int = 256,
        seed: int = 0,
        memory_bytes: int = 256_000_000,
        like: object = None,
        rank: int | None = None,
        ranks: int | None = None,
    ) -> None:
        self.path = absolute(given_place(path, "path"))
        self.batch_size, self.seed = operator.index(batch_size), operator.index(seed)
        self.memory_bytes = operator.index(memory_bytes)
        self._ranks = checked_ranks(rank, ranks)
        self._rank_of_ranks()  # refuses ranks of accelerate at once
        store = open_shards(self.path)
        if like is not None:
            store = store.with_schema(_schema_of(like))
            for text in check_like(store, like):
                warnings.warn(text, stacklevel=2)
        # Checks the arguments.
        store.minibatches(batch_size=self.batch_size, seed=self.seed, memory_bytes=self.memory_bytes)
        self.schema, self.manifest_digest, self._rows = store.schema, store.manifest.digest, store.rows
        self._forget_loops(0)
        self._start = _Start(0, 0, 0, 1)
        # Shared with workers, which may stay between epochs: the start; the number of the last start whose loop
        # has ended; how many workers there are; and for each, the number of the start from which it last began.
        self._shared = torch.zeros(_BEGUN + _MOST_WORKERS, dtype=torch.int64)
        self._shared.share_memory_()  # type: ignore[no-untyped-call]  # torch's
        self._begin_at(0, 0)

    def __len__(self) -> int:
        """Return the number of batches that an epoch has in this rank, whatever the number of workers."""
        return len(Share(*self._rank_of_ranks()).batch_ends(self._rows, self.batch_size))

    def set_epoch(self, epoch: int) -> None:
        """Let the next loops give the batches of `epoch`, an integer from 0.

        The epoch of a loaded state continues after that state until a loop over the rest of it has ended.
        Raises UsageError if `epoch` is not such an integer.
        """
        if not self._start.batches or epoch != self._start.epoch or self._has_ended(self._start):
            self._begin_at(epoch, 0)

    def state_dict(self, batches: int | None = None) -> dict[str, Any]:
        """Return where the epoch is; after `load_state_dict`, a loop with as many workers continues from there.

        batches: how many batches were taken since the epoch began. Required if a DataLoader has workers, as they
                 run ahead, or if several loops are open, which raise UsageError otherwise. (StatefulDataLoader of
                 torchdata asks each worker.)
        """
        if batches is None:
            position, workers = self._position()
        else:
            position = _Position(self._start.number, self._start.epoch, operator.index(batches))
            workers = int(self._shared[_WORKERS]) or self._start.workers
        return {
            "batch_size": self.batch_size,
            "seed": self.seed,
            "memory_bytes": self.memory_bytes,
            "manifest_digest": self.manifest_digest,
            "ranks": self._rank_of_ranks()[1],
            "workers": workers,
            "epoch": position.epoch,
            "batches": position.batches,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next loop continue from a state.

        Raises UsageError if it is not a state, or one of other data or of another order. A loop with another
        number of workers raises it too.
        """
        own = self.state_dict(batches=0)
        for name in _RECIPE:
            found = state.get(name, 1 if name == "ranks" else None)  # 1: before there were ranks
            if found != own[name]:
                raise UsageError(f"the state has {name} {found}, this dataset has {own[name]}")
        self._begin_at(state.get("epoch"), state.get("batches"), state.get("workers", 1))

    def __iter__(self) -> Iterator[Minibatch]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        start = self._start
        if self._process != os.getpid():
            self._forget_loops(os.getpid())
        elif info:  # the worker has stayed since an earlier epoch
            self._start = start = _Start(*self._shared[:_ENDED].tolist())
        # A worker that has not begun from there is late: the others of its loop have ended it.
        if self._has_ended(start) and self._shared[_BEGUN + worker] == start.number:
            start = start._replace(batches=0)
        if start.batches and start.workers != workers:
            raise UsageError(
                f"the state was taken with {start.workers} workers, and {workers} share the rows in another way. "
                f"Continue with num_workers={start.workers}"
            )
        left = not start.own and start.number != int(self._shared[0])  # another epoch has begun meanwhile
        if info and not left:
            self._shared[_WORKERS] = workers
        if not start.own:
            self._shared[_BEGUN + worker] = start.number
        loop, position = self._loop(start, worker, workers)
        self._open[loop] = position
        return loop

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs: a worker belongs to the rank that starts it."""
        known = distributed.is_available() and distributed.is_initialized()
        ranks = self._rank_of_ranks() if known else self._ranks
        return {**self.__dict__, "_ranks": ranks, "_open": None, "_last": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget_loops(0)
        self._shared.share_memory_()  # type: ignore[no-untyped-call]  # torch's

    def _forget_loops(self, process: int) -> None:
        """Start a new record of the open loops, for the process with this id."""
        self._open: WeakKeyDictionary[Generator[Minibatch], _Position] = WeakKeyDictionary()
        self._last: _Position | None = None
        self._process = process

    def _begin_at(self, epoch: Any, batches: Any, workers: Any = 1) -> None:
        """Let the next loops begin after `batches` of all workers, or of this one if called in a worker."""
        limits = ((epoch, 0), (batches, 0), (workers, 1))
        if not all(isinstance(n, int | np.integer) and n >= least for n, least in limits):
            raise UsageError(f"an epoch and its batches are whole numbers from 0, not {epoch!r} and {batches!r}")
        own = get_worker_info() is not None
        self._start = _Start(self._start.number + 1, int(epoch), int(batches), int(workers), own)
        if not own:
            self._shared[:_ENDED] = torch.tensor(self._start[:4])
            self._shared[_WORKERS] = 0

    def _has_ended(self, start: _Start) -> bool:
        """Return whether a loop from `start` has come to the end of its epoch."""
        return not start.own and int(self._shared[_ENDED]) == start.number

    def _position(self) -> tuple[_Position, int]:
        """Return where the only open loop is, otherwise the last one, and how many workers share the rows."""
        info, start = get_worker_info(), self._start
        last, open_loops = None, []
        if self._process == os.getpid():
            last = self._last if self._last and self._last.start == start.number else None
            loops = [loop for loop, place in self._open.items() if place.start == start.number]
            open_loops = [self._open[loop] for loop in loops if getgeneratorstate(loop) != GEN_CLOSED]
        if len(open_loops) > 1 or (self._shared[_WORKERS] and not info):
            raise UsageError(
                "several loops, or loader workers, are reading the epoch. Count the batches that you took and "
                "pass `batches`"
            )
        for position in (*open_loops, last):
            if position:
                return position, info.num_workers if info else 1
        return _Position(start.number, start.epoch, start.batches), start.workers

    def _rank_of_ranks(self) -> tuple[int, int]:
        """Return the rank of this process and the number of ranks."""
        return self._ranks or distributed_rank()

    def _loop(self, start: _Start, worker: int, workers: int) -> tuple[Generator[Minibatch], _Position]:
        """Return the remaining batches of a worker, and the position that counts them."""
        store = open_shards(self.path).with_schema(self.schema)
        if store.manifest.digest != self.manifest_digest:
            raise UsageError(f"{self.path} changed since this dataset was opened")
        rank, ranks = self._rank_of_ranks()
        share = Share(rank, ranks, worker, workers)
        ends = share.batch_ends(store.rows, self.batch_size)
        counts = [len(share._replace(worker=each).batches(ends)) for each in range(workers)]
        taken = start.batches
        if not start.own:
            given, turn = batches_given(taken, counts)
            share = share._replace(worker=(worker + turn) % workers)  # a loader asks its first worker first
            taken = given[share.worker]
        position = _Position(start.number, start.epoch, min(taken, counts[share.worker]))
        batches = share.read(
            store,
            position.batches,
            batch_size=self.batch_size,
            seed=self.seed,
            epoch=start.epoch,
            memory_bytes=self.memory_bytes,
        )
        is_last = share.worker == workers - 1 - counts[::-1].index(max(counts))  # gives the last batch of all
        ended = start.number if is_last and not start.own else None
        return self._counted(batches, position, ended=ended), position

    def _counted(
        self, batches: Iterator[Minibatch], position: _Position, *, ended: int | None
    ) -> Generator[Minibatch]:
        """Yield batches and count them; at the end, note which start has `ended`."""
        for batch in batches:
            position.batches += 1
            # Some libraries open a loop, set its epoch too late, and then read on.
            position.start = self._start.number
            self._last = position
            yield batch
        if ended is not None:
            self._shared[_ENDED] = ended


def _schema_of(like: object) -> Schema:
    schema = like if isinstance(like, Schema) else getattr(like, "schema", None)
    if not isinstance(schema, Schema):
        raise UsageError(
            f"`like` = {type(like).__name__} has no schema. Pass a Schema, shards, a checkpoint, or a model that "
            "streamtrain has trained or loaded"
        )
    return schema


def _refuse_to_collate(batch: object, *, collate_fn_map: object = None) -> NoReturn:
    raise UsageError("a ShardDataset makes the batches itself. Pass DataLoader(dataset, batch_size=None)")


default_collate_fn_map[Minibatch] = _refuse_to_collate
