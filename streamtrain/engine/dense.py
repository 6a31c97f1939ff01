"""Matrix products shared out among threads, with the same bits whatever their number.

A library that splits one product among threads sums in another order for each number of them, so the last bits of
the weights would depend on the cores. Here a large product is cut into equal slices that its sizes alone decide;
a batched product gives each to one thread. What is small is computed by one.

Each function prepares a product in views that are made once, and returns the call that computes it anew: to make
a view costs as much as a small sum.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor

from streamtrain.block import Array

ROWS, UNITS = 128, 32  # of a slice, at least: smaller ones multiply slower
MOST = 16  # slices
LARGE = 1 << 21  # multiplications of a product that is cut

Call = Callable[[], object]


@contextlib.contextmanager
def one_thread() -> Iterator[int]:
    """Let torch compute in the calling thread alone inside a `with`, which gets the number that it had before."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


class Dense:
    """The first layer's products with pixels of up to `rows` rows, as they are stored.

    scale: (lo, span) of the normalisation x = (pixels − lo) / span. The buffer holds pixels − lo, and the products
    are divided by span, which costs nothing.
    threads: that share them
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

    def room(self, rows: int, units: int) -> Tensor:
        """For z or dz of the layer: (rows, units)."""
        return self._x.new_zeros(rows, units)

    def to_layout(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Weight and bias as the products take them: as they are."""
        return weight, bias

    def read(self, pixels: Array) -> None:
        """Take a batch (rows, features)."""
        x = self._x.numpy()[: len(pixels)]
        np.copyto(x, pixels, casting="same_kind" if pixels.dtype.kind == "f" else "unsafe")
        if self._low:
            x -= self._low

    def affine(self, weight: Tensor, bias: Tensor, *, out: Tensor) -> Call:
        """What fills out (rows, units) with x W^T + b."""
        return affine(self._x[: len(out)], weight, bias, alpha=1 / self._span, out=out, threads=self._threads)

    def accumulated(self, weight: Tensor, bias: Tensor, dz: Tensor, *, beta: float, alpha: float) -> list[Call]:
        """What moves weight to beta · weight + alpha · dz^T x, and bias as if its x were 1; dz: (rows, units)."""
        a, factors = self._x[: len(dz)], {"beta": beta, "alpha": alpha, "span": self._span}
        return update_layer(weight, bias, dz, a=a, threads=self._threads, **factors)


def affine(a: Tensor, weight: Tensor, bias: Tensor, *, alpha: float = 1.0, out: Tensor, threads: int) -> Call:
    """What fills out (rows, units) with alpha · a W^T + b; a: (rows, in), weight: (units, in), bias: (units,)."""
    count = _slices(len(a), ROWS, weight.numel())
    parts = _cut(out, count)
    call = partial(
        torch.baddbmm,
        bias.expand(parts.shape),
        _cut(a, count),
        weight.T.expand(count, -1, -1),
        alpha=alpha,
        out=parts,
    )
    return _shared(call, min(count, threads))


def input_gradient(dz: Tensor, weight: Tensor, *, out: Tensor, threads: int) -> Call:
    """What fills out (rows, in) with dz W; dz: (rows, units), weight: (units, in)."""
    count = _slices(len(dz), ROWS, weight.numel())
    call = partial(torch.bmm, _cut(dz, count), weight.expand(count, -1, -1), out=_cut(out, count))
    return _shared(call, min(count, threads))


def update_layer(
    weight: Tensor,
    bias: Tensor,
    dz: Tensor,
    *,
    a: Tensor,
    beta: float,
    alpha: float,
    span: float = 1.0,
    threads: int,
) -> list[Call]:
    """What moves a layer to beta times itself plus alpha · dz^T a / span, and its bias as if that quotient were 1.

    weight: (units, in); bias: (units,); dz: (rows, units); a: (rows, in)
    """
    ones = dz.new_ones(len(dz), 1)
    return [
        accumulated(weight, dz, a, beta=beta, alpha=alpha / span, threads=threads),
        accumulated(bias[:, None], dz, ones, beta=beta, alpha=alpha, threads=threads),
    ]


def accumulated(p: Tensor, dz: Tensor, a: Tensor, *, beta: float, alpha: float, threads: int) -> Call:
    """What moves p (units, in) to beta · p + alpha · dz^T a; dz: (rows, units), a: (rows, in)."""
    count = _slices(len(p), UNITS, a.numel())
    units = dz.view(len(dz), count, -1).permute(1, 2, 0)  # (slices, units, rows)
    call = partial(_cut(p, count).baddbmm_, units, a.expand(count, -1, -1), beta=beta, alpha=alpha)
    return _shared(call, min(count, threads))


def _slices(length: int, least: int, each: int) -> int:
    """How many equal slices, of at least `least`, a length is cut into; each element of it takes `each` products.

    >>> _slices(256, 128, 78400), _slices(100, 32, 200_704), _slices(101, 32, 200_704), _slices(256, 128, 1000)
    (2, 2, 1, 1)
    """
    most = min(MOST, length // least) if length * each >= LARGE else 1
    return next((count for count in range(most, 1, -1) if length % count == 0), 1)


def _cut(matrix: Tensor, count: int) -> Tensor:
    """Its rows in equal slices: (count, rows / count, columns)."""
    return matrix.view(count, -1, matrix.shape[1])


def _shared(call: Call, threads: int) -> Call:
    """The call, made in so many of torch's threads; it is to be left with one."""
    if threads == 1:
        return call

    def shared() -> None:
        torch.set_num_threads(threads)
        try:
            call()
        finally:
            torch.set_num_threads(1)

    return shared
