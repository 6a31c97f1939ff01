"""Digests, xxh3_128, of bytes, files and JSON values; against faults, not against forgers.

That of a source is made of those of its 16 MiB blocks, which can be read in any order and place.
"""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import xxhash

BLOCK_BYTES = 16 << 20
_KIND = "xxh3_128/16MiB:"


def digest_bytes(data: bytes | memoryview) -> str:
    """Return `xxh3_128:` and the digest of bytes."""
    return f"xxh3_128:{xxhash.xxh3_128_hexdigest(data)}"


def digest_of_file(path: Path) -> str:
    """Return `xxh3_128:` and the digest of a file's bytes, read a buffer at a time. Raises OSError."""
    with path.open("rb", buffering=0) as file:
        return f"xxh3_128:{hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()}"


def digest_of_json(body: dict[str, Any]) -> str:
    """Return `xxh3_128:` and the digest of the canonical JSON text: sorted keys, no spaces."""
    return digest_bytes(json.dumps(body, sort_keys=True, separators=(",", ":")).encode())


class SourceDigest:
    """The digest of bytes that come in their order; `value` is the xxh3_128 of the xxh3_128 of each block."""

    def __init__(self) -> None:
        self.bytes = 0
        self._blocks, self._block = xxhash.xxh3_128(), xxhash.xxh3_128()

    def update(self, data: bytes | memoryview) -> None:
        """Add the next bytes."""
        view = memoryview(data)
        while len(view):
            part = view[: BLOCK_BYTES - self.bytes % BLOCK_BYTES]
            self._block.update(part)
            self.bytes += len(part)
            view = view[len(part) :]
            if self.bytes % BLOCK_BYTES == 0:
                self._blocks.update(self._block.digest())
                self._block.reset()

    def value(self) -> str:
        """Return `xxh3_128/16MiB:` and the digest of what has been added."""
        blocks = self._blocks.copy()
        if self.bytes % BLOCK_BYTES:
            blocks.update(self._block.digest())
        return f"{_KIND}{blocks.hexdigest()}"


def digest_of_source(path: Path, like: str = _KIND) -> str:
    """Return the digest of a file, read a buffer at a time. Raises OSError.

    like: a digest of the kind that is wanted; manifests of version 1 have plain ones, `xxh3_128:`
    """
    if not like.startswith(_KIND):
        return digest_of_file(path)
    with path.open("rb", buffering=0) as file:
        return digest_of_stream(file)


def digest_of_stream(file: io.RawIOBase) -> str:
    """Return the digest of a source from where it is to its end."""
    digest, buffer = SourceDigest(), bytearray(256 << 10)
    while size := file.readinto(buffer):
        digest.update(memoryview(buffer)[:size])
    return digest.value()
