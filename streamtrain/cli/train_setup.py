"""What `streamtrain train` starts from: a new run, or one as it was left; its data, its model, its sizes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamtrain.cli import say
from streamtrain.errors import RunError, UsageError

if TYPE_CHECKING:
    from streamtrain.memory import Plan
    from streamtrain.nn.mlp import MLP
    from streamtrain.stream.dataset import Shards
    from streamtrain.train.fit import Progress
    from streamtrain.train.run import Run

Sets = tuple["Shards", "Shards | None", "Shards | None"]
# What a recipe says, and in which types: the data, the options, and what followed from them.
_OPTIONS: dict[str, Any] = {
    "epochs": int,
    "batch_size": int,
    "lr": float,
    "momentum": float,
    "weight_decay": float,
    "hidden": list,
    "activation": str,
    "seed": int,
    "memory": int,
    "eval_train": bool,
}
_RECIPE = {"data": str, "test": str | None, "val": str | None, **_OPTIONS, "window_rows": int}


def new_run(
    *, data: str, out: str, overwrite: bool, workers: int, quiet: bool, **options: Any
) -> tuple[Run, MLP, Progress, Sets]:
    """A new run, its folder made."""
    from streamtrain.cli.data import is_transposed, read_for
    from streamtrain.nn.sgd import SGDConfig
    from streamtrain.report.terminal import plural
    from streamtrain.storage.destination import Destination
    from streamtrain.train.fit import Progress
    from streamtrain.train.run import Run

    names = {"data": data, "test": options["test"], "val": options["val"]}
    reads = [path for name in names.values() for path in read_for(name)]
    Destination(Path(out), overwrite, reads).check()
    SGDConfig(options["lr"], options["momentum"], options["weight_decay"]).checked()
    train, test, val = sets = open_sets(names, workers=workers, quiet=quiet)
    plan = memory_plan(train, options)
    model = build_model(train, options)
    said = "the whole set" if plan.window_rows == train.rows else f"{plan.window_rows:,} rows"
    if not quiet:
        peak = f"{plan.predicted_peak_bytes / 1e6:.0f} MB"
        say(f"{plural(train.rows, 'row')}, shuffled in a window of {said}; at most {peak}")
    recipe = {
        **{name: path and str(Path(path).absolute()) for name, path in names.items()},
        **{f"{name}_digest": data.manifest.digest for name, data in (("test", test), ("val", val)) if data},
        **{name: options[name] for name in _OPTIONS},
        "window_rows": plan.window_rows,
        **({"turned": True} if is_transposed(train) else {}),
    }
    run = Run.create(Path(out), model, train, recipe, overwrite=overwrite, reads=reads)
    if test and not val:
        say("the best epoch is chosen by its accuracy on --test, for want of --val")
    return run, model, Progress.at(1), sets


def resume_run(
    ctx: click.Context, *, resume: str, workers: int, quiet: bool, **options: Any
) -> tuple[Run, MLP, Progress, Sets | None]:
    """A run as it was left, on the data that it was made with; a finished one needs none."""
    from streamtrain.train.run import Run

    run, model, start, warning = Run.resume(Path(resume))
    if warning:
        say(f"warning: {warning}")
    _check_recipe(run, model, start)
    given = {name for name in options if ctx.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT}
    for name in sorted(given - {"epochs", "checkpoint_every", "device"}):
        path = options[name] if name in ("data", "test", "val") else None
        if run.recipe.get(name) != (str(Path(path).absolute()) if path else options[name]):
            option = "DATA" if name == "data" else f"--{name.replace('_', '-')}"
            raise UsageError(
                f"{resume} goes on with {option} {run.recipe.get(name, 'as it was')}, not {options[name]}. "
                f"Leave {option} out, or begin a new run: --out"
            )
    epochs = options["epochs"] if "epochs" in given else run.recipe["epochs"]
    reached = start.cursor.epoch - (start.cursor.rows == 0)
    if epochs < reached:
        raise UsageError(f"{resume} is in epoch {reached} already; --epochs can be raised, not taken back")
    sets = _open_recorded_sets(run, workers=workers, quiet=quiet) if start.cursor.epoch <= epochs else None
    if epochs != run.recipe["epochs"]:
        run.set_epochs(epochs, model, start)
    return run, model, start, sets


def _check_recipe(run: Run, model: MLP, start: Progress) -> None:
    """Raise RunError where no `streamtrain train` can have written the recipe."""
    recipe = run.recipe
    typed = all(isinstance(recipe.get(name, ...), kind) for name, kind in _RECIPE.items())
    if not (
        typed
        and min(recipe[name] for name in ("epochs", "batch_size", "memory", "window_rows")) >= 1
        and recipe["seed"] >= 0
        and tuple(recipe["hidden"]) == model.hidden
        and start.cursor.epoch <= recipe["epochs"] + 1
    ):
        raise RunError(f"{run.folder}: its recipe is none of streamtrain train. Begin a new run: --out")


def _open_recorded_sets(run: Run, *, workers: int, quiet: bool) -> Sets:
    """The sets of a run; raises RunError where one is another than it was."""
    sets = _open(run.recipe, workers=workers, quiet=quiet)
    digests = (run.manifest_digest, run.recipe.get("test_digest"), run.recipe.get("val_digest"))
    for name, data, digest in zip(("data", "test", "val"), sets, digests, strict=True):
        if data and data.manifest.digest != digest:
            raise RunError(
                f"{run.recipe[name]} is not the {name} that {run.folder} was begun with: its manifest changed. "
                "Bring that back, or begin a new run: --out"
            )
    return sets


def build_model(train: Shards, options: Mapping[str, Any]) -> MLP:
    """The model of the options, untrained."""
    from streamtrain.nn.mlp import MLP

    if not train.schema.classes:
        raise RunError(f"{train.folder} has no labels to learn. Convert it again with --label")
    kind = {"seed": options["seed"], "activation": options["activation"]}
    try:
        return MLP(train.schema.features, options["hidden"], len(train.schema.classes), **kind)
    except RuntimeError as error:  # which is how torch says so
        raise RunError("so many --hidden units do not fit in memory. Name fewer") from error


def memory_plan(train: Shards, recipe: Mapping[str, Any]) -> Plan:
    """The sizes that keep a recipe within its memory; known before there is a model, which may be too large."""
    from streamtrain.engine.sparse import EVALUATION

    layers = [train.schema.features, *recipe["hidden"], len(train.schema.classes)]
    parameters = sum((before + 1) * after for before, after in itertools.pairwise(layers))
    parameters *= 2 if recipe["momentum"] else 1  # for then each has a velocity
    return train.plan(
        recipe["memory"],
        batch_size=recipe["batch_size"],
        parameters=parameters,
        units=sum(layers[1:]),
        evaluation=EVALUATION,
    )


def open_sets(names: Mapping[str, Any], *, workers: int, quiet: bool) -> Sets:
    """The sets to train on and, where they are named, to evaluate, which must be readable with its meaning."""
    from streamtrain.cli.data import is_transposed, warn_if_orientation_differs

    train, test, val = _open(names, workers=workers, quiet=quiet)
    for other in (test, val):
        if other:
            other.with_schema(train.schema)
            warn_if_orientation_differs(str(other.folder), is_transposed(other), is_transposed(train))
    return train, test, val


def _open(names: Mapping[str, Any], *, workers: int, quiet: bool) -> Sets:
    from streamtrain.cli.data import open_data

    train = open_data(names["data"], quiet=quiet, workers=workers)
    test, val = (name and open_data(name, quiet=quiet, workers=workers) for name in (names["test"], names["val"]))
    return train, test, val
