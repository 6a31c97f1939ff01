"""What a row means: its pixels, their range, the image they form, and the classes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from streamtrain.decode import Number
from streamtrain.errors import DataError
from streamtrain.settings import LARGEST_FLOAT32, LEAST_FLOAT32

_ROUNDING = 1e-4  # above that of a float32 in units of 1/255
DTYPES = ("uint8", "uint16", "float32")


@dataclass(frozen=True)
class Schema:
    """The meaning of every row of a data set. A model reads other data with the schema that it was trained on.

    image_shape: (rows, columns) of the image, or (features,) if a row is not an image
    dtype:       how a pixel is stored: uint8, uint16 or float32
    pixel_range: (lo, hi), the stored values that become 0 and 1
    classes:     class names in index order; empty if the data has no labels
    denominator: a stored pixel n stands for n / denominator in the source; above 1 only for uint8
    Raises ValueError if these are not a dtype, positive sides, numbers that float32 holds and names that differ.
    """

    image_shape: tuple[int, ...]
    dtype: str
    pixel_range: tuple[Number, Number]
    classes: tuple[str, ...]
    denominator: int = 1

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ValueError(f"`dtype` must be one of {', '.join(DTYPES)}, not {self.dtype!r}")
        if not self.image_shape or min(self.image_shape) < 1 or self.row_bytes >= 2**31:
            raise ValueError(
                f"`image_shape` must have positive sides and a row below 2 GB, not {self.image_shape}"
            )
        low, high = self.pixel_range
        if (
            not (low == high or LEAST_FLOAT32 <= high - low <= LARGEST_FLOAT32)
            or max(-low, high) > LARGEST_FLOAT32
        ):
            raise ValueError(f"`pixel_range` must be two numbers that float32 holds, not {low:g}..{high:g}")
        if not 1 <= self.denominator <= (255 if self.dtype == "uint8" else 1):
            raise ValueError(f"`denominator` must be 1 or, of uint8, in 1..255, not {self.denominator}")
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("`classes` must be names that differ")

    @property
    def features(self) -> int:
        """Number of pixels in a row."""
        return math.prod(self.image_shape)

    @property
    def stored_dtype(self) -> np.dtype[Any]:
        """The dtype of the pixels in a shard, little-endian on any machine."""
        return np.dtype(self.dtype).newbyteorder("<")

    @property
    def row_bytes(self) -> int:
        """Bytes of the stored pixels of one row."""
        return self.features * np.dtype(self.dtype).itemsize

    @property
    def scale(self) -> tuple[float, float]:
        """(lo, span) of the normalisation x → (x − lo) / span; span is 1 if lo and hi are equal."""
        lo, hi = self.pixel_range
        return lo, (hi - lo) or 1.0

    def stored_as(self, dtype: str, denominator: int) -> Schema:
        """Return the same meaning of pixels that are stored in another way: the range is in their unit.

        >>> Schema((1,), "uint8", (0, 255), (), denominator=255).stored_as("float32", 1).pixel_range
        (0.0, 1.0)
        """
        low, high = self.pixel_range
        if denominator != self.denominator:
            low, high = (limit * denominator / self.denominator for limit in (low, high))
        return replace(self, dtype=dtype, denominator=denominator, pixel_range=(low, high))

    @property
    def of_source(self) -> Schema:
        """The schema of the pixels as the source has them: float32 if they are stored as numerators."""
        return self if self.denominator == 1 else self.stored_as("float32", 1)

    @property
    def limits(self) -> tuple[float, float]:
        """The least and the largest pixel: the range, rounded as the pixels are if these are or were float32."""
        low, high = self.pixel_range
        if self.denominator > 1:
            return low - _ROUNDING, high + _ROUNDING
        return (float(np.float32(low)), float(np.float32(high))) if self.dtype == "float32" else (low, high)

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary of JSON values, which `streamtrain.decode` turns into the schema again."""
        values = {"denominator": self.denominator} if self.denominator != 1 else {}
        return values | {
            "image_shape": list(self.image_shape),
            "dtype": self.dtype,
            "pixel_range": list(self.pixel_range),
            "classes": list(self.classes),
        }

    def label_map(self, other: Schema, *, where: str) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Return (classes of `other`,) int64: for each, the index here of the class with that name.

        where: names the data of `other` in errors
        `other` may lack classes. Raises DataError if it has another number of pixels, no labels, or a class that
        this schema does not have.
        """
        if other.features != self.features:
            raise DataError(
                f"{where}: a row has {other.features} pixels {other.image_shape}, but the model takes "
                f"{self.features} {self.image_shape}. Convert it with the same `shape` and `label`",
                path=where,
            )
        if not other.classes:
            raise DataError(f"{where} has no labels to compare with. Convert it again with `label`", path=where)
        added = [name for name in other.classes if name not in self.classes]
        if added:
            raise DataError(
                f"{where}: class {added[0]!r} is not among the {len(self.classes)} classes of the training "
                f"data. Train on data that has every class, or convert again with `classes`",
                path=where,
            )
        return np.array([self.classes.index(name) for name in other.classes], dtype=np.int64)
