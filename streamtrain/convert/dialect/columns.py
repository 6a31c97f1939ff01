"""Which columns hold the label, which the pixels and which neither, with the reasons."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamtrain.block import Array
from streamtrain.convert.dialect.options import ReadOptions
from streamtrain.convert.text.cells import DECIMAL
from streamtrain.errors import DataError, UsageError

_LABEL_NAMES = ("label", "labels", "class", "target", "y", "digit", "character", "letter", "species")
_ID_NAMES = ("", "id", "index", "imageid", "image_id", "unnamed: 0", "row", "rowid")
_ONEHOT = range(3, 101)  # classes that a one-hot label may have
_MOST = 0.8  # of the rows: what each of them should show, odd ones aside


@dataclass(frozen=True)
class Columns:
    """The parts of a row, columns counted from 0, and why."""

    label: range
    dropped: tuple[int, ...]
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Sample:
    """Rows of equal width: their text, their numbers (NaN for none), and the columns' names or nothing."""

    path: str
    rows: Sequence[Sequence[str]]
    table: Array  # (rows, fields) float64
    names: tuple[str, ...]

    @property
    def fields(self) -> int:
        return len(self.rows[0])


def find_columns(sample: Sample, wanted: ReadOptions) -> Columns:
    """Tell the columns apart. Raises DataError where two readings are possible, naming the option that decides."""
    dropped, said = _dropped(sample, wanted)
    left = [c for c in range(sample.fields) if c not in dropped]
    if wanted.pixels == len(left) and (wanted.label in (None, "none") or wanted.preset):
        # A preset's label is where there is one: the same set's test file may come without.
        label, why = range(0), f"no label: a row is as wide as the {len(left)} pixels that are wanted"
    elif wanted.label is not None:
        label, why = _declared(sample, left, wanted.label, wanted.who("label", f"--label {wanted.label}"))
    else:
        label, why = _found(sample, left, wanted.pixels)
    return Columns(label, dropped, (*said, why))


def _dropped(sample: Sample, wanted: ReadOptions) -> tuple[tuple[int, ...], list[str]]:
    if wanted.drop is not None:
        present = [name for name in wanted.drop if not wanted.preset or name in sample.names or name.isdecimal()]
        columns = tuple(_column(sample, name, "--drop") for name in present if name != "none")
        return columns, [f"column {c + 1} is left out, as {wanted.who('drop', '--drop')} says" for c in columns]
    columns = tuple(c for c in (0, sample.fields - 1) if sample.names and sample.names[c].lower() in _ID_NAMES)
    if not columns and not sample.names and wanted.label is None:
        _refuse_numbered_rows(sample)
    return columns, [f"column {c + 1} is left out: the header calls it {sample.names[c]!r}" for c in columns]


def _refuse_numbered_rows(sample: Sample) -> None:
    first = sample.table[:, 0]
    differ = len(set(first.tolist())) == len(first)
    if len(first) >= 20 and differ and (first % 1 == 0).all() and first.max() > 255:
        raise DataError(
            f"{sample.path}: column 1 is another integer in each row, so it may number the rows. "
            "Leave it out with --drop 1, or say where the label is: --label"
        )


def _column(sample: Sample, text: str, option: str) -> int:
    if text in ("first", "last"):
        return 0 if text == "first" else sample.fields - 1
    if text in sample.names:
        return sample.names.index(text)
    if text.isdecimal() and 1 <= int(text) <= sample.fields:
        return int(text) - 1
    raise UsageError(
        f"{sample.path} has no column {text!r}: {option} takes first, last, none, a name of its header, or a "
        f"number from 1 to {sample.fields}"
    )


def _declared(sample: Sample, left: list[int], text: str, who: str) -> tuple[range, str]:
    said = f"as {who} says"
    if text == "none":
        return range(0), f"no label, {said}"
    between = re.fullmatch(r"(\d+)-(\d+)", text)
    if between and text not in sample.names:
        start, stop = _column(sample, between[1], "--label"), _column(sample, between[2], "--label") + 1
        if stop - start < 2:
            raise UsageError(f"--label {text} is no range of columns. Write it as 257-266")
        return range(start, stop), f"the label is columns {start + 1} to {stop}, {said}"
    column = _column(sample, text, "--label")
    if text in ("first", "last"):
        column = left[0 if text == "first" else -1]
        return range(column, column + 1), f"the label is the {text} column, {said}"
    return range(column, column + 1), f"the label is column {column + 1}, {said}"


def _found(sample: Sample, left: list[int], pixels: int | None) -> tuple[range, str]:
    """The label by the header's names, else by the values."""
    names = sample.names
    named = [c for c in left if names and names[c].lower() in _LABEL_NAMES]
    if len(named) == 1:
        return _one(named[0]), f"the label is column {named[0] + 1}: the header calls it {names[named[0]]}"
    ends = {"first": left[0], "last": left[-1]}
    if names:
        stems = [re.sub(r"[0-9]+", "#", names[c]) for c in left]
        (usual, _), *_ = Counter(stems).most_common()
        odd = [c for c, stem in zip(left, stems, strict=True) if stem != usual]
        if "#" in usual and len(left) > 2 and not odd:
            return range(0), f"no label: all columns are named alike, {names[left[0]]} to {names[left[-1]]}"
        if "#" in usual and len(left) > 2 and len(odd) == 1 and odd[0] in ends.values():
            return _one(odd[0]), f"the label is column {odd[0] + 1}: {names[odd[0]][:20]} is named unlike a pixel"
    return _by_values(sample, left, ends, pixels)


def _by_values(sample: Sample, left: list[int], ends: dict[str, int], pixels: int | None) -> tuple[range, str]:
    table = sample.table
    words = [end for end, c in ends.items() if np.isnan(table[:, c]).mean() > 0.5]
    digits = [end for end, c in ends.items() if is_digits([row[c] for row in sample.rows])]
    single = words or digits or [end for end, c in ends.items() if _label_like(table, c, left)]
    wide = {
        f"{end} {len(columns)}": columns
        for end, columns in _onehot(table, left, pixels).items()
        if not (words or digits)
    }
    if wide and pixels is not None and len(left) - 1 != pixels:
        single = []
    if len(single) == 1 and not wide:
        (end,) = single
        classes = len({row[ends[end]] for row in sample.rows})
        return _one(ends[end]), f"the label is the {end} column: {classes} classes, unlike a pixel"
    if len(wide) == 1 and not single:
        ((end, columns),) = wide.items()
        return columns, f"the label is the {end} columns: one 1 among zeros in each row"
    square, square_less = is_square(len(left)), is_square(len(left) - 1)
    if not single and not wide and square and not square_less:
        side = math.isqrt(len(left))
        return range(0), f"no label: {len(left)} columns are {side} x {side} pixels"
    readings = [f"the {end} column" for end in single] + [f"the {end} columns" for end in wide]
    options = [*single, *(f"{c.start + 1}-{c.stop}" for c in wide.values())]
    said = (
        f"it may be {' or '.join(readings)}"
        if readings
        else "neither the first column nor the last looks like one"
    )
    raise DataError(
        f"{sample.path}: which column is the label? By its values, {said}. "
        f"Say --label {', '.join(options or ['first', 'last'])} or none"
    )


def _one(column: int) -> range:
    return range(column, column + 1)


def is_digits(values: Sequence[str]) -> bool:
    """Whether most values are one 1 among zeros, all of one length: 0000100000."""
    ((length, _),) = Counter(map(len, values)).most_common(1) or [(0, 0)]
    one = sum(len(v) == length and v.count("1") == 1 and v.count("0") == length - 1 for v in values)
    return length in _ONEHOT and one > len(values) / 2


def _onehot(table: Array, left: list[int], pixels: int | None) -> dict[str, range]:
    """Columns at either end that hold one 1 among zeros, where the rest is a square or as many as wanted."""
    found = {}
    for end in ("first", "last"):
        for width in _ONEHOT:
            rest = len(left) - width
            if rest < 1 or not (rest == pixels if pixels else is_square(rest)):
                continue
            columns = left[:width] if end == "first" else left[-width:]
            values = table[:, columns]
            binary = ((values == 0) | (values == 1)).all(axis=1) & (values.sum(axis=1) == 1)
            hit = (values[binary] == 1).any(axis=0).sum()
            if binary.mean() > _MOST and hit > width / 2:
                found[end] = range(columns[0], columns[-1] + 1)
    return found


def _label_like(table: Array, column: int, left: list[int]) -> bool:
    """Whether a column holds a few integer classes, unlike the pixels: no other maximum, not mostly one value."""
    values = table[:, column]
    values = values[(values >= 0) & (values % 1 == 0)]
    if len(values) < _MOST * len(table):
        return False
    common = sorted(Counter(values.tolist()).items(), key=lambda item: (-item[1], item[0]))
    distinct, counts = np.array(common).T
    classes = distinct[: np.searchsorted(np.cumsum(counts), _MOST * len(values)) + 1]
    brightest = median(np.nanmax(table[:, left[1:-1]], axis=1, initial=-np.inf)) if len(left) > 2 else -1
    dense = len(classes) * 2 >= classes.max() - classes.min() + 1
    return bool(len(classes) > 1 and dense and classes.max() != brightest)


def numbers(rows: Sequence[Sequence[str]]) -> Array:
    """(rows, fields) float64, NaN for what is no number."""
    distinct = set().union(*rows)
    try:
        value = {cell: float(cell) for cell in distinct}
    except ValueError:
        value = {cell: float(cell) if DECIMAL.fullmatch(cell) else np.nan for cell in distinct}
    table = np.array([[value[cell] for cell in row] for row in rows])
    return np.where(np.isfinite(table), table, np.nan)


def median(values: Array) -> float:
    """The median of at least one number. NumPy's own, as its `unique`, imports numpy.ma, which takes 15 ms."""
    ordered = np.sort(values)
    return float(ordered[(len(values) - 1) // 2] + ordered[len(values) // 2]) / 2


def label_kind(sample: Sample, label: range, labels: Sequence[str]) -> str:
    """How the label is written, one of dialect.LABEL_KINDS; `labels` are those declared."""
    if len(label) > 1:
        return "onehot"
    if not label:
        return "number"
    values = [row[label.start] for row in sample.rows]
    if labels and not all(name.isdecimal() for name in labels):
        return "word"
    if is_digits(values) and not labels:
        return "digits"
    if not labels and sum(not DECIMAL.fullmatch(v) for v in values) > len(values) / 2:
        return "word"
    return "decimal" if sum("." in v for v in values) > len(values) / 2 else "number"


def is_square(number: int) -> bool:
    """Whether a number of pixels may be an image as high as wide."""
    return number > 0 and math.isqrt(number) ** 2 == number
