"""A line of text → its values, and the patterns of a number."""

from __future__ import annotations

import csv
import re

INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)
BLANKS = " \t"  # the only characters that may surround a value; a no-break space may not


class RowError(Exception):
    """A fault of a row: the reason, the column from 0 or None, the value, and the fault in words."""

    def __init__(self, reason: str, what: str, *, column: int | None = None, value: str = "") -> None:
        super().__init__(reason)
        self.reason, self.what, self.column, self.value = reason, what, column, value


def line_text(line: bytes) -> str:
    """Decode a line without its line end; bytes that are not UTF-8 become lone surrogates."""
    return line.decode("utf-8", "surrogateescape").removesuffix("\n").removesuffix("\r")


def split_row(text: str, delimiter: str) -> list[str]:
    """Return the values of one line, without the blanks around them. Raises RowError for a quote left open."""
    if '"' in text:
        if delimiter == " ":
            text = re.sub(" +", " ", text.strip(BLANKS))
        try:
            (cells,) = csv.reader([text], delimiter=delimiter, strict=True, skipinitialspace=True)
        except (csv.Error, ValueError) as error:
            what = f"a quote is left open or stands inside a value ({error})"
            raise RowError("quote", what) from error
    elif delimiter == " ":
        return [cell.strip(BLANKS) for cell in text.strip(BLANKS).split(" ") if cell]
    else:
        cells = text.split(delimiter)
        if text.split() == [text]:  # no blanks in the line, the usual case
            return cells
    return [cell.strip(BLANKS) for cell in cells]


def split_label_line(line: bytes) -> list[str]:
    """Return the values of a line of a label file: one, unless the line is at fault."""
    try:
        return split_row(line_text(line).removeprefix("\ufeff"), ",")
    except RowError:
        return []
