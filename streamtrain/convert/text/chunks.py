"""A file's text → chunks of whole lines, each with its position: read by offset, or from a stream."""

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
STREAM_BYTES = 1 << 20  # read from a stream at a time
STEP_BYTES = 64 << 10  # read at a time while the end of a chunk's last line is searched


class LinePosition(NamedTuple):
    """The number of a line in its file and over all sources, from 1."""

    file_line: int
    line: int


@dataclass(frozen=True)
class Chunk:
    """Whole lines of one file: those that begin in one fixed range of its decompressed bytes.

    data:   (≥ size + kernel.PADDING,) uint8: the lines, then newlines that belong to no line. The file's last line
            may lack a line end
    path:   the file, as it was named
    offset: of data[0] in the decompressed file
    lines:  number of lines, including a last one without a line end
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
        """Return a copy of the bytes [start, stop)."""
        return self.data[start : min(stop, self.size)].tobytes()

    @property
    def end(self) -> LinePosition:
        """Position of the line after the last."""
        return LinePosition(self.file_line + self.lines, self.line + self.lines)


@dataclass
class ChunkBuffer:
    """The memory for one chunk on its way to a shard; later chunks reuse it.

    begin:  offset of text[0] in the file
    filled: bytes of `text` that are in use
    """

    text: bytearray = field(default_factory=bytearray)
    begin: int = 0
    filled: int = 0
    pixels: Array = field(default_factory=lambda: np.empty((0, 0), dtype=np.uint8))

    def reserve(self, size: int) -> None:
        """Make `text` large enough for `size` bytes and the kernel's padding, and keep its content."""
        if len(self.text) < size + kernel.PADDING:
            # A new bytearray: one that arrays share cannot be resized.
            text = bytearray(size + size // 16 + kernel.PADDING)
            text[: self.filled] = memoryview(self.text)[: self.filled]
            self.text = text

    def pixels_for(self, rows: int, features: int, dtype: str) -> Array:
        """Return an uninitialised (rows, features) array for the kernel to write into."""
        if self.pixels.dtype != dtype or self.pixels.shape[1] != features or len(self.pixels) < rows:
            self.pixels = np.empty((rows, features), dtype=dtype)
        return self.pixels[:rows]


class Reader:
    """One file as chunk 0, 1, 2, …: chunk i holds the lines that begin in bytes [i, i + 1) × chunk_bytes.

    `read` comes first, for a plain file in any thread; then `take_lines`, for the chunks in their order.
    """

    def __init__(self, file: TextFile, *, chunk_bytes: int = CHUNK_BYTES) -> None:
        self.file, self.chunk_bytes = file, chunk_bytes
        # Bytes of a stream that were read already but belong to the next chunk, and their offset.
        self._ahead, self._ahead_at = b"", 0

    def read(self, number: int, buffer: ChunkBuffer) -> bool:
        """Read a chunk's range of the file into `buffer`; return whether more may follow."""
        # One byte before the range is read too: a line begins after a newline.
        buffer.begin, buffer.filled = max(number * self.chunk_bytes - 1, 0), 0
        size = (number + 1) * self.chunk_bytes - buffer.begin
        self._fill(buffer, size)
        return buffer.filled == size

    def take_lines(self, number: int, buffer: ChunkBuffer, position: LinePosition) -> Chunk:
        """Return the chunk whose range `read` has put into `buffer`; `position` is the end of the previous chunk.

        Raises DataError for a line longer than 64 MiB.
        """
        end = buffer.filled
        self.file.update_hash(memoryview(buffer.text)[min(number, 1) : end])
        self._end_lines(buffer, 0)
        first = 0 if number == 0 else buffer.text.find(b"\n", 0, max(end - 1, 0)) + 1 or end
        stop = self._line_end(buffer, end) if first < end else first
        if not self.file.plain:
            last = max(end - 1, 0)
            self._ahead = bytes(buffer.text[last : buffer.filled]) + self._ahead_after(
                buffer.begin + buffer.filled
            )
            self._ahead_at = buffer.begin + last
        size = stop - first
        data = np.frombuffer(buffer.text, dtype=np.uint8)[first:]
        data[size : size + kernel.PADDING] = kernel.NEWLINE
        lines = kernel.count_lines(data, size)
        return Chunk(
            data, size, str(self.file.path), buffer.begin + first, lines, position.file_line, position.line
        )

    def _line_end(self, buffer: ChunkBuffer, end: int) -> int:
        """Return the end of the line that the byte before `end` belongs to, reading on as far as needed."""
        searched = end - 1
        while (stop := buffer.text.find(b"\n", searched, buffer.filled)) < 0:
            searched = buffer.filled
            if searched - end > LONGEST_LINE:
                raise DataError(
                    f"{self.file.path}: a line of over {LONGEST_LINE >> 20} MiB before byte "
                    f"{buffer.begin + searched:,}. Is this a text file with one row on each line?"
                )
            self._fill(buffer, STEP_BYTES)
            if buffer.filled == searched:
                return searched
            self._end_lines(buffer, searched)
        return stop + 1

    def _end_lines(self, buffer: ChunkBuffer, start: int) -> None:
        """Replace lone carriage returns from `start` on by newlines, as `TextFile.read` does in a stream."""
        if not self.file.plain or buffer.text.find(b"\r", start, buffer.filled) < 0:
            return
        filled = 0
        while buffer.text[buffer.filled - 1] == kernel.RETURN and buffer.filled > filled:
            filled = buffer.filled
            self._fill(buffer, 1)
        kernel.end_lines(np.frombuffer(buffer.text, dtype=np.uint8), start, buffer.filled)

    def _fill(self, buffer: ChunkBuffer, size: int) -> None:
        """Append up to `size` bytes of the file, fewer only at its end."""
        buffer.reserve(buffer.filled + size)
        offset = buffer.begin + buffer.filled
        view = memoryview(buffer.text)[buffer.filled : buffer.filled + size]
        if self.file.plain:
            buffer.filled += self.file.read_at(offset, view)
            return
        filled = 0
        while filled < size:  # a stream returns copies, so ask for small ones
            data = self._ahead_after(offset + filled)[: size - filled]
            data = data or self.file.read(min(size - filled, STREAM_BYTES))
            if not data:
                break
            view[filled : filled + len(data)] = data
            filled += len(data)
        buffer.filled += filled

    def _ahead_after(self, offset: int) -> bytes:
        return self._ahead[offset - self._ahead_at :]


def chunks(file: TextFile, *, chunk_bytes: int = CHUNK_BYTES) -> Iterator[Chunk]:
    """Yield the chunks of one file in their order, each in memory of its own."""
    reader, position, more = Reader(file, chunk_bytes=chunk_bytes), LinePosition(1, 1), True
    for number in itertools.count():
        if not more:
            return
        buffer = ChunkBuffer()
        more = reader.read(number, buffer)
        chunk = reader.take_lines(number, buffer, position)
        position = chunk.end
        if chunk.size:
            yield chunk
