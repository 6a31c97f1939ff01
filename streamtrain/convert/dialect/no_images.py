"""Files whose rows are not images: labels alone, or one drawing that fills the file."""

from __future__ import annotations

import numpy as np

from streamtrain.convert.dialect.columns import is_square
from streamtrain.convert.dialect.options import ReadOptions
from streamtrain.convert.dialect.sample import Sample
from streamtrain.convert.dialect.unlike import FEWEST_PIXELS, FEWEST_ROWS, MOST, Candidates
from streamtrain.errors import DataError

_PROBABILITIES = range(3, 101)  # columns that may hold the probabilities of as many classes


def refuse_drawing(sample: Sample, options: ReadOptions) -> None:
    """Raise DataError if the file is one image: as many rows as columns, and a row is not a square image."""
    rows, columns = len(sample.rows), sample.fields
    alone = options.label is None and options.shape is None and options.features is None
    if alone and rows == columns > 8 and not is_square(columns) and not is_square(columns - 1):
        raise DataError(
            f"{sample.path}: {rows} rows of {columns} values look like one image that fills the file. "
            "streamtrain reads files with one image in each row",
            path=sample.path,
        )


def refuse_labels_alone(found: Candidates) -> None:
    """Raise DataError if the columns hold labels or parts of them, unless as many pixels are declared."""
    sample, pixels = found.sample, found.pixels
    if found.options.keeps_every_column or found.options.pixels == len(pixels):
        return
    table = sample.table[:, pixels]
    same = (table == table[:, :1]).all(axis=1)
    shares = (table >= 0).all(axis=1) & (np.abs(table.sum(axis=1) - 1) < 0.01)  # a one-hot label too
    enough = len(table) >= FEWEST_ROWS
    if same.mean() >= MOST and len({*table[same, 0]}) > 2 and sample.facts.whole[pixels[0]] >= MOST:
        what = "hold the same number in each row, as labels do"
    elif enough and len(pixels) in _PROBABILITIES and shares.mean() >= MOST:
        what = "add up to 1 in each row, as the probabilities of classes do"
    elif enough and len(pixels) <= FEWEST_PIXELS and all(_are_few_numbers(sample, c) for c in pixels):
        what = "hold few different whole numbers, as labels do"
    else:
        return
    raise DataError(
        f"{sample.path}: the {len(pixels)} columns that are left for the pixels, {sample.title(pixels[0])} to "
        f"{sample.title(pixels[-1])}, {what}. If they are the pixels of an image, declare its `shape`",
        option="shape",
        path=sample.path,
        column=pixels[0] + 1,
    )


def _are_few_numbers(sample: Sample, column: int) -> bool:
    """Whether a column holds whole numbers, at most 64 different ones, that repeat in most rows."""
    different = sample.facts.distinct[column] * len(sample.rows)
    return bool(sample.facts.whole[column] >= MOST and different <= min(64, 0.5 * len(sample.rows)))
