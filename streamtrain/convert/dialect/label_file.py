"""How a file of labels, one a line, is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from streamtrain.convert.dialect.detect import Detection
from streamtrain.convert.dialect.formats import refuse_foreign
from streamtrain.convert.dialect.labels import read_labels
from streamtrain.convert.dialect.options import ReadOptions
from streamtrain.convert.dialect.sample import Sample
from streamtrain.convert.text.cells import DECIMAL, split_label_line
from streamtrain.convert.text.text_file import TextFile
from streamtrain.errors import DataError
from streamtrain.storage.objects import Location

_SAMPLE_BYTES = 128 << 10


def detect_labels(path: Location, detection: Detection, options: ReadOptions) -> Detection:
    """Return what was found of data without labels, with what is found of the file of its labels.

    Raises DataError if the file does not hold one label a line.
    """
    with TextFile(path) as file:
        sample = file.read(_SAMPLE_BYTES)
        lines = sample.split(b"\n") if len(sample) < _SAMPLE_BYTES else sample.split(b"\n")[:-1]
    refuse_foreign(sample, path=str(path))
    numbered = [(n, split_label_line(line)) for n, line in enumerate(lines, 1) if line.strip()]
    several = [n for n, row in numbered if len(row) != 1]
    if 2 * len(several) >= len(numbered):
        raise DataError(
            f"{path}:{several[0]}: most lines do not hold exactly one label. Write the labels to a file of their "
            "own, one in each line",
            option="labels",
            path=path,
            line=several[0],
        )
    values = [" ".join(row) for _, row in numbered]
    empty = not lines[0].strip()  # a wrong label, since only line 1 can be a header
    header = not empty and _is_header(values, detection.dialect.header, options)
    cells = [[value] for value in values[header:]]
    found = Sample(str(path), cells, [n for n, _ in numbered[header:]])
    labels = read_labels(found, range(1), (), options)
    dialect = replace(
        detection.dialect,
        label_kind=labels.kind,
        classes=labels.classes,
        source_labels=labels.source_labels,
        labels_file=str(path),
        labels_header=header,
    )
    said = f"the labels are those of {path}" + (f", whose line 1 is a header: {values[0][:20]}" if header else "")
    reasons = [reason for reason in detection.reasons if not reason.startswith("no label")]
    return Detection(dialect, (*reasons, said, *labels.reasons))


def _is_header(values: Sequence[str], data_has_one: bool, options: ReadOptions) -> bool:
    """Whether the first value is not a label: a word before numbers, or a word that occurs nowhere else."""
    first, *rest = values
    if 2 * sum(DECIMAL.fullmatch(value) is not None for value in rest) > len(rest):
        return not DECIMAL.fullmatch(first) and first not in rest
    declared = options.labels or options.classes or ()
    return bool(rest) and first not in rest and (first not in declared if declared else data_has_one)
