"""Matrix products that threads share, with the same bits whatever the number of threads.

A library that splits one product among threads sums in another order for each number of them, so the last bits of
the weights would depend on the cores. Here a large product is cut into equal slices whose number follows from its
sizes alone; a batched product computes each slice in one thread. Small products run in one thread.

Each `bind_…` function creates the tensor views once and returns a function that recomputes the product, because
creating a view costs as much as a small product.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from streamtrain.block import Array
from streamtrain.process import closed_at_exit

MIN_ROWS, MIN_UNITS = 128, 32  # of a slice: smaller ones multiply slower
MAX_SLICES = 16
LARGE = 1 << 21  # multiplications from which on a product is cut

E = TypeVar("E")
Call = Callable[[], object]
Update = Callable[[float, float], object]  # of (beta, alpha): p ← beta · p + alpha · (a product)


@contextlib.contextmanager
def one_thread() -> Iterator[int]:
    """Context manager: torch computes in the calling thread alone, and not in inference mode; yields its threads.

    Both are as before afterwards. In inference mode a tensor made here could not be changed by another thread.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode(False):
            yield threads
    finally:
        torch.set_num_threads(threads)


@closed_at_exit
def in_one_thread(events: Generator[E]) -> Generator[E]:
    """Yield the events, computed with one thread of torch; between them the caller's settings hold."""
    try:
        while True:
            with one_thread():
                event = next(events, None)
            if event is None:
                return
            yield event
    finally:
        with one_thread():
            events.close()


class FirstLayer(Protocol):
    """The products of the first layer with pixels as they are stored, up to a fixed number of rows."""

    def zeros(self, rows: int, units: int) -> Tensor:
        """Return zeros (rows, units) in the layout that z and dz of the layer need."""

    def to_layout(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Return weight (units, features) and bias (units,) in the layout that the products need."""

    def read(self, pixels: Array) -> None:
        """Read a batch (rows, features)."""

    def bind_affine(self, weight: Tensor, bias: Tensor, *, out: Tensor) -> Call:
        """Return a function that writes x W^T + b into `out` (rows, units)."""

    def bind_update(self, weight: Tensor, bias: Tensor, dz: Tensor) -> Update:
        """Return the `bind_update` of the layer, with x as its input; dz: (rows, units)."""


class Dense:
    """A `FirstLayer` that multiplies every pixel.

    scale: (lo, span) of the normalisation x = (pixels − lo) / span. The buffer holds pixels − lo, and the products
    are divided by span, which costs nothing.
    threads: how many share a product
    """

    def __init__(
        self,
        rows: int,
        features: int,
        *,
        scale: tuple[float, float],
        threads: int,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._x = torch.zeros(rows, features, dtype=dtype)
        self._low, self._span = scale
        self._threads = threads

    def zeros(self, rows: int, units: int) -> Tensor:
        """Return zeros (rows, units)."""
        return self._x.new_zeros(rows, units)

    def to_layout(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Return weight and bias themselves."""
        return weight, bias

    def read(self, pixels: Array) -> None:
        """Read a batch (rows, features)."""
        x = self._x.numpy()[: len(pixels)]
        np.copyto(x, pixels, casting="same_kind" if pixels.dtype.kind == "f" else "unsafe")
        if self._low:
            x -= self._low

    def bind_affine(self, weight: Tensor, bias: Tensor, *, out: Tensor) -> Call:
        """Return a function that writes x W^T + b into `out` (rows, units)."""
        return bind_affine(self._x[: len(out)], weight, bias, alpha=1 / self._span, out=out, threads=self._threads)

    def bind_update(self, weight: Tensor, bias: Tensor, dz: Tensor) -> Update:
        """Return the `bind_update` of the layer, with x as its input; dz: (rows, units)."""
        return bind_update(weight, bias, dz, a=self._x[: len(dz)], span=self._span, threads=self._threads)


def bind_affine(a: Tensor, weight: Tensor, bias: Tensor, *, alpha: float = 1.0, out: Tensor, threads: int) -> Call:
    """Return a function that writes alpha · a W^T + b into `out` (rows, units).

    a: (rows, in); weight: (units, in); bias: (units,)
    """
    count = _slices(len(a), MIN_ROWS, weight.numel())
    parts = _cut(out, count)
    inputs, weights = _cut(a, count), weight.T.expand(count, -1, -1)
    call = partial(torch.baddbmm, bias.expand(parts.shape), inputs, weights, alpha=alpha, out=parts)
    return _with_threads(call, min(count, threads))


def bind_input_gradient(dz: Tensor, weight: Tensor, *, out: Tensor, threads: int) -> Call:
    """Return a function that writes dz W into `out` (rows, in); dz: (rows, units), weight: (units, in)."""
    count = _slices(len(dz), MIN_ROWS, weight.numel())
    call = partial(torch.bmm, _cut(dz, count), weight.expand(count, -1, -1), out=_cut(out, count))
    return _with_threads(call, min(count, threads))


def bind_update(weight: Tensor, bias: Tensor, dz: Tensor, *, a: Tensor, span: float = 1.0, threads: int) -> Update:
    """Return a function that updates a layer: its weight by dz^T a / span, its bias by Σ_rows dz.

    weight ← beta · weight + alpha · dz^T a / span and bias ← beta · bias + alpha · Σ_rows dz.
    weight: (units, in); bias: (units,); dz: (rows, units); a: (rows, in)
    """
    update_weight = bind_accumulate(weight, dz, a, threads=threads)
    update_bias = bind_accumulate(bias[:, None], dz, dz.new_ones(len(dz), 1), threads=threads)

    def update(beta: float, alpha: float) -> None:
        update_weight(beta, alpha / span)
        update_bias(beta, alpha)

    return update


def bind_accumulate(p: Tensor, dz: Tensor, a: Tensor, *, threads: int) -> Update:
    """Return a function that updates p ← beta · p + alpha · dz^T a.

    p: (units, in); dz: (rows, units); a: (rows, in)
    """
    count = _slices(len(p), MIN_UNITS, a.numel())
    slices, units = _cut(p, count), dz.view(len(dz), count, -1).permute(1, 2, 0)  # (slices, units, rows)
    inputs = a.expand(count, -1, -1)

    def update(beta: float, alpha: float) -> None:
        slices.baddbmm_(units, inputs, beta=beta, alpha=alpha)

    return _with_threads(update, min(count, threads))


def _slices(length: int, least: int, each: int) -> int:
    """Return into how many equal slices of at least `least` to cut `length` elements of `each` products.

    >>> _slices(256, 128, 78400), _slices(100, 32, 200_704), _slices(101, 32, 200_704), _slices(256, 128, 1000)
    (2, 2, 1, 1)
    """
    most = min(MAX_SLICES, length // least) if length * each >= LARGE else 1
    return next((count for count in range(most, 1, -1) if length % count == 0), 1)


def _cut(matrix: Tensor, count: int) -> Tensor:
    """Return the rows in equal slices: (count, rows / count, columns)."""
    return matrix.view(count, -1, matrix.shape[1])


def _with_threads(call: Callable[..., object], threads: int) -> Callable[..., object]:
    """Return the call made with `threads` of torch's threads; afterwards torch has one."""
    if threads == 1:
        return call

    def shared(*arguments: float) -> None:
        torch.set_num_threads(threads)
        try:
            call(*arguments)
        finally:
            torch.set_num_threads(1)

    return shared
