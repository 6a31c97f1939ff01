"""What `streamtrain train` starts from: a new run, or one as it was left; its data, its model, its sizes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamtrain.cli import say
from streamtrain.errors import UsageError
from streamtrain.settings import settings
from streamtrain.train.config import TrainConfig

if TYPE_CHECKING:
    import torch

    from streamtrain.nn.mlp import MLP
    from streamtrain.train.fit import Training
    from streamtrain.train.resume import Sets
    from streamtrain.train.run import Run


def config_of(options: Mapping[str, Any]) -> TrainConfig:
    """Return the settings that the options of the command line give."""
    return TrainConfig(**{each.name: options[each.key] for each in settings(TrainConfig) if each.key in options})


def new_run(
    *, data: str, out: str, overwrite: bool, workers: int, quiet: bool, computing: torch.device, **options: Any
) -> tuple[Run, MLP, Training]:
    """Make the folder of a new run; return the run, its model and its training."""
    from streamtrain.cli.data import read_for
    from streamtrain.report.terminal import plural
    from streamtrain.storage.destination import Destination
    from streamtrain.train.fit import Training, plan_memory
    from streamtrain.train.resume import build_model, recipe
    from streamtrain.train.run import Run

    paths = {"data": data, "test": options["test"], "val": options["val"]}
    reads = [path for name in paths.values() for path in read_for(name)]
    Destination(Path(out), overwrite, reads).check()
    config = config_of(options)
    train, test, val = sets = open_sets(paths, workers=workers, quiet=quiet)
    plan = plan_memory(train, config.hidden, config)
    model = build_model(train, config).to(computing)
    said = "the whole set" if plan.window_rows == train.rows else f"{plan.window_rows:,} rows"
    if not quiet:
        peak = f"{plan.predicted_peak_bytes / 1e6:.0f} MB"
        say(f"{plural(train.rows, 'row')}, shuffled in a window of {said}; at most {peak}")
    training = Training(model, train, config, test=test, val=val, plan=plan)
    for text in training.warnings:
        say(f"warning: {text}")
    run = Run.create(Path(out), training, recipe(config, paths, sets, plan), overwrite=overwrite, reads=reads)
    if test and not val:
        say("No --val given: the best epoch is chosen by its accuracy on --test")
    return run, model, training


def resume_run(
    ctx: click.Context, *, resume: str, workers: int, quiet: bool, computing: torch.device, **options: Any
) -> tuple[Run, MLP, Training | None]:
    """Return a run as it was left, its model and its training on the same data; None if it is finished."""
    from streamtrain.cli.data import open_data
    from streamtrain.train.resume import recorded_config, resume_training
    from streamtrain.train.run import Run

    run, checkpoint, warning = Run.open(Path(resume))
    if warning:
        say(f"warning: {warning}")
    recorded_config(run, checkpoint)  # raises RunError if there are none
    given = {name for name in options if ctx.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT}
    for name in sorted(given - {"epochs", "checkpoint_every", "device"}):
        path = options[name] if name in ("data", "test", "val") else None
        value = list(options[name]) if isinstance(options[name], tuple) else options[name]
        if run.recipe.get(name) != (str(Path(path).absolute()) if path else value):
            option = "DATA" if name == "data" else f"--{name.replace('_', '-')}"
            raise UsageError(
                f"{resume} goes on with {option} {run.recipe.get(name, 'as it was')}, not {options[name]}. "
                f"Leave {option} out, or begin a new run: --out"
            )
    training = resume_training(
        run,
        checkpoint,
        epochs=options["epochs"] if "epochs" in given else None,
        device=computing,
        open_data=partial(open_data, quiet=quiet, workers=workers),
    )
    return run, checkpoint.model, training


def open_sets(names: Mapping[str, Any], *, workers: int, quiet: bool) -> Sets:
    """Open the sets to train on and to evaluate, which must be readable with the meaning of the training data."""
    from streamtrain.cli.data import is_transposed, open_data, warn_if_orientation_differs
    from streamtrain.train.resume import Sets

    opened = partial(open_data, quiet=quiet, workers=workers)
    train = opened(names["data"])
    test, val = (names[name] and opened(names[name]) for name in ("test", "val"))
    for other in (test, val):
        if other:
            other.with_schema(train.schema)
            warn_if_orientation_differs(str(other.folder), is_transposed(other), is_transposed(train))
    return Sets(train, test, val)
