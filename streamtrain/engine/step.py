"""One step of training at the speed of its matrix products, the same to the bit on any number of threads.

It computes what `MLP.forward`, `cross_entropy_gradient`, `MLP.backward` and the optimiser's `step` say, in place,
in buffers that are made once: for each layer z = a W^T + b and σ(z), back through dz_below = (dz W) · σ'(z_below),
and dW = dz^T a / rows, which plain SGD adds straight to W.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Generator, Iterable, Sequence
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from streamtrain.block import Array
from streamtrain.engine.dense import Call, FirstLayer, bind_affine, bind_input_gradient, bind_update
from streamtrain.engine.dropout import Dropout
from streamtrain.engine.update import Step, bind_step
from streamtrain.native.step import score
from streamtrain.nn.activations import ACTIVATIONS
from streamtrain.nn.adam import Adam
from streamtrain.nn.loss import PLAIN, Objective
from streamtrain.nn.mlp import MLP
from streamtrain.nn.optimizer import Optimizer
from streamtrain.nn.sgd import zeros_like
from streamtrain.stream.batches import Batch
from streamtrain.stream.prefetch import prefetch


class HasRows(Protocol):
    """A batch as a step has read it."""

    @property
    def rows(self) -> int:
        """Return how many rows it has."""


class HasLabels(Protocol):
    """A batch as it is gathered."""

    @property
    def labels(self) -> Array:
        """Return the labels (rows,) int64."""


G = TypeVar("G", bound=HasLabels)
G_contra = TypeVar("G_contra", bound=HasLabels, contravariant=True)
B = TypeVar("B", bound=HasRows)


class TrainStep(Protocol[G_contra, B]):
    """Steps of one model on one device; for each batch of `prefetch`, `forward_backward` and then `update`.

    The two are separate so that a loss that is not finite can be noticed before it reaches the weights.
    """

    def prefetch(self, batches: Iterable[G_contra]) -> Generator[B]:
        """Yield each batch as the step reads it, perhaps ahead; one is valid until the next is asked for."""

    def forward_backward(self, batch: B) -> tuple[float, int]:
        """Compute the gradients of a batch; return the sum of its losses in nats and how many rows were right."""

    def update(self, lr: float) -> None:
        """Move the parameters against the gradient of the mean loss of the last batch."""

    def write_back(self) -> None:
        """Bring the tensors of the model and its optimiser up to date."""


def bind_upper_layers(
    model: MLP, z: Sequence[Tensor], *, threads: int, dropout: Dropout | None = None
) -> list[Call]:
    """Return the calls that lead from z of the first layer, in z[0] (rows, units), to the logits in z[-1].

    dropout: of training; an evaluation has none
    """
    calls: list[Call] = []
    activation = ACTIVATIONS[model.activation]
    for layer in range(1, len(model.weights)):
        a = z[layer - 1]
        calls.append(partial(activation.forward, a))
        if dropout:
            drop, a = dropout.bind_forward(layer - 1, a)
            calls.append(drop)
        weight, bias = model.weights[layer], model.biases[layer]
        calls.append(bind_affine(a, weight, bias, out=z[layer], threads=threads))
    return calls


class BatchBuffer:
    """A batch as `CpuStep` reads it.

    first_layer: the products with its pixels; labels: (rows or more,) int64; rows: how many it holds
    """

    def __init__(self, first_layer: FirstLayer, rows: int) -> None:
        self.first_layer, self.labels, self.rows = first_layer, np.zeros(rows, np.int64), 0

    def read(self, pixels: Array, labels: Array) -> BatchBuffer:
        """Read a batch, pixels (rows, features) as stored and labels (rows,) int64, and return itself."""
        self.rows = len(labels)
        self.labels[: self.rows] = labels
        self.first_layer.read(pixels)
        return self


class _Passes(NamedTuple):
    """What a step on a number of rows computes, in order: the logits; every dz, from the last; the update."""

    forward: list[Call]
    backward: list[Call]
    update: list[Step]


class CpuStep:
    """Steps of a model on the processor, on batches of up to `rows` rows; call it inside `one_thread`.

    optimizer: its buffers are moved in place
    first_layers: one for each buffer; with two, a thread reads the next batch meanwhile
    threads: how many share a large product
    The first layer may have a layout of its own: `write_back` copies it to the tensors of model and optimiser.
    """

    def __init__(
        self,
        model: MLP,
        optimizer: Optimizer,
        rows: int,
        *,
        first_layers: Sequence[FirstLayer],
        threads: int,
        objective: Objective = PLAIN,
    ) -> None:
        self.buffers = [BatchBuffer(each, rows) for each in first_layers]
        self._model, self._optimizer, self._threads = model, optimizer, threads
        own = first_layers[0]
        self._layers = list(zip(model.weights, model.biases, strict=True))
        self._layers[0] = own.to_layout(*self._layers[0])
        self._state = [[own.to_layout(*at), *others] for at, *others in optimizer.buffers.values()]
        if isinstance(optimizer, Adam):  # it needs the gradient itself
            at, *others = zeros_like(model)
            self._state.append([own.to_layout(*at), *others])
        first, *outs = *model.hidden, model.classes
        like = model.weights[0]
        self._z, self._dz = (
            [own.zeros(rows, first), *(like.new_empty(rows, units) for units in outs)] for _ in range(2)
        )
        self._totals, self._loss = np.zeros(2), objective.loss
        self._dropout = Dropout(objective, optimizer, self._z[:-1]) if objective.dropout else None
        self._passes = functools.lru_cache(2 * len(self.buffers))(self._bind)  # for whole batches and a short one
        self._last: _Passes | None = None

    def prefetch(self, batches: Iterable[Batch]) -> Generator[BatchBuffer]:
        """Yield a buffer that has read each batch; with two buffers, a thread reads the next one meanwhile."""
        batches = iter(batches)

        def read(buffer: BatchBuffer) -> None:
            buffer.rows = 0
            for batch in itertools.islice(batches, 1):
                buffer.read(*batch)

        def tasks(_: None, buffer: BatchBuffer) -> list[Call]:
            return [partial(read, buffer)]

        if len(self.buffers) == 1:
            yield from (self.buffers[0].read(*batch) for batch in batches)
            return
        with contextlib.closing(prefetch(itertools.repeat(None), self.buffers, tasks=tasks, workers=1)) as filled:
            yield from itertools.takewhile(lambda buffer: buffer.rows, (buffer for _, buffer in filled))

    def forward_backward(self, batch: BatchBuffer) -> tuple[float, int]:
        """Compute the gradients of a batch; return the sum of its losses in nats and how many rows were right."""
        self._last = self._passes(batch, batch.rows)
        for call in (*self._last.forward, *self._last.backward):
            call()
        loss, right = self._totals.tolist()
        return loss, int(right)

    def update(self, lr: float) -> None:
        """Move the parameters against the gradient of the mean loss of the last batch."""
        self._optimizer.steps += 1
        for call in self._last.update if self._last else ():
            call(lr)

    def write_back(self) -> None:
        """Copy the first layer, and what the optimiser keeps of it, to their own tensors."""
        model, buffers = self._model, self._optimizer.buffers.values()
        pairs = [((model.weights[0], model.biases[0]), self._layers[0])]
        pairs += [(own[0], current[0]) for own, current in zip(buffers, self._state, strict=False)]
        for own, layer in pairs:
            for tensor, current in zip(own, layer, strict=True):
                if tensor is not current:
                    tensor.copy_(current)

    def _bind(self, buffer: BatchBuffer, rows: int) -> _Passes:
        model, threads = self._model, self._threads
        z = [z[:rows] for z in self._z]  # of each layer, and then its activation
        dz = [dz[:rows] for dz in self._dz]
        chain = ACTIVATIONS[model.activation].chain
        backward: list[Call] = []
        update: list[Step] = []
        for layer, (weight, bias) in enumerate(self._layers):
            bind = buffer.first_layer.bind_update
            if layer:
                a, below = z[layer - 1], dz[layer - 1]
                calls = [bind_input_gradient(dz[layer], weight, out=below, threads=threads)]
                if self._dropout:
                    calls.append(self._dropout.bind_backward(layer - 1, below))
                backward[:0] = [*calls, partial(chain, below, a)]
                inputs = self._dropout.left(layer - 1, rows) if self._dropout else a
                bind = partial(bind_update, a=inputs, threads=threads)
            state = [of_layers[layer] for of_layers in self._state]
            update.append(bind_step(self._optimizer, (weight, bias), state, dz[layer], bind))
        first = buffer.first_layer.bind_affine(*self._layers[0], out=z[0])
        logits, dlogits = (_with_padding(tensor) for tensor in (z[-1], dz[-1]))
        labels = buffer.labels[:rows]
        scored: list[Call] = [partial(score, logits, model.classes, labels, dlogits, self._totals)]
        if not self._loss.is_plain:
            scored.append(partial(self._loss.correct_, dz[-1], torch.from_numpy(labels)))
        upper = bind_upper_layers(model, z, threads=threads, dropout=self._dropout)
        return _Passes([first, *upper], [*scored, *backward], update)


def _with_padding(tensor: Tensor) -> Array:
    """Return the array whose first columns are a tensor (rows, columns), with the padding of its rows."""
    return tensor.as_strided((len(tensor), tensor.stride(0)), (tensor.stride(0), 1)).numpy()
