"""An object in a store as a file that is read: anywhere in parallel, or from start to end with a block ahead."""

from __future__ import annotations

import io
from concurrent.futures import Future, ThreadPoolExecutor

from streamtrain.storage.objects import Location, ObjectPath

_FIRST_BYTES = 1 << 20  # of a place that was jumped to
_BLOCK_BYTES = 4 << 20  # of one that is read on from; the next such block is fetched meanwhile


def open_to_read(place: Location) -> io.BufferedReader:
    """Open a file or an object to read its bytes."""
    return io.BufferedReader(ObjectFile(place)) if isinstance(place, ObjectPath) else place.open("rb")


class SeekableFile(io.RawIOBase):
    """A file of `size` bytes that is read from a position, `_at`, which `seek` moves."""

    def __init__(self, size: int) -> None:
        self._size, self._at = size, 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position and return it."""
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at


class ObjectFile(SeekableFile):
    """An object, opened in one state: reading raises DataError if it has changed since.

    facts: that state
    """

    def __init__(self, path: ObjectPath) -> None:
        self.path, self.facts = path, path.stat()
        super().__init__(self.facts.size)
        self._start, self._block = 0, b""
        self._pool = ThreadPoolExecutor(1)
        self._ahead: tuple[int, Future[bytes]] | None = None

    def close(self) -> None:
        """Close the file; a block that is being fetched is left to itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        super().close()

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # any writable buffer
        """Fill the start of `buffer` from the position on; return how many bytes, 0 at the end."""
        if not self._start <= self._at < self._start + len(self._block):
            self._take_block()
        data = self._block[self._at - self._start :][: len(buffer)]
        memoryview(buffer)[: len(data)] = data
        self._at += len(data)
        return len(data)

    def read_at(self, offset: int, buffer: memoryview) -> int:
        """Fill a buffer with one request and return the number of bytes, fewer only at the end; thread-safe."""
        data = self._fetch(offset, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _take_block(self) -> None:
        """Make the block at the position the current one; if it follows the last, fetch the one after it."""
        follows = bool(self._block) and self._at == self._start + len(self._block)
        if self._ahead and self._ahead[0] == self._at:
            self._block = self._ahead[1].result()
        else:
            self._block = self._fetch(self._at, _BLOCK_BYTES if follows else _FIRST_BYTES)
        self._start, after = self._at, self._at + len(self._block)
        self._ahead = None
        if follows and after < self.facts.size:
            self._ahead = after, self._pool.submit(self._fetch, after, _BLOCK_BYTES)

    def _fetch(self, start: int, size: int) -> bytes:
        stop = min(start + size, self.facts.size)
        return self.path.read_range(start, stop, self.facts) if start < stop else b""
