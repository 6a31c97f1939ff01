"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO

from streamtrain.errors import UsageError

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


def write_file(path: Path, data: bytes | memoryview) -> None:
    """Publish a file whole."""
    with publishing(path) as file:
        file.write(data)


@contextlib.contextmanager
def publishing(path: Path) -> Iterator[BinaryIO]:
    """A file for a `with`, published whole at its end: written beside its place, synced, then renamed onto it."""
    written = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with written.open("wb") as file:
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


def publish_folder(staging: Path, destination: Path) -> None:
    """Move a finished folder to its place, an earlier one there being replaced in one step.

    Where the system can exchange two names (Linux renameat2), there is no moment without a folder at
    `destination`; elsewhere the earlier one is first moved aside. A link stays one: what it leads to is replaced.
    """
    destination = _real(destination)
    sync_folder(staging)
    if destination.exists():
        old = staging
        if not _exchange(staging, destination):
            old = beside(destination, f"{uuid.uuid4().hex[:8]}.old")
            destination.rename(old)
            staging.rename(destination)
        sync_folder(destination.parent)
        shutil.rmtree(old)
    else:
        staging.rename(destination)
    sync_folder(destination.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names atomically; False where the system or file system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:  # a C library older than glibc 2.28
        return False
    arguments = (_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    return bool(renameat2(*arguments) == 0)


def refuse_existing(destination: Path, *, overwrite: bool) -> None:
    """Raise UsageError where what stands at `destination` may not be replaced, or its name is no text."""
    if str(destination) != os.fsencode(destination).decode(errors="replace"):
        raise UsageError(f"{str(destination)!a} is no name in UTF-8, which shards and runs need. Choose another")
    if _real(destination).is_symlink():
        raise UsageError(f"{destination} is a link that leads back to itself. Choose another name")
    if destination.exists() and not overwrite:
        raise UsageError(f"{destination} exists already. Choose another name, or replace it: --overwrite")
    if destination.exists() and not destination.is_dir():
        raise UsageError(f"{destination} is a file; a folder would go there. Choose another name")
    if destination.exists() and Path.cwd().is_relative_to(_real(destination)):
        raise UsageError(f"{destination} holds the current folder, which cannot be replaced. Choose another name")


def refuse_existing_file(path: Path, *, overwrite: bool) -> None:
    """Raise UsageError where a file stands at `path` that may not be replaced, or a folder, which never may."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder; a file would go there. Choose another name")
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists already. Choose another name, or replace it: --overwrite")


@contextlib.contextmanager
def exclusive(path: Path, *, busy: str) -> Iterator[None]:
    """Hold a lock file for the length of a `with`; a second holder gets UsageError(busy) at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        file = path.open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            raise UsageError(busy) from error
        if _is_at(file, path):
            break
        file.close()  # its holder took the name away between our two calls: that lock keeps nobody out
    with file:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _is_at(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def beside(folder: Path, what: str) -> Path:
    """The hidden name .NAME.what beside a folder, the same one by whatever path or link the folder is named."""
    real = _real(folder)
    return real.parent / f".{real.name}.{what}"


def _real(path: Path) -> Path:
    """Where a path leads, links followed; of links in a circle one of them, where `Path.resolve` raises."""
    return Path(os.path.realpath(path))


def staging_of(destination: Path) -> Path:
    """The folder beside `destination` that a command fills before it is published there."""
    return beside(destination, "unfinished")


def filling(destination: Path, *, being: str = "written") -> contextlib.AbstractContextManager[None]:
    """The lock of whoever fills a folder, for a `with`; UsageError where another process has it."""
    busy = f"{destination} is being {being} by another process. Wait for it, or choose another name"
    return exclusive(beside(destination, "lock"), busy=busy)


@contextlib.contextmanager
def published(destination: Path, *, overwrite: bool) -> Iterator[Path]:
    """An empty folder that takes its place at `destination` when the `with` ends well, and goes when it does not.

    What a killed process left of one is removed first. Raises UsageError where something stands at
    `destination` that may not be replaced, or where another process is filling it.
    """
    refuse_existing(destination, overwrite=overwrite)
    with filling(destination):
        staging = staging_of(destination)
        shutil.rmtree(staging, ignore_errors=True)
        try:
            staging.mkdir()
            yield staging
            publish_folder(staging, destination)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
