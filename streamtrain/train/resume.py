"""What a run records of its settings and data, and how it is resumed on the same data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from streamtrain.errors import RunError, UsageError
from streamtrain.memory import Plan
from streamtrain.nn.mlp import MLP
from streamtrain.nn.sgd import SGD
from streamtrain.stream.dataset import Shards, open_shards
from streamtrain.train.checkpoint import Checkpoint
from streamtrain.train.config import TrainConfig
from streamtrain.train.fit import Training, plan_memory
from streamtrain.train.progress import EpochReport
from streamtrain.train.run import Run


class Sets(NamedTuple):
    """The sets of a run; only `data` is trained on."""

    data: Shards
    test: Shards | None = None
    val: Shards | None = None


def build_model(train: Shards, config: TrainConfig) -> MLP:
    """Return the untrained model of a configuration.

    Raises RunError if the data has no labels, or the model does not fit in memory.
    """
    if not train.schema.classes:
        raise RunError(f"{train.folder} has no labels to learn. Convert it again with `label`")
    sizes = train.schema.features, config.hidden, len(train.schema.classes)
    try:
        return MLP(*sizes, seed=config.seed, activation=config.activation)
    except RuntimeError as error:  # torch's error if memory cannot be allocated
        raise RunError("the `hidden` layers do not fit in memory. Use fewer units", option="hidden") from error


def recipe(config: TrainConfig, paths: Mapping[str, str | None], sets: Sets, plan: Plan) -> dict[str, Any]:
    """Return what recipe.json records: the paths and digests of the data, the settings, the window.

    paths: of data, test and val, as they were given; None for a set that there is not
    """
    others = {"test": sets.test, "val": sets.val}
    return {
        **{name: path and str(Path(path).absolute()) for name, path in paths.items()},
        **{f"{name}_digest": data.manifest.digest for name, data in others.items() if data},
        **config.to_recipe(),
        "window_rows": plan.window_rows,
        **({"turned": True} if sets.data.manifest.parse.get("transposed") else {}),
    }


def recorded_config(run: Run, checkpoint: Checkpoint) -> TrainConfig:
    """Return the settings that a run was started with.

    Raises RunError if its recipe cannot have been written by `recipe`.
    """
    values = run.recipe
    try:
        config = TrainConfig.from_recipe(values)
    except UsageError as error:
        raise _foreign_recipe(run) from error
    texts = isinstance(values.get("data"), str) and all(
        isinstance(values.get(name, ...), str | None) for name in ("test", "val")
    )
    window = values.get("window_rows")
    if not (
        texts
        and isinstance(window, int)
        and window >= 1
        and config.hidden == checkpoint.model.hidden
        and checkpoint.progress.cursor.epoch <= config.epochs + 1
    ):
        raise _foreign_recipe(run)
    return config


def open_recorded_sets(run: Run, *, open_data: Callable[[str], Shards] = open_shards) -> Sets:
    """Open the sets that a run was started with. Raises RunError if one of them changed since."""
    digests = {name: run.recipe.get(f"{name}_digest") for name in ("test", "val")}
    digests["data"] = run.manifest_digest
    found: dict[str, Shards | None] = {}
    for name in ("data", "test", "val"):
        path = run.recipe[name]
        data = found[name] = open_data(path) if path else None
        if data and data.manifest.digest != digests[name]:
            raise RunError(
                f"{path} is not the {name} that {run.folder} was started with: its manifest changed. Bring that "
                "back, or start a new run with `out`"
            )
    assert found["data"]
    return Sets(found["data"], found["test"], found["val"])


def resume_training(
    run: Run,
    checkpoint: Checkpoint,
    *,
    epochs: int | None = None,
    device: torch.device | None = None,
    open_data: Callable[[str], Shards] = open_shards,
) -> Training | None:
    """Return the training of a run from its checkpoint on, or None if it is finished, which needs no data.

    epochs: how many in all, if another number than recorded; it is recorded then
    Raises UsageError for fewer epochs than the run has begun, RunError if the data changed.
    """
    config, start = recorded_config(run, checkpoint), checkpoint.progress
    reached = start.cursor.epoch - (start.cursor.rows == 0)
    if epochs is not None and epochs < reached:
        raise UsageError(
            f"{run.folder} is in epoch {reached} already: `epochs` can be raised, not lowered", option="epochs"
        )
    config = replace(config, epochs=epochs or config.epochs)
    sets = open_recorded_sets(run, open_data=open_data) if start.cursor.epoch <= config.epochs else None
    if config.epochs != run.recipe["epochs"]:
        run.set_epochs(config.epochs, checkpoint)
    if sets is None:
        return None
    plan = plan_memory(sets.data, config.hidden, config)
    to = device or torch.device("cpu")
    return Training(
        checkpoint.model if to.type == "cpu" else checkpoint.model.to(to),
        sets.data,
        config,
        test=sets.test,
        val=sets.val,
        start=start,
        optimizer=SGD(config.momentum, config.weight_decay, checkpoint.velocity).to(to),
        plan=replace(plan, window_rows=run.recipe["window_rows"]),
    )


def resume_fit(folder: str | Path, *, epochs: int | None = None) -> list[EpochReport]:
    """Train a run to its end from its last checkpoint, and return a report of each epoch that this took.

    folder: of the run, as written by `streamtrain train`
    epochs: how many in all; by default as recorded
    Raises RunError if the run or its data cannot be used.
    """
    run, checkpoint, _ = Run.open(Path(folder))
    reports = []
    training = resume_training(run, checkpoint, epochs=epochs)
    for event in training or ():
        if training and isinstance(event, EpochReport):
            run.record(event, training)
            reports.append(event)
    return reports


def _foreign_recipe(run: Run) -> RunError:
    return RunError(f"{run.folder}: recipe.json was not written by streamtrain train. Start a new run with `out`")
