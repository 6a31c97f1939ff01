"""Stochastic gradient descent, as torch.optim.SGD has it."""

from __future__ import annotations

from typing import NamedTuple

import torch

from streamtrain.errors import UsageError
from streamtrain.nn.mlp import MLP, Gradients

_LARGEST = torch.finfo(torch.float32).max


class SGDConfig(NamedTuple):
    """The settings of the descent; see `sgd_step` for what they do."""

    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0

    def checked(self) -> SGDConfig:
        """The settings; raises UsageError where the descent would not descend, or a float32 cannot hold one."""
        lr, momentum, weight_decay = self
        if not 0 < lr <= _LARGEST:
            raise UsageError(f"lr is positive and a float32, not {lr:g}")
        if not (0 <= momentum < 1 and 0 <= lr * weight_decay < 1 and weight_decay <= _LARGEST):
            raise UsageError(
                f"momentum is 0 or more and below 1, and so is lr · weight decay, not {momentum:g} and "
                f"{lr:g} · {weight_decay:g}"
            )
        return self


def sgd_step(
    model: MLP,
    gradients: Gradients,
    *,
    lr: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    velocity: Gradients | None = None,
) -> None:
    """Move every parameter in place: v ← momentum · v + dp + weight_decay · p, then p ← p − lr · v.

    velocity: the v of each parameter, moved in place too; zero before the first step, and where it is not given
    """
    velocity = velocity or rest(model)
    for weight, bias, dp, v in zip(model.weights, model.biases, gradients, velocity, strict=True):
        for parameter, gradient, speed in zip((weight, bias), dp, v, strict=True):
            speed.mul_(momentum).add_(gradient).add_(parameter, alpha=weight_decay)
            parameter.add_(speed, alpha=-lr)


def rest(model: MLP) -> Gradients:
    """The velocity before the first step: zeros in the shapes of the parameters."""
    return [(torch.zeros_like(w), torch.zeros_like(b)) for w, b in zip(model.weights, model.biases, strict=True)]
