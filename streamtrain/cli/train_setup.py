"""Setup of `streamtrain train`: a new run or a resumed one, its model and its training."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from streamtrain.cli.console import Console, say, warn
from streamtrain.cli.data import (
    is_transposed,
    open_data,
    open_recorded_data,
    read_for,
    warn_if_orientation_differs,
)
from streamtrain.cli.options import flag
from streamtrain.errors import UsageError
from streamtrain.settings import settings
from streamtrain.storage.destination import Destination
from streamtrain.text import plural
from streamtrain.train.build import plan_memory
from streamtrain.train.config import TrainConfig
from streamtrain.train.fit import Training
from streamtrain.train.resume import (
    Sets,
    build_model,
    recipe,
    recorded_config,
    resume_training,
    with_layers_of_init,
)
from streamtrain.train.run import Run

if TYPE_CHECKING:
    import torch

    from streamtrain.nn.mlp import MLP
    from streamtrain.stream.dataset import Shards

Paths = Mapping[str, str | None]  # of data, test and val, as they were given


def new_run(
    console: Console, out: Path, config: TrainConfig, paths: Paths, computing: torch.device, *, overwrite: bool
) -> tuple[Run, MLP, Training]:
    """Make the folder of a new run; return the run, its model and its training."""
    reads = [path for name in paths.values() for path in read_for(name)]
    reads += [Path(config.init)] if config.init else []
    Destination(out, overwrite, reads).check()
    config = with_layers_of_init(config)
    train, test, val = sets = open_sets(console, paths, workers=config.workers)
    plan = plan_memory(train, config.hidden, config)
    model = build_model(train, config).to(computing)
    window = "the whole set" if plan.window_rows == train.rows else f"{plan.window_rows:,} rows"
    peak = f"{plan.predicted_peak_bytes / 1e6:.0f} MB"
    console.note(f"{plural(train.rows, 'row')}, shuffled in a window of {window}; at most {peak}")
    training = Training(model, train, config, test=test, val=val, plan=plan, overlap_evaluation=True)
    for text in training.warnings:
        warn(text)
    run = Run.create(out, training, recipe(config, paths, sets, plan), overwrite=overwrite, reads=reads)
    if test and not val:
        say("No --val given: the best epoch is chosen by test accuracy")
    return run, model, training


def resume_run(
    console: Console, folder: Path, config: TrainConfig, paths: Paths, given: set[str], computing: torch.device
) -> tuple[Run, MLP, Training | None]:
    """Return a run as it was saved, its model and its training on the same data; None if it is finished.

    paths: the new places of the sets that moved
    given: the names of the options that were given; these must be as recorded, except for `epochs`
    """
    run, checkpoint, warning = Run.open(folder)
    if warning:
        warn(warning)
    recorded = recorded_config(run, checkpoint)
    for name, path in paths.items():
        if path and not run.recipe[name]:
            raise UsageError(
                f"{folder} was started without --{name}. Leave --{name} out, or start a new run with --out"
            )
    for each in settings(config):
        if each.recorded and each.name in given - {"epochs"}:
            before, now = getattr(recorded, each.name), getattr(config, each.name)
            if before != now:
                raise UsageError(
                    f"{run.folder} was started with {flag(each.name, before)}, not {flag(each.name, now)}. "
                    f"Leave {flag(each.name)} out, or start a new run with --out"
                )
    named = {str(Path(path).absolute()) for path in paths.values() if path}

    def opened(path: str) -> Shards:
        if path in named:
            return open_data(path, quiet=console.quiet, workers=config.workers)
        option = [f"--{name}" for name in ("test", "val") if run.recipe[name] == path][:1]
        again = ["streamtrain", "train", "--resume", str(folder), *option]
        return open_recorded_data(path, folder, workers=config.workers, again=again)

    training = resume_training(
        run,
        checkpoint,
        epochs=config.epochs if "epochs" in given else None,
        moved=paths,
        device=computing,
        open_data=opened,
    )
    return run, checkpoint.model, training


def open_sets(console: Console, paths: Paths, *, workers: int) -> Sets:
    """Open the training data and, if named, the data to evaluate, which must fit the schema of the former."""
    opened = partial(open_data, quiet=console.quiet, workers=workers)
    train = opened(str(paths["data"]))
    test, val = (opened(path) if (path := paths[name]) else None for name in ("test", "val"))
    for other in (test, val):
        if other:
            other.with_schema(train.schema)
            warn_if_orientation_differs(str(other.folder), is_transposed(other), is_transposed(train))
    return Sets(train, test, val)
