"""The loops of a training step that torch does not have: products with mostly zero pixels, and the loss.

Units are padded with zeros to a multiple of LANES, so that every vector is full whatever its width.
"""

from __future__ import annotations

import numpy as np

from streamtrain.block import Array
from streamtrain.native import available, core
from streamtrain.native.evaluate import likeliest_of


def list_nonzero_reference(counts: Array, shares: Array, pixels: Array) -> None:
    """List the pixels that are not zero, grouped by feature.

    counts: (features,) uint32, out: how many rows have such a pixel at this feature
    shares: (features, rows or more) uint32, out: row · 256 + value for each of them, in the order of rows
    pixels: (rows · features,) uint8
    """
    table = pixels.reshape(-1, len(counts))
    places, rows = np.nonzero(table.T)
    counts[:] = np.bincount(places, minlength=len(counts))
    first = np.cumsum(counts, dtype=np.int64) - counts
    shares[places, np.arange(len(places)) - first[places]] = rows * 256 + table[rows, places]


def forward_reference(x: Array, weight: Array, bias: Array, z: Array, pixels: Array) -> None:
    """Fill z with x W + b, where x are the scaled pixels; pixels that are zero are skipped.

    x: (256,) float32, the scaled value of each byte, with x[0] = 0; pixels: (rows · features,) uint8
    weight: (features, units), bias: (units,), z: (rows or more, units), all float32 and padded
    """
    table = pixels.reshape(-1, len(weight))
    z[: len(table)] = x[table] @ weight + bias


def accumulate_reference(
    x: Array, counts: Array, shares: Array, dz: Array, weight: Array, bias: Array, beta: float, alpha: float
) -> None:
    """Update weight ← beta · weight + alpha · x^T dz for the listed pixels x, and bias as if x were 1.

    dz: (rows, units) float32; counts and shares are from `list_nonzero` for the same rows
    """
    listed = shares[np.arange(shares.shape[1]) < counts[:, None]]
    dense = np.zeros((len(dz), len(counts)), dtype=np.float32)
    dense[listed >> 8, np.repeat(np.arange(len(counts)), counts)] = x[listed & 255]
    weight[:] = np.float32(beta) * weight + np.float32(alpha) * (dense.T @ dz)
    bias[:] = np.float32(beta) * bias + np.float32(alpha) * dz.sum(axis=0)


def score_reference(logits: Array, classes: int, labels: Array, dlogits: Array, totals: Array) -> None:
    """Write softmax − one_hot of each row to dlogits; see `functional.cross_entropy_gradient`.

    logits, dlogits: (rows, classes or more) float32 or float64; labels: (rows,) int64
    totals: (2,) float64, out: the sum of the rows' losses in nats, and how many rows are right
    """
    rows, wide = np.arange(len(labels)), logits[:, :classes].astype(np.float64)
    likeliest = likeliest_of(wide)
    right = likeliest == labels
    with np.errstate(invalid="ignore"):
        powers = np.exp(wide - wide[rows, likeliest][:, None])
        others = powers.sum(axis=1, where=np.arange(classes) != likeliest[:, None])
        total = others + powers[rows, likeliest]
        totals[0] = np.sum(np.log(total) + (wide[rows, likeliest] - wide[rows, labels]))
        shares = powers / total[:, None]
        shares[rows, labels] = np.where(right, -others / total, shares[rows, labels] - 1)
    dlogits[:, :classes] = shares
    totals[1] = np.count_nonzero(right)


def exponentials_reference(numbers: Array) -> None:
    """Replace each of these float32 numbers by its exponential; the loops in C are within 1 ulp of it."""
    numbers[:] = np.exp(numbers.astype(np.float64))


def _score(logits: Array, classes: int, labels: Array, dlogits: Array, totals: Array) -> None:
    """Run the loop in C for float32, and the reference for float64; see `score_reference`."""
    score_as = core.score if logits.dtype == np.float32 else score_reference
    score_as(logits, classes, labels, dlogits, totals)


list_nonzero = core.list_nonzero if available() else list_nonzero_reference
forward = core.forward if available() else forward_reference
accumulate = core.accumulate if available() else accumulate_reference
exponentials = core.exponentials if available() else exponentials_reference
score = _score if available() else score_reference
