"""Windows → batches: raw pixels in one refilled buffer for training, normalised tensors for everybody else."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from streamtrain.block import Array
from streamtrain.errors import UsageError
from streamtrain.native.gather import gather_scaled
from streamtrain.schema import Schema
from streamtrain.stream.order import Cursor, Order
from streamtrain.stream.windows import DecodedRows, LoadedWindow, load_windows

Transform = Callable[[Array, Cursor], Array]  # of raw rows and the place of the first: rows of the same kind
Gather = Callable[[int, Array], object]  # writes len(out) rows, from a place in the window's order on, to `out`


class Batch(NamedTuple):
    """Gathered rows, valid until the next batch is asked for.

    pixels: (rows, features) raw, in the schema's dtype
    labels: (rows,) int64
    """

    pixels: Array
    labels: Array

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.labels)


class Minibatch(NamedTuple):
    """An independent copy of rows.

    x: (rows, features) float32, normalised
    y: (rows,) int64 class indices
    """

    x: Tensor
    y: Tensor


def pixel_epochs(
    decoded: DecodedRows,
    order: Order,
    *,
    batch_size: int,
    prefetch_threads: int,
    start: Cursor,
    last: int,
    transforms: Sequence[Transform] = (),
) -> Generator[tuple[int, Iterator[Batch]]]:
    """Return the epochs from `start` to `last`: each its number and its batches, to be looped over once.

    While one window is being consumed, background threads load the next, also across an epoch boundary. Closing
    the generator stops them. Batches are borrowed: all of them lie in one buffer, which is refilled. The last
    batch of an epoch may be short.
    transforms: functions of the raw rows (rows, features) of a batch and the place of the first in the epoch; they
    return the rows to learn, of the same shape and dtype, and may change them in place
    Raises UsageError if `order.window_rows` cannot hold a row group.
    """
    order.windows(decoded.row_groups.group_rows, start.epoch)  # raises now, not at the first batch
    loaded = load_windows(decoded, order, prefetch_threads=prefetch_threads, start=start, last=last)
    return _pixel_epochs(loaded, decoded, batch_size, start, last, transforms)


def _pixel_epochs(
    loaded: Generator[LoadedWindow],
    decoded: DecodedRows,
    batch_size: int,
    start: Cursor,
    last: int,
    transforms: Sequence[Transform],
) -> Generator[tuple[int, Iterator[Batch]]]:
    schema, rows = decoded.row_groups.schema, decoded.row_groups.rows
    with contextlib.closing(loaded):
        for epoch in range(start.epoch, last + 1):
            done = start.rows if epoch == start.epoch else 0
            windows = _one_epoch(loaded) if done < rows else iter(())
            batches = gather_pixels(windows, schema, size=min(batch_size, rows), start=done)
            yield epoch, transformed(batches, transforms, Cursor(epoch, done)) if transforms else batches
            deque(windows, maxlen=0)  # the consumer may have stopped early


def _one_epoch(loaded: Iterator[LoadedWindow]) -> Iterator[LoadedWindow]:
    """Yield the windows up to the last one of an epoch, and take no more."""
    for window in loaded:
        yield window
        if window.position.last:
            return


@dataclass(frozen=True, eq=False)
class Minibatches:
    """The minibatches of one epoch from `start` on. Every loop gives the same ones: the fields decide the order.

    `len()` is the number of batches, the last of which may be short.
    transforms: what is done to the raw rows first; see `pixel_epochs`
    """

    decoded: DecodedRows
    order: Order
    start: Cursor
    batch_size: int
    prefetch_threads: int
    transforms: Sequence[Transform] = ()

    def __len__(self) -> int:
        return -(-(self.decoded.row_groups.rows - self.start.rows) // self.batch_size)

    def __repr__(self) -> str:
        return f"<{len(self)} minibatches of {self.batch_size} rows, epoch {self.start.epoch}>"

    def __iter__(self) -> Generator[Minibatch]:
        epoch, schema, rows = self.start.epoch, self.decoded.row_groups.schema, self.decoded.row_groups.rows
        loaded = load_windows(
            self.decoded, self.order, prefetch_threads=self.prefetch_threads, start=self.start, last=epoch
        )
        size, done = min(self.batch_size, rows), self.start.rows
        with contextlib.closing(loaded):
            if not self.transforms:
                yield from gather_tensors(loaded, schema, size=size, start=done)
                return
            batches = gather_pixels(loaded, schema, size=size, start=done)
            for pixels, labels in transformed(batches, self.transforms, self.start):
                x = normalise(pixels, schema, out=torch.empty(pixels.shape, dtype=torch.float32))
                yield Minibatch(x, torch.from_numpy(labels.copy()))


def gather_pixels(loaded: Iterable[LoadedWindow], schema: Schema, *, size: int, start: int) -> Iterator[Batch]:
    """Gather batches of `size` rows in one buffer that is refilled; start: rows of the epoch to skip."""
    buffer = np.empty((size, schema.features), schema.stored_dtype), np.empty(size, np.int64)

    def gather(window: LoadedWindow) -> Gather:
        pixels, order = window.pixels.view(schema.stored_dtype), window.order
        # mode="clip" writes straight to `out`; the default gathers into a copy first, and takes twice as long.
        return lambda at, out: np.take(pixels, order[at : at + len(out)], axis=0, out=out, mode="clip")

    for pixels, labels in _fill(loaded, size=size, start=start, buffers=lambda: buffer, gather=gather):
        yield Batch(pixels, labels)


def transformed(batches: Iterable[Batch], transforms: Sequence[Transform], start: Cursor) -> Iterator[Batch]:
    """Yield the batches as the transforms return them; start: the place of the first row.

    Raises UsageError for a transform that returns other than rows of the same shape and dtype.
    """
    epoch, done = start
    for pixels, labels in batches:
        rows = pixels
        for transform in transforms:
            rows = np.ascontiguousarray(transform(rows, Cursor(epoch, done)))
            if (rows.shape, rows.dtype) != (pixels.shape, pixels.dtype):
                raise UsageError(
                    f"`transform` returned {rows.dtype} {rows.shape}, but must return the rows that it gets, "
                    f"{pixels.dtype} {pixels.shape}, changed or not",
                    option="transform",
                )
        yield Batch(rows, labels)
        done += len(labels)


def gather_tensors(
    loaded: Iterable[LoadedWindow], schema: Schema, *, size: int, start: int
) -> Iterator[Minibatch]:
    """Gather normalised batches of `size` rows, each in memory of its own; start: rows of the epoch to skip."""

    def buffers() -> tuple[Array, Array]:
        return np.empty((size, schema.features), np.float32), np.empty(size, np.int64)

    def gather(window: LoadedWindow) -> Gather:
        pixels, order = window.pixels.view(schema.stored_dtype), window.order
        if pixels.dtype == np.uint8:
            return partial(gather_scaled, pixels, order, *schema.scale)
        return lambda at, out: normalise(pixels[order[at : at + len(out)]], schema, out=torch.from_numpy(out))

    for x, y in _fill(loaded, size=size, start=start, buffers=buffers, gather=gather):
        yield Minibatch(torch.from_numpy(x), torch.from_numpy(y))


def _fill(
    loaded: Iterable[LoadedWindow],
    *,
    size: int,
    start: int,
    buffers: Callable[[], tuple[Array, Array]],
    gather: Callable[[LoadedWindow], Gather],
) -> Iterator[tuple[Array, Array]]:
    """Yield buffers filled with `size` rows each, across windows; the last may be cut short."""
    filled, (x, y) = 0, buffers()
    for window in loaded:
        take = gather(window)
        at = max(0, start - window.position.window.start)
        while at < len(window.order):
            labels = window.labels[at : at + size - filled]
            stop = filled + len(labels)
            take(at, x[filled:stop])
            y[filled:stop] = labels
            at, filled = at + len(labels), stop
            if filled == size:
                yield x, y
                filled, (x, y) = 0, buffers()
    if filled:
        yield x[:filled], y[:filled]


def normalise(pixels: Array, schema: Schema, *, out: Tensor) -> Tensor:
    """Write (pixels − lo) / (hi − lo) to `out`, both (rows, features), and return it.

    NumPy does it in the calling thread; torch's threads would wait for each other on a busy machine.
    """
    low, span = schema.scale
    x = out.numpy()
    np.copyto(x, pixels, casting="same_kind" if pixels.dtype.kind == "f" else "unsafe")
    if low:
        np.subtract(x, np.float32(low), out=x)
    np.divide(x, np.float32(span), out=x)
    return out
