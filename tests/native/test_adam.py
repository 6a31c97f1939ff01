"""A step of Adam in one pass gives the bits of NumPy, with every instruction set."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrain.native import core
from streamtrain.native.adam import adam, adam_reference
from streamtrain.nn.adam import BETA_1, BETA_2, EPSILON, Adam


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 70), st.integers(1, 10**6), st.floats(1e-6, 1), st.floats(0, 0.9), st.integers(0, 1 << 32))
def test_every_instruction_set_gives_the_bits_of_the_reference(
    on_each_isa: Callable[[], Iterator[str]], count: int, steps: int, lr: float, decay: float, seed: int
) -> None:
    factors = Adam(decay, steps=steps).factors(lr)
    numbers = np.array([BETA_1, 1 - BETA_1, BETA_2, 1 - BETA_2, *factors, EPSILON], np.float32)
    drawn = np.random.default_rng(seed).standard_normal((4, count)).astype(np.float32)
    drawn[2] **= 2
    drawn[:, ::5] = 0  # a pixel that is never there has no gradient
    expected = drawn.copy()
    adam_reference(*expected, numbers)
    assert np.isfinite(expected).all()
    for name in on_each_isa():
        room = np.full((4, count + 2), 7, np.float32)
        room[:, 1:-1] = drawn
        adam(*(row[1:-1] for row in room), numbers)
        assert (room[:, 1:-1] == expected).all(), name
        assert (room[:, [0, -1]] == 7).all(), name


def test_arrays_that_do_not_fit_are_refused() -> None:
    assert core
    four, numbers = [np.zeros(3, np.float32) for _ in range(4)], np.zeros(8, np.float32)
    for wrong in range(4):
        given = [np.zeros(2, np.float32) if number == wrong else each for number, each in enumerate(four)]
        with pytest.raises(ValueError, match="do not fit"):
            core.adam(*given, numbers)
    with pytest.raises(ValueError, match="do not fit"):
        core.adam(*four, numbers[:7])
    with pytest.raises(TypeError):
        core.adam(*four[:3], np.zeros(3), numbers)
