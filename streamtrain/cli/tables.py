"""Results as text for a terminal."""

from __future__ import annotations

from streamtrain.tally import Evaluation


def summary(evaluation: Evaluation) -> str:
    """Rows, loss and accuracy in a line."""
    return f"{evaluation.rows:,} rows: loss {evaluation.loss:.4f}, accuracy {evaluation.accuracy:.4f}"


def confusion_table(evaluation: Evaluation, names: tuple[str, ...]) -> str:
    """The confusion matrix, true class down, predicted class across, with each class's recall.

    >>> import numpy as np
    >>> print(confusion_table(Evaluation(0.0, np.array([[8, 0], [1, 9]])), ("a", "b")))
    true   a  b  recall
       a   8  ·   1.000
       b   1  9   0.900
    """
    cells = [[f"{count:,}" if count else "·" for count in row] for row in evaluation.confusion.tolist()]
    wide = max(len(text) for text in (*names, *(cell for row in cells for cell in row))) + 1
    left = max(len(name) for name in (*names, "true"))
    recalls = evaluation.per_class(names)
    lines = [f"{'true':{left}} " + "".join(f"{name:>{wide + 1}}" for name in names) + "  recall"]
    for name, row in zip(names, cells, strict=True):
        counts = "".join(f"{cell:>{wide + 1}}" for cell in row)
        lines.append(f"{name:>{left}} {counts}  {recalls[name]['recall']:6.3f}")
    return "\n".join(lines)
