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

import torch
from torch import Tensor

from streamtrain.block import Array
from streamtrain.learn.mlp import ACTIVATIONS, MLP, Gradients
from streamtrain.learn.products import Call, Dense, accumulated, affine, through
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
    """What a step on so many rows computes: in order the logits; every dz, from that of the logits; the move.

    With its views, which are made once too: logits and dlogits (rows, classes), minus_ones (rows, 1).
    """

    forward: list[Call]
    back: list[Call]
    move: list[Call]
    logits: Tensor
    dlogits: Tensor
    minus_ones: Tensor


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
        self._ones = like.new_ones(rows, 1)
        self._minus_ones = -self._ones
        self._passes = functools.lru_cache(maxsize=2)(self._prepared)  # for whole batches, and for the short one
        self._rows = 0

    def score(self, pixels: Array, y: Tensor) -> tuple[float, int]:
        """The sum of the rows' losses in nats and how many were right, before they are learned.

        pixels: (rows, features) raw; y: (rows,) int64
        """
        self._rows = len(y)
        forward, back, _, logits, dlogits, minus_ones = self._passes(len(y))
        self._pixels.read(pixels)
        for call in forward:
            call()
        index = y.unsqueeze(1)  # (rows, 1)
        logs = torch.log_softmax(logits, 1)
        torch.exp(logs, out=dlogits).scatter_add_(1, index, minus_ones)  # softmax − one_hot
        for call in back:
            call()
        right = torch.count_nonzero(logits.argmax(1) == y)
        return -float(logs.gather(1, index).sum(dtype=torch.float64)), int(right)

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
            v, v_bias = self._velocity[layer] if self._velocity else (weight, bias)
            below = partial(_moved, a=z[layer - 1], threads=threads) if layer else self._pixels.accumulated
            move += self._moves(weight, v, dz[layer], below)
            ones = partial(_moved, a=self._ones[:rows], threads=threads)
            move += self._moves(bias[:, None], v_bias[:, None], dz[layer], ones)
        first = self._pixels.affine(model.weights[0], model.biases[0], out=z[0])
        ahead = onward(model, z, threads=threads)
        return Passes([first, *ahead], back, move, z[-1], dz[-1], self._minus_ones[:rows])

    def _moves(self, p: Tensor, v: Tensor, dz: Tensor, accumulated: Callable[..., list[Call]]) -> list[Call]:
        """The step of p and v (units, in) by the gradient dz^T a / rows, which `accumulated` adds to one.

        That is v, or without momentum p.
        """
        lr, momentum, weight_decay = self.sgd
        if not momentum:
            return accumulated(p, dz, beta=1 - lr * weight_decay, alpha=-lr / len(dz))
        return [
            *accumulated(v, dz, beta=momentum, alpha=1 / len(dz)),
            *([partial(v.add_, p, alpha=weight_decay)] if weight_decay else []),
            partial(p.add_, v, alpha=-lr),
        ]


def _moved(p: Tensor, dz: Tensor, *, a: Tensor, threads: int, beta: float, alpha: float) -> list[Call]:
    return [accumulated(p, dz, a, beta=beta, alpha=alpha, threads=threads)]
