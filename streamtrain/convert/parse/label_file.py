"""The lines of a label file, handed out to the chunks of the data in their order."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from streamtrain.convert.dialect.dialect import Dialect
from streamtrain.convert.text.text_file import FileFacts, TextFile
from streamtrain.errors import DataError
from streamtrain.storage.objects import Location, location

_READ_BYTES = 1 << 20  # of text at a time
_LONGEST_LABEL = 64 << 10


@dataclass(frozen=True)
class LabelSlice:
    """Lines of a label file, one for each data row; `short` if the file has fewer."""

    path: Location
    first_line: int
    lines: list[bytes]
    short: bool


class LabelFile:
    """The labels of a pass, taken by one chunk of rows after another, in order; use it in a `with`."""

    def __init__(self, dialect: Dialect) -> None:
        self.path = location(dialect.labels_file)
        self._header = dialect.labels_header
        self._file = TextFile(self.path)
        self._lines = itertools.islice(_to_the_last_label(self._file), int(self._header), None)
        self._rows = self._labels = self._next = 0
        self._cancelled = False
        self._turn = threading.Condition()

    def __enter__(self) -> LabelFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()
        self._file.close()

    def take(self, number: int, rows: int) -> LabelSlice:
        """Return the labels of the `rows` data rows of chunk `number`; wait until earlier chunks took theirs."""
        with self._turn:
            self._turn.wait_for(lambda: self._next == number or self._cancelled)
            if self._cancelled:
                raise RuntimeError("the pass has ended")
            first_line = self._labels + self._header + 1
            lines = list(itertools.islice(self._lines, rows))
            self._rows += rows
            self._labels += len(lines)
            self._next += 1
            self._turn.notify_all()
        return LabelSlice(self.path, first_line, lines, short=len(lines) < rows)

    def cancel(self) -> None:
        """Wake the threads that wait for their turn; it will not come."""
        with self._turn:
            self._cancelled = True
            self._turn.notify_all()

    def end(self) -> FileFacts:
        """Return what was read, at the end of the data.

        Raises DataError if there are more or fewer labels than rows, or if the file changed in the meantime.
        """
        self._labels += sum(1 for _ in self._lines)
        facts = self._file.facts()
        if self._labels != self._rows:
            first = "its header" if self._header else "a label"
            raise DataError(
                f"{self.path} has {self._labels:,} labels, the data {self._rows:,} rows. Give one label for each "
                f"row, in the order of the rows; line 1 was read as {first}"
            )
        return facts


def _to_the_last_label(file: TextFile) -> Iterator[bytes]:
    """Yield the lines of a file, without blank ones at its end."""
    blank = 0
    for line in _lines(file):
        if not line.strip():
            blank += 1
            continue
        yield from itertools.repeat(b"", blank)
        yield line
        blank = 0


def _lines(file: TextFile) -> Iterator[bytes]:
    rest = b""
    while data := file.read(_READ_BYTES):
        *lines, rest = (rest + data).split(b"\n")
        yield from lines
        if len(rest) > _LONGEST_LABEL:
            raise DataError(
                f"{file.path}: a line of over 64 KiB. Is this a text file with one label on each line?"
            )
    yield rest
