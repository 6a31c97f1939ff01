"""Where shards lie below a place that a user names: in it, or in the parts of a split below it."""

from __future__ import annotations

import shlex
from pathlib import Path

from streamtrain.errors import DataError
from streamtrain.storage.objects import Location, ObjectPath, is_one_file
from streamtrain.storage.ownership import MANIFEST


def split_folders(folder: Location) -> list[Location]:
    """Return the folder itself if a manifest lies in it, the parts of a split below it otherwise.

    Raises DataError if there is no manifest in either.
    """
    parts = [folder] if (folder / MANIFEST).exists() else _parts_of(folder)
    if not parts:
        raise DataError(what_is_missing(folder), path=folder)
    return parts


def what_is_missing(folder: Location) -> str:
    """Return the message for a folder without a manifest."""
    command = f"streamtrain convert CSV {shlex.quote(str(folder))}"
    if isinstance(folder, ObjectPath):
        command = "streamtrain convert CSV FOLDER, then copy FOLDER there"
    if is_one_file(folder):
        command = shlex.join(["streamtrain", "convert", str(folder), f"{folder}.shards"])
        return f"{folder} is a file, not a folder of shards. Convert it first: {command}"
    if isinstance(folder, Path) and not folder.exists():
        return f"{folder}: there is no such folder. Make it: {command}"
    if parts := [part.name for part in _parts_of(folder)]:
        return f"{folder} has parts: {', '.join(parts)[:100]}. Name one: {folder / parts[0]}"
    return (
        f"{folder}: no {MANIFEST}, so it holds no shards, or their conversion is unfinished. Make them: {command}"
    )


def _parts_of(folder: Location) -> list[Location]:
    """Return the folders right below it that hold shards, sorted."""
    if isinstance(folder, Path):
        return [*sorted(path.parent for path in folder.glob(f"[!.]*/{MANIFEST}"))]
    parts = [folder / name for name in folder.names() if name.endswith("/") and not name.startswith(".")]
    return [part for part in parts if (part / MANIFEST).exists()]
