"""The loops of a step that torch has not, as machine code: products with pixels of which most are zero, the loss.

Nothing here imports torch, for whoever compiles need not wait for it.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from streamtrain.block import Array
from streamtrain.compiled import Compiled
from streamtrain.compiled.words import bytes_in, store

_ONE, _EIGHT, _LAST = np.uint64(1), np.uint64(8), np.uint64(0xFF)
_EACH = np.uint64(0x0001000100010001)  # of four uint16
_EIGHT_EACH = _EIGHT * _EACH
# Of each byte: its ones, from the lowest, as eight uint16 in two words; and how many it has.
_ONES = [sorted(range(8), key=lambda i: not byte >> i & 1) for byte in range(256)]
_PLACES = np.array(_ONES, np.uint16).view(np.uint64)
_COUNTS = np.array([byte.bit_count() for byte in range(256)], np.uint8)


def _listed(features: int, places: Array, counts: Array, shares: Array, pixels: Array, starts: Array) -> None:
    """List the pixels that are not zero, by their rows and by their places in these.

    places: (1, bytes) uint8, that are uint16: those of row r from starts[r] to starts[r + 1], with room for 8 more
    shares: (features, rows or more) uint32, of each pixel at a place its row · 256 + its value
    counts: (features,) uint32, how many these are
    pixels: (rows · features,) uint8; starts: (rows + 1,) int64
    """
    counts[:] = 0
    starts[0] = 0
    for row in range(len(starts) - 1):
        first, start = row * features, starts[row]
        starts[row + 1] = _listed_row(pixels, first, features, places, start)
        for i in range(start, starts[row + 1]):
            place = _named(places, i)
            shares[place, counts[place]] = 256 * row + int(pixels[first + place])
            counts[place] += 1


def _listed_row(pixels: Array, first: int, features: int, places: Array, listed: int) -> int:
    """List the pixels of the row that begins at pixels[first], behind so many; returns how many there are then."""
    whole = features - features % 16
    for at in range(0, whole, 16):
        base = np.uint64(at) * _EACH
        marks = bytes_in(pixels, first + at, _ONE, _LAST)
        for byte in (marks & _LAST, marks >> _EIGHT):
            store(places, 0, 2 * listed, _PLACES[byte, 0] + base)
            store(places, 0, 2 * listed + 8, _PLACES[byte, 1] + base)
            base += _EIGHT_EACH
            listed += _COUNTS[byte]
    for place in range(whole, features):
        store(places, 0, 2 * listed, np.uint16(place))
        listed += pixels[first + place] > 0
    return listed


def _named(places: Array, i: int) -> int:
    """The i-th place of a list."""
    return int(places[0, 2 * i]) + 256 * int(places[0, 2 * i + 1])


def _multiplied(
    x: Array, pixels: Array, starts: Array, places: Array, weight: Array, bias: Array, z: Array
) -> None:
    """z = x W^T + b of the listed pixels; x: (256,) float32, that each value of a pixel stands for."""
    for run in range(z.shape[1]):
        for row in range(z.shape[0]):
            total = bias[run]
            for i in range(starts[row], starts[row + 1]):
                total = total + x[pixels[row, places[i]]] * weight[places[i], run]
            z[row, run] = total


def _forwarded(x: Array, places: Array, weight: Array, bias: Array, z: Array, pixels: Array) -> None:
    """z = x W^T + b as `_multiplied`, of pixels (rows · features,) uint8 that are listed a row at a time."""
    features = len(weight)
    for row in range(len(pixels) // features):
        first = row * features
        count = _listed_row(pixels, first, features, places, 0)
        for run in range(z.shape[1]):
            total = bias[run]
            for i in range(count):
                place = _named(places, i)
                total = total + x[pixels[first + place]] * weight[place, run]
            z[row, run] = total


def _accumulated(
    x: Array, counts: Array, shares: Array, dz: Array, beta: float, alpha: float, weight: Array, bias: Array
) -> None:
    """weight = beta · weight + alpha · dz^T x of the listed pixels, and bias as if its x were 1."""
    for run in range(dz.shape[1]):
        for place in range(len(weight)):
            if counts[place]:
                total = x[shares[place, 0] & 255] * dz[shares[place, 0] >> 8, run]
                for i in range(1, counts[place]):
                    total = total + x[shares[place, i] & 255] * dz[shares[place, i] >> 8, run]
                weight[place, run] = beta * weight[place, run] + alpha * total
            else:
                weight[place, run] = beta * weight[place, run]
        total = dz[0, run]
        for row in range(1, len(dz)):
            total = total + dz[row, run]
        bias[run] = beta * bias[run] + alpha * total


def _scored(logits: Array, classes: int, labels: Array, dlogits: Array, told: Array) -> None:
    """softmax − one_hot of each row, and what was scored; see `functional.cross_entropy_gradient`.

    logits, dlogits: (rows, classes or more); labels: (rows,) int64
    told: (2,) float64, out: the sum of the rows' losses in nats, how many have their largest logit at the label
    """
    loss, right = 0.0, 0
    for row in range(len(labels)):
        likeliest = 0
        for k in range(1, classes):
            if logits[row, k] > logits[row, likeliest]:
                likeliest = k
        top, label = logits[row, likeliest], labels[row]
        total = top - top
        for k in range(classes):
            dlogits[row, k] = math.exp(logits[row, k] - top)
            total += dlogits[row, k]
        loss += math.log(total) + (top - logits[row, label])
        for k in range(classes):
            dlogits[row, k] /= total
        dlogits[row, label] -= 1
        right += likeliest == label
    told[0], told[1] = loss, right


list_nonzero = Compiled(
    _listed, ("int64", "uint8[:, :]", "uint32[:]", "uint32[:, :]", "uint8[:]", "int64[:]"), apart=True
)


@functools.cache
def multiply(lanes: int) -> Compiled:
    """`_multiplied` in runs of so many lanes."""
    rows, row = f"float32x{lanes}[:, :]", f"float32x{lanes}[:]"
    taken = ("float32[:]", "uint8[:, :]", "int64[:]", "uint16[:]", rows, row, rows)
    return Compiled(_multiplied, taken, apart=True)


@functools.cache
def forward(lanes: int) -> Compiled:
    """`_forwarded` in runs of so many lanes."""
    rows, row = f"float32x{lanes}[:, :]", f"float32x{lanes}[:]"
    return Compiled(_forwarded, ("float32[:]", "uint8[:, :]", rows, row, rows, "uint8[:]"), apart=True)


@functools.cache
def accumulate(lanes: int) -> Compiled:
    """`_accumulated` in runs of so many lanes."""
    rows, row = f"float32x{lanes}[:, :]", f"float32x{lanes}[:]"
    taken = ("float32[:]", "uint32[:]", "uint32[:, :]", rows, "float32", "float32", rows, row)
    return Compiled(_accumulated, taken, apart=True)


@functools.cache
def score(dtype: str) -> Compiled:
    """`_scored` of logits in float32 or float64."""
    rows = f"{dtype}[:, :]"
    return Compiled(_scored, (rows, "int64", "int64[:]", rows, "float64[:]"), apart=True)
