"""The evaluation of a model: a sum over rows from which every ratio follows."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from streamtrain.block import Array
from streamtrain.metrics.confusion import Confusion
from streamtrain.native.evaluate import CALIBRATION_BINS, evaluate


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How a model does over some rows. Add two to get the evaluation of both; divide once, at the end.

    >>> logits = np.array([[2.0, 0.0, -1.0], [0.0, 1.0, 3.0], [1.0, 0.5, 0.0]], np.float32)
    >>> evaluation = Evaluation.of(logits[:2], np.array([0, 1])) + Evaluation.of(logits[2:], np.array([0]))
    >>> evaluation
    Evaluation(rows=3, loss=1.0067, accuracy=0.6667)
    >>> evaluation.confusion  # the second row is of class 1, class 2 was predicted
    array([[2, 0, 0],
           [0, 0, 1],
           [0, 0, 0]])
    >>> evaluation.per_class(("cat", "dog", "fox"))["cat"]
    {'precision': 1.0, 'recall': 1.0, 'f1': 1.0, 'support': 2}

    loss_sum:    sum of the rows' cross-entropies in nats, float64
    counts:      the rows of each true and predicted class
    top3:        rows whose true class is among the three likeliest
    calibration: (bins, 3) float64: rows, their summed confidences, and how many were right, by the probability of
                 the predicted class in equal bins of 0..1 (a reliability diagram: Guo et al. 2017)
    Two evaluations are equal only if they are the same object: compare the fields.
    """

    loss_sum: float
    counts: Confusion
    top3: int = 0
    calibration: Array = field(default_factory=lambda: np.zeros((CALIBRATION_BINS, 3)))

    @classmethod
    def empty(cls, classes: int) -> Evaluation:
        """Return the evaluation of no rows, the zero of the sum."""
        return cls(0.0, Confusion(classes))

    @classmethod
    def of(cls, logits: Array, labels: Array) -> Evaluation:
        """Evaluate one batch.

        logits: (rows, classes) float32, logits or log-probabilities
        labels: (rows,) the true class indices
        Raises ValueError for a label outside 0..classes-1, and for another number of labels than rows.
        """
        return bind_evaluation(np.ascontiguousarray(logits, np.float32), np.ascontiguousarray(labels, np.int64))()

    def __add__(self, other: Evaluation) -> Evaluation:
        return Evaluation(
            self.loss_sum + other.loss_sum,
            self.counts + other.counts,
            self.top3 + other.top3,
            self.calibration + other.calibration,
        )

    def __repr__(self) -> str:
        return f"Evaluation(rows={self.rows}, loss={self.loss:.4f}, accuracy={self.accuracy:.4f})"

    @property
    def rows(self) -> int:
        """Number of rows counted."""
        return self.counts.rows

    @property
    def confusion(self) -> Array:
        """The confusion matrix (classes, classes) int64, true class down, predicted class across.

        It takes 8 · classes² bytes; `counts` has the pairs that occur.
        """
        return self.counts.matrix()

    @property
    def loss(self) -> float:
        """The mean cross-entropy of a row in nats; NaN without rows."""
        return self.loss_sum / self.rows if self.rows else float("nan")

    @property
    def accuracy(self) -> float:
        """The share of rows predicted right; NaN without rows."""
        return int(self.counts.right.sum()) / self.rows if self.rows else float("nan")

    @property
    def top3_accuracy(self) -> float:
        """The share of rows whose true class is among the three likeliest; NaN without rows."""
        return self.top3 / self.rows if self.rows else float("nan")

    @property
    def calibration_error(self) -> float:
        """The expected calibration error; NaN without rows.

        The mean over rows of |share of right rows − mean confidence| in the row's bin (Naeini, Cooper and
        Hauskrecht 2015).
        """
        _, confidences, right = self.calibration.T
        return float(np.abs(right - confidences).sum()) / self.rows if self.rows else float("nan")

    def reliability(self) -> list[dict[str, float]]:
        """Return the bins of `calibration`, each with its edges `from` and `to`."""
        edges = np.linspace(0, 1, CALIBRATION_BINS + 1).round(6).tolist()
        return [
            {"from": low, "to": high, "rows": int(rows), "confidence_sum": confidence, "correct": int(right)}
            for (low, high), (rows, confidence, right) in zip(
                itertools.pairwise(edges), self.calibration.tolist(), strict=True
            )
        ]

    def per_class(self, names: tuple[str, ...]) -> dict[str, dict[str, float]]:
        """Return precision, recall, F1 and support of each class.

        A ratio with denominator 0 is 0, as in scikit-learn (`zero_division=0`).
        """
        right, support, predicted = self.counts.right.astype(float), self.counts.support, self.counts.predicted
        precision = right / np.maximum(predicted, 1)
        recall = right / np.maximum(support, 1)
        f1 = 2 * right / np.maximum(predicted + support, 1)
        return {
            name: {
                "precision": float(precision[k]),
                "recall": float(recall[k]),
                "f1": float(f1[k]),
                "support": int(support[k]),
            }
            for k, name in enumerate(names)
        }


def bind_evaluation(logits: Array, labels: Array, classes: int | None = None) -> Callable[[], Evaluation]:
    """Return a function that evaluates what these two arrays hold when it is called; see `Evaluation.of`.

    logits: (rows, classes) float32, contiguous; wider if `classes` says how many of the columns are classes
    labels: (rows,) int64, contiguous
    """
    rows, classes = len(logits), classes or logits.shape[1]
    if labels.shape != (rows,):
        raise ValueError(f"{rows} rows of logits, labels of shape {labels.shape}")
    sums, codes, calibration = np.empty(2), np.empty(rows, np.int64), np.empty((CALIBRATION_BINS, 3))

    def evaluation() -> Evaluation:
        if (counted := evaluate(logits, classes, labels, sums, codes, calibration)) < rows:
            raise ValueError(f"labels lie in 0..{classes - 1}, not {labels[counted]}")
        counts = Confusion.of_codes(codes, classes=classes)
        return Evaluation(float(sums[0]), counts, int(sums[1]), calibration.copy())

    return evaluation
