"""Columns that do not look like pixels: by their names or values, or because they repeat the label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamtrain.convert.dialect.columns import drop_advice, is_square
from streamtrain.convert.dialect.formats import IMAGE_FILE, IMAGES_ELSEWHERE, cell_format, is_number_format
from streamtrain.convert.dialect.label_column import is_onehot, may_be_label, truth_table
from streamtrain.convert.dialect.options import ReadOptions
from streamtrain.convert.dialect.sample import Sample
from streamtrain.convert.text.cells import DECIMAL
from streamtrain.errors import DataError, UsageError, argument

MOST = 0.9  # share of the rows that must have a property; the rest may be odd
FEWEST_ROWS = 20  # with fewer, it is not decided whether a column follows from the label
FEWEST_PIXELS = 4  # up to this number of pixels, a column is not compared with the others


@dataclass(frozen=True)
class Candidates:
    """The columns that are left for the pixels, with the sample, the label's columns and the options."""

    sample: Sample
    pixels: list[int]
    label: range
    options: ReadOptions


def refuse_no_pixels(found: Candidates) -> None:
    """Raise DataError if no columns, or too few, are left for the pixels, or if some hold words."""
    _refuse_too_few(found)
    _refuse_words(found)


def refuse_unlike(found: Candidates) -> None:
    """Raise DataError for a column of numbers that does not behave like the other pixels, naming the next step."""
    if found.options.keeps_every_column:
        return
    for rule in (
        _named_unlike,
        _onehot_again,
        _label_again,
        _label_in_part,
        _beyond_the_others,
        _unlike_its_neighbours,
    ):
        columns, why = rule(found)
        if columns:
            _refuse(found, columns, why)
    _refuse_another_label(found)


def _refuse(found: Candidates, columns: Sequence[int], why: str) -> None:
    sample, first = found.sample, columns[0]
    which = sample.title(first) if len(columns) == 1 else f"columns {first + 1} to {columns[-1] + 1}"
    raise DataError(
        f"{sample.path}: {which} {why}, unlike a pixel. "
        f"Leave {'it' if len(columns) == 1 else 'them'} out: pass {drop_advice(sample, found.options, columns)}",
        option="drop",
        path=sample.path,
        column=first + 1,
    )


def _refuse_too_few(found: Candidates) -> None:
    sample, options = found.sample, found.options
    few = range(sample.fields) if len(found.pixels) <= FEWEST_PIXELS else ()
    files = [c for c in few if _mostly([IMAGE_FILE.fullmatch(cell) is not None for cell in sample.cells(c)])]
    if files:
        place = sample.first_cell(files[0], [bool(IMAGE_FILE.fullmatch(cell)) for cell in sample.cells(files[0])])
        raise DataError(f"{place}, the name of an image file. {IMAGES_ELSEWHERE}", path=sample.path)
    if not found.pixels:
        kind = UsageError if options.drop or options.label else DataError
        raise kind(
            f"{sample.path} has no column of pixels besides the label and what is left out", path=sample.path
        )
    if len(found.pixels) == 1 and options.pixels != 1:
        raise DataError(
            f"{sample.path}: only {sample.title(found.pixels[0])} is left for the pixels. "
            "Does the CSV have one image in each row and one pixel in each column?",
            path=sample.path,
        )


def _mostly(answers: Sequence[bool]) -> bool:
    return sum(answers) > len(answers) / 2


def _refuse_words(found: Candidates) -> None:
    """Raise DataError if a few columns hold no numbers; if most do, `pixels` says what is wrong with the cells."""
    sample, facts = found.sample, found.sample.facts
    wordy = [c for c in found.pixels if facts.numeric[c] < 0.5 or _has_words(sample, c)]
    if not wordy or len(wordy) > max(3, 0.05 * len(found.pixels)) or 2 * len(wordy) > len(found.pixels):
        return
    column = wordy[0]
    wrong = [bool(np.isnan(value)) for value in sample.table[:, column]]
    common = Counter(cell for cell, bad in zip(sample.cells(column), wrong, strict=True) if bad).most_common(1)
    what, step = cell_format(common[0][0])
    share = "most" if facts.numeric[column] < 0.5 else "many"
    if is_number_format(what):
        raise DataError(f"{sample.first_cell(column, wrong)}: {what}, as in most rows. {step}", path=sample.path)
    raise DataError(
        f"{sample.first_cell(column, wrong)}, and {share} rows have {what} there, unlike a pixel. "
        f"Leave the column out: pass {drop_advice(sample, found.options, wordy)}",
        option="drop",
        path=sample.path,
        column=column + 1,
    )


def _has_words(sample: Sample, column: int) -> bool:
    """Whether a column with numbers in most rows holds words in too many for a pixel."""
    if sample.facts.numeric[column] > 0.85:
        return False
    words = [
        cell for cell in sample.cells(column) if not DECIMAL.fullmatch(cell) and cell_format(cell)[0] == "a word"
    ]
    return len(words) > 0.15 * len(sample.rows)


def _named_unlike(found: Candidates) -> tuple[list[int], str]:
    odd = [c for c in found.pixels if c in found.sample.odd_names]
    return odd[:1], "is named unlike the pixels"


def _label_again(found: Candidates) -> tuple[list[int], str]:
    """Find a column at an end, or next to the label, that repeats the label, perhaps by other names."""
    labels = _labels(found)
    for ordered in () if _are_complete(found) else _ends(found):
        cells = found.sample.cells(ordered[0])
        if _follows(labels, cells) and _follows(cells, labels):
            return ordered[:1], "repeats the label of each row"
    return [], ""


def _onehot_again(found: Candidates) -> tuple[list[int], str]:
    """Find columns at an end, or next to the label, that repeat the label, one column for each class."""
    sample, labels = found.sample, _labels(found)
    classes = len(set(labels))
    for ordered in _ends(found) if labels else ():
        for width in range(classes + 2, max(2, classes - 2), -1):
            columns = sorted(ordered[:width])
            if len(columns) < width or columns[-1] - columns[0] != width - 1:
                continue
            table = truth_table(sample, columns)
            every = (table == 1).any(axis=0).all()
            if every and is_onehot(table) and _follows(labels, np.nan_to_num(table).argmax(axis=1).tolist()):
                return columns, "repeat the label of each row, as a 1 in the column of its class"
    return [], ""


def _label_in_part(found: Candidates) -> tuple[list[int], str]:
    """Find a column at an end that is the same in all rows of a class, but not in all rows."""
    labels = _labels(found)
    for ordered in () if _are_complete(found) else _ends(found):
        cells = found.sample.cells(ordered[0])
        common = Counter(cells).most_common(1)[0][1]
        if common < MOST * len(cells) and _follows(cells, labels):
            return ordered[:1], "is the same in all rows of a class"
    return [], ""


def _are_complete(found: Candidates) -> bool:
    """Whether the columns are as many as the pixels declared or, if none are, as those of a square image."""
    return len(found.pixels) == found.options.pixels if found.options.pixels else is_square(len(found.pixels))


def _labels(found: Candidates) -> list[str]:
    """Return the label of each row as text, or an empty list if there are too few rows to judge by."""
    if not found.label:
        return []
    labels = [" ".join(row[c] for c in found.label) for row in found.sample.rows]
    classes = len(set(labels))
    enough = len(labels) >= max(FEWEST_ROWS, 2 * classes)
    return labels if enough and classes > 1 else []


def _ends(found: Candidates) -> list[list[int]]:
    """Return the pixels' columns in four orders: from each end, and away from the label on each side."""
    pixels, label = found.pixels, found.label
    before = [c for c in pixels if c < label.start][::-1]
    after = [c for c in pixels if c >= label.stop]
    return [ordered for ordered in (pixels, pixels[::-1], before, after) if ordered]


def _follows(values: Sequence[object], keys: Sequence[object]) -> bool:
    """Whether rows with the same key have the same value, with few exceptions, and values differ."""
    common: dict[object, Counter[object]] = {}
    if not keys or not values:
        return False
    for key, value in zip(keys, values, strict=True):
        common.setdefault(key, Counter())[value] += 1
    usual = {key: counts.most_common(1)[0] for key, counts in common.items()}
    kept = sum(times for _, times in usual.values())
    different = {value for value, times in usual.values() if times > 1}
    return kept >= MOST * len(values) and len(different) > 1 and len(common) <= 0.5 * len(values)


def _beyond_the_others(found: Candidates) -> tuple[list[int], str]:
    """Find a column whose middle value lies outside the range of all other pixels."""
    facts, pixels = found.sample.facts, found.pixels
    if _are_complete(found) or len(pixels) <= FEWEST_PIXELS:
        return [], ""
    table = found.sample.table[:, pixels]
    order = sorted(pixels, key=lambda c: (-facts.middle[c], c))
    for ordered, sign in ((order, 1), (order[::-1], -1)):
        for count in (1, 2):
            some = sorted(ordered[:count])
            others = sign * np.delete(table, [pixels.index(c) for c in some], axis=1)
            edge = float(np.sort(np.nanmax(others, axis=1, initial=-np.inf))[int(MOST * (len(table) - 1))])
            inner = float(np.sort(np.nanmin(others, axis=1, initial=np.inf))[int((1 - MOST) * (len(table) - 1))])
            middle = min(sign * float(facts.middle[c]) for c in some)
            # If all others are 0 or more, any number below 0 is outside.
            margin = 0.05 * (edge - inner) if edge > 0 else 0
            if middle > max(edge + margin, 0):
                return some[:1], f"is mostly {sign * middle:g} or {'more' if sign > 0 else 'less'}"
    return [], ""


def _unlike_its_neighbours(found: Candidates) -> tuple[list[int], str]:
    """Find a column at an end that never holds the background, or often small numbers, as no pixel next to it.

    The background is the most common value of all pixels.
    """
    facts, pixels, table = found.sample.facts, found.pixels, found.sample.table
    values, times = np.unique(table[:, pixels], return_counts=True)
    background, brightest = values[times.argmax()], np.sort(facts.high[pixels])[int(0.9 * len(pixels))]
    if times.max() < 0.25 * times.sum() or len(table) < FEWEST_ROWS or found.options.pixels == len(pixels):
        return [], ""
    for ordered in _ends(found):
        columns = ordered[:7]
        share = (table[:, columns] == background).mean(axis=0)
        small = (share < 0.85) & (facts.low[columns] >= 0) & (facts.high[columns] <= 0.05 * brightest)
        if len(columns) < 7 or (small | (share <= 0.05))[1:].sum() > 2:
            continue
        low, high = facts.low[ordered[0]], facts.high[ordered[0]]
        if share[0] == 0:
            return ordered[:1], f"holds {low:g} to {high:g}, never {background:g} as most values"
        if small[0] and brightest >= 100 and not _is_like_classes(found.sample, ordered[0], pixels):
            return ordered[:1], f"holds only {low:g} to {high:g}, in many rows"
    return [], ""


def _refuse_another_label(found: Candidates) -> None:
    """Raise DataError if the first or the last pixel looks like a label although it is not declared as one."""
    sample, pixels = found.sample, found.pixels
    for column in (pixels[0], pixels[-1]):
        if column in found.label or not _is_like_classes(sample, column, pixels):
            continue
        if found.label and is_square(len(pixels)) and found.options.label is None:
            continue
        low, high = sample.facts.low[column], sample.facts.high[column]
        advice = argument("label", sample.option_value(column))
        if not found.label:
            advice = drop_advice(sample, found.options, [column])
        raise DataError(
            f"{sample.path}: {sample.title(column)} holds the whole numbers {low:g} to {high:g} as a label does, "
            f"unlike a pixel. Pass {advice}",
            option="label",
            path=sample.path,
            column=column + 1,
        )


def _is_like_classes(sample: Sample, column: int, pixels: Sequence[int]) -> bool:
    """Whether a column surely holds classes: few and dense, no class in most rows, far below the maximum."""
    facts = sample.facts
    values = [cell for cell in sample.cells(column) if cell]
    common = Counter(values).most_common()
    frequent = [float(v) for v, times in common if times > 1 and v.isdecimal()]
    if facts.whole[column] < MOST or not 3 <= len(frequent) <= 64 or not may_be_label(sample, column):
        return False
    dense = min(frequent) in (0, 1) and max(frequent) - min(frequent) + 1 <= 1.2 * len(frequent)
    brightest = float(np.sort(facts.high[list(pixels)])[len(pixels) // 2])
    return dense and common[0][1] < 0.5 * len(values) and max(frequent) <= 0.6 * brightest
