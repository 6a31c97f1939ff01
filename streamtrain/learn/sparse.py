"""Products with pixels of which most are zero: only the others are multiplied, in one thread.

Of a handwritten digit's pixels one in five is not. So those of a batch are listed, and x W^T adds up for each row
the weights of its listed pixels, times their values, where the dense product would add five times as many. Back,
dz^T x goes into the weights of the listed pixels alone. Both are left to one thread, which waits for nobody.

For that the weights of one pixel lie together, laid out in runs: whole vectors, as many as the registers hold, the
last filled up with zeros.
"""

from __future__ import annotations

import functools
from functools import partial

import numpy as np
import torch
from torch import Tensor

from streamtrain.block import Array
from streamtrain.compiled import Compiled
from streamtrain.compiled.words import bytes_in, store
from streamtrain.learn.mlp import MLP
from streamtrain.learn.products import Call, Dense
from streamtrain.stream.store import Shards

_MOST_FEATURES = 1 << 16  # that a uint16 can name
_MOST_DENSITY = 0.25  # of pixels that are not zero: two threads multiply all of denser ones as fast
_MOST_UNITS = 256  # of the first layer: wider ones are worth the threads
_VECTOR, _REGISTERS = 8, 13  # numbers of a vector; vectors of a run, at most: three of 16 registers stay free
_ONE, _EIGHT, _LAST = np.uint64(1), np.uint64(8), np.uint64(0xFF)
_EACH = np.uint64(0x0001000100010001)  # of four uint16
_EIGHT_EACH = _EIGHT * _EACH


def laid_out(rows: int, units: int) -> Tensor:
    """Zeros (rows, units) float32, each row of which is laid out."""
    vectors = -(-units // _VECTOR)
    count = -(-vectors // _REGISTERS)
    return torch.zeros(rows, count * -(-vectors // count) * _VECTOR)[:, :units]


def runs(tensor: Tensor) -> Array:
    """The runs (rows, runs, lanes) that a laid out tensor (rows, units) is a view of."""
    rows, units = tensor.shape
    width = laid_out(1, units).stride(0)
    numbers = tensor.untyped_storage().nbytes() // 4 - tensor.storage_offset()
    if (rows > 1 and tensor.stride(0) != width) or tensor.stride(1) != 1 or numbers < rows * width:
        raise ValueError(f"a tensor of strides {tensor.stride()} is not laid out in runs")
    count = -(-width // (_VECTOR * _REGISTERS))
    return tensor.as_strided((rows, count, width // count), (width, width // count, 1)).numpy()


def products(data: Shards, model: MLP, rows: int, *, threads: int) -> Dense | Sparse:
    """The first layer's products that suit the data, for batches of up to `rows` rows.

    The data alone and the sizes decide, so that the bits are the same on any machine and after any resume.
    """
    schema, units = data.schema, len(model.biases[0])
    low, span = schema.scale
    if (
        schema.stored_dtype != np.uint8
        or low
        or schema.features > _MOST_FEATURES
        or units > _MOST_UNITS
        or data.density > _MOST_DENSITY
    ):
        return Dense(rows, schema.features, scale=(low, span), threads=threads)
    return Sparse(rows, schema.features, span=span)


class Sparse:
    """The first layer's products with pixels of up to `rows` rows, the zeros among them left out; see `Dense`.

    span: the normalisation is x = pixels / span
    """

    def __init__(self, rows: int, features: int, *, span: float) -> None:
        self._pixels = np.zeros((rows, features), np.uint8)
        self._starts = np.zeros(rows + 1, np.int64)
        self._places = np.empty(rows * features + _VECTOR, np.uint16)
        self._x = np.arange(256, dtype=np.float32) / np.float32(span)  # of each value of a pixel

    def room(self, rows: int, units: int) -> Tensor:
        """For z or dz of the layer: (rows, units)."""
        return laid_out(rows, units)

    def own(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Copies of weight (units, features) and bias (units,) that are laid out."""
        return laid_out(*weight.T.shape).copy_(weight.T).T, laid_out(1, len(bias)).copy_(bias)[0]

    def read(self, pixels: Array) -> None:
        """Take a batch (rows, features) uint8."""
        rows, features = pixels.shape
        self._pixels[:rows] = pixels
        self._starts[rows + 1 :] = 0  # rows that are not there have no pixels
        places = self._places.view(np.uint8)[None]
        _list(self._pixels.reshape(-1), features, _PLACES, _COUNTS, self._starts[: rows + 1], places)

    def affine(self, weight: Tensor, bias: Tensor, *, out: Tensor) -> Call:
        """What fills out (rows, units) with x W^T + b."""
        w, b, z = runs(weight.T), runs(bias[None])[0], runs(out)
        return _multiply(w.shape[2]).bound(self._pixels, self._x, self._starts, self._places, w, b, z)

    def accumulated(self, p: Tensor, dz: Tensor, *, beta: float, alpha: float) -> list[Call]:
        """What moves p (units, features) to beta · p + alpha · dz^T x; dz: (rows, units)."""
        d, w = runs(dz), runs(p.T)
        moved = _accumulate(w.shape[2]).bound(self._pixels, self._x, self._starts, self._places, d, alpha, w)
        return [moved] if beta == 1 else [partial(p.mul_, beta), moved]


def _listed(pixels: Array, features: int, ones: Array, counts: Array, starts: Array, places: Array) -> None:
    """List which pixels are not zero: those of row r in places, from starts[r] to starts[r + 1].

    pixels: (rows · features,) uint8; starts: (rows + 1,) int64
    places: (1, bytes) uint8, that are uint16 in the row of pixels, with room for eight more
    ones: (256, 2) uint64, that are eight uint16: where each byte has its ones, from the lowest on
    counts: (256,) uint8, how many it has
    """
    listed = 0
    for row in range(len(starts) - 1):
        starts[row] = listed
        first = row * features
        whole = features - features % 16
        for at in range(0, whole, 16):
            base = np.uint64(at) * _EACH
            marks = bytes_in(pixels, first + at, _ONE, _LAST)
            for byte in (marks & _LAST, marks >> _EIGHT):
                store(places, 0, 2 * listed, ones[byte, 0] + base)
                store(places, 0, 2 * listed + 8, ones[byte, 1] + base)
                base += _EIGHT_EACH
                listed += counts[byte]
        for place in range(whole, features):
            store(places, 0, 2 * listed, np.uint16(place))
            listed += pixels[first + place] > 0
    starts[len(starts) - 1] = listed


def _multiplied(
    pixels: Array, x: Array, starts: Array, places: Array, weight: Array, bias: Array, z: Array
) -> None:
    """z = x W^T + b of the listed pixels; x: (256,) float32, that each value of a pixel stands for."""
    for run in range(z.shape[1]):
        for row in range(z.shape[0]):
            total = bias[run]
            for i in range(starts[row], starts[row + 1]):
                total = total + x[pixels[row, places[i]]] * weight[places[i], run]
            z[row, run] = total


def _accumulated(pixels: Array, x: Array, starts: Array, places: Array, dz: Array, alpha: float, p: Array) -> None:
    """p += alpha · dz^T x of the listed pixels."""
    for run in range(dz.shape[1]):
        for row in range(dz.shape[0]):
            step = alpha * dz[row, run]
            for i in range(starts[row], starts[row + 1]):
                p[places[i], run] = p[places[i], run] + x[pixels[row, places[i]]] * step


_PLACES = np.array([sorted(range(8), key=lambda i: not byte >> i & 1) for byte in range(256)], np.uint16).view(
    np.uint64
)
_COUNTS = np.array([byte.bit_count() for byte in range(256)], np.uint8)
_LISTED = ("uint8[:, :]", "float32[:]", "int64[:]", "uint16[:]")
_list = Compiled(_listed, ("uint8[:]", "int64", "uint64[:, :]", "uint8[:]", "int64[:]", "uint8[:, :]"), apart=True)


@functools.cache
def _multiply(lanes: int) -> Compiled:
    run = f"float32x{lanes}"
    return Compiled(_multiplied, (*_LISTED, f"{run}[:, :]", f"{run}[:]", f"{run}[:, :]"), apart=True)


@functools.cache
def _accumulate(lanes: int) -> Compiled:
    run = f"float32x{lanes}"
    return Compiled(_accumulated, (*_LISTED, f"{run}[:, :]", "float32", f"{run}[:, :]"), apart=True)
