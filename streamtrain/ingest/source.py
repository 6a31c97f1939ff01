"""Files → chunks of whole lines that know their file, their first line and their place in it."""

from __future__ import annotations

import glob
import gzip
import io
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash
from isal import igzip

from streamtrain.errors import DataError

CHUNK_BYTES = 16 << 20  # decompressed text of one shard
LONGEST_LINE = 64 << 20
_READ_BYTES = 256 << 10


@dataclass(frozen=True)
class Chunk:
    """Whole lines of one file: those that begin in one fixed range of its decompressed bytes.

    data:   the lines, each with its line end but perhaps the file's last
    path:   the file, as it was named
    offset: place of data[0] in the decompressed file
    file_line: number of the first line in the file, from 1
    line:   number of the first line over all sources, from 1
    """

    data: bytes
    path: str
    offset: int
    file_line: int
    line: int

    @property
    def lines(self) -> int:
        """Lines in it, a last one without a line end included."""
        return self.data.count(b"\n") + (not self.data.endswith(b"\n"))


@dataclass(frozen=True)
class FileFacts:
    """What was read of a file, once it was read to its end: enough to notice a change."""

    path: str
    size: int
    mtime_ns: int
    digest: str


def find_sources(sources: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """The files that paths and glob patterns name, in the order given, each pattern's sorted.

    Raises DataError for what is missing or is a folder.
    """
    found: list[Path] = []
    for source in (os.fspath(source) for source in sources):
        paths = [Path(source)]
        if not paths[0].exists() and glob.has_magic(source):
            paths = [Path(match) for match in sorted(glob.glob(source))]
        for path in paths:
            if path.is_dir():
                raise DataError(f"{path} is a folder. Name its files: '{path}/*.csv'")
            if not path.exists():
                raise DataError(f"{path}: there is no such file. Check the name and the folder")
        if not paths:
            raise DataError(f"{source}: no file matches. Check the pattern and the folder")
        found += paths
    return found


class TextFile:
    """A file's decompressed bytes, hashed as they lie on the disk; use it in a `with`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._raw = path.open("rb", buffering=0)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}. Check its permissions") from error
        self._start = os.fstat(self._raw.fileno())
        self._hashed = _Hashed(self._raw)
        magic = self._raw.read(4)
        self._raw.seek(0)
        self._text: Any = io.BufferedReader(self._hashed, _READ_BYTES)
        if magic.startswith(b"\x1f\x8b"):
            self._text = igzip.IGzipFile(fileobj=self._text)  # type: ignore[no-untyped-call]  # isal's is untyped

    def __enter__(self) -> TextFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._raw.close()

    @property
    def raw_bytes(self) -> int:
        """Bytes read from the disk so far, for progress."""
        return self._hashed.bytes

    def read(self, size: int) -> bytes:
        """Up to `size` decompressed bytes, fewer only at the end. Raises DataError for a damaged stream."""
        try:
            data: bytes = self._text.read(size)
            return data
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(
                f"{self.path} is a damaged or truncated gzip file ({error}). Copy or download it again"
            ) from error

    def facts(self) -> FileFacts:
        """What was read; call it at the end. Raises DataError where the file changed meanwhile."""
        now = self.path.stat()
        before = (self._start.st_size, self._start.st_mtime_ns, self._start.st_ino)
        if before != (now.st_size, now.st_mtime_ns, now.st_ino) or self._hashed.bytes != now.st_size:
            raise DataError(f"{self.path} changed while it was read. Let its writer finish, then convert again")
        digest = f"xxh3_128:{self._hashed.hash.hexdigest()}"
        return FileFacts(str(self.path), now.st_size, now.st_mtime_ns, digest)


class _Hashed(io.RawIOBase):
    """A raw file whose bytes are counted and hashed on their way."""

    def __init__(self, raw: io.FileIO) -> None:
        self._raw, self.hash, self.bytes = raw, xxhash.xxh3_128(), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # any writable buffer
        size = self._raw.readinto(buffer) or 0
        self.hash.update(memoryview(buffer)[:size])
        self.bytes += size
        return size


def chunks(file: TextFile, *, first_line: int, chunk_bytes: int = CHUNK_BYTES) -> Iterator[Chunk]:
    """Cut a file into chunks: chunk i holds the lines that begin in bytes [i, i + 1) × chunk_bytes.

    first_line: number of the file's first line over all sources.
    Raises DataError for a line longer than 64 MiB.
    """
    offset, file_line, line, carry = 0, 1, first_line, b""
    limit = chunk_bytes
    while True:
        wanted = limit - offset - len(carry)
        data = carry + file.read(wanted) if wanted > 0 else carry
        pieces, ended = [data], len(data) < limit - offset
        data_end = data.rfind(b"\n", 0, limit - offset) + 1
        while not ended and not (len(data) >= limit - offset and data_end == limit - offset):
            # The last line goes on past the limit: read to its end.
            cut = data.find(b"\n", limit - offset)
            if cut >= 0:
                data_end = cut + 1
                break
            more = file.read(_READ_BYTES)
            if not more:
                ended = True
                break
            if len(data) - data_end > LONGEST_LINE:
                raise DataError(
                    f"{file.path}:{file_line + data.count(10)}: a line of over {LONGEST_LINE >> 20} MiB. "
                    "Is this a text file with one row a line?"
                )
            pieces = [data, more]
            data = b"".join(pieces)
        if ended:
            data_end = len(data)
        head, carry = data[:data_end], data[data_end:]
        if head:
            chunk = Chunk(head, str(file.path), offset, file_line, line)
            yield chunk
            count = chunk.lines
            file_line, line = file_line + count, line + count
        offset += len(head)
        if ended:
            return
        limit += chunk_bytes
        while limit <= offset:  # a line longer than a chunk: ranges in which no line begins
            limit += chunk_bytes
