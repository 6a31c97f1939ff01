"""How well an order of rows mixes the classes."""

from __future__ import annotations

import math

import numpy as np

from streamtrain.block import Array

DISORDER_BATCH = 256
_COUNTED_ROWS = 1 << 12  # at a time: each call of the counting has a fixed cost


class LabelDisorder:
    """The label disorder D of an order, fed the labels in that order.

    D = mean over batches of Σ_k (n_k − m·p_k)² / (m·p_k) / (K − 1), with m = 256, K the number of classes present
    and p_k their shares: Pearson's χ² for each degree of freedom. 1 is a random order; m / D is the effective
    batch size. A last batch of fewer than m rows does not count.

    >>> mixed, sorted_by_class = LabelDisorder(), LabelDisorder()
    >>> mixed.update(np.arange(5120) % 10)
    >>> sorted_by_class.update(np.arange(5120) // 512)
    >>> f"{mixed.value():.3f} {sorted_by_class.value():.3f}"
    '0.010 256.000'
    >>> sorted_by_class.effective_batch_size(256)
    1.0
    """

    def __init__(self) -> None:
        self._batches = 0
        self._counts = np.zeros(0, dtype=np.int64)  # (classes,) rows, over the whole batches
        self._squares = np.zeros(0, dtype=np.int64)  # (classes,) Σ over batches of n_k²
        self._waiting: list[Array] = []  # labels that are not counted yet
        self._waiting_rows = 0

    def __repr__(self) -> str:
        return f"LabelDisorder({self.value()})"

    def update(self, labels: Array) -> None:
        """Take the next labels (rows,) of the order: non-negative integers, copied."""
        self._waiting.append(labels.astype(np.int64))
        self._waiting_rows += len(labels)
        if self._waiting_rows >= _COUNTED_ROWS:
            self._count()

    def _count(self) -> Array:
        """Count the whole batches among the labels that wait; return the rest, fewer than a batch."""
        labels = np.concatenate([np.zeros(0, np.int64), *self._waiting])
        whole = len(labels) // DISORDER_BATCH
        batches, rest = labels[: whole * DISORDER_BATCH], labels[whole * DISORDER_BATCH :]
        self._waiting, self._waiting_rows = [rest], len(rest)
        classes = max(len(self._counts), int(labels.max(initial=-1)) + 1)
        if more := classes - len(self._counts):
            self._counts, self._squares = np.pad(self._counts, (0, more)), np.pad(self._squares, (0, more))
        if whole:
            cells, counts = np.unique(
                np.repeat(np.arange(whole), DISORDER_BATCH) * classes + batches, return_counts=True
            )
            self._counts += np.bincount(batches, minlength=classes)
            np.add.at(self._squares, cells % classes, counts * counts)
            self._batches += whole
        return rest

    def value(self) -> float | None:
        """Return D, or None if there is no whole batch or fewer than two classes."""
        rest = self._count()
        totals = self._counts + np.bincount(rest, minlength=len(self._counts))
        present = totals > 0
        if not self._batches or present.sum() < 2:
            return None
        expected = DISORDER_BATCH * totals[present] / totals.sum()  # (classes,) m·p_k
        spread = (
            self._squares[present] - 2 * expected * self._counts[present] + self._batches * expected**2
        )  # (classes,) Σ over batches of (n_k − m·p_k)²
        # fsum: the same in whatever order the classes were met
        return math.fsum((spread / expected).tolist()) / (int(present.sum()) - 1) / self._batches

    def effective_batch_size(self, batch_size: int) -> float | None:
        """Return how many rows of a random order say as much as a batch of this one; None if `value` is.

        b / (1 + (b − 1) ρ), where ρ = (D − 1) / (m − 1), at least 0, is the correlation of labels within a batch:
        the design effect of cluster samples (Kish, Survey Sampling, 1965). For b = m it is m / D.
        """
        disorder = self.value()
        if disorder is None:
            return None
        correlation = max(0.0, (disorder - 1) / (DISORDER_BATCH - 1))
        return batch_size / (1 + (batch_size - 1) * correlation)
