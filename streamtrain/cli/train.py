"""`streamtrain train`: shards, or a CSV, to a run folder."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamtrain.cli import Command, on_a_full_disk, say
from streamtrain.cli.options import every, layers, size
from streamtrain.cli.progress import ProgressLine
from streamtrain.cli.train_setup import config_of, new_run, open_sets, resume_run
from streamtrain.errors import RunError, UsageError
from streamtrain.process import tune_malloc_for_training

if TYPE_CHECKING:
    from streamtrain.nn.mlp import MLP
    from streamtrain.stream.dataset import Shards
    from streamtrain.train.fit import Training
    from streamtrain.train.progress import EpochReport
    from streamtrain.train.run import Run


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
@click.option(
    "--seed", type=click.IntRange(0, 2**64 - 1), default=0, show_default=True, help="Of weights and order."
)
@click.option(
    "--memory", type=size, metavar="SIZE", default="256MB", show_default=True, help="What data may take in memory."
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="What computes; auto is a GPU where there is one.",
)
@click.option("--eval-train/--no-eval-train", default=True, help="Evaluate the whole train set each epoch.")
@click.option("--checkpoint-every", type=every, metavar="60s|500steps", default="60s", show_default=True)
@click.option("--workers", type=click.IntRange(1), default=os.cpu_count() or 1, help="Threads that decode.")
@click.option("--overwrite", is_flag=True, help="Replace RUN if streamtrain wrote it.")
@click.option("--dry-run", is_flag=True, help="Say what it would take; train and write nothing.")
@click.pass_context
def command(ctx: click.Context, /, as_json: bool, quiet: bool, debug: bool, dry_run: bool, **options: Any) -> int:
    """Train an MLP on shards, or on a CSV, which becomes CSV.shards first.

    Example: streamtrain train shards/train --test shards/test --out runs/first
    """
    tune_malloc_for_training()
    from streamtrain.engine.device import device
    from streamtrain.storage.locks import lock_folder

    if dry_run:
        return _dry_run(as_json=as_json, quiet=quiet, **options)
    folder = Path(options["resume"] or options["out"] or "")
    if not options["resume"] and not (options["data"] and options["out"]):
        raise UsageError("train needs DATA and --out RUN: streamtrain train shards/train --out runs/first")
    if options["resume"] and not folder.is_dir():
        raise RunError(f"{folder}: there is no such run. Begin one: streamtrain train DATA --out {folder}")
    computing = device(options["device"])
    with on_a_full_disk(folder, lambda: _again(folder)), lock_folder(folder, action="trained"):
        if options["resume"]:
            run, model, training = resume_run(ctx, quiet=quiet, computing=computing, **options)
        else:
            run, model, training = new_run(quiet=quiet, computing=computing, **options)
        if training is None:
            return _finished(run, model, as_json=as_json, quiet=quiet)
        return _train(run, training, interval=options["checkpoint_every"], as_json=as_json, quiet=quiet)


def _again(run: Path) -> str:
    return f"streamtrain train --resume {shlex.quote(str(run))}" if run.is_dir() else "the same command"


def _dry_run(*, data: str | None, workers: int, as_json: bool, quiet: bool, **options: Any) -> int:
    """Say what training would take."""
    from streamtrain.cli.dry_run import dry_run
    from streamtrain.engine.device import device
    from streamtrain.train.fit import plan_memory
    from streamtrain.train.resume import build_model

    if not data:
        raise UsageError("train --dry-run needs DATA: streamtrain train shards/train --dry-run")
    config = config_of(options)
    train, _, _ = open_sets({"data": data, **options}, quiet=quiet, workers=workers)
    plan = plan_memory(train, config.hidden, config)
    model = build_model(train, config).to(device(options["device"]))
    return dry_run(model, train, plan, options, as_json=as_json)


def _train(run: Run, training: Training, *, interval: tuple[int, str], as_json: bool, quiet: bool) -> int:
    """Train to the end, or until a signal, after which all is saved."""
    from streamtrain.cli.tables import poor_order, status_line
    from streamtrain.train.progress import EpochReport, Progress

    model, train = training.model, training.train
    tune_malloc_for_training(kept=run.recipe["memory"] // 8)
    if not quiet:
        _tell_of_compiling(model, train)
    saved_at, unsaved_steps = time.monotonic(), 0
    with ProgressLine(quiet=quiet) as live, stop_on_signal() as stopped:
        for event in training:
            if isinstance(event, EpochReport):
                live.clear()
                _record(run, event, training, as_json=as_json)
                if (event.label_disorder or 0) > 2 and event.epoch == training.start.cursor.epoch:
                    say(poor_order(event, train))
                saved_at, unsaved_steps = time.monotonic(), 0
                continue
            progress = event if isinstance(event, Progress) else event.progress
            if stopped:
                run.save(training, progress)
                live.clear()
                say(f"Stopped and saved. Go on: {_again(run.folder)}")
                return 128 + stopped[0]
            unsaved_steps += isinstance(event, Progress)
            passed = unsaved_steps if interval[1] == "steps" else time.monotonic() - saved_at
            if unsaved_steps and passed >= interval[0]:
                run.save(training, progress)
                saved_at, unsaved_steps = time.monotonic(), 0
            if live.due():
                live.update(status_line(progress, train.rows, run.recipe["epochs"]))
    return _finished(run, model, as_json=as_json, quiet=quiet)


def _record(run: Run, report: EpochReport, training: Training, *, as_json: bool) -> None:
    """Keep an epoch, and say what it did."""
    from streamtrain.cli.tables import epoch_line

    line = run.record(report, training)
    click.echo(json.dumps(line) if as_json else epoch_line(report, run.recipe["epochs"]))
    sys.stdout.flush()


def _tell_of_compiling(model: MLP, train: Shards) -> None:
    from streamtrain.engine.sparse import required_kernels

    if not all(function.kept for function in required_kernels(train, model)):
        say("compiling the step for this processor, which takes seconds, once")


def _finished(run: Run, model: MLP, *, as_json: bool, quiet: bool) -> int:
    """Say where the weights are."""
    from streamtrain.report.terminal import plural
    from streamtrain.storage.ownership import LAST
    from streamtrain.train.checkpoint import weights_sha256

    if not (quiet or as_json):
        _show_curve([line["train_loss"] for line in run.metrics()])
    last = {
        "done": True,
        "epochs": run.recipe["epochs"],
        "checkpoint": str(run.folder / LAST),
        "weights_sha256": weights_sha256(model.state_dict()),
    }
    told = f"{last['checkpoint']}: the weights after {plural(run.recipe['epochs'], 'epoch')}"
    click.echo(json.dumps(last) if as_json else told)
    return 0


def _show_curve(losses: list[float]) -> None:
    """The loss of all epochs as a curve in a line, once there are two."""
    from streamtrain.report.terminal import sparkline

    if len(losses) > 1:
        rich = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
        say(f"train loss {losses[0]:.4f} {sparkline(losses, rich=rich)} {losses[-1]:.4f}")


@contextlib.contextmanager
def stop_on_signal() -> Iterator[list[int]]:
    """For a `with`, a list that gets the first SIGINT or SIGTERM; a second one ends the process at once.

    Python hears of a signal between two of its instructions, and of two as of one where a product of matrices
    takes that long. So a thread counts them.
    """
    caught: list[int] = []

    def note(number: int, _frame: object) -> None:
        if not caught:
            say("Saving; once more to stop at once.")
        caught.append(number)

    heard, told = os.pipe()
    os.set_blocking(told, False)

    def count() -> None:
        second = os.read(heard, 1) and os.read(heard, 1)
        if second:
            os.write(2, b"\nInterrupted.\n")
            os._exit(128 + second[0])
        os.close(heard)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    woken = signal.set_wakeup_fd(told)
    threading.Thread(target=count, daemon=True).start()
    try:
        yield caught
    finally:
        signal.set_wakeup_fd(woken)
        os.close(told)  # which ends the thread
        for number, handler in before.items():
            signal.signal(number, handler)
