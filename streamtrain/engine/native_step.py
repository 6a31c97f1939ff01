"""Steps and logits of nets of moderate size, a batch in one call of C, in the calling thread alone.

The rows are read where they lie in their window. The parameters, their gradient and the buffers of the optimiser
are arrays of their own, in the layout of `native.learn`. So the tensors of the model stay as the last `write_back`
left them, and can be evaluated or saved while the next epoch is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from streamtrain.block import Array
from streamtrain.engine.update import adam_numbers
from streamtrain.native import available
from streamtrain.native.adam import adam
from streamtrain.native.learn import (
    ACTIVATION_CODES,
    LOGIT_ROWS,
    count_parameters,
    gradient,
    layers_of,
    logits,
    move,
    padded,
    room,
)
from streamtrain.nn.adam import Adam
from streamtrain.nn.loss import PLAIN, Objective
from streamtrain.nn.mlp import MLP
from streamtrain.nn.optimizer import Optimizer
from streamtrain.stream.batches import Selection
from streamtrain.stream.dataset import Shards

_MAX_PRODUCTS = 1 << 18  # of a row in one pass: from there on torch's threads are worth their overhead
_MAX_DENSITY = 0.6  # share of nonzero pixels: above it the product of all pixels is faster

_COPIED_ROWS = 128  # of a weight at a time: they stay in the cache until all their columns are read

Layers = Sequence[tuple[Tensor, Tensor]]


def computes_natively(data: Shards, model: MLP, objective: Objective = PLAIN) -> bool:
    """Return whether the passes of the model over the data are calls of C in one thread.

    objective: that the passes minimise. Dropout, other losses than the plain one, and activations that C does not
    know are left to torch.
    Nothing else decides, so the bits are the same on any machine and after any resume.
    """
    on_cpu = model.device.type == "cpu" and model.weights[0].dtype == torch.float32
    known = model.activation in ACTIVATION_CODES
    if not (available() and known and on_cpu and objective.loss.is_plain and not objective.dropout):
        return False
    first, *upper = pairwise((model.features, *model.hidden, model.classes))
    share = data.density if _skips_zeros(data) else 1.0
    return share * first[0] * first[1] + sum(a * b for a, b in upper) <= _MAX_PRODUCTS


def _skips_zeros(data: Shards) -> bool:
    """Return whether the pixels that are zero are left out of the products."""
    return data.schema.stored_dtype == np.uint8 and not data.schema.scale[0] and data.density <= _MAX_DENSITY


def zeros(numbers: int) -> Array:
    """Return zeros (numbers,) float32 that lie at the start of a line of the caches."""
    return torch.zeros(numbers, dtype=torch.float32).numpy()


class _Description(NamedTuple):
    """How a call of C describes a net and its pixels, in its order; see `native.learn`."""

    sizes: Array
    activation: int
    skips_zeros: int
    low: float
    span: float


def _describe(data: Shards, model: MLP) -> _Description:
    sizes = np.array([model.features, *model.hidden, model.classes], np.int64)
    return _Description(sizes, ACTIVATION_CODES[model.activation], int(_skips_zeros(data)), *data.schema.scale)


def _packed(layers: Layers, sizes: Array) -> Array:
    """Return the layers, of tensors (out, in) and (out,), in one array."""
    numbers = zeros(count_parameters(sizes.tolist()))
    for (weight, bias), (to_weight, to_bias) in zip(layers, layers_of(numbers, sizes.tolist()), strict=True):
        to_weight[:], to_bias[:] = weight.numpy().T, bias.numpy()
    return numbers


def _unpack(numbers: Array, sizes: Array, layers: Layers) -> None:
    """Write the layers in an array to their tensors."""
    for (weight, bias), (from_weight, from_bias) in zip(layers, layers_of(numbers, sizes.tolist()), strict=True):
        to = weight.numpy()
        for at in range(0, len(from_weight), _COPIED_ROWS):
            to[:, at : at + _COPIED_ROWS] = from_weight[at : at + _COPIED_ROWS].T
        bias.numpy()[:] = from_bias


class NativeStep:
    """Steps of a model on batches of up to `rows` rows of `data`; see `TrainStep`.

    optimizer: its buffers are moved
    """

    def __init__(self, data: Shards, model: MLP, optimizer: Optimizer, rows: int) -> None:
        self._model, self._optimizer, self._steps = model, optimizer, optimizer.steps
        self._net = net = _describe(data, model)
        self._parameters = _packed(self._layers, net.sizes)
        self._buffers = [_packed(buffer, net.sizes) for buffer in optimizer.buffers.values()]
        self._gradient = zeros(len(self._parameters))
        self._room = zeros(room(net.sizes, net.skips_zeros, rows))
        self._totals, self._rows = np.zeros(2), 0

    @property
    def _layers(self) -> Layers:
        return list(zip(self._model.weights, self._model.biases, strict=True))

    def prefetch(self, batches: Iterable[Selection]) -> Generator[Selection]:
        """Yield the batches as they are."""
        yield from batches

    def forward_backward(self, batch: Selection) -> tuple[float, int]:
        """Compute the gradients of a batch; return the sum of its losses in nats and how many rows were right."""
        pixels, order, labels = batch
        self._rows = len(order)
        gradient(pixels, order, *self._net, self._parameters, self._room, self._gradient, labels, self._totals)
        loss, right = self._totals.tolist()
        return loss, int(right)

    def update(self, lr: float) -> None:
        """Move the parameters against the gradient of the mean loss of the last batch."""
        optimizer, share = self._optimizer, 1 / self._rows
        self._steps += 1
        if isinstance(optimizer, Adam):
            self._gradient *= np.float32(share)
            first, second = self._buffers
            now = Adam(optimizer.weight_decay, steps=self._steps)
            adam(self._parameters, first, second, self._gradient, adam_numbers(now, lr).astype(np.float32))
            return
        [velocity] = self._buffers or [zeros(0)]
        move(self._parameters, velocity, self._gradient, share, lr, optimizer.momentum, optimizer.weight_decay)

    def write_back(self) -> None:
        """Copy the parameters and buffers to the tensors of the model and its optimiser."""
        _unpack(self._parameters, self._net.sizes, self._layers)
        for numbers, buffer in zip(self._buffers, self._optimizer.buffers.values(), strict=True):
            _unpack(numbers, self._net.sizes, buffer)
        self._optimizer.steps = self._steps


def bind_logits(data: Shards, model: MLP, rows: int) -> tuple[Callable[[Array], object], Array]:
    """Return `(compute, logits)`: `compute(pixels)` writes the logits of up to `rows` rows to `logits`.

    It uses the parameters as they are now.
    pixels: (rows, features) as stored; logits: (rows, classes with their padding) float32
    """
    net, order = _describe(data, model), np.arange(rows)
    parameters = _packed(list(zip(model.weights, model.biases, strict=True)), net.sizes)
    memory = zeros(room(net.sizes, net.skips_zeros, min(rows, LOGIT_ROWS)))
    found = zeros(rows * padded(model.classes)).reshape(rows, -1)

    def compute(pixels: Array) -> None:
        logits(pixels, order[: len(pixels)], *net, parameters, memory, found)

    return compute, found
