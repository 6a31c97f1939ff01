"""`streamtrain evaluate`: a run on data."""

from __future__ import annotations

import json
import os
import time

import click

from streamtrain.cli import Command, say


@click.command("evaluate", cls=Command)
@click.argument("run")
@click.argument("data")
@click.option("--workers", type=click.IntRange(1), default=os.cpu_count() or 1, help="Threads that parse.")
def command(run: str, data: str, workers: int, as_json: bool, quiet: bool, debug: bool) -> None:
    """Evaluate a run's best weights, or a checkpoint file, on shards or a CSV, every row once.

    Example: streamtrain evaluate runs/first shards/test
    """
    from streamtrain.cli.data import is_transposed, open_data, warn_if_orientation_differs
    from streamtrain.cli.progress import ProgressLine, percent_and_eta
    from streamtrain.cli.tables import confusion_table, reliability_table, summary
    from streamtrain.engine.dense import one_thread
    from streamtrain.train.checkpoint import load
    from streamtrain.train.compatibility import read_as_learned
    from streamtrain.train.evaluate import iter_evaluate

    checkpoint = load(run)
    names = checkpoint.schema.classes
    shards, notes = read_as_learned(checkpoint.model, open_data(data, quiet=quiet, workers=workers))
    if not checkpoint.is_trained:
        notes.append(f"{run} has not taken a step yet: its weights are random")
    for text in notes:
        say(f"warning: {text}")
    warn_if_orientation_differs(data, is_transposed(shards), bool(checkpoint.recipe.get("turned")))
    started = time.monotonic()
    with ProgressLine(quiet=quiet) as live, one_thread() as threads:
        for evaluation in iter_evaluate(checkpoint.model, shards, threads):
            if live.due():
                share = evaluation.rows / max(shards.rows, 1)
                live.update(f"evaluating  {percent_and_eta(share, time.monotonic() - started)}", share)
    if as_json:
        result = {
            "rows": evaluation.rows,
            "loss": evaluation.loss,
            "accuracy": evaluation.accuracy,
            "confusion": evaluation.confusion.tolist(),
            "per_class": evaluation.per_class(names),
            "top3_accuracy": evaluation.top3_accuracy,
            "calibration": {
                "expected_error": evaluation.calibration_error,
                "bins": evaluation.reliability(),
            },
        }
        click.echo(json.dumps(result))
    else:
        tables = reliability_table(evaluation), confusion_table(evaluation, names)
        click.echo("\n\n".join([summary(evaluation), *tables]))
