"""An evaluation is exact: what it counts depends neither on batches nor on the order of rows or shards."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st_
from shared import row_groups_of
from sklearn import metrics

import streamtrain as st
from streamtrain.errors import CorruptShardError, DataError
from streamtrain.metrics.evaluation import CALIBRATION_BINS, Evaluation
from streamtrain.nn.mlp import MLP
from streamtrain.shards.reader import ShardFile

CLASSES = 5


def draw(rows: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return log-probabilities (rows, classes) float32 and labels (rows,), right more often than not."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (rows,), generator=generator)
    logits = 2 * torch.randn(rows, CLASSES, generator=generator)
    logits[torch.arange(rows), labels] += 1.5
    return torch.log_softmax(logits, 1).numpy(), labels.numpy()


def test_it_counts_what_scikit_learn_counts() -> None:
    log_probs, labels = draw(2000)
    total = Evaluation.of(log_probs, labels)
    predicted, probs = log_probs.argmax(1), np.exp(log_probs.astype(np.float64))
    assert total.rows == 2000
    assert total.accuracy == metrics.accuracy_score(labels, predicted)
    assert total.loss == pytest.approx(metrics.log_loss(labels, probs / probs.sum(1, keepdims=True)), abs=1e-6)
    assert total.top3_accuracy == metrics.top_k_accuracy_score(labels, log_probs, k=3)
    np.testing.assert_array_equal(total.confusion, metrics.confusion_matrix(labels, predicted))
    ratios = total.per_class(tuple("abcde"))
    precision, recall, f1, support = metrics.precision_recall_fscore_support(labels, predicted)
    for k, name in enumerate("abcde"):
        assert ratios[name] == pytest.approx(
            {"precision": precision[k], "recall": recall[k], "f1": f1[k], "support": support[k]}
        )


def test_calibration_is_the_gap_between_confidence_and_accuracy_in_each_bin() -> None:
    log_probs, labels = draw(3000)
    total = Evaluation.of(log_probs, labels)
    probs = np.exp(log_probs.astype(np.float64))
    confidence = probs.max(1) / probs.sum(1)
    right = log_probs.argmax(1) == labels
    error = 0.0
    for number, of in enumerate(total.reliability()):
        inside = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1) == number
        assert (of["rows"], of["correct"]) == (inside.sum(), right[inside].sum())
        assert of["confidence_sum"] == pytest.approx(confidence[inside].sum(), rel=1e-6)
        assert of["from"] == pytest.approx(number / CALIBRATION_BINS)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert total.calibration_error == pytest.approx(error, abs=1e-6)
    assert 0.0 < error < 0.5
    sure = Evaluation.of(np.log(np.array([[1.0, 1e-30], [1e-30, 1.0]])), np.array([0, 0]))
    assert sure.reliability()[-1]["rows"] == 2
    assert sure.calibration_error == pytest.approx(0.5)


def same(one: Evaluation, other: Evaluation) -> None:
    """Return whether counts are equal and means equal to 1e-12."""
    np.testing.assert_array_equal(one.confusion, other.confusion)
    np.testing.assert_array_equal(one.calibration[:, ::2], other.calibration[:, ::2])
    assert (one.rows, one.top3) == (other.rows, other.top3)
    assert one.loss == pytest.approx(other.loss, rel=0, abs=1e-12)
    assert one.calibration_error == pytest.approx(other.calibration_error, rel=0, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st_.lists(st_.integers(0, 400), max_size=12), st_.randoms(use_true_random=False))
def test_any_batches_in_any_order_add_up_to_the_same(cuts: list[int], shuffler: object) -> None:
    log_probs, labels = draw(400)
    whole = Evaluation.of(log_probs, labels)
    edges = [0, *sorted(cuts), 400]
    batches = [slice(start, stop) for start, stop in itertools.pairwise(edges)]
    shuffler.shuffle(batches)  # type: ignore[attr-defined]  # a random.Random
    total = Evaluation.empty(CLASSES)
    for batch in batches:
        total += Evaluation.of(log_probs[batch], labels[batch])
    same(total, whole)


def test_without_rows_there_is_no_mean() -> None:
    nothing = Evaluation.empty(3)
    assert nothing.rows == 0
    assert all(np.isnan([nothing.loss, nothing.accuracy, nothing.top3_accuracy, nothing.calibration_error]))


@pytest.mark.parametrize("kept", [600, 590, 130, 3])
@pytest.mark.parametrize("group_rows", [1000, 37])
def test_rows_in_another_order_and_on_any_number_of_threads_evaluate_the_same(
    digits_csv: Path, tmp_path: Path, kept: int, group_rows: int
) -> None:
    header, *lines = digits_csv.read_text().splitlines(keepends=True)
    model = MLP(64, (20,), 10, seed=3)
    for weight in model.weights:
        weight.mul_(3)
    totals = []
    for name, order in (("as", range(kept)), ("turned", range(kept - 1, -1, -1))):
        csv = tmp_path / f"{name}.csv"
        csv.write_text(header + "".join(lines[i] for i in order))
        with row_groups_of(64 * group_rows):
            st.convert(csv, tmp_path / name, classes=tuple(map(str, range(10))), pixel_range=(0, 255))
        for threads in (1, 2):
            before = torch.get_num_threads()
            torch.set_num_threads(threads)
            try:
                totals.append(st.evaluate(model, st.open_shards(tmp_path / name)))
            finally:
                torch.set_num_threads(before)
    assert totals[0].rows == kept
    for other in totals[1:]:
        same(other, totals[0])


def test_damage_to_every_row_group_is_reported_without_a_wait(
    digits_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with row_groups_of(64 * 20):
        st.convert(digits_csv, tmp_path / "d")
    shards = st.open_shards(tmp_path / "d")
    assert len(shards.group_rows) == 30
    assert shards.density < 1

    def damaged(file: ShardFile, group: int, **_: object) -> None:
        raise CorruptShardError(f"row group {group} is gone", path=file.path)

    monkeypatch.setattr(ShardFile, "read_group", damaged)
    with pytest.raises(CorruptShardError, match="row group 0 is gone"):
        st.evaluate(MLP(64), shards)


def test_a_row_that_is_missing_is_noticed(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = st.open_shards(shards)
    blocks = list(opened.blocks())
    cut = blocks[0].take(np.arange(len(blocks[0]) - 1))
    monkeypatch.setattr(opened, "blocks", lambda *_, **__: (block for block in [cut, *blocks[1:]]))
    with pytest.raises(DataError, match="saw 599 rows, the manifest has 600"):
        st.evaluate(MLP(64), opened)
