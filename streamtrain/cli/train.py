"""`streamtrain train`: shards, or a CSV, to a run folder."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamtrain.cli import Command, on_a_full_disk
from streamtrain.cli.console import Console, say, shows_unicode, warn, warn_if_not_built
from streamtrain.cli.options import interval, options_of, overwrite
from streamtrain.cli.progress import Status
from streamtrain.cli.signals import stop_on_signal
from streamtrain.errors import RunError, UsageError
from streamtrain.process import tune_malloc_for_training
from streamtrain.settings import settings
from streamtrain.train.config import TrainConfig

if TYPE_CHECKING:
    from streamtrain.nn.mlp import MLP
    from streamtrain.train.fit import Event, Training
    from streamtrain.train.progress import EpochReport, Progress
    from streamtrain.train.run import Run


@click.command("train", cls=Command)
@click.argument("data", required=False)
@click.option("--test", metavar="DATA", help="Evaluate on this data after each epoch.")
@click.option("--val", metavar="DATA", help="Evaluate on this data too, and choose the best epoch by it.")
@click.option("--out", metavar="RUN", help="The folder of the run, which is created.")
@click.option("--resume", metavar="RUN", help="Continue a run. DATA, --test and --val: only if they moved.")
@options_of(TrainConfig)
@click.option(
    "--checkpoint-every", type=interval, metavar="60s|500steps", default="60s", help="How often to save the run."
)
@overwrite("RUN")
@click.option("--dry-run", is_flag=True, help="Show what training would need; train and write nothing.")
@click.pass_context
def command(ctx: click.Context, /, resume: str | None, dry_run: bool, **options: Any) -> int:
    """Train an MLP on shards, or on a CSV, which becomes CSV.shards first.

    Example: streamtrain train shards/train --test shards/test --out runs/first
    """
    tune_malloc_for_training()
    console, config, every = ctx.ensure_object(Console), _config(options), options["checkpoint_every"]
    paths = {name: options[name] for name in ("data", "test", "val")}
    if dry_run:
        return _dry_run(console, config, paths)
    from streamtrain.cli.train_setup import new_run, resume_run
    from streamtrain.engine.device import device
    from streamtrain.storage.locks import lock_folder
    from streamtrain.storage.objects import refuse_writing

    if resume is None and not (paths["data"] and options["out"]):
        raise UsageError("train needs DATA and --out RUN: streamtrain train shards/train --out runs/first")
    folder = Path(resume or options["out"])
    refuse_writing(folder)
    if resume and not folder.is_dir():
        raise RunError(f"{folder}: there is no such run. Start one: streamtrain train DATA --out {folder}")
    computing = device(config.device)
    with on_a_full_disk(folder, lambda: _again(folder)), lock_folder(folder, action="trained"):
        if resume:
            run, model, training = resume_run(console, folder, config, paths, _given(ctx), computing)
        else:
            run, model, training = new_run(
                console, folder, config, paths, computing, overwrite=options["overwrite"]
            )
        if training and (number := _train(console, run, training, every)):
            return 128 + number
        _show_result(console, run, training.model if training else model)
        return 0


def _config(options: Mapping[str, Any]) -> TrainConfig:
    return TrainConfig(**{each.name: options[each.name] for each in settings(TrainConfig)})


def _given(ctx: click.Context) -> set[str]:
    """Return the names of the options that have been given, on the command line or in another way."""
    default = click.core.ParameterSource.DEFAULT
    return {name for name in ctx.params if ctx.get_parameter_source(name) is not default}


def _again(run: Path) -> str:
    return f"streamtrain train --resume {shlex.quote(str(run))}" if run.is_dir() else "the same command"


def _dry_run(console: Console, config: TrainConfig, paths: Mapping[str, str | None]) -> int:
    """Print what training would need."""
    from streamtrain.cli.dry_run import dry_run
    from streamtrain.cli.train_setup import open_sets
    from streamtrain.engine.device import device
    from streamtrain.train.build import plan_memory
    from streamtrain.train.resume import build_model, with_layers_of_init

    if not paths["data"]:
        raise UsageError("train --dry-run needs DATA: streamtrain train shards/train --dry-run")
    config = with_layers_of_init(config)
    train, _, _ = open_sets(console, paths, workers=config.workers)
    plan = plan_memory(train, config.hidden, config)
    model = build_model(train, config).to(device(config.device))
    return dry_run(console, model, train, plan, config)


class _Saver:
    """Saves a run at an interval while it is trained."""

    def __init__(self, run: Run, training: Training, interval: tuple[int, str]) -> None:
        self.run, self.training = run, training
        self.every, self.unit = interval
        self.saved()

    def saved(self) -> None:
        """Start a new interval."""
        self._started, self._steps = time.monotonic(), 0

    def after(self, event: Event, progress: Progress) -> None:
        """Save the run if the interval is over and there are steps to save."""
        self._steps += event is progress
        passed = self._steps if self.unit == "steps" else time.monotonic() - self._started
        if self._steps and passed >= self.every:
            self.run.save(self.training)
            self.saved()


def _train(console: Console, run: Run, training: Training, interval: tuple[int, str]) -> int | None:
    """Train to the end and return None; or save at a signal and return its number."""
    from streamtrain.cli.tables import status_line
    from streamtrain.train.progress import EpochReport, Progress

    epochs, train = run.recipe["epochs"], training.train
    tune_malloc_for_training(kept=run.recipe["memory"] // 8)
    warn_if_not_built()

    def status(event: Event) -> Status | None:
        return Status(status_line(event, train.rows, epochs)) if isinstance(event, Progress) else None

    saver = _Saver(run, training, interval)
    with console.progress() as line, stop_on_signal() as stopped:
        for event in line.follow(training, status):
            if isinstance(event, EpochReport):
                line.clear()
                _show_epoch(console, run, training, event)
                saver.saved()
                continue
            progress = event if isinstance(event, Progress) else event.progress
            if stopped:
                run.save(training)
                line.clear()
                say(f"Stopped and saved. Continue with: {_again(run.folder)}")
                return stopped[0]
            saver.after(event, progress)
    return None


def _show_epoch(console: Console, run: Run, training: Training, report: EpochReport) -> None:
    """Record an epoch and print it, the first one below a header and with what is odd about it."""
    from streamtrain.cli.tables import epoch_header, epoch_line, poor_order, worse_than_guessing

    line, is_first = epoch_line(report, run.recipe["epochs"]), report.epoch == training.start.cursor.epoch
    console.result(run.record(report, training), f"{epoch_header(report)}\n{line}" if is_first else line)
    if is_first and (report.label_disorder or 0) > 2:
        warn(poor_order(report, training.train))
    if is_first and (warning := worse_than_guessing(report)):
        warn(warning)


def _show_result(console: Console, run: Run, model: MLP) -> None:
    """Print where the weights are, below the curve of the loss, and what to do next."""
    from streamtrain.cli.progress import duration
    from streamtrain.storage.ownership import BEST, LAST
    from streamtrain.text import plural
    from streamtrain.train.checkpoint import weights_sha256
    from streamtrain.train.run import best_epoch

    lines = run.metrics()
    if not console.json:
        _show_curve(console, [line["train_loss"] for line in lines])
    epochs, checkpoint = len(lines), str(run.folder / LAST)
    digest, best = weights_sha256(model.state_dict()), best_epoch(lines)
    took = duration(sum(line["seconds"] + line["eval_seconds"] for line in lines))
    text = f"{checkpoint}: the weights after {plural(epochs, 'epoch')}, in {took}"
    if best:
        chosen = f"epoch {best.epoch}, the best by {best.name} accuracy, {best.accuracy:.4f}"
        text = f"{run.folder / BEST}: {chosen}\n{text}"
    console.result(
        {
            "done": True,
            "epochs": epochs,
            "checkpoint": checkpoint,
            "weights_sha256": digest,
            "best_epoch": best.epoch if best else None,
        },
        text,
    )
    console.note(f"Next: {shlex.join(['streamtrain', 'report', str(run.folder)])}")


def _show_curve(console: Console, losses: list[float]) -> None:
    """Print the loss of all epochs as a curve in one line, if there are at least two."""
    from streamtrain.report.terminal import sparkline

    if len(losses) > 1:
        curve = sparkline(losses, unicode=shows_unicode(sys.stderr))
        console.note(f"train loss {losses[0]:.4f} {curve} {losses[-1]:.4f}")
