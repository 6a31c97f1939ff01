"""The delimiter that separates the values of a line, and how many values a row has."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from streamtrain.convert.dialect.delimiters import DELIMITERS
from streamtrain.convert.dialect.sample import Line, most_common, quoted
from streamtrain.convert.text.cells import DECIMAL, RowError, split_row
from streamtrain.errors import DataError

_NUMBER = re.compile(rf"{DECIMAL.pattern}|[+-]?\d+,\d+", re.ASCII)  # with a decimal comma too, to say so later
_FEW = 16  # the most columns of a file that has an image in one value
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

    Raises DataError if most lines have different numbers of values, whatever separates them, or if a value holds
    all pixels.
    """
    if declared is None:
        _refuse_arrays(lines, path)
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


def _refuse_arrays(lines: Sequence[Line], path: str) -> None:
    """Raise DataError if most lines are a few values of which one holds many numbers, as in 7,"0 0 255 0"."""
    for delimiter in ",;\t|":
        if not any(delimiter in line.text for line in lines):
            continue
        rows = [(line.number, Layout(delimiter, 0, False).split(line.text)) for line in lines]
        fields, _ = most_common([len(row) for _, row in rows])
        for column in range(fields) if 1 < fields <= _FEW else ():
            cells = [(number, row[column]) for number, row in rows if len(row) == fields]
            arrays = [(number, cell) for number, cell in cells if _is_array(cell)]
            if len(arrays) > len(lines) / 2:
                number, cell = min(arrays)
                step = ": tr -d '[]()\"' | tr -s ' ' ," if delimiter == "," else ""
                raise DataError(
                    f"{path}:{number}: column {column + 1} is {quoted(cell)}: several numbers in one value, as in "
                    f"most rows. Give each pixel a column of its own{step}",
                    path=path,
                    column=column + 1,
                )


def _is_array(cell: str) -> bool:
    """Whether a value is three numbers or more with spaces between them, or a list in brackets."""
    numbers = cell.strip("[]() ").replace(",", " ").split()
    separated = " " in cell.strip() or cell[:1] in "[("
    return separated and len(numbers) > 2 and all(map(DECIMAL.fullmatch, numbers))


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
