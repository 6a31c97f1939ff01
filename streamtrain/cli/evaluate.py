"""`streamtrain evaluate`: a run on data."""

from __future__ import annotations

import click

from streamtrain.cli import Command
from streamtrain.cli.console import Console, pass_console, warn
from streamtrain.cli.options import workers

_MATRIX = 1000  # most classes whose confusion --json prints as a matrix; with more, the pairs that occur


@click.command("evaluate", cls=Command)
@click.argument("run")
@click.argument("data")
@workers()
@pass_console
def command(console: Console, /, run: str, data: str, workers: int) -> None:
    """Evaluate a run's best weights, or a checkpoint file, on every row of shards or of a CSV.

    With over 1,000 classes, --json has the pairs of classes that occur, confusion_pairs, instead of the matrix.

    Example: streamtrain evaluate runs/first shards/test
    """
    from streamtrain.cli.data import is_transposed, open_data, warn_if_orientation_differs
    from streamtrain.cli.progress import Status
    from streamtrain.cli.tables import confusion_table, reliability_table, summary
    from streamtrain.engine.dense import one_thread
    from streamtrain.train.checkpoint import checkpoint_file, load
    from streamtrain.train.compatibility import read_as_learned
    from streamtrain.train.evaluate import iter_evaluate

    file = checkpoint_file(run)
    checkpoint = load(file)
    names = checkpoint.schema.classes
    shards, warnings = read_as_learned(checkpoint.model, open_data(data, quiet=console.quiet, workers=workers))
    if not checkpoint.is_trained:
        warnings.append(f"{run} has not taken a step yet: its weights are random")
    for text in warnings:
        warn(text)
    warn_if_orientation_differs(data, is_transposed(shards), bool(checkpoint.recipe.get("turned")))
    console.note(f"{file}, {checkpoint.position}, on {shards.folder}")
    with console.progress() as line, one_thread() as threads:
        steps = iter_evaluate(checkpoint.model, shards, threads)
        evaluation = line.finish(steps, lambda step: Status("evaluating", step.rows, shards.rows))
    pairs = (each.tolist() for each in evaluation.counts.pairs)
    result = {
        "rows": evaluation.rows,
        "loss": evaluation.loss,
        "accuracy": evaluation.accuracy,
        "confusion": evaluation.confusion.tolist() if len(names) <= _MATRIX else None,
        "per_class": evaluation.per_class(names),
        **({} if len(names) <= _MATRIX else {"confusion_pairs": list(zip(*pairs, strict=True))}),
        "top3_accuracy": evaluation.top3_accuracy,
        "calibration": {
            "expected_error": evaluation.calibration_error,
            "bins": evaluation.reliability(),
        },
        "checkpoint": str(file),
        "position": checkpoint.position,
        "data": str(shards.folder),
    }
    tables = summary(evaluation), reliability_table(evaluation), confusion_table(evaluation, names)
    console.result(result, "\n\n".join(tables))
