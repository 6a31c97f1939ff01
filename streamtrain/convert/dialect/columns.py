"""Which columns hold the label, which hold pixels, and which are left out, with the reasons."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamtrain.convert.dialect.options import ReadOptions
from streamtrain.convert.dialect.sample import RESERVED, Sample, median
from streamtrain.errors import UsageError, argument

_INDEX_NAMES = frozenset(  # compared without digits and punctuation: "Unnamed: 0" is "unnamed"
    (
        *(
            "",
            "id",
            "ids",
            "index",
            "idx",
            "ix",
            "rn",
            "x",
            "n",
            "no",
            "nr",
            "num",
            "number",
            "row",
            "rows",
            "key",
        ),
        *("imageid", "rowid", "rowname", "rownames", "rownum", "rownumber", "sampleid", "instanceid", "serial"),
        *("obs", "observation", "sno", "unnamed", "level", "guid", "uid", "uuid", "pk", "record", "seq", "line"),
    )
)
_MOST = 0.9  # share of the rows that must have a property; the rest may be odd
_FEWEST_ROWS = 8  # with fewer, a column of different numbers need not be an index
_SURE_ROWS = 20  # if there are as many rows, a column without repeated values is not a label
_AT_THE_END = 4  # an index without a name is looked for among as many columns at either end


@dataclass(frozen=True)
class Columns:
    """The columns of the label and those that are left out, counted from 0, with the reasons."""

    label: range
    dropped: tuple[int, ...]
    reasons: tuple[str, ...]


def declared_column(sample: Sample, text: str, option: str) -> int:
    """Return the column that an option names. Raises UsageError unless exactly one column fits."""
    if text in ("first", "last"):
        return 0 if text == "first" else sample.fields - 1
    named = [c for c, name in enumerate(sample.names) if name == text]
    if text.isdecimal():
        return _numbered_column(sample, int(text), named, option)
    if len(named) == 1:
        return named[0]
    if named:
        numbers = " or ".join(argument(option, f"{c + 1}") for c in named[:3])
        raise UsageError(f"{sample.path}: {len(named)} columns are called {text!r}. Pass {numbers}", option=option)
    raise UsageError(
        f"{sample.path} has no column {text!r}: `{option}` takes first, last, none, a name from its header, or a "
        f"number from 1 to {sample.fields}",
        option=option,
    )


def _numbered_column(sample: Sample, number: int, named: Sequence[int], option: str) -> int:
    """Return the column at position `number`.

    Raises UsageError if no column is there, or if another column has this number as its name.
    """
    here = number - 1 if 1 <= number <= sample.fields else None
    other = next((c for c in named if c != here), None)
    if here is not None and other is None:
        return here
    if other is None:
        raise UsageError(
            f"{sample.path} has no column {str(number)!r}: `{option}` takes a number from 1 to {sample.fields}",
            option=option,
        )
    both = [c for c in (here, other) if c is not None]
    ways = " or ".join(argument(option, f"{c + 1}-{c + 1}") for c in both)
    raise UsageError(
        f"{sample.path}: {number} is the name of column {other + 1}, but a number means a position. Pass {ways}",
        option=option,
    )


def declared_range(sample: Sample, text: str, option: str) -> range | None:
    """Return the columns of a range such as 257-266, or None if the text is not one."""
    between = re.fullmatch(r"(\d+)-(\d+)", text)
    if not between or text in sample.names:
        return None
    start, stop = int(between[1]), int(between[2])
    if not 1 <= start <= stop <= sample.fields:
        raise UsageError(
            f"{argument(option, text)} is not a range of columns from 1 to {sample.fields}. Write it as 2-11",
            option=option,
        )
    return range(start - 1, stop)


def declared_drops(sample: Sample, options: ReadOptions) -> tuple[int, ...]:
    """Return the columns that `drop` names; if a preset names them, only those that this file has."""
    found: list[int] = []
    for text in options.drop or ():
        optional = "drop" in options.preset_fields and not text.isdecimal()
        if text != "none" and not (optional and text not in sample.names):
            found += declared_range(sample, text, "drop") or [declared_column(sample, text, "drop")]
    return tuple(sorted({*found}))


def drop_advice(sample: Sample, options: ReadOptions, columns: Sequence[int]) -> str:
    """Return the argument that leaves out `columns` in addition to those that `options` already leave out."""
    before = tuple(text for text in options.drop or () if text not in RESERVED)
    first, last = columns[0], columns[-1]
    if len(columns) > 2 and list(columns) == [*range(first, last + 1)]:
        more: tuple[str, ...] = (f"{first + 1}-{last + 1}",)
    else:
        more = tuple(sample.option_value(c) for c in columns)
    both = (*before, *more)
    return argument("drop", both[0] if len(both) == 1 else both)


def empty_columns(sample: Sample, left: Sequence[int]) -> list[int]:
    """Return the empty columns at the start and at the end of the row."""
    empty = sample.facts.empty > _MOST
    found: list[int] = []
    for ordered in (left, left[::-1]):
        for column in ordered:
            if not empty[column]:
                break
            found.append(column)
    return sorted({*found})


def index_columns(sample: Sample, left: Sequence[int], options: ReadOptions, label: int | None) -> dict[int, str]:
    """Return the columns that number or name the rows, each with the reason.

    label: the column that is declared or named as the label
    """
    named = {c: why for c in left if c != label and (why := _index_by_name(sample, c))}
    found = dict(named)
    for ordered in (left, left[::-1]):
        for column in ordered[:_AT_THE_END]:
            if column in found or column == label:
                continue
            if counts_rows(sample, column, left):
                found[column] = "it holds a different whole number in each row"
            elif sample.facts.numeric[column] > 0.5 and not is_label_like(sample, column, left):
                break
    only = next(iter(found)) if len(found) == 1 else None
    if 2 * len(found) > len(left) or (only is not None and _may_be_label(only, sample, left, label)):
        return {}
    return named if _only_fits_with(found, left, options) else found


def _index_by_name(sample: Sample, column: int) -> str:
    if not sample.names or sample.facts.distinct[column] < _MOST:
        return ""
    name = re.sub(r"[\W_0-9]+", "", sample.names[column].lower())
    unlike = column in sample.odd_names if name else not sample.names[column]
    if name in _INDEX_NAMES and unlike and sample.facts.empty[column] < 1 - _MOST:
        return f"the header calls it {sample.names[column]!r}"
    return ""


def _may_be_label(column: int, sample: Sample, left: Sequence[int], label: int | None) -> bool:
    """Whether the only index found may be the label instead: in a file of a few rows, each of another class."""
    few = len(sample.rows) < _SURE_ROWS and not sample.names and label is None
    return few and is_square(len(left) - 1) and column in (left[0], left[-1])


def _only_fits_with(found: dict[int, str], left: Sequence[int], options: ReadOptions) -> bool:
    """Whether the number of pixels, as declared or a square, is right only if `found` are pixels too."""
    if options.label is None or options.preset:
        widths: tuple[int, ...] = (0, 1)
    else:
        widths = (0,) if options.label == "none" else (1,)

    def fit(count: int) -> bool:
        counts = [count - width for width in widths]
        return options.pixels in counts if options.pixels else any(map(is_square, counts))

    return fit(len(left)) and not fit(len(left) - len(found))


def counts_rows(sample: Sample, column: int, left: Sequence[int]) -> bool:
    """Whether a column holds a different whole number in each row, as pixels do not."""
    facts, rows = sample.facts, len(sample.rows)
    if rows < _FEWEST_ROWS or facts.whole[column] < _MOST or facts.distinct[column] < _MOST:
        return False
    values = np.sort(sample.table[:, column][~np.isnan(sample.table[:, column])])
    span = values[int(0.95 * (len(values) - 1))] - values[int(0.05 * (len(values) - 1))] + 1
    if 0.9 * facts.distinct[column] * rows >= 0.8 * span:
        return True  # 100, 101, 102, … in any order
    return rows >= _SURE_ROWS and median(facts.distinct[list(left)]) <= 0.8


def is_label_like(sample: Sample, column: int, left: Sequence[int]) -> bool:
    """Whether a column holds integer classes: several common values, dense, whose maximum no pixel has."""
    values = sample.table[:, column]
    values = values[(values >= 0) & (values % 1 == 0)]
    if len(values) < 0.8 * len(sample.rows):
        return False
    common = sorted(Counter(values.tolist()).items(), key=lambda item: (-item[1], item[0]))
    distinct, counts = np.array(common).T
    classes = distinct[: np.searchsorted(np.cumsum(counts), 0.8 * len(values)) + 1]
    inner = sample.table[:, list(left)[1:-1]]
    brightest = median(np.nanmax(inner, axis=1, initial=-np.inf)) if inner.shape[1] else -1
    dense = len(classes) * 2 >= classes.max() - classes.min() + 1
    return bool(len(classes) > 1 and dense and classes.max() != brightest)


def is_square(number: int) -> bool:
    """Whether `number` pixels can be a square image."""
    return number > 0 and math.isqrt(number) ** 2 == number
