"""`streamtrain inspect`: what is in a CSV, shards or a run."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamtrain.cli import Command, say
from streamtrain.errors import UsageError

if TYPE_CHECKING:
    from streamtrain.report.summary import DatasetSummary
    from streamtrain.stream.dataset import Shards

_EXAMPLES = 10


@click.command("inspect", cls=Command)
@click.argument("path")
@click.option("--line", type=click.IntRange(1), help="Show the row of this line, counted over all sources.")
@click.option("--preset", metavar="NAME|FILE.toml", help="Of a CSV, a known set, as for convert.")
@click.option("--label", metavar="first|last|NAME|INDEX|none", help="Of a CSV, the label's column.")
@click.option("--header/--no-header", default=None, help="Of a CSV, whether line 1 names the columns.")
@click.option("--workers", type=click.IntRange(1), default=os.cpu_count() or 1, help="Threads that parse.")
def command(path: str, line: int | None, as_json: bool, quiet: bool, debug: bool, **options: Any) -> int:
    """Show what is in a CSV, a folder of shards or a run: its schema, classes, a few digits, and what to mind.

    A CSV is read to its end, and nothing is left behind.

    Example: streamtrain inspect shards/train --line 4213
    """
    from streamtrain.storage.ownership import RECIPE

    if (Path(path) / RECIPE).exists():
        if line is not None:
            raise UsageError(f"{path} is a run, which has no rows. Name shards or a CSV for --line")
        _show_run(path, as_json=as_json)
        return 0
    with _opened(path, quiet=quiet, **options) as (shards, reasons):
        if line is not None:
            _show_row(shards, line, as_json=as_json)
        else:
            _show_data(path, shards, reasons, as_json=as_json)
        return 3 if shards.manifest.totals.rejected and reasons else 0


@contextmanager
def _opened(path: str, *, quiet: bool, workers: int, **wanted: Any) -> Iterator[tuple[Shards, tuple[str, ...]]]:
    """Shards, and the reasons for their schema; those of a CSV are made for the time of the `with`."""
    from streamtrain.stream.dataset import open_shards

    if Path(path).is_dir() or not Path(path).exists():
        yield open_shards(path, workers=workers), ()
        return
    from streamtrain.cli.progress import ProgressLine, percent_and_eta
    from streamtrain.convert.options import ConvertOptions
    from streamtrain.convert.pipeline import Conversion, Progress, iter_convert

    with tempfile.TemporaryDirectory(prefix="streamtrain-") as folder, ProgressLine(quiet=quiet) as live:
        made = Path(folder, "shards")
        options = ConvertOptions(on_bad_row="reject", workers=workers, **wanted)
        for step in iter_convert(path, made, options):
            if isinstance(step, Conversion):
                reasons = step.detection.reasons
            elif isinstance(step, Progress) and live.due():
                share = step.bytes_read / step.bytes_total if step.bytes_total else 0.0
                live.update(f"reading  {percent_and_eta(share, step.seconds)}  {step.rows:,} rows", share)
        yield open_shards(made, workers=workers), reasons


def is_rich() -> bool:
    """Whether stdout is a terminal that may get colours and block characters."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def _show_row(shards: Shards, line: int, *, as_json: bool) -> None:
    from streamtrain.report.summary import origin, row_at
    from streamtrain.report.terminal import picture

    row = row_at(shards, line)
    file, file_line = origin(shards.manifest.sources, line)
    if as_json:
        told = {"line": line, "file": file, "file_line": file_line, "label": row.label}
        click.echo(json.dumps(told | {"pixels": row.pixels.tolist()}))
        return
    click.echo(f"{file}:{file_line}" + ("" if row.label is None else f"  label {row.label}"))
    if len(shards.schema.image_shape) == 2:
        click.echo("\n".join(picture(row.image(shards.schema), rich=is_rich())))
    else:
        click.echo(", ".join(f"{value:g}" for value in row.pixels.tolist()))


def _show_data(path: str, shards: Shards, reasons: tuple[str, ...], *, as_json: bool) -> None:
    from streamtrain.report.summary import DatasetSummary
    from streamtrain.report.terminal import plural

    facts, memory = DatasetSummary.of(shards.manifest), _memory(shards)
    if as_json:
        kind = "csv" if reasons else "shards"
        told = {"path": path, "kind": kind, "reasons": reasons} | facts.to_json() | {"memory": memory}
        click.echo(json.dumps(told))
        return
    width = min(shutil.get_terminal_size().columns, 100)
    click.echo("\n".join([f"{path}: {plural(facts.rows, 'row')}", *(f"  {reason}" for reason in reasons)]))
    click.echo("\n".join(f"  {line}" for line in _told(facts, shards, memory)))
    if facts.classes:
        from streamtrain.report.terminal import bars

        click.echo("\n" + bars(facts.classes, width=width, rich=is_rich()))
    if len(shards.schema.image_shape) == 2:
        click.echo("\n" + _gallery(shards, width=width))
    for warning in facts.warnings:
        say(f"warning: {warning}")
    if rejected := facts.lines["rejected"]:
        bad = f"{plural(rejected, 'row')} {'is' if rejected == 1 else 'are'} bad"
        say(f"warning: {bad}. See each: streamtrain convert {path} DEST --on-bad-row reject")


def _told(facts: DatasetSummary, shards: Shards, memory: dict[str, Any]) -> Iterator[str]:
    """The facts in lines for a person."""
    from streamtrain.report.terminal import megabytes, plural

    shape = "x".join(map(str, facts.image_shape))
    (low, high), (least, most) = facts.pixel_range, facts.seen
    yield f"images {shape} {facts.dtype}, {low:g}..{high:g} becomes 0..1, seen {least:g}..{most:g}"
    yield f"of the normalised pixels the mean is {facts.mean:.4f}, the standard deviation {facts.deviation:.4f}"
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
    yield f"training with the default --memory 256MB takes at most {peak}, the window is {window}"


def _memory(shards: Shards) -> dict[str, Any]:
    """What the default training takes: window_rows and predicted_peak_bytes."""
    from streamtrain.engine.sparse import EVALUATION

    classes = max(len(shards.schema.classes), 1)
    parameters = 100 * (shards.schema.features + 1) + classes * 101
    units = 100 + classes
    plan = shards.plan(256_000_000, batch_size=256, parameters=parameters, units=units, evaluation=EVALUATION)
    return {"window_rows": plan.window_rows, "predicted_peak_bytes": plan.predicted_peak_bytes}


def _gallery(shards: Shards, *, width: int) -> str:
    """A few digits, as many as fit next to each other in two bands."""
    from streamtrain.report.summary import examples
    from streamtrain.report.terminal import beside, picture

    columns = shards.schema.image_shape[1]
    across = max(width // (columns + 2), 1)
    rows = examples(shards, min(_EXAMPLES, 2 * across))
    bands = [rows[at : at + across] for at in range(0, len(rows), across)]
    return "\n".join(
        beside(
            [picture(row.image(shards.schema), rich=is_rich()) for row in band],
            [f"{row.label or ''} (line {row.line})" for row in band],
            columns=columns,
        )
        for band in bands
    )


def _show_run(path: str, *, as_json: bool) -> None:
    from streamtrain.report.terminal import plural, sparkline
    from streamtrain.train.checkpoint import load
    from streamtrain.train.run import read_metrics

    checkpoint, epochs = load(path), read_metrics(Path(path))
    layers = [checkpoint.model.features, *checkpoint.model.hidden, checkpoint.model.classes]
    if as_json:
        told = {"path": path, "kind": "run", "layers": layers, "recipe": dict(checkpoint.recipe)}
        click.echo(json.dumps(told | {"schema": checkpoint.schema.to_json(), "epochs": epochs}))
        return
    click.echo(f"{path}: {'→'.join(map(str, layers))} units, classes {', '.join(checkpoint.schema.classes)}")
    for name, value in checkpoint.recipe.items():
        click.echo(f"  {name.replace('_', '-')} {value}")
    if epochs:
        losses = [line["train_loss"] for line in epochs]
        curve = sparkline(losses, rich=is_rich())
        click.echo(f"  {plural(len(losses), 'epoch')}, train loss {losses[0]:.4f} {curve} {losses[-1]:.4f}")
        last = {
            name: value for name, value in epochs[-1].items() if name.endswith("accuracy") and value is not None
        }
        click.echo("  " + ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in last.items()))
