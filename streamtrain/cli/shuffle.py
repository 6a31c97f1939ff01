"""`streamtrain shuffle`: shards anew, in a random order of all rows."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from streamtrain.cli import Command, on_a_full_disk
from streamtrain.cli.options import size
from streamtrain.cli.progress import ProgressLine, percent_and_eta


@click.command("shuffle", cls=Command)
@click.argument("data")
@click.argument("dest")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Decides the order.")
@click.option(
    "--memory", type=size, metavar="SIZE", default="256MB", show_default=True, help="What rows may take."
)
@click.option("--overwrite", is_flag=True, help="Replace DEST if streamtrain wrote it.")
def command(
    data: str, dest: str, seed: int, memory: int, overwrite: bool, as_json: bool, quiet: bool, debug: bool
) -> None:
    """Write the rows of a folder DATA of shards, or of each part of a split, to DEST in a random order.

    Every order is as likely as any other; the same seed gives the same one.

    Example: streamtrain shuffle shards/train shards/train-shuffled
    """
    from streamtrain.process import peak_rss_mb
    from streamtrain.report.terminal import plural
    from streamtrain.shards.shuffle import iter_shuffle

    started = time.monotonic()
    with on_a_full_disk(dest, lambda: "the same command"), ProgressLine(quiet=quiet) as live:
        for step in iter_shuffle(data, dest, seed=seed, memory_bytes=memory, overwrite=overwrite):
            if live.due():
                share = step.done / (2 * step.rows)
                live.update(f"shuffling  {percent_and_eta(share, time.monotonic() - started)}", share)
    for name, manifest in step.manifests.items():
        if as_json:
            result = {
                "rows": manifest.rows,
                "shards": len(manifest.shards),
                "seed": seed,
                "label_disorder": manifest.label_disorder,
                "manifest": str(Path(dest, name, "manifest.json")),
                "seconds": time.monotonic() - started,
                "peak_rss_mb": peak_rss_mb(),
            }
            click.echo(json.dumps(result))
        else:
            disorder = manifest.label_disorder
            shards = plural(len(manifest.shards), "shard")
            mixed = "" if disorder is None else f", label disorder {disorder:.2f} (random is 1)"
            click.echo(f"{Path(dest, name)}: {plural(manifest.rows, 'row')}, {shards}{mixed}")
