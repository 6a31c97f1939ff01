"""Which column, or columns, hold the label: as declared, by the header's names, or by the values."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from streamtrain.block import Array
from streamtrain.convert.dialect.columns import (
    declared_column,
    declared_range,
    is_label_like,
    is_square,
)
from streamtrain.convert.dialect.options import ReadOptions
from streamtrain.convert.dialect.sample import Sample, quoted
from streamtrain.errors import DataError, UsageError, argument

_LABEL_NAMES = (
    *("label", "labels", "class", "classes", "target", "targets", "y", "digit", "character", "letter", "species"),
    *("category", "classlabel", "class_label", "symbol"),
)
_ONEHOT = range(3, 101)  # classes that a one-hot label may have
_MOST = 0.8  # share of the rows that must have a property; the rest may be odd
TRUTH = {"true": 1.0, "false": 0.0}


def find_label(sample: Sample, left: list[int], options: ReadOptions) -> tuple[range, str]:
    """Return the columns of the label and the reason; `left` are the columns that are not left out.

    Raises DataError if two readings are possible, naming the option that decides.
    """
    if len(left) < 2 and options.label != "none":
        if options.drop:
            raise UsageError(f"{sample.path}: no column is left for the pixels. Drop fewer columns", option="drop")
        raise DataError(
            f"{sample.path} has no column of pixels: besides what numbers the rows or is empty, it has "
            f"{sample.title(left[0]) if left else 'nothing'}. Is it a file of labels, without the images?",
            path=sample.path,
        )
    if options.pixels == len(left) and (options.label in (None, "none") or options.preset):
        # The label of a preset is optional: the test file of the same set may have none.
        return range(0), f"no label: a row is as wide as the {len(left)} pixels that are wanted"
    if options.label is not None:
        return _declared(sample, left, options.label, options.declared_by("label"))
    named = named_labels(sample, left)
    if len(named) == 1:
        return _one(named[0]), f"the label is column {named[0] + 1}: the header calls it {sample.names[named[0]]}"
    if len(named) > 1:
        ways = " or ".join(argument("label", sample.option_value(c)) for c in named[:3])
        raise DataError(
            f"{sample.path}: {len(named)} columns are named like a label, {sample.title(named[0])} and "
            f"{sample.title(named[1])}. Pass {ways}",
            option="label",
        )
    return _by_names(sample, left) or _by_values(sample, left, options.pixels)


def named_labels(sample: Sample, left: Sequence[int]) -> list[int]:
    """Return the columns that the header names like a label."""
    return [c for c in left if sample.names and sample.names[c].lower() in _LABEL_NAMES]


def _declared(sample: Sample, left: list[int], text: str, who: str) -> tuple[range, str]:
    said = who
    if text == "none":
        return range(0), f"no label, {said}"
    if columns := declared_range(sample, text, "label"):
        if len(columns) == 1:
            return columns, f"the label is column {columns.start + 1}, {said}"
        return columns, f"the label is columns {columns.start + 1} to {columns.stop}, {said}"
    if text in ("first", "last") and left:
        return _one(left[0 if text == "first" else -1]), f"the label is the {text} column, {said}"
    column = declared_column(sample, text, "label")
    return _one(column), f"the label is column {column + 1}, {said}"


def _by_names(sample: Sample, left: list[int]) -> tuple[range, str] | None:
    """Return the only column at an end that is named unlike the pixels, if it may be a label."""
    if not sample.names or len(left) < 3:
        return None
    odd = [c for c in left if c in sample.odd_names]
    ends = {left[0], left[-1]}
    likely = [c for c in odd if c in ends and may_be_label(sample, c)]
    if len(likely) == 1:
        (column,) = likely
        name = sample.names[column][:20]
        return _one(column), f"the label is column {column + 1}: {name} is named unlike a pixel"
    return None


def may_be_label(sample: Sample, column: int) -> bool:
    """Whether the values of a column repeat, as those of a label do, and are not file names."""
    rows = len(sample.rows)
    facts = sample.facts
    return bool(facts.empty[column] < 0.5 and (rows < 20 or facts.distinct[column] <= 0.85))


def _by_values(sample: Sample, left: list[int], pixels: int | None) -> tuple[range, str]:
    ends = {"first": left[0], "last": left[-1]} if left else {}
    wordy = [end for end, c in ends.items() if _has_words(sample, c) and may_be_label(sample, c)]
    words = [end for end in wordy if not _is_truth(sample, ends[end])]
    digits = [end for end, c in ends.items() if is_digits(sample.cells(c))]
    single = words or digits or [end for end, c in ends.items() if is_label_like(sample, c, left)]
    if not single and is_square(len(left) - 1) and not is_square(len(left)):
        single = _alone_varied(sample, ends)
    onehot = {} if words or digits else onehot_columns(sample, left, pixels)
    if onehot and pixels is not None and len(left) - 1 != pixels:
        single = []
    if len(single) == 1 and not onehot:
        (end,) = single
        classes = len({*sample.cells(ends[end])})
        return _one(ends[end]), f"the label is the {end} column: {classes} classes, unlike a pixel"
    if len(onehot) == 1 and not single:
        ((end, columns),) = onehot.items()
        return columns, f"the label is the {end} {len(columns)} columns: one 1 among zeros in each row"
    if not single and not onehot and (is_square(len(left)) and not is_square(len(left) - 1)):
        side = math.isqrt(len(left))
        return range(0), f"no label: {len(left)} columns are {side} x {side} pixels"
    if not single and not onehot and _are_alike(sample, left):
        first, last = sample.names[left[0]], sample.names[left[-1]]
        return range(0), f"no label: all columns are named alike, {quoted(first)} to {quoted(last)}"
    raise _undecided(sample, single, [*onehot.items()])


def _alone_varied(sample: Sample, ends: dict[str, int]) -> list[str]:
    """Return the end whose column has several common values, if the other is blank as the corner of an image."""
    shares = {}
    for end, column in ends.items():
        common = Counter(sample.cells(column)).most_common(64)
        shares[end] = common[0][1] / len(sample.rows)
        if sum(times for _, times in common if times > 1) < _MOST * len(sample.rows):
            return []
    varied = [end for end, share in shares.items() if share < _MOST]
    return varied if len(varied) == 1 else []


def _undecided(sample: Sample, single: list[str], onehot: list[tuple[str, range]]) -> DataError:
    readings = [f"the {end} column" for end in single] + [f"the {end} {len(c)} columns" for end, c in onehot]
    values = [*single, *(f"{c.start + 1}-{c.stop}" for _, c in onehot)]
    said = (
        f"it may be {' or '.join(readings)}"
        if readings
        else "neither the first column nor the last looks like one"
    )
    ways = [argument("label", value) for value in (values or ["first", "last"])]
    return DataError(
        f"{sample.path}: which column is the label? By its values, {said}. "
        f"Pass {', '.join(ways)} or {argument('label', 'none')}",
        option="label",
        path=sample.path,
    )


def _are_alike(sample: Sample, left: Sequence[int]) -> bool:
    """Whether the names of these columns differ in a number alone."""
    stems = {re.sub(r"[0-9]+", "#", sample.names[c]) for c in left} if sample.names else set()
    return len(stems) == 1 and "#" in stems.pop()


def _has_words(sample: Sample, column: int) -> bool:
    """Whether enough rows hold words for these to be classes; other rows may hold numbers."""
    return bool(sample.facts.numeric[column] + sample.facts.empty[column] < 0.85)


def _is_truth(sample: Sample, column: int) -> bool:
    return sum(cell.lower() in TRUTH for cell in sample.cells(column)) > len(sample.rows) / 2


def is_digits(values: Sequence[str]) -> bool:
    """Whether most values are one 1 among zeros, all of one length: 0000100000."""
    ((length, _),) = Counter(map(len, values)).most_common(1) or [(0, 0)]
    one = sum(len(v) == length and v.count("1") == 1 and v.count("0") == length - 1 for v in values)
    return length in _ONEHOT and one > len(values) / 2


def onehot_columns(sample: Sample, left: list[int], pixels: int | None) -> dict[str, range]:
    """Return the columns at either end with one 1 among zeros, if the rest is a square or has `pixels`."""
    found = {}
    for end in ("first", "last"):
        for width in _ONEHOT:
            rest = len(left) - width
            if rest < 1:
                break
            columns = left[:width] if end == "first" else left[-width:]
            fits = rest == pixels if pixels else is_square(rest) or is_square(rest - 1)
            if fits and columns[-1] - columns[0] == width - 1 and is_onehot(truth_table(sample, columns)):
                found[end] = range(columns[0], columns[-1] + 1)
    return found


def is_onehot(values: Array) -> bool:
    """Whether most rows of `values` (rows, columns) have one 1 among zeros, and most columns have a 1."""
    binary = ((values == 0) | (values == 1)).all(axis=1) & (values.sum(axis=1) == 1)
    hit = (values[binary] == 1).any(axis=0).sum()
    return bool(binary.mean() > _MOST and hit > values.shape[1] / 2)


def truth_table(sample: Sample, columns: Sequence[int]) -> Array:
    """Return (rows, columns) numbers, with TRUE and FALSE as 1 and 0."""
    values = sample.table[:, list(columns)]
    if not np.isnan(values).any():
        return values
    cells = [[row[c] for c in columns] for row in sample.rows]
    words = np.array([[TRUTH.get(cell.lower(), np.nan) for cell in row] for row in cells])
    return np.where(np.isnan(values), words, values)


def _one(column: int) -> range:
    return range(column, column + 1)
