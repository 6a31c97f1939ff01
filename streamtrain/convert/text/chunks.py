"""A file's text → chunks of whole lines that know their place: read where they lie, or out of a stream."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from streamtrain.block import Array
from streamtrain.convert.text.text_file import TextFile
from streamtrain.errors import DataError
from streamtrain.native import parse as kernel

CHUNK_BYTES = 16 << 20  # decompressed text of one shard
LONGEST_LINE = 64 << 20
STREAM_BYTES = 1 << 20  # read of a stream at a time
STEP_BYTES = 64 << 10  # read at a time to find the end of a chunk's last line


class LinePosition(NamedTuple):
    """Where a chunk begins, in lines: its first one's number in its file and over all sources, from 1."""

    file_line: int
    line: int


@dataclass(frozen=True)
class Chunk:
    """Whole lines of one file: those that begin in one fixed range of its decompressed bytes.

    data:   (≥ size + kernel.PADDING,) uint8: the lines, each with its line end but perhaps the file's last,
            then newlines that belong to no line
    path:   the file, as it was named
    offset: place of data[0] in the decompressed file
    lines:  how many, a last one without a line end included
    file_line, line: number of the first line in the file and over all sources, from 1
    """

    data: Array
    size: int
    path: str
    offset: int
    lines: int
    file_line: int
    line: int

    def text(self, start: int, stop: int) -> bytes:
        """A copy of its bytes [start, stop)."""
        return self.data[start : min(stop, self.size)].tobytes()

    @property
    def end(self) -> LinePosition:
        """The place of the line after its last."""
        return LinePosition(self.file_line + self.lines, self.line + self.lines)


@dataclass
class ChunkBuffer:
    """The memory of one chunk on its way to a shard, reused by the next one."""

    text: bytearray = field(default_factory=bytearray)
    begin: int = 0  # the place of text[0] in the file
    filled: int = 0  # bytes of text
    pixels: Array = field(default_factory=lambda: np.empty((0, 0), dtype=np.uint8))

    def reserve(self, size: int) -> None:
        """Let `text` hold `size` bytes and the kernel's padding; what it holds stays."""
        if len(self.text) < size + kernel.PADDING:
            # A new one: arrays that look into the old one forbid that it grows.
            text = bytearray(size + size // 16 + kernel.PADDING)
            text[: self.filled] = memoryview(self.text)[: self.filled]
            self.text = text

    def pixels_for(self, rows: int, features: int) -> Array:
        """(rows, features) uint8 of anything, for the kernel to write into."""
        if self.pixels.shape[1] != features or len(self.pixels) < rows:
            self.pixels = np.empty((rows, features), dtype=np.uint8)
        return self.pixels[:rows]


class Reader:
    """One file as chunk 0, 1, 2, …: chunk i holds the lines that begin in bytes [i, i + 1) × chunk_bytes.

    First `read`, for a plain file in any thread; then `cut`, for one chunk after another.
    """

    def __init__(self, file: TextFile, *, chunk_bytes: int = CHUNK_BYTES) -> None:
        self.file, self.chunk_bytes = file, chunk_bytes
        self._ahead, self._ahead_at = b"", 0  # of a stream: what was read and the next chunk needs, and its offset

    def read(self, number: int, room: ChunkBuffer) -> bool:
        """Read a chunk's range of the file into `room`; whether the file goes on after it."""
        # One byte before the range comes along: a line begins after a newline.
        room.begin, room.filled = max(number * self.chunk_bytes - 1, 0), 0
        wanted = (number + 1) * self.chunk_bytes - room.begin
        self._fill(room, wanted)
        return room.filled == wanted

    def cut(self, number: int, room: ChunkBuffer, place: LinePosition) -> Chunk:
        """The chunk whose range `read` has put into `room`; `place` is the end of the chunk before it.

        Raises DataError for a line longer than 64 MiB.
        """
        end = room.filled
        self.file.take(memoryview(room.text)[min(number, 1) : end])
        self._end_lines(room, 0)
        first = 0 if number == 0 else room.text.find(b"\n", 0, max(end - 1, 0)) + 1 or end
        stop = self._line_end(room, end) if first < end else first
        if not self.file.plain:
            last = max(end - 1, 0)
            self._ahead = bytes(room.text[last : room.filled]) + self._ahead_after(room.begin + room.filled)
            self._ahead_at = room.begin + last
        size = stop - first
        data = np.frombuffer(room.text, dtype=np.uint8)[first:]
        data[size : size + kernel.PADDING] = kernel.NEWLINE
        lines = kernel.count_lines(data, size)
        return Chunk(data, size, str(self.file.path), room.begin + first, lines, place.file_line, place.line)

    def _line_end(self, room: ChunkBuffer, end: int) -> int:
        """Where the line ends that the byte before `end` belongs to, reading on as far as it takes."""
        searched = end - 1
        while (stop := room.text.find(b"\n", searched, room.filled)) < 0:
            searched = room.filled
            if searched - end > LONGEST_LINE:
                raise DataError(
                    f"{self.file.path}: a line of over {LONGEST_LINE >> 20} MiB before byte "
                    f"{room.begin + searched:,}. Is this a text file with one row a line?"
                )
            self._fill(room, STEP_BYTES)
            if room.filled == searched:
                return searched
            self._end_lines(room, searched)
        return stop + 1

    def _end_lines(self, room: ChunkBuffer, start: int) -> None:
        """Make newlines of the lone carriage returns from `start` on, as `TextFile.read` does of a stream's."""
        if not self.file.plain or room.text.find(b"\r", start, room.filled) < 0:
            return
        filled = 0
        while room.text[room.filled - 1] == kernel.RETURN and room.filled > filled:
            filled = room.filled
            self._fill(room, 1)
        kernel.end_lines(np.frombuffer(room.text, dtype=np.uint8), start, room.filled)

    def _fill(self, room: ChunkBuffer, size: int) -> None:
        """Append up to `size` bytes of the file, fewer only at its end."""
        room.reserve(room.filled + size)
        offset = room.begin + room.filled
        view = memoryview(room.text)[room.filled : room.filled + size]
        if self.file.plain:
            room.filled += self.file.read_at(offset, view)
            return
        filled = 0
        while filled < size:  # a stream hands out copies, so small ones
            data = self._ahead_after(offset + filled)[: size - filled]
            data = data or self.file.read(min(size - filled, STREAM_BYTES))
            if not data:
                break
            view[filled : filled + len(data)] = data
            filled += len(data)
        room.filled += filled

    def _ahead_after(self, offset: int) -> bytes:
        return self._ahead[offset - self._ahead_at :]


def chunks(file: TextFile, *, chunk_bytes: int = CHUNK_BYTES) -> Iterator[Chunk]:
    """The chunks of one file, one after another, each in memory of its own."""
    reader, place, more = Reader(file, chunk_bytes=chunk_bytes), LinePosition(1, 1), True
    for number in itertools.count():
        if not more:
            return
        room = ChunkBuffer()
        more = reader.read(number, room)
        chunk = reader.cut(number, room, place)
        place = chunk.end
        if chunk.size:
            yield chunk
