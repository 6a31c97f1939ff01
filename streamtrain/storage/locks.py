"""Locks that keep two processes from writing to one place."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from streamtrain.errors import RunError, UsageError
from streamtrain.storage.names import hidden_sibling

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)


def lock_folder(folder: Path, *, action: str = "written") -> contextlib.AbstractContextManager[None]:
    """Context manager: the lock of the process that writes to a folder, whatever path or link it is named by.

    action: what the other process does with the folder, for the message
    Raises UsageError if another process has the lock.
    """
    busy = f"{folder} is being {action} by another process. Wait for it, or choose another name"
    return lock_file(hidden_sibling(folder, "lock"), busy=busy)


@contextlib.contextmanager
def lock_file(path: Path, *, busy: str = "", wait: Callable[[], object] | None = None) -> Iterator[None]:
    """Context manager: an empty file at `path` that is locked, and removed at the end.

    wait: called once if another process has the lock, which is then waited for
    Raises UsageError(busy) if another process has the lock and there is no `wait`, UsageError if something else
    lies there, and RunError if the file system gives no locks.
    """
    from filelock import FileLock, Timeout  # 40 ms, which only writing has to pay

    path.parent.mkdir(parents=True, exist_ok=True)
    _check_is_lock(path)
    lock = FileLock(path, timeout=0, mode=0o600, thread_local=False, fallback_to_soft=False)
    while not lock.is_locked:
        try:
            lock.acquire()
        except Timeout as error:
            if not path.exists():  # its holder removed it between our two system calls
                continue
            if wait is None:
                raise UsageError(busy) from error
            wait()
            wait = _sleep
        except OSError as error:
            if error.errno in _NO_LOCKS:
                raise _no_locks(path, error) from error
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


def is_unlocked(descriptor: int) -> bool:
    """Lock an open file if no other process has; return False if one has, or if the system gives no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _sleep() -> None:
    time.sleep(0.1)


def _no_locks(path: Path, error: OSError) -> RunError:
    with contextlib.suppress(OSError):
        path.unlink()  # which was made to be locked, and is empty
    return RunError(
        f"{path.parent} is on a file system that gives no locks ({error.strerror}), and without one two processes "
        "could write to one place. Write to a local disk, or mount this one with locks",
        path=path,
    )


def _check_is_lock(path: Path) -> None:
    """Raise UsageError if what lies at `path` is more than a lock: it would be lost with it."""
    if os.path.lexists(path):
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_size:
            raise UsageError(f"{path} is in the way and is not a lock of streamtrain. Move it elsewhere")
