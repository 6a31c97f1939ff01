"""Locks that keep two processes from writing to one place."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from streamtrain.errors import UsageError
from streamtrain.storage.names import hidden_sibling


def lock_folder(folder: Path, *, action: str = "written") -> contextlib.AbstractContextManager[None]:
    """Context manager: the lock of the process that writes to a folder, whatever path or link it is named by.

    action: what the other process does with the folder, for the message
    Raises UsageError if another process has the lock.
    """
    busy = f"{folder} is being {action} by another process. Wait for it, or choose another name"
    return lock_file(hidden_sibling(folder, "lock"), busy=busy)


@contextlib.contextmanager
def lock_file(path: Path, *, busy: str) -> Iterator[None]:
    """Context manager: an empty file at `path` that is locked, and removed at the end.

    Raises UsageError(busy) if another process has the lock, UsageError if something else lies there, and OSError
    if the system gives no lock.
    """
    from filelock import FileLock, Timeout  # 40 ms, which only writing has to pay

    path.parent.mkdir(parents=True, exist_ok=True)
    _check_is_lock(path)
    lock = FileLock(path, timeout=0, mode=0o600, thread_local=False, fallback_to_soft=False)
    while not lock.is_locked:
        try:
            lock.acquire()
        except Timeout as error:
            if path.exists():  # otherwise its holder removed it between our two system calls
                raise UsageError(busy) from error
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error
    held = path.lstat()
    try:
        yield
    finally:
        # Removed while it is locked: a process that has opened it then finds it without a name, and tries again.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(held, path.lstat()):
                path.unlink()
        lock.release()


def _check_is_lock(path: Path) -> None:
    """Raise UsageError if what lies at `path` is more than a lock: it would be lost with it."""
    if os.path.lexists(path):
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_size:
            raise UsageError(f"{path} is in the way and is not a lock of streamtrain. Move it elsewhere")
