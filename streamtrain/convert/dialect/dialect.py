"""How one CSV is written: everything that the parse needs, fixed before the first row is read."""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from streamtrain.block import Array

INTEGER_LIMIT = {"uint8": 255, "uint16": 65535}
LABEL_KINDS = ("number", "decimal", "word", "text", "onehot", "digits")


@dataclass(frozen=True)
class Dialect:
    """The way rows are written in a source.

    delimiter:   one byte; a space stands for any number of them. Spaces and tabs around a value are ignored
    header:      whether the first row of each file names the columns
    names:       the column names of that header, or empty
    fields:      values in a row
    label:       the label's first column counted from 0, or None without labels
    label_kind:  number (a non-negative integer), decimal (the same written as 6.0000), word, text (words and
                 whole numbers of any size), onehot (a column for each class), or digits (a value with a digit for
                 each class, as 0000100000)
    label_width: columns that the label takes: more than one if it is onehot
    decimal:     whether a pixel may be written with a fraction or exponent
    dtype:       how a pixel is stored: uint8, uint16 or float32
    low, high:   the least and the greatest value of a pixel: declared, or those of the dtype
    denominator: if above 1, the pixels of the sample are fractions of it: n / denominator for n in 0..255
    declared_range: whether the range was given, not found
    classes:     class names in index order if they are declared; if empty, the full pass finds them
    source_labels: how the source writes each of those classes
    image_shape: rows × columns of the image as it stands upright, or (features,)
    transposed:  whether the source has its images column by column
    dropped:     columns that are neither label nor pixel, counted from 0
    trailing_delimiter: whether a delimiter follows the last value
    class_header: the first line of each file if it lists the classes, or empty
    skipped:     the values of each line above the rows that is neither header nor classes: a title, sep=
    pixel_order: the columns of the pixels in the order of the image, if that is not the order of the columns
    labels_file: the file with a label for each data row, if the columns have none; otherwise empty
    labels_header: whether the first line of that file is a header
    """

    delimiter: str
    header: bool
    names: tuple[str, ...]
    fields: int
    label: int | None
    label_kind: str
    decimal: bool
    dtype: str
    low: float
    high: float
    declared_range: bool
    classes: tuple[str, ...]
    image_shape: tuple[int, ...]
    label_width: int = 1
    source_labels: tuple[str, ...] = ()
    transposed: bool = False
    dropped: tuple[int, ...] = ()
    trailing_delimiter: bool = False
    class_header: tuple[str, ...] = ()
    skipped: tuple[tuple[str, ...], ...] = ()
    pixel_order: tuple[int, ...] = ()
    labels_file: str = ""
    labels_header: bool = False
    denominator: int = 1

    @property
    def labelled(self) -> bool:
        """Whether rows have labels, in their columns or in a file."""
        return self.label is not None or bool(self.labels_file)

    @property
    def label_columns(self) -> range:
        """The columns that hold the label, counted from 0."""
        return range(0) if self.label is None else range(self.label, self.label + self.label_width)

    @functools.cached_property
    def pixel_columns(self) -> Array:
        """(features,) the columns that hold pixels, counted from 0, in the order of the image."""
        if self.pixel_order:
            return np.array(self.pixel_order)
        other = {*self.label_columns, *self.dropped}
        return np.array([c for c in range(self.fields) if c not in other])

    @property
    def text_labels(self) -> bool:
        """Whether labels may be words, which become indices in the order in which they occur."""
        return self.label_kind in ("word", "text")

    @property
    def number(self) -> str:
        """What a pixel must be, in words for an error message."""
        kind = "an integer" if self.dtype != "float32" else "a number"
        return kind if self.high > 1e38 else f"{kind} in {self.low:g}..{self.high:g}"

    def column(self, index: int) -> str:
        """Return a column for people: its number from 1, and its name if it has one."""
        name = self.names[index][:20] if self.names else ""
        return f'column {index + 1} ("{name}")' if name else f"column {index + 1}"

    def to_json(self) -> dict[str, Any]:
        """Return JSON values for the manifest."""
        return asdict(self)
