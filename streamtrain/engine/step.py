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
from typing import NamedTuple

import numpy as np
from torch import Tensor

from streamtrain.block import Array
from streamtrain.engine.dense import Call, Dense, affine, input_gradient, update_layer
from streamtrain.engine.sparse import Sparse
from streamtrain.native.step import score
from streamtrain.nn.mlp import ACTIVATIONS, MLP, Gradients
from streamtrain.nn.sgd import SGDConfig
from streamtrain.stream.batches import Batch
from streamtrain.stream.prefetch import prefetch

# dz ← dz · σ'(z) in place, of a = σ(z), as the functions of `ACTIVATIONS` say.
_CHAIN: dict[str, Callable[[Tensor, Tensor], object]] = {
    "sigmoid": lambda dz, a: dz.mul_(a).addcmul_(dz, a, value=-1),  # d − d · a, where d = dz · a
    "tanh": lambda dz, a: dz.addcmul_(dz * a, a, value=-1),
    "relu": lambda dz, a: dz.mul_(a > 0),
}


def bind_upper_layers(model: MLP, z: Sequence[Tensor], *, threads: int) -> list[Call]:
    """The calls that lead from z of the first layer, in z[0] (rows, units), to the logits in z[-1]."""
    calls: list[Call] = []
    for layer in range(1, len(model.weights)):
        calls.append(partial(ACTIVATIONS[model.activation][0], z[layer - 1]))
        weight, bias = model.weights[layer], model.biases[layer]
        calls.append(affine(z[layer - 1], weight, bias, out=z[layer], threads=threads))
    return calls


class Passes(NamedTuple):
    """What a step on so many rows computes, in order: the logits; every dz, from that of the logits; the move."""

    forward: list[Call]
    back: list[Call]
    move: list[Call]


class Slot:
    """Room for a batch as a step takes it."""

    def __init__(self, pixels: Dense | Sparse, rows: int) -> None:
        self.pixels, self.labels, self.rows = pixels, np.zeros(rows, np.int64), 0

    def read(self, pixels: Array, labels: Array) -> Slot:
        """Take a batch: pixels (rows, features) raw, labels (rows,) int64; returns itself."""
        self.rows = len(labels)
        self.labels[: self.rows] = labels
        self.pixels.read(pixels)
        return self


class Step:
    """Steps of a model on batches of up to `rows` rows, its parameters and velocity moved in place.

    `score` a slot that has read a batch, then `learn` it, torch being left with one thread.
    velocity: as for `sgd_step`; not touched where there is no momentum
    pixels: of each slot, which make the products; the first layer's tensors become those of `to_layout`
    threads: that share the other large products
    """

    def __init__(
        self,
        model: MLP,
        rows: int,
        sgd: SGDConfig,
        velocity: Gradients,
        *,
        pixels: Sequence[Dense | Sparse],
        threads: int,
    ) -> None:
        self.sgd, self.slots = sgd, [Slot(each, rows) for each in pixels]
        model.weights[0], model.biases[0] = pixels[0].to_layout(model.weights[0], model.biases[0])
        if velocity:
            velocity[0] = pixels[0].to_layout(*velocity[0])
        self._model, self._velocity, self._threads = model, velocity, threads
        first, *outs = *model.hidden, model.classes
        like = model.weights[0]
        self._z = [pixels[0].room(rows, first), *(like.new_empty(rows, units) for units in outs)]
        self._dz = [pixels[0].room(rows, first), *(like.new_empty(rows, units) for units in outs)]
        self._told = np.zeros(2)
        self._passes = functools.lru_cache(2 * len(pixels))(self._prepared)  # for whole batches, and the short one
        self._now: Passes | None = None

    def reading(self, minibatches: Iterable[Batch]) -> Generator[Slot]:
        """Yield a slot for each minibatch that has read it; where there are two, a thread reads the next one."""
        batches = iter(minibatches)

        def read(slot: Slot) -> None:
            slot.rows = 0
            for batch in itertools.islice(batches, 1):
                slot.read(*batch)

        def task(_: None, slot: Slot) -> list[Call]:
            return [partial(read, slot)]

        if len(self.slots) == 1:
            yield from (self.slots[0].read(*batch) for batch in batches)
            return
        with contextlib.closing(prefetch(itertools.repeat(None), self.slots, tasks=task, workers=1)) as filled:
            yield from itertools.takewhile(lambda slot: slot.rows, (slot for _, slot in filled))

    def score(self, slot: Slot) -> tuple[float, int]:
        """The sum of the rows' losses in nats and how many were right, before they are learned."""
        self._now = self._passes(slot, slot.rows)
        for call in (*self._now.forward, *self._now.back):
            call()
        loss, right = self._told.tolist()
        return loss, int(right)

    def learn(self) -> None:
        """Move the parameters against the gradient of the mean loss of the batch that was scored."""
        for call in self._now.move if self._now else ():
            call()

    def _prepared(self, slot: Slot, rows: int) -> Passes:
        model, threads = self._model, self._threads
        z = [z[:rows] for z in self._z]  # of each layer, and then its activation
        dz = [dz[:rows] for dz in self._dz]
        back: list[Call] = []
        move: list[Call] = []
        for layer, (weight, bias) in enumerate(zip(model.weights, model.biases, strict=True)):
            if layer:
                back[:0] = [
                    input_gradient(dz[layer], weight, out=dz[layer - 1], threads=threads),
                    partial(_CHAIN[model.activation], dz[layer - 1], z[layer - 1]),
                ]
            below = partial(update_layer, a=z[layer - 1], threads=threads) if layer else slot.pixels.accumulated
            move += self._moves((weight, bias), self._velocity[layer] if self._velocity else (), dz[layer], below)
        first = slot.pixels.affine(model.weights[0], model.biases[0], out=z[0])
        logits, dlogits = (_whole(tensor) for tensor in (z[-1], dz[-1]))
        scored = score(str(logits.dtype)).bound(logits, model.classes, slot.labels[:rows], dlogits, self._told)
        return Passes([first, *bind_upper_layers(model, z, threads=threads)], [scored, *back], move)

    def _moves(
        self, layer: Sequence[Tensor], v: Sequence[Tensor], dz: Tensor, accumulated: Callable[..., list[Call]]
    ) -> list[Call]:
        """The step of a layer's weight and bias, and of their velocity v, by the gradient of dz (rows, units).

        accumulated: adds it to the two of them; without momentum to the layer itself
        """
        lr, momentum, weight_decay = self.sgd
        if not momentum:
            return accumulated(*layer, dz, beta=1 - lr * weight_decay, alpha=-lr / len(dz))
        return [
            *accumulated(*v, dz, beta=momentum, alpha=1 / len(dz)),
            *(partial(v.add_, p, alpha=weight_decay) for p, v in zip(layer, v, strict=True) if weight_decay),
            *(partial(p.add_, v, alpha=-lr) for p, v in zip(layer, v, strict=True)),
        ]


def _whole(tensor: Tensor) -> Array:
    """The array whose first columns are a tensor (rows, columns), with what lies between its rows."""
    return tensor.as_strided((len(tensor), tensor.stride(0)), (tensor.stride(0), 1)).numpy()
