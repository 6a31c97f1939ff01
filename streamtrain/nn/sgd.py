"""Stochastic gradient descent, as torch.optim.SGD has it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from streamtrain.nn.mlp import MLP, Gradients


@dataclass(eq=False)
class SGD:
    """The optimiser of a model: its settings, and the velocity, which it owns.

    velocity: (v of the weight, v of the bias) of each layer, moved in place; empty without momentum
    Raises ValueError for a momentum outside 0..1 or a negative weight decay.
    """

    momentum: float = 0.0
    weight_decay: float = 0.0
    velocity: Gradients = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        if not (0 <= self.momentum < 1 and self.weight_decay >= 0):
            raise ValueError(
                f"momentum is in 0..1 and weight_decay not negative, not {self.momentum} and {self.weight_decay}"
            )

    @classmethod
    def at_rest(cls, model: MLP, *, momentum: float = 0.0, weight_decay: float = 0.0) -> SGD:
        """Return the optimiser before the first step."""
        return cls(momentum, weight_decay, zero_velocity(model) if momentum else [])

    def step(self, model: MLP, gradients: Gradients, *, lr: float) -> None:
        """Take a step; see `sgd_step`."""
        velocity = self.velocity or None
        sgd_step(
            model, gradients, lr=lr, momentum=self.momentum, weight_decay=self.weight_decay, velocity=velocity
        )

    def to(self, device: torch.device) -> SGD:
        """Return a copy whose velocity lies on another device."""
        moved = [(weight.to(device, copy=True), bias.to(device, copy=True)) for weight, bias in self.velocity]
        return SGD(self.momentum, self.weight_decay, moved)


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

    velocity: the v of each parameter, moved in place too; by default zeros, as before the first step
    """
    velocity = velocity or zero_velocity(model)
    for weight, bias, dp, v in zip(model.weights, model.biases, gradients, velocity, strict=True):
        for parameter, gradient, speed in zip((weight, bias), dp, v, strict=True):
            speed.mul_(momentum).add_(gradient).add_(parameter, alpha=weight_decay)
            parameter.add_(speed, alpha=-lr)


def zero_velocity(model: MLP) -> Gradients:
    """Return the velocity before the first step: zeros in the shapes of the parameters."""
    return [(torch.zeros_like(w), torch.zeros_like(b)) for w, b in zip(model.weights, model.biases, strict=True)]
