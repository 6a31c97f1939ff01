"""`streamtrain train`: shards, or a CSV, to a run folder."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamtrain.cli import Command, say
from streamtrain.cli.live import Live
from streamtrain.cli.options import every, layers, size
from streamtrain.errors import RunError, UsageError
from streamtrain.process import return_freed_memory

if TYPE_CHECKING:
    from streamtrain.budget import Plan
    from streamtrain.learn.fit import Progress
    from streamtrain.learn.mlp import MLP
    from streamtrain.learn.run import Run
    from streamtrain.stream.store import Shards

_RECIPE = (
    *("epochs", "batch_size", "lr", "momentum", "weight_decay", "hidden", "activation", "seed", "memory"),
    "eval_train",
)


@click.command("train", cls=Command)
@click.argument("data", required=False)
@click.option("--test", metavar="DATA", help="Evaluated after every epoch.")
@click.option("--val", metavar="DATA", help="Evaluated too; decides which epoch is the best.")
@click.option("--out", metavar="RUN", help="The folder of the run, to be made.")
@click.option("--resume", metavar="RUN", help="Go on with a run; takes no DATA.")
@click.option("--epochs", type=click.IntRange(1), default=20, show_default=True)
@click.option("--batch-size", type=click.IntRange(1), default=256, show_default=True, help="Rows a step.")
@click.option(
    "--lr", type=click.FloatRange(0, min_open=True), default=0.05, show_default=True, help="Learning rate."
)
@click.option(
    "--momentum",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="Share of the last step that the next one keeps.",
)
@click.option(
    "--weight-decay",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="Share of a parameter that is added to its gradient.",
)
@click.option(
    "--hidden",
    type=layers,
    metavar="UNITS,...",
    default="100",
    show_default=True,
    help="Units of the hidden layers.",
)
@click.option(
    "--activation",
    type=click.Choice(["sigmoid", "tanh", "relu"]),
    default="sigmoid",
    show_default=True,
    help="After every layer but the last.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of weights and order.")
@click.option(
    "--memory", type=size, metavar="SIZE", default="256MB", show_default=True, help="What data may take in memory."
)
@click.option("--eval-train/--no-eval-train", default=True, help="Evaluate the whole train set each epoch.")
@click.option("--checkpoint-every", type=every, metavar="60s|500steps", default="60s", show_default=True)
@click.option("--workers", type=click.IntRange(1), default=os.cpu_count() or 1, help="Threads that decode.")
@click.option("--overwrite", is_flag=True, help="Replace RUN where it exists.")
@click.option("--dry-run", is_flag=True, help="Say what it would take; train and write nothing.")
@click.pass_context
def command(ctx: click.Context, /, as_json: bool, quiet: bool, debug: bool, dry_run: bool, **options: Any) -> int:
    """Train an MLP on shards, or on a CSV, which becomes CSV.shards first.

    Example: streamtrain train shards/train --test shards/test --out runs/first
    """
    from streamtrain.files import exclusive

    return_freed_memory()
    if dry_run:
        return _dry_run(as_json=as_json, quiet=quiet, **options)
    folder = Path(options["resume"] or options["out"] or "")
    if not options["resume"] and not (options["data"] and options["out"]):
        raise UsageError("train needs DATA and --out RUN: streamtrain train shards/train --out runs/first")
    if options["resume"] and not folder.is_dir():
        raise RunError(f"{folder}: there is no such run. Begin one: streamtrain train DATA --out {folder}")
    busy = f"{folder} is being trained by another process. Wait for it, or choose another name"
    with exclusive(folder.with_name(f".{folder.name}.lock"), busy=busy):
        begun = _resumed(ctx, quiet=quiet, **options) if options["resume"] else _begun(quiet=quiet, **options)
        return _train(*begun, interval=options["checkpoint_every"], as_json=as_json, quiet=quiet)


_Sets = tuple["Shards", "Shards | None", "Shards | None"]


def _begun(
    *, data: str, out: str, overwrite: bool, workers: int, quiet: bool, **options: Any
) -> tuple[Run, MLP, Progress, _Sets]:
    """A new run, its folder made."""
    from streamtrain.files import refuse_existing
    from streamtrain.learn.fit import Progress
    from streamtrain.learn.run import Run

    refuse_existing(Path(out), overwrite=overwrite)
    names = {"data": data, "test": options["test"], "val": options["val"]}
    train, test, val = sets = _open_sets(names, workers=workers, quiet=quiet)
    for other in (test, val):
        if other:
            other.like(train.schema)
    model = _model(train, options)
    plan = _plan(train, model, options)
    said = "the whole set" if plan.window_rows == train.rows else f"{plan.window_rows:,} rows"
    say(f"{train.rows:,} rows, shuffled in a window of {said}; at most {plan.predicted_peak_bytes / 1e6:.0f} MB")
    recipe = {
        **{name: path and str(Path(path).absolute()) for name, path in names.items()},
        **{f"{name}_digest": data.manifest.digest for name, data in (("test", test), ("val", val)) if data},
        **{name: options[name] for name in _RECIPE},
        "window_rows": plan.window_rows,
    }
    run = Run.create(Path(out), model, train, recipe, overwrite=overwrite)
    if test and not val:
        say("the best epoch is chosen by its accuracy on --test, for want of --val")
    return run, model, Progress.at(1), sets


def _dry_run(*, data: str | None, workers: int, as_json: bool, quiet: bool, **options: Any) -> int:
    """Say what training would take."""
    from streamtrain.cli.data import open_data
    from streamtrain.cli.dry_run import dry_run

    if not data:
        raise UsageError("train --dry-run needs DATA: streamtrain train shards/train --dry-run")
    train = open_data(data, quiet=quiet, workers=workers)
    model = _model(train, options)
    return dry_run(model, train, _plan(train, model, options), options, as_json=as_json)


def _model(train: Shards, options: Mapping[str, Any]) -> MLP:
    """The model of the options, untrained."""
    from streamtrain.learn.mlp import MLP

    if not train.schema.classes:
        raise RunError(f"{train.folder} has no labels to learn. Convert it again with --label")
    kind = {"seed": options["seed"], "activation": options["activation"]}
    return MLP(train.schema.features, options["hidden"], len(train.schema.classes), **kind)


def _plan(train: Shards, model: MLP, recipe: Mapping[str, Any]) -> Plan:
    """The sizes that keep a recipe within its memory."""
    parameters = sum(tensor.numel() for tensor in model.state_dict().values())
    units = sum(model.hidden) + model.classes
    return train.plan(recipe["memory"], batch_size=recipe["batch_size"], parameters=parameters, units=units)


def _resumed(
    ctx: click.Context, *, resume: str, workers: int, quiet: bool, **options: Any
) -> tuple[Run, MLP, Progress, _Sets]:
    """A run as it was left, on the data that it was made with."""
    from streamtrain.learn.run import Run

    run, model, start, warning = Run.resume(Path(resume))
    if warning:
        say(f"warning: {warning}")
    given = {name for name in options if ctx.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT}
    for name in sorted(given - {"epochs", "checkpoint_every"}):
        if run.recipe.get(name) != options[name]:
            option = "DATA" if name == "data" else f"--{name.replace('_', '-')}"
            raise UsageError(
                f"{resume} goes on with {option} {run.recipe.get(name, 'as it was')}, not {options[name]}. "
                f"Leave {option} out, or begin a new run: --out"
            )
    sets = _open_sets(run.recipe, workers=workers, quiet=quiet)
    digests = (run.manifest_digest, run.recipe.get("test_digest"), run.recipe.get("val_digest"))
    for name, data, digest in zip(("data", "test", "val"), sets, digests, strict=True):
        if data and data.manifest.digest != digest:
            raise RunError(
                f"{run.recipe[name]} is not the {name} that {resume} was begun with: its manifest changed. Bring "
                "that back, or begin a new run: --out"
            )
    if "epochs" in given:
        reached = start.cursor.epoch - (start.cursor.rows == 0)
        if options["epochs"] < reached:
            raise UsageError(f"{resume} is in epoch {reached} already; --epochs can be raised, not taken back")
        run.set_epochs(options["epochs"])
    return run, model, start, sets


def _open_sets(names: Any, *, workers: int, quiet: bool) -> _Sets:
    from streamtrain.cli.data import open_data

    train = open_data(names["data"], quiet=quiet, workers=workers)
    test, val = (name and open_data(name, quiet=quiet, workers=workers) for name in (names["test"], names["val"]))
    return train, test, val


def _train(
    run: Run,
    model: MLP,
    start: Progress | None,
    sets: _Sets,
    *,
    interval: tuple[int, str],
    as_json: bool,
    quiet: bool,
) -> int:
    """Train to the end, or until a signal, after which all is saved."""
    from streamtrain.cli.tables import epoch_line, poor_order, status_line
    from streamtrain.learn.checkpoint import LAST, weights_sha256
    from streamtrain.learn.fit import EpochReport, training

    train, test, val = sets
    names = ("epochs", "batch_size", "lr", "momentum", "weight_decay", "seed", "window_rows", "eval_train")
    options = {name: run.recipe[name] for name in names}
    decoders = _plan(train, model, run.recipe).decoders
    stopped = _on_signals()
    saved_at, unsaved_steps = time.monotonic(), 0
    with Live(quiet=quiet) as live:
        for step in training(
            model, train, test=test, val=val, start=start, velocity=run.velocity, decoders=decoders, **options
        ):
            if isinstance(step, EpochReport):
                live.clear()
                line = run.record(step, model)
                click.echo(json.dumps(line) if as_json else epoch_line(step, run.recipe["epochs"]))
                sys.stdout.flush()
                if (step.label_disorder or 0) > 2 and step.epoch == (start.cursor.epoch if start else 1):
                    say(poor_order(step, train))
                saved_at, unsaved_steps = time.monotonic(), 0
                continue
            if stopped:
                run.save(model, step)
                live.clear()
                say(f"Stopped and saved. Go on: streamtrain train --resume {run.folder}")
                return 128 + stopped[0]
            unsaved_steps += 1
            if (unsaved_steps if interval[1] == "steps" else time.monotonic() - saved_at) >= interval[0]:
                run.save(model, step)
                saved_at, unsaved_steps = time.monotonic(), 0
            if live.due():
                live.update(status_line(step, train.rows, run.recipe["epochs"]))
    if not (quiet or as_json):
        _show_curve([line["train_loss"] for line in run.metrics()])
    last = {
        "done": True,
        "epochs": run.recipe["epochs"],
        "checkpoint": str(run.folder / LAST),
        "weights_sha256": weights_sha256(model.state_dict()),
    }
    click.echo(json.dumps(last) if as_json else f"{last['checkpoint']}: the weights after {last['epochs']} epochs")
    return 0


def _show_curve(losses: list[float]) -> None:
    """The loss of all epochs as a curve in a line, once there are two."""
    from streamtrain.report.terminal import sparkline

    if len(losses) > 1:
        rich = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
        say(f"train loss {losses[0]:.4f} {sparkline(losses, rich=rich)} {losses[-1]:.4f}")


def _on_signals() -> list[int]:
    """A list that gets the number of the first SIGINT or SIGTERM; a second one acts at once."""
    caught: list[int] = []

    def note(number: int, _frame: object) -> None:
        caught.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        say("Saving; once more to stop at once.")

    signal.signal(signal.SIGINT, note)
    signal.signal(signal.SIGTERM, note)
    return caught
