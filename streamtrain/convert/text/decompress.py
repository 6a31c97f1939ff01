"""Compressed streams (gz, bz2, xz, zst) of one or more members → their text."""

from __future__ import annotations

import bz2
import io
import lzma
import sys
import zipfile
import zlib
from collections.abc import Callable
from typing import Any, Protocol

from isal import igzip_lib

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_READ_BYTES = 256 << 10


class Decompressor(Protocol):
    """The interface that bz2, lzma, zstd and igzip_lib share."""

    @property
    def eof(self) -> bool:
        """Whether the member has ended."""

    @property
    def needs_input(self) -> bool:
        """Whether there is no more text without more data."""

    @property
    def unused_data(self) -> bytes:
        """The bytes behind the end of the member."""

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """Return at most `max_length` bytes of text; what `data` has beyond them is kept for the next call."""


def _gz() -> Decompressor:
    decompressor: Decompressor = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    return decompressor


# First bytes of a stream → its name, and a function that makes the decompressor of one member.
FORMATS: dict[bytes, tuple[str, Callable[[], Decompressor]]] = {
    b"\x1f\x8b": ("gzip", _gz),
    b"BZh": ("bzip2", bz2.BZ2Decompressor),
    b"\xfd7zXZ\0": ("xz", lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ)),
    b"\x28\xb5\x2f\xfd": ("zstd", zstd.ZstdDecompressor),
    b"\x50\x2a\x4d\x18": ("zstd", zstd.ZstdDecompressor),  # as pzstd begins
}
# Errors that a damaged stream or zip raises.
DECOMPRESS_ERRORS = (
    EOFError,
    OSError,
    lzma.LZMAError,
    zstd.ZstdError,
    zlib.error,
    zipfile.BadZipFile,
    igzip_lib.IsalError,
)


class MultiMemberStream(io.RawIOBase):
    """The text of a compressed stream of one or more members. Reading raises EOFError if the last is cut off.

    After a member comes another one, or zero bytes, which tapes and xz use as padding.
    """

    def __init__(self, raw: io.BufferedReader[Any], make: Callable[[], Decompressor]) -> None:
        self._raw, self._make, self._member = raw, make, make()

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # any writable buffer
        """Fill the start of `buffer` with text; return how many bytes, 0 at the end."""
        text = b""
        while not text:
            data = b""
            if self._member.eof:
                data = self._next_member()
                if not data:
                    return 0
            elif self._member.needs_input:
                data = self._raw.read1(_READ_BYTES)
                if not data:
                    raise EOFError("it ends in the middle")
            text = self._member.decompress(data, len(buffer))
        buffer[: len(text)] = text
        return len(text)

    def _next_member(self) -> bytes:
        """Return the first bytes of the next member and make its decompressor; return nothing at the end."""
        data = self._member.unused_data.lstrip(b"\0")
        while not data and (more := self._raw.read1(_READ_BYTES)):
            data = more.lstrip(b"\0")
        if data:
            self._member = self._make()
        return data
