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
from streamtrain.learn.products import Call, accumulated, affine, through
from streamtrain.learn.sgd import SGD

# dz ← dz · σ'(z) in place, of a = σ(z), as the functions of `ACTIVATIONS` say.
_CHAIN: dict[str, Callable[[Tensor, Tensor], object]] = {
    "sigmoid": lambda dz, a: dz.mul_(a).addcmul_(dz, a, value=-1),  # d − d · a, where d = dz · a
    "tanh": lambda dz, a: dz.addcmul_(dz * a, a, value=-1),
    "relu": lambda dz, a: dz.mul_(a > 0),
}


def forward(model: MLP, a: Sequence[Tensor], *, alpha: float = 1.0, threads: int) -> list[Call]:
    """The calls that fill a[1], … from a[0]: σ(z) of the hidden layers (rows, units), the logits at last.

    alpha: times a[0] (rows, features) is x
    """
    calls: list[Call] = []
    for layer, (weight, bias) in enumerate(zip(model.weights, model.biases, strict=True)):
        factor = 1.0 if layer else alpha
        calls.append(affine(a[layer], weight, bias, alpha=factor, out=a[layer + 1], threads=threads))
        calls.append(partial(ACTIVATIONS[model.activation][0], a[layer + 1]))
    return calls[:-1]


class Passes(NamedTuple):
    """What a step on so many rows computes: in order the logits; every dz, from that of the logits; the move.

    With its views, which are made once too: x (rows, features), logits and dlogits (rows, classes),
    minus_ones (rows, 1).
    """

    forward: list[Call]
    back: list[Call]
    move: list[Call]
    x: Tensor
    logits: Tensor
    dlogits: Tensor
    minus_ones: Tensor


class Step:
    """Steps of a model on batches of up to `rows` rows, its parameters and velocity moved in place.

    `score` a batch, then `learn` it, torch being left with one thread.
    velocity: as for `sgd_step`; not touched where there is no momentum
    scale: (lo, span) of the normalisation x = (pixels − lo) / span. The buffer holds pixels − lo, and the products
    are divided by span, which costs nothing.
    threads: that share the large products
    """

    def __init__(
        self, model: MLP, rows: int, sgd: SGD, velocity: Gradients, *, scale: tuple[float, float], threads: int
    ) -> None:
        self.sgd = sgd
        self._model, self._velocity, self._threads = model, velocity, threads
        self._low, self._span = scale
        like, outs = model.weights[0], (*model.hidden, model.classes)
        self._a = [like.new_empty(rows, units) for units in (model.features, *outs)]  # a layer's input; logits
        self._dz = [like.new_empty(rows, units) for units in outs]
        self._ones = like.new_ones(rows, 1)
        self._minus_ones = -self._ones
        self._passes = functools.lru_cache(maxsize=2)(self._prepared)  # for whole batches, and for the short one
        self._rows = 0

    def score(self, pixels: Array, y: Tensor) -> tuple[float, int]:
        """The sum of the rows' losses in nats and how many were right, before they are learned.

        pixels: (rows, features) raw; y: (rows,) int64
        """
        self._rows = len(y)
        forward, back, _, x, logits, dlogits, minus_ones = self._passes(len(y))
        x.copy_(torch.from_numpy(pixels))
        if self._low:
            x.sub_(self._low)
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
        a = [a[:rows] for a in self._a]
        dz = [dz[:rows] for dz in self._dz]
        back: list[Call] = []
        move: list[Call] = []
        for layer, (weight, bias) in enumerate(zip(model.weights, model.biases, strict=True)):
            if layer:
                back[:0] = [
                    through(dz[layer], weight, out=dz[layer - 1], threads=threads),
                    partial(_CHAIN[model.activation], dz[layer - 1], a[layer]),
                ]
            v, v_bias = self._velocity[layer] if self._velocity else (weight, bias)
            move += self._moves(weight, v, dz[layer], a[layer], 1.0 if layer else 1 / self._span)
            move += self._moves(bias[:, None], v_bias[:, None], dz[layer], self._ones[:rows], 1.0)
        ahead = forward(model, a, alpha=1 / self._span, threads=threads)
        return Passes(ahead, back, move, a[0], a[-1], dz[-1], self._minus_ones[:rows])

    def _moves(self, p: Tensor, v: Tensor, dz: Tensor, a: Tensor, alpha: float) -> list[Call]:
        """The step of p and v (units, in) by the gradient alpha · dz^T a / rows.

        The product goes straight into v, or without momentum into p.
        """
        lr, momentum, weight_decay = self.sgd
        alpha /= len(a)
        if not momentum:
            beta = 1 - lr * weight_decay
            return [accumulated(p, dz, a, beta=beta, alpha=-lr * alpha, threads=self._threads)]
        return [
            accumulated(v, dz, a, beta=momentum, alpha=alpha, threads=self._threads),
            *([partial(v.add_, p, alpha=weight_decay)] if weight_decay else []),
            partial(p.add_, v, alpha=-lr),
        ]
