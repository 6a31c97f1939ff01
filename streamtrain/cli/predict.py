"""`streamtrain predict`: the class of each row of a CSV."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from streamtrain.cli import Command, say

if TYPE_CHECKING:
    from streamtrain.convert.rows import Rows
    from streamtrain.train.checkpoint import Checkpoint

COLUMNS = "row,label,confidence"
_WARNINGS = 20  # bad rows that get a line of their own

_Row = tuple[int, "str | None", list["float | None"]]  # number, label, confidence and what --proba adds


def columns(text: Any) -> list[str]:
    """Names of the columns to write: number and label, and perhaps the confidence."""
    names = [name.strip() for name in str(text).split(",")]
    if len(names) not in (2, 3) or not all(names) or len(set(names)) < len(names):
        raise click.BadParameter(f"{text!r} is not two or three names such as ImageId,Label or {COLUMNS}")
    return names


@click.command("predict", cls=Command)
@click.argument("run")
@click.argument("source", metavar="CSV")
@click.option("--preset", metavar="NAME|FILE.toml", help="A known set, as for convert.")
@click.option("--label", metavar="first|last|NAME|INDEX|none", help="The label's column, which is left out.")
@click.option("--header/--no-header", default=None, help="Whether line 1 names the columns.")
@click.option(
    "--columns",
    type=columns,
    metavar="NUMBER,LABEL[,CONFIDENCE]",
    default=COLUMNS,
    show_default=True,
    help="Names of the columns written; two names leave the confidence out.",
)
@click.option("--start", type=int, default=0, show_default=True, help="The number of the first row.")
@click.option("--proba", is_flag=True, help="A column p_CLASS more for each class, its probability.")
@click.option("--out", metavar="FILE", help="Write here, whole or not at all, not to stdout.")
@click.option("--overwrite", is_flag=True, help="Replace FILE if streamtrain wrote it.")
def command(
    run: str,
    source: str,
    out: str | None,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
    debug: bool,
    **options: Any,
) -> int:
    """Print row,label,confidence for each row of a CSV, or of stdin (-), with or without labels.

    Rows are numbered from 0 in their order. A bad row keeps its number and gets no label; the exit code is then 3.

    Example: streamtrain predict runs/first test.csv --columns ImageId,Label --start 1 --out submission.csv
    """
    from streamtrain.cli.data import warn_if_orientation_differs
    from streamtrain.cli.progress import ProgressLine, percent_and_eta
    from streamtrain.convert.rows import iter_rows
    from streamtrain.convert.text.text_file import physical_path
    from streamtrain.storage.destination import check_file
    from streamtrain.storage.ownership import begins_with
    from streamtrain.storage.permissions import common_mode
    from streamtrain.train.checkpoint import load
    from streamtrain.train.compatibility import DataSummary, check

    named, start, proba = options.pop("columns"), options.pop("start"), options.pop("proba")
    reads = [Path(run), *filter(None, [physical_path(Path(source))])]
    if out:
        check_file(Path(out), overwrite=overwrite, reads=reads, is_ours=begins_with(*_first_bytes(named)))
    checkpoint = load(run)
    if not checkpoint.is_trained:
        say(f"warning: {run} has not taken a step yet: its weights are random")
    warn_if_orientation_differs(source, bool(options["preset"]), bool(checkpoint.recipe.get("turned")))
    chunks = iter_rows(source, features=checkpoint.schema.features, **options)
    heads = named + [f"p_{name}" for name in checkpoint.schema.classes if proba]
    done, rejected, started = 0, 0, time.monotonic()
    shown = out is None and sys.stdout.isatty()  # the rows themselves are the progress
    with ProgressLine(quiet=quiet or shown) as live, _output(out, common_mode(reads)) as stream:
        write = _writer(stream, heads, as_json=as_json)
        for rows in chunks:
            if not done and len(rows.block):
                for text in check(checkpoint.model, DataSummary.of_block(rows.block), where=source):
                    say(f"warning: {text}")
            for number, bad in rows.bad:
                rejected += 1
                if rejected <= _WARNINGS:
                    live.clear()
                    say(f"warning: {bad.path}:{bad.file_line}: {bad.what}. Row {start + number} gets no label")
            told = sorted(_told(checkpoint, rows, proba=proba), key=lambda row: row[0])
            for number, label, figures in told:
                write([start + number, label, *figures[3 - len(named) :]])
            done += len(told)
            if live.due():
                stands = percent_and_eta(rows.share, time.monotonic() - started)
                live.update(f"predicting  {stands}  {done:,} rows", rows.share)
    if rejected > _WARNINGS:
        say(f"warning: {rejected:,} bad rows in all got no label, {rejected - _WARNINGS:,} of them not shown")
    return 3 if rejected else 0


def _told(checkpoint: Checkpoint, rows: Rows, *, proba: bool) -> Iterator[_Row]:
    """What is said of each row of a chunk, the bad ones last."""
    from streamtrain.train.predict import predict_block

    classes = checkpoint.schema.classes
    numbers = iter(rows.ordinals.tolist())
    for predictions in predict_block(checkpoint.model, checkpoint.schema, rows.block):
        labels, confidence = predictions.labels.tolist(), predictions.confidence.tolist()
        probs = predictions.probs.tolist() if proba else [[]] * len(labels)
        for label, share, shares in zip(labels, confidence, probs, strict=True):
            yield next(numbers), classes[label], [share, *shares]
    for number, _ in rows.bad:
        yield number, None, [None] * (1 + proba * len(classes))


@contextlib.contextmanager
def _output(path: str | None, mode: int) -> Iterator[IO[str]]:
    """stdout, or a file that appears at `path` at the end."""
    from streamtrain.storage.publish import atomic_write

    if path is None:
        yield sys.stdout
        return
    with atomic_write(Path(path), mode=mode) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        yield text
        text.detach()  # else it would close the file before it is synced


def _first_bytes(named: Sequence[str]) -> tuple[bytes, bytes]:
    """What a file of predictions begins with: the names of its first columns, as CSV or as JSON."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(named[:2])
    return text.getvalue().encode(), f"{{{json.dumps(named[0])}: ".encode()


def _writer(stream: IO[str], heads: list[str], *, as_json: bool) -> Callable[[Sequence[Any]], object]:
    """Writes a row as a JSON object or as a line of CSV, below the names."""
    if as_json:
        return lambda row: stream.write(json.dumps(dict(zip(heads, row, strict=True))) + "\n")
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(heads)
    return lambda row: table.writerow([f"{cell:.6f}" if isinstance(cell, float) else cell for cell in row])
