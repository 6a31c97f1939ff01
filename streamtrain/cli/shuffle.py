"""`streamtrain shuffle`: shards rewritten in a random order of all rows."""

from __future__ import annotations

import time
from pathlib import Path

import click

from streamtrain.cli import Command, on_a_full_disk
from streamtrain.cli.console import Console, pass_console
from streamtrain.cli.options import options_of
from streamtrain.cli.progress import Status
from streamtrain.convert.options import ConvertOptions


@click.command("shuffle", cls=Command)
@click.argument("data")
@click.argument("dest")
@options_of(ConvertOptions, only=("seed", "memory_bytes", "overwrite"))
@pass_console
def command(console: Console, /, data: str, dest: str, seed: int, memory_bytes: int, overwrite: bool) -> None:
    """Write the rows of DATA, a folder of shards or of the parts of a split, to DEST in a random order.

    All orders are equally likely; the same seed gives the same order.

    Example: streamtrain shuffle shards/train shards/train-shuffled
    """
    from streamtrain.process import peak_rss_mb
    from streamtrain.shards.shuffle import iter_shuffle
    from streamtrain.text import plural

    started = time.monotonic()
    with on_a_full_disk(dest, lambda: "the same command"), console.progress() as line:
        steps = iter_shuffle(data, dest, seed=seed, memory_bytes=memory_bytes, overwrite=overwrite)
        step = line.finish(steps, lambda step: Status("shuffling", step.done, 2 * step.rows))
    for name, manifest in step.manifests.items():
        result = {
            "rows": manifest.rows,
            "shards": len(manifest.shards),
            "seed": seed,
            "label_disorder": manifest.label_disorder,
            "manifest": str(Path(dest, name, "manifest.json")),
            "seconds": time.monotonic() - started,
            "peak_rss_mb": peak_rss_mb(),
        }
        disorder = manifest.label_disorder
        counts = f"{plural(manifest.rows, 'row')}, {plural(len(manifest.shards), 'shard')}"
        mixed = "" if disorder is None else f", label disorder {disorder:.2f} (random is 1)"
        console.result(result, f"{Path(dest, name)}: {counts}{mixed}")
