"""`streamtrain predict`: the class of each row of a CSV."""

from __future__ import annotations

import contextlib
import csv
import heapq
import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from streamtrain.cli import Command
from streamtrain.cli.console import Console, pass_console, warn
from streamtrain.cli.options import dialect, out_file
from streamtrain.text import one_line, plural, printable

if TYPE_CHECKING:
    from streamtrain.convert.rows import Rows
    from streamtrain.train.checkpoint import Checkpoint

COLUMNS = "row,label,confidence"
_WARNINGS = 20  # bad rows that get a line of their own

_Row = tuple[int, "str | None", list["float | None"]]  # number, label, confidence and what --proba adds


def columns(text: Any) -> list[str]:
    """Return the names of two or three columns: the row's number, its label and, if named, the confidence."""
    names = [name.strip() for name in str(text).split(",")]
    if len(names) not in (2, 3) or not all(names) or len(set(names)) < len(names):
        raise click.BadParameter(f"{text!r} is not two or three names such as ImageId,Label or {COLUMNS}")
    return names


@click.command("predict", cls=Command)
@click.argument("run")
@click.argument("source", metavar="CSV")
@dialect()
@click.option(
    "--columns",
    type=columns,
    metavar="NUMBER,LABEL[,CONFIDENCE]",
    default=COLUMNS,
    help="Names of the columns; with two names, the confidence is left out.",
)
@click.option("--start", type=int, default=0, metavar="N", help="The number of the first row.")
@click.option("--proba", is_flag=True, help="Add a column p_CLASS with the probability of each class.")
@out_file("stdout")
@pass_console
def command(
    console: Console,
    /,
    run: str,
    source: str,
    out: str | None,
    overwrite: bool,
    columns: list[str],
    start: int,
    proba: bool,
    **dialect: Any,
) -> int:
    """Print row,label,confidence for each row of a CSV, or of stdin (-), with or without labels.

    Rows are numbered from 0 in their order. A bad row keeps its number and gets no label; the exit code is then 3.
    A file of --out appears whole or not at all.

    Example: streamtrain predict runs/first test.csv --columns ImageId,Label --start 1 --out submission.csv
    """
    from streamtrain.cli.progress import Status
    from streamtrain.convert.rows import iter_rows
    from streamtrain.convert.text.physical_file import physical_path
    from streamtrain.storage.objects import local_paths, location
    from streamtrain.storage.permissions import common_mode

    reads = [Path(run), *local_paths([physical_path(location(source))])]
    if out:
        _check_out(Path(out), columns, reads, overwrite=overwrite)
    checkpoint = _loaded(run, source, has_preset=bool(dialect["preset"]))
    chunks = _compared(iter_rows(source, features=checkpoint.schema.features, **dialect), checkpoint, source)
    names = columns + [f"p_{name}" for name in checkpoint.schema.classes if proba]
    done = rejected = 0

    def status(rows: Rows) -> Status:
        return Status("predicting", rows.share, 1, f"{done:,} rows")

    writing = _writing(out, names, mode=common_mode(reads), as_json=console.json)
    with console.progress(shown=bool(out) or not sys.stdout.isatty()) as line, writing as write:
        for rows in line.follow(chunks, status):
            bad_rows = zip(rows.bad, rows.bad_ordinals, strict=True)
            for bad, number in islice(bad_rows, max(_WARNINGS - rejected, 0)):
                line.clear()
                warn(f"{bad.path}:{bad.file_line}: {bad.what}. Row {start + number} gets no label")
            rejected += len(rows.bad)
            for number, label, shares in _predicted(checkpoint, rows, proba=proba):
                write([start + number, label, *shares[3 - len(columns) :]])
            done += len(rows.block) + len(rows.bad)
    _conclude(console, out, done, rejected)
    return 3 if rejected else 0


def _conclude(console: Console, out: str | None, done: int, rejected: int) -> None:
    """Say how many rows have a label, and how many have none."""
    if rejected > _WARNINGS:
        warn(f"{rejected:,} bad rows in all got no label, {rejected - _WARNINGS:,} of them not shown")
    without = f", {rejected:,} of them without a label" if rejected else ""
    if out:
        console.note(f"{out}: {plural(done, 'row')}{without}")


def _check_out(out: Path, columns: Sequence[str], reads: Sequence[Path], *, overwrite: bool) -> None:
    """Raise UsageError unless predictions with these columns may be written to `out`."""
    from streamtrain.storage.destination import check_file
    from streamtrain.storage.ownership import begins_with

    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(columns[:2])
    first_bytes = text.getvalue().encode(), f"{{{json.dumps(columns[0])}: ".encode()  # of CSV and of JSON
    check_file(out, overwrite=overwrite, reads=reads, is_ours=begins_with(*first_bytes))


def _loaded(run: str, source: str, *, has_preset: bool) -> Checkpoint:
    """Load a model; warn if it is untrained, or learned images of another orientation than those of `source`."""
    from streamtrain.cli.data import warn_if_orientation_differs
    from streamtrain.train.checkpoint import load

    checkpoint = load(run)
    if not checkpoint.is_trained:
        warn(f"{run} has not taken a step yet: its weights are random")
    warn_if_orientation_differs(source, has_preset, bool(checkpoint.recipe.get("turned")))
    return checkpoint


def _compared(chunks: Iterator[Rows], checkpoint: Checkpoint, source: str) -> Iterator[Rows]:
    """Yield the chunks; warn of each way in which the first rows differ from what the model learned."""
    from streamtrain.train.compatibility import DataSummary, check, pixel_names

    is_compared = False
    for rows in chunks:
        if not is_compared and len(rows.block):
            is_compared = True
            summary = DataSummary.of_block(rows.block, pixel_names(rows.parse, checkpoint.schema.features))
            for text in check(checkpoint.model, summary, where=source):
                warn(text)
        yield rows


def _predicted(checkpoint: Checkpoint, rows: Rows, *, proba: bool) -> Iterator[_Row]:
    """Yield the prediction of each row of a chunk in their order; a bad row has none."""
    nothing: list[float | None] = [None] * (1 + proba * len(checkpoint.schema.classes))
    bad: Iterator[_Row] = ((int(number), None, nothing) for number in rows.bad_ordinals)
    return heapq.merge(_labelled(checkpoint, rows, proba=proba), bad, key=lambda row: row[0])


def _labelled(checkpoint: Checkpoint, rows: Rows, *, proba: bool) -> Iterator[_Row]:
    from streamtrain.train.predict import predict_block

    classes = checkpoint.schema.classes
    numbers = iter(rows.ordinals.tolist())
    for predictions in predict_block(checkpoint.model, checkpoint.schema, rows.block):
        labels, confidence = predictions.labels.tolist(), predictions.confidence.tolist()
        probs = predictions.probs.tolist() if proba else [[]] * len(labels)
        for label, share, shares in zip(labels, confidence, probs, strict=True):
            yield next(numbers), classes[label], [share, *shares]


@contextlib.contextmanager
def _writing(
    path: str | None, names: list[str], *, mode: int, as_json: bool
) -> Iterator[Callable[[Sequence[Any]], object]]:
    """Context manager: yield a function that writes a row to stdout, or to a file that appears at the end."""
    from streamtrain.storage.publish import atomic_write

    if path is None:
        yield _writer(sys.stdout, names, as_json=as_json)
        return
    with atomic_write(Path(path), mode=mode) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        yield _writer(text, names, as_json=as_json)
        text.detach()  # otherwise it would close the file before it is synced


def _writer(stream: IO[str], names: list[str], *, as_json: bool) -> Callable[[Sequence[Any]], object]:
    """Return a function that writes a row: as a JSON object, or as a line of CSV below a line of the names."""
    if as_json:
        return lambda row: stream.write(json.dumps(dict(zip(names, row, strict=True))) + "\n")
    table = csv.writer(stream, lineterminator="\n")
    on_terminal = stream.isatty()

    def written(cell: Any) -> Any:
        if isinstance(cell, float):
            return f"{cell:.6f}"
        return one_line(printable(cell)) if on_terminal and isinstance(cell, str) else cell

    table.writerow(map(written, names))
    return lambda row: table.writerow(map(written, row))
