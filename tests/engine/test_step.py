"""The fast step computes what the plain one says, the same to the bit on any number of threads."""

import copy

import pytest
import torch
from torch import Tensor

from streamtrain.engine.dense import Dense, one_thread
from streamtrain.engine.sparse import Sparse
from streamtrain.engine.step import Step
from streamtrain.nn.functional import cross_entropy_gradient
from streamtrain.nn.mlp import ACTIVATIONS, MLP, Gradients
from streamtrain.nn.sgd import SGDConfig, rest, sgd_step

FEATURES, CLASSES = 49, 10


def batches(count: int, rows: int) -> list[tuple[Tensor, Tensor]]:
    """Batches that can be learned: a class is a pattern under noise; the last is short."""
    generator = torch.Generator().manual_seed(4)
    patterns = torch.rand(CLASSES, FEATURES, generator=generator)
    made = []
    for number in range(count):
        y = torch.randint(CLASSES, (rows if number + 1 < count else rows // 3,), generator=generator)
        made.append((0.7 * patterns[y] + 0.3 * torch.rand(len(y), FEATURES, generator=generator), y))
    return made


def dense(rows: int, threads: int, dtype: torch.dtype = torch.float32) -> Dense:
    return Dense(rows, FEATURES, scale=(0.0, 1.0), threads=threads, dtype=dtype)


def plainly(model: MLP, x: Tensor, y: Tensor, sgd: SGDConfig, velocity: Gradients) -> tuple[float, int]:
    logits, inputs = model.forward(x)
    losses, dlogits = cross_entropy_gradient(logits, y)
    sgd_step(model, model.backward(inputs, dlogits), **sgd._asdict(), velocity=velocity)
    return float(losses.double().sum()), int((logits.argmax(1) == y).sum())


HOWS = [
    ((), "sigmoid", SGDConfig(0.05)),
    ((100,), "sigmoid", SGDConfig(0.05)),
    ((70, 130), "tanh", SGDConfig(0.05, momentum=0.9, weight_decay=1e-3)),
    ((65,), "relu", SGDConfig(0.05, weight_decay=1e-2)),
    ((3,), "sigmoid", SGDConfig(0.05, momentum=0.5)),
]


@pytest.mark.parametrize(("hidden", "activation", "sgd"), HOWS, ids=str)
def test_500_steps_stay_with_the_plain_ones(hidden: tuple[int, ...], activation: str, sgd: SGDConfig) -> None:
    plain = MLP(FEATURES, hidden, CLASSES, seed=3, activation=activation)
    fast = copy.deepcopy(plain)
    velocities = rest(plain), rest(fast)
    before = [weight.clone() for weight in fast.weights]
    right = [0, 0]
    with one_thread() as threads:
        step = Step(fast, 200, sgd, velocities[1], pixels=[dense(200, threads)], threads=threads)
        for x, y in batches(500, 200):
            loss, correct = step.score(step.slots[0].read(x.numpy(), y.numpy()))
            step.learn()
            expected, expected_correct = plainly(plain, x, y, sgd, velocities[0])
            assert loss == pytest.approx(expected, rel=1e-4)
            right[0], right[1] = right[0] + correct, right[1] + expected_correct
    for name, tensor in fast.state_dict().items():
        assert torch.allclose(tensor, plain.state_dict()[name], rtol=0, atol=1e-5), name
    assert all(float((w - old).abs().max()) > 0.05 for w, old in zip(fast.weights, before, strict=True))
    assert right[0] == pytest.approx(right[1], abs=3)
    assert right[0] > 30_000


@pytest.mark.parametrize(("hidden", "activation", "sgd"), [*HOWS, ((225,), "sigmoid", SGDConfig(0.05))], ids=str)
def test_500_steps_with_the_zeros_left_out_stay_with_the_plain_ones(
    hidden: tuple[int, ...], activation: str, sgd: SGDConfig
) -> None:
    plain = MLP(FEATURES, hidden, CLASSES, seed=3, activation=activation)
    fast = copy.deepcopy(plain)
    velocities = rest(plain), rest(fast)
    before = copy.deepcopy(fast.state_dict())
    with one_thread() as threads:
        step = Step(fast, 200, sgd, velocities[1], pixels=[Sparse(200, FEATURES, span=255.0)], threads=threads)
        for x, y in batches(500, 200):
            pixels = ((x - 0.7).clamp_min(0) * 800).to(torch.uint8)
            assert 0.1 < pixels.count_nonzero() / pixels.numel() < 0.3
            loss, correct = step.score(step.slots[0].read(pixels.numpy(), y.numpy()))
            step.learn()
            expected, expected_correct = plainly(plain, pixels / 255, y, sgd, velocities[0])
            assert loss == pytest.approx(expected, rel=1e-4)
            assert abs(correct - expected_correct) <= 2
    for name, tensor in fast.state_dict().items():
        assert torch.allclose(tensor, plain.state_dict()[name], rtol=0, atol=1e-5), name
        assert float((tensor - before[name]).abs().max()) > 0.005
    for mine, other in zip(velocities[1], velocities[0], strict=True):
        if sgd.momentum:
            assert all(torch.allclose(a, b, rtol=0, atol=1e-5) for a, b in zip(mine, other, strict=True))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("rows", [1, 7, 129, 256])
def test_one_step_in_float64_is_the_plain_one(activation: str, rows: int) -> None:
    plain = MLP(FEATURES, (66, 9), CLASSES, activation=activation).to(torch.float64)
    fast, sgd = plain.to(torch.float64), SGDConfig(0.1, momentum=0.9, weight_decay=0.01)
    x, y = (t[:rows] for t in batches(2, 256)[0])
    velocities = rest(plain), rest(fast)
    with one_thread() as threads:
        pixels = dense(256, threads, torch.float64)
        step = Step(fast, 256, sgd, velocities[1], pixels=[pixels], threads=threads)
        for _ in range(3):
            plainly(plain, x.double(), y, sgd, velocities[0])
            step.score(step.slots[0].read(x.double().numpy(), y.numpy()))
            step.learn()
    torch.testing.assert_close(fast.state_dict(), plain.state_dict(), rtol=0, atol=1e-13)
    torch.testing.assert_close(velocities[1], velocities[0], rtol=0, atol=1e-13)


@pytest.mark.parametrize("sgd", [SGDConfig(0.05), SGDConfig(0.05, momentum=0.9, weight_decay=1e-3)], ids=str)
def test_no_number_of_threads_changes_a_bit(sgd: SGDConfig) -> None:
    def trained(threads: int) -> dict[str, Tensor]:
        model = MLP(FEATURES, (200, 70), CLASSES)
        with one_thread():
            step = Step(model, 600, sgd, rest(model), pixels=[dense(600, threads)], threads=threads)
            for x, y in batches(30, 600):
                step.score(step.slots[0].read(x.numpy(), y.numpy()))
                step.learn()
        return model.state_dict()

    alone = trained(1)
    for threads in (2, 3, 8):
        for name, tensor in trained(threads).items():
            assert torch.equal(tensor, alone[name]), (threads, name)


def test_scoring_leaves_the_weights_alone_and_a_loss_beyond_float_is_told() -> None:
    model = MLP(FEATURES, (8,), CLASSES)
    model.weights[1].mul_(1e38)
    before = copy.deepcopy(model.state_dict())
    x, y = batches(2, 50)[0]
    with one_thread() as threads:
        step = Step(model, 50, SGDConfig(1.0), rest(model), pixels=[dense(50, threads)], threads=threads)
        loss, _ = step.score(step.slots[0].read(x.numpy(), y.numpy()))
    assert not torch.tensor(loss).isfinite()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
