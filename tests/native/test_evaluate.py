"""C counts in logits what NumPy counts, with the same bits for every instruction set."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrain.native.evaluate import evaluate, evaluate_reference


def counted(function: Callable[..., int], logits: np.ndarray, labels: np.ndarray) -> tuple[int, list[np.ndarray]]:
    made = [np.full(2, 7.0), np.full(len(logits), 7), np.full((10, 3), 7.0)]
    return function(logits, logits.shape[1], labels, *made), made


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 9), st.integers(1, 40), st.sampled_from([0, 1, 30, 1e4]), st.integers(0, 1 << 32))
def test_every_instruction_set_counts_as_the_reference(
    on_each_isa: Callable[[], Iterator[str]], rows: int, classes: int, scale: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    logits = (random.standard_normal((rows, classes)) * scale).astype(np.float32).round(1)
    logits[random.random(logits.shape) < 0.02] = random.choice([np.nan, np.inf, -np.inf])
    labels = random.integers(0, classes, rows)
    if seed % 5 == 0 and rows:
        labels[seed % rows] = random.choice([-1, classes])
    expected, parts = counted(evaluate_reference, logits, labels)
    bits = set()
    for name in on_each_isa():
        found, made = counted(evaluate, logits, labels)
        assert found == expected, name
        if found == rows:
            for mine, other in zip(made, parts, strict=True):
                np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-14)
        bits.add(b"".join(array.tobytes() for array in made))
    assert len(bits) == 1
