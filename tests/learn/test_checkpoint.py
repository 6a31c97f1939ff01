"""A checkpoint comes back exactly, or not at all."""

from __future__ import annotations

import json
import os
import pickle
import struct
from pathlib import Path

import pytest
import safetensors.torch
import torch

import streamtrain as st
from streamtrain.errors import RunError
from streamtrain.learn.checkpoint import Checkpoint, load_checkpoint, weights_sha256
from streamtrain.learn.fit import Progress
from streamtrain.learn.mlp import MLP
from streamtrain.schema import Schema
from streamtrain.stream.order import Cursor

SCHEMA = Schema((2, 3), "uint8", (0, 16), ("no", "yes"))


def checkpoint() -> Checkpoint:
    model = MLP(6, (4,), 2, seed=7)
    return Checkpoint(model, SCHEMA, {"lr": 0.1}, Progress(Cursor(3, 512), 0.1 + 0.2, 400, 1.5), "xxh3_128:0")


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    saved = checkpoint()
    saved.save(tmp_path / "a.safetensors")
    loaded = load_checkpoint(tmp_path / "a.safetensors")
    assert (loaded.schema, loaded.recipe, loaded.progress, loaded.manifest_digest) == (
        SCHEMA,
        {"lr": 0.1},
        saved.progress,
        "xxh3_128:0",
    )
    for name, tensor in saved.model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor)
    assert weights_sha256(loaded.model.state_dict()) == weights_sha256(saved.model.state_dict())


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
    refused = 0
    for bit in range(len(data) * 8):
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
    assert refused > 0.9 * len(data) * 8


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
