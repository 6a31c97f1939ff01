"""`streamtrain convert`: text to shards."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamtrain.cli import Command, on_a_full_disk, say
from streamtrain.cli.options import size
from streamtrain.cli.progress import ProgressLine, percent_and_eta
from streamtrain.errors import UsageError
from streamtrain.process import tune_malloc_for_conversion

if TYPE_CHECKING:
    from streamtrain.convert.pipeline import Conversion


@click.command("convert", cls=Command)
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.argument("dest")
@click.option("--label", metavar="first|last|NAME|INDEX|none", help="Its column from 1; 257-266 if one-hot.")
@click.option("--labels", metavar="FILE", help="A file of the labels, one a row, if the rows have none.")
@click.option("--header/--no-header", default=None, help="Whether line 1 names the columns.")
@click.option("--shape", metavar="HxW", help="The image's rows x columns, as 28x28.")
@click.option("--range", "pixel_range", metavar="LO..HI", help="What a pixel may be, as 0..255.")
@click.option("--classes", metavar="N|A,B,...", help="How many classes, or their names in order.")
@click.option("--preset", metavar="NAME|FILE.toml", help="A known set, as mnist or emnist-letters.")
@click.option("--delimiter", metavar="NAME", help="comma, semicolon, tab or space.")
@click.option("--drop", metavar="NAME|INDEX,...", help="Columns that are neither label nor pixels.")
@click.option("--split", metavar="NAME=SHARE,...", help="Parts in folders of their own: train=0.9,val=0.1.")
@click.option("--on-bad-row", type=click.Choice(["error", "reject"]), default="error", show_default=True)
@click.option("--shuffle", is_flag=True, help="Write the rows in a random order, as streamtrain shuffle does.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Decides that order.")
@click.option("--memory", "memory_bytes", type=size, metavar="SIZE", default="256MB", help="What it may take.")
@click.option("--resume", is_flag=True, help="Go on with a conversion to DEST that was interrupted.")
@click.option("--max-rejected", type=float, metavar="N|SHARE", help="Rows that may be bad, as 100 or 0.01.")
@click.option("--workers", type=click.IntRange(1), default=os.cpu_count() or 1, help="Threads that parse.")
@click.option("--overwrite", is_flag=True, help="Replace DEST if streamtrain wrote it.")
def command(sources: tuple[str, ...], dest: str, as_json: bool, quiet: bool, debug: bool, **options: Any) -> int:
    """Convert CSV files to a folder DEST of Parquet shards.

    A SOURCE is a file, a pattern, a folder, archive.zip:member.csv, or - for standard input; gz, bz2, xz, zst
    and zip are unpacked on the way.

    Example: streamtrain convert mnist_train.csv.gz shards/train
    """
    tune_malloc_for_conversion()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's, which nothing here uses, would spin for 0.1 s
    from streamtrain.convert.write.journal import can_resume
    from streamtrain.report.terminal import plural

    if can_resume(Path(dest)) and not options["resume"]:
        say(f"an interrupted conversion to {dest} is thrown away; --resume would have gone on with it")
    shape, pixel_range, drop = options.pop("shape"), options.pop("pixel_range"), options.pop("drop")
    conversion = _or_stopped(
        sources,
        dest,
        quiet=quiet,
        shape=_numbers(shape, "x", int, "--shape", "28x28"),
        pixel_range=_numbers(pixel_range, "..", float, "--range", "0..255", count=2),
        classes=_classes(options.pop("classes")),
        drop=tuple(drop.split(",")) if drop else None,
        split=_shares(options.pop("split")),
        **options,
    )
    if isinstance(conversion, int):
        return conversion
    if as_json:
        click.echo(json.dumps(_as_json(conversion)))
    else:
        for name, manifest in conversion.manifests.items():
            facts = plural(manifest.rows, "row"), plural(len(manifest.schema.classes), "class", "classes")
            shards = plural(len(manifest.shards), "shard")
            click.echo(f"{conversion.folders[name]}: {', '.join([*facts, shards])}")
    if conversion.totals.rejected:
        say(f"warning: {plural(conversion.totals.rejected, 'row')} rejected, see {dest}/rejected.jsonl")
        return 3
    return 0


def _or_stopped(sources: Sequence[str | Path], dest: str | Path, **options: Any) -> Conversion | int:
    """Convert; or the exit code where SIGINT or SIGTERM came, after which what is finished stays."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with on_a_full_disk(dest, lambda: "the same command with --resume"):
            return _convert(sources, dest, **options)
    except KeyboardInterrupt:
        code = 130
    except SystemExit:
        code = 143
    finally:
        signal.signal(signal.SIGTERM, before)
    say("Stopped; what is finished stays. Go on: the same command with --resume")
    return code


def _convert(sources: Sequence[str | Path], dest: str | Path, *, quiet: bool, **options: Any) -> Conversion:
    """Convert, showing progress, and say how the file was read and what a person should know of it."""
    from streamtrain.convert.options import ConvertOptions
    from streamtrain.convert.pipeline import Conversion, Progress, iter_convert
    from streamtrain.native import parse as kernel
    from streamtrain.shards.shuffle import ShuffleProgress

    if not (quiet or kernel.parse.kept):
        say("compiling the parser for this processor, which takes seconds, once")
    with ProgressLine(quiet=quiet) as live:
        for step in iter_convert(sources, dest, ConvertOptions(**options)):
            if isinstance(step, Conversion):
                conversion = step
            elif live.due() and isinstance(step, ShuffleProgress):
                share = step.done / (2 * step.rows)
                live.update(f"shuffling  {share:4.0%}", share)
            elif live.due() and isinstance(step, Progress):
                share = step.bytes_read / step.bytes_total if step.bytes_total else 0.0
                live.update(f"converting  {percent_and_eta(share, step.seconds)}  {step.rows:,} rows", share)
    if not quiet:
        for reason in conversion.detection.reasons:
            say(f"  {reason}")
        if not conversion.detection.dialect.declared_range:
            low, high = conversion.schema.pixel_range
            say(f"  pixels are {low:g}..{high:g}, found by the full pass; declare it with --range")
    if (conversion.label_disorder or 0) > 2:
        disorder = f"label disorder {conversion.label_disorder:.0f}, random is 1"
        mend = shlex.join(["streamtrain", "shuffle", str(dest), f"{Path(dest)}-shuffled"])
        say(f"warning: the rows are sorted by class ({disorder}). Mix them: {mend}")
    return conversion


def _numbers(
    text: str | None, separator: str, kind: type, option: str, example: str, *, count: int = 0
) -> tuple[Any, ...] | None:
    if text is None:
        return None
    try:
        values = tuple(kind(part) for part in text.split(separator))
    except ValueError:
        values = ()
    if not values or (count and len(values) != count):
        raise UsageError(f"{option} {text!r} is not of the form {example}. Write it so: {option} {example}")
    return values


def _classes(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    if text.isdecimal():
        return tuple(map(str, range(int(text))))
    return tuple(name.strip() for name in text.split(","))


def _shares(text: str | None) -> dict[str, float] | None:
    if text is None:
        return None
    try:
        return {name: float(share) for name, share in (part.split("=") for part in text.split(","))}
    except ValueError:
        raise UsageError(f"--split {text!r} is not of the form train=0.9,val=0.1. Write it so") from None


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
            "pixel_range": list(schema.pixel_range),
        },
        "label_disorder": conversion.label_disorder,
    }
