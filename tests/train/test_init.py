"""A new run starts from the weights of another, with its layers and the classes that it learned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

import streamtrain as st
from streamtrain.errors import UsageError
from streamtrain.train.checkpoint import load, load_checkpoint, weights_sha256
from streamtrain.train.config import TrainConfig
from streamtrain.train.resume import with_layers_of_init

if TYPE_CHECKING:
    from conftest import RunCli

FIRST = ("--epochs", "2", "--hidden", "12,9", "--activation", "tanh", "--batch-size", "32", "--lr", "0.5")


def test_a_run_goes_on_from_another_with_another_rate(call_cli: RunCli, shards: Path, tmp_path: Path) -> None:
    assert call_cli("train", shards, "--test", shards, "--out", "first", *FIRST).returncode == 0
    more = ("--optimizer", "adam", "--epochs", "1", "--test", shards, "--json")
    done = call_cli("train", shards, "--init", "first", "--out", "second", *more)
    assert done.returncode == 0, done.stderr
    before = load(tmp_path / "first")
    began = load_checkpoint(tmp_path / "second" / "previous.safetensors")
    assert began.recipe["init"] == str(tmp_path / "first")
    assert began.recipe["init_sha256"] == weights_sha256(before.model.state_dict())
    assert (began.recipe["hidden"], began.recipe["activation"]) == ([12, 9], "tanh")
    fresh = st.MLP(64, (12, 9), 10, activation="tanh")
    line = json.loads(done.stdout.splitlines()[0])
    [alone] = st.fit(fresh, st.open_shards(shards), epochs=1, optimizer="adam", eval_train=False)
    assert line["progressive_accuracy"] > alone.progressive_accuracy + 0.1
    (tmp_path / "first").rename(tmp_path / "moved")
    assert call_cli("train", "--resume", "second", "--epochs", "2").returncode == 0


def test_its_weights_are_those_of_a_fit_of_the_loaded_model(
    shards: Path, tmp_path: Path, call_cli: RunCli
) -> None:
    call_cli("train", shards, "--out", "first", *FIRST)
    call_cli("train", shards, "--init", "first", "--out", "second", "--epochs", "1")
    model = st.load(tmp_path / "first").model
    st.fit(model, st.open_shards(shards), epochs=1)
    second = load_checkpoint(tmp_path / "second" / "last.safetensors").model
    assert all(torch.equal(a, b) for a, b in zip(model.weights, second.weights, strict=True))


def test_other_layers_and_the_run_itself_as_destination_are_refused(
    call_cli: RunCli, shards: Path, tmp_path: Path
) -> None:
    call_cli("train", shards, "--out", "first", *FIRST)
    refused = call_cli("train", shards, "--init", "first", "--out", "second", "--hidden", "30")
    assert refused.returncode == 2
    assert "have --hidden 12,9, not --hidden 30. Leave --hidden out" in refused.stderr
    again = call_cli("train", shards, "--init", "first", "--out", "first", "--overwrite")
    assert again.returncode == 2
    assert load(tmp_path / "first").model.hidden == (12, 9)
    missing = call_cli("train", shards, "--init", "nowhere", "--out", "second")
    assert (missing.returncode, "nowhere" in missing.stderr) == (1, True)
    assert not (tmp_path / "second").exists()
    with pytest.raises(UsageError, match="`init` is 3"):
        TrainConfig(init=3)  # type: ignore[arg-type]  # on purpose
    assert with_layers_of_init(TrainConfig()) == TrainConfig()
