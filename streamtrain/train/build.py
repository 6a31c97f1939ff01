"""The parts of a training that its settings make: sizes in memory, schedule, optimiser, loss, augmentation."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import partial

from streamtrain.engine.sparse import EVALUATION
from streamtrain.errors import DataError, UsageError, argument
from streamtrain.memory import Plan
from streamtrain.nn.loss import CrossEntropy, balanced_weights
from streamtrain.nn.mlp import MLP, Gradients
from streamtrain.nn.optimizer import Optimizer, optimizer_for
from streamtrain.nn.schedule import Schedule
from streamtrain.process import machine_memory
from streamtrain.schema import Schema
from streamtrain.stream.augment import Augmentation
from streamtrain.stream.batches import Transform
from streamtrain.stream.dataset import Shards
from streamtrain.stream.order import Cursor
from streamtrain.train.config import FitConfig


def plan_memory(train: Shards, hidden: Sequence[int], config: FitConfig) -> Plan:
    """Return the sizes that keep the training of a net with these hidden layers within `config.memory_bytes`.

    Raises UsageError if the memory is too small, or more than the machine has.
    """
    layers = [train.schema.features, *hidden, len(train.schema.classes)]
    parameters = sum((fan_in + 1) * fan_out for fan_in, fan_out in itertools.pairwise(layers))
    parameters *= 4 if config.optimizer == "adam" else 2 if config.momentum else 1  # with what the optimiser keeps
    sized = partial(
        train.plan,
        batch_size=config.batch_size,
        parameters=parameters,
        units=sum(layers[1:]) * (2 if config.dropout else 1),  # with the masks, and what they leave
        evaluation=EVALUATION,
        augmented=config.augment != "none",
    )
    there = machine_memory()
    try:
        sized(there)
    except UsageError as error:
        raise UsageError(
            f"this net, in batches of {config.batch_size} rows, does not fit in the {there / 1e9:.1f} GB of this "
            "machine. Use fewer `hidden` units, or a smaller `batch_size`",
            option="hidden",
        ) from error
    plan = sized(config.memory_bytes)
    if plan.predicted_peak_bytes > there:
        fits = argument("memory_bytes", there // 2 // 10**6 * 10**6)
        raise UsageError(
            f"training would take {plan.predicted_peak_bytes / 1e9:.1f} GB by `memory_bytes`, but this machine "
            f"has {there / 1e9:.1f} GB. Pass {fits}",
            option="memory_bytes",
        )
    return plan


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


def build_loss(config: FitConfig, data: Shards) -> CrossEntropy:
    """Return the loss of a training on `data`.

    Raises UsageError if a class that has a weight is not among those of the data.
    """
    classes, weights = data.schema.classes, config.class_weights
    if weights == "equal":
        return CrossEntropy(config.label_smoothing)
    if isinstance(weights, str):
        counts = dict(zip(data.manifest.schema.classes, data.manifest.label_counts, strict=True))
        weights = dict(zip(classes, balanced_weights([counts.get(name, 0) for name in classes]), strict=True))
    if unknown := [name for name in weights if name not in classes]:
        raise UsageError(
            f"`class_weights` has {unknown[0]!r}, which is not a class of {data.folder}. It has "
            f"{', '.join(classes[:10])}{' …' * (len(classes) > 10)}",
            option="class_weights",
        )
    return CrossEntropy(config.label_smoothing, tuple(weights.get(name, 1.0) for name in classes))


def build_augmentation(config: FitConfig, schema: Schema) -> list[Transform]:
    """Return the augmentation of a training, if there is one. Raises UsageError if rows are not images."""
    amounts = config.augment
    return [] if isinstance(amounts, str) else [Augmentation(schema, amounts, seed=config.seed)]


def steps_before(config: FitConfig, rows: int, at: Cursor) -> int:
    """Return how many steps of a training on `rows` rows come before a position."""
    epoch, done = at
    return (epoch - 1) * -(-rows // config.batch_size) + -(-done // config.batch_size)


def check_fit(model: MLP, train: Shards, config: FitConfig) -> None:
    """Raise DataError unless the data has labels, and as many pixels and classes as the model.

    Raises UsageError for a setting of layers that the model does not have.
    """
    if config.dropout and not model.hidden:
        raise UsageError(
            "`dropout` leaves out units of hidden layers, and the model has none. Leave `dropout` out",
            option="dropout",
        )
    if not train.schema.classes:
        raise DataError(f"{train.folder} has no labels to learn. Convert it again with `label`")
    if (train.schema.features, len(train.schema.classes)) != (model.features, model.classes):
        raise DataError(
            f"{train.folder} has {train.schema.features} pixels and {len(train.schema.classes)} classes, "
            f"but the model takes {model.features} pixels and has {model.classes} classes"
        )
