"""Counts of pairs are those of a matrix, in memory for the pairs that occur alone."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as some

from streamtrain.metrics.confusion import Confusion

PARTS = some.lists(some.lists(some.tuples(some.integers(0, 6), some.integers(0, 6)), max_size=12), max_size=9)


@settings(deadline=None)
@given(PARTS)
def test_a_sum_of_parts_counts_as_the_matrix_of_all_rows(parts: list[list[tuple[int, int]]]) -> None:
    total, matrix = Confusion(7), np.zeros((7, 7), dtype=np.int64)
    for part in parts:
        true, predicted = np.array(part, dtype=np.int64).reshape(-1, 2).T
        total += Confusion.of(true, predicted, classes=7)
        np.add.at(matrix, (true, predicted), 1)
    assert total.rows == matrix.sum()
    assert total.matrix().tolist() == Confusion.of_matrix(matrix).matrix().tolist() == matrix.tolist()
    assert total.right.tolist() == np.diag(matrix).tolist()
    assert (total.support.tolist(), total.predicted.tolist()) == (matrix.sum(1).tolist(), matrix.sum(0).tolist())
    assert total.by_pair() == {(i, j): n for (i, j), n in np.ndenumerate(matrix) if n}
    wrong = sorted(((-n, i, j) for (i, j), n in total.by_pair().items() if i != j))
    assert total.worst(3) == [(i, j, -n) for n, i, j in wrong[:3]]


def test_a_million_classes_take_as_many_numbers_as_there_are_pairs() -> None:
    classes = 1_000_000
    labels = np.arange(0, classes, 1000)
    total = Confusion(classes)
    for shift in range(50):
        total += Confusion.of(labels, (labels + shift % 5) % classes, classes=classes)
    assert total.rows == 50 * len(labels)
    assert sum(len(codes) for codes, _ in total.pieces) < 4 * 5 * len(labels)
    assert len(total.pieces) < 10
    assert total.worst(2) == [(0, 1, 10), (0, 2, 10)]
