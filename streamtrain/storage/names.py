"""Names next to a file or folder, the same by whatever path or link it is named."""

from __future__ import annotations

import os
from pathlib import Path

from streamtrain.errors import UsageError


def given_path(path: str | os.PathLike[str], name: str) -> Path:
    """Return a path that a user gave as the parameter `name`.

    Raises UsageError if it is empty, which Path takes for the current folder, or holds a NUL.
    """
    text = os.fspath(path)
    if not text or "\0" in text:
        raise UsageError(f"{name} is {text!r}, which names no file or folder. Give its path", option=name)
    return Path(text)


def real_path(path: Path) -> Path:
    """Return where a path leads, links followed; for a circle of links one of them (`Path.resolve` raises)."""
    return Path(os.path.realpath(path))


def hidden_sibling(path: Path, suffix: str) -> Path:
    """Return the hidden name .NAME.suffix next to a file or folder, wherever links lead."""
    place = real_path(path)
    return place.parent / f".{place.name}.{suffix}"
