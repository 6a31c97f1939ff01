"""What a run records of its settings and data, and how it is resumed on the same data."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple, TypedDict

import torch
from msgspec import Meta

from streamtrain.decode import PathText, Positive, convert
from streamtrain.errors import RunError, UsageError, argument
from streamtrain.memory import Plan
from streamtrain.nn.mlp import MLP
from streamtrain.storage.names import given_path
from streamtrain.storage.objects import absolute, location
from streamtrain.stream.dataset import Shards, open_shards
from streamtrain.train.build import build_optimizer, plan_memory, steps_before
from streamtrain.train.checkpoint import Checkpoint, load, weights_sha256
from streamtrain.train.config import TrainConfig
from streamtrain.train.early_stopping import epochs_left
from streamtrain.train.fit import Training
from streamtrain.train.progress import EpochReport
from streamtrain.train.run import Run


class Sets(NamedTuple):
    """The sets of a run; only `data` is trained on."""

    data: Shards
    test: Shards | None = None
    val: Shards | None = None


def build_model(train: Shards, config: TrainConfig) -> MLP:
    """Return the model of a configuration before training: untrained, or as the run of `init` left it.

    Raises RunError if the data has no labels, the model does not fit in memory, or `init` cannot be read.
    """
    if config.init is not None:
        return load(config.init).model
    if not train.schema.classes:
        raise RunError(f"{train.folder} has no labels to learn. Convert it again with `label`")
    sizes = train.schema.features, config.hidden, len(train.schema.classes)
    try:
        return MLP(*sizes, seed=config.seed, activation=config.activation)
    except RuntimeError as error:  # torch's error if memory cannot be allocated
        raise RunError("the `hidden` layers do not fit in memory. Use fewer units", option="hidden") from error


def with_layers_of_init(config: TrainConfig) -> TrainConfig:
    """Return the configuration with the hidden layers and the activation of the run that it starts from, if any.

    Raises UsageError if it has others, which are not the defaults.
    """
    if config.init is None:
        return config
    model, default = load(config.init).model, TrainConfig()
    for name in ("hidden", "activation"):
        own, given = getattr(model, name), getattr(config, name)
        if given not in (own, getattr(default, name)):
            raise UsageError(
                f"the weights of {config.init} have {argument(name, own)}, not {argument(name, given)}. Leave "
                f"`{name}` out",
                option=name,
            )
    return replace(config, hidden=model.hidden, activation=model.activation)


def recipe(config: TrainConfig, paths: Mapping[str, str | None], sets: Sets, plan: Plan) -> dict[str, Any]:
    """Return what recipe.json records: the paths and digests of the data, the settings, the window.

    paths: of data, test and val, as they were given; None for a set that there is not
    """
    others = {"test": sets.test, "val": sets.val}
    return {
        **{name: path and str(absolute(location(path))) for name, path in paths.items()},
        **{f"{name}_digest": data.manifest.content_digest for name, data in others.items() if data},
        **config.to_recipe(),
        **({"init_sha256": weights_sha256(load(config.init).model.state_dict())} if config.init else {}),
        "window_rows": plan.window_rows,
        **({"turned": True} if sets.data.manifest.parse.get("transposed") else {}),
    }


def recorded_config(run: Run, checkpoint: Checkpoint) -> TrainConfig:
    """Return the settings that a run was started with.

    Raises RunError if its recipe cannot have been written by `recipe`.
    """
    try:
        convert(dict(run.recipe), _Recorded)
        config = TrainConfig.from_recipe(run.recipe)
    except (ValueError, UsageError) as error:
        raise _foreign_recipe(run, str(error).replace("`", "")[:120]) from error
    if config.hidden != checkpoint.model.hidden:
        raise _foreign_recipe(run, f"hidden is {str(config.hidden)[:80]}, but the weights are of another net")
    if checkpoint.progress.cursor.epoch > config.epochs + 1:
        raise _foreign_recipe(run, f"epochs is {config.epochs}, but the run is in a later one")
    return config


class _Recorded(TypedDict):
    """The keys of a recipe in addition to the settings."""

    data: Annotated[PathText, Meta(min_length=1)]
    test: PathText | None
    val: PathText | None
    window_rows: Positive


def open_recorded_sets(
    run: Run, paths: Mapping[str, str | None], *, open_data: Callable[[str], Shards] = open_shards
) -> dict[str, Shards | None]:
    """Open sets that a run was started with.

    paths: where each of them is now; None for a set that the run does not have
    Raises RunError if one of them is missing or other data.
    """
    places = {name: location(path) for name, path in paths.items() if path}
    if missing := [name for name, place in places.items() if isinstance(place, Path) and not place.exists()]:
        command = shlex.join(["streamtrain", "train", "--resume", str(run.folder)])
        for name, path in paths.items():
            if name in missing or path != run.recipe[name]:
                place = "DATA" if name in missing else shlex.quote(str(path))
                command += f" {place}" if name == "data" else f" --{name} {place}"
        name, path = missing[0], paths[missing[0]]
        raise RunError(f"the {name} of {run.folder} is not at {path}. Pass its new place: {command}", path=path)
    return {name: _open_recorded(run, name, path, open_data) if path else None for name, path in paths.items()}


def _open_recorded(run: Run, name: str, path: str, open_data: Callable[[str], Shards]) -> Shards:
    data = open_data(path)
    if not data.manifest.matches(run.data_digest if name == "data" else run.recipe.get(f"{name}_digest")):
        raise RunError(
            f"{path} is not the {name} that {run.folder} was started with: its content differs. Pass the "
            "original data, or start a new run with `out`",
            path=path,
        )
    return data


def resume_training(
    run: Run,
    checkpoint: Checkpoint,
    *,
    epochs: int | None = None,
    moved: Mapping[str, str | None] = MappingProxyType({}),
    device: torch.device | None = None,
    open_data: Callable[[str], Shards] = open_shards,
) -> Training | None:
    """Return the training of a run from its checkpoint on, or None if it is finished, which needs no data.

    epochs: how many in all, if another number than recorded; it is recorded then
    moved:  the new places of data, test and val that moved, None for the others; they are recorded too
    Raises UsageError for fewer epochs than the run has begun, RunError if a set is missing or other data.
    """
    config, start = recorded_config(run, checkpoint), checkpoint.progress
    if epochs is not None:
        _check_epochs(run, config, checkpoint, epochs)
        config = replace(config, epochs=epochs)
    given = {name: str(absolute(location(path))) for name, path in moved.items() if path}
    finished = start.cursor.epoch > config.epochs or _has_stopped(config, checkpoint)
    recorded = {} if finished else {name: run.recipe[name] for name in ("data", "test", "val")}
    sets = open_recorded_sets(run, recorded | given, open_data=open_data)
    changes = {"epochs": config.epochs, **given}
    if any(run.recipe[name] != value for name, value in changes.items()):
        run.change_recipe(changes, checkpoint)
    if finished:
        return None
    data = sets["data"]
    assert data
    plan = plan_memory(data, config.hidden, config)
    to = device or torch.device("cpu")
    steps = steps_before(config, data.rows, start.cursor)
    try:
        optimizer = build_optimizer(config, checkpoint.model, steps=steps, buffers=checkpoint.buffers)
    except ValueError as error:
        raise _foreign_recipe(run, str(error)[:120]) from error
    return Training(
        checkpoint.model if to.type == "cpu" else checkpoint.model.to(to),
        data,
        config,
        test=sets["test"],
        val=sets["val"],
        start=start,
        optimizer=optimizer.to(to),
        best=checkpoint.best,
        plan=replace(plan, window_rows=run.recipe["window_rows"]),
        overlap_evaluation=True,
    )


def _has_stopped(config: TrainConfig, checkpoint: Checkpoint) -> bool:
    """Return whether `patience` ended the run at this checkpoint."""
    epoch, rows = checkpoint.progress.cursor
    return epoch > 1 and not rows and epochs_left(config.patience, checkpoint.best, epoch - 1) == 0


def _check_epochs(run: Run, config: TrainConfig, checkpoint: Checkpoint, epochs: int) -> None:
    """Raise UsageError unless a run that has come to a checkpoint can have `epochs` epochs."""
    at = checkpoint.progress.cursor
    if epochs != config.epochs and _has_stopped(config, checkpoint):
        raise UsageError(
            f"{run.folder} has stopped after {config.patience} epochs without a better one than epoch "
            f"{checkpoint.best.epoch}. Start a new run from its weights: {argument('init', str(run.folder))}",
            option="epochs",
        )
    reached = at.epoch - (at.rows == 0)
    if epochs < reached:
        raise UsageError(
            f"{run.folder} is in epoch {reached} already: `epochs` can be raised, not lowered", option="epochs"
        )
    if epochs != config.epochs and config.schedule == "cosine":
        raise UsageError(
            f"the cosine schedule of {run.folder} falls to 0 over {config.epochs} epochs: with another number of "
            "them, every step would have had another rate. Start a new run from its weights: "
            f"{argument('init', str(run.folder))}",
            option="epochs",
        )


def resume_fit(
    folder: str | Path,
    *,
    epochs: int | None = None,
    data: str | Path | None = None,
    test: str | Path | None = None,
    val: str | Path | None = None,
) -> list[EpochReport]:
    """Train a run to its end from its last checkpoint, and return a report of each epoch that this took.

    folder: of the run, as written by `streamtrain train`
    epochs: how many in all; by default as recorded
    data, test, val: where these are, if they moved; by default as recorded
    Raises RunError if the run or its data cannot be used.
    """
    run, checkpoint, _ = Run.open(given_path(folder, "folder"))
    reports = []
    moved = {name: str(path) if path else None for name, path in (("data", data), ("test", test), ("val", val))}
    training = resume_training(run, checkpoint, epochs=epochs, moved=moved)
    for event in training or ():
        if training and isinstance(event, EpochReport):
            run.record(event, training)
            reports.append(event)
    return reports


def _foreign_recipe(run: Run, why: str) -> RunError:
    return RunError(
        f"{run.folder}: recipe.json was not written by streamtrain train: {why}. Start a new run with `out`"
    )
