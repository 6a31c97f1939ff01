"""Permissions of new files: only who can read the sources can read the result. No link is written through."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, cast

_OWNER, _OTHERS = 0o600, 0o066


def common_mode(paths: Iterable[Path]) -> int:
    """Return the permissions that all of some files and folders give; the owner may always read and write.

    If a file has another group than what this process makes, its group's permissions are not carried over: what
    is written would give them to other people.
    """
    mode = _OTHERS
    for path in filter(Path.exists, paths):
        facts = path.stat()
        same_group = facts.st_gid == os.getegid()
        mode &= facts.st_mode if same_group else facts.st_mode & ~0o070 | (facts.st_mode & 0o007) << 3
    return _OWNER | mode


def opened(path: Path, how: str, *, mode: int | None = None) -> BinaryIO:
    """Open a file to write bytes, with permissions up to `mode`, by default up to those of its folder.

    Raises OSError if a link has that name: its target is not the file that was meant.
    """
    limit = path.parent.stat().st_mode if mode is None else mode

    def without_link(name: str, flags: int) -> int:
        # NONBLOCK: a pipe of that name would wait for its reader.
        return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, limit & 0o666)

    return cast(BinaryIO, io.open(path, how, opener=without_link))  # noqa: UP020  # tests count writes there


def make_folder(path: Path, *, mode: int | None = None) -> None:
    """Make a folder for those to enter who may read by `mode`, by default that of the folder that it lies in."""
    limit = path.parent.stat().st_mode if mode is None else mode
    path.mkdir(mode=0o700 | limit & _OTHERS | (limit & 0o044) >> 2)
