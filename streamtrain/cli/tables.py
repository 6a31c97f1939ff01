"""Results as tables and lines of text."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from streamtrain.cli.progress import eta
from streamtrain.metrics.confusion import MATRIX_CLASSES
from streamtrain.metrics.evaluation import Evaluation
from streamtrain.text import one_line, plural

if TYPE_CHECKING:
    from streamtrain.stream.dataset import Shards
    from streamtrain.train.progress import EpochReport, Progress

_PAIRS = 20  # of classes that are confused, most


def summary(evaluation: Evaluation) -> str:
    """Return rows, loss, accuracy and top-3 accuracy as one line."""
    figures = f"loss {evaluation.loss:.4f}, accuracy {evaluation.accuracy:.4f}"
    return f"{plural(evaluation.rows, 'row')}: {figures}, top-3 {evaluation.top3_accuracy:.4f}"


def confusion_table(evaluation: Evaluation, names: tuple[str, ...]) -> str:
    """Return the confusion matrix as text: a row for each true class, a column for each predicted one.

    Each row ends with the precision, recall and F1 of its class. If there are over 100 classes, the text lists
    the pairs that are confused most often instead.

    >>> import numpy as np
    >>> from streamtrain.metrics.confusion import Confusion
    >>> print(confusion_table(Evaluation(0.0, Confusion.of_matrix(np.array([[8, 0], [1, 9]]))), ("a", "b")))
    true   a  b  precision  recall     f1
       a   8  ·      0.889   1.000  0.941
       b   1  9      1.000   0.900  0.947
    """
    if len(names) > MATRIX_CLASSES:
        return _worst_pairs(evaluation, names)
    ratios = evaluation.per_class(names)
    names = tuple(map(one_line, names))
    cells = [[f"{count:,}" if count else "·" for count in row] for row in evaluation.confusion.tolist()]
    wide = max(len(text) for text in (*names, *(cell for row in cells for cell in row))) + 1
    left = max(len(name) for name in (*names, "true"))
    lines = [f"{'true':{left}} " + "".join(f"{name:>{wide + 1}}" for name in names) + "  precision  recall     f1"]
    for name, row, ratio in zip(names, cells, ratios.values(), strict=True):
        counts = "".join(f"{cell:>{wide + 1}}" for cell in row)
        lines.append(
            f"{name:>{left}} {counts}  {ratio['precision']:9.3f}  {ratio['recall']:6.3f}  {ratio['f1']:5.3f}"
        )
    return "\n".join(lines)


def _worst_pairs(evaluation: Evaluation, names: tuple[str, ...]) -> str:
    pairs = [
        (one_line(names[true]), one_line(names[other]), f"{rows:,}")
        for true, other, rows in evaluation.counts.worst(_PAIRS)
    ]
    table = [("true", "predicted", "rows"), *pairs]
    left, middle, right = (max(map(len, column)) for column in zip(*table, strict=True))
    lines = [f"{true:>{left}}  {other:>{middle}}  {rows:>{right}}" for true, other, rows in table]
    return "\n".join([f"the most frequent mistakes among {len(names):,} classes:", *lines])


def reliability_table(evaluation: Evaluation) -> str:
    """Return the accuracy in each bin of confidence as text; empty bins are left out."""
    lines = ["confidence      rows  accuracy  mean confidence"]
    for each in evaluation.reliability():
        if rows := each["rows"]:
            accuracy, confidence = each["correct"] / rows, each["confidence_sum"] / rows
            lines.append(f"{each['from']:.1f} to {each['to']:.1f}{rows:>10,}  {accuracy:8.4f}  {confidence:15.4f}")
    return "\n".join([*lines, f"expected calibration error {evaluation.calibration_error:.4f}"])


def status_line(progress: Progress, rows: int, epochs: int) -> str:
    """Return how far a training is, for the progress line; the accuracy is of rows before they were learned.

    The most important comes first: a terminal of 40 columns shows it up to the loss.
    """
    epoch, done = progress.cursor
    pace = done / progress.seconds if progress.seconds else 0.0
    share = (epoch - 1 + done / rows) / epochs
    left = eta(share, share * epochs * rows / pace) if pace else ""
    figures = f"loss {progress.loss:.4f}  accuracy {progress.accuracy:.4f}  {pace:,.0f} rows/s"
    return f"epoch {epoch}/{epochs} {done / rows:4.0%}  {left}  {figures}"


def epoch_line(report: EpochReport, epochs: int) -> str:
    """Return the figures of an epoch as one line."""
    figures = {
        "progressive accuracy": report.progressive_accuracy if report.train_accuracy is None else None,
        "train accuracy": report.train_accuracy,
        "test loss": report.test_loss,
        "test accuracy": report.test_accuracy,
        "val accuracy": report.val_accuracy,
    }
    shown = "".join(f"  {name} {value:.4f}" for name, value in figures.items() if value is not None)
    left = "" if report.patience_left is None else f"  patience {report.patience_left}"
    return f"epoch {report.epoch:{len(str(epochs))}}/{epochs}  train loss {report.train_loss:.4f}{shown}{left}"


def poor_order(report: EpochReport, train: Shards) -> str:
    """Return the warning about an order that mixes the classes badly, with the remedy."""
    return (
        f"the rows are sorted by class: label disorder {report.label_disorder:.1f} (1 is random); "
        f"a batch is worth {report.effective_batch_size:.0f} rows. Shuffle once on disk: "
        + shlex.join(["streamtrain", "shuffle", str(train.folder), f"{train.folder}.shuffled"])
    )
