"""The sums of C are those of NumPy, exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from streamtrain.native.statistics import add_rows, add_rows_reference


def summed(function: Callable[..., object], pixels: np.ndarray, group: np.ndarray) -> list[list[int]]:
    features = pixels.shape[1]
    sums, squares = np.ones((3, features), dtype=np.int64), np.ones(features, dtype=np.int64)
    low, high = np.full(features, 200, dtype=np.uint8), np.full(features, 7, dtype=np.uint8)
    function(pixels, group, sums, squares, low, high)
    return [array.tolist() for array in (sums, squares, low, high)]


@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (5, 784), (33, 7), (70_000, 2)])
def test_sums_are_those_of_the_reference(shape: tuple[int, int], on_each_isa: Callable[[], Iterator[str]]) -> None:
    random = np.random.default_rng(1)
    pixels, group = random.integers(0, 256, shape, dtype=np.uint8), random.integers(0, 3, shape[0])
    expected = summed(add_rows_reference, pixels, group)
    assert expected[0] == [(1 + pixels[group == k].sum(axis=0, dtype=np.int64)).tolist() for k in range(3)]
    for name in on_each_isa():
        assert summed(add_rows, pixels, group) == expected, name


def test_sums_of_more_rows_than_32_bits_hold_are_exact(on_each_isa: Callable[[], Iterator[str]]) -> None:
    pixels, group = np.full((70_000, 1), 255, dtype=np.uint8), np.zeros(70_000, dtype=np.int64)
    for _ in on_each_isa():
        sums, squares, *_ = summed(add_rows, pixels, group)
        assert (sums[0], squares) == ([1 + 70_000 * 255], [1 + 70_000 * 255 * 255])
