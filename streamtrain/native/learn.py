"""Passes of a whole net over the rows of a batch, each in one call: logits, gradients and the move against them.

A net is described by its sizes and one array of all its parameters: for each layer, its weight (in, out) and
below it its bias as one more row, with each row padded with zeros to a multiple of LANES. A gradient and a
velocity have the same layout. A gradient is a sum over the rows of a batch, in their order, so those of parts of a
batch can be added.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from streamtrain.block import Array
from streamtrain.native import available, core
from streamtrain.native.evaluate import LANES
from streamtrain.native.step import score_reference

LOGIT_ROWS = 256  # rows of which `logits` computes the logits at a time
SIGMOID, TANH, RELU = range(3)
ACTIVATION_CODES = {"sigmoid": SIGMOID, "tanh": TANH, "relu": RELU}


def padded(units: int) -> int:
    """Return the length of a row of `units` numbers with its padding.

    >>> padded(100), padded(16)
    (112, 16)
    """
    return -(-units // LANES) * LANES


def layers_of(parameters: Array, sizes: Sequence[int]) -> list[tuple[Array, Array]]:
    """Return views of each layer's weight (in, out) and bias (out,), without the padding.

    parameters: (numbers,) float32; sizes: the pixels, and then the units of each layer
    """
    views, at = [], 0
    for fan_in, fan_out in pairwise(sizes):
        width = padded(fan_out)
        rows = parameters[at : at + (fan_in + 1) * width].reshape(fan_in + 1, width)
        views.append((rows[:fan_in, :fan_out], rows[fan_in, :fan_out]))
        at += (fan_in + 1) * width
    return views


def count_parameters(sizes: Sequence[int]) -> int:
    """Return how many numbers the parameters of a net take, with their padding."""
    return sum((fan_in + 1) * padded(fan_out) for fan_in, fan_out in pairwise(sizes))


def room_reference(sizes: Array, skips_zeros: int, rows: int) -> int:
    """Return how many float32 numbers `room` has for a pass over `rows` rows: what it writes on the way.

    sizes: (layers + 1,) int64; the references need none
    """
    return 0


def logits_reference(
    pixels: Array,
    order: Array,
    sizes: Array,
    activation: int,
    skips_zeros: int,
    low: float,
    span: float,
    parameters: Array,
    room: Array,
    logits: Array,
) -> None:
    """Write the logits of rows to `logits` (rows or more, padded classes) float32.

    pixels: (any, features) uint8, uint16 or float32; order: (rows,) int64, which rows of them
    sizes: (layers + 1,) int64; activation: SIGMOID, TANH or RELU; x = (pixels − low) / span
    skips_zeros: whether pixels that are zero are left out of the sums; they are uint8 then, and low is 0
    parameters: (numbers,) float32; room: (numbers,) float32, as long as `room` says for LOGIT_ROWS rows, or longer
    """
    *_, (z, _) = _forward(pixels[order], sizes, activation, low, span, parameters)
    logits[: len(order), : z.shape[1]] = z
    logits[: len(order), z.shape[1] :] = 0


def gradient_reference(
    pixels: Array,
    order: Array,
    sizes: Array,
    activation: int,
    skips_zeros: int,
    low: float,
    span: float,
    parameters: Array,
    room: Array,
    gradient: Array,
    labels: Array,
    totals: Array,
) -> None:
    """Write the gradient of the sum of the rows' losses to `gradient`; the rest is as for `logits`.

    room: as long as `room` says for all rows, or longer
    labels: (rows,) int64, of the same rows
    totals: (2,) float64, out: the sum of the rows' losses in nats, and how many rows are right
    """
    layers = layers_of(parameters, sizes.tolist())
    passed = _forward(pixels[order], sizes, activation, low, span, parameters)
    logits, _ = passed[-1]
    dz = np.empty_like(logits)
    score_reference(logits, logits.shape[1], labels, dz, totals)
    gradient[:] = 0
    for layer in reversed(range(len(layers))):
        _, a = passed[layer]  # what the layer reads
        dweight, dbias = layers_of(gradient, sizes.tolist())[layer]
        dweight[:], dbias[:] = a.T @ dz, dz.sum(axis=0)
        if layer:
            dz = (dz @ layers[layer][0].T) * _derivative(activation, a)


def _forward(
    pixels: Array, sizes: Array, activation: int, low: float, span: float, parameters: Array
) -> list[tuple[Array, Array]]:
    """Return z and the input of each layer."""
    a, passed = (pixels.astype(np.float32) - np.float32(low)) / np.float32(span), []
    for weight, bias in layers_of(parameters, sizes.tolist()):
        z = a @ weight + bias
        passed.append((z, a))
        a = _activated(activation, z)
    return passed


def _activated(activation: int, z: Array) -> Array:
    if activation == RELU:
        return np.maximum(z, 0)
    with np.errstate(over="ignore"):
        return np.tanh(z) if activation == TANH else 1 / (1 + np.exp(-z))


def _derivative(activation: int, a: Array) -> Array:
    if activation == RELU:
        return (a > 0).astype(np.float32)
    return 1 - a * a if activation == TANH else a - a * a


def move_reference(
    parameters: Array, velocity: Array, gradient: Array, share: float, lr: float, momentum: float, decay: float
) -> None:
    """Take a step: v ← momentum · v + share · gradient + decay · p, then p ← p − lr · v.

    share: 1 / rows for a gradient that is a sum over rows
    velocity: as long as `parameters`; empty without momentum, when v is zero before each step
    All arrays are (numbers,) float32, a multiple of LANES.
    """
    before = np.float32(momentum) * velocity if len(velocity) else 0
    moved = before + np.float32(share) * gradient + np.float32(decay) * parameters
    if len(velocity):
        velocity[:] = moved
    parameters -= np.float32(lr) * moved


room = core.room if available() else room_reference
logits = core.logits if available() else logits_reference
gradient = core.gradient if available() else gradient_reference
move = core.move if available() else move_reference
