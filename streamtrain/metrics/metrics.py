"""Aggregates that stream: each is a small state with `+`, divided once, at the end."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from streamtrain.block import Array
from streamtrain.native import Compiled

DISORDER_BATCH = 256
CALIBRATION_BINS = 10
_ROWS = 256  # widened at a time


@dataclass(frozen=True)
class Evaluation:
    """What a model got right over some rows; add two to get that of both.

    loss_sum:    sum of the rows' cross-entropies in nats, float64
    confusion:   (classes, classes) int64, true class down, predicted class across
    top3:        rows whose true class is among the three likeliest
    calibration: (bins, 3) float64: rows, their summed confidences, and how many were right, by the probability of
                 the predicted class in equal bins of 0..1 (a reliability diagram: Guo et al. 2017)
    """

    loss_sum: float
    confusion: Array
    top3: int = 0
    calibration: Array = field(default_factory=lambda: np.zeros((CALIBRATION_BINS, 3)))

    @classmethod
    def empty(cls, classes: int) -> Evaluation:
        """Of no rows: the zero of the sum."""
        return cls(0.0, np.zeros((classes, classes), dtype=np.int64))

    @classmethod
    def of(cls, logits: Array, labels: Array) -> Evaluation:
        """Of one batch: logits or log-probabilities (rows, classes) float32, and the true class indices (rows,).

        Raises ValueError for a label that is no class.
        """
        return bind_evaluation(np.ascontiguousarray(logits, np.float32), np.ascontiguousarray(labels, np.int64))()

    def __add__(self, other: Evaluation) -> Evaluation:
        return Evaluation(
            self.loss_sum + other.loss_sum,
            self.confusion + other.confusion,
            self.top3 + other.top3,
            self.calibration + other.calibration,
        )

    @property
    def rows(self) -> int:
        """Rows counted."""
        return int(self.confusion.sum())

    @property
    def loss(self) -> float:
        """Mean cross-entropy a row, in nats; NaN of no rows."""
        return self.loss_sum / self.rows if self.rows else float("nan")

    @property
    def accuracy(self) -> float:
        """Share of rows predicted right; NaN of no rows."""
        return int(np.trace(self.confusion)) / self.rows if self.rows else float("nan")

    @property
    def top3_accuracy(self) -> float:
        """Share of rows whose true class is among the three likeliest; NaN of no rows."""
        return self.top3 / self.rows if self.rows else float("nan")

    @property
    def calibration_error(self) -> float:
        """Expected calibration error (Naeini, Cooper and Hauskrecht 2015); NaN of no rows.

        The mean over rows of |share of right rows − mean confidence| in the row's bin.
        """
        _, confidences, right = self.calibration.T
        return float(np.abs(right - confidences).sum()) / self.rows if self.rows else float("nan")

    def reliability(self) -> list[dict[str, float]]:
        """The bins of `calibration`, each with its edges."""
        edges = np.linspace(0, 1, CALIBRATION_BINS + 1).round(6).tolist()
        return [
            {"from": low, "to": high, "rows": int(rows), "confidence_sum": confidence, "correct": int(right)}
            for (low, high), (rows, confidence, right) in zip(
                itertools.pairwise(edges), self.calibration.tolist(), strict=True
            )
        ]

    def per_class(self, names: tuple[str, ...]) -> dict[str, dict[str, float]]:
        """Precision, recall, F1 and support of each class; a ratio of nothing is 0, as in scikit-learn."""
        right = np.diag(self.confusion).astype(float)
        support = self.confusion.sum(axis=1)
        predicted = self.confusion.sum(axis=0)
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


@dataclass(frozen=True)
class PixelStatistics:
    """Sum, sum of squares, minimum and maximum of every pixel position; add two to get those of both.

    Each is (features,); the sums are int64 and exact for integer pixels, float64 for float ones.
    """

    sum: Array
    sum_of_squares: Array
    min: Array
    max: Array

    @classmethod
    def of(cls, pixels: Array) -> PixelStatistics:
        """Of pixels (rows, features), at least one row."""
        kind = np.float64 if pixels.dtype.kind == "f" else np.int64
        squares = np.zeros(pixels.shape[1], dtype=kind)
        for start in range(0, len(pixels), _ROWS):
            wide = pixels[start : start + _ROWS].astype(kind)
            squares += np.einsum("rf,rf->f", wide, wide)
        return cls(pixels.sum(axis=0, dtype=kind), squares, pixels.min(axis=0), pixels.max(axis=0))

    def __add__(self, other: PixelStatistics) -> PixelStatistics:
        return PixelStatistics(
            self.sum + other.sum,
            self.sum_of_squares + other.sum_of_squares,
            np.minimum(self.min, other.min),
            np.maximum(self.max, other.max),
        )

    def to_json(self) -> dict[str, Any]:
        """Lists of JSON numbers by pixel position."""
        return {name: getattr(self, name).tolist() for name in ("sum", "sum_of_squares", "min", "max")}


@dataclass(frozen=True)
class ClassSums:
    """Per class name, the sums (features,) of its rows' pixels by position; add two to get those of both.

    int64 and exact for integer pixels, float64 for float ones. None where more than MOST_SUMS would be held.
    """

    sums: Mapping[str, Array] | None

    MAX_SUMS: ClassVar[int] = 1 << 20

    @classmethod
    def of(cls, names: Sequence[str], sums: Array) -> ClassSums:
        """Of sums (classes, features), a row a name."""
        return cls(dict(zip(names, sums, strict=True)) if sums.size <= cls.MAX_SUMS else None)

    def __add__(self, other: ClassSums) -> ClassSums:
        if self.sums is None or other.sums is None:
            return ClassSums(None)
        both = dict(self.sums)
        for name, sums in other.sums.items():
            both[name] = both[name] + sums if name in both else sums
        most = max((len(sums) * len(both) for sums in both.values()), default=0)
        return ClassSums(both if most <= self.MAX_SUMS else None)

    def to_json(self, names: Sequence[str]) -> list[list[int | float]] | None:
        """Lists of JSON numbers by class, in the order of its names, and pixel position."""
        if not self.sums:
            return None
        nothing = np.zeros_like(next(iter(self.sums.values())))
        return [self.sums.get(name, nothing).tolist() for name in names]


def class_sums(pixels: Array, labels: Array, *, classes: int) -> Array:
    """(classes, features) sums of the pixels (rows, features) of each class index of labels (rows,)."""
    sums = np.zeros((classes, pixels.shape[1]), dtype=np.float64 if pixels.dtype.kind == "f" else np.int64)
    order = np.argsort(labels, kind="stable")
    present, starts = np.unique(labels[order], return_index=True)
    for label, rows in zip(present.tolist(), np.split(order, starts[1:]), strict=True):
        sums[label] = pixels[rows].sum(axis=0, dtype=sums.dtype)
    return sums


@dataclass
class LabelDisorder:
    """How well an order mixes the classes: label disorder D, fed the labels in that order.

    D = mean over batches of Σ_k (n_k − m·p_k)² / (m·p_k) / (K − 1), m = 256, K the classes present and
    p_k their shares: Pearson's χ² a degree of freedom. 1 is a random order; m / D is the effective batch
    size. A last batch of fewer than m rows does not count.
    """

    batches: int = 0
    counts: Array = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    squares: Array = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    carry: Array = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def update(self, labels: Array) -> None:
        """Take the next labels (rows,) of the order, non-negative integers."""
        labels = np.concatenate([self.carry, labels.astype(np.int64)])
        whole = len(labels) // DISORDER_BATCH
        batches, self.carry = labels[: whole * DISORDER_BATCH], labels[whole * DISORDER_BATCH :]
        classes = max(len(self.counts), int(labels.max(initial=-1)) + 1)
        if more := classes - len(self.counts):
            self.counts, self.squares = np.pad(self.counts, (0, more)), np.pad(self.squares, (0, more))
        if whole:
            cells = np.repeat(np.arange(whole), DISORDER_BATCH) * classes + batches
            counts = np.bincount(cells, minlength=whole * classes).reshape(whole, classes)
            self.counts += counts.sum(axis=0)
            self.squares += (counts * counts).sum(axis=0)
            self.batches += whole

    def value(self) -> float | None:
        """D, or None where there is no whole batch or fewer than two classes."""
        totals = self.counts + np.bincount(self.carry, minlength=len(self.counts))
        present = totals > 0
        if not self.batches or present.sum() < 2:
            return None
        expected = DISORDER_BATCH * totals[present] / totals.sum()  # (classes,) m·p_k
        spread = (
            self.squares[present] - 2 * expected * self.counts[present] + self.batches * expected**2
        )  # (classes,) Σ over batches of (n_k − m·p_k)²
        # fsum: the same in whatever order the classes were met
        return math.fsum((spread / expected).tolist()) / (int(present.sum()) - 1) / self.batches

    def effective_batch_size(self, batch_size: int) -> float | None:
        """Rows of a random order whose batch says as much as one of `batch_size` rows of this; None as `value`.

        b / (1 + (b − 1) ρ), ρ = (D − 1) / (m − 1) being the correlation of labels within a batch, at least 0: the
        design effect of samples in clusters (Kish, Survey Sampling, 1965). m / D where b = m.
        """
        disorder = self.value()
        if disorder is None:
            return None
        correlation = max(0.0, (disorder - 1) / (DISORDER_BATCH - 1))
        return batch_size / (1 + (batch_size - 1) * correlation)


def bind_evaluation(logits: Array, labels: Array) -> Callable[[], Evaluation]:
    """What makes an `Evaluation` of the logits and labels that are in these arrays when it is called; see `of`.

    Both are contiguous.
    """
    rows, classes = logits.shape
    if labels.shape != (rows,):
        raise ValueError(f"{rows} rows of logits, labels of shape {labels.shape}")
    sums, confusion, calibration = np.empty(2), np.empty((classes,) * 2, np.int64), np.empty((CALIBRATION_BINS, 3))
    fill = evaluate.bound(logits, labels, sums, confusion, calibration)

    def evaluation() -> Evaluation:
        if (right := fill()) < rows:
            raise ValueError(f"labels lie in 0..{classes - 1}, not {labels[right]}")
        return Evaluation(float(sums[0]), confusion.copy(), int(sums[1]), calibration.copy())

    return evaluation


def _evaluated(logits: Array, labels: Array, sums: Array, confusion: Array, calibration: Array) -> int:
    """Fill what is in an `Evaluation`, its loss_sum and top3 in sums (2,) float64.

    Returns how many rows come before a label that is no class, or all.
    """
    sums[:], confusion[:], calibration[:] = 0, 0, 0
    rows, classes = len(logits), logits.shape[1]
    for row in range(rows):
        label, predicted, likelier, total = labels[row], 0, 0, 0.0
        if label < 0 or label >= classes:
            return row
        for k in range(classes):
            if logits[row, k] > logits[row, predicted]:
                predicted = k
            likelier += logits[row, k] > logits[row, label]  # a tie is in favour
        top = np.float64(logits[row, predicted])
        for k in range(classes):
            total += math.exp(logits[row, k] - top)
        confidence = 1 / total
        bin_ = min(int(confidence * CALIBRATION_BINS), CALIBRATION_BINS - 1) if confidence >= 0 else 0
        sums[0] += math.log(total) + top - logits[row, label]
        sums[1] += likelier < 3
        confusion[label, predicted] += 1
        calibration[bin_, 0] += 1
        calibration[bin_, 1] += confidence
        calibration[bin_, 2] += predicted == label
    return rows


evaluate = Compiled(
    _evaluated, ("float32[:, :]", "int64[:]", "float64[:]", "int64[:, :]", "float64[:, :]"), "int64", apart=True
)
