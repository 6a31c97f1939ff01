"""The pass over a test set counts what predict and evaluate say, and finds the misread rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import streamtrain as st
from streamtrain.metrics.confusion import Confusion
from streamtrain.metrics.evaluation import Evaluation
from streamtrain.report.error_analysis import ErrorAnalysis, Mistake, iter_error_analysis, keep_within


def test_it_agrees_with_predict_and_evaluate(report_run: Path, report_data: tuple[Path, Path]) -> None:
    checkpoint = st.load(report_run)
    shards = st.open_shards(report_data[1]).with_schema(checkpoint.schema)
    *_, found = iter_error_analysis(checkpoint, shards, worst=5, each_cell=2)
    evaluation = st.evaluate(checkpoint.model, shards)
    assert found.evaluation.confusion.tolist() == evaluation.confusion.tolist()
    assert found.evaluation.loss_sum == pytest.approx(evaluation.loss_sum)

    blocks = list(shards.blocks())
    labels, lines = (np.concatenate([getattr(block, name) for block in blocks]) for name in ("labels", "lines"))
    predictions = list(st.predict(checkpoint, blocks))
    predicted = np.concatenate([p.labels for p in predictions])
    sure = np.concatenate([p.confidence for p in predictions])
    wrong = np.flatnonzero(predicted != labels)
    assert len(wrong) > 10
    order = wrong[np.argsort(-sure[wrong], kind="stable")]
    assert [m.line for m in found.worst] == lines[order[:5]].tolist()
    assert [(m.true, m.predicted) for m in found.worst] == list(
        zip(labels[order[:5]], predicted[order[:5]], strict=True)
    )
    pixels = np.concatenate([block.pixels for block in blocks])
    assert found.worst[0].pixels == pixels[order[0]].tobytes()
    for (true, other), mistakes in found.cells.items():
        those = [i for i in order if (labels[i], predicted[i]) == (true, other)]
        assert [m.line for m in mistakes] == lines[those[:2]].tolist()
    off_diagonal = evaluation.confusion - np.diag(np.diag(evaluation.confusion))
    assert sum(map(len, found.cells.values())) == np.minimum(off_diagonal, 2).sum()


@pytest.mark.parametrize(
    ("limit", "kept"),
    [
        (1000, {(0, 1): 3, (0, 2): 1, (1, 0): 2}),  # all
        (55, {(0, 1): 2, (0, 2): 1, (1, 0): 2}),  # two of each: 30 for the cells, 25 for the pictures
        (49, {(0, 1): 1, (0, 2): 1, (1, 0): 1}),
        (44, {(0, 1): 1, (1, 0): 1}),  # not one of each: the cells with the most rows
        (3, {}),
    ],
)
def test_of_many_mistakes_as_many_stay_as_fit_the_page(limit: float, kept: dict[tuple[int, int], int]) -> None:
    cells = {
        pair: [Mistake(0.9 - k / 10, k, *pair, b"") for k in range(count)]
        for pair, count in {(0, 2): 1, (1, 0): 2, (0, 1): 3}.items()
    }
    counts = Confusion.of_matrix(np.array([[5, 3, 1], [2, 5, 0], [0, 0, 5]]))
    found = ErrorAnalysis(Evaluation(0.0, counts), cells=dict(cells))
    keep_within(found, limit, picture=5, cell=10)
    assert {pair: len(mistakes) for pair, mistakes in found.cells.items()} == kept
    assert all(found.cells[pair] == cells[pair][:count] for pair, count in kept.items())


def test_a_run_without_mistakes_drops_none() -> None:
    found = ErrorAnalysis(Evaluation.empty(2))
    keep_within(found, 0, picture=1, cell=1)
    assert found.cells == {}
