"""Functions that several tests use."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import xxhash

_MEASURED = {"seconds", "eval_seconds", "rows_per_second", "peak_rss_mb", "wait_share"}


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of each file in a folder, by its path there."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def source_digest(data: bytes) -> str:
    """Return the digest that a manifest has of a source: that of the digests of its 16 MiB blocks."""
    blocks = [xxhash.xxh3_128_digest(data[start : start + (16 << 20)]) for start in range(0, len(data), 16 << 20)]
    return f"xxh3_128/16MiB:{xxhash.xxh3_128_hexdigest(b''.join(blocks))}"


def without_times(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Remove measured values from lines of metrics, so that two runs can be compared."""
    return [{key: value for key, value in line.items() if key not in _MEASURED} for line in lines]


@contextlib.contextmanager
def row_groups_of(pixel_bytes: int) -> Iterator[None]:
    """Context manager: shards are written in row groups of at most `pixel_bytes`, instead of 1 MiB."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streamtrain.shards.writer.GROUP_BYTES", pixel_bytes)
        yield
