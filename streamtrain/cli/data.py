"""DATA arguments: a folder of shards, or a CSV, which is first converted to CSV.shards."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from streamtrain.cli.console import say, warn
from streamtrain.cli.signals import exit_code, sigterm_exits
from streamtrain.errors import DataError
from streamtrain.import_path import python_command
from streamtrain.storage.objects import ObjectPath, local_paths, location
from streamtrain.stream.dataset import Shards
from streamtrain.train.inputs import open_place


def open_data(path: str, *, quiet: bool, workers: int) -> Shards:
    """Open a folder of shards, or CSV.shards for a CSV; these are made if they are missing.

    Raises DataError if the CSV has changed since they were made.
    """
    make = partial(_convert_in_subprocess, quiet=quiet, workers=workers)
    return open_place(location(path), make=make, tell=say, workers=workers)


def open_recorded_data(path: str, run: str | Path, *, workers: int, again: Sequence[str]) -> Shards:
    """Open data that a run names. Nothing is written: the run may come from somebody else.

    again: the words of the command that takes the data as its last word
    Raises DataError if it is a CSV that was not converted yet, or an address on the web.
    """
    source = location(path)
    if isinstance(source, ObjectPath) and source.scheme.startswith("http"):
        raise DataError(
            f"{run} names {path}, and nothing is fetched from the web because a run names it. If it is the right "
            f"place, name it yourself: {shlex.join([*again, path])}",
            path=path,
        )

    def refuse(*_: Path) -> None:
        raise DataError(
            f"{run} names {path}, which is not converted, and what a run names is only read. If it is the right "
            f"file, name it yourself: {shlex.join([*again, path])}",
            path=path,
        )

    return open_place(source, make=refuse, tell=say, workers=workers)


def read_for(path: str | None) -> list[Path]:
    """Return the files and folders that a command reads if `path` is its data: for a CSV its shards too."""
    return local_paths([location(path), location(f"{path}.shards")]) if path else []


def _convert_in_subprocess(source: Path, folder: Path, *, quiet: bool, workers: int) -> None:
    """Convert in a child process, whose memory is free again when training begins.

    An interrupted conversion is resumed; after a signal, what is finished is kept.
    """
    words = ["convert", *(f"./{path}" if str(path).startswith("-") else str(path) for path in (source, folder))]
    words.append("--resume")
    say(f"{source} is converted first: streamtrain {shlex.join(words)}")
    options = ["--workers", str(workers), *(["-q"] if quiet else [])]
    command, environment = python_command("from streamtrain.__main__ import main; main()")
    child = partial(subprocess.Popen, [*command, *words, *options], env=environment, stdout=sys.stderr)
    with sigterm_exits(), child() as process:
        try:
            code = process.wait()
        except (KeyboardInterrupt, SystemExit) as stop:
            process.terminate()
            process.wait()
            code = exit_code(stop)
    if code in (130, 143):
        say("The same command continues with what is converted.")
    if code:
        raise SystemExit(code)


def is_transposed(shards: Shards) -> bool:
    """Return whether the images of the source were transposed; `convert` has undone it in the shards."""
    return bool(shards.manifest.parse.get("transposed"))


def warn_if_orientation_differs(path: str, transposed: bool, trained_transposed: bool) -> None:
    """Warn if the model was trained on a transposed source and this one is read as is: no figure would show it."""
    if trained_transposed and not transposed:
        warn(
            f"the model was trained on transposed images, but {path} is read as is. "
            "If it is transposed too, pass the same --preset"
        )
