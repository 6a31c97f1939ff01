"""The fast step computes what the plain one does, the same to the bit on any number of threads."""

import copy

import pytest
import torch
from torch import Tensor

from streamtrain.engine.dense import Dense, FirstLayer, one_thread
from streamtrain.engine.sparse import Sparse
from streamtrain.engine.step import CpuStep
from streamtrain.nn.activations import ACTIVATIONS
from streamtrain.nn.dropout import draw_mask
from streamtrain.nn.functional import cross_entropy_gradient
from streamtrain.nn.loss import PLAIN, CrossEntropy, Objective
from streamtrain.nn.mlp import MLP
from streamtrain.nn.optimizer import Optimizer, optimizer_for
from streamtrain.nn.sgd import SGD

FEATURES, CLASSES = 49, 10
Settings = dict[str, float | str]


def batches(count: int, rows: int) -> list[tuple[Tensor, Tensor]]:
    """Return batches that can be learned: a class is a pattern under noise; the last batch is short."""
    generator = torch.Generator().manual_seed(4)
    patterns = torch.rand(CLASSES, FEATURES, generator=generator)
    made = []
    for number in range(count):
        y = torch.randint(CLASSES, (rows if number + 1 < count else rows // 3,), generator=generator)
        made.append((0.7 * patterns[y] + 0.3 * torch.rand(len(y), FEATURES, generator=generator), y))
    return made


def pace(settings: Settings) -> float:
    """How much smaller the learning rate of an optimiser is than that of SGD."""
    return 0.02 if settings.get("name") == "adam" else 1.0


def assert_kept_alike(optimizer: Optimizer, other: Optimizer, *, atol: float) -> None:
    """What both optimisers keep is close, and not zero."""
    torch.testing.assert_close(optimizer.buffers, other.buffers, rtol=0, atol=atol)
    for gradients in optimizer.buffers.values():
        assert all(float(v.abs().max()) > 0 for pair in gradients for v in pair)


def dense(rows: int, threads: int, dtype: torch.dtype = torch.float32) -> Dense:
    return Dense(rows, FEATURES, scale=(0.0, 1.0), threads=threads, dtype=dtype)


def plain_step(
    model: MLP, x: Tensor, y: Tensor, optimizer: Optimizer, lr: float, objective: Objective = PLAIN
) -> tuple[float, int]:
    empty = [x.new_empty(len(x), units) for units in model.hidden if objective.dropout]
    key = objective.seed, optimizer.steps
    masks = [draw_mask(mask, objective.dropout, *key, layer) for layer, mask in enumerate(empty)]
    logits, inputs = model.forward(x, masks)
    losses, dlogits = cross_entropy_gradient(logits, y)
    objective.loss.correct_(dlogits, y, scale=1 / len(y))
    optimizer.step(model, model.backward(inputs, dlogits, masks), lr=lr)
    return float(losses.double().sum()), int((logits.argmax(1) == y).sum())


def fast_step(step: CpuStep, pixels: Tensor, y: Tensor, lr: float) -> tuple[float, int]:
    scored = step.forward_backward(step.buffers[0].read(pixels.numpy(), y.numpy()))
    step.update(lr)
    return scored


def objective_of(settings: Settings) -> Objective:
    weights = tuple(0.5 + number / 10 for number in range(CLASSES)) if "weighted" in settings else ()
    dropout = float(settings.get("dropout", 0))
    return Objective(CrossEntropy(float(settings.get("smoothing", 0)), weights), dropout, seed=7)


def at_rest(model: MLP, settings: Settings) -> Optimizer:
    values = {"name": "sgd", "momentum": 0.0, "weight_decay": 0.0}
    values |= {name: value for name, value in settings.items() if name in values}
    return optimizer_for(model, **values)  # type: ignore[arg-type]  # a test's shortcut


MOVING: Settings = {"momentum": 0.9, "weight_decay": 1e-3}
ADAM: Settings = {"name": "adam", "weight_decay": 1e-2}
HOWS: list[tuple[tuple[int, ...], str, Settings]] = [
    ((), "sigmoid", {}),
    ((100,), "sigmoid", {}),
    ((70, 130), "tanh", MOVING),
    ((65,), "relu", {"weight_decay": 1e-2}),
    ((3,), "sigmoid", {"momentum": 0.5}),
    ((70, 33), "relu", ADAM),
    ((70, 33), "tanh", {"dropout": 0.3, "smoothing": 0.1, "weighted": 1.0}),
    ((100, 33), "sigmoid", ADAM | {"dropout": 0.5}),
]


@pytest.mark.parametrize(("hidden", "activation", "settings"), HOWS, ids=str)
def test_500_steps_stay_with_the_plain_ones(hidden: tuple[int, ...], activation: str, settings: Settings) -> None:
    plain = MLP(FEATURES, hidden, CLASSES, seed=3, activation=activation)
    fast = copy.deepcopy(plain)
    optimizers, objective = (at_rest(plain, settings), at_rest(fast, settings)), objective_of(settings)
    before = [weight.clone() for weight in fast.weights]
    right = [0, 0]
    with one_thread() as threads:
        step = CpuStep(
            fast, optimizers[1], 200, first_layers=[dense(200, threads)], threads=threads, objective=objective
        )
        for number, (x, y) in enumerate(batches(500, 200)):
            lr = (0.06 - number * 4e-5) * pace(settings)  # falls as it goes
            loss, correct = fast_step(step, x, y, lr)
            expected, expected_correct = plain_step(plain, x, y, optimizers[0], lr, objective)
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
    optimizers, objective = (at_rest(plain, settings), at_rest(fast, settings)), objective_of(settings)
    before = copy.deepcopy(fast.state_dict())
    with one_thread() as threads:
        sparse: FirstLayer = Sparse(200, FEATURES, span=255.0)
        step = CpuStep(fast, optimizers[1], 200, first_layers=[sparse], threads=threads, objective=objective)
        for number, (x, y) in enumerate(batches(500, 200)):
            pixels = ((x - 0.7).clamp_min(0) * 800).to(torch.uint8)
            assert 0.1 < pixels.count_nonzero() / pixels.numel() < 0.3
            lr = (0.06 - number * 4e-5) * pace(settings)
            loss, correct = fast_step(step, pixels, y, lr)
            expected, expected_correct = plain_step(plain, pixels / 255, y, optimizers[0], lr, objective)
            assert loss == pytest.approx(expected, rel=1e-4)
            assert abs(correct - expected_correct) <= 2
        step.write_back()
    for name, tensor in fast.state_dict().items():
        assert torch.allclose(tensor, plain.state_dict()[name], rtol=0, atol=1e-5), name
        assert float((tensor - before[name]).abs().max()) > 0.005
    assert_kept_alike(*optimizers, atol=1e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("rows", [1, 7, 129, 256])
@pytest.mark.parametrize("settings", [MOVING, ADAM], ids=str)
def test_one_step_in_float64_is_the_plain_one(settings: Settings, activation: str, rows: int) -> None:
    plain = MLP(FEATURES, (66, 9), CLASSES, activation=activation).to(torch.float64)
    fast = plain.to(torch.float64)
    optimizers = at_rest(plain, settings), at_rest(fast, settings)
    x, y = (t[:rows] for t in batches(2, 256)[0])
    with one_thread() as threads:
        first = dense(256, threads, torch.float64)
        step = CpuStep(fast, optimizers[1], 256, first_layers=[first], threads=threads)
        for _ in range(3):
            plain_step(plain, x.double(), y, optimizers[0], 0.1)
            fast_step(step, x.double(), y, 0.1)
    atol = 1e-13 if settings is MOVING else 1e-9  # Adam divides a gradient near zero by its own size
    torch.testing.assert_close(fast.state_dict(), plain.state_dict(), rtol=0, atol=atol)
    assert optimizers[1].steps == optimizers[0].steps == 3
    assert_kept_alike(optimizers[1], optimizers[0], atol=1e-13)


@pytest.mark.parametrize("settings", [{}, MOVING, ADAM, {"dropout": 0.5, "smoothing": 0.1}], ids=str)
def test_no_number_of_threads_changes_a_bit(settings: Settings) -> None:
    def trained(threads: int) -> dict[str, Tensor]:
        model = MLP(FEATURES, (200, 70), CLASSES)
        with one_thread():
            optimizer = at_rest(model, settings)
            objective = objective_of(settings)
            step = CpuStep(
                model, optimizer, 600, first_layers=[dense(600, threads)], threads=threads, objective=objective
            )
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
