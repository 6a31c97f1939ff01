"""Shards → minibatches, a generator a stage: windows loaded ahead → gathered batches → tensors."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from streamtrain.block import Array
from streamtrain.metrics.metrics import LabelDisorder
from streamtrain.native.gather import gather_scaled
from streamtrain.schema import Schema
from streamtrain.stream.order import Cursor, Window, row_order, windows
from streamtrain.stream.prefetch import Task, prefetch

if TYPE_CHECKING:
    from streamtrain.stream.dataset import Shards, WindowBuffer

_LABELS = 1 << 12  # tallied at a time


class Minibatch(NamedTuple):
    """x: (rows, features) float32, normalised; y: (rows,) int64 class indices."""

    x: Tensor
    y: Tensor


class Batch(NamedTuple):
    """Gathered rows.

    pixels: (rows, features) float32, normalised, or raw in the schema's dtype; labels: (rows,) int64
    """

    pixels: Array
    labels: Array

    @property
    def rows(self) -> int:
        """How many it has."""
        return len(self.labels)


class WindowPosition(NamedTuple):
    """A window of an epoch, and whether it is the last of it."""

    epoch: int
    window: Window
    last: bool


class LoadedWindow(NamedTuple):
    """A window in memory.

    pixels: (rows, row bytes) uint8, raw; order: (rows,) int64, in which to visit them; labels: (rows,) int64, in
    this order
    """

    place: WindowPosition
    pixels: Array
    order: Array
    labels: Array


class Epoch:
    """The minibatches of one epoch, to be looped over once; then what that was like.

    number: of the epoch, from 1
    disorder: of the whole epoch's labels in the order of training, up to the last window that was begun; only of
              raw batches, those of a training
    """

    def __init__(
        self, number: int, loaded: Iterator[LoadedWindow], store: Shards, *, size: int, start: int, raw: bool
    ) -> None:
        self.number, self.disorder = number, LabelDisorder()
        tallied = _tallied(loaded, self.disorder) if raw and store.schema.classes else loaded
        self._batches = gather_batches(tallied, size=size, start=start, schema=store.schema, raw=raw)

    def __iter__(self) -> Iterator[Batch]:
        return self._batches


def epochs(
    store: Shards,
    *,
    batch_size: int,
    seed: int,
    window_rows: int,
    prefetch_threads: int,
    last: int,
    start: Cursor,
    raw: bool = False,
) -> Generator[Epoch]:
    """The epochs from `start` to `last`, each an iterable of shuffled minibatches, the last of which is short.

    While a window is visited, threads load the next, be it the next epoch's. To close this is to be rid of them.
    prefetch_threads: how many threads; with none there is one window, loaded when it is needed
    raw: batches as they are stored, in one buffer that is refilled, so each is valid only until the next is asked
    for; else normalised, each in memory of its own
    """
    order = {"seed": seed, "window_rows": window_rows, "prefetch_threads": prefetch_threads}
    with contextlib.closing(shuffled(store, start=start, last=last, **order)) as loaded:
        for number in range(start.epoch, last + 1):
            done = start.rows if number == start.epoch else 0
            mine = _one_epoch(loaded) if done < store.rows else iter(())
            epoch = Epoch(number, mine, store, size=min(batch_size, store.rows), start=done, raw=raw)
            for labels in _labels_before(store, start, seed=seed, window_rows=window_rows) if done and raw else ():
                epoch.disorder.update(labels)
            yield epoch
            deque(mine, maxlen=0)  # where the consumer left it early


def shuffled(
    store: Shards, *, seed: int, window_rows: int, prefetch_threads: int, start: Cursor, last: int
) -> Generator[LoadedWindow]:
    """Load each window from `start` to the end of epoch `last`, ahead of the consumer.

    A window is valid until the next is asked for. Where one window holds all rows, they are decoded once.
    """

    def places() -> Iterator[WindowPosition]:
        for epoch in range(start.epoch, last + 1):
            plan = windows(store.group_rows, seed=seed, epoch=epoch, window_rows=window_rows)
            for window in plan:
                if epoch > start.epoch or window.start + window.rows > start.rows:
                    yield WindowPosition(epoch, window, window is plan[-1])

    def tasks(place: WindowPosition, slot: WindowBuffer) -> Iterator[Task]:
        def sort() -> None:
            slot.order[: place.window.rows] = row_order(place.window, seed=seed, epoch=place.epoch)

        yield sort
        if not slot.resident:
            yield from store.decode_tasks(place.window.groups, slot)

    workers = max(1, prefetch_threads)
    with store.slots(window_rows, count=2 if prefetch_threads else 1, workers=workers) as slots:
        for place, slot in prefetch(places(), slots, tasks=tasks, workers=workers):
            order = slot.order[: place.window.rows]
            yield LoadedWindow(place, slot.pixels[: len(order)], order, slot.labels[order])


def _labels_before(store: Shards, start: Cursor, *, seed: int, window_rows: int) -> Iterator[Array]:
    """The labels of the windows that a resumed epoch does not load, in the order in which they were trained."""
    plan = windows(store.group_rows, seed=seed, epoch=start.epoch, window_rows=window_rows)
    passed = [window for window in plan if window.start + window.rows <= start.rows]
    return labels_in_order(store, passed, seed=seed, epoch=start.epoch)


def labels_in_order(store: Shards, plan: Iterable[Window], *, seed: int, epoch: int) -> Iterator[Array]:
    """The labels (rows,) of each window in the order of an epoch, no pixel read; none of unlabelled data."""
    if store.schema.classes:
        for window in plan:
            yield store.labels(window.groups)[row_order(window, seed=seed, epoch=epoch)]


def _one_epoch(loaded: Iterator[LoadedWindow]) -> Iterator[LoadedWindow]:
    """The windows up to the last of an epoch; those after it stay."""
    for window in loaded:
        yield window
        if window.place.last:
            return


def _tallied(loaded: Iterable[LoadedWindow], disorder: LabelDisorder) -> Iterator[LoadedWindow]:
    """Pass windows on, their labels counted in the order in which they will be visited."""
    for window in loaded:
        for at in range(0, len(window.labels), _LABELS):
            disorder.update(window.labels[at : at + _LABELS])
        yield window


def gather_batches(
    loaded: Iterable[LoadedWindow], *, size: int, start: int, schema: Schema, raw: bool
) -> Iterator[Batch]:
    """Gather batches of `size` rows, across windows where one ends; raw ones in one buffer.

    start: rows of the epoch that are passed over
    """
    dtype = schema.stored_dtype if raw else np.dtype(np.float32)
    filled, x, y = 0, np.empty((0, 0), dtype), np.empty(0, np.int64)
    for window in loaded:
        gather = _gather_into(window, schema=schema, raw=raw)
        at = max(0, start - window.place.window.start)
        while at < len(window.order):
            if not filled and not (raw and len(x)):
                x, y = np.empty((size, schema.features), dtype), np.empty(size, np.int64)
            labels = window.labels[at : at + size - filled]
            stop = filled + len(labels)
            gather(at, x[filled:stop])
            y[filled:stop] = labels
            at, filled = at + len(labels), stop
            if filled == size:
                yield Batch(x, y)
                filled = 0
    if filled:
        yield Batch(x[:filled], y[:filled])


def _gather_into(window: LoadedWindow, *, schema: Schema, raw: bool) -> Callable[[int, Array], object]:
    """What writes rows of a window, from a place in its order on, to a buffer: as they are, or normalised."""
    pixels, order = window.pixels.view(schema.stored_dtype), window.order
    if raw:
        # mode="clip" writes straight to `out`; the default gathers into a copy first, and takes twice as long.
        return lambda at, out: np.take(pixels, order[at : at + len(out)], axis=0, out=out, mode="clip")
    if pixels.dtype == np.uint8:
        return gather_scaled.bound(pixels, order, *schema.scale)
    return lambda at, out: normalise(pixels[order[at : at + len(out)]], schema, out=torch.from_numpy(out))


def tensors(batches: Iterable[Batch]) -> Iterator[Minibatch]:
    """Batches as torch sees them, in the same memory."""
    for x, y in batches:
        yield Minibatch(torch.from_numpy(x), torch.from_numpy(y))


def normalise(pixels: Array, schema: Schema, *, out: Tensor) -> Tensor:
    """Write (pixels − lo) / (hi − lo) into `out`, both (rows, features), and return it.

    In NumPy, whose calls stay in one thread: torch's wait for each other on a busy machine.
    """
    low, span = schema.scale
    x = out.numpy()
    np.copyto(x, pixels, casting="same_kind" if pixels.dtype.kind == "f" else "unsafe")
    if low:
        np.subtract(x, np.float32(low), out=x)
    np.divide(x, np.float32(span), out=x)
    return out
