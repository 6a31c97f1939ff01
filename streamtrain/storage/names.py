"""Names next to a file or folder, the same by whatever path or link it is named."""

from __future__ import annotations

import os
from pathlib import Path


def real_path(path: Path) -> Path:
    """Return where a path leads, links followed; for a circle of links one of them (`Path.resolve` raises)."""
    return Path(os.path.realpath(path))


def hidden_sibling(path: Path, suffix: str) -> Path:
    """Return the hidden name .NAME.suffix next to a file or folder, wherever links lead."""
    place = real_path(path)
    return place.parent / f".{place.name}.{suffix}"
