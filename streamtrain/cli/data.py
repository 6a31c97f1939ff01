"""What a command is given as DATA: shards, or a CSV that becomes shards beside it first."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from pathlib import Path

from streamtrain.cli import say
from streamtrain.errors import DataError
from streamtrain.import_path import python_command
from streamtrain.shards.manifest import Manifest, Source, digest_of_file
from streamtrain.stream.dataset import Shards, open_shards


def open_data(path: str, *, quiet: bool, workers: int) -> Shards:
    """Open shards; of a CSV, those in CSV.shards, which are made where they are not there.

    Raises DataError where the CSV changed since they were made.
    """
    source = Path(path)
    if source.is_dir() or not source.exists():
        return open_shards(source, workers=workers)
    folder = source.with_name(f"{source.name}.shards")
    if not folder.exists():
        _convert_apart(source, folder, quiet=quiet, workers=workers)
    elif changed(source, Manifest.load(folder).sources):
        raise DataError(
            f"{path} changed since {folder} was made of it. Convert it again: "
            + shlex.join(["streamtrain", "convert", path, str(folder), "--overwrite"])
        )
    return open_shards(folder, workers=workers)


def read_for(path: str | None) -> list[Path]:
    """The files and folders that a command reads if it is given this as its data: of a CSV its shards too."""
    return [Path(path), Path(f"{path}.shards")] if path else []


def _convert_apart(source: Path, folder: Path, *, quiet: bool, workers: int) -> None:
    """Convert in a process of its own, which gives back at its end the memory that training does not need.

    One that was cut off before goes on; after a signal what is finished stays.
    """
    words = ["convert", str(source), str(folder), "--resume"]
    say(f"{source} is converted first: streamtrain {shlex.join(words)}")
    options = ["--workers", str(workers), *(["-q"] if quiet else [])]
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        command, environment = python_command("from streamtrain.__main__ import main; main()")
        with subprocess.Popen([*command, *words, *options], env=environment, stdout=sys.stderr) as process:
            try:
                code = process.wait()
            except (KeyboardInterrupt, SystemExit) as stop:
                process.terminate()
                process.wait()
                code = 143 if isinstance(stop, SystemExit) else 130
    finally:
        signal.signal(signal.SIGTERM, before)
    if code in (130, 143):
        say("The same command goes on with what is converted.")
    if code:
        raise SystemExit(code)


def is_transposed(shards: Shards) -> bool:
    """Whether the source had its images column by column, from which `convert` set them upright."""
    return bool(shards.manifest.parse.get("transposed"))


def warn_if_orientation_differs(path: str, is_turned: bool, learned_turned: bool) -> None:
    """Warn of images that may lie on their side beside those that were learned, which nothing else would show."""
    if learned_turned and not is_turned:
        say(
            f"warning: the rows that were learned had their images column by column, {path} is read row by row. "
            "Where it has them so too, say --preset, as for them"
        )


def changed(path: Path, sources: tuple[Source, ...]) -> bool:
    """Whether a file is another than the one source that shards were made of, or that of its labels changed."""
    rows, *others = sources
    labels = [source for source in others if not source.lines and Path(source.path).is_file()]
    several = any(source.lines for source in others)
    return several or _differs(path, rows) or any(_differs(Path(source.path), source) for source in labels)


def _differs(path: Path, source: Source) -> bool:
    """Whether a file is another than it was; its digest decides in doubt."""
    if path.stat().st_size != source.size:
        return True
    return path.stat().st_mtime_ns != source.mtime_ns and digest_of_file(path) != source.digest
