"""Dropout in a training step, in buffers that are made once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from streamtrain.engine.dense import Call
from streamtrain.nn.dropout import draw_mask
from streamtrain.nn.loss import Objective
from streamtrain.nn.optimizer import Optimizer


class Dropout:
    """The masks of a batch, and the activations that they leave, of each hidden layer.

    objective: has the share that is dropped, and the seed; the mask of a step follows from the seed and from the
    steps that `optimizer` has taken
    like: the activations of each hidden layer, (rows, units), in the layout of the buffers
    """

    def __init__(self, objective: Objective, optimizer: Optimizer, like: Sequence[Tensor]) -> None:
        self._rate, self._seed, self._optimizer = objective.dropout, objective.seed, optimizer
        self._masks = [each.clone() for each in like]
        self._left = [each.clone() for each in like]

    def left(self, layer: int, rows: int) -> Tensor:
        """Return the activations (rows, units) that the mask of a layer left."""
        return self._left[layer][:rows]

    def bind_forward(self, layer: int, a: Tensor) -> tuple[Call, Tensor]:
        """Return a function that draws the mask of a layer and applies it to `a` (rows, units), and the result."""
        mask, left = self._masks[layer][: len(a)], self.left(layer, len(a))

        def drop() -> None:
            draw_mask(mask, self._rate, self._seed, self._optimizer.steps, layer)
            torch.mul(a, mask, out=left)

        return drop, left

    def bind_backward(self, layer: int, da: Tensor) -> Call:
        """Return a function that turns the gradient by what was left into that by the activations, in place."""
        return partial(da.mul_, self._masks[layer][: len(da)])
