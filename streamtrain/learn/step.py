"""One step of SGD at the speed of its matrix products, the same to the bit on any number of threads.

It computes what `MLP.forward`, `cross_entropy_gradient`, `MLP.backward` and `sgd_step` say, in place, in buffers
that are made once: for each layer z = a W^T + b and σ(z), back through dz_below = (dz W) · σ'(z_below), and
dW = dz^T a / rows, which goes straight into W.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from torch import Tensor

from streamtrain.block import Array
from streamtrain.learn.kernel import score
from streamtrain.learn.mlp import ACTIVATIONS, MLP, Gradients
from streamtrain.learn.products import Call, Dense, affine, moved, through
from streamtrain.learn.sgd import SGD
from streamtrain.learn.sparse import Sparse

# dz ← dz · σ'(z) in place, of a = σ(z), as the functions of `ACTIVATIONS` say.
_CHAIN: dict[str, Callable[[Tensor, Tensor], object]] = {
    "sigmoid": lambda dz, a: dz.mul_(a).addcmul_(dz, a, value=-1),  # d − d · a, where d = dz · a
    "tanh": lambda dz, a: dz.addcmul_(dz * a, a, value=-1),
    "relu": lambda dz, a: dz.mul_(a > 0),
}


def onward(model: MLP, z: Sequence[Tensor], *, threads: int) -> list[Call]:
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


class Step:
    """Steps of a model on batches of up to `rows` rows, its parameters and velocity moved in place.

    `score` a batch, then `learn` it, torch being left with one thread.
    velocity: as for `sgd_step`; not touched where there is no momentum
    pixels: makes the products with them; the first layer's tensors become the `own` ones that it takes
    threads: that share the other large products
    """

    def __init__(
        self, model: MLP, rows: int, sgd: SGD, velocity: Gradients, *, pixels: Dense | Sparse, threads: int
    ) -> None:
        self.sgd = sgd
        model.weights[0], model.biases[0] = pixels.own(model.weights[0], model.biases[0])
        if velocity:
            velocity[0] = pixels.own(*velocity[0])
        self._model, self._velocity, self._pixels, self._threads = model, velocity, pixels, threads
        first, *outs = *model.hidden, model.classes
        like = model.weights[0]
        self._z = [pixels.room(rows, first), *(like.new_empty(rows, units) for units in outs)]
        self._dz = [pixels.room(rows, first), *(like.new_empty(rows, units) for units in outs)]
        self._labels, self._scored = np.zeros(rows, np.int64), np.zeros(2)
        self._passes = functools.lru_cache(maxsize=2)(self._prepared)  # for whole batches, and for the short one
        self._rows = 0

    def score(self, pixels: Array, labels: Array) -> tuple[float, int]:
        """The sum of the rows' losses in nats and how many were right, before they are learned.

        pixels: (rows, features) raw; labels: (rows,) int64
        """
        self._rows = len(labels)
        self._pixels.read(pixels)
        self._labels[: len(labels)] = labels
        forward, back, _ = self._passes(len(labels))
        for call in (*forward, *back):
            call()
        loss, right = self._scored.tolist()
        return loss, int(right)

    def learn(self) -> None:
        """Move the parameters against the gradient of the mean loss of the batch that was scored."""
        for call in self._passes(self._rows).move:
            call()

    def _prepared(self, rows: int) -> Passes:
        model, threads = self._model, self._threads
        z = [z[:rows] for z in self._z]  # of each layer, and then its activation
        dz = [dz[:rows] for dz in self._dz]
        back: list[Call] = []
        move: list[Call] = []
        for layer, (weight, bias) in enumerate(zip(model.weights, model.biases, strict=True)):
            if layer:
                back[:0] = [
                    through(dz[layer], weight, out=dz[layer - 1], threads=threads),
                    partial(_CHAIN[model.activation], dz[layer - 1], z[layer - 1]),
                ]
            below = partial(moved, a=z[layer - 1], threads=threads) if layer else self._pixels.accumulated
            move += self._moves((weight, bias), self._velocity[layer] if self._velocity else (), dz[layer], below)
        first = self._pixels.affine(model.weights[0], model.biases[0], out=z[0])
        logits, dlogits = (_whole(tensor) for tensor in (z[-1], dz[-1]))
        scored = score(str(logits.dtype)).bound(logits, model.classes, self._labels[:rows], dlogits, self._scored)
        return Passes([first, *onward(model, z, threads=threads)], [scored, *back], move)

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
