"""The data decides which products are used, and a tensor that is not padded is never taken for one that is."""

from pathlib import Path

import numpy as np
import pytest
import torch

import streamtrain as st
from streamtrain.engine.dense import Dense
from streamtrain.engine.sparse import Sparse, first_layer_for, padded_rows, padded_zeros
from streamtrain.nn.mlp import MLP
from streamtrain.stream.dataset import Shards
from streamtrain.train.evaluate import evaluate


@pytest.mark.parametrize("units", [1, 8, 10, 16, 100, 112, 128, 225, 256])
def test_what_is_padded_shares_its_memory_with_its_rows(units: int) -> None:
    tensor = padded_zeros(5, units)
    tensor.copy_(torch.arange(5 * units).reshape(5, units))
    found = padded_rows(tensor[:3])
    assert found.shape[0] == 3
    assert found.shape[1] % 16 == 0
    assert np.array_equal(found[:, :units], tensor[:3].numpy())
    assert not found[:, units:].any()
    found[2, 0] = -7
    assert tensor[2, 0] == -7


@pytest.mark.parametrize("tensor", [torch.zeros(5, 100), torch.zeros(100, 5).T, torch.zeros(100)[None]], ids=str)
def test_what_is_not_padded_is_refused_and_not_copied_in_silence(tensor: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="is not padded"):
        padded_rows(tensor)


def digits(folder: Path, pixels: np.ndarray) -> Shards:
    """Shards of 8×8 pictures."""
    labels = np.arange(len(pixels)) % 3
    rows = [",".join(map(str, [label, *row])) for label, row in zip(labels, pixels.tolist(), strict=True)]
    folder.with_suffix(".csv").write_text("\n".join(rows) + "\n")
    st.convert(folder.with_suffix(".csv"), folder)
    return st.open_shards(folder)


def test_pixels_that_are_mostly_zero_are_multiplied_alone_and_others_all(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    full = random.integers(1, 256, (300, 64))
    for share, kind in ((0.2, Sparse), (0.4, Dense)):
        shards = digits(tmp_path / f"{share}", full * (random.random(full.shape) < share))
        assert shards.density == pytest.approx(share, abs=0.02)
        for units, expected in ((256, kind), (257, Dense)):
            assert type(first_layer_for(shards, MLP(64, (units,), 3), 10, threads=1)) is expected


def test_an_evaluation_is_the_same_with_and_without_the_zeros(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    shards = digits(tmp_path / "d", random.integers(1, 256, (700, 64)) * (random.random((700, 64)) < 0.2))
    model = MLP(64, (30, 20), 3, seed=1)
    kept = [weight.clone() for weight in model.weights]
    without = evaluate(model, shards)
    assert all(torch.equal(weight, old) for weight, old in zip(model.weights, kept, strict=True))
    monkeypatch.setattr(Shards, "density", 1.0)
    whole = evaluate(model, st.open_shards(tmp_path / "d"))
    assert np.array_equal(without.confusion, whole.confusion)
    assert without.loss == pytest.approx(whole.loss, rel=1e-6)
    assert without.rows == 700
