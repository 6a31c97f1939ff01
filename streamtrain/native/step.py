"""The loops of a step that torch has not, as machine code: products with pixels of which most are zero, the loss.

Nothing here imports torch, for whoever compiles need not wait for it.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from streamtrain.block import Array
from streamtrain.native import Compiled
from streamtrain.native.intrinsics import bytes_in, zeros_below

_NONE, _ONE, _LAST = np.uint64(0), np.uint64(1), np.uint64(0xFF)
_WORD = 64  # pixels that are marked together


def _marks(pixels: Array, at: int, count: int) -> np.uint64:
    """Which pixels from pixels[at] on are not zero: a bit each, of 64 or, where `count` is less, 16, 32 or 48."""
    marks = _NONE
    for part in range(0, min(count, _WORD), 16):
        marks |= bytes_in(pixels, at + part, _ONE, _LAST) << np.uint64(part)
    return marks


def _listed(counts: Array, shares: Array, pixels: Array) -> None:
    """List the pixels that are not zero by their places in a row.

    counts: (features,) uint32, how many there are at a place
    shares: (features, rows or more) uint32, of each of these its row · 256 + its value
    pixels: (rows · features,) uint8
    """
    counts[:] = 0
    features = len(counts)
    whole = features - features % 16
    for row in range(len(pixels) // features):
        first = row * features
        for at in range(0, whole, _WORD):
            marks = _marks(pixels, first + at, whole - at)
            while marks:
                place = at + int(zeros_below(marks))
                marks &= marks - _ONE
                _share(counts, shares, place, row, pixels[first + place])
        for place in range(whole, features):
            if pixels[first + place]:
                _share(counts, shares, place, row, pixels[first + place])


def _share(counts: Array, shares: Array, place: int, row: int, pixel: np.uint8) -> None:
    shares[place, counts[place]] = 256 * row + int(pixel)
    counts[place] += 1


def _forwarded(x: Array, weight: Array, bias: Array, z: Array, pixels: Array) -> None:
    """z = x W^T + b of pixels (rows · features,) uint8, those that are zero left out.

    x: (256,) float32, that each value of a pixel stands for; weight, bias and z are of runs
    """
    features = len(weight)
    whole = features - features % 16
    for row in range(len(pixels) // features):
        first = row * features
        for run in range(z.shape[1]):
            total = bias[run]
            for at in range(0, whole, _WORD):
                marks = _marks(pixels, first + at, whole - at)
                while marks:
                    place = at + int(zeros_below(marks))
                    marks &= marks - _ONE
                    total = total + x[pixels[first + place]] * weight[place, run]
            for place in range(whole, features):
                if pixels[first + place]:
                    total = total + x[pixels[first + place]] * weight[place, run]
            z[row, run] = total


def _accumulated(
    x: Array, counts: Array, shares: Array, dz: Array, weight: Array, bias: Array, beta: float, alpha: float
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


list_nonzero = Compiled(_listed, ("uint32[:]", "uint32[:, :]", "uint8[:]"), apart=True)


@functools.cache
def forward(lanes: int) -> Compiled:
    """`_forwarded` in runs of so many lanes."""
    rows, row = f"float32x{lanes}[:, :]", f"float32x{lanes}[:]"
    return Compiled(_forwarded, ("float32[:]", rows, row, rows, "uint8[:]"), apart=True)


@functools.cache
def accumulate(lanes: int) -> Compiled:
    """`_accumulated` in runs of so many lanes."""
    rows, row = f"float32x{lanes}[:, :]", f"float32x{lanes}[:]"
    taken = ("float32[:]", "uint32[:]", "uint32[:, :]", rows, rows, row, "float32", "float32")
    return Compiled(_accumulated, taken, apart=True)


@functools.cache
def score(dtype: str) -> Compiled:
    """`_scored` of logits in float32 or float64."""
    rows = f"{dtype}[:, :]"
    return Compiled(_scored, (rows, "int64", "int64[:]", rows, "float64[:]"), apart=True)
