"""The delimiter that separates the values of a line, and how many values a row has."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from streamtrain.convert.dialect.delimiters import DELIMITERS
from streamtrain.convert.dialect.sample import Line, most_common
from streamtrain.convert.text.cells import DECIMAL, RowError, split_row
from streamtrain.errors import DataError

_NUMBER = re.compile(rf"{DECIMAL.pattern}|[+-]?\d+,\d+", re.ASCII)  # with a decimal comma too, to say so later
_NAME = {delimiter: name for name, delimiter in DELIMITERS.items()}


@dataclass(frozen=True)
class Layout:
    """How a line is divided into values."""

    delimiter: str
    fields: int
    trailing: bool

    @property
    def reason(self) -> str:
        """What was found, in words."""
        trailing = ", one after the last too" if self.trailing else ""
        return f"{self.fields} columns, separated by {_NAME[self.delimiter]}s{trailing}"

    def split(self, line: str) -> list[str]:
        """Return a line's values; none if a quote is left open."""
        try:
            cells = split_row(line, self.delimiter)
        except RowError:
            return []
        return cells[:-1] if self.trailing and len(cells) == self.fields + 1 and not cells[-1] else cells


def find_layout(lines: Sequence[Line], declared: str | None, *, path: str) -> Layout:
    """Return the delimiter by which most lines have equally many numbers, and the most of them.

    Raises DataError if most lines have different numbers of values, whatever separates them.
    """
    best: tuple[bool, int] = (False, 0)  # whether most values are numbers, and how many a line has
    layout = None
    for delimiter in [declared] if declared else DELIMITERS.values():
        if not any(delimiter in line.text for line in lines):
            continue
        rows = [Layout(delimiter, 0, False).split(line.text) for line in lines]
        fields, times = most_common([len(row) for row in rows])
        rows = [row for row in rows if len(row) == fields]
        trailing = fields > 1 and sum(not row[-1] for row in rows) > len(rows) / 2
        fields -= trailing
        cells = Counter(cell for row in rows[:50] for cell in row[:fields])
        filled = cells.total() - cells[""]
        numeric = sum(n for cell, n in cells.items() if _NUMBER.fullmatch(cell)) > filled / 2
        if fields > 1 and times > len(lines) / 2 and (numeric, fields) > best:
            best, layout = (numeric, fields), Layout(delimiter, fields, trailing)
    if layout is None:
        raise _no_layout(lines, declared, path)
    return layout


def _no_layout(lines: Sequence[Line], declared: str | None, path: str) -> DataError:
    named = f"by {_NAME[declared]}" if declared else "by comma, semicolon, tab, space or pipe"
    first = min(lines, key=lambda line: line.number)
    if not any(delimiter in line.text for line in lines for delimiter in DELIMITERS.values()):
        return DataError(
            f"{path}:{first.number}: the line holds one value. Is it a CSV with one image a row, or labels alone?"
        )
    return DataError(
        f"{path}: most lines do not have the same number of values, whether separated {named}. "
        "Is it a CSV with one image a row?"
    )
