"""What a file begins with before its rows: a title, Excel's sep=, the columns' names, a list of the classes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from streamtrain.convert.dialect.layout import Layout
from streamtrain.convert.dialect.options import ReadOptions
from streamtrain.convert.dialect.sample import Line, NoRowsError, Sample, median, numbers, quoted
from streamtrain.convert.text.cells import DECIMAL
from streamtrain.errors import DataError, argument

_HALF = 0.5
_EXCEL = re.compile(r'"?sep=.?"?', re.IGNORECASE)
_DIFFERENT = 0.97  # share of different values among a line's, from which on it may be names
_REPEATING = 0.8  # of the values in a row: the most that are different if pixels repeat
_FEWEST_NAMES = 20


@dataclass(frozen=True)
class Opening:
    """The lines of a file before its rows.

    header:  whether one of them names the columns; names: as many as a row has values, or none
    skipped: the values of each line that is neither a row nor the header
    top:     the values of the line that is the header or the first row
    """

    layout: Layout
    header: bool
    names: tuple[str, ...]
    skipped: tuple[tuple[str, ...], ...]
    top: tuple[str, ...]
    reasons: tuple[str, ...]


def find_opening(
    first: Sequence[Line], lines: Sequence[Line], layout: Layout, options: ReadOptions, *, path: str
) -> Opening:
    """Tell the lines before the rows from the rows.

    Raises DataError if the header has another number of columns than the rows, or if there are no rows.
    """
    skipped, reasons = [], []
    for line in first[:-1]:
        what = _is_not_a_row(line.text, layout)
        if not what:
            break
        skipped.append(tuple(layout.split(line.text)))
        reasons.append(f"line {line.number} is skipped: {what}")
    line = first[len(skipped)]
    layout = _widened(layout, line.text)
    top = layout.split(line.text)
    rows = [cells for other in lines if len(cells := layout.split(other.text)) == layout.fields and cells != top]
    header, reason = _is_header(top, rows, options, line, path)
    if not header:
        return Opening(layout, False, (), tuple(skipped), tuple(top), (*reasons, reason))
    if len(top) == layout.fields - 1 and _are_row_names([row[0] for row in rows]):
        reasons.append("the header has no name for column 1, which holds R's row names")
        return Opening(layout, True, ("", *top), (*skipped, tuple(top)), tuple(top), (*reasons, reason))
    if len(top) != layout.fields:
        # Names that may tell the order of the pixels are not to be deleted.
        delete = f", or delete it: sed {line.number}d" if len(top) < layout.fields / 2 else ""
        raise DataError(
            f"{path}:{line.number}: the header has {len(top)} columns, most rows have {layout.fields}. "
            f"Give each column one name in that line{delete}",
            path=path,
            line=line.number,
        )
    return Opening(layout, True, tuple(top), tuple(skipped), tuple(top), (*reasons, reason))


def rows_after(opening: Opening, lines: Sequence[Line], *, path: str) -> Sample:
    """Return the rows of the chosen lines. Raises DataError if there are none."""
    others = {opening.names, *opening.skipped} if opening.header else {*opening.skipped}
    rows, places = [], []
    for line in lines:
        cells = opening.layout.split(line.text)
        if len(cells) == opening.layout.fields and tuple(cells) not in others:
            rows.append(cells)
            places.append(line.number)
    if not rows:
        raise NoRowsError(f"{path} has a header and no rows. Check the download, or name another file", path=path)
    return Sample(path, rows, places, opening.names)


def class_header(opening: Opening, sample: Sample, label: range) -> tuple[str, ...]:
    """Return line 1 if it lists the classes and has another width than the rows, as in UCI's copies."""
    top = opening.top
    if opening.header or len(label) != 1 or len(top) == sample.fields or not 2 <= len(set(top)) == len(top):
        return ()
    labels = Counter(sample.cells(label.start))
    listed = sum(times for name, times in labels.items() if name in top)
    return top if listed > _HALF * labels.total() else ()


def _is_not_a_row(text: str, layout: Layout) -> str:
    """Say what a line is that stands before the header or the rows, or nothing."""
    if _EXCEL.fullmatch(text.strip()):
        return "it is Excel's sep="
    filled = [cell for cell in layout.split(text) if cell]
    if len(filled) == 1 and layout.fields > 2 and not DECIMAL.fullmatch(filled[0]):
        return f"it is a title, {quoted(filled[0])}"
    return ""


def _widened(layout: Layout, top: str) -> Layout:
    """Return the layout in which the delimiter at a row's end begins one more column, if line 1 names that one."""
    if not layout.trailing:
        return layout
    wider = replace(layout, fields=layout.fields + 1, trailing=False)
    cells = wider.split(top)
    return wider if len(cells) == wider.fields and cells[-1] else layout


def _are_row_names(cells: Sequence[str]) -> bool:
    return len(set(cells)) > 0.9 * len(cells)


def _is_header(
    top: Sequence[str], rows: Sequence[Sequence[str]], options: ReadOptions, line: Line, path: str
) -> tuple[bool, str]:
    shown = ", ".join(name[:20] for name in top[:2])
    words = sum(not DECIMAL.fullmatch(cell) for cell in top)
    named = words > len(top) / 2 and _usual_words(rows) < len(top) / 2
    wide = bool(rows) and len(rows[0]) - 1 <= len(top) <= len(rows[0])  # R has no name for its row names
    numbered = wide and not named and _is_unlike(top, rows)
    if options.header is not None:
        who = options.declared_by("header")
        if options.header and rows and not (words or numbered or not wide):
            raise DataError(
                f"{path}:{line.number}: the line is a row like the others, not a header {who}. "
                f"Pass {argument('header', False)}",
                option="header",
                path=path,
                line=line.number,
            )
        return options.header, f"{'a' if options.header else 'no'} header, {who}"
    if named:
        return True, f"line {line.number} is a header: {shown}, …"
    if numbered:
        return True, f"line {line.number} is a header, since its numbers are unlike those of the rows: {shown}, …"
    return False, "no header: line 1 holds numbers"


def _is_unlike(top: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether numbers in line 1 are names: they count up, or all differ, as those of no row do."""
    some = rows[:50]
    steps, usual = _steps(top), median(np.array([_steps(row) for row in some]))
    if steps >= max(3, 0.9 * (len(top) - 1) - 2) and usual < steps / 2:
        return True
    if len(top) < _FEWEST_NAMES:
        return False
    different = median(np.array([len(set(row)) for row in some])) / len(top)
    return len(set(top)) >= _DIFFERENT * len(top) and different <= _REPEATING


def _steps(cells: Sequence[str]) -> int:
    """Return how many values are one more than the value before them."""
    values = numbers([cells])[0]
    return int((np.diff(values) == 1).sum())


def _usual_words(rows: Sequence[Sequence[str]]) -> float:
    """Return how many values of a row are not numbers, in the median."""
    words = [0 if "".join(row).isdecimal() else sum(not DECIMAL.fullmatch(c) for c in row) for row in rows[:50]]
    return median(np.array(words or [0]))
