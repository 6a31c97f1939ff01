"""How the label is written: its kind, the classes if they are declared, and how the source writes each."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from streamtrain.convert.dialect.label_column import is_digits
from streamtrain.convert.dialect.options import ReadOptions
from streamtrain.convert.dialect.sample import Sample
from streamtrain.convert.text.cells import DECIMAL, INTEGER
from streamtrain.errors import DataError, UsageError

LARGEST_LABEL = 65_535  # that is read as a class number; larger ones are class names
_SOME = 0.15  # of the rows: from this share on, a second kind of label is meant
_SOME_CLASSES = 3  # or from that many classes on, if they occur more than once
_UNSEEN = ("Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp")  # of Unicode: not to be seen, or not a character
_TWO_VALUES = re.compile(r"[\w.+-]+\s*[;:|/,\t ]\s*[\d.]+", re.ASCII)  # such as 7;0
_ODD = 0.02  # of the rows: what fewer of them show is a fault of theirs


@dataclass(frozen=True)
class LabelEncoding:
    """How labels are written: see Dialect; and why."""

    kind: str
    classes: tuple[str, ...]
    source_labels: tuple[str, ...]
    reasons: tuple[str, ...]


def read_labels(
    sample: Sample, label: range, class_header: tuple[str, ...], options: ReadOptions
) -> LabelEncoding:
    """Decide how the label in these columns is written.

    Raises DataError if the label is not UTF-8, is empty or has a fraction in most rows; UsageError if the declared
    classes are not as many as the label has.
    """
    reasons = [f"line 1 lists the {len(class_header)} classes"] if class_header else []
    if not label:
        return LabelEncoding("number", (), (), tuple(reasons))
    values = sample.cells(label.start)
    if len(label) > 1:
        return _onehot(sample, "onehot", len(label), _names_of(sample, label), options, reasons)
    if is_digits(values) and not options.labels:
        (length, _), *_ = Counter(map(len, values)).most_common(1)
        reasons.append(f"a label is {length} digits, a 1 in the place of its class")
        return _onehot(sample, "digits", length, (), options, reasons)
    if options.labels:
        return _of_names(options.classes or options.labels, options.labels, values, reasons)
    _refuse_unreadable(sample, label.start)
    classes = options.classes or class_header
    if not classes:
        kind = _kind(sample, label.start)
        if kind == "text":
            reasons.append("labels are words and numbers, each as it is written")
        return LabelEncoding(kind, (), (), tuple(reasons))
    return _of_classes(sample, classes, values, reasons)


def canonical(text: str) -> str:
    """Return a label as its class is named: a whole number without its zeros, anything else as it is.

    >>> canonical("007"), canonical("3.0"), canonical("3.5"), canonical("cat")
    ('7', '3', '3.5', 'cat')
    """
    if INTEGER.fullmatch(text):
        return str(int(text)) if len(text) < 1000 else text
    if not DECIMAL.fullmatch(text):
        return text
    value = float(text)
    return str(int(value)) if value.is_integer() else text


def is_class_name(text: str) -> bool:
    """Whether a text can name a class: it has no control characters and is UTF-8.

    >>> is_class_name("T-shirt top"), is_class_name(chr(0xA0)), is_class_name(chr(9)), is_class_name(chr(0xDCE9))
    (True, False, False, False)
    """
    joiners = "\u200c\u200d"  # of scripts and emoji; other format characters may hide or turn text
    clean = bool(text) and text == text.strip()  # of no-break spaces too
    return clean and all(char in joiners or unicodedata.category(char) not in _UNSEEN for char in text)


def _of_names(
    classes: tuple[str, ...], written: tuple[str, ...], values: Sequence[str], reasons: list[str]
) -> LabelEncoding:
    """Labels that are written as `written`, in the order of the classes."""
    names = tuple(map(canonical, written))
    if not all(name.isdecimal() and int(name) <= LARGEST_LABEL for name in names):
        return LabelEncoding("text", classes, names, tuple(reasons))
    return LabelEncoding(_number_kind(values), classes, names, tuple(reasons))


def _of_classes(
    sample: Sample, classes: tuple[str, ...], values: Sequence[str], reasons: list[str]
) -> LabelEncoding:
    """Return how labels name declared classes: by their names, or by numbers from 0 or from 1."""
    found = Counter(map(canonical, values))
    listed = sum(found[name] for name in {*map(canonical, classes)})
    numbered = sum(times for name, times in found.items() if name.isdecimal())
    if listed > len(values) / 2 or numbered <= len(values) / 2 or all(name.isdecimal() for name in classes):
        return _of_names(classes, classes, values, reasons)
    zeros, tops = found["0"], found[str(len(classes))]
    from_zero, from_one = zeros > 4 * tops, tops > 4 * zeros  # only one of the two occurs, except in odd rows
    if from_zero == from_one:
        raise DataError(
            f"{sample.path}: are the labels of {len(classes)} named classes counted from 0 or from 1? "
            "Declare it in a preset file: labels = [0, 1, …]",
            option="classes",
        )
    first = 0 if from_zero else 1
    written = tuple(str(first + i) for i in range(len(classes)))
    reasons.append(f"labels count from {first}: {first} is {classes[0]}")
    return LabelEncoding(_number_kind(values), classes, written, tuple(reasons))


def _onehot(
    sample: Sample, kind: str, count: int, names: tuple[str, ...], options: ReadOptions, reasons: list[str]
) -> LabelEncoding:
    classes = options.classes or names or tuple(map(str, range(count)))
    if len(classes) != count:
        raise UsageError(
            f"{sample.path} has {count} classes by its label, `classes` has {len(classes)}", option="classes"
        )
    return LabelEncoding(kind, classes, classes, tuple(reasons))


def _names_of(sample: Sample, label: range) -> tuple[str, ...]:
    """Return the classes of a one-hot label from the header: label_cat and label_dog are cat and dog."""
    if not sample.names:
        return ()
    names = [sample.names[c] for c in label]
    others = [name for c, name in enumerate(sample.names) if c not in label]
    start = _common_start(names)
    rest = tuple(canonical(name[len(start) :]) for name in names)
    if not all(rest) or len(set(rest)) < len(rest) or not start.strip("0123456789"):
        return ()
    return () if others and _common_start([*others, names[0]]).strip("0123456789") == start else rest


def _common_start(names: Sequence[str]) -> str:
    """Return the text that all names begin with, without the digits at its end."""
    low, high = min(names), max(names)
    length = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low))
    return low[:length].rstrip("0123456789")


def _number_kind(values: Sequence[str]) -> str:
    return "decimal" if sum("." in v for v in values) > len(values) / 2 else "number"


def _kind(sample: Sample, column: int) -> str:
    """Return the kind of labels that are not declared: numbers, words, or text, which may be either."""
    values = sample.cells(column)
    names = [canonical(value) for value in values]
    plain = [name for name in names if name.isdecimal() and int(name) <= LARGEST_LABEL]
    whole = [name for name in names if name.removeprefix("-").isdecimal()]
    fractions = [name for name in names if DECIMAL.fullmatch(name) and not name.removeprefix("-").isdecimal()]
    words = [name for name in names if name and not DECIMAL.fullmatch(name)]
    if len(fractions) > len(names) / 2:
        wrong = [name in fractions for name in names]
        raise DataError(
            f"{sample.first_cell(column, wrong)}: the label has a fraction in most rows, and a class is a whole "
            "number or a word. Is it another column?",
            path=sample.path,
            column=column + 1,
        )
    other_numbers = [name for name in whole if name not in {*plain}]
    if _are_some(words, names) and _are_some(whole, names):
        return "text"
    if len(words) > len(names) / 2:
        return "word"
    return "text" if len(other_numbers) >= _SOME * len(names) else _number_kind(values)


def _are_some(part: Sequence[str], names: Sequence[str]) -> bool:
    """Whether a kind of label is real, not odd rows: it has several repeated classes, or enough rows."""
    times = Counter(part)
    repeated = sum(count > 1 for count in times.values())
    enough = len(part) >= _SOME * len(names) and (repeated > 1 or len(times) >= _SOME_CLASSES)
    return repeated >= _SOME_CLASSES or enough


def _refuse_unreadable(sample: Sample, column: int) -> None:
    values = sample.cells(column)
    joined = [bool(_TWO_VALUES.fullmatch(value)) for value in values]
    if sum(joined) > len(values) / 2:
        raise DataError(
            f"{sample.first_cell(column, joined)}, which is a label and a pixel with another separator between "
            "them. Use one separator throughout",
            path=sample.path,
            column=column + 1,
        )
    foreign = [any("\udc80" <= char <= "\udcff" for char in value) for value in values]
    if sum(foreign) > max(1, _ODD * len(values)):
        raise DataError(
            f"{sample.first_cell(column, foreign)}: the label is not UTF-8. If it is Latin-1, write the file "
            "as UTF-8: iconv -f LATIN1 -t UTF-8",
            path=sample.path,
            column=column + 1,
        )
    empty = [not value for value in values]
    if sum(empty) > len(values) / 2:
        line = min(line for line, is_empty in zip(sample.lines, empty, strict=True) if is_empty)
        raise DataError(
            f"{sample.path}:{line}: the label in {sample.title(column)} is empty, as in most rows. "
            "Is it another column?",
            path=sample.path,
            column=column + 1,
        )
