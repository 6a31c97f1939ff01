"""Stochastic gradient descent, as torch.optim.SGD has it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from streamtrain.nn.mlp import MLP, Gradients


@dataclass(eq=False)
class SGD:
    """The optimiser of a model: its settings, and the velocity, which it owns.

    velocity: (v of the weight, v of the bias) of each layer, moved in place; empty without momentum
    steps: how many it has taken
    Raises ValueError for a momentum outside 0..1 or a negative weight decay.
    """

    momentum: float = 0.0
    weight_decay: float = 0.0
    velocity: Gradients = field(default_factory=list, repr=False)
    steps: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.momentum < 1 and self.weight_decay >= 0):
            raise ValueError(
                f"momentum is in 0..1 and weight_decay not negative, not {self.momentum} and {self.weight_decay}"
            )

    @classmethod
    def at_rest(cls, model: MLP, *, momentum: float = 0.0, weight_decay: float = 0.0) -> SGD:
        """Return the optimiser before the first step."""
        return cls(momentum, weight_decay, zeros_like(model) if momentum else [])

    @property
    def buffers(self) -> dict[str, Gradients]:
        """Return what a checkpoint keeps, by name."""
        return {"velocity": self.velocity} if self.velocity else {}

    def step(self, model: MLP, gradients: Gradients, *, lr: float) -> None:
        """Take a step; see `sgd_step`."""
        self.steps += 1
        velocity = self.velocity or None
        sgd_step(
            model, gradients, lr=lr, momentum=self.momentum, weight_decay=self.weight_decay, velocity=velocity
        )

    def to(self, device: torch.device) -> SGD:
        """Return a copy whose velocity lies on another device."""
        return SGD(self.momentum, self.weight_decay, copied_to(device, self.velocity), self.steps)


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
    velocity = velocity or zeros_like(model)
    for weight, bias, dp, v in zip(model.weights, model.biases, gradients, velocity, strict=True):
        for parameter, gradient, speed in zip((weight, bias), dp, v, strict=True):
            speed.mul_(momentum).add_(gradient).add_(parameter, alpha=weight_decay)
            parameter.add_(speed, alpha=-lr)


def zeros_like(model: MLP) -> Gradients:
    """Return zeros in the shapes of the parameters, the state of an optimiser before the first step."""
    return [(torch.zeros_like(w), torch.zeros_like(b)) for w, b in zip(model.weights, model.biases, strict=True)]


def copied_to(device: torch.device, gradients: Gradients) -> Gradients:
    """Return copies that lie on a device."""
    return [(weight.to(device, copy=True), bias.to(device, copy=True)) for weight, bias in gradients]
