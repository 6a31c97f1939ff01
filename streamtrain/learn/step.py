"""One step of SGD at the speed of its matrix products, the same to the bit on any number of threads.

It computes what `MLP.forward`, `cross_entropy_gradient`, `MLP.backward` and `sgd_step` say, in buffers that are
made once. A product that the matrix library splits among threads sums in another order, so the last bits of the
weights would depend on the number of cores. Here it is a batch of equal products instead, rows of the minibatch on
the way forward and back, units of a layer in its gradient; one thread computes each, and no sum crosses two.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from streamtrain.learn.mlp import ACTIVATIONS, MLP, Gradients
from streamtrain.learn.sgd import SGD
from streamtrain.learn.team import one_thread, pieces

SLICES = 4  # of a product; more threads than these would cut them again, so a step takes no more
_SERIAL = 16_000  # elements: torch computes so few in one thread, and cuts the last of a share in another way


class Step:
    """Steps of a model on batches of up to `rows` rows, its parameters and velocity moved in place.

    `score` a batch, then `learn` it, both in at most SLICES threads; between the two its x must stay as it is.
    velocity: as for `sgd_step`; not touched where there is no momentum
    """

    def __init__(self, model: MLP, rows: int, sgd: SGD, velocity: Gradients) -> None:
        self.sgd = sgd
        self._model, self._velocity = model, velocity
        like = model.weights[0]
        self._a = [like.new_empty(rows, units) for units in model.hidden]
        self._dz = [like.new_empty(rows, units) for units in (*model.hidden, model.classes)]
        self._losses, self._ones = like.new_empty(rows, 1), like.new_ones(rows, 1)
        self._x, self._rows = torch.empty(0), 0

    def score(self, x: Tensor, y: Tensor) -> tuple[float, int]:
        """The sum of the rows' losses in nats and how many were right, before they are learned.

        x: (rows, features) normalised; y: (rows,) int64
        """
        model, rows = self._model, len(y)
        self._x, self._rows = x, rows
        activate, derivative = ACTIVATIONS[model.activation]
        activations, dzs = [a[:rows] for a in self._a], [dz[:rows] for dz in self._dz]
        logits = dlogits = dzs[-1]  # (rows, classes)
        layers = zip(model.weights, model.biases, (x, *activations), (*activations, logits), strict=True)
        for weight, bias, a, z in layers:
            add_product(z.copy_(bias), a, weight.T)
            if z is not logits:
                for piece in _serial(z):
                    activate(piece)
        correct = int(torch.count_nonzero(logits.argmax(1) == y))
        for part in pieces(rows, max(1, _SERIAL // logits.shape[1])):
            logs, right = torch.log_softmax(logits[part], 1), y[part].unsqueeze(1)
            torch.neg(logs.gather(1, right), out=self._losses[part])
            torch.exp(logs, out=dlogits[part]).scatter_add_(1, right, self._ones[part].neg())  # softmax − one_hot
        for layer, a in reversed(list(enumerate(activations))):
            add_product(dzs[layer], dzs[layer + 1], model.weights[layer + 1], beta=0)
            for piece, slope in zip(_serial(dzs[layer]), map(derivative, _serial(a)), strict=True):
                piece.mul_(slope)
        return float(self._losses[:rows].numpy().sum(dtype=np.float64)), correct

    def learn(self) -> None:
        """Move the parameters against the gradient of the mean loss of the batch that was scored.

        The product dW = dz^T a / rows goes straight into v, or without momentum into W.
        """
        model, rows = self._model, self._rows
        lr, momentum, weight_decay = self.sgd
        ones = self._ones[:rows]
        for layer, (weight, bias) in enumerate(zip(model.weights, model.biases, strict=True)):
            dz = self._dz[layer][:rows].T  # (units, rows)
            inputs = self._a[layer - 1][:rows] if layer else self._x
            for kind, (p, a) in enumerate(((weight, inputs), (bias.unsqueeze(1), ones))):
                if not momentum:
                    add_product(p, dz, a, beta=1 - lr * weight_decay, alpha=-lr / rows)
                    continue
                velocity = self._velocity[layer][kind].view_as(p)
                add_product(velocity, dz, a, beta=momentum, alpha=1 / rows)
                for parameter, v in zip(_serial(p), _serial(velocity), strict=True):
                    if weight_decay:
                        v.add_(parameter, alpha=weight_decay)
                    parameter.add_(v, alpha=-lr)


def add_product(out: Tensor, a: Tensor, b: Tensor, *, beta: float = 1.0, alpha: float = 1.0) -> None:
    """out ← beta · out + alpha · a b, in place, the same to the bit on 1 to SLICES threads.

    out: (n, m) contiguous; a: (n, k); b: (k, m). Where n has no divisor 2 it is computed by one thread.
    """
    rows, columns = out.shape
    slices = next(count for count in (SLICES, 2, 1) if not rows % count)
    if slices == 1:
        with one_thread():
            out.addmm_(a, b, beta=beta, alpha=alpha)
    else:
        each = rows // slices
        stacked = out.view(slices, each, columns)
        stacked.baddbmm_(a.view(slices, each, -1), b.expand(slices, -1, -1), beta=beta, alpha=alpha)


def _serial(matrix: Tensor) -> list[Tensor]:
    """Its rows in runs that torch computes in one thread."""
    rows, columns = matrix.shape
    return [matrix[part] for part in pieces(rows, max(1, _SERIAL // columns))]
