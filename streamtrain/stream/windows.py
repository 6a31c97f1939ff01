"""Windows of decoded rows: their buffers, and the threads that load them ahead of the consumer.

No other module keeps decoded rows for longer than one call.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from streamtrain.block import Array, Block
from streamtrain.shards.row_groups import RowGroups
from streamtrain.stream.order import Cursor, Order, Window
from streamtrain.stream.prefetch import Task, prefetch

_GROUPS_PER_TASK = 4  # all of one shard; in larger tasks, one thread idles at the end while another one works


class WindowBuffer(NamedTuple):
    """Memory for the rows of a window.

    pixels:   (rows, row bytes) uint8, raw
    labels:   (rows,) int64
    order:    (rows,) int64, the rows in the order in which to visit them
    resident: whether pixels and labels belong to the resident copy of the whole set, which is shared and read-only
    """

    pixels: Array
    labels: Array
    order: Array
    resident: bool


class DecodedRows:
    """The decoded rows of a data set that are in memory: windows, or one resident copy of all rows.

    row_groups: the data set on disk
    peak_rows:  the largest number of decoded rows ever buffered
    """

    def __init__(self, row_groups: RowGroups) -> None:
        self.row_groups = row_groups
        self.peak_rows = 0
        self._buffered_rows = 0
        self._resident: WindowBuffer | None = None

    @contextlib.contextmanager
    def buffers(self, window_rows: int, *, count: int, workers: int) -> Iterator[list[WindowBuffer]]:
        """Context manager: `count` buffers of `window_rows` rows.

        If a window covers the whole set, all buffers share one resident copy, which `workers` threads decode.
        """
        rows = self.row_groups.rows
        if window_rows >= rows:
            resident = self._decode_all(workers)
            yield [resident._replace(order=np.empty(rows, np.int64)) for _ in range(count)]
            return
        self._count(count * window_rows)
        try:
            yield [self._new_buffer(window_rows) for _ in range(count)]
        finally:
            self._count(-count * window_rows)

    def _decode_all(self, workers: int) -> WindowBuffer:
        """Return the resident copy; the first call decodes it."""
        if self._resident is None:
            buffer = self._new_buffer(self.row_groups.rows)
            tasks = decode_tasks(self.row_groups, np.arange(len(self.row_groups)), buffer)
            with ThreadPoolExecutor(workers) as pool:
                for task in [pool.submit(task) for task in tasks]:
                    task.result()
            buffer.pixels.flags.writeable = buffer.labels.flags.writeable = False
            self._resident = buffer._replace(resident=True)
            self._count(self.row_groups.rows)
        return self._resident

    def _new_buffer(self, rows: int) -> WindowBuffer:
        pixels = np.empty((rows, self.row_groups.schema.row_bytes), np.uint8)
        return WindowBuffer(pixels, np.empty(rows, np.int64), np.empty(rows, np.int64), resident=False)

    def _count(self, rows: int) -> None:
        self._buffered_rows += rows
        self.peak_rows = max(self.peak_rows, self._buffered_rows)

    def blocks(self, groups: Iterable[int], *, lines: bool) -> Generator[Block]:
        """Yield row groups one by one: views of the resident copy if there is one, decoded from disk otherwise.

        lines: whether to read line numbers; zeros otherwise, and always from the resident copy
        """
        if self._resident is None:
            yield from self.row_groups.read(groups, lines=lines)
            return
        stops = self.row_groups.group_rows.cumsum()
        pixels = self._resident.pixels.view(self.row_groups.schema.stored_dtype)
        for group in groups:
            rows = slice(int(stops[group] - self.row_groups.group_rows[group]), int(stops[group]))
            labels = self._resident.labels[rows]
            yield Block(pixels[rows], labels, np.zeros(len(labels), dtype=np.int64))


def decode_tasks(row_groups: RowGroups, groups: Array, buffer: WindowBuffer) -> Iterator[Callable[[], None]]:
    """Yield tasks that decode `groups` into `buffer` without gaps; they may run at the same time.

    groups: ascending indices
    """
    at = 0
    for _, of_shard in itertools.groupby(groups.tolist(), key=row_groups.shard_of):
        left = list(of_shard)
        while left:
            run, left = left[:_GROUPS_PER_TASK], left[_GROUPS_PER_TASK:]
            yield functools.partial(_decode, row_groups, run, buffer, at)
            at += int(row_groups.group_rows[run].sum())


def _decode(row_groups: RowGroups, run: list[int], buffer: WindowBuffer, at: int) -> None:
    """Decode the row groups `run`, all of one shard, into `buffer`, the first row at index `at`."""
    for block in row_groups.read(run, lines=False):
        stop = at + len(block)
        buffer.pixels[at:stop] = block.pixels.view(np.uint8).reshape(len(block), -1)
        buffer.labels[at:stop] = block.labels
        at = stop
        del block  # otherwise it stays in memory while the next one is decoded


class WindowPosition(NamedTuple):
    """A window of an epoch; `last` if the epoch ends with it."""

    epoch: int
    window: Window
    last: bool


class LoadedWindow(NamedTuple):
    """A window in memory, valid until the next one is requested.

    pixels: (rows of the buffer, row bytes) uint8, raw; `order` has the indices of the window's rows
    order:  (rows,) int64, the rows in the order in which to visit them
    labels: (rows,) int64, in the same order
    """

    position: WindowPosition
    pixels: Array
    order: Array
    labels: Array


def load_windows(
    decoded: DecodedRows, order: Order, *, prefetch_threads: int, start: Cursor, last: int
) -> Generator[LoadedWindow]:
    """Yield each window from `start` to the end of epoch `last`, loaded ahead of the consumer.

    prefetch_threads: threads that load the next window, also across an epoch boundary; if 0, there is one buffer,
    and each window is loaded when the consumer requests it
    If a window holds all rows, it is decoded once. Closing the generator stops the threads.
    """
    row_groups = decoded.row_groups

    def positions() -> Iterator[WindowPosition]:
        for epoch in range(start.epoch, last + 1):
            windows = order.windows(row_groups.group_rows, epoch)
            for window in windows:
                if epoch > start.epoch or window.start + window.rows > start.rows:
                    yield WindowPosition(epoch, window, window is windows[-1])

    def tasks(position: WindowPosition, buffer: WindowBuffer) -> Iterator[Task]:
        def sort() -> None:
            buffer.order[: position.window.rows] = order.rows(position.window, position.epoch)

        yield sort
        if not buffer.resident:
            yield from decode_tasks(row_groups, position.window.groups, buffer)

    workers = max(1, prefetch_threads)
    with decoded.buffers(order.window_rows, count=2 if prefetch_threads else 1, workers=workers) as buffers:
        for position, buffer in prefetch(positions(), buffers, tasks=tasks, workers=workers):
            rows = buffer.order[: position.window.rows]
            yield LoadedWindow(position, buffer.pixels, rows, buffer.labels[rows])


def labels_in_order(
    row_groups: RowGroups, order: Order, epoch: int, *, stop: int | None = None
) -> Iterator[Array]:
    """Yield the labels of the first `stop` rows of an epoch, in its order; no pixels are read.

    Each array is (rows,) int64 and has the labels of one window. By default all rows are included.
    """
    for window in order.windows(row_groups.group_rows, epoch):
        left = window.rows if stop is None else stop - window.start
        if left <= 0:
            return
        yield row_groups.read_labels(window.groups)[order.rows(window, epoch)][:left]
