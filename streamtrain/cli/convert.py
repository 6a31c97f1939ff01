"""`streamtrain convert`: text to shards."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamtrain.cli import Command, on_a_full_disk
from streamtrain.cli.console import Console, pass_console, say, warn, warn_if_not_built
from streamtrain.cli.options import flag, options_of
from streamtrain.cli.progress import Status
from streamtrain.cli.signals import exit_code, sigterm_exits
from streamtrain.convert.options import ConvertOptions
from streamtrain.errors import StreamtrainError
from streamtrain.process import tune_malloc_for_conversion

if TYPE_CHECKING:
    from streamtrain.convert.pipeline import Conversion, Progress
    from streamtrain.shards.manifest import Manifest
    from streamtrain.shards.shuffle import ShuffleProgress


@click.command("convert", cls=Command)
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.argument("dest")
@options_of(ConvertOptions)
@pass_console
def command(console: Console, /, sources: tuple[str, ...], dest: str, **options: Any) -> int:
    """Convert CSV files to a folder DEST of Parquet shards.

    A SOURCE is a file, a pattern, a folder, archive.zip:member.csv, or - for standard input; gz, bz2, xz, zst
    and zip are unpacked on the way. It may be in a store or on the web: s3://, gs://, az://, https://.

    Example: streamtrain convert mnist_train.csv.gz shards/train
    """
    tune_malloc_for_conversion()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's, which nothing here uses, would spin for 0.1 s
    from streamtrain.convert.write.journal import can_resume
    from streamtrain.text import plural

    settings = ConvertOptions(**options)
    if can_resume(Path(dest)) and not settings.resume:
        say(f"an interrupted conversion to {dest} is discarded; --resume would have continued it")
    try:
        with sigterm_exits(), on_a_full_disk(dest, lambda: "the same command with --resume"):
            conversion = _convert(console, sources, dest, settings)
    except (KeyboardInterrupt, SystemExit) as stop:
        say("Stopped; what is finished is kept. Continue with the same command and --resume")
        return exit_code(stop)
    _explain(console, conversion)
    for text in conversion.warnings:
        warn(StreamtrainError(text).spelled(flag))
    _warn_if_sorted(conversion, dest)
    parts = [_summary(conversion.folders[name], manifest) for name, manifest in conversion.manifests.items()]
    console.result(_as_json(conversion), "\n".join(parts))
    if conversion.totals.rejected:
        warn(f"{plural(conversion.totals.rejected, 'row')} rejected, see {dest}/rejected.jsonl")
        return 3
    return 0


def _convert(console: Console, sources: Sequence[str], dest: str, options: ConvertOptions) -> Conversion:
    """Convert, and show the progress."""
    from streamtrain.convert.pipeline import Conversion, iter_convert

    warn_if_not_built()
    with console.progress() as line:
        conversion = line.finish(iter_convert(sources, dest, options), status)
    assert isinstance(conversion, Conversion)
    return conversion


def status(step: Progress | ShuffleProgress | Conversion, task: str = "converting") -> Status | None:
    """Return the status of a conversion for its progress line, None at the end."""
    from streamtrain.convert.pipeline import Conversion, Progress

    if isinstance(step, Conversion):
        return None
    if isinstance(step, Progress):
        return Status(task, step.bytes_read, step.bytes_total, f"{step.rows:,} rows")
    return Status("shuffling", step.done, 2 * step.rows)


def _explain(console: Console, conversion: Conversion) -> None:
    """Print how the source was read, and why so."""
    for reason in conversion.detection.reasons:
        console.note(f"  {reason}")
    if not conversion.detection.dialect.declared_range:
        low, high = conversion.schema.of_source.pixel_range
        console.note(f"  pixels are {low:g}..{high:g}, found by the full pass; declare it with --range")
    if conversion.detection.dialect.denominator != conversion.schema.denominator:
        console.note("  not all rows are such fractions, so pixels are stored as float32")


def _warn_if_sorted(conversion: Conversion, dest: str) -> None:
    if (conversion.label_disorder or 0) > 2:
        disorder = f"label disorder {conversion.label_disorder:.0f}, random is 1"
        shuffle = shlex.join(["streamtrain", "shuffle", dest, f"{Path(dest)}-shuffled"])
        warn(f"the rows are sorted by class ({disorder}). Mix them: {shuffle}")


def _summary(folder: Path, manifest: Manifest) -> str:
    from streamtrain.text import plural

    classes = plural(len(manifest.schema.classes), "class", "classes")
    return f"{folder}: {plural(manifest.rows, 'row')}, {classes}, {plural(len(manifest.shards), 'shard')}"


def _as_json(conversion: Conversion) -> dict[str, Any]:
    from streamtrain.process import peak_rss_mb

    dialect, totals, schema = conversion.detection.dialect, conversion.totals, conversion.schema
    label = None if dialect.label is None else dialect.label + 1
    places = {name: str(folder / "manifest.json") for name, folder in conversion.folders.items()}
    return {
        "rows_read": totals.kept + totals.rejected,
        "rows_kept": totals.kept,
        "rows_rejected": totals.rejected,
        "lines": totals.lines,
        "shards": sum(len(manifest.shards) for manifest in conversion.manifests.values()),
        "bytes_in": conversion.bytes_in,
        "bytes_out": conversion.bytes_out,
        "seconds": conversion.seconds,
        "peak_rss_mb": peak_rss_mb(),
        "manifest": places.get("", places),  # of a split, one a part
        "schema": {
            "label": label,
            "header": dialect.header,
            "delimiter": dialect.delimiter,
            "image_shape": list(schema.image_shape),
            "classes": list(schema.classes),
            "pixel_range": list(schema.of_source.pixel_range),
        },
        "label_disorder": conversion.label_disorder,
    }
