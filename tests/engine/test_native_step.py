"""The step in C computes what the plain one says, and writes to the tensors of the model only in `write_back`."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

import streamtrain as st
from streamtrain.engine.native_step import NativeStep, computes_natively
from streamtrain.nn.adam import Adam
from streamtrain.nn.functional import cross_entropy_gradient
from streamtrain.nn.loss import CrossEntropy, Objective
from streamtrain.nn.mlp import MLP
from streamtrain.nn.sgd import SGD
from streamtrain.stream.batches import Selection
from streamtrain.stream.dataset import Shards

MOVING = {"momentum": 0.9, "weight_decay": 1e-3}


def digits(folder: Path, *, share: float) -> Shards:
    """Shards of 900 pictures of 7×9 pixels, about that share of which is not zero, in 5 classes."""
    random = np.random.default_rng(0)
    labels = np.arange(900) % 5
    patterns = random.integers(50, 200, (5, 63)) * (random.random((5, 63)) < share)
    pixels = patterns[labels] + random.integers(0, 50, (900, 63)) * (patterns[labels] > 0)
    np.savetxt(folder / "d.csv", np.c_[labels, pixels], fmt="%d", delimiter=",")
    st.convert(folder / "d.csv", folder / "shards", label="first", shape=(7, 9))
    return st.open_shards(folder / "shards")


def optimizer(model: MLP, settings: dict[str, float]) -> SGD | Adam:
    if "adam" in settings:
        return Adam.at_rest(model, weight_decay=settings["adam"])
    return SGD.at_rest(model, **settings)


@pytest.mark.parametrize(
    ("hidden", "activation", "settings"),
    [
        ((), "sigmoid", {}),
        ((100,), "sigmoid", {}),
        ((70, 130), "tanh", MOVING),
        ((65,), "relu", {"weight_decay": 1e-2}),
        ((3,), "sigmoid", {"momentum": 0.5}),
        ((30, 20), "tanh", {"adam": 1e-3}),
    ],
    ids=str,
)
@pytest.mark.parametrize("share", [0.2, 0.95])
def test_200_steps_stay_with_the_plain_ones(
    tmp_path: Path, hidden: tuple[int, ...], activation: str, settings: dict[str, float], share: float
) -> None:
    data = digits(tmp_path, share=share)
    [block] = data.blocks()
    plain = MLP(63, hidden, 5, seed=3, activation=activation)
    fast = copy.deepcopy(plain)
    optimizers = optimizer(plain, settings), optimizer(fast, settings)
    before = copy.deepcopy(fast.state_dict())
    step, random = NativeStep(data, fast, optimizers[1], 100), np.random.default_rng(1)
    low, span = data.schema.scale
    for number in range(200):
        order = random.integers(0, 900, 100 if number % 9 else 31)
        labels, lr = (
            block.labels[order].astype(np.int64),
            (0.2 - number * 5e-4) / (40 if "adam" in settings else 1),
        )
        loss, correct = step.forward_backward(Selection(block.pixels, order, labels))
        x, y = (
            torch.from_numpy((block.pixels[order] - np.float32(low)) / np.float32(span)),
            torch.from_numpy(labels),
        )
        logits, inputs = plain.forward(x)
        losses, dlogits = cross_entropy_gradient(logits, y)
        optimizers[0].step(plain, plain.backward(inputs, dlogits), lr=lr)
        assert loss == pytest.approx(float(losses.double().sum()), rel=1e-4, abs=1e-4)
        assert abs(correct - int((logits.argmax(1) == y).sum())) <= 1
        step.update(lr)
    assert all(torch.equal(tensor, before[name]) for name, tensor in fast.state_dict().items())
    step.write_back()
    for name, tensor in fast.state_dict().items():
        assert torch.allclose(tensor, plain.state_dict()[name], rtol=0, atol=2e-5), name
        assert float((tensor - before[name]).abs().max()) > 0.005
    assert optimizers[1].steps == optimizers[0].steps == 200
    for name, layers in optimizers[0].buffers.items():
        for mine, other in zip(optimizers[1].buffers[name], layers, strict=True):
            assert all(torch.allclose(a, b, rtol=0, atol=2e-5) for a, b in zip(mine, other, strict=True))
            assert all(float(v.abs().max()) > 0 for v in mine)


def test_a_batch_has_the_same_gradients_wherever_its_rows_lie(tmp_path: Path) -> None:
    data = digits(tmp_path, share=0.2)
    [block] = data.blocks()
    order, found = np.random.default_rng(1).permutation(900)[:64], []
    labels = block.labels[order].astype(np.int64)
    for selection in (
        Selection(block.pixels, order, labels),
        Selection(block.pixels[order].copy(), np.arange(64), labels),
    ):
        model = MLP(63, (20,), 5)
        step = NativeStep(data, model, SGD(), 64)
        found.append(step.forward_backward(selection))
        step.update(0.1)
        step.write_back()
        found.append(model.weights[0].numpy().tobytes())
    assert found[:2] == found[2:]


def test_what_is_large_or_in_float64_is_left_to_torch(tmp_path: Path) -> None:
    data = digits(tmp_path, share=0.2)
    assert computes_natively(data, MLP(63, (100,), 5))
    assert computes_natively(data, MLP(63, (500, 500), 5))
    assert not computes_natively(data, MLP(63, (600, 600), 5))
    assert not computes_natively(data, MLP(63, (100,), 5), Objective(dropout=0.5))
    assert not computes_natively(data, MLP(63, (100,), 5), Objective(CrossEntropy(smoothing=0.1)))
    assert not computes_natively(data, MLP(63, (100,), 5).to(torch.float64))
