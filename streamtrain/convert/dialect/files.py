"""Several files of one data set → the one dialect that all are written in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from streamtrain.convert.dialect.detect import Detection, detect
from streamtrain.convert.dialect.dialect import Dialect
from streamtrain.convert.dialect.options import ReadOptions
from streamtrain.convert.dialect.sample import SAMPLE_BYTES, NoRowsError
from streamtrain.convert.text.text_file import TextFile
from streamtrain.errors import DataError, argument
from streamtrain.storage.objects import Location

# What files have to share, and the parameter that declares it for all of them.
_SHARED = {
    "delimiter": "",
    "fields": "",
    "label": "label",
    "label_width": "label",
    "label_kind": "classes",
    "image_shape": "shape",
    "dtype": "pixel_range",
    "dropped": "drop",
}


def detect_file(path: Location, options: ReadOptions) -> Detection:
    """Decide how a file is written; see `detect`."""
    with TextFile(path) as file:
        sample = file.read(SAMPLE_BYTES)
        return detect(sample, path=str(path), whole=not file.read(1), options=options)


def detect_files(paths: Sequence[Location], options: ReadOptions) -> Detection:
    """Decide how the first file with rows is written; the others must be alike, but one header may serve all.

    Raises DataError if two files differ, or if none has rows.
    """
    found: Detection | None = None
    empty: list[Location] = []
    for path in paths:
        try:
            other = detect_file(path, options if found is None else _as_found(options, found.dialect))
        except NoRowsError:
            empty.append(path)
            if len(empty) == len(paths):
                raise
            continue
        if found is None:
            found, first = other, path
        else:
            _refuse_difference(found.dialect, other.dialect, first, path, options)
            found = replace(found, dialect=_both(found.dialect, other.dialect))
    assert found is not None
    several = (f"{len(paths)} files, {paths[0]} to {paths[-1]}",) if len(paths) > 1 else ()
    without = (f"{len(empty)} of them have no rows: {', '.join(map(str, empty[:3]))}",) if empty else ()
    return Detection(found.dialect, (*several, *without, *found.reasons))


def _as_found(options: ReadOptions, dialect: Dialect) -> ReadOptions:
    """Declare for the other files what was found in the first: a short file alone may not show it."""
    columns = dialect.label_columns
    label = options.label or (f"{columns.start + 1}-{columns.stop}" if columns else "none")
    dropped = tuple(f"{column + 1}-{column + 1}" for column in dialect.dropped)
    return replace(options, label=label, drop=dropped or options.drop)


def _refuse_difference(
    one: Dialect, other: Dialect, first: Location, path: Location, options: ReadOptions
) -> None:
    for what, parameter in _SHARED.items():
        mine, theirs = getattr(one, what), getattr(other, what)
        if mine != theirs and not (what == "label_kind" and {mine, theirs} in _KINDS):
            step = f", or pass `{parameter}` for both" if parameter else ""
            raise DataError(
                f"{path} differs from {first} in {what.replace('_', ' ')}: {str(theirs)[:40]!r}, not "
                f"{str(mine)[:40]!r}. Convert them separately{step}",
                path=path,
                option=parameter or None,
            )
    same_order = one.pixel_order == other.pixel_order
    if one.names and other.names and one.names != other.names and not (options.label and same_order):
        column = next(c for c, name in enumerate(one.names) if name != other.names[c])
        label = argument("label", "none" if one.label is None else str(one.label + 1))
        step = (
            ""
            if not same_order or {*one.names} == {*other.names}
            else f". If the columns mean the same, pass {label}"
        )
        raise DataError(
            f"{path} differs from {first} in names: column {column + 1} is {other.names[column][:30]!r}, not "
            f"{one.names[column][:30]!r}{step or '. Convert them separately'}",
            path=path,
            option="label",
        )


_KINDS = ({"number", "decimal"}, {"number", "text"}, {"decimal", "text"}, {"word", "text"})


def _both(one: Dialect, other: Dialect) -> Dialect:
    """Return what reads both files."""
    kinds = (one.label_kind, other.label_kind)
    kind = next((kind for kind in ("text", "decimal") if kind in kinds), one.label_kind)
    renamed = (other.names,) if one.names and other.names and other.names != one.names else ()
    return replace(
        one,
        header=one.header or other.header,
        names=one.names or other.names,
        decimal=one.decimal or other.decimal,
        label_kind=kind,
        skipped=tuple(dict.fromkeys((*one.skipped, *other.skipped, *renamed))),
        trailing_delimiter=one.trailing_delimiter or other.trailing_delimiter,
        class_header=one.class_header or other.class_header,
    )
