"""Shards → minibatches, a generator a stage: windows → gathered batches → normalised batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from streamtrain.block import Array
from streamtrain.schema import Schema
from streamtrain.stream.order import Window, row_order, windows

if TYPE_CHECKING:
    from streamtrain.stream.store import Shards


class Minibatch(NamedTuple):
    """x: (rows, features) float32, normalised; y: (rows,) int64 class indices."""

    x: Tensor
    y: Tensor


class Loaded(NamedTuple):
    """A window in memory: raw pixels (rows, row bytes) uint8, labels (rows,) int64, the order to visit them."""

    pixels: Tensor
    labels: Tensor
    order: Tensor


def minibatches(
    store: Shards, *, batch_size: int, seed: int, epoch: int, window_rows: int, start: int = 0, reuse: bool = False
) -> Iterator[Minibatch]:
    """The shuffled, normalised minibatches of an epoch from row `start` of its order on; the last is short.

    reuse: refill one buffer for every batch, so that a batch is valid only until the next is asked for.
    """
    plan = windows(store.group_rows, seed=seed, epoch=epoch, window_rows=window_rows)
    loaded = shuffled(plan, store, seed=seed, epoch=epoch, start=start)
    return normalised(gathered(loaded, size=batch_size, reuse=reuse), schema=store.schema, reuse=reuse)


def shuffled(plan: Iterable[Window], store: Shards, *, seed: int, epoch: int, start: int) -> Iterator[Loaded]:
    """Load each window that row `start` has not passed, with the order of the rows still to come."""
    for window in plan:
        if window.start + window.rows > start:
            pixels, labels = store.load(window.groups)
            order = row_order(window, seed=seed, epoch=epoch)[max(0, start - window.start) :]
            yield Loaded(pixels, labels, torch.from_numpy(order))


def gathered(loaded: Iterable[Loaded], *, size: int, reuse: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """Gather batches of `size` rows, across windows where one ends: raw bytes (rows, row bytes), labels."""
    filled, raw, labels = 0, torch.empty(0), torch.empty(0)
    for window in loaded:
        at = 0
        while at < len(window.order):
            if not filled and not (reuse and len(raw)):
                raw = torch.empty((size, window.pixels.shape[1]), dtype=torch.uint8)
                labels = torch.empty(size, dtype=torch.int64)
            index = window.order[at : at + size - filled]
            stop = filled + len(index)
            torch.index_select(window.pixels, 0, index, out=raw[filled:stop])
            torch.index_select(window.labels, 0, index, out=labels[filled:stop])
            at, filled = at + len(index), stop
            if filled == size:
                yield raw, labels
                filled = 0
    if filled:
        yield raw[:filled], labels[:filled]


def normalised(batches: Iterable[tuple[Tensor, Tensor]], *, schema: Schema, reuse: bool) -> Iterator[Minibatch]:
    """Cast raw batches to float32 and scale them: x → (x − lo) / (hi − lo)."""
    out = torch.empty(0)
    for raw, labels in batches:
        if not (reuse and len(out) >= len(raw)):
            out = torch.empty((len(raw), schema.features))
        x = out[: len(raw)]
        normalise(raw.numpy().view(np.dtype(schema.dtype).newbyteorder("<")), schema, out=x)
        yield Minibatch(x, labels)


def normalise(pixels: Array, schema: Schema, *, out: Tensor) -> Tensor:
    """Write (pixels − lo) / (hi − lo) into `out`, both (rows, features), and return it."""
    low, span = schema.scale
    np.copyto(out.numpy(), pixels, casting="same_kind" if pixels.dtype.kind == "f" else "unsafe")
    if low:
        out.sub_(low)
    return out.div_(span)
