"""Products with pixels of which most are zero: only the others are multiplied, in one thread.

Of a handwritten digit's pixels one in five is not. So x W^T adds up for each row the weights of these, times their
values, where the dense product would add five times as many. Back, the pixels of a batch are listed by their place
in a row, and dz^T x goes into the weights of the listed ones alone. Both are left to one thread, which waits for
nobody.

For that the weights of one pixel lie together, laid out in runs: whole vectors, as many as the registers hold, the
last filled up with zeros.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from streamtrain.block import Array
from streamtrain.engine.dense import Call, Dense
from streamtrain.memory import EvaluationSizes
from streamtrain.native import Compiled
from streamtrain.native.evaluate import evaluate
from streamtrain.native.step import accumulate, forward, list_nonzero, score
from streamtrain.nn.mlp import MLP
from streamtrain.stream.dataset import Shards

# Threads that evaluate, and rows that each scores at once by dense or sparse products.
EVALUATION = EvaluationSizes(threads=2, dense_rows=512, sparse_rows=2048)

_MOST_DENSITY = 0.25  # of pixels that are not zero: two threads multiply all of denser ones as fast
_MOST_UNITS = 256  # of the first layer: wider ones are worth the threads
_SPREAD = 16  # numbers beside a power of two, at multiples of which the caches hold little
_VECTOR, _REGISTERS = 8, 13  # numbers of a vector; vectors of a run, at most: three of 16 registers stay free


def padded_zeros(rows: int, units: int) -> Tensor:
    """Zeros (rows, units) float32, each row of which is laid out."""
    return torch.zeros(rows, math.prod(_lanes(units)))[:, :units]


def _lanes(units: int) -> tuple[int, int]:
    """How many runs a row of so many is laid out in, and of how many numbers each."""
    vectors = -(-units // _VECTOR)
    count = -(-vectors // _REGISTERS)
    return count, -(-vectors // count) * _VECTOR


def runs(tensor: Tensor) -> Array:
    """The runs (rows, runs, lanes) that a laid out tensor (rows, units) is a view of."""
    rows, units = tensor.shape
    count, lanes = _lanes(units)
    numbers = tensor.untyped_storage().nbytes() // 4 - tensor.storage_offset()
    if (rows > 1 and tensor.stride(0) != count * lanes) or tensor.stride(1) != 1 or numbers < rows * count * lanes:
        raise ValueError(f"a tensor of strides {tensor.stride()} is not laid out in runs")
    return tensor.as_strided((rows, count, lanes), (count * lanes, lanes, 1)).numpy()


def first_layer_for(data: Shards, model: MLP, rows: int, *, threads: int) -> Dense | Sparse:
    """The first layer's products that suit the data, for batches of up to `rows` rows.

    The data alone and the sizes decide, so that the bits are the same on any machine and after any resume.
    """
    low, span = data.schema.scale
    if _mostly_zero(data, model):
        return Sparse(rows, model.features, span=span)
    return Dense(rows, model.features, scale=(low, span), threads=threads)


def bind_first_layer(data: Shards, model: MLP) -> tuple[Callable[[Tensor], Callable[[Array], object]], int]:
    """For z (rows or more, units), laid out, the call that fills it with x W^T + b of pixels (rows, features).

    W and b are the first layer's as they are now. Beside it, for how many rows at a time at most.
    """
    weight, bias = model.weights[0], model.biases[0]
    if _mostly_zero(data, model):
        x, to_layout = _values(data.schema.scale[1]), _own(weight, bias)

        def set_ones(z: Tensor) -> Callable[[Array], object]:
            multiplied = _multiplied(x, *to_layout, z)
            return lambda pixels: multiplied(pixels.reshape(-1))

        return set_ones, EVALUATION.sparse_rows
    dense = first_layer_for(data, model, EVALUATION.dense_rows, threads=1)

    def whole(z: Tensor) -> Callable[[Array], object]:
        multiplied = dense.affine(weight, bias, out=z)
        return lambda pixels: (dense.read(pixels), multiplied())

    return whole, EVALUATION.dense_rows


def required_kernels(data: Shards, model: MLP) -> list[Compiled]:
    """What training and evaluation call of it, to be compiled where this processor has not seen it yet."""
    _, lanes = _lanes(len(model.biases[0]))
    kernels = list_nonzero, forward(lanes), accumulate(lanes)
    sparse = kernels if _mostly_zero(data, model) else ()
    return [evaluate, score("float32"), *sparse]


def _mostly_zero(data: Shards, model: MLP) -> bool:
    """Whether so many pixels are zero that it is worth while to multiply the others alone."""
    bytes_from_0 = data.schema.stored_dtype == np.uint8 and not data.schema.scale[0]
    return bytes_from_0 and len(model.biases[0]) <= _MOST_UNITS and data.density <= _MOST_DENSITY


def _values(span: float) -> Array:
    """(256,) float32: x of each value of a pixel."""
    return np.arange(256, dtype=np.float32) / np.float32(span)


def _own(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Copies of weight (units, features) and bias (units,) that are laid out."""
    return padded_zeros(*weight.T.shape).copy_(weight.T).T, padded_zeros(1, len(bias)).copy_(bias)[0]


def _multiplied(x: Array, weight: Tensor, bias: Tensor, out: Tensor, *pixels: Array) -> Callable[..., object]:
    """What fills out (rows, units) with x W^T + b of pixels (rows · features,): these, or its argument."""
    w, b, z = runs(weight.T), runs(bias[None])[0], runs(out)
    return forward(w.shape[2]).bound(x, w, b, z, *pixels)


class Sparse:
    """The first layer's products with pixels of up to `rows` rows, the zeros among them left out; see `Dense`.

    span: the normalisation is x = pixels / span
    """

    def __init__(self, rows: int, features: int, *, span: float) -> None:
        self._x = _values(span)
        self._pixels = np.zeros((rows, features), np.uint8)
        self._counts = np.zeros(features, np.uint32)
        self._shares = np.empty((features, rows + _SPREAD), np.uint32)
        self._list = list_nonzero.bound(self._counts, self._shares)

    def room(self, rows: int, units: int) -> Tensor:
        """For z or dz of the layer: (rows, units)."""
        return padded_zeros(rows, units)

    def to_layout(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Copies of weight (units, features) and bias (units,) that are laid out."""
        return _own(weight, bias)

    def read(self, pixels: Array) -> None:
        """Take a batch (rows, features) uint8."""
        mine = self._pixels[: len(pixels)]
        mine[:] = pixels
        self._list(mine.reshape(-1))

    def affine(self, weight: Tensor, bias: Tensor, *, out: Tensor) -> Call:
        """What fills out (rows, units) with x W^T + b."""
        return _multiplied(self._x, weight, bias, out, self._pixels[: len(out)].reshape(-1))

    def accumulated(self, weight: Tensor, bias: Tensor, dz: Tensor, *, beta: float, alpha: float) -> list[Call]:
        """What moves weight to beta · weight + alpha · dz^T x, and bias as if its x were 1; dz: (rows, units)."""
        w, b, d = runs(weight.T), runs(bias[None])[0], runs(dz)
        return [accumulate(w.shape[2]).bound(self._x, self._counts, self._shares, d, beta, alpha, w, b)]
