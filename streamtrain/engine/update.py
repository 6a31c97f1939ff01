"""The step of an optimiser on one layer after the backward pass, in buffers that are made once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from streamtrain.block import Array
from streamtrain.engine.dense import Update
from streamtrain.engine.sparse import padded_rows
from streamtrain.native.adam import adam, adam_reference
from streamtrain.nn.adam import BETA_1, BETA_2, EPSILON, Adam
from streamtrain.nn.sgd import SGD

Layer = tuple[Tensor, Tensor]  # weight (units, in) and bias (units,), or their gradients
BindGradient = Callable[[Tensor, Tensor, Tensor], Update]  # of (weight, bias, dz): adds the gradient to both
Step = Callable[[float], object]  # of the learning rate


def bind_step(optimizer: SGD | Adam, layer: Layer, state: list[Layer], dz: Tensor, bind: BindGradient) -> Step:
    """Return a function of the learning rate that takes the step of a layer.

    state: what the optimiser keeps of this layer, in its order and in the layout of the layer, moved in place; for
    Adam also a buffer for the gradient
    dz: (rows, units), not yet divided by the rows
    bind: returns what adds the gradient that follows from dz to a weight and a bias
    """
    if isinstance(optimizer, Adam):
        return _bind_adam(optimizer, [layer, *state], dz, bind)
    if state:
        return _bind_momentum(optimizer, layer, state[0], dz, bind)
    decay, rows = optimizer.weight_decay, len(dz)
    accumulate = bind(*layer, dz)
    return lambda lr: accumulate(1 - lr * decay, -lr / rows)


def _bind_momentum(optimizer: SGD, layer: Layer, velocity: Layer, dz: Tensor, bind: BindGradient) -> Step:
    momentum, decay, rows = optimizer.momentum, optimizer.weight_decay, len(dz)
    accumulate = bind(*velocity, dz)

    def step(lr: float) -> None:
        accumulate(momentum, 1 / rows)
        for p, v in zip(layer, velocity, strict=True):
            if decay:
                v.add_(p, alpha=decay)
            p.add_(v, alpha=-lr)

    return step


def _bind_adam(optimizer: Adam, buffers: list[Layer], dz: Tensor, bind: BindGradient) -> Step:
    """Return the step of a layer; buffers: its parameters, the moments, the gradient."""
    gradient = buffers[-1]
    accumulate, rows = bind(*gradient, dz), len(dz)
    move, dtype = (adam, np.float32) if dz.dtype == torch.float32 else (adam_reference, np.float64)
    moves: list[Callable[[Array], object]] = [
        partial(move, *map(_numbers, each)) for each in zip(*buffers, strict=True)
    ]

    def step(lr: float) -> None:
        accumulate(0, 1 / rows)
        numbers = adam_numbers(optimizer, lr).astype(dtype)
        for each in moves:
            each(numbers)

    return step


def adam_numbers(optimizer: Adam, lr: float) -> Array:
    """Return the `numbers` of `adam_reference`, (8,) float64, for the step that `optimizer.steps` counts."""
    return np.array([BETA_1, 1 - BETA_1, BETA_2, 1 - BETA_2, *optimizer.factors(lr), EPSILON])


def _numbers(tensor: Tensor) -> Array:
    """Return all numbers of a tensor, those of its padding included, in the same memory."""
    if tensor.is_contiguous():
        return tensor.view(-1).numpy()
    return padded_rows(tensor.T).reshape(-1)
