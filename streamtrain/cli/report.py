"""`streamtrain report`: a run as one HTML page."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamtrain.cli import Command
from streamtrain.cli.console import Console, pass_console, warn
from streamtrain.cli.options import out_file, workers
from streamtrain.cli.progress import Status
from streamtrain.errors import RunError
from streamtrain.storage.objects import location

if TYPE_CHECKING:
    from streamtrain.report.error_analysis import ErrorAnalysis
    from streamtrain.report.run_view import RunView
    from streamtrain.stream.dataset import Shards
    from streamtrain.train.checkpoint import Checkpoint


@click.command("report", cls=Command)
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--test", metavar="DATA", help="Evaluate on this data, not on the run's own --test or --val.")
@out_file("RUN/report.html")
@workers()
@pass_console
def command(
    console: Console, /, runs: tuple[str, ...], test: str | None, out: str | None, workers: int, overwrite: bool
) -> None:
    """Make one HTML page of a run: curves, confusion, misread digits, weights, how to repeat it. No network.

    Several runs are shown side by side on one page, which is written to the folder of the first.

    Example: streamtrain report runs/first --test shards/test
    """
    from streamtrain.cli.data import read_for
    from streamtrain.report.page import render
    from streamtrain.report.run_view import RunView, iter_view
    from streamtrain.storage.destination import check_file
    from streamtrain.storage.ownership import REPORT, is_report
    from streamtrain.storage.permissions import common_mode
    from streamtrain.storage.publish import write_file
    from streamtrain.train.checkpoint import load

    path = Path(out) if out else Path(runs[0]) / REPORT
    check_file(path, overwrite=overwrite or not out, reads=read_for(test), is_ours=is_report)
    views: list[RunView] = []
    reads = [Path(run) for run in runs]
    for run in runs:
        data, digest = (test, None) if test else _recorded_data(run, load(run))
        reads += read_for(data)
        shards = _open(data, run, given=bool(test), quiet=console.quiet, workers=workers)
        if digest and not shards.manifest.matches(digest):
            warn(f"{data} changed since {run} was trained")
        with console.progress() as line:
            steps = iter_view(Path(run), shards, tested=data, runs=len(runs))
            view = line.finish(steps, partial(_status, run=run, rows=shards.rows))
        assert isinstance(view, RunView)
        views.append(view)
    page = render(views).encode()
    write_file(path, page, mode=common_mode(reads))
    figures = [
        {
            "run": str(v.folder),
            "accuracy": v.errors.evaluation.accuracy,
            "checkpoint": str(v.file),
            "data": v.tested,
        }
        for v in views
    ]
    console.result(
        {"file": str(path), "bytes": len(page), "runs": figures},
        f"{path}: {len(page) / 1e6:.1f} MB, opens in any browser",
    )


def _open(data: str, run: str, *, given: bool, quiet: bool, workers: int) -> Shards:
    """Open the data of a run; given: by the user, who may have it converted."""
    from streamtrain.cli.data import open_data, open_recorded_data

    if given:
        return open_data(data, quiet=quiet, workers=workers)
    return open_recorded_data(data, run, workers=workers, again=["streamtrain", "report", run, "--test"])


def _recorded_data(run: str, checkpoint: Checkpoint) -> tuple[str, str | None]:
    """Return path and digest of the data of a run: its test or validation set, or its training set with a warning.

    A run that records no digest gives None for it.

    Raises RunError if it is missing.
    """
    recipe = checkpoint.recipe
    name = next((name for name in ("test", "val") if recipe.get(name)), "data")
    path = recipe.get(name)
    place = location(path) if path else Path()
    if not path or (isinstance(place, Path) and not place.exists()):
        where = f"the {name} data of {run} is not at {path}" if path else f"{run} records no data"
        raise RunError(f"{where}. Pass its new place: {shlex.join(['streamtrain', 'report', run, '--test'])} DATA")
    if name == "data":
        warn(f"{run} has no test data, so its figures are for its training rows. Pass other data with --test")
        return path, checkpoint.data_digest
    return path, recipe.get(f"{name}_digest")


def _status(step: ErrorAnalysis | RunView, *, run: str, rows: int) -> Status | None:
    evaluation = getattr(step, "evaluation", None)  # which the RunView at the end has not
    return Status("evaluating", evaluation.rows, rows, run) if evaluation else None
