"""A sample of an unknown file → its dialect, with the reason for each decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streamtrain.convert.dialect.columns import (
    Columns,
    declared_column,
    declared_drops,
    empty_columns,
    index_columns,
)
from streamtrain.convert.dialect.dialect import Dialect
from streamtrain.convert.dialect.formats import refuse_foreign, refuse_foreign_lines
from streamtrain.convert.dialect.header import Opening, class_header, find_opening, rows_after
from streamtrain.convert.dialect.label_column import find_label, named_labels
from streamtrain.convert.dialect.labels import read_labels
from streamtrain.convert.dialect.layout import find_layout
from streamtrain.convert.dialect.no_images import refuse_drawing, refuse_labels_alone
from streamtrain.convert.dialect.options import ReadOptions
from streamtrain.convert.dialect.pixels import (
    are_decimal,
    find_denominator,
    find_order,
    find_range,
    find_shape,
    numeric_rows,
)
from streamtrain.convert.dialect.sample import SAMPLE_BYTES, Sample, sample_lines
from streamtrain.convert.dialect.unlike import Candidates, refuse_no_pixels, refuse_unlike

__all__ = ["SAMPLE_BYTES", "Detection", "detect"]


@dataclass(frozen=True)
class Detection:
    """A dialect and the reasons for it, one line each."""

    dialect: Dialect
    reasons: tuple[str, ...]


def detect(sample: bytes, *, path: str, whole: bool, options: ReadOptions) -> Detection:
    """Decide how a file is written from its first bytes; the order of its rows does not matter.

    sample: decompressed; whole: whether it is all of the file.
    Raises DataError if it is not a CSV of digits, or if two readings are possible: the message names the
    option that decides.
    """
    refuse_foreign(sample, path=path)
    first, lines = sample_lines(sample, whole=whole, path=path)
    refuse_foreign_lines(first, lines, path=path)
    layout = find_layout(lines, options.delimiter, path=path)
    opening = find_opening(first, lines, layout, options, path=path)
    found = rows_after(opening, lines, path=path)
    if whole:
        refuse_drawing(found, options)
    return _described(opening, found, find_columns(found, options), options)


def _described(opening: Opening, found: Sample, columns: Columns, options: ReadOptions) -> Detection:
    """Find what the columns hold; return the dialect. Raises errors as `detect` does."""
    pixels = [c for c in range(found.fields) if c not in columns.label and c not in columns.dropped]
    candidates = Candidates(found, pixels, columns.label, options)
    refuse_no_pixels(candidates)
    numeric = numeric_rows(found, pixels)
    refuse_labels_alone(candidates)
    refuse_unlike(candidates)
    listed = class_header(opening, found, columns.label)
    labels = read_labels(found, columns.label, listed, options)
    values = found.table[numeric][:, pixels]
    dtype, low, high, why_range = find_range(values, options)
    denominator, why_denominator = find_denominator(values, dtype)
    ordered, why_order = find_order(found, pixels)
    shape, why_shape = find_shape(len(pixels), found.names[ordered[-1]] if found.names else "", options)
    dialect = Dialect(
        delimiter=opening.layout.delimiter,
        header=opening.header,
        names=opening.names,
        fields=found.fields,
        label=columns.label.start if columns.label else None,
        label_width=max(1, len(columns.label)),
        label_kind=labels.kind,
        decimal=are_decimal(found, numeric.tolist(), pixels) or dtype == "float32",
        dtype=dtype,
        low=low,
        high=high,
        declared_range=options.pixel_range is not None,
        classes=labels.classes,
        source_labels=labels.source_labels,
        image_shape=shape,
        transposed=options.transposed,
        dropped=columns.dropped,
        trailing_delimiter=opening.layout.trailing,
        class_header=listed,
        skipped=opening.skipped,
        pixel_order=tuple(ordered) if why_order else (),
        denominator=denominator,
    )
    opened = (opening.layout.reason, *opening.reasons)
    why = (*opened, *columns.reasons, *labels.reasons, why_order, why_shape, why_range, why_denominator)
    reasons = tuple(reason for reason in why if reason)
    return Detection(dialect, (f"preset {options.preset}", *reasons) if options.preset else reasons)


def find_columns(sample: Sample, options: ReadOptions) -> Columns:
    """Find the columns that are left out, and those of the label; the rest are pixels.

    Raises DataError if two readings are possible, UsageError for an option that names no column.
    """
    dropped = {c: options.declared_by("drop") for c in declared_drops(sample, options)}
    label = _label_by_name(sample, options, dropped)
    if not options.keeps_every_column:
        left = [c for c in range(sample.fields) if c not in dropped and c != label]
        dropped |= dict.fromkeys(empty_columns(sample, left), "it is empty")
        left = [c for c in range(sample.fields) if c not in dropped]
        dropped |= index_columns(sample, left, options, label)
    left = [c for c in range(sample.fields) if c not in dropped]
    found, why = find_label(sample, left, options)
    reasons = [f"column {c + 1} is left out: {reason}" for c, reason in sorted(dropped.items())]
    return Columns(found, tuple(c for c in sorted(dropped) if c not in found), (*_shortened(reasons), why))


def _label_by_name(sample: Sample, options: ReadOptions, dropped: dict[int, str]) -> int | None:
    """Return the label's column if it is declared by name or number, or if the header names it."""
    if options.label in ("first", "last", "none"):
        return None
    if options.label and "-" not in options.label:
        missing = "label" in options.preset_fields and options.label not in sample.names
        return None if missing else declared_column(sample, options.label, "label")
    named = named_labels(sample, [c for c in range(sample.fields) if c not in dropped])
    return named[0] if len(named) == 1 else None


def _shortened(reasons: Sequence[str]) -> list[str]:
    """Return at most five reasons; the last one counts the rest."""
    more = len(reasons) - 4
    return [*reasons] if more < 2 else [*reasons[:4], f"and {more} further columns are left out"]
