"""What the settings of a training make: the schedule of its learning rate."""

from __future__ import annotations

from streamtrain.nn.schedule import Schedule
from streamtrain.train.config import FitConfig


def build_schedule(config: FitConfig, rows: int) -> Schedule:
    """Return the learning rate of each step of a training on `rows` rows."""
    steps = -(-rows // config.batch_size)  # of an epoch
    return Schedule(
        config.schedule,
        config.lr,
        steps=config.epochs * steps,
        warmup_steps=round(config.warmup * steps),
        drop_steps=config.step_epochs * steps,
        drop_factor=config.step_factor,
    )
