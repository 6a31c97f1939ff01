"""One step of SGD at the speed of its matrix products, the same to the bit on any number of threads.

It computes what `MLP.forward`, `cross_entropy_gradient`, `MLP.backward` and `sgd_step` say, in buffers that are
made once. First some rows at a time: forward to the logits, back to each layer's dz. Then some units at a time:
their rows of the product dW = dz^T a / rows go straight into W. No sum crosses two pieces.
"""

from __future__ import annotations

import torch
from torch import Tensor

from streamtrain.learn.mlp import ACTIVATIONS, MLP, Gradients
from streamtrain.learn.sgd import SGD
from streamtrain.learn.team import Team, pieces

ROWS, UNITS = 128, 64  # of a piece, at most; smaller ones let more threads help, but each multiplies slower


class Step:
    """Steps of a model on batches of up to `rows` rows, its parameters and velocity moved in place.

    `score` a batch, then `learn` it; between the two its x must stay as it is.
    velocity: as for `sgd_step`; not touched where there is no momentum
    """

    def __init__(self, model: MLP, rows: int, team: Team, sgd: SGD, velocity: Gradients) -> None:
        self.sgd = sgd
        self._model, self._team, self._velocity = model, team, velocity
        like = model.weights[0]
        self._a = [like.new_empty(rows, units) for units in model.hidden]
        self._dz = [like.new_empty(rows, units) for units in (*model.hidden, model.classes)]
        self._logs, self._ones = like.new_empty(rows, 1), like.new_ones(rows, 1)
        self._minus_ones = -self._ones
        self._guesses = torch.empty(rows, dtype=torch.int64)
        self._units = [
            (layer, units) for layer, bias in enumerate(model.biases) for units in pieces(len(bias), UNITS)
        ]
        self._x, self._y = torch.empty(0), torch.empty(0, dtype=torch.int64)

    def score(self, x: Tensor, y: Tensor) -> tuple[float, int]:
        """The sum of the rows' losses in nats and how many were right, before they are learned.

        x: (rows, features) normalised; y: (rows,) int64
        """
        self._x, self._y, rows = x, y, len(y)
        self._team.each(self._forward_and_back, pieces(rows, ROWS))
        loss = -self._logs[:rows].sum(dtype=torch.float64)
        return float(loss), int(torch.count_nonzero(self._guesses[:rows] == y))

    def learn(self) -> None:
        """Move the parameters against the gradient of the mean loss of the batch that was scored."""
        self._team.each(self._move, self._units)

    def _forward_and_back(self, rows: slice) -> None:
        """Fill in a (rows, out) and dz = dloss/dz (rows, out) of every layer."""
        model, y = self._model, self._y[rows].unsqueeze(1)
        activate, derivative = ACTIVATIONS[model.activation]
        activations, dzs = [a[rows] for a in self._a], [dz[rows] for dz in self._dz]
        logits = dlogits = dzs[-1]  # (rows, classes)
        a = self._x[rows]
        for weight, bias, z in zip(model.weights, model.biases, (*activations, logits), strict=True):
            a = torch.addmm(bias, a, weight.T, out=z)
            if a is not logits:
                activate(a)
        torch.argmax(logits, 1, out=self._guesses[rows])
        logs = torch.log_softmax(logits, 1)
        torch.gather(logs, 1, y, out=self._logs[rows])
        torch.exp(logs, out=dlogits).scatter_add_(1, y, self._minus_ones[rows])  # softmax − one_hot
        for layer, a in reversed(list(enumerate(activations))):
            dz = torch.mm(dzs[layer + 1], model.weights[layer + 1], out=dzs[layer])
            dz.mul_(derivative(a))

    def _move(self, piece: tuple[int, slice]) -> None:
        """Take the step of some units of a layer; the product goes straight into v, or without momentum into p."""
        layer, units = piece
        rows = len(self._y)
        dz = self._dz[layer][:rows, units].T  # (units, rows)
        inputs = self._a[layer - 1][:rows] if layer else self._x
        weight, bias = self._model.weights[layer][units], self._model.biases[layer][units].unsqueeze(1)
        lr, momentum, weight_decay = self.sgd
        for kind, (p, a) in enumerate(((weight, inputs), (bias, self._ones[:rows]))):
            if momentum:
                v = self._velocity[layer][kind][units].view_as(p)
                v.addmm_(dz, a, beta=momentum, alpha=1 / rows)
                if weight_decay:
                    v.add_(p, alpha=weight_decay)
                p.add_(v, alpha=-lr)
            else:
                p.addmm_(dz, a, beta=1 - lr * weight_decay, alpha=-lr / rows)
