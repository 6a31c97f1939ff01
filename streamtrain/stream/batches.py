"""Windows → batches: raw pixels in one refilled buffer for training, normalised tensors for everybody else."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from streamtrain.block import Array
from streamtrain.errors import UsageError
from streamtrain.native.gather import gather_scaled
from streamtrain.schema import Schema
from streamtrain.stream.order import Cursor, Order
from streamtrain.stream.windows import DecodedRows, LoadedWindow, load_windows

B = TypeVar("B", covariant=True)
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


class Selection(NamedTuple):
    """Rows where they lie in memory, valid until the next selection is asked for.

    pixels: (any, features) raw, in the schema's dtype
    order:  (rows,) int64, the selected rows of `pixels`
    labels: (rows,) int64, in the same order
    """

    pixels: Array
    order: Array
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


class Gathering(Protocol[B]):
    """What makes batches of loaded windows: `gather_pixels` or `select_pixels`."""

    def __call__(
        self, loaded: Iterable[LoadedWindow], schema: Schema, /, *, size: int, start: Cursor
    ) -> Iterator[B]:
        """Yield the batches of `size` rows of an epoch from `start` on; the last may be short."""


def pixel_epochs(
    decoded: DecodedRows,
    order: Order,
    *,
    gather: Gathering[B],
    batch_size: int,
    prefetch_threads: int,
    start: Cursor,
    last: int,
) -> Generator[tuple[int, Iterator[B]]]:
    """Return the epochs from `start` to `last`: each its number and its batches, to be looped over once.

    gather: what a batch is
    While one window is being consumed, background threads load the next, also across an epoch boundary. Closing
    the generator stops them. A batch is valid until the next one. The last one of an epoch may be short.
    Raises UsageError if `order.window_rows` cannot hold a row group.
    """
    order.windows(decoded.row_groups.group_rows, start.epoch)  # raises now, not at the first batch
    loaded = load_windows(decoded, order, prefetch_threads=prefetch_threads, start=start, last=last)
    return _pixel_epochs(loaded, decoded, gather, batch_size, start, last)


def _pixel_epochs(
    loaded: Generator[LoadedWindow],
    decoded: DecodedRows,
    gather: Gathering[B],
    batch_size: int,
    start: Cursor,
    last: int,
) -> Generator[tuple[int, Iterator[B]]]:
    schema, rows = decoded.row_groups.schema, decoded.row_groups.rows
    with contextlib.closing(loaded):
        for epoch in range(start.epoch, last + 1):
            done = start.rows if epoch == start.epoch else 0
            windows = _one_epoch(loaded) if done < rows else iter(())
            yield epoch, gather(windows, schema, size=min(batch_size, rows), start=Cursor(epoch, done))
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
            batches = gather_pixels(loaded, schema, size=size, start=self.start, transforms=self.transforms)
            for pixels, labels in batches:
                x = normalise(pixels, schema, out=torch.empty(pixels.shape, dtype=torch.float32))
                yield Minibatch(x, torch.from_numpy(labels.copy()))


def gather_pixels(
    loaded: Iterable[LoadedWindow],
    schema: Schema,
    *,
    size: int,
    start: Cursor,
    transforms: Sequence[Transform] = (),
) -> Iterator[Batch]:
    """Gather the batches of `size` rows of an epoch from `start` on, in one buffer that is refilled.

    transforms: of the rows of each batch; they return rows of the same shape and dtype, perhaps the same in place
    """
    batches = _gather_pixels(loaded, schema, size, start.rows)
    return _transformed(batches, transforms, start) if transforms else batches


def _gather_pixels(loaded: Iterable[LoadedWindow], schema: Schema, size: int, start: int) -> Iterator[Batch]:
    buffer = np.empty((size, schema.features), schema.stored_dtype), np.empty(size, np.int64)

    def gather(window: LoadedWindow) -> Gather:
        pixels, order = window.pixels.view(schema.stored_dtype), window.order
        # mode="clip" writes straight to `out`; the default gathers into a copy first, and takes twice as long.
        return lambda at, out: np.take(pixels, order[at : at + len(out)], axis=0, out=out, mode="clip")

    for pixels, labels in _fill(loaded, size=size, start=start, buffers=lambda: buffer, gather=gather):
        yield Batch(pixels, labels)


def select_pixels(
    loaded: Iterable[LoadedWindow], schema: Schema, *, size: int, start: Cursor
) -> Iterator[Selection]:
    """Yield batches of `size` rows of an epoch from `start` on, where they lie in their window.

    The rows of a batch that begins in one window and ends in another are gathered.
    """
    across: list[tuple[Array, Array]] = []  # pixels and labels of the rows so far of such a batch
    missing = size
    for window in loaded:
        pixels, order = window.pixels.view(schema.stored_dtype), window.order
        at = max(0, start.rows - window.position.window.start)
        while at < len(order):
            places = slice(at, at + missing)
            selection = Selection(pixels, order[places], window.labels[places])
            at, missing = at + selection.rows, missing - selection.rows
            if across or missing:
                across.append((pixels[selection.order], selection.labels))
            if not missing:
                yield _joined(across) if across else selection
                across, missing = [], size
    if across:
        yield _joined(across)


def _joined(parts: Sequence[tuple[Array, Array]]) -> Selection:
    """Return the rows of parts, each of pixels and labels, as one selection."""
    pixels, labels = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Selection(pixels, np.arange(len(labels)), labels)


def _transformed(batches: Iterable[Batch], transforms: Sequence[Transform], start: Cursor) -> Iterator[Batch]:
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
