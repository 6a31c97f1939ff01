"""An epoch that is evaluated while the next one is trained gets the same report, in its turn."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import streamtrain as st
from streamtrain.errors import DataError, RunError
from streamtrain.metrics.evaluation import Evaluation
from streamtrain.stream.dataset import Shards
from streamtrain.train import epoch_evaluation
from streamtrain.train.checkpoint import weights_sha256
from streamtrain.train.config import FitConfig
from streamtrain.train.epoch_evaluation import EpochEvaluation
from streamtrain.train.fit import Event, Training
from streamtrain.train.progress import EpochReport, Evaluating, Progress

CONFIG = FitConfig(epochs=4, batch_size=64, momentum=0.5)


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def data(shards: Path) -> Shards:
    return st.open_shards(shards)


def digest(model: st.MLP) -> str:
    return weights_sha256(model.state_dict())


def training_of(data: Shards, config: FitConfig = CONFIG, *, overlap: bool) -> Training:
    model = st.MLP(data.schema.features, (20,), len(data.schema.classes))
    return Training(model, data, config, test=data, overlap_evaluation=overlap)


def reports_of(training: Training) -> list[tuple[Any, ...]]:
    """What each report says, without times, and the weights that the model has at it."""
    found = []
    for event in training:
        if isinstance(event, EpochReport):
            sets = [(part.loss_sum, part.confusion.tolist()) for part in (event.train, event.test) if part]
            found.append((event.epoch, event.train_loss, event.label_disorder, sets, digest(training.model)))
    return found


def never_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each evaluation end only when the training waits for it."""
    monkeypatch.setattr(EpochEvaluation, "is_ready", property(lambda evaluation: False))


@pytest.mark.parametrize("waits", [False, True])
def test_reports_and_weights_are_those_of_one_after_another(
    data: Shards, monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    in_turn, meanwhile = training_of(data, overlap=False), training_of(data, overlap=True)
    expected = reports_of(in_turn)
    if waits:
        never_ready(monkeypatch)
    assert reports_of(meanwhile) == expected
    assert [report[0] for report in expected] == [1, 2, 3, 4]
    assert digest(meanwhile.model) == digest(in_turn.model) == expected[-1][-1]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("streamtrain")]


def test_while_an_epoch_is_evaluated_the_tensors_stay_as_they_were_at_its_end(
    data: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    never_ready(monkeypatch)
    training, ends, kinds = training_of(data, overlap=True), [], []
    for event in training:
        kinds.append(type(event))
        if isinstance(event, Progress) and event.cursor.epoch > 1:
            at = training.write_back()
            assert at.cursor == (event.cursor.epoch - 1, data.rows)
            ends.append((at.cursor.epoch, digest(training.model)))
        elif isinstance(event, Progress):
            assert training.write_back() == event
        elif isinstance(event, Evaluating):
            assert event.progress.cursor.rows == data.rows
    assert [{digest for number, digest in ends if number == epoch} for epoch in (1, 2, 3)] == [
        {report[-1]} for report in reports_of(training_of(data, overlap=False))[:3]
    ]
    assert kinds.index(EpochReport) > kinds.index(Evaluating) > -(-data.rows // 64)


def test_with_one_thread_or_little_memory_nothing_is_trained_meanwhile(data: Shards) -> None:
    def kinds(training: Training) -> list[type[Event]]:
        return [type(event) for event in training]

    expected = kinds(training_of(data, overlap=False))
    torch.set_num_threads(1)
    assert kinds(training_of(data, overlap=True)) == expected
    torch.set_num_threads(2)
    small = training_of(data, overlap=True)
    small.plan = replace(small.plan, prefetch_threads=0)
    assert kinds(small) == expected


def test_an_epoch_is_reported_before_the_error_that_ends_the_next_one(
    data: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    never_ready(monkeypatch)
    training, seen = training_of(data, replace(CONFIG, lr=0.5), overlap=True), []

    def fail(step: int) -> float:
        if step == 14:
            raise DataError("a damaged shard")
        return 0.5

    training._schedule = SimpleNamespace(rate=fail)
    with pytest.raises(DataError, match="a damaged shard"):
        seen.extend(event for event in training if isinstance(event, EpochReport))
    assert [report.epoch for report in seen] == [1]


def test_a_loss_that_is_not_finite_after_an_epoch_ends_the_training(
    data: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    infinite = Evaluation(float("inf"), Evaluation.empty(10).counts)
    monkeypatch.setattr(epoch_evaluation, "iter_evaluate", lambda *_: iter([infinite]))
    with pytest.raises(RunError, match="after epoch 1 the loss on"):
        list(training_of(data, overlap=True))


def test_a_training_that_is_left_leaves_no_thread_and_the_weights_of_its_last_step(data: Shards) -> None:
    training, left = training_of(data, overlap=True), training_of(data, overlap=False)
    for each in (training, left):
        events = iter(each)
        for event in events:
            if isinstance(event, Progress) and event.cursor == (2, 128):
                break
        events.close()  # type: ignore[attr-defined]  # a generator
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("streamtrain")]
    assert digest(training.model) == digest(left.model)
    assert training.write_back().cursor == (2, 128)
