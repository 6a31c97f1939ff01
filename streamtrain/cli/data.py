"""What a command is given as DATA: shards, or a CSV that becomes shards beside it first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from streamtrain.cli import say
from streamtrain.errors import DataError
from streamtrain.shards.manifest import Manifest, Source, digest_of_file
from streamtrain.stream.store import Shards, open_shards


def open_data(path: str, *, quiet: bool, workers: int) -> Shards:
    """Open shards; of a CSV, those in CSV.shards, which are made where they are not there.

    Raises DataError where the CSV changed since they were made.
    """
    source = Path(path)
    if source.is_dir() or not source.exists():
        return open_shards(source, workers=workers)
    folder = source.with_name(f"{source.name}.shards")
    if not folder.exists():
        say(f"{path} is converted to {folder} first")
        _convert_apart(source, folder, quiet=quiet, workers=workers)
    elif changed(source, Manifest.load(folder).sources):
        raise DataError(
            f"{path} changed since {folder} was made of it. Convert it again: "
            f"streamtrain convert {path} {folder} --overwrite"
        )
    return open_shards(folder, workers=workers)


def _convert_apart(source: Path, folder: Path, *, quiet: bool, workers: int) -> None:
    """Convert in a process of its own, which gives back at its end the memory that training does not need."""
    options = ["--workers", str(workers), *(["-q"] if quiet else [])]
    command = [sys.executable, "-m", "streamtrain", "convert", str(source), str(folder), *options]
    code = subprocess.run(command, stdout=sys.stderr, check=False).returncode
    if code:
        raise SystemExit(code)


def changed(path: Path, sources: tuple[Source, ...]) -> bool:
    """Whether a file is another than the one source that shards were made of; its digest decides in doubt."""
    if len(sources) != 1 or path.stat().st_size != sources[0].size:
        return True
    if path.stat().st_mtime_ns == sources[0].mtime_ns:
        return False
    return digest_of_file(path) != sources[0].digest
