"""`streamtrain inspect`: what is in a CSV, shards or a run."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamtrain.cli import Command
from streamtrain.cli.console import Console, pass_console, shows_unicode, warn
from streamtrain.cli.options import dialect, flag, workers
from streamtrain.errors import StreamtrainError, UsageError

if TYPE_CHECKING:
    from streamtrain.report.summary import DatasetSummary
    from streamtrain.stream.dataset import Shards

_EXAMPLES = 10


@click.command("inspect", cls=Command)
@click.argument("path")
@click.option("--line", type=click.IntRange(1), help="Show the row of this line, counted over all sources.")
@dialect()
@workers()
@pass_console
def command(console: Console, /, path: str, line: int | None, **options: Any) -> int:
    """Show schema, classes, digits and warnings of a CSV or of shards, or a run's settings and metrics.

    A CSV is read to its end; no file is left behind.

    Example: streamtrain inspect shards/train --line 4213
    """
    from streamtrain.storage.ownership import RECIPE

    if (Path(path) / RECIPE).exists():
        if line is not None:
            raise UsageError(f"{path} is a run, which has no rows. Name shards or a CSV for --line")
        _show_run(console, path)
        return 0
    with _opened(console, path, **options) as (shards, reasons):
        if line is not None:
            _show_row(console, shards, line)
        else:
            _show_data(console, path, shards, reasons)
        return 3 if shards.manifest.totals.rejected and reasons else 0


@contextmanager
def _opened(
    console: Console, path: str, *, workers: int, **dialect: Any
) -> Iterator[tuple[Shards, tuple[str, ...]]]:
    """Context manager: yield shards and the reasons for their schema; those of a CSV are temporary."""
    from streamtrain.storage.objects import is_one_file, location
    from streamtrain.stream.dataset import open_shards

    if not is_one_file(location(path)):
        yield open_shards(path, workers=workers), ()
        return
    from streamtrain.cli.convert import status
    from streamtrain.convert.options import ConvertOptions
    from streamtrain.convert.pipeline import Conversion, iter_convert
    from streamtrain.storage.temporary import temporary_folder

    with temporary_folder() as folder, console.progress() as line:
        shards = folder / "shards"
        options = ConvertOptions(on_bad_row="reject", workers=workers, **dialect)
        steps = iter_convert(path, shards, options)
        conversion = line.finish(steps, lambda step: status(step, "reading"))
        assert isinstance(conversion, Conversion)
        for text in conversion.warnings:
            warn(StreamtrainError(text).spelled(flag))
        yield open_shards(shards, workers=workers), conversion.detection.reasons


def _show_row(console: Console, shards: Shards, line: int) -> None:
    from streamtrain.report.summary import origin, row_at
    from streamtrain.report.terminal import picture
    from streamtrain.text import one_line

    row = row_at(shards, line)
    file, file_line = origin(shards.manifest.sources, line)
    pixels = row.pixels.tolist()
    shown = [", ".join(f"{value:g}" for value in pixels)]
    if len(shards.schema.image_shape) == 2:
        shown = picture(row.image(shards.schema), unicode=shows_unicode(sys.stdout))
    head = one_line(f"{file}:{file_line}" + ("" if row.label is None else f"  label {row.label}"))
    console.result(
        {"line": line, "file": file, "file_line": file_line, "label": row.label, "pixels": pixels},
        "\n".join([head, *shown]),
    )


def _show_data(console: Console, path: str, shards: Shards, reasons: tuple[str, ...]) -> None:
    from streamtrain.report.summary import DatasetSummary
    from streamtrain.text import plural

    facts, memory = DatasetSummary.of(shards.manifest), _memory(shards)
    kind = "csv" if reasons else "shards"
    values = {"path": path, "kind": kind, "reasons": reasons} | facts.to_json() | {"memory": memory}
    console.result(values, "" if console.json else _page(path, shards, reasons, facts, memory))
    if console.json:
        return
    for warning in facts.warnings:
        warn(warning)
    if rejected := facts.lines["rejected"]:
        bad = f"{plural(rejected, 'row')} {'is' if rejected == 1 else 'are'} bad"
        warn(f"{bad}. See each: streamtrain convert {path} DEST --on-bad-row reject")


def _page(
    path: str, shards: Shards, reasons: tuple[str, ...], facts: DatasetSummary, memory: dict[str, Any]
) -> str:
    """Return the facts, a bar for each class and a few digits, as text."""
    from streamtrain.report.terminal import bars
    from streamtrain.text import one_line, plural

    width = min(shutil.get_terminal_size().columns, 100)
    lines = [one_line(f"{path}: {plural(facts.rows, 'row')}"), *(f"  {one_line(reason)}" for reason in reasons)]
    lines += [f"  {line}" for line in _fact_lines(facts, shards, memory)]
    if facts.classes:
        lines += ["", bars(facts.classes, width=width, unicode=shows_unicode(sys.stdout))]
    if len(shards.schema.image_shape) == 2:
        lines += ["", _gallery(shards, width=width)]
    return "\n".join(lines)


def _fact_lines(facts: DatasetSummary, shards: Shards, memory: dict[str, Any]) -> Iterator[str]:
    """Yield the facts as lines of text."""
    from streamtrain.text import megabytes, plural

    shape = "x".join(map(str, facts.image_shape))
    (low, high), (least, most) = facts.pixel_range, facts.seen
    stored = f"{facts.dtype} n of n/{facts.denominator}" if facts.denominator > 1 else facts.dtype
    yield f"images {shape} {stored}, {low:g}..{high:g} becomes 0..1, seen {least:g}..{most:g}"
    yield f"normalised pixels have mean {facts.mean:.4f}, standard deviation {facts.deviation:.4f}"
    yield f"{facts.constant_pixels} of {shards.schema.features} pixel positions never change"
    if facts.label_disorder is not None:
        yield f"label disorder {facts.label_disorder:.2f} (1 is a random order)"
    parts = {name.replace("_", " "): count for name, count in facts.lines.items() if count and name != "lines"}
    yield f"{plural(facts.lines['lines'], 'line')}: " + ", ".join(
        f"{count:,} {name}" for name, count in parts.items()
    )
    sizes = sorted(facts.shards.values())
    each = f"{megabytes(sizes[0])} to {megabytes(sizes[-1])}, {megabytes(sum(sizes))} in all"
    yield f"{plural(len(sizes), 'shard')} of {each if len(sizes) > 1 else megabytes(sizes[0])}"
    window = "the whole set" if memory["window_rows"] == facts.rows else f"{memory['window_rows']:,} rows"
    peak = megabytes(memory["predicted_peak_bytes"])
    yield f"training with the default --memory 256MB takes at most {peak}; the window is {window}"


def _memory(shards: Shards) -> dict[str, Any]:
    """Return what the default training takes: window_rows and predicted_peak_bytes."""
    from streamtrain.engine.sparse import EVALUATION

    classes = max(len(shards.schema.classes), 1)
    parameters = 100 * (shards.schema.features + 1) + classes * 101
    units = 100 + classes
    plan = shards.plan(256_000_000, batch_size=256, parameters=parameters, units=units, evaluation=EVALUATION)
    return {"window_rows": plan.window_rows, "predicted_peak_bytes": plan.predicted_peak_bytes}


def _gallery(shards: Shards, *, width: int) -> str:
    """Return a few digits as text, at most two bands of as many as fit next to each other."""
    from streamtrain.report.summary import examples
    from streamtrain.report.terminal import picture, side_by_side
    from streamtrain.text import one_line

    columns = shards.schema.image_shape[1]
    across = max(width // (columns + 2), 1)
    rows = examples(shards, min(_EXAMPLES, 2 * across))
    bands = [rows[at : at + across] for at in range(0, len(rows), across)]
    return "\n".join(
        side_by_side(
            [picture(row.image(shards.schema), unicode=shows_unicode(sys.stdout)) for row in band],
            [one_line(f"{row.label or ''} (line {row.line})") for row in band],
            columns=columns,
        )
        for band in bands
    )


def _show_run(console: Console, path: str) -> None:
    from streamtrain.report.terminal import sparkline
    from streamtrain.text import one_line, plural
    from streamtrain.train.checkpoint import load
    from streamtrain.train.run import read_metrics

    checkpoint, epochs = load(path), read_metrics(Path(path))
    layers = [checkpoint.model.features, *checkpoint.model.hidden, checkpoint.model.classes]
    lines = [f"{path}: {'→'.join(map(str, layers))} units, classes {', '.join(checkpoint.schema.classes)}"]
    lines += [f"  {name.replace('_', '-')} {value}" for name, value in checkpoint.recipe.items()]
    if epochs:
        losses = [line["train_loss"] for line in epochs]
        curve = sparkline(losses, unicode=shows_unicode(sys.stdout))
        lines += [f"  {plural(len(losses), 'epoch')}, train loss {losses[0]:.4f} {curve} {losses[-1]:.4f}"]
        last = {name: value for name, value in epochs[-1].items() if name.endswith("accuracy")}
        figures = [f"{name.replace('_', ' ')} {value:.4f}" for name, value in last.items() if value is not None]
        lines += ["  " + ", ".join(figures)]
    values = {"path": path, "kind": "run", "layers": layers, "recipe": dict(checkpoint.recipe)}
    values |= {"schema": checkpoint.schema.to_json(), "epochs": epochs}
    console.result(values, "\n".join(map(one_line, lines)))
