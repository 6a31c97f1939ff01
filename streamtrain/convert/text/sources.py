"""Paths, patterns and folders → the files that they name, in order."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path

from streamtrain.convert.text.text_file import STDIN, physical_path
from streamtrain.errors import DataError, UsageError
from streamtrain.storage.names import given_path

_CSV_NAME = re.compile(
    r"(part-[\w-]+|[^.].*\.(csv|tsv|txt|data|dat|tra|tes))(\.(gz|bz2|xz|zst|zip))?",  # part-00000 is Spark's
    re.IGNORECASE,
)
_WEB = re.compile(r"(https?|ftp)://", re.IGNORECASE)


def find_sources(sources: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Return the files that paths, glob patterns and folders name, in the order given; those of a pattern sorted.

    `-` is standard input, `archive.zip:member.csv` a member of an archive; a folder stands for its CSV-like files.
    Raises DataError for a file that does not exist.
    """
    found: list[Path] = []
    for source in (os.fspath(given) for given in sources):
        given_path(source, "source")
        if _WEB.match(source):
            raise DataError(f"{source} is a web address. Download the file first, and name that: curl -LO")
        paths = [Path(source)]
        if source != "-" and not paths[0].exists() and glob.has_magic(source):
            paths = [Path(match) for match in sorted(glob.glob(source))]
        if not paths:
            raise DataError(f"{source}: no file matches. Check the pattern and the folder")
        for path in paths:
            file = physical_path(path)
            if file and not file.exists():
                raise DataError(f"{path}: there is no such file. Check the name and the folder")
            found += _files_of(path) if path.is_dir() else [path]
    if found.count(STDIN) > 1:
        raise UsageError("standard input can be read only once. Name - once")
    return found


def find_labels_file(labels: str | os.PathLike[str], label: str | int | None, sources: Sequence[Path]) -> Path:
    """Return the file that `labels` names. Raises UsageError if `label` names a column too."""
    if label not in (None, "none"):
        raise UsageError(
            f"`labels` is {labels} and `label` is {label}: labels are in a file or in a column. Pass one",
            option="labels",
        )
    path, *more = find_sources([labels])
    if more:
        raise UsageError(
            f"`labels` {labels} names {len(more) + 1} files. Name one of them, such as {path}", option="labels"
        )
    if path in sources:
        raise UsageError(f"{path} is a source and also the file of its labels. Name two files", option="labels")
    return path


def _files_of(folder: Path) -> list[Path]:
    files = sorted(f for f in folder.iterdir() if f.is_file() and _CSV_NAME.fullmatch(f.name))
    if not files:
        raise DataError(f"{folder} is a folder without CSV files (.csv, .tsv, .txt, .data, …). Name its files")
    return files
