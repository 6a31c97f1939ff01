"""A sample of an unknown file → its dialect, with the reasons for each verdict."""

from __future__ import annotations

import heapq
import math
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamtrain.block import Array
from streamtrain.convert.dialect.columns import Sample, find_columns, is_square, label_kind, median, numbers
from streamtrain.convert.dialect.dialect import INTEGER_LIMIT, Dialect
from streamtrain.convert.dialect.options import ReadOptions
from streamtrain.convert.text.cells import DECIMAL, RowError, split_row
from streamtrain.errors import DataError, UsageError

SAMPLE_BYTES = 8 << 20
_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", " ": "space"}
_SAMPLE_ROWS = 250
_HALF = 0.5
_CONTROL = re.compile(rb"[\0-\x08\x0b\x0c\x0e-\x1f]")


@dataclass(frozen=True)
class Detection:
    """A dialect and, a line each, how it was decided."""

    dialect: Dialect
    reasons: tuple[str, ...]


def detect(sample: bytes, *, path: str, whole: bool, wanted: ReadOptions) -> Detection:
    """Decide how a file is written from its first bytes; the order of its rows does not matter.

    sample: decompressed; whole: whether it is all of the file.
    Raises DataError where it is no CSV of digits, or two readings are possible: the message names the
    option that decides.
    """
    refuse_foreign(sample, path=path)
    first, lines = _lines(sample, whole=whole)
    if not lines:
        raise DataError(f"{path} is empty. Check the download, or name another file")
    layout = _layout(lines, wanted.delimiter, path)
    rows = [cells for line in lines if len(cells := layout.split(line)) == layout.fields]
    top = layout.split(first)
    header, why_header = _header(top, rows, wanted, path=path)
    names = tuple(top) if header else ()
    if header and len(names) != layout.fields:
        raise DataError(f"{path}:1: the header has {len(names)} columns, most rows {layout.fields}. Mend line 1")
    rows = [row for row in rows if tuple(row) != names]
    if not rows:
        raise DataError(f"{path} has a header and no rows. Check the download, or say --no-header")
    found = Sample(path, rows, numbers(rows), names)
    columns = find_columns(found, wanted)
    class_line = _class_line(top, layout.fields, found, columns.label)
    labelling = read_labels(found, columns.label, class_line, wanted)
    pixel_columns = [c for c in range(layout.fields) if c not in columns.label and c not in columns.dropped]
    pixels = found.table[:, pixel_columns]
    numeric = np.flatnonzero(~np.isnan(pixels).any(axis=1))  # rows of numbers only
    dtype, low, high, why_dtype = _dtype(pixels[numeric], wanted, path)
    decimal = sum(_is_decimal(rows[r], pixel_columns) for r in numeric.tolist()) > len(numeric) / 2
    shape, why_shape = _shape(len(pixel_columns), names[pixel_columns[-1]] if names else "", wanted)
    dialect = Dialect(
        delimiter=layout.delimiter,
        header=header,
        names=names,
        fields=layout.fields,
        label=columns.label.start if columns.label else None,
        label_width=max(1, len(columns.label)),
        label_kind=labelling.kind,
        decimal=decimal or dtype == "float32",
        dtype=dtype,
        low=low,
        high=high,
        declared_range=wanted.pixel_range is not None,
        classes=labelling.classes,
        written=labelling.written,
        image_shape=shape,
        transposed=wanted.transposed,
        dropped=columns.dropped,
        trailing=layout.trailing,
        class_line=class_line,
    )
    reasons = (layout.said, why_header, *columns.reasons, *labelling.reasons, why_shape, why_dtype)
    return Detection(dialect, (f"preset {wanted.preset}", *reasons) if wanted.preset else reasons)


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
    if b"\0" in sample:
        lines = sample.split(b"\n")
        if sum(_CONTROL.search(line) is not None for line in lines) > len(lines) / 2:
            raise DataError(f"{path} is binary, not CSV text. Check what file it is: file {path}")


def _lines(sample: bytes, *, whole: bool) -> tuple[str, list[str]]:
    """The first line, and lines chosen by their content alone: any order of them gives the same choice."""
    if not whole:
        sample = sample[: sample.rfind(b"\n") + 1]
    sample = sample.removeprefix(b"\xef\xbb\xbf")
    lines = [line for line in sample.splitlines() if line.strip() and not line.lstrip().startswith(b"#")]
    chosen = heapq.nsmallest(_SAMPLE_ROWS, lines, key=lambda line: (zlib.crc32(line), line))
    text = [line.decode("utf-8", "surrogateescape") for line in [*lines[:1], *chosen]]
    return text[0] if text else "", text[1:]


@dataclass(frozen=True)
class _Layout:
    """How a line falls into values."""

    delimiter: str
    fields: int
    trailing: bool

    @property
    def said(self) -> str:
        trailing = ", one after the last too" if self.trailing else ""
        return f"{self.fields} columns, separated by {_DELIMITERS[self.delimiter]}s{trailing}"

    def split(self, line: str) -> list[str]:
        """A line's values; none where a quote is left open."""
        try:
            cells = split_row(line, self.delimiter)
        except RowError:
            return []
        return cells[:-1] if self.trailing and len(cells) == self.fields + 1 and not cells[-1] else cells


def _layout(lines: Sequence[str], wanted: str | None, path: str) -> _Layout:
    """The delimiter that most lines agree on, their values being numbers, with the most values."""
    best: tuple[bool, int] = (False, 0)  # whether most values are numbers, and how many a line has
    layout = None
    for delimiter in [wanted] if wanted else _DELIMITERS:
        if not any(delimiter in line for line in lines):
            continue
        rows = [_Layout(delimiter, 0, False).split(line) for line in lines]
        (fields, times), *_ = sorted(Counter(map(len, rows)).items(), key=lambda item: (-item[1], -item[0]))
        rows = [row for row in rows if len(row) == fields]
        trailing = fields > 1 and sum(not row[-1] for row in rows) > len(rows) / 2
        fields -= trailing
        cells = Counter(cell for row in rows[:50] for cell in row[:fields])
        numeric = sum(n for cell, n in cells.items() if DECIMAL.fullmatch(cell)) > cells.total() / 2
        if fields > 1 and times > len(lines) / 2 and (numeric, fields) > best:
            best, layout = (numeric, fields), _Layout(delimiter, fields, trailing)
    if layout is None:
        named = f"by {_DELIMITERS[wanted]}" if wanted else "by comma, semicolon, tab or space"
        raise DataError(
            f"{path}: most lines do not have the same number of values, whether separated {named}. "
            "Is it a CSV with one image a row?"
        )
    return layout


def _header(top: list[str], rows: Sequence[Sequence[str]], wanted: ReadOptions, *, path: str) -> tuple[bool, str]:
    if wanted.header is not None:
        who = wanted.who("header", "--header" if wanted.header else "--no-header")
        return wanted.header, f"{'a' if wanted.header else 'no'} header, as {who} says"
    words = sum(not DECIMAL.fullmatch(cell) for cell in top)
    if words > len(top) / 2 and _usual_words(rows, top) < len(top) / 2:
        return True, f"line 1 is a header: {', '.join(name[:20] for name in top[:2])}, …"
    if len(top) > 8 and top[1:] == [str(i) for i in range(1, len(top))] and len(top) == len(rows[0]):
        raise DataError(
            f"{path}:1: 0, 1, 2, … may be a header or a row of pixels. Say which: --header or --no-header"
        )
    return False, "no header: line 1 holds numbers"


def _class_line(top: list[str], fields: int, sample: Sample, label: range) -> tuple[str, ...]:
    """Line 1 where it lists the classes, being of another width than the rows: UCI's copies have one."""
    if len(label) != 1 or len(top) == fields or not 2 <= len(set(top)) == len(top):
        return ()
    labels = Counter(row[label.start] for row in sample.rows)
    listed = sum(times for name, times in labels.items() if name in top)
    return tuple(top) if listed > _HALF * labels.total() else ()


@dataclass(frozen=True)
class LabelEncoding:
    """How labels are written: see Dialect; and why."""

    kind: str
    classes: tuple[str, ...]
    written: tuple[str, ...]
    reasons: tuple[str, ...]


def read_labels(sample: Sample, label: range, class_line: tuple[str, ...], wanted: ReadOptions) -> LabelEncoding:
    """Decide how the label in these columns is written."""
    kind = label_kind(sample, label, wanted.labels or ())
    classes, written, why = _classes(sample, label, kind, class_line, wanted)
    if written and kind in ("number", "decimal") and not all(name.isdecimal() for name in written):
        kind = "word"
    return LabelEncoding(kind, classes, written, tuple(why))


def _classes(
    sample: Sample, label: range, kind: str, class_line: tuple[str, ...], wanted: ReadOptions
) -> tuple[tuple[str, ...], tuple[str, ...], list[str]]:
    """Class names in index order, how the source writes each, and why; empty where the full pass finds them."""
    said = [f"line 1 lists the {len(class_line)} classes"] if class_line else []
    if not label:
        return (), (), said
    if kind in ("onehot", "digits"):
        number = len(label) if kind == "onehot" else len(sample.rows[0][label.start])
        if kind == "digits":
            number = Counter(len(row[label.start]) for row in sample.rows).most_common(1)[0][0]
            said.append(f"a label is {number} digits, a 1 in the place of its class")
        names = wanted.classes or tuple(map(str, range(number)))
        if len(names) != number:
            raise UsageError(f"{sample.path} has {number} classes by its label, --classes {len(names)}")
        return names, names, said
    if wanted.labels:
        return wanted.classes or wanted.labels, wanted.labels, said
    classes = wanted.classes or class_line
    values = sample.table[:, label.start]
    if not classes or kind == "word" or all(name.isdecimal() for name in classes):
        return classes, tuple(str(int(n)) if n.isdecimal() else n for n in classes), said
    zeros, tops = int((values == 0).sum()), int((values == len(classes)).sum())
    from_zero, from_one = zeros > 4 * tops, tops > 4 * zeros  # an odd row aside, only one of them occurs
    if from_zero == from_one:
        raise DataError(
            f"{sample.path}: are the labels of {len(classes)} named classes counted from 0 or from 1? "
            "Say it in a preset file: labels = [0, 1, …]"
        )
    first = 0 if from_zero else 1
    written = tuple(str(first + i) for i in range(len(classes)))
    return classes, written, [*said, f"labels count from {first}: {first} is {classes[0]}"]


def _usual_words(rows: Sequence[Sequence[str]], top: list[str]) -> float:
    """How many values of a row are no numbers, in the median of those unlike line 1."""
    words = [sum(not DECIMAL.fullmatch(cell) for cell in row) for row in rows[:50] if row != top]
    return median(np.array(words or [0]))


def _is_decimal(row: Sequence[str], columns: Sequence[int]) -> bool:
    if "" not in row and "".join(row).isdecimal():
        return False
    return not "".join([row[c] for c in columns]).isdecimal()


def _dtype(pixels: Array, wanted: ReadOptions, path: str) -> tuple[str, float, float, str]:
    """How pixels are stored, the least and the largest that they may be, and why."""
    if not len(pixels):
        raise DataError(f"{path}: no row of the sample holds only numbers. Is the label elsewhere? Say --label")
    fraction = bool(((pixels % 1 != 0).any(axis=1)).mean() > _HALF)
    if wanted.pixel_range is not None:
        low, high = wanted.pixel_range
        integers = not fraction and low >= 0 and float(low).is_integer() and float(high).is_integer()
        dtype = ("uint8" if high <= 255 else "uint16" if high <= 65535 else "float32") if integers else "float32"
        return dtype, low, high, f"pixels {low:g}..{high:g}, as {wanted.who('pixel_range', '--range')} says"
    if fraction or (pixels.min(axis=1) < 0).mean() > _HALF:
        return "float32", -3.4e38, 3.4e38, "pixels are numbers with a fraction"
    wide = (pixels.max(axis=1) > INTEGER_LIMIT["uint8"]).mean() > _HALF
    dtype = "uint16" if wide else "uint8"
    return dtype, 0, INTEGER_LIMIT[dtype], f"pixels are integers 0..{INTEGER_LIMIT[dtype]}"


def _shape(features: int, last_name: str, wanted: ReadOptions) -> tuple[tuple[int, ...], str]:
    upright = ", set upright" if wanted.transposed else ""
    if wanted.shape is not None:
        said = "x".join(map(str, wanted.shape))
        if math.prod(wanted.shape) != features:
            option = f"preset {wanted.preset}" if wanted.preset else "--shape"
            raise UsageError(
                f"{option} {said} is {math.prod(wanted.shape)} pixels, a row has {features}. Check --label too"
            )
        if wanted.transposed and len(wanted.shape) != 2:
            raise UsageError(f"a transposed image has rows and columns, not the shape {said}")
        return wanted.shape, f"images {said}, as {wanted.who('shape', '--shape')} says{upright}"
    match = re.fullmatch(r"(\d+)x(\d+)", last_name)
    if match and int(match[1]) * int(match[2]) == features:
        return (int(match[1]), int(match[2])), f"images {last_name}: the header's last column says so"
    if is_square(features):
        side = math.isqrt(features)
        return (side, side), f"images {side}x{side}: {features} pixels are a square{upright}"
    return (features,), f"{features} values a row, no image (else say --shape)"
