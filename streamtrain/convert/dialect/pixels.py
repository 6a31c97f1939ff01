"""What the pixels are: their type and range, their order in the image, and what is wrong with most of them."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from streamtrain.block import Array
from streamtrain.convert.dialect.columns import is_square
from streamtrain.convert.dialect.dialect import INTEGER_LIMIT
from streamtrain.convert.dialect.formats import cell_format
from streamtrain.convert.dialect.options import ReadOptions
from streamtrain.convert.dialect.sample import Sample
from streamtrain.errors import DataError, UsageError
from streamtrain.shards.fractions import denominator_of

_HALF = 0.5
_EXACT_IN_FLOAT32 = 1 << 24
_NUMBERED = re.compile(r"(\D*)(\d+)(?:(\D+)(\d+))?(\D*)")


def numeric_rows(sample: Sample, columns: Sequence[int]) -> Array:
    """Return the rows whose pixels are all numbers. Raises DataError, naming a cell, if they are not most."""
    unknown = np.isnan(sample.table[:, list(columns)])
    wrong = unknown.any(axis=1)
    if wrong.mean() <= _HALF:
        return np.flatnonzero(~wrong)
    cells = [row[c] for row in sample.rows for c in columns]
    found = Counter(cell for cell, bad in zip(cells, unknown.ravel().tolist(), strict=True) if bad)
    formats = Counter[tuple[str, str]]()
    for cell, times in found.items():
        formats[cell_format(cell)] += times
    (what, step), _ = sorted(formats.items(), key=lambda item: (-item[1], item[0]))[0]
    such = {cell for cell in found if cell_format(cell) == (what, step)}
    places = [
        (sample.lines[r], c, r)
        for r in np.flatnonzero(wrong).tolist()
        for c in columns
        if sample.rows[r][c] in such
    ]
    _, column, row = min(places)
    place = sample.first_cell(column, [r == row for r in range(len(sample.rows))])
    raise DataError(
        f"{place}: {what}, as in most rows. {step}",
        path=sample.path,
        line=sample.lines[row],
        column=column + 1,
    )


def find_range(pixels: Array, options: ReadOptions) -> tuple[str, float, float, str]:
    """Return how pixels (rows, features) are stored, the least and the largest that they may be, and why."""
    fraction = bool(((np.floor(pixels) != pixels).any(axis=1)).mean() > _HALF)
    if options.pixel_range is not None:
        low, high = options.pixel_range
        integers = not fraction and low >= 0 and float(low).is_integer() and float(high).is_integer()
        if integers and high > _EXACT_IN_FLOAT32:
            raise UsageError(
                f"pixels are integers up to {high:.0f} by `pixel_range`, but stored as float32, which is exact "
                f"for integers up to {_EXACT_IN_FLOAT32:,} only. Divide the pixels of the source instead",
                option="pixel_range",
            )
        dtype = ("uint8" if high <= 255 else "uint16" if high <= 65535 else "float32") if integers else "float32"
        return dtype, low, high, f"pixels {low:g}..{high:g}, {options.declared_by('pixel_range')}"
    if fraction or (pixels.min(axis=1) < 0).mean() > _HALF:
        return "float32", -3.4e38, 3.4e38, "pixels are numbers with a fraction"
    wide = (pixels.max(axis=1) > INTEGER_LIMIT["uint8"]).mean() > _HALF
    dtype = "uint16" if wide else "uint8"
    return dtype, 0, INTEGER_LIMIT[dtype], f"pixels are integers 0..{INTEGER_LIMIT[dtype]}"


def find_denominator(pixels: Array, dtype: str) -> tuple[int, str]:
    """Return the denominator of pixels (rows, features) that are fractions, 1 if they are not, and why."""
    denominator = denominator_of(pixels) if dtype == "float32" else 1
    if denominator == 1:
        return 1, ""
    return denominator, f"they are n/{denominator}, stored as n in a byte if those of all rows are"


def find_order(sample: Sample, columns: Sequence[int]) -> tuple[list[int], str]:
    """Return the columns in the order of the image, and what is to be said of it.

    Names that number the pixels, as pixel0, pixel1, … or 1x1, 1x2, … (row x column), decide over the order of the
    columns.
    """
    matches = [_NUMBERED.fullmatch(sample.names[c]) for c in columns] if sample.names else []
    keys = [(int(m[2]), int(m[4] or 0)) for m in matches if m]
    alike = {(m[1], m[3], m[5]) for m in matches if m}
    numbered = len(keys) == len(columns) >= 4 and len(alike) == 1 and len(set(keys)) == len(keys)
    if not numbered or not _are_complete(keys):
        return list(columns), ""
    ordered = [column for _, column in sorted(zip(keys, columns, strict=True))]
    if ordered == list(columns):
        return ordered, ""
    first, second = sample.names[ordered[0]], sample.names[ordered[1]]
    return ordered, f"pixels are put in the order of their names: {first}, {second}, …"


def _are_complete(keys: Sequence[tuple[int, int]]) -> bool:
    """Whether pairs of numbers are 0 to n or all places of a rectangle."""
    rows, across = {row for row, _ in keys}, {column for _, column in keys}
    filled = len(rows) * len(across) == len(keys)
    return filled and max(rows) - min(rows) == len(rows) - 1 and max(across) - min(across) == len(across) - 1


def find_shape(features: int, last_name: str, options: ReadOptions) -> tuple[tuple[int, ...], str]:
    """Return the shape of the image and why. Raises UsageError if the declared one does not fit."""
    upright = ", set upright" if options.transposed else ""
    if options.shape is not None:
        said = "x".join(map(str, options.shape))
        if math.prod(options.shape) != features:
            who = f"preset {options.preset}" if "shape" in options.preset_fields else "`shape`"
            raise UsageError(
                f"{who} {said} is {math.prod(options.shape)} pixels, but a row has {features}. "
                "Does it have further columns, or another label?",
                option="shape",
            )
        if options.transposed and len(options.shape) != 2:
            raise UsageError(f"a transposed image has rows and columns, not the shape {said}", option="shape")
        return options.shape, f"images {said}, {options.declared_by('shape')}{upright}"
    match = re.fullmatch(r"(\d+)x(\d+)", last_name)
    if match and int(match[1]) * int(match[2]) == features:
        return (int(match[1]), int(match[2])), f"images {last_name}: the header's last column says so"
    if is_square(features):
        side = math.isqrt(features)
        return (side, side), f"images {side}x{side}: {features} pixels are a square{upright}"
    return (features,), f"{features} values a row, not an image unless `shape` says so"


def are_decimal(sample: Sample, rows: Sequence[int], columns: Sequence[int]) -> bool:
    """Whether the pixels of most of these rows are written with a point or an exponent."""
    return sum(_is_decimal(sample.rows[row], columns) for row in rows) > len(rows) / 2


def _is_decimal(row: Sequence[str], columns: Sequence[int]) -> bool:
    if "" not in row and "".join(row).isdecimal():
        return False
    return not "".join([row[c] for c in columns]).isdecimal()
