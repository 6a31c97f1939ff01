"""Dropout: a random share of each hidden layer's activations is zero in every training step."""

from __future__ import annotations

import numpy as np
from numpy.random import PCG64, SeedSequence
from torch import Tensor

_TAG = int.from_bytes(b"drop")  # so that no other draw of the seed is the same
_LEVELS = 1 << 16  # a share is rounded to 1 / _LEVELS


def draw_mask(mask: Tensor, rate: float, *key: int) -> Tensor:
    """Fill a mask (rows, units) with 0, in a share of about `rate`, and with 1 / (1 − share) elsewhere; return it.

    So the mean of a masked activation stays what it was, and an evaluation needs no mask (Srivastava et al. 2014,
    Dropout, section 10).
    key: non-negative integers, such as seed, step and layer; they decide the mask, on any machine
    """
    rows, units = mask.shape
    dropped = round(rate * _LEVELS)
    raw = PCG64(SeedSequence((*key, _TAG))).random_raw(-(-rows * units // 4)).astype("<u8", copy=False)
    kept = raw.view("<u2")[: rows * units].reshape(rows, units) >= dropped
    scale = np.dtype(str(mask.dtype).removeprefix("torch.")).type(_LEVELS / max(1, _LEVELS - dropped))
    np.multiply(kept, scale, out=mask.numpy())
    return mask
