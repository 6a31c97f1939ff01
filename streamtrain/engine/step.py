"""One step of SGD at the speed of its matrix products, the same to the bit on any number of threads.

It computes what `MLP.forward`, `cross_entropy_gradient`, `MLP.backward` and `sgd_step` say, in place, in buffers
that are made once: for each layer z = a W^T + b and σ(z), back through dz_below = (dz W) · σ'(z_below), and
dW = dz^T a / rows, which goes straight into W.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Generator, Iterable, Sequence
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from torch import Tensor

from streamtrain.block import Array
from streamtrain.engine.dense import Call, FirstLayer, Update, bind_affine, bind_input_gradient, bind_update
from streamtrain.native.step import score
from streamtrain.nn.activations import ACTIVATIONS
from streamtrain.nn.mlp import MLP
from streamtrain.nn.sgd import SGD
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


def bind_upper_layers(model: MLP, z: Sequence[Tensor], *, threads: int) -> list[Call]:
    """Return the calls that lead from z of the first layer, in z[0] (rows, units), to the logits in z[-1]."""
    calls: list[Call] = []
    activation = ACTIVATIONS[model.activation]
    for layer in range(1, len(model.weights)):
        calls.append(partial(activation.forward, z[layer - 1]))
        weight, bias = model.weights[layer], model.biases[layer]
        calls.append(bind_affine(z[layer - 1], weight, bias, out=z[layer], threads=threads))
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
    update: list[Callable[[float], object]]


class CpuStep:
    """Steps of a model on the processor, on batches of up to `rows` rows; call it inside `one_thread`.

    optimizer: its velocity is moved in place
    first_layers: one for each buffer; with two, a thread reads the next batch meanwhile
    threads: how many share a large product
    The first layer may have a layout of its own: `write_back` copies it to the tensors of model and optimiser.
    """

    def __init__(
        self, model: MLP, optimizer: SGD, rows: int, *, first_layers: Sequence[FirstLayer], threads: int
    ) -> None:
        self.buffers = [BatchBuffer(each, rows) for each in first_layers]
        self._model, self._optimizer, self._threads = model, optimizer, threads
        own = first_layers[0]
        self._layers = list(zip(model.weights, model.biases, strict=True))
        self._layers[0] = own.to_layout(*self._layers[0])
        self._velocity = list(optimizer.velocity)
        if self._velocity:
            self._velocity[0] = own.to_layout(*self._velocity[0])
        first, *outs = *model.hidden, model.classes
        like = model.weights[0]
        self._z, self._dz = (
            [own.zeros(rows, first), *(like.new_empty(rows, units) for units in outs)] for _ in range(2)
        )
        self._totals = np.zeros(2)
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
        for call in self._last.update if self._last else ():
            call(lr)

    def write_back(self) -> None:
        """Copy the first layer, and its velocity, to the tensors of the model and its optimiser."""
        model, velocity = self._model, self._optimizer.velocity
        pairs = [((model.weights[0], model.biases[0]), self._layers[0])]
        pairs += zip(velocity[:1], self._velocity[:1], strict=True)
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
        update: list[Callable[[float], object]] = []
        for layer, (weight, bias) in enumerate(self._layers):
            if layer:
                backward[:0] = [
                    bind_input_gradient(dz[layer], weight, out=dz[layer - 1], threads=threads),
                    partial(chain, dz[layer - 1], z[layer - 1]),
                ]
            bind = (
                partial(bind_update, a=z[layer - 1], threads=threads) if layer else buffer.first_layer.bind_update
            )
            update.append(self._bind_update((weight, bias), self._velocity[layer : layer + 1], dz[layer], bind))
        first = buffer.first_layer.bind_affine(*self._layers[0], out=z[0])
        logits, dlogits = (_with_padding(tensor) for tensor in (z[-1], dz[-1]))
        labels = buffer.labels[:rows]
        scored = partial(score, logits, model.classes, labels, dlogits, self._totals)
        return _Passes([first, *bind_upper_layers(model, z, threads=threads)], [scored, *backward], update)

    def _bind_update(
        self,
        layer: tuple[Tensor, Tensor],
        velocity: Sequence[tuple[Tensor, Tensor]],
        dz: Tensor,
        bind: Callable[[Tensor, Tensor, Tensor], Update],
    ) -> Callable[[float], object]:
        """Return a function of the learning rate that takes the step of a layer and of its velocity, if any.

        bind: returns what adds the gradient that follows from dz (rows, units) to a weight and a bias
        """
        momentum, decay, rows = self._optimizer.momentum, self._optimizer.weight_decay, len(dz)
        if not velocity:
            accumulate = bind(*layer, dz)
            return lambda lr: accumulate(1 - lr * decay, -lr / rows)
        [speeds] = velocity
        accumulate = bind(*speeds, dz)

        def step(lr: float) -> None:
            accumulate(momentum, 1 / rows)
            for p, v in zip(layer, speeds, strict=True):
                if decay:
                    v.add_(p, alpha=decay)
                p.add_(v, alpha=-lr)

        return step


def _with_padding(tensor: Tensor) -> Array:
    """Return the array whose first columns are a tensor (rows, columns), with the padding of its rows."""
    return tensor.as_strided((len(tensor), tensor.stride(0)), (tensor.stride(0), 1)).numpy()
