"""Loss, predicted classes and calibration of a batch of logits, found in one pass."""

from __future__ import annotations

import numpy as np

from streamtrain.block import Array
from streamtrain.native import available, core

CALIBRATION_BINS = 10
LANES = 16  # floats of the widest vector


def likeliest_of(logits: Array) -> Array:
    """Return the first class (rows,) with the largest logit; NaN is never larger than another logit."""
    rows, likeliest = np.arange(len(logits)), np.zeros(len(logits), dtype=np.int64)
    for k in range(1, logits.shape[1]):
        likeliest[logits[:, k] > logits[rows, likeliest]] = k
    return likeliest


def evaluate_reference(
    logits: Array, classes: int, labels: Array, sums: Array, codes: Array, calibration: Array
) -> int:
    """Fill the parts of an `Evaluation`; return how many labels come before one that is not a class.

    logits: (rows, classes or more) float32; labels: (rows,) int64; out: loss_sum and top3 in sums (2,) float64,
    codes (rows,) int64, each label · classes + the predicted class, and calibration (bins, 3) float64. They are
    only filled if all labels are classes.
    """
    logits, bins = logits[:, :classes], len(calibration)
    sums[:], codes[:], calibration[:] = 0, 0, 0
    unknown = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(unknown):
        return int(unknown[0])
    rows, predicted = np.arange(len(labels)), likeliest_of(logits)
    top, own = logits[rows, predicted].astype(np.float64), logits[rows, labels]
    with np.errstate(invalid="ignore"):
        total = np.exp(logits - top[:, None]).sum(axis=1)
        confidence = 1 / total
        bin_ = np.minimum(np.where(confidence >= 0, confidence * bins, 0).astype(np.int64), bins - 1)
        sums[0] = np.sum(np.log(total) + top - own)
    sums[1] = np.count_nonzero(np.count_nonzero(logits > own[:, None], axis=1) < 3)  # a tie counts as right
    codes[:] = labels * classes + predicted
    np.add.at(calibration, bin_, np.stack([np.ones(len(rows)), confidence, predicted == labels], axis=1))
    return len(labels)


evaluate = core.evaluate if available() else evaluate_reference
