"""Whose files are loaded as machine code: this user's own and root's, in folders that only they can write to."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # NONBLOCK: to open a pipe would wait


def read_trusted(path: Path) -> bytes:
    """Return what is in a file. Raise OSError if it, or its folder, is a link or can be written by another user.

    Both are opened before they are judged, so what was judged is what is read, whatever their names come to mean.
    """
    with _opened(path.parent, _FOLDER) as folder, _opened(Path(path.name), _FILE, inside=folder) as file:
        _refuse_others(folder, path.parent)
        _refuse_others(file, path)
        with os.fdopen(os.dup(file), "rb") as whole:
            return whole.read()


def trusted_folder(folder: Path) -> bool:
    """Make a folder if there is none; return whether nobody but this user and root can write to it."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o755)
        with _opened(folder, _FOLDER) as descriptor:
            _refuse_others(descriptor, folder)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _opened(path: Path, flags: int, *, inside: int | None = None) -> Iterator[int]:
    descriptor = os.open(path, flags, dir_fd=inside)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _refuse_others(descriptor: int, path: Path) -> None:
    facts = os.fstat(descriptor)
    shared = facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if shared or facts.st_uid not in (0, os.geteuid()) or stat.S_ISFIFO(facts.st_mode):
        raise PermissionError(f"{path} belongs to another user or can be written by one")
