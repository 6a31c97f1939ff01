"""A step of Adam in one pass over the parameters; torch needs six."""

from __future__ import annotations

import numpy as np

from streamtrain.block import Array
from streamtrain.native import available, core


def adam_reference(p: Array, m: Array, v: Array, g: Array, numbers: Array) -> None:
    """Move parameters p and moments m and v, each (count,) float32 or float64, by the gradient g.

    m ← n₀ m + n₁ g, v ← n₂ v + n₃ g² and p ← n₄ p − n₅ m / (n₆ √v + n₇)
    numbers: (8,), n₀ … n₇, of the same dtype; see `nn.adam`
    """
    keep_m, take_m, keep_v, take_v, shrink, rate, root, epsilon = numbers
    m[:] = keep_m * m + take_m * g
    v[:] = keep_v * v + take_v * (g * g)
    p[:] = shrink * p - rate * m / (np.sqrt(v) * root + epsilon)


adam = core.adam if available() else adam_reference
