"""How one CSV is written: everything that the parse needs, fixed before the first row is read."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from streamtrain.block import Array

INTEGER_LIMIT = {"uint8": 255, "uint16": 65535}


@dataclass(frozen=True)
class Dialect:
    """The way rows are written in a source.

    delimiter:   one byte; spaces around a value are ignored
    header:      whether the first line of each file names the columns
    names:       the column names of that header, else empty
    fields:      values in a row
    label:       the label's column counted from 0, or None where there is none
    text_labels: whether labels are words; else they are non-negative integers
    decimal:     whether a number may be written with a fraction or exponent ("6.0000")
    dtype:       how a pixel is stored: uint8, uint16 or float32
    low, high:   what a pixel may be; the declared range, else that of the dtype
    declared_range: whether the range was given, not found
    classes:     class names in index order where they are declared, else empty: found by the full pass
    image_shape: rows × columns of the image, or (features,)
    """

    delimiter: str
    header: bool
    names: tuple[str, ...]
    fields: int
    label: int | None
    text_labels: bool
    decimal: bool
    dtype: str
    low: float
    high: float
    declared_range: bool
    classes: tuple[str, ...]
    image_shape: tuple[int, ...]

    @property
    def pixel_columns(self) -> Array:
        """(features,) the columns that hold pixels, counted from 0."""
        return np.array([c for c in range(self.fields) if c != self.label])

    @property
    def fits_kernel(self) -> bool:
        """Whether the byte kernel may keep rows: pixels of one byte from 0, labels that are integers."""
        return self.dtype == "uint8" and self.low == 0 and not self.text_labels

    @property
    def number(self) -> str:
        """What a pixel has to be, in words for an error."""
        kind = "an integer" if self.dtype != "float32" else "a number"
        return f"{kind} in {self.low:g}..{self.high:g}"

    def column(self, index: int) -> str:
        """A column for people: its number from 1 and its name where it has one."""
        return f'column {index + 1} ("{self.names[index]}")' if self.names else f"column {index + 1}"

    def to_json(self) -> dict[str, Any]:
        """JSON values for the manifest."""
        return asdict(self)
