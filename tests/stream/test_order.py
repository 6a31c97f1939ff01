"""Every row once an epoch, in an order that its arguments alone decide."""

from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from numpy.random import PCG64

from streamtrain.errors import UsageError
from streamtrain.stream.order import permutation, row_order, windows


@settings(deadline=None)
@given(
    sizes=some.lists(some.integers(1, 40), min_size=1, max_size=30),
    seed=some.integers(0, 9),
    epoch=some.integers(1, 9),
    extra=some.integers(0, 200),
)
def test_an_epoch_visits_every_row_once_in_windows_of_bounded_size(
    sizes: list[int], seed: int, epoch: int, extra: int
) -> None:
    groups = np.array(sizes)
    window_rows = max(sizes) + extra
    plan = windows(groups, seed=seed, epoch=epoch, window_rows=window_rows)
    assert sorted(np.concatenate([window.groups for window in plan])) == list(range(len(sizes)))
    assert all(window.rows == groups[window.groups].sum() <= window_rows for window in plan)
    assert [window.start for window in plan] == np.cumsum([0, *(w.rows for w in plan)])[:-1].tolist()
    for window in plan:
        assert sorted(row_order(window, seed=seed, epoch=epoch)) == list(range(window.rows))


def test_the_order_is_the_same_today_and_in_years() -> None:
    assert permutation(8, 0, 1, 1).tolist() == PINNED
    assert permutation(8, 0, 2, 1).tolist() != PINNED


@pytest.mark.parametrize("bits", [0, 8, 40, 64])
@pytest.mark.parametrize("length", [0, 1, 2, 255, 256, 3000])
def test_it_is_that_of_the_keys_whatever_bits_of_them_are_equal(
    length: int, bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = PCG64(length).random_raw(length) & np.uint64((1 << bits) - 1)
    for found in (keys, keys << np.uint64(64 - bits)) if bits else (keys,):
        monkeypatch.setattr(
            "streamtrain.stream.order.PCG64", lambda _, k=found: Mock(random_raw=lambda n: k[:n].copy())
        )
        assert permutation(length, 0).tolist() == np.argsort(found, kind="stable").tolist()


def test_every_place_is_equally_likely() -> None:
    places = np.array([permutation(5, key) for key in range(5000)])
    counts = np.array([np.bincount(places[:, column], minlength=5) for column in range(5)])
    assert abs(counts - 1000).max() < 150


def test_a_window_smaller_than_a_row_group_is_refused() -> None:
    with pytest.raises(UsageError, match="Raise `memory_bytes`"):
        windows(np.array([10, 20]), seed=0, epoch=1, window_rows=19)


PINNED = [2, 1, 4, 7, 6, 0, 3, 5]
