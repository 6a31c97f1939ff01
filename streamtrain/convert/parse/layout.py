"""A dialect in the form that the parser in C takes."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

import numpy as np

from streamtrain.block import Array
from streamtrain.convert.dialect.dialect import Dialect
from streamtrain.convert.dialect.labels import LARGEST_LABEL
from streamtrain.convert.text.cells import DECIMAL
from streamtrain.native import parse as kernel
from streamtrain.native.parse import DROPPED, LABEL, PIXEL, Layout

_DECLARED = "declared word"


@functools.lru_cache(maxsize=16)
def layout_of(dialect: Dialect) -> Layout | None:
    """Return how rows are written, or None if only the careful row parser can tell rows from the header."""
    roles = np.full(dialect.fields, DROPPED, dtype=np.int32)
    roles[dialect.pixel_columns] = PIXEL
    roles[dialect.label_columns.start : dialect.label_columns.stop] = LABEL
    guard = _guard_column(dialect, roles.tolist())
    kind = _DECLARED if dialect.text_labels and dialect.source_labels else dialect.label_kind
    if guard is None or (kind == "onehot" and dialect.label_width != len(dialect.classes)):
        return None
    if len(dialect.source_labels) > kernel.MOST_WORDS:
        return None
    words = [name.encode() for name in dialect.source_labels] if kind == _DECLARED else []
    text, ends = np.zeros(kernel.WORD_BYTES, dtype=np.uint8), np.zeros(kernel.MOST_WORDS, dtype=np.int32)
    joined = np.frombuffer(b"".join(words), dtype=np.uint8)
    text = joined if words else text
    ends[: len(words)] = np.cumsum([len(word) for word in words])
    flags = (
        ord(dialect.delimiter),
        dialect.decimal,
        kernel.LABEL_KINDS.index(kind),
        dialect.trailing_delimiter,
        guard,
        len(words),
    )
    return Layout(
        parts=np.array(
            [(role, len(list(run))) for role, run in itertools.groupby(roles.tolist())], dtype=np.int32
        ),
        flags=np.array(flags, dtype=np.int64),
        limits=np.array([dialect.low, dialect.high], dtype=np.float64),
        classes=_class_of_number(dialect),
        word_text=text,
        word_ends=ends,
        guard=np.frombuffer(dialect.names[guard].encode() if guard >= 0 else b"", dtype=np.uint8),
    )


NO_ROWS = Layout(
    parts=np.zeros((0, 2), dtype=np.int32),
    flags=np.array([0, 0, 0, 0, -1, 0], dtype=np.int64),
    limits=np.zeros(2),
    classes=np.zeros(0, dtype=np.int32),
    word_text=np.zeros(0, dtype=np.uint8),
    word_ends=np.zeros(0, dtype=np.int32),
    guard=np.zeros(0, dtype=np.uint8),
)
"""A layout by which no row is kept."""


def words_of(how: Layout, count: int) -> Sequence[str]:
    """Return the first `count` words of a layout."""
    starts = np.append(0, how.word_ends)[:count].tolist()
    return [
        how.word_text[i:j].tobytes().decode() for i, j in zip(starts, how.word_ends[:count].tolist(), strict=True)
    ]


def _guard_column(dialect: Dialect, roles: Sequence[int]) -> int | None:
    """Return the column whose name distinguishes a repeated header from a row.

    −1 if its words cannot be the numbers of a row; None if nothing distinguishes the two: the header has numbers
    in the columns where rows have them, or a skipped line may have.
    """
    textual = [
        role == DROPPED or (role == LABEL and dialect.label_kind in ("word", "text", "digits")) for role in roles
    ]
    if any(len(line) >= dialect.fields for line in dialect.skipped):
        return None
    if not dialect.names:
        return -1
    if any(not text and not DECIMAL.fullmatch(name) for name, text in zip(dialect.names, textual, strict=True)):
        return -1
    return textual.index(True) if any(textual) else None


def _class_of_number(dialect: Dialect) -> Array:
    """Return what a label that is a number becomes, −1 for one to refuse: (labels,) int32."""
    if dialect.label_kind not in ("number", "decimal") or not dialect.source_labels:
        return np.arange(len(dialect.classes) or LARGEST_LABEL + 1, dtype=np.int32)
    index = {
        int(name): i for i, name in enumerate(dialect.source_labels) if name.isdecimal() and str(int(name)) == name
    }
    table = np.full(max(index, default=-1) + 1, -1, dtype=np.int32)
    table[list(index)] = list(index.values())
    return table
