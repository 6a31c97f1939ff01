"""A checkpoint comes back exactly, or not at all."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import pickle
import random
import struct
from pathlib import Path

import pytest
import safetensors.torch
import torch

import streamtrain as st
from streamtrain.errors import RunError
from streamtrain.nn.mlp import MLP
from streamtrain.nn.sgd import zeros_like
from streamtrain.process import peak_rss_mb
from streamtrain.schema import Schema
from streamtrain.stream.order import Cursor
from streamtrain.train.checkpoint import Checkpoint, load_checkpoint, weights_sha256
from streamtrain.train.progress import Progress

SCHEMA = Schema((2, 3), "uint8", (0, 16), ("no", "yes"))


def checkpoint() -> Checkpoint:
    model = MLP(6, (4,), 2, seed=7)
    return Checkpoint(model, SCHEMA, {"lr": 0.1}, Progress(Cursor(3, 512), 0.1 + 0.2, 400, 1.5), "xxh3_128:0")


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    saved = checkpoint()
    saved.save(tmp_path / "a.safetensors")
    loaded = load_checkpoint(tmp_path / "a.safetensors")
    assert (loaded.schema, loaded.recipe, loaded.progress, loaded.data_digest) == (
        SCHEMA,
        {"lr": 0.1},
        saved.progress,
        "xxh3_128:0",
    )
    for name, tensor in saved.model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor)
    assert weights_sha256(loaded.model.state_dict()) == weights_sha256(saved.model.state_dict())


def test_velocities_and_the_activation_come_back(tmp_path: Path) -> None:
    model = MLP(6, (4, 3), 2, seed=7, activation="tanh")
    moving = MLP(6, (4, 3), 2, seed=8)
    velocity = list(zip(moving.weights, moving.biases, strict=True))
    Checkpoint(model, SCHEMA, {}, Progress.at(2), "", {"velocity": velocity}).save(tmp_path / "a.safetensors")
    loaded = load_checkpoint(tmp_path / "a.safetensors")
    assert loaded.model.activation == "tanh"
    torch.testing.assert_close(loaded.buffers["velocity"], velocity, rtol=0, atol=0)
    x = torch.rand(5, 6)
    assert torch.equal(loaded.model.forward(x)[0], model.forward(x)[0])


def test_loaded_tensors_are_aligned_as_fresh_ones(tmp_path: Path) -> None:
    """A product's last bits depend on it, and so would the weights of a resumed run."""
    model = MLP(6, (5, 3), 2)
    for number in range(8):  # each shifts the tensors in the file
        path = tmp_path / f"{number}.safetensors"
        Checkpoint(model, SCHEMA, {"pad": "x" * number}, Progress.at(1), "", {"velocity": zeros_like(model)}).save(
            path
        )
        loaded = load_checkpoint(path)
        tensors = [*loaded.model.state_dict().values(), *itertools.chain(*loaded.buffers["velocity"])]
        assert all(tensor.data_ptr() % 64 == 0 for tensor in tensors)


def test_torch_loads_the_file_into_the_sequential_it_names(tmp_path: Path) -> None:
    checkpoint().save(tmp_path / "a.safetensors")
    twin = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.Sigmoid(), torch.nn.Linear(4, 2))
    twin.load_state_dict(safetensors.torch.load_file(tmp_path / "a.safetensors"), strict=True)
    x = torch.rand(5, 6)
    assert torch.allclose(twin(x), checkpoint().model.forward(x)[0], atol=1e-6)


def test_no_flipped_bit_of_a_checkpoint_is_loaded_as_other_weights_or_another_meaning(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    saved = checkpoint()
    saved.save(path)
    data = path.read_bytes()
    bits = random.Random(1).sample(range(len(data) * 8), 500)
    refused = 0
    for bit in bits:
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            loaded = load_checkpoint(path)
        except RunError:
            refused += 1
            continue
        assert weights_sha256(loaded.model.state_dict()) == weights_sha256(saved.model.state_dict())
        assert (loaded.schema, dict(loaded.recipe), loaded.progress) == (SCHEMA, saved.recipe, saved.progress)
    assert refused > 0.9 * len(bits)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_checkpoint_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "a.safetensors"
    checkpoint().save(path)
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(RunError, match="is damaged"):
        load_checkpoint(path)


class Bomb:
    """What a pickle would run."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.system, ("touch exploded",))


def _header(header: dict[str, object], body: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


HOSTILE = {
    "pickle": pickle.dumps(Bomb()),
    "a huge header": struct.pack("<Q", 1 << 60) + b"{}",
    "offsets beyond the file": _header(
        {"0.weight": {"dtype": "F32", "shape": [1 << 20], "data_offsets": [0, 1 << 22]}}
    ),
    "overlapping offsets": _header(
        {
            "0.weight": {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]},
            "0.bias": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
        },
        b"\0" * 4,
    ),
    "no metadata": _header({"0.weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"\0" * 4),
    "nothing": b"",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_checkpoint_is_refused_and_runs_nothing(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.safetensors").write_bytes(HOSTILE[kind])
    with pytest.raises(RunError, match="is damaged"):
        load_checkpoint(Path("a.safetensors"))
    assert not Path("exploded").exists()


REST = '"dtype": "uint8", "pixel_range": [0, 1], "classes": ["a", "b"]}'
FORGED: dict[str, dict[str, str]] = {
    "no object for a schema": {"schema": "[]"},
    "an endless side": {"schema": '{"image_shape": [1e400], ' + REST},
    "a side of 10^15": {"schema": '{"image_shape": [1000000000000000], ' + REST},
    "a range of words": {"schema": '{"image_shape": [4], ' + REST.replace("[0, 1]", '["a", "b"]')},
    "a range to NaN": {"schema": '{"image_shape": [4], ' + REST.replace("[0, 1]", "[0, NaN]")},
    "nesting": {"recipe": "[" * 100_000},
    "a recipe that is a number": {"recipe": "7"},
    "a cursor of one": {"progress": '{"cursor": [1], "loss_sum": 0, "correct": 0, "seconds": 0}'},
    "a cursor of text": {"progress": '{"cursor": ["a", "b"], "loss_sum": 0, "correct": 0, "seconds": 0}'},
    "epoch 0": {"progress": '{"cursor": [0, 0], "loss_sum": 0, "correct": 0, "seconds": 0}'},
    "an activation of its own": {"activation": "os.system"},
}


@pytest.mark.parametrize("kind", FORGED)
def test_forged_metadata_under_right_digests_are_refused_in_a_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.safetensors"
    checkpoint().save(path)
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata() | FORGED[kind]
    metadata.pop("metadata_sha256")
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode()).hexdigest()
    tensors = safetensors.torch.load_file(path)
    safetensors.torch.save_file(tensors, path, metadata | {"metadata_sha256": digest})
    with pytest.raises(RunError, match="is damaged") as error:
        load_checkpoint(path)
    assert len(str(error.value).replace(str(tmp_path), "")) < 300


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.int32, torch.bfloat16], ids=str)
def test_tensors_of_another_type_are_refused(tmp_path: Path, dtype: torch.dtype) -> None:
    path = tmp_path / "a.safetensors"
    checkpoint().save(path)
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = {name: tensor.to(dtype) for name, tensor in safetensors.torch.load_file(path).items()}
    safetensors.torch.save_file(tensors, path, metadata)
    with pytest.raises(RunError, match="not float32"):
        load_checkpoint(path)


def test_a_header_that_asks_for_more_than_the_file_has_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    huge = {"0.weight": {"dtype": "F32", "shape": [1 << 38], "data_offsets": [0, 1 << 40]}}
    path.write_bytes(_header(huge, b"\0" * 4096))
    before = peak_rss_mb()
    with pytest.raises(RunError, match="is damaged"):
        load_checkpoint(path)
    assert peak_rss_mb() - before < 5


def test_weights_that_are_not_finite_or_do_not_fit_the_schema_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    unfit = checkpoint()
    unfit.model.weights[0][0, 0] = torch.nan
    unfit.save(path)
    with pytest.raises(RunError, match="not finite"):
        load_checkpoint(path)
    narrow = Checkpoint(MLP(5, (4,), 2), SCHEMA, {}, Progress.at(1), "")
    narrow.save(path)
    with pytest.raises(RunError, match="do not fit its schema"):
        load_checkpoint(path)


def test_load_takes_the_best_of_a_run_and_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is missing"):
        st.load(tmp_path)
    checkpoint().save(tmp_path / "last.safetensors")
    assert st.load(tmp_path).recipe == {"lr": 0.1}
    better = checkpoint()
    Checkpoint(better.model, SCHEMA, {"lr": 0.2}, better.progress, "").save(tmp_path / "best.safetensors")
    assert st.load(tmp_path).recipe == {"lr": 0.2}
    assert st.load(tmp_path / "last.safetensors").recipe == {"lr": 0.1}
