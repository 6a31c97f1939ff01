"""The learning rate of each step: a pure function of the step's number, so that a resume computes it."""

from __future__ import annotations

import math
from typing import NamedTuple


class Schedule(NamedTuple):
    """How the learning rate changes over the steps of a training, which count from 0 over all epochs.

    kind: constant, cosine or step
    lr: the rate after the warm-up
    steps: of the whole training
    warmup_steps: over which the rate rises linearly to `lr`, as in `torch.optim.lr_scheduler.LinearLR`
    drop_steps, drop_factor: the step schedule multiplies the rate by `drop_factor` after every `drop_steps` steps
    """

    kind: str
    lr: float
    steps: int
    warmup_steps: int = 0
    drop_steps: int = 1
    drop_factor: float = 1.0

    def rate(self, step: int) -> float:
        """Return the learning rate of a step.

        With t the steps since the warm-up and T all steps after it:

        - constant: lr
        - cosine: lr · (1 + cos(π t / T)) / 2 (Loshchilov and Hutter 2017, SGDR, eq. 5, with η_min = 0)
        - step: lr · drop_factor^⌊t / drop_steps⌋

        >>> [round(Schedule("cosine", 0.1, steps=4).rate(step), 4) for step in range(4)]
        [0.1, 0.0854, 0.05, 0.0146]
        >>> [round(Schedule("step", 0.1, 4, drop_steps=2, drop_factor=0.1).rate(step), 4) for step in range(4)]
        [0.1, 0.1, 0.01, 0.01]
        """
        if step < self.warmup_steps:
            return self.lr * (step + 1) / (self.warmup_steps + 1)
        t = step - self.warmup_steps
        if self.kind == "cosine":
            return self.lr * (1 + math.cos(math.pi * t / max(1, self.steps - self.warmup_steps))) / 2
        if self.kind == "step":
            return self.lr * self.drop_factor ** (t // self.drop_steps)
        return self.lr
