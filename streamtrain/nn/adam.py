"""Adam with decoupled weight decay, as torch.optim.AdamW has it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from streamtrain.nn.mlp import MLP, Gradients
from streamtrain.nn.sgd import copied_to, zeros_like

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8  # as Kingma and Ba recommend


class Factors(NamedTuple):
    """The numbers of one step: p ← shrink · p − rate · m / (root · √v + ε)."""

    shrink: float
    rate: float
    root: float


@dataclass(eq=False)
class Adam:
    """The optimiser of a model: its settings, and the moments of the gradient, which it owns.

    first, second: (of the weight, of the bias) of each layer, the decaying means of the gradient and of its
    square, moved in place
    steps: how many it has taken
    Raises ValueError for a negative weight decay.
    """

    weight_decay: float = 0.0
    first: Gradients = field(default_factory=list, repr=False)
    second: Gradients = field(default_factory=list, repr=False)
    steps: int = 0

    def __post_init__(self) -> None:
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay is not negative, not {self.weight_decay}")

    @classmethod
    def at_rest(cls, model: MLP, *, weight_decay: float = 0.0) -> Adam:
        """Return the optimiser before the first step."""
        return cls(weight_decay, zeros_like(model), zeros_like(model))

    def to(self, device: torch.device) -> Adam:
        """Return a copy whose moments lie on another device."""
        return Adam(self.weight_decay, copied_to(device, self.first), copied_to(device, self.second), self.steps)

    @property
    def buffers(self) -> dict[str, Gradients]:
        """Return what a checkpoint keeps, by name."""
        return {"first_moment": self.first, "second_moment": self.second}

    def factors(self, lr: float) -> Factors:
        """Return the numbers of the step that `steps` counts: the means start at 0, which they correct.

        With t steps, m / (1 − β₁^t) and v / (1 − β₂^t) are unbiased (Kingma and Ba 2015, Adam, section 3); the
        decay is that of the parameter alone, lr · decay · p (Loshchilov and Hutter 2019, AdamW, algorithm 2).
        """
        return Factors(
            shrink=1 - lr * self.weight_decay,
            rate=lr / (1 - BETA_1**self.steps),
            root=1 / math.sqrt(1 - BETA_2**self.steps),
        )

    def step(self, model: MLP, gradients: Gradients, *, lr: float) -> None:
        """Move every parameter in place.

        m ← β₁ m + (1 − β₁) dp and v ← β₂ v + (1 − β₂) dp², then p as `Factors` says
        """
        self.steps += 1
        shrink, rate, root = self.factors(lr)
        layers = zip(model.weights, model.biases, gradients, self.first, self.second, strict=True)
        for weight, bias, dp, first, second in layers:
            for p, gradient, m, v in zip((weight, bias), dp, first, second, strict=True):
                m.mul_(BETA_1).add_(gradient, alpha=1 - BETA_1)
                v.mul_(BETA_2).addcmul_(gradient, gradient, value=1 - BETA_2)
                p.mul_(shrink).addcdiv_(m, v.sqrt().mul_(root).add_(EPSILON), value=-rate)
