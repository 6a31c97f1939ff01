"""Paths, patterns and folders → the files that they name, in order."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path

from streamtrain.convert.text.physical_file import STDIN, physical_path
from streamtrain.errors import DataError, UsageError
from streamtrain.storage.objects import Location, NoSuchObjectError, ObjectPath, given_place

_CSV_NAME = re.compile(
    r"(part-[\w-]+|[^.].*\.(csv|tsv|txt|data|dat|tra|tes))(\.(gz|bz2|xz|zst|zip))?",  # part-00000 is Spark's
    re.IGNORECASE,
)
_FTP = re.compile(r"ftps?://", re.IGNORECASE)


def find_sources(sources: Sequence[str | os.PathLike[str] | ObjectPath]) -> list[Location]:
    """Return the files that paths, glob patterns and folders name, in the order given; those of a pattern sorted.

    `-` is standard input, `archive.zip:member.csv` a member of an archive; a folder stands for its CSV-like files.
    Each may be in a store, as s3://bucket/train.csv, where a folder ends with a slash.
    Raises DataError for a file that does not exist.
    """
    found: list[Location] = []
    for named in sources:
        place = given_place(named, "source")
        source = str(named) if isinstance(named, ObjectPath) else os.fspath(named)
        if isinstance(place, ObjectPath):
            found += _objects(place, source)
            continue
        if _FTP.match(source):
            raise DataError(f"{source} is a web address. Download the file first, and name that: curl -LO")
        paths = [place]
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


def find_labels_file(
    labels: str | os.PathLike[str], label: str | int | None, sources: Sequence[Location]
) -> Location:
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


def _objects(place: ObjectPath, named: str) -> list[ObjectPath]:
    """Return the objects that a URL names: one, those of a pattern, or the CSV-like ones of a folder."""
    if not place.key or named.endswith("/"):
        return _objects_of(place)
    try:
        file = physical_path(place)
        assert isinstance(file, ObjectPath)
        file.stat()
    except NoSuchObjectError:
        if place.root.startswith("http"):
            raise
        if glob.has_magic(place.name):
            names = [name for name in place.parent.names() if fnmatch.fnmatchcase(name, place.name)]
            if not names:
                raise DataError(f"{place}: no object matches. Check the pattern and the bucket") from None
            return [place.parent / name for name in names if not name.endswith("/")]
        if not place.names():
            raise
        return _objects_of(place)
    return [place]


def _objects_of(folder: ObjectPath) -> list[ObjectPath]:
    if folder.root.startswith("http"):
        raise DataError(f"{folder}/: a web server has no list of its files. Name each file")
    objects = [folder / name for name in folder.names() if _CSV_NAME.fullmatch(name)]
    if not objects:
        raise DataError(f"{folder}/ has no CSV files (.csv, .tsv, .txt, .data, …). Name its files")
    return objects


def _files_of(folder: Path) -> list[Path]:
    files = sorted(f for f in folder.iterdir() if f.is_file() and _CSV_NAME.fullmatch(f.name))
    if not files:
        raise DataError(f"{folder} is a folder without CSV files (.csv, .tsv, .txt, .data, …). Name its files")
    return files
