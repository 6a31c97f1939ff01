"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from streamtrain.storage.locks import is_unlocked
from streamtrain.storage.names import hidden_sibling
from streamtrain.storage.permissions import opened
from streamtrain.text import megabytes

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class TooLittleSpaceError(OSError):
    """Raised before a disk is full, if what is still to be written cannot fit on it."""


def check_space(folder: Path, needed_bytes: float) -> None:
    """Raise TooLittleSpaceError if the disk of a folder has not half of what is estimated to be needed."""
    free = shutil.disk_usage(folder).free
    if needed_bytes > 2 * free:
        what = f"about {megabytes(needed_bytes)} more are needed, but the disk has {megabytes(free)} free"
        raise TooLittleSpaceError(errno.ENOSPC, what, str(folder))


def disk_is_full(error: OSError) -> bool:
    """Return whether an error says that the disk is full or a quota is used up."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def write_file(path: Path, data: bytes | memoryview, *, mode: int | None = None) -> None:
    """Publish a file whole, with permissions up to `mode`, by default up to those of its folder."""
    with atomic_write(path, mode=mode) as file:
        file.write(data)


@contextlib.contextmanager
def atomic_write(path: Path, *, mode: int | None = None) -> Iterator[BinaryIO]:
    """Context manager: a file to write, which is synced and renamed to `path` when the block ends well.

    mode: the permissions that it may have at most, by default those of its folder
    Until then `path` is as it was; if the block raises, it stays so. An OSError names `path`.
    """
    _remove_leftovers(path)
    written = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
    try:
        with opened(written, "xb", mode=mode) as file:
            is_unlocked(file.fileno())  # for `_remove_leftovers` of other processes
            yield file
            file.flush()
            os.fsync(file.fileno())
        written.replace(path)
    except BaseException as error:
        written.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # a write does not say where
            error.filename = str(path)
        raise
    sync_folder(path.parent)


def _remove_leftovers(path: Path) -> None:
    """Remove the temporary files for `path` that killed processes left: those that none has locked."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.tmp")
    for name in filter(pattern.fullmatch, os.listdir(path.parent)):  # noqa: PTH208  # names, as text
        with contextlib.suppress(OSError):
            descriptor = os.open(path.with_name(name), os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                if stat.S_ISREG(os.fstat(descriptor).st_mode) and is_unlocked(descriptor):
                    path.with_name(name).unlink()
            finally:
                os.close(descriptor)


def replace_folder(staging: Path, place: Path) -> Path | None:
    """Move a finished folder to its place. Return where the folder that stood there is now, if there was one.

    place: not a link; see `real_path`
    If the system can exchange two names (Linux renameat2), there is no moment without a folder at `place`;
    otherwise the earlier one is moved aside first.
    """
    sync_folder(staging)
    earlier = None
    if not place.exists():
        staging.rename(place)
    elif _exchange(staging, place):
        earlier = staging
    else:
        earlier = hidden_sibling(place, f"{os.urandom(4).hex()}.old")
        place.rename(earlier)
        staging.rename(place)
    sync_folder(place.parent)
    return earlier


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names atomically; return False if the system or the file system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:  # a C library older than glibc 2.28
        return False
    arguments = (_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    while renameat2(*arguments):
        if ctypes.get_errno() != errno.EINTR:
            return False
    return True
