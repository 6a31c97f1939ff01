"""`streamtrain verify`: every byte of shards against the manifest."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from streamtrain.cli import Command, say
from streamtrain.cli.progress import ProgressLine


@click.command("verify", cls=Command)
@click.argument("data")
def command(data: str, as_json: bool, quiet: bool, debug: bool) -> int:
    """Read every byte of a folder DATA of shards, or of a split's parts, and check it against the manifest.

    Example: streamtrain verify shards/train
    """
    from streamtrain.report.terminal import plural
    from streamtrain.shards.verify import iter_verify

    with ProgressLine(quiet=quiet) as live:
        for verified in iter_verify(data):
            if live.due():
                share = verified.shards / max(verified.total, 1)
                live.update(f"verifying  {verified.shards:,} of {verified.total:,} shards", share)
    if as_json:
        problems = [asdict(problem) for problem in verified.problems]
        result = {"ok": verified.ok, "shards": verified.shards, "rows": verified.rows, "problems": problems}
        click.echo(json.dumps(result))
    elif verified.ok:
        rows, shards = plural(verified.rows, "row"), plural(verified.shards, "shard")
        click.echo(f"{data}: {rows} in {shards}, all as the manifest says")
    for problem in verified.problems:
        say(f"{data}/{problem.shard}: {problem.what}")
    if verified.ok:
        return 0
    say(f"error: {data} has {plural(len(verified.problems), 'problem')}. Convert its source again")
    return 1
