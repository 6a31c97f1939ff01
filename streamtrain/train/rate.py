"""The error for a loss that is not finite: it names a learning rate that works."""

from __future__ import annotations

import itertools
import math

import numpy as np

from streamtrain.block import joined
from streamtrain.engine.device import DeviceStep
from streamtrain.errors import RunError, argument
from streamtrain.nn.mlp import MLP
from streamtrain.stream.batches import Batch
from streamtrain.stream.dataset import Shards
from streamtrain.train.build import build_optimizer
from streamtrain.train.config import FitConfig

_GROUPS, _ROWS = 8, 2048  # row groups spread over the set, and the most rows of them that are tried
_STEPS = (1, 60)  # of a trial: one step finds the order of magnitude, more show whether it holds
_HALVINGS = 300  # from the largest float32 to the smallest


def not_finite(model: MLP, train: Shards, config: FitConfig, lr: float, what: str) -> RunError:
    """Return the error for a loss that is not finite, with a rate that works.

    model, train, config: as in `working_rate`; lr: the rate of the step
    what: where the loss is, and its value
    """
    works = working_rate(model, train, config, failed=min(lr, config.lr))
    return RunError(
        f"{what} at `lr` = {lr:g}. The weights were last saved before that. Train again with a smaller rate, "
        f"such as {argument('lr', works)}",
        option="lr",
    )


def working_rate(model: MLP, train: Shards, config: FitConfig, *, failed: float) -> float:
    """Return a rate below `failed`, rounded down to one digit, with which a new net learns some rows of `train`.

    model: its layers and activation are those of the new net; its weights are not used
    A rate is halved until 1 step, and then 60 steps, lower the loss and never double it; and then once more, for a
    training has more steps.
    """
    batches = _batches(train, config.batch_size)
    rate = failed / 2
    for steps in _STEPS:
        for _ in range(_HALVINGS):
            if _learns(model, train, config, batches, rate, steps):
                break
            rate /= 2
    rate /= 2
    power = 10.0 ** math.floor(math.log10(rate))
    return float(f"{math.floor(rate / power * (1 + 1e-12)) * power:.0e}")


def _batches(train: Shards, size: int) -> list[Batch]:
    groups = np.unique(np.linspace(0, len(train.row_groups) - 1, _GROUPS).astype(np.int64))
    each = -(-_ROWS // len(groups))
    rows = joined([block.take(slice(each)) for block in train.blocks(groups.tolist(), lines=False)])
    mixed = rows.take(np.random.default_rng(0).permutation(len(rows)))
    starts = range(0, len(mixed), size)
    return [Batch(mixed.pixels[i : i + size], mixed.labels[i : i + size].astype(np.int64)) for i in starts]


def _learns(model: MLP, train: Shards, config: FitConfig, batches: list[Batch], rate: float, steps: int) -> bool:
    """Return whether some steps lower the loss."""
    net = MLP(model.features, model.hidden, model.classes, seed=config.seed, activation=model.activation)
    step = DeviceStep(net, build_optimizer(config, net), scale=train.schema.scale)

    def loss() -> float:
        """Return the mean loss of all batches."""
        return sum(step.forward_backward(batch)[0] for batch in batches) / sum(batch.rows for batch in batches)

    before = loss()
    for batch in itertools.islice(itertools.cycle(batches), steps):
        if not step.forward_backward(batch)[0] <= 2 * before * batch.rows:  # NaN is not
            return False
        step.update(rate)
    return loss() < before
