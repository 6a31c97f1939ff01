"""What a source names → its decompressed bytes, or an error: plain, gz, bz2, xz, zst, zip, standard input."""

from __future__ import annotations

import functools
import io
import os
import re
import stat
import struct
import sys
import zipfile
from dataclasses import dataclass
from typing import cast

from streamtrain.convert.text.decompress import DECOMPRESS_ERRORS, FORMATS, MultiMemberStream
from streamtrain.convert.text.physical_file import Version, physical_path
from streamtrain.errors import DataError, UsageError
from streamtrain.shards.digests import SourceDigest, digest_of_stream
from streamtrain.storage.object_file import ObjectFile
from streamtrain.storage.objects import Location, ObjectPath

_READ_BYTES = 256 << 10
_KEPT_BYTES = 16 << 20  # of standard input: what detection has read can be read once more

_LONE_RETURN = re.compile(rb"\r(?!\n)")
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")


@dataclass(frozen=True)
class FileFacts:
    """A file that was read to its end: enough to notice a later change."""

    path: str
    size: int
    mtime_ns: int
    digest: str


class TextFile:
    """A source's decompressed bytes, in which every line ends with a newline; use it in a `with`.

    A carriage return without a newline after it ends a line too and is read as a newline, so offsets stay those of
    the decompressed file. `plain` is whether it is a file or object, not compressed; `read_at` needs that.
    Raises DataError if the file cannot be opened, or if a zip has several members and none is named.
    """

    def __init__(self, path: Location) -> None:
        self.path = path
        self._file = physical_path(path)
        self._raw = _open(self._file)
        self._start = _version(self._raw) if self._file else None
        self._hashed = _Hashed(self._raw)
        self._unread = b""
        buffer = io.BufferedReader(self._hashed, _READ_BYTES)
        # From a file without moving its position: the bytes of a plain one are hashed by `update_hash`.
        magic = self._first_bytes() if self._file else buffer.peek(8)[:8]
        self._format, make = next((f for start, f in FORMATS.items() if magic.startswith(start)), ("", None))
        self._text: io.BufferedIOBase = buffer
        if make:
            self._text = io.BufferedReader(MultiMemberStream(buffer, make), _READ_BYTES)
        elif magic.startswith(_ZIP):
            self._format = "zip"
            self._text = self._member()
        self.plain = not self._format and self._file is not None

    def __enter__(self) -> TextFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; standard input stays open."""
        if self._file:
            self._raw.close()

    @property
    def size(self) -> int:
        """Bytes of the file on disk when it was opened; 0 for standard input."""
        return self._start.size if self._start else 0

    @property
    def raw_bytes(self) -> int:
        """Bytes read from disk so far, for progress."""
        return self._raw.tell() if self._format == "zip" else self._hashed.bytes

    def read(self, size: int) -> bytes:
        """Return `size` decompressed bytes, fewer only at the end. Raises DataError for a damaged stream."""
        data = self._unread + self._read(size - len(self._unread))
        self._unread = self._read(1) if data.endswith(b"\r") else b""
        return _newlines(data, self._unread)

    def read_at(self, offset: int, buffer: memoryview) -> int:
        """Fill a buffer from a plain file and return the number of bytes, fewer only at its end; thread-safe."""
        assert isinstance(self._raw, _DiskFile | ObjectFile)
        return self._raw.read_at(offset, buffer)

    def _first_bytes(self) -> bytes:
        first = bytearray(8)
        return bytes(first[: self.read_at(0, memoryview(first))])

    def update_hash(self, data: memoryview) -> None:
        """Hash the next bytes of a plain file, which `read_at` has read."""
        if self.plain:
            self._hashed.update(data)

    def _read(self, size: int) -> bytes:
        try:
            return self._text.read(size)
        except DECOMPRESS_ERRORS as error:  # type: ignore[misc]  # isal does not say that its error is a class
            if isinstance(error, OSError) and error.errno:
                raise
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> DataError:
        return DataError(
            f"{self.path} is a damaged or truncated {self._format} file ({error}). Copy or download it again"
        )

    def _member(self) -> io.BufferedIOBase:
        """Open the member that is named, or the only one."""
        if not self._file:
            raise DataError("standard input is a zip archive, which must be a file. Unpack it: unzip -p FILE.zip")
        try:
            archive = zipfile.ZipFile(cast(io.FileIO, self._raw))
            names = [m.filename for m in archive.infolist() if not m.is_dir() and _is_data(m.filename)]
            self._refuse_other_zips(names)
            chosen = str(self.path)[len(f"{self._file}:") :]
            if chosen and chosen not in names:
                raise DataError(f"{self._file} has no member {chosen!r}. It has {_few(names)}")
            if not names:
                raise DataError(f"{self._file} holds no data file. Check the download, or name another")
            if not chosen and len(names) != 1:
                what = f"holds {len(names)} files ({_few(names)}). Choose one: '{self._file}:{names[0]}'"
                raise DataError(f"{self._file} {what}")
            return io.BufferedReader(archive.open(chosen or names[0]), _READ_BYTES)  # type: ignore[type-var]  # reads
        except (zipfile.BadZipFile, EOFError, OSError, ValueError, struct.error) as error:
            raise self._damaged(error) from error
        except (NotImplementedError, RuntimeError) as error:  # an unknown compression, a password
            raise DataError(f"{self.path} cannot be unpacked here: {error}. Unpack it first: unzip") from error

    def _refuse_other_zips(self, names: list[str]) -> None:
        """Raise DataError for the formats of others that are zip archives too."""
        if any(name.startswith(("xl/", "[Content_Types]")) for name in names):
            raise DataError(f"{self._file} is an Excel workbook. Save its sheet as CSV", path=self._file)
        if names and all(name.endswith(".npy") for name in names):
            raise DataError(
                f"{self._file} holds NumPy arrays (.npz). Write them as CSV, the label and the pixels in a row: "
                "numpy.savetxt with fmt='%d' and delimiter=','",
                path=self._file,
            )

    def facts(self) -> FileFacts:
        """Return what was read; call it at the end. Raises DataError if the file changed in the meantime."""
        if not self._file or not self._start:
            return FileFacts("-", self._hashed.bytes, 0, self._hashed.digest.value())
        now = Version.of(self._file)
        size, digest = self._hashed.bytes, self._hashed.digest.value()
        if self._format == "zip":  # not read from start to end, so hashed separately
            self._raw.seek(0)
            size, digest = now.size, digest_of_stream(self._raw)
        if self._start != now or size != now.size:
            raise DataError(f"{self.path} changed while it was read. Let its writer finish, then convert again")
        return FileFacts(str(self.path), size, now.mtime_ns, digest)


class _DiskFile(io.FileIO):
    """A file on a disk, which can also be read at any place, as an ObjectFile can."""

    def read_at(self, offset: int, buffer: memoryview) -> int:
        """Fill a buffer and return the number of bytes, fewer only at the end; thread-safe."""
        filled = 0
        while filled < len(buffer):
            size = os.preadv(self.fileno(), [buffer[filled:]], offset + filled)
            if not size:
                break
            filled += size
        return filled


def _open(file: Location | None) -> io.RawIOBase:
    if file is None:
        return _standard_input(cast(io.BufferedReader, sys.stdin.buffer)).rewound()
    if isinstance(file, ObjectPath):
        return ObjectFile(file)
    try:
        raw = _DiskFile(file, opener=_opener)  # its owner closes it
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}. Check its permissions") from error
    if not stat.S_ISREG(os.fstat(raw.fileno()).st_mode):
        raw.close()
        raise UsageError(
            f"{file} is not an ordinary file. Send a stream to standard input: convert - DEST < STREAM"
        )
    return raw


def _version(raw: io.RawIOBase) -> Version:
    """Return the state of an open file or object, as it was when it was opened."""
    if isinstance(raw, ObjectFile):
        return Version(raw.facts.size, raw.facts.mtime_ns, raw.facts.e_tag)
    return Version.of(raw.fileno())


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # or a pipe without a writer would be waited for


def _newlines(data: bytes, following: bytes) -> bytes:
    """Return the bytes with lone carriage returns as newlines; `following` is the byte after them, or empty."""
    if b"\r" not in data:
        return data
    pairs = data.count(b"\r\n") + (data.endswith(b"\r") and following == b"\n")
    if data.count(b"\r") == pairs:
        return data
    return _LONE_RETURN.sub(b"\n", data + following)[: len(data)]


def _is_data(name: str) -> bool:
    """Return whether a member of a zip is data: macOS adds __MACOSX/._NAME for each file."""
    return not name.startswith("__MACOSX/") and not name.rpartition("/")[2].startswith(".")


def _few(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return (shown if len(shown) < 120 else f"{shown[:120]}…") + (", …" if len(names) > 3 else "")


class _Hashed(io.RawIOBase):
    """A raw file that counts and hashes the bytes read from it."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw, self.digest = raw, SourceDigest()

    def readable(self) -> bool:
        return True

    @property
    def bytes(self) -> int:
        return self.digest.bytes

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # any writable buffer
        size = self._raw.readinto(buffer) or 0
        self.update(memoryview(buffer)[:size])
        return size

    def update(self, data: memoryview) -> None:
        self.digest.update(data)


class _RewindableStdin(io.RawIOBase):
    """A stream that can be read again from its start, as long as no more than 16 MiB were read."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream, self._kept, self._at = stream, bytearray(), 0

    def readable(self) -> bool:
        return True

    def rewound(self) -> _RewindableStdin:
        if self._at > len(self._kept):
            raise UsageError("standard input can be read only once. Name - once, or save it to a file first")
        self._at = 0
        return self

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # any writable buffer
        data = bytes(self._kept[self._at : self._at + len(buffer)])
        if not data:
            data = self._stream.read1(len(buffer))
            if self._at + len(data) > _KEPT_BYTES:
                self._kept.clear()
            else:
                self._kept += data
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


@functools.lru_cache(maxsize=1)
def _standard_input(stream: io.BufferedReader) -> _RewindableStdin:
    return _RewindableStdin(stream)
