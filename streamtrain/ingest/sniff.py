"""A sample of an unknown file → its dialect, with the reasons for each verdict."""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamtrain.block import Array
from streamtrain.errors import DataError, UsageError
from streamtrain.ingest.dialect import INTEGER_LIMIT, Dialect

SAMPLE_BYTES = 8 << 20
_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", " ": "space"}
_LABEL_NAMES = ("label", "class", "target", "y", "digit")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_SAMPLE_ROWS = 1000


@dataclass(frozen=True)
class Wanted:
    """What the user declared; None where it is to be found.

    label: "first", "last", "none", a column's name or its number from 1
    features: pixels in a row, where a model has to read them
    """

    label: str | None = None
    header: bool | None = None
    shape: tuple[int, ...] | None = None
    pixel_range: tuple[float, float] | None = None
    classes: tuple[str, ...] | None = None
    features: int | None = None


@dataclass(frozen=True)
class Verdict:
    """A dialect and, a line each, how it was decided."""

    dialect: Dialect
    reasons: tuple[str, ...]


def sniff(sample: bytes, *, path: str, whole: bool, wanted: Wanted) -> Verdict:
    """Decide how a file is written from its first bytes.

    sample: decompressed; whole: whether it is all of the file.
    Raises DataError where it is no CSV of digits, or two readings are possible: the message names the
    option that decides.
    """
    refuse_foreign(sample, path=path)
    lines = _lines(sample, whole=whole)
    if not lines:
        raise DataError(f"{path} is empty. Check the download, or name another file")
    delimiter, fields = _delimiter(lines, path)
    rows = [cells for line in lines if len(cells := split(line, delimiter)) == fields]
    header, why_header = _header(lines[0], rows, delimiter, wanted.header, path=path)
    names = tuple(split(lines[0], delimiter)) if header else ()
    if header and len(names) != fields:
        raise DataError(f"{path}:1: the header has {len(names)} columns, most rows {fields}. Mend its first line")
    rows = [row for row in rows[int(header) :] if tuple(row) != names]
    if not rows:
        raise DataError(f"{path} has a header and no rows. Check the download, or say --no-header")
    table = _numbers(rows)
    label, why_label = _label(rows, table, names, wanted, path)
    pixels = np.delete(table, label, axis=1) if label is not None else table
    numeric = np.flatnonzero(~np.isnan(pixels).any(axis=1))  # rows of numbers only
    dtype, low, high, why_dtype = _dtype(pixels[numeric], wanted.pixel_range, path)
    words = _has_words(table, label, wanted.classes)
    decimal = sum(_decimal(rows[r], label) for r in numeric.tolist()) > len(numeric) / 2
    shape, why_shape = _shape(pixels.shape[1], names, wanted.shape)
    dialect = Dialect(
        delimiter=delimiter,
        header=header,
        names=names,
        fields=fields,
        label=label,
        text_labels=words,
        decimal=decimal or dtype == "float32",
        dtype=dtype,
        low=low,
        high=high,
        declared_range=wanted.pixel_range is not None,
        classes=wanted.classes or (),
        image_shape=shape,
    )
    delimiter_said = f"{fields} columns, separated by {_DELIMITERS[delimiter]}s"
    return Verdict(dialect, (delimiter_said, why_header, why_label, why_shape, why_dtype))


def refuse_foreign(sample: bytes, *, path: str) -> None:
    """Raise DataError for what is no text with rows of numbers at all, saying what it is instead."""
    start = sample[:200].lstrip().lower()
    if not sample.strip():
        raise DataError(f"{path} is empty. Check the download, or name another file")
    if start.startswith(b"version https://git-lfs"):
        raise DataError(f"{path} is a Git LFS pointer, not the data. Fetch it: git lfs pull")
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise DataError(f"{path} is a web page, not a CSV. Download the file itself, not its page")
    if sample.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path} is UTF-16 text. Save it as UTF-8: iconv -f UTF-16 -t UTF-8")
    if b"\0" in sample[:65536]:
        raise DataError(f"{path} is binary, not CSV text. Check what file it is: file {path}")


def split(line: str, delimiter: str) -> list[str]:
    """A line's values without the spaces and quotes around them."""
    if '"' in line:
        try:
            return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))]
        except csv.Error:
            return []
    return [cell.strip() for cell in (line.split() if delimiter == " " else line.split(delimiter))]


def _lines(sample: bytes, *, whole: bool) -> list[str]:
    if not whole:
        sample = sample[: sample.rfind(b"\n") + 1]
    text = sample.decode("utf-8", "replace").removeprefix("\ufeff")
    lines = [line for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#")]
    if len(lines) > _SAMPLE_ROWS:  # the first line, for the header, and rows spread over the sample
        lines = [lines[i] for i in np.linspace(0, len(lines) - 1, _SAMPLE_ROWS).astype(int)]
    return lines


def _delimiter(lines: Sequence[str], path: str) -> tuple[str, int]:
    """The delimiter that most lines agree on with the most fields."""
    best = (0.0, 0, "")
    for delimiter in _DELIMITERS:
        counts = Counter(len(split(line, delimiter)) for line in lines[:500])
        fields, times = counts.most_common(1)[0]
        if fields > 1:
            best = max(best, (times / min(len(lines), 500), fields, delimiter), key=lambda b: (b[0] > 0.5, b[1]))
    share, fields, delimiter = best
    if share <= 0.5:
        raise DataError(
            f"{path}: most lines do not have the same number of values, whether separated by comma, semicolon, "
            "tab or space. Is it a CSV with one image a row?"
        )
    return delimiter, fields


def _header(
    first: str, rows: Sequence[Sequence[str]], delimiter: str, wanted: bool | None, *, path: str
) -> tuple[bool, str]:
    if wanted is not None:
        return wanted, f"{'a' if wanted else 'no'} header, as --{'' if wanted else 'no-'}header says"
    cells = split(first, delimiter)
    words = sum(not _NUMBER.fullmatch(cell) for cell in cells)
    usual = float(np.median([sum(not _NUMBER.fullmatch(cell) for cell in row) for row in rows[1:200]] or [0]))
    if words > len(cells) / 2 and usual < len(cells) / 2:
        return True, f"line 1 is a header: {cells[0][:20]}, {cells[1][:20]}, …"
    if len(cells) > 3 and cells[1:] == [str(i) for i in range(1, len(cells))]:
        raise DataError(
            f"{path}:1: 0, 1, 2, … may be a header or a row of pixels. Say which: --header or --no-header"
        )
    return False, "no header: line 1 holds numbers"


def _numbers(rows: Sequence[Sequence[str]]) -> Array:
    """(rows, fields) float64, NaN for what is no number."""
    try:
        table = np.array(rows, dtype=np.float64)
        return np.where(np.isfinite(table), table, np.nan)
    except ValueError:
        return np.array([[float(c) if _NUMBER.fullmatch(c) else np.nan for c in row] for row in rows])


def _label(
    rows: Sequence[Sequence[str]], table: Array, names: tuple[str, ...], wanted: Wanted, path: str
) -> tuple[int | None, str]:
    """The label's column from 0, or None, and why."""
    fields = table.shape[1]
    if wanted.label is not None:
        return _wanted_label(wanted.label, names, fields, path)
    if fields == wanted.features:
        return None, f"no label: a row is as wide as the {fields} pixels that are wanted"
    named = [i for i, name in enumerate(names) if name.lower() in _LABEL_NAMES]
    if len(named) == 1:
        return named[0], f"the label is column {named[0] + 1}: the header calls it {names[named[0]]}"
    ends = {"first": 0, "last": fields - 1}
    words = [end for end, c in ends.items() if np.isnan(table[:, c]).mean() > 0.5]
    fitting = words or [end for end, c in ends.items() if _label_like(table, c)]
    if len(fitting) == 1:
        (end,) = fitting
        classes = len({row[ends[end]] for row in rows})
        return ends[end], f"the label is the {end} column: {classes} classes, unlike a pixel"
    square, square_less = _is_square(fields), _is_square(fields - 1)
    if not fitting and square and not square_less:
        side = math.isqrt(fields)
        return None, f"no label: {fields} columns are {side} x {side} pixels"
    readings = "either end could be it" if fitting else "neither end looks like one"
    raise DataError(
        f"{path}: which column is the label? By its values, {readings}. Say --label first, last or none"
    )


def _wanted_label(wanted: str, names: tuple[str, ...], fields: int, path: str) -> tuple[int | None, str]:
    said = f"as --label {wanted} says"
    if wanted == "none":
        return None, f"no label, {said}"
    if wanted in ("first", "last"):
        return (0 if wanted == "first" else fields - 1), f"the label is the {wanted} column, {said}"
    if wanted in names:
        return names.index(wanted), f"the label is column {names.index(wanted) + 1}, {said}"
    if wanted.isdecimal() and 1 <= int(wanted) <= fields:
        return int(wanted) - 1, f"the label is column {wanted}, {said}"
    raise UsageError(
        f"{path} has no column {wanted!r}: --label takes first, last, none, a name of its header, or a number "
        f"from 1 to {fields}"
    )


def _label_like(table: Array, column: int) -> bool:
    """Whether a column holds a few integer classes, unlike the pixels: no other maximum, not mostly one value."""
    values = table[:, column]
    values = values[~np.isnan(values)]
    if not len(values) or (values < 0).any() or (values % 1 != 0).any():
        return False
    distinct, counts = np.unique(values, return_counts=True)
    others = np.delete(table, [0, table.shape[1] - 1], axis=1)
    same_range = others.size > 0 and distinct[-1] == np.nanmax(others, initial=-np.inf)
    dense = len(distinct) * 2 >= distinct[-1] - distinct[0] + 1
    return bool(len(distinct) > 1 and not same_range and dense and counts.max() < 0.9 * len(values))


def _has_words(table: Array, label: int | None, classes: tuple[str, ...] | None) -> bool:
    if classes:
        return not all(name.isdecimal() for name in classes)
    return label is not None and bool(np.isnan(table[:, label]).mean() > 0.5)


def _decimal(row: Sequence[str], label: int | None) -> bool:
    return any(not cell.isdecimal() for c, cell in enumerate(row) if c != label)


def _dtype(pixels: Array, declared: tuple[float, float] | None, path: str) -> tuple[str, float, float, str]:
    """How pixels are stored, the least and the largest that they may be, and why."""
    if not len(pixels):
        raise DataError(f"{path}: no row of the sample holds only numbers. Is the label elsewhere? Say --label")
    fraction = bool(((pixels % 1 != 0).any(axis=1)).mean() > 0.5)
    if declared is not None:
        low, high = declared
        integers = not fraction and low >= 0 and float(low).is_integer() and float(high).is_integer()
        dtype = ("uint8" if high <= 255 else "uint16" if high <= 65535 else "float32") if integers else "float32"
        return dtype, low, high, f"pixels {low:g}..{high:g}, as --range says"
    if fraction or (pixels.min(axis=1) < 0).mean() > 0.5:
        return "float32", -3.4e38, 3.4e38, "pixels are numbers with a fraction"
    wide = (pixels.max(axis=1) > INTEGER_LIMIT["uint8"]).mean() > 0.5
    dtype = "uint16" if wide else "uint8"
    return dtype, 0, INTEGER_LIMIT[dtype], f"pixels are integers 0..{INTEGER_LIMIT[dtype]}"


def _is_square(number: int) -> bool:
    return number > 0 and math.isqrt(number) ** 2 == number


def _shape(features: int, names: tuple[str, ...], wanted: tuple[int, ...] | None) -> tuple[tuple[int, ...], str]:
    if wanted is not None:
        if math.prod(wanted) != features:
            said = "x".join(map(str, wanted))
            raise UsageError(
                f"--shape {said} is {math.prod(wanted)} pixels, a row has {features}. Check --label too"
            )
        return wanted, f"images {'x'.join(map(str, wanted))}, as --shape says"
    match = re.fullmatch(r"(\d+)x(\d+)", names[-1]) if names else None
    if match and int(match[1]) * int(match[2]) == features:
        return (int(match[1]), int(match[2])), f"images {names[-1]}: the header's last column says so"
    side = math.isqrt(features)
    if side * side == features:
        return (side, side), f"images {side}x{side}: {features} pixels are a square"
    return (features,), f"{features} values a row, no image (else say --shape)"
