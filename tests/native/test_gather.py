"""Rows gathered in one pass are to the bit what NumPy makes of them in three."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrain.native.gather import gather_scaled, gather_scaled_reference
from streamtrain.schema import Schema
from streamtrain.stream.batches import normalise

RANGES = [(0, 255), (0, 16), (1, 200), (-7, 3), (0, 0), (0.1, 0.7), (-1e-3, 1e30), (3, 3 + 2**-20)]


@pytest.mark.parametrize("pixel_range", RANGES)
def test_every_value_of_a_byte_is_divided_as_numpy_divides_it(pixel_range: tuple[float, float]) -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(2, 128)
    schema = Schema((128,), "uint8", pixel_range, ())
    expected = normalise(pixels, schema, out=torch.empty(2, 128)).numpy()
    out = np.full((2, 128), np.nan, np.float32)
    gather_scaled(pixels, np.arange(2), *schema.scale, 0, out)
    assert out.tobytes() == expected.tobytes()


@pytest.mark.parametrize("features", [1, 7, 8, 63, 64, 65, 784])
@pytest.mark.parametrize(("at", "rows"), [(0, 0), (0, 1), (7, 2), (47, 3), (49, 1), (0, 50), (50, 0)])
def test_rows_come_as_asked_for_and_nothing_next_to_them_is_written(features: int, at: int, rows: int) -> None:
    random = np.random.default_rng(features)
    pixels = random.integers(0, 256, (20, features), dtype=np.uint8)
    order = random.integers(0, 20, 50)
    out = np.full((rows + 2, features), -1, np.float32)
    gather_scaled(pixels, order, 0, 255, at, out[1:-1])
    assert (out[1:-1] == pixels[order[at : at + rows]].astype(np.float32) / np.float32(255)).all()
    assert (out[[0, -1]] == -1).all()


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 200), st.integers(0, 9), st.sampled_from(RANGES), st.integers(0, 1 << 32))
def test_every_instruction_set_gives_the_bits_of_the_reference(
    on_each_isa: Callable[[], Iterator[str]], features: int, rows: int, scale: tuple[float, float], seed: int
) -> None:
    random = np.random.default_rng(seed)
    pixels, order = random.integers(0, 256, (7, features), dtype=np.uint8), random.integers(0, 7, rows + 2)
    expected, out = np.empty((2, rows, features), np.float32)
    with np.errstate(all="ignore"):
        gather_scaled_reference(pixels, order, *scale, 1, expected)
    for name in on_each_isa():
        out[:] = -1
        gather_scaled(pixels, order, *scale, 1, out)
        assert np.array_equal(out, expected, equal_nan=True), name
