"""The fast step computes what the plain one does, the same to the bit on any number of threads."""

import copy

import pytest
import torch
from torch import Tensor

from streamtrain.engine.dense import Dense, FirstLayer, one_thread
from streamtrain.engine.sparse import Sparse
from streamtrain.engine.step import CpuStep
from streamtrain.nn.activations import ACTIVATIONS
from streamtrain.nn.functional import cross_entropy_gradient
from streamtrain.nn.mlp import MLP
from streamtrain.nn.sgd import SGD

FEATURES, CLASSES = 49, 10
Settings = dict[str, float]


def batches(count: int, rows: int) -> list[tuple[Tensor, Tensor]]:
    """Return batches that can be learned: a class is a pattern under noise; the last batch is short."""
    generator = torch.Generator().manual_seed(4)
    patterns = torch.rand(CLASSES, FEATURES, generator=generator)
    made = []
    for number in range(count):
        y = torch.randint(CLASSES, (rows if number + 1 < count else rows // 3,), generator=generator)
        made.append((0.7 * patterns[y] + 0.3 * torch.rand(len(y), FEATURES, generator=generator), y))
    return made


def dense(rows: int, threads: int, dtype: torch.dtype = torch.float32) -> Dense:
    return Dense(rows, FEATURES, scale=(0.0, 1.0), threads=threads, dtype=dtype)


def plain_step(model: MLP, x: Tensor, y: Tensor, sgd: SGD, lr: float) -> tuple[float, int]:
    logits, inputs = model.forward(x)
    losses, dlogits = cross_entropy_gradient(logits, y)
    sgd.step(model, model.backward(inputs, dlogits), lr=lr)
    return float(losses.double().sum()), int((logits.argmax(1) == y).sum())


def fast_step(step: CpuStep, pixels: Tensor, y: Tensor, lr: float) -> tuple[float, int]:
    scored = step.forward_backward(step.buffers[0].read(pixels.numpy(), y.numpy()))
    step.update(lr)
    return scored


MOVING: Settings = {"momentum": 0.9, "weight_decay": 1e-3}
HOWS: list[tuple[tuple[int, ...], str, Settings]] = [
    ((), "sigmoid", {}),
    ((100,), "sigmoid", {}),
    ((70, 130), "tanh", MOVING),
    ((65,), "relu", {"weight_decay": 1e-2}),
    ((3,), "sigmoid", {"momentum": 0.5}),
]


@pytest.mark.parametrize(("hidden", "activation", "settings"), HOWS, ids=str)
def test_500_steps_stay_with_the_plain_ones(hidden: tuple[int, ...], activation: str, settings: Settings) -> None:
    plain = MLP(FEATURES, hidden, CLASSES, seed=3, activation=activation)
    fast = copy.deepcopy(plain)
    optimizers = SGD.at_rest(plain, **settings), SGD.at_rest(fast, **settings)
    before = [weight.clone() for weight in fast.weights]
    right = [0, 0]
    with one_thread() as threads:
        step = CpuStep(fast, optimizers[1], 200, first_layers=[dense(200, threads)], threads=threads)
        for number, (x, y) in enumerate(batches(500, 200)):
            lr = 0.06 - number * 4e-5  # falls during the epoch
            loss, correct = fast_step(step, x, y, lr)
            expected, expected_correct = plain_step(plain, x, y, optimizers[0], lr)
            assert loss == pytest.approx(expected, rel=1e-4)
            right[0], right[1] = right[0] + correct, right[1] + expected_correct
    for name, tensor in fast.state_dict().items():
        assert torch.allclose(tensor, plain.state_dict()[name], rtol=0, atol=1e-5), name
    assert all(float((w - old).abs().max()) > 0.05 for w, old in zip(fast.weights, before, strict=True))
    assert right[0] == pytest.approx(right[1], abs=3)
    assert right[0] > 30_000


@pytest.mark.parametrize(("hidden", "activation", "settings"), [*HOWS, ((225,), "sigmoid", {})], ids=str)
def test_500_steps_with_the_zeros_left_out_stay_with_the_plain_ones(
    hidden: tuple[int, ...], activation: str, settings: Settings
) -> None:
    plain = MLP(FEATURES, hidden, CLASSES, seed=3, activation=activation)
    fast = copy.deepcopy(plain)
    optimizers = SGD.at_rest(plain, **settings), SGD.at_rest(fast, **settings)
    before = copy.deepcopy(fast.state_dict())
    with one_thread() as threads:
        sparse: FirstLayer = Sparse(200, FEATURES, span=255.0)
        step = CpuStep(fast, optimizers[1], 200, first_layers=[sparse], threads=threads)
        for number, (x, y) in enumerate(batches(500, 200)):
            pixels = ((x - 0.7).clamp_min(0) * 800).to(torch.uint8)
            assert 0.1 < pixels.count_nonzero() / pixels.numel() < 0.3
            lr = 0.06 - number * 4e-5
            loss, correct = fast_step(step, pixels, y, lr)
            expected, expected_correct = plain_step(plain, pixels / 255, y, optimizers[0], lr)
            assert loss == pytest.approx(expected, rel=1e-4)
            assert abs(correct - expected_correct) <= 2
        step.write_back()
    for name, tensor in fast.state_dict().items():
        assert torch.allclose(tensor, plain.state_dict()[name], rtol=0, atol=1e-5), name
        assert float((tensor - before[name]).abs().max()) > 0.005
    for mine, other in zip(optimizers[1].velocity, optimizers[0].velocity, strict=True):
        assert all(torch.allclose(a, b, rtol=0, atol=1e-5) for a, b in zip(mine, other, strict=True))
        assert all(float(v.abs().max()) > 0 for v in mine)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("rows", [1, 7, 129, 256])
def test_one_step_in_float64_is_the_plain_one(activation: str, rows: int) -> None:
    plain = MLP(FEATURES, (66, 9), CLASSES, activation=activation).to(torch.float64)
    fast = plain.to(torch.float64)
    optimizers = SGD.at_rest(plain, **MOVING), SGD.at_rest(fast, **MOVING)
    x, y = (t[:rows] for t in batches(2, 256)[0])
    with one_thread() as threads:
        first = dense(256, threads, torch.float64)
        step = CpuStep(fast, optimizers[1], 256, first_layers=[first], threads=threads)
        for _ in range(3):
            plain_step(plain, x.double(), y, optimizers[0], 0.1)
            fast_step(step, x.double(), y, 0.1)
    torch.testing.assert_close(fast.state_dict(), plain.state_dict(), rtol=0, atol=1e-13)
    torch.testing.assert_close(optimizers[1].velocity, optimizers[0].velocity, rtol=0, atol=1e-13)


@pytest.mark.parametrize("settings", [{}, MOVING], ids=str)
def test_no_number_of_threads_changes_a_bit(settings: Settings) -> None:
    def trained(threads: int) -> dict[str, Tensor]:
        model = MLP(FEATURES, (200, 70), CLASSES)
        with one_thread():
            optimizer = SGD.at_rest(model, **settings)
            step = CpuStep(model, optimizer, 600, first_layers=[dense(600, threads)], threads=threads)
            for x, y in batches(30, 600):
                fast_step(step, x, y, 0.05)
        return model.state_dict()

    alone = trained(1)
    for threads in (2, 3, 8):
        for name, tensor in trained(threads).items():
            assert torch.equal(tensor, alone[name]), (threads, name)


def test_forward_backward_leaves_the_weights_alone_and_reports_a_loss_beyond_float() -> None:
    model = MLP(FEATURES, (8,), CLASSES)
    model.weights[1].mul_(1e38)
    before = copy.deepcopy(model.state_dict())
    x, y = batches(2, 50)[0]
    with one_thread() as threads:
        step = CpuStep(model, SGD(), 50, first_layers=[dense(50, threads)], threads=threads)
        loss, _ = step.forward_backward(step.buffers[0].read(x.numpy(), y.numpy()))
    assert not torch.tensor(loss).isfinite()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
