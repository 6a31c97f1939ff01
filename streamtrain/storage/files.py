"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import stat
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from streamtrain.errors import UsageError
from streamtrain.storage.permissions import opened

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def disk_is_full(error: OSError) -> bool:
    """Whether that is what an error says, or that a quota is used up."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def write_file(path: Path, data: bytes | memoryview, *, mode: int | None = None) -> None:
    """Publish a file whole, with permissions up to `mode`, else up to those of its folder."""
    with publishing(path, mode=mode) as file:
        file.write(data)


@contextlib.contextmanager
def publishing(path: Path, *, mode: int | None = None) -> Iterator[BinaryIO]:
    """A file for a `with`, published whole at its end: written beside its place, synced, then renamed onto it."""
    written = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with opened(written, "xb", mode=mode) as file:
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


def exchange(one: Path, other: Path) -> bool:
    """Swap two names atomically; False where the system or file system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:  # a C library older than glibc 2.28
        return False
    arguments = (_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    return bool(renameat2(*arguments) == 0)


@contextlib.contextmanager
def exclusive(path: Path, *, busy: str) -> Iterator[None]:
    """Hold a lock file for the length of a `with`; a second holder gets UsageError(busy) at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while not _is_at(file := _locked(path, busy), path):
        file.close()  # its holder took the name away between our two calls: that lock keeps nobody out
    with file:
        try:
            yield
        finally:
            if _is_at(file, path):
                path.unlink()


def _locked(path: Path, busy: str) -> BinaryIO:
    """Open a lock file and hold its lock. Raise UsageError if another process has it, or it is not a lock."""
    no_lock = UsageError(f"{path} is in the way and is not a lock of streamtrain. Move it elsewhere")
    try:
        file = opened(path, "ab", mode=0o600)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):  # a link, a pipe, a folder
            raise no_lock from error
        raise
    try:
        facts = os.fstat(file.fileno())
        if facts.st_size or not stat.S_ISREG(facts.st_mode):  # it would be lost when the lock is given up
            raise no_lock
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise UsageError(busy) from error
        raise OSError(error.errno, error.strerror, str(path)) from error
    except UsageError:
        file.close()
        raise
    return file


def _is_at(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except FileNotFoundError:
        return False


def beside(folder: Path, what: str) -> Path:
    """The hidden name .NAME.what beside a folder, the same one by whatever path or link the folder is named."""
    place = real(folder)
    return place.parent / f".{place.name}.{what}"


def real(path: Path) -> Path:
    """Where a path leads, links followed; of links in a circle one of them, where `Path.resolve` raises."""
    return Path(os.path.realpath(path))


def filling(destination: Path, *, being: str = "written") -> contextlib.AbstractContextManager[None]:
    """The lock of whoever fills a folder, for a `with`; UsageError where another process has it."""
    busy = f"{destination} is being {being} by another process. Wait for it, or choose another name"
    return exclusive(beside(destination, "lock"), busy=busy)
