"""Results as text for a terminal."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from streamtrain.cli.progress import eta
from streamtrain.metrics.evaluation import Evaluation
from streamtrain.report.terminal import plural

if TYPE_CHECKING:
    from streamtrain.stream.dataset import Shards
    from streamtrain.train.progress import EpochReport, Progress


def summary(evaluation: Evaluation) -> str:
    """Rows, loss, accuracy and top-3 accuracy in a line."""
    figures = f"loss {evaluation.loss:.4f}, accuracy {evaluation.accuracy:.4f}"
    return f"{plural(evaluation.rows, 'row')}: {figures}, top-3 {evaluation.top3_accuracy:.4f}"


def confusion_table(evaluation: Evaluation, names: tuple[str, ...]) -> str:
    """The confusion matrix, true class down, predicted class across, with each class's precision, recall and F1.

    >>> import numpy as np
    >>> print(confusion_table(Evaluation(0.0, np.array([[8, 0], [1, 9]])), ("a", "b")))
    true   a  b  precision  recall     f1
       a   8  ·      0.889   1.000  0.941
       b   1  9      1.000   0.900  0.947
    """
    cells = [[f"{count:,}" if count else "·" for count in row] for row in evaluation.confusion.tolist()]
    wide = max(len(text) for text in (*names, *(cell for row in cells for cell in row))) + 1
    left = max(len(name) for name in (*names, "true"))
    ratios = evaluation.per_class(names)
    lines = [f"{'true':{left}} " + "".join(f"{name:>{wide + 1}}" for name in names) + "  precision  recall     f1"]
    for name, row in zip(names, cells, strict=True):
        counts = "".join(f"{cell:>{wide + 1}}" for cell in row)
        of = ratios[name]
        lines.append(f"{name:>{left}} {counts}  {of['precision']:9.3f}  {of['recall']:6.3f}  {of['f1']:5.3f}")
    return "\n".join(lines)


def reliability_table(evaluation: Evaluation) -> str:
    """How often the model was right when it was so sure, in bins of its confidence; empty ones are left out."""
    lines = ["confidence      rows  accuracy  mean confidence"]
    for of in evaluation.reliability():
        if rows := of["rows"]:
            accuracy, sure = of["correct"] / rows, of["confidence_sum"] / rows
            lines.append(f"{of['from']:.1f} to {of['to']:.1f}{rows:>10,}  {accuracy:8.4f}  {sure:15.4f}")
    return "\n".join([*lines, f"expected calibration error {evaluation.calibration_error:.4f}"])


def status_line(progress: Progress, rows: int, epochs: int) -> str:
    """Where an epoch stands, for a line that rewrites itself; the accuracy is of rows before they were learned.

    What matters most comes first: a terminal of 40 columns shows it up to the loss.
    """
    epoch, done = progress.cursor
    pace = done / progress.seconds if progress.seconds else 0.0
    share = (epoch - 1 + done / rows) / epochs
    left = eta(share, share * epochs * rows / pace) if pace else ""
    figures = f"loss {progress.loss:.4f}  accuracy {progress.accuracy:.4f}  {pace:,.0f} rows/s"
    return f"epoch {epoch}/{epochs} {done / rows:4.0%}  {left}  {figures}"


def epoch_line(report: EpochReport, epochs: int) -> str:
    """An epoch in a line of text."""
    figures = {
        "progressive accuracy": report.progressive_accuracy if report.train_accuracy is None else None,
        "train accuracy": report.train_accuracy,
        "test loss": report.test_loss,
        "test accuracy": report.test_accuracy,
        "val accuracy": report.val_accuracy,
    }
    told = "".join(f"  {name} {value:.4f}" for name, value in figures.items() if value is not None)
    return f"epoch {report.epoch:{len(str(epochs))}}/{epochs}  train loss {report.train_loss:.4f}{told}"


def poor_order(report: EpochReport, train: Shards) -> str:
    """A warning of an order that mixes the classes badly, with its remedy."""
    return (
        f"warning: the rows are sorted by class: label disorder {report.label_disorder:.1f}, where 1 is random; "
        f"a batch is worth {report.effective_batch_size:.0f} rows. Shuffle once on disk: "
        + shlex.join(["streamtrain", "shuffle", str(train.folder), f"{train.folder}.shuffled"])
    )
