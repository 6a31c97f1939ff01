"""The file or the object that a source lies in, and the state that it is in."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from streamtrain.storage.objects import Location, ObjectPath

STDIN = Path("-")
_REMOTE_MEMBER = re.compile(r"(.*\.zip):(.+)", re.IGNORECASE | re.DOTALL)


def physical_path(path: Location) -> Location | None:
    """Return the file or object that a source lies in, as a.zip for a.zip:member.csv; None for standard input."""
    if path == STDIN:
        return None
    if isinstance(path, ObjectPath):
        member = _REMOTE_MEMBER.fullmatch(path.key)
        return ObjectPath(path.root, member[1]) if member else path
    archive, colon, _ = str(path).rpartition(":")
    return Path(archive) if colon and not path.exists() and Path(archive).is_file() else path


@dataclass(frozen=True)
class Version:
    """The state of a file or an object: another one has other bytes.

    identity: its inode, or the store's tag for its content
    """

    size: int
    mtime_ns: int
    identity: int | str | None

    @classmethod
    def of(cls, file: Location | int) -> Version:
        """Return the state of a file, by its path or descriptor, or of an object, as it is now."""
        if isinstance(file, ObjectPath):
            facts = file.stat()
            return cls(facts.size, facts.mtime_ns, facts.e_tag)
        status = os.fstat(file) if isinstance(file, int) else file.stat()
        return cls(status.st_size, status.st_mtime_ns, status.st_ino)


def size_of(path: Location) -> int:
    """Return the size of the file or object that holds a source, for progress; 0 for standard input."""
    file = physical_path(path)
    return Version.of(file).size if file else 0
