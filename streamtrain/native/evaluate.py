"""The loss, the confusion matrix and the calibration of a batch of logits, in one pass."""

from __future__ import annotations

import math

import numpy as np

from streamtrain.block import Array
from streamtrain.native import Compiled

CALIBRATION_BINS = 10


def _evaluated(logits: Array, labels: Array, sums: Array, confusion: Array, calibration: Array) -> int:
    """Evaluate logits (rows, classes) float32 against class indices (rows,) int64.

    sums:        (2,) float64, out: the summed cross-entropies in nats, and how many rows have their true class
                 among the three likeliest
    confusion:   (classes, classes) int64, out: true class down, predicted class across
    calibration: (bins, 3) float64, out: rows, their summed confidences, how many were right, by confidence
    Returns how many rows come before a label that is not a class index; all rows if there is none.
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
            likelier += logits[row, k] > logits[row, label]  # a tie counts for the true class
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
