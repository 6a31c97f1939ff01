"""Rows gathered in one pass are to the bit what NumPy makes of them in three."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from streamtrain.native.gather import _gather_scaled, gather_scaled
from streamtrain.schema import Schema
from streamtrain.stream.batches import normalise

RANGES = [(0, 255), (0, 16), (1, 200), (-7, 3), (0, 0), (255, 0), (0.1, 0.7), (-1e-3, 1e30), (3, 3 + 2**-20)]


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
def test_rows_come_as_asked_for_and_nothing_beside_them_is_written(features: int, at: int, rows: int) -> None:
    random = np.random.default_rng(features)
    pixels = random.integers(0, 256, (20, features), dtype=np.uint8)
    order = random.integers(0, 20, 50)
    room = np.full((rows + 2, features), -1, np.float32)
    gather_scaled(pixels, order, 0, 255, at, room[1:-1])
    assert (room[1:-1] == pixels[order[at : at + rows]].astype(np.float32) / np.float32(255)).all()
    assert (room[[0, -1]] == -1).all()


def test_the_python_function_says_the_same() -> None:
    pixels, order = np.arange(60, dtype=np.uint8).reshape(6, 10), np.array([1, 5, 0, 5])
    out, other = np.empty((2, 3, 10), np.float32)
    _gather_scaled(pixels, order, np.float32(1), np.float32(59), 1, out)
    gather_scaled(pixels, order, 1, 59, 1, other)
    assert out.tobytes() == other.tobytes()
