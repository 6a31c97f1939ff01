"""Results as tables and lines of text."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from streamtrain.cli.progress import duration, eta
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
    true  a b  precision recall    f1
       a  8 ·      0.889  1.000 0.941
       b  1 9      1.000  0.900 0.947
    """
    if len(names) > MATRIX_CLASSES:
        return _worst_pairs(evaluation, names)
    ratios = evaluation.per_class(names)
    names = tuple(map(one_line, names))
    cells = [[_short(count) for count in row] for row in evaluation.confusion.tolist()]
    wide = max(len(text) for text in (*names, *(cell for row in cells for cell in row)))
    left = max(len(name) for name in (*names, "true"))
    lines = [f"{'true':{left}} " + "".join(f"{name:>{wide + 1}}" for name in names) + "  precision recall    f1"]
    for name, row, ratio in zip(names, cells, ratios.values(), strict=True):
        counts = "".join(f"{cell:>{wide + 1}}" for cell in row)
        lines.append(
            f"{name:>{left}} {counts}  {ratio['precision']:9.3f} {ratio['recall']:6.3f} {ratio['f1']:5.3f}"
        )
    return "\n".join(lines)


def _short(count: int) -> str:
    """Return a count in at most four characters, so that ten classes fit in 80 columns; --json has all digits.

    >>> _short(0), _short(1135), _short(98_650), _short(123_456_789)
    ('·', '1135', '99k', '123M')
    """
    for unit, size in (("M", 10**6), ("k", 10**3)):
        if count >= 10**4 and round(count / size) >= 1:
            return f"{round(count / size)}{unit}"
    return str(count) if count else "·"


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


def epoch_header(report: EpochReport) -> str:
    """Return the two lines above the epochs; `report` says which sets are evaluated."""
    groups = "".join(f"{name:>17}" for name, *_ in _figures(report))
    labels = "".join(f"{'loss':>9}{'acc':>8}" for _ in _figures(report))
    left = "  left" if report.patience_left is not None else ""
    return f"{'':7}{groups}\n{'epoch':>7}{labels}{'time':>8}{left}"


def epoch_line(report: EpochReport, epochs: int) -> str:
    """Return the figures of an epoch as one line of at most 79 characters, below `epoch_header`."""
    figures = "".join(f"{loss:9.4f}{accuracy:8.4f}" for _, loss, accuracy in _figures(report))
    left = "" if report.patience_left is None else f"{report.patience_left:6}"
    number = f"{report.epoch}/{epochs}"
    return f"{number:>7}{figures}{duration(report.seconds + report.eval_seconds):>8}{left}"


def _figures(report: EpochReport) -> list[tuple[str, float, float]]:
    """Return the name, loss and accuracy of each set that is evaluated, training first.

    Without an evaluation of the training data, its accuracy is that of the rows before they were learned.
    """
    name, trained = "train", report.train_accuracy
    if trained is None:
        name, trained = "train, as learned", report.progressive_accuracy
    sets = [(name, report.train_loss, trained)]
    for name, evaluation in (("test", report.test), ("val", report.val)):
        if evaluation:
            sets.append((name, evaluation.loss, evaluation.accuracy))
    return sets


def worse_than_guessing(report: EpochReport) -> str | None:
    """Return a warning if the accuracy is below that of always naming the most frequent class, otherwise None."""
    for name, evaluation in (("val", report.val), ("test", report.test), ("training", report.train)):
        if evaluation:
            guessed = int(evaluation.counts.support.max()) / evaluation.rows
            if evaluation.accuracy >= guessed:
                return None
            return (
                f"after epoch {report.epoch} the accuracy on the {name} data is {evaluation.accuracy:.4f}; always "
                f"naming the most frequent class would be right for {guessed:.4f}. Try another --lr"
            )
    return None


def poor_order(report: EpochReport, train: Shards) -> str:
    """Return the warning about an order that mixes the classes badly, with the remedy."""
    return (
        f"the rows are sorted by class: label disorder {report.label_disorder:.1f} (1 is random); "
        f"a batch is worth {report.effective_batch_size:.0f} rows. Shuffle once on disk: "
        + shlex.join(["streamtrain", "shuffle", str(train.folder), f"{train.folder}.shuffled"])
    )
