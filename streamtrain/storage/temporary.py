"""A folder for what a command needs only while it runs; one that a killed process left is removed by the next."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from streamtrain.storage.locks import is_unlocked

_PREFIX = "streamtrain-"
_LOCK = "streamtrain.lock"  # in the folder; locked as long as its process lives


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Context manager: an empty folder where the system keeps temporary files, which is removed at the end."""
    _remove_abandoned(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as name, (Path(name) / _LOCK).open("xb") as lock:
        is_unlocked(lock.fileno())
        content = Path(name, "content")
        content.mkdir()
        yield content


def _remove_abandoned(place: Path) -> None:
    """Remove the temporary folders of this user's processes that are gone."""
    for lock in place.glob(f"{_PREFIX}*/{_LOCK}"):
        with contextlib.suppress(OSError):
            descriptor = os.open(lock, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                mine = os.fstat(descriptor).st_uid == os.geteuid() and not lock.parent.is_symlink()
                if mine and is_unlocked(descriptor):
                    shutil.rmtree(lock.parent)
            finally:
                os.close(descriptor)
