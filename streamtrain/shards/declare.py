"""Checks of what a person declares of rows: their shape, range and classes, and how they are split.

Each returns the value in its own type, or raises ValueError with what it must be, as `streamtrain.settings` wants.
Nothing here imports NumPy, so a command line can check its options before that is loaded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from streamtrain.settings import LARGEST_FLOAT32, LEAST_FLOAT32, Integer, Number, integers

COMPRESSIONS = ("zstd", "lz4", "none")
MOST_CLASSES = 65_536  # a label is below it
_OUR_FILES = re.compile(r"(manifest\.json|rejected\.jsonl|shard-\d+\.parquet)", re.IGNORECASE)


def image_shape(value: Any) -> tuple[int, ...]:
    """Return the sides of an image.

    >>> image_shape([28, 28])
    (28, 28)
    """
    sides = () if isinstance(value, str) else integers(value, least=1)
    if not sides:
        raise ValueError("the sides of an image, as (28, 28)")
    return sides


def pixel_range(value: Any) -> tuple[float, float]:
    """Return the least and the largest value of a pixel.

    >>> pixel_range((0, 255))
    (0.0, 255.0)
    """
    try:
        low, high = (float(number) for number in value if not isinstance(number, str))
    except (TypeError, ValueError):
        low = high = math.nan
    if not low < high:  # of numbers that are not, neither is
        raise ValueError("two numbers, the smaller first, as (0, 255)")
    if max(-low, high, high - low) > LARGEST_FLOAT32 or high - low < LEAST_FLOAT32:
        raise ValueError("two numbers that float32 holds, as their difference")
    return low, high


def class_names(value: Any) -> tuple[str, ...]:
    """Return the names of the classes in index order; a number of classes means 0, 1, 2, …

    >>> class_names(3)
    ('0', '1', '2')
    """
    if isinstance(value, str | Mapping):
        raise ValueError("a list of names, or how many classes there are")
    count = Integer(1, MOST_CLASSES)
    names = tuple(map(str, value)) if hasattr(value, "__iter__") else tuple(map(str, range(count(value))))
    if len(names) > MOST_CLASSES:
        raise ValueError(f"at most {MOST_CLASSES} names")
    if not names or len(set(names)) < len(names):
        raise ValueError("names that differ")
    return names


def split_shares(value: Any) -> dict[str, float]:
    """Return the share of the rows for each part of a split, a part being a folder.

    >>> split_shares({"train": 0.75, "val": 0.25})
    {'train': 0.75, 'val': 0.25}
    """
    if not isinstance(value, Mapping) or not value:
        raise ValueError("a share for each part, as {'train': 0.9, 'val': 0.1}")
    if not all(
        isinstance(name, str) and re.fullmatch(r"\w[\w.-]*", name) and not _OUR_FILES.fullmatch(name)
        for name in value
    ):
        raise ValueError("parts that are names of folders, as {'train': 0.9, 'val': 0.1}")
    share = Number(0, above_least=True)
    shares = {name: share(number) for name, number in value.items()}
    if abs(sum(shares.values()) - 1) > 1e-9:
        raise ValueError("shares that sum to 1, as {'train': 0.9, 'val': 0.1}")
    return shares
