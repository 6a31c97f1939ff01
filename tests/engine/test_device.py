"""A GPU computes what the processor does, within rounding; without a GPU its formulas run on the processor."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

import streamtrain as st
from streamtrain.engine.dense import Dense, one_thread
from streamtrain.engine.device import DeviceStep, device
from streamtrain.engine.step import CpuStep
from streamtrain.errors import UsageError
from streamtrain.nn.mlp import MLP
from streamtrain.nn.optimizer import optimizer_for
from streamtrain.stream.batches import Batch
from streamtrain.train import evaluate as module
from streamtrain.train.evaluate import evaluate

if TYPE_CHECKING:
    from conftest import RunCli

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU here")
SOME = [pytest.param("cpu"), pytest.param("cuda", marks=GPU)]


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize(("optimizer", "momentum"), [("sgd", 0.0), ("sgd", 0.9), ("adam", 0.0)])
def test_its_steps_stay_with_those_of_the_processor(name: str, optimizer: str, momentum: float) -> None:
    settings = {"momentum": momentum, "weight_decay": 1e-3}
    there, here = MLP(49, (70, 30), 10, seed=3), MLP(49, (70, 30), 10, seed=3)
    there = there.to(torch.device(name))
    far, near = (optimizer_for(model, optimizer, **settings) for model in (there, here))
    before, lr = copy.deepcopy(here.weights[0]), 0.001 if optimizer == "adam" else 0.05
    generator = torch.Generator().manual_seed(1)
    y = torch.randint(10, (200,), generator=generator)
    pixels = (torch.rand(200, 49, generator=generator) * 16).to(torch.uint8).numpy()
    with one_thread() as threads:
        dense = Dense(200, 49, scale=(2.0, 14.0), threads=threads)
        step = CpuStep(here, near, 200, first_layers=[dense], threads=threads)
        sent = DeviceStep(there, far, scale=(2.0, 14.0))
        for _ in range(50):
            (loss, right), (other_loss, other_right) = (
                step.forward_backward(step.buffers[0].read(pixels, y.numpy())),
                sent.forward_backward(Batch(pixels, y.numpy())),
            )
            step.update(lr)
            sent.update(lr)
            assert other_loss == pytest.approx(loss, rel=1e-4)
            assert abs(right - other_right) <= 1
    for mine, other in zip(here.state_dict().values(), there.state_dict().values(), strict=True):
        assert torch.allclose(mine, other.cpu(), rtol=0, atol=1e-5)
    assert (here.weights[0] - before).abs().max() > 1e-3
    moved = far.to(torch.device("cpu")).buffers
    torch.testing.assert_close(near.buffers, moved, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", SOME)
def test_its_evaluation_is_that_of_the_processor(name: str, shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digits = st.open_shards(shards)
    model = MLP(digits.schema.features, (30,), len(digits.schema.classes))
    here = evaluate(model, digits)
    if name == "cpu":  # with the code for a GPU
        monkeypatch.setattr(module, "_bind_native_scorer", module._bind_device_scorer)
    there = evaluate(model.to(torch.device(name)), digits)
    assert there.rows == here.rows == 600
    assert there.loss == pytest.approx(here.loss, rel=1e-6)
    assert abs(there.accuracy - here.accuracy) <= 2 / here.rows


@pytest.mark.parametrize("name", SOME)
def test_a_run_on_a_device_continues_there_and_ends_like_one_on_the_processor(
    call_cli: RunCli, shards: Path, name: str
) -> None:
    def losses(name: str, run: str) -> list[float]:
        done = call_cli(
            *("train", shards, "--device", name, "--epochs", "2", "--momentum", "0.5", "--out", run, "--json")
        )
        more = call_cli("train", "--resume", run, "--device", name, "--epochs", "3", "--json")
        lines = [json.loads(line) for line in (done.stdout + more.stdout).splitlines()]
        return [line["train_loss"] for line in lines if "train_loss" in line]

    here = losses("cpu", "here")
    assert len(here) == 3
    assert here[2] < here[0]
    assert losses(name, "there") == pytest.approx(here, rel=1e-4)


def test_auto_is_a_gpu_if_there_is_one_and_cuda_without_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device("cpu") == torch.device("cpu")
    for there, kind in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert device("auto") == torch.device(kind)
    with pytest.raises(UsageError, match="torch found no GPU"):
        device("cuda")


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch finds a GPU here")
def test_a_run_that_asks_for_a_missing_gpu_makes_no_folder(call_cli: RunCli, shards: Path, tmp_path: Path) -> None:
    done = call_cli("train", shards, "--out", "run", "--device", "cuda")
    assert (done.returncode, done.stdout) == (2, "")
    assert "found no GPU" in done.stderr
    assert not (tmp_path / "run").exists()
