"""The lines of a label file, handed out to the chunks of the data in their order."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from streamtrain.convert.dialect.dialect import Dialect
from streamtrain.convert.text.text_file import FileFacts, TextFile
from streamtrain.errors import DataError

_READ_BYTES = 1 << 20  # of text at a time
_LONGEST_LABEL = 64 << 10


@dataclass(frozen=True)
class LabelSlice:
    """Lines of a file of labels: one a data row, or fewer where it is too short for that."""

    path: Path
    first_line: int
    lines: list[bytes]
    short: bool


class LabelFile:
    """The labels of a pass, handed out a chunk of rows at a time, in order; use it in a `with`."""

    def __init__(self, dialect: Dialect) -> None:
        self.path = Path(dialect.labels_file)
        self._header = dialect.labels_header
        self._file = TextFile(self.path)
        self._lines = itertools.islice(_to_the_last_label(self._file), int(self._header), None)
        self._rows = self._labels = self._next = 0
        self._abandoned = False
        self._turn = threading.Condition()

    def __enter__(self) -> LabelFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()
        self._file.__exit__()

    def take(self, number: int, rows: int) -> LabelSlice:
        """The labels of the `rows` data rows of chunk `number`, once those of the chunks before are taken."""
        with self._turn:
            self._turn.wait_for(lambda: self._next == number or self._abandoned)
            if self._abandoned:
                raise RuntimeError("the pass has ended")
            first_line = self._labels + self._header + 1
            lines = list(itertools.islice(self._lines, rows))
            self._rows += rows
            self._labels += len(lines)
            self._next += 1
            self._turn.notify_all()
        return LabelSlice(self.path, first_line, lines, short=len(lines) < rows)

    def cancel(self) -> None:
        """Let those go that wait for a turn which does not come."""
        with self._turn:
            self._abandoned = True
            self._turn.notify_all()

    def end(self) -> FileFacts:
        """What was read, at the end of the data.

        Raises DataError where there are more or fewer labels than rows, or the file changed meanwhile.
        """
        self._labels += sum(1 for _ in self._lines)
        facts = self._file.facts()
        if self._labels != self._rows:
            first = "its header" if self._header else "a label"
            raise DataError(
                f"{self.path} has {self._labels:,} labels, the data {self._rows:,} rows. Give one label a row, in "
                f"the order of the rows; line 1 was read as {first}"
            )
        return facts


def _to_the_last_label(file: TextFile) -> Iterator[bytes]:
    """The lines of a file but for blank ones at its end."""
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
            raise DataError(f"{file.path}: a line of over 64 KiB. Is this a text file with one label a line?")
    yield rest
