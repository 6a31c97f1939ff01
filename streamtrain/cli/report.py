"""`streamtrain report`: a run as one HTML page."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import click

from streamtrain.cli import Command, say


@click.command("report", cls=Command)
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--test", metavar="DATA", help="The data judged on; by default the run's own --test, else --val.")
@click.option("--out", metavar="FILE", help="Where to write the page; by default RUN/report.html.")
@click.option("--workers", type=click.IntRange(1), default=os.cpu_count() or 1, help="Threads that parse.")
@click.option("--overwrite", is_flag=True, help="Replace FILE if streamtrain wrote it.")
def command(
    runs: tuple[str, ...],
    test: str | None,
    out: str | None,
    workers: int,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
    debug: bool,
) -> None:
    """Make one HTML page of a run: curves, confusion, misread digits, weights, how to repeat it. No network.

    Several runs stand beside each other on one page, which goes to the first of them.

    Example: streamtrain report runs/first --test shards/test
    """
    from streamtrain.cli.data import open_data, read_for
    from streamtrain.cli.progress import ProgressLine, percent_and_eta
    from streamtrain.report.page import RunView, iter_view, render
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
        recipe = load(run).recipe
        tested = test or recipe.get("test") or recipe.get("val")
        if not tested:
            say(f"warning: {run} names no test data, so its figures are of the rows it learned. Name some: --test")
        data = str(tested or recipe["data"])
        reads += read_for(data)
        shards = open_data(data, quiet=quiet, workers=workers)
        started = time.monotonic()
        with ProgressLine(quiet=quiet) as live:
            for step in iter_view(Path(run), shards, tested=data, runs=len(runs)):
                if isinstance(step, RunView):
                    views.append(step)
                elif live.due():
                    share = step.evaluation.rows / max(shards.rows, 1)
                    live.update(f"judging  {percent_and_eta(share, time.monotonic() - started)}  {run}", share)
    page = render(views).encode()
    write_file(path, page, mode=common_mode(reads))
    if as_json:
        figures = [{"run": str(v.folder), "accuracy": v.study.evaluation.accuracy} for v in views]
        click.echo(json.dumps({"file": str(path), "bytes": len(page), "runs": figures}))
    else:
        click.echo(f"{path}: {len(page) / 1e6:.1f} MB, opens in any browser")
