"""What the settings of a training make: its schedule, its optimiser."""

from __future__ import annotations

from collections.abc import Mapping

from streamtrain.nn.mlp import MLP, Gradients
from streamtrain.nn.optimizer import Optimizer, optimizer_for
from streamtrain.nn.schedule import Schedule
from streamtrain.stream.order import Cursor
from streamtrain.train.config import FitConfig


def build_schedule(config: FitConfig, rows: int) -> Schedule:
    """Return the learning rate of each step of a training on `rows` rows."""
    steps = steps_before(config, rows, Cursor(2, 0))  # of an epoch
    return Schedule(
        config.schedule,
        config.lr,
        steps=config.epochs * steps,
        warmup_steps=round(config.warmup * steps),
        drop_steps=config.step_epochs * steps,
        drop_factor=config.step_factor,
    )


def build_optimizer(
    config: FitConfig, model: MLP, *, steps: int = 0, buffers: Mapping[str, Gradients] | None = None
) -> Optimizer:
    """Return the optimiser of a training, after `steps` steps that left these buffers, or before the first.

    Raises ValueError if the buffers are not those of this optimiser.
    """
    return optimizer_for(
        model,
        config.optimizer,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        buffers=buffers,
        steps=steps,
    )


def steps_before(config: FitConfig, rows: int, at: Cursor) -> int:
    """Return how many steps of a training on `rows` rows come before a position."""
    epoch, done = at
    return (epoch - 1) * -(-rows // config.batch_size) + -(-done // config.batch_size)
