"""`streamtrain predict`: the class of each row of a CSV."""

from __future__ import annotations

import csv
import json
import sys
from typing import Any

import click

from streamtrain.cli import Command, say

COLUMNS = ("row", "label", "confidence")


@click.command("predict", cls=Command)
@click.argument("run")
@click.argument("source", metavar="CSV")
@click.option("--label", metavar="first|last|NAME|INDEX|none", help="The label's column, which is left out.")
@click.option("--header/--no-header", default=None, help="Whether line 1 names the columns.")
def command(run: str, source: str, as_json: bool, quiet: bool, debug: bool, **wanted: Any) -> int:
    """Print row,label,confidence for each row of a CSV, with or without labels, counted from 0.

    A bad row keeps its number and gets no label; the exit code is then 3.

    Example: streamtrain predict runs/first mnist_test.csv > predictions.csv
    """
    from streamtrain.ingest.rows import rows_of
    from streamtrain.learn.checkpoint import load
    from streamtrain.learn.predict import predict

    checkpoint = load(run)
    chunks = rows_of(source, features=checkpoint.schema.features, **wanted)
    table = csv.writer(sys.stdout, lineterminator="\n")
    if not as_json:
        table.writerow(COLUMNS)
    rejected = 0
    for rows in chunks:
        told: list[tuple[int, str | None, float | None]] = [(number, None, None) for number, _ in rows.bad]
        for _, bad in rows.bad:
            say(f"warning: {bad}")
        predictions = list(predict(checkpoint, [rows.block]))
        labels = [checkpoint.schema.classes[k] for p in predictions for k in p.labels.tolist()]
        shares = [share for p in predictions for share in p.confidence.tolist()]
        told += zip(rows.ordinals.tolist(), labels, shares, strict=True)
        for row in sorted(told):
            if as_json:
                click.echo(json.dumps(dict(zip(COLUMNS, row, strict=True))))
            else:
                table.writerow([row[0], row[1], None if row[2] is None else f"{row[2]:.6f}"])
        rejected += len(rows.bad)
    return 3 if rejected else 0
