"""How a file of labels, one a line, is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from streamtrain.convert.dialect.columns import Sample, numbers
from streamtrain.convert.dialect.detect import Detection, read_labels, refuse_foreign
from streamtrain.convert.dialect.options import ReadOptions
from streamtrain.convert.text.cells import DECIMAL, split_label_line
from streamtrain.convert.text.text_file import TextFile
from streamtrain.errors import DataError

_SAMPLE_BYTES = 128 << 10


def detect_labels(path: Path, verdict: Detection, wanted: ReadOptions) -> Detection:
    """The verdict on data without labels, with that on the file of its labels.

    Raises DataError where the file does not hold one label a line.
    """
    with TextFile(path) as file:
        sample = file.read(_SAMPLE_BYTES)
        lines = sample.split(b"\n") if len(sample) < _SAMPLE_BYTES else sample.split(b"\n")[:-1]
    refuse_foreign(sample, path=str(path))
    rows = [split_label_line(line) for line in lines if line.strip()]
    if 2 * sum(len(row) == 1 for row in rows) <= len(rows):
        raise DataError(
            f"{path}: most lines do not hold one label alone. Cut the column of labels out: cut -d, -f1"
        )
    values = [" ".join(row) for row in rows]
    empty = not lines[0].strip()  # which is a label at fault, for a header is line 1 or none
    header = not empty and _is_header(values, verdict.dialect.header, wanted)
    cells = [[value] for value in values[header:]]
    labelling = read_labels(Sample(str(path), cells, numbers(cells), ()), range(1), (), wanted)
    dialect = replace(
        verdict.dialect,
        label_kind=labelling.kind,
        classes=labelling.classes,
        written=labelling.written,
        labels_file=str(path),
        labels_header=header,
    )
    said = f"the labels are those of {path}" + (f", whose line 1 is a header: {values[0][:20]}" if header else "")
    reasons = [reason for reason in verdict.reasons if not reason.startswith("no label")]
    return Detection(dialect, (*reasons, said, *labelling.reasons))


def _is_header(values: list[str], data_has_one: bool, wanted: ReadOptions) -> bool:
    """Whether the first value is no label: a word before numbers, or a word of its own that can be none."""
    first, *rest = values
    if 2 * sum(DECIMAL.fullmatch(value) is not None for value in rest) > len(rest):
        return not DECIMAL.fullmatch(first)
    declared = wanted.labels or wanted.classes or ()
    return bool(rest) and first not in rest and (first not in declared if declared else data_has_one)
