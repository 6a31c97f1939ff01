"""`streamtrain verify`: every byte of shards against the manifest."""

from __future__ import annotations

from dataclasses import asdict

import click

from streamtrain.cli import Command
from streamtrain.cli.console import Console, pass_console, say
from streamtrain.cli.progress import Status


@click.command("verify", cls=Command)
@click.argument("data")
@pass_console
def command(console: Console, /, data: str) -> int:
    """Check every byte of DATA, a folder of shards or of the parts of a split, against the manifest.

    DATA may be in a store: s3://, gs://, az://, https://.

    Example: streamtrain verify shards/train
    """
    from streamtrain.shards.verify import VerifyReport, iter_verify
    from streamtrain.text import one_line, plural

    def status(step: VerifyReport) -> Status:
        return Status("verifying", step.shards, step.total, plural(step.shards, "shard"))

    with console.progress() as line:
        report = line.finish(iter_verify(data), status)
    rows, shards = plural(report.rows, "row"), plural(report.shards, "shard")
    if console.json or report.ok:
        problems = [asdict(problem) for problem in report.problems]
        result = {"ok": report.ok, "shards": report.shards, "rows": report.rows, "problems": problems}
        console.result(result, f"{data}: {rows} in {shards}, all as the manifest says")
    for problem in report.problems:
        say(one_line(f"{data}/{problem.shard}: {problem.what}"))
    if report.ok:
        return 0
    say(f"error: {data} has {plural(len(report.problems), 'problem')}. Convert its source again")
    return 1
