"""First-layer products that skip the pixels that are zero, in one thread.

Only one in five pixels of a handwritten digit is not zero. So x W^T sums, for each row, the weights of those
pixels times their values: a fifth of the work of the dense product. For the gradient, the nonzero pixels of a
batch are listed by their position in a row, and dz^T x is added to the weights of the listed ones alone. One
thread does both, which saves waiting for others.

The weights of one pixel lie next to each other for that, padded with zeros to a multiple of LANES. The padded copy
stays in here: the model keeps ordinary tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from streamtrain.block import Array
from streamtrain.engine.dense import Call, Dense, FirstLayer, Update
from streamtrain.memory import EvaluationSizes
from streamtrain.native import available
from streamtrain.native.evaluate import LANES
from streamtrain.native.step import accumulate, forward, list_nonzero
from streamtrain.nn.mlp import MLP
from streamtrain.stream.dataset import Shards

# Threads that evaluate, and rows that each scores at once by dense or sparse products.
EVALUATION = EvaluationSizes(threads=2, dense_rows=256, sparse_rows=2048)

_MAX_DENSITY = 0.25  # share of nonzero pixels: above it two threads are as fast with all of them
_MAX_UNITS = 256  # of the first layer: wider ones are worth the threads
_SPREAD = 16  # columns more than a power of two: at multiples of one, rows share few lines of the caches


def padded_zeros(rows: int, units: int) -> Tensor:
    """Return zeros (rows, units) float32, a view of rows that are padded to a multiple of LANES."""
    return torch.zeros(rows, _padded_units(units), dtype=torch.float32)[:, :units]


def _padded_units(units: int) -> int:
    return -(-units // LANES) * LANES


def padded_rows(tensor: Tensor) -> Array:
    """Return the rows, with their padding, that a padded tensor (rows, units) is a view of, in the same memory.

    Raises ValueError if the tensor is not padded.
    """
    rows, units = tensor.shape
    width = _padded_units(units)
    numbers = tensor.untyped_storage().nbytes() // 4 - tensor.storage_offset()
    if (rows > 1 and tensor.stride(0) != width) or tensor.stride(1) != 1 or numbers < rows * width:
        raise ValueError(f"a tensor of strides {tensor.stride()} is not padded")
    return tensor.as_strided((rows, width), (width, 1)).numpy()


def first_layer_for(data: Shards, model: MLP, rows: int, *, threads: int) -> FirstLayer:
    """Return the first layer's products that suit the data, for batches of up to `rows` rows.

    The data and the sizes alone decide, so the bits are the same on any machine and after any resume.
    """
    low, span = data.schema.scale
    if _is_mostly_zero(data, model):
        return Sparse(rows, model.features, span=span)
    return Dense(rows, model.features, scale=(low, span), threads=threads)


def bind_first_layer(data: Shards, model: MLP) -> tuple[Callable[[Tensor], Callable[[Array], object]], int]:
    """Return `(bind, max_rows)`: `bind(z)` returns a function of pixels that writes x W^T + b into the padded z.

    It uses the weights as they are now.
    pixels: (rows, features), at most `max_rows` rows; z: (rows or more, units)
    """
    weight, bias = model.weights[0], model.biases[0]
    if _is_mostly_zero(data, model):
        x, padded = _pixel_values(data.schema.scale[1]), _padded(weight, bias)

        def bind_nonzero(z: Tensor) -> Callable[[Array], object]:
            multiply = _bind_forward(x, *padded, z)
            return lambda pixels: multiply(pixels.reshape(-1))

        return bind_nonzero, EVALUATION.sparse_rows
    dense = Dense(EVALUATION.dense_rows, model.features, scale=data.schema.scale, threads=1)

    def bind_all(z: Tensor) -> Callable[[Array], object]:
        multiply = dense.bind_affine(weight, bias, out=z)

        def read_and_multiply(pixels: Array) -> None:
            dense.read(pixels)
            multiply()

        return read_and_multiply

    return bind_all, EVALUATION.dense_rows


def _is_mostly_zero(data: Shards, model: MLP) -> bool:
    """Return whether skipping the zeros of the data, in C, is faster than multiplying them."""
    bytes_from_0 = available() and data.schema.stored_dtype == np.uint8 and not data.schema.scale[0]
    return bytes_from_0 and len(model.biases[0]) <= _MAX_UNITS and data.density <= _MAX_DENSITY


def _pixel_values(span: float) -> Array:
    """Return x for each value of a pixel, (256,) float32."""
    return np.arange(256, dtype=np.float32) / np.float32(span)


def _padded(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Return padded copies of weight (units, features) and bias (units,)."""
    return padded_zeros(*weight.T.shape).copy_(weight.T).T, padded_zeros(1, len(bias)).copy_(bias)[0]


def _bind_forward(x: Array, weight: Tensor, bias: Tensor, out: Tensor, *pixels: Array) -> Callable[..., object]:
    """Return a function that writes x W^T + b into `out`; pixels (rows · features,) may be given later."""
    return partial(forward, x, padded_rows(weight.T), padded_rows(bias[None])[0], padded_rows(out), *pixels)


class Sparse:
    """A `FirstLayer` that multiplies only the pixels that are not zero, which are uint8.

    span: the normalisation is x = pixels / span
    """

    def __init__(self, rows: int, features: int, *, span: float) -> None:
        self._x = _pixel_values(span)
        self._pixels = np.zeros((rows, features), np.uint8)
        self._counts = np.zeros(features, np.uint32)
        self._shares = np.empty((features, rows + _SPREAD), np.uint32)

    def zeros(self, rows: int, units: int) -> Tensor:
        """Return zeros (rows, units), padded."""
        return padded_zeros(rows, units)

    def to_layout(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Return padded copies of weight (units, features) and bias (units,)."""
        return _padded(weight, bias)

    def read(self, pixels: Array) -> None:
        """Read a batch (rows, features) uint8."""
        mine = self._pixels[: len(pixels)]
        mine[:] = pixels
        list_nonzero(self._counts, self._shares, mine.reshape(-1))

    def bind_affine(self, weight: Tensor, bias: Tensor, *, out: Tensor) -> Call:
        """Return a function that writes x W^T + b into `out` (rows, units), all padded."""
        return _bind_forward(self._x, weight, bias, out, self._pixels[: len(out)].reshape(-1))

    def bind_update(self, weight: Tensor, bias: Tensor, dz: Tensor) -> Update:
        """Return the `bind_update` of the layer, with x as its input; dz: (rows, units), all padded."""
        layer = padded_rows(weight.T), padded_rows(bias[None])[0]
        return partial(accumulate, self._x, self._counts, self._shares, padded_rows(dz), *layer)
