"""The pass over a test set counts what predict and evaluate say, and finds the misread rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import streamtrain as st
from streamtrain.report.study import studying


def test_it_agrees_with_predict_and_evaluate(report_run: Path, report_data: tuple[Path, Path]) -> None:
    checkpoint = st.load(report_run)
    shards = st.open_shards(report_data[1]).like(checkpoint.schema)
    *_, found = studying(checkpoint, shards, worst=5, each_cell=2)
    evaluation = st.evaluate(checkpoint.model, shards)
    assert found.evaluation.confusion.tolist() == evaluation.confusion.tolist()
    assert found.evaluation.loss_sum == pytest.approx(evaluation.loss_sum)

    blocks = list(shards.blocks())
    labels, lines = (np.concatenate([getattr(block, name) for block in blocks]) for name in ("labels", "lines"))
    predictions = list(st.predict(checkpoint, blocks))
    said = np.concatenate([p.labels for p in predictions])
    sure = np.concatenate([p.confidence for p in predictions])
    wrong = np.flatnonzero(said != labels)
    assert len(wrong) > 10
    order = wrong[np.argsort(-sure[wrong], kind="stable")]
    assert [m.line for m in found.worst] == lines[order[:5]].tolist()
    assert [(m.true, m.said) for m in found.worst] == list(zip(labels[order[:5]], said[order[:5]], strict=True))
    pixels = np.concatenate([block.pixels for block in blocks])
    assert found.worst[0].pixels == pixels[order[0]].tobytes()
    for (true, other), mistakes in found.cells.items():
        those = [i for i in order if (labels[i], said[i]) == (true, other)]
        assert [m.line for m in mistakes] == lines[those[:2]].tolist()
    off_diagonal = evaluation.confusion - np.diag(np.diag(evaluation.confusion))
    assert sum(map(len, found.cells.values())) == np.minimum(off_diagonal, 2).sum()
