"""The fast step computes what the plain one says, the same to the bit on any number of threads."""

import copy
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from streamtrain.learn.functional import cross_entropy_gradient
from streamtrain.learn.mlp import ACTIVATIONS, MLP, Gradients
from streamtrain.learn.sgd import SGD, rest, sgd_step
from streamtrain.learn.step import SLICES, Step, add_product
from streamtrain.learn.team import at_most

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


def plainly(model: MLP, x: Tensor, y: Tensor, sgd: SGD, velocity: Gradients) -> tuple[float, int]:
    logits, inputs = model.forward(x)
    losses, dlogits = cross_entropy_gradient(logits, y)
    sgd_step(model, model.backward(inputs, dlogits), **sgd._asdict(), velocity=velocity)
    return float(losses.double().sum()), int((logits.argmax(1) == y).sum())


@pytest.mark.parametrize(
    ("hidden", "activation", "sgd"),
    [
        ((), "sigmoid", SGD(0.05)),
        ((100,), "sigmoid", SGD(0.05)),
        ((70, 130), "tanh", SGD(0.05, momentum=0.9, weight_decay=1e-3)),
        ((65,), "relu", SGD(0.05, weight_decay=1e-2)),
        ((3,), "sigmoid", SGD(0.05, momentum=0.5)),
    ],
    ids=str,
)
def test_500_steps_stay_with_the_plain_ones(hidden: tuple[int, ...], activation: str, sgd: SGD) -> None:
    plain = MLP(FEATURES, hidden, CLASSES, seed=3, activation=activation)
    fast = copy.deepcopy(plain)
    velocities = rest(plain), rest(fast)
    before = [weight.clone() for weight in fast.weights]
    right = [0, 0]
    step = Step(fast, 200, sgd, velocities[1])
    for x, y in batches(500, 200):
        loss, correct = step.score(x, y)
        step.learn()
        expected, expected_correct = plainly(plain, x, y, sgd, velocities[0])
        assert loss == pytest.approx(expected, rel=1e-4)
        right[0], right[1] = right[0] + correct, right[1] + expected_correct
    for name, tensor in fast.state_dict().items():
        assert torch.allclose(tensor, plain.state_dict()[name], rtol=0, atol=1e-5), name
    assert all(float((w - old).abs().max()) > 0.05 for w, old in zip(fast.weights, before, strict=True))
    assert right[0] == pytest.approx(right[1], abs=3)
    assert right[0] > 30_000


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("rows", [1, 7, 129, 256])
def test_one_step_in_float64_is_the_plain_one(activation: str, rows: int) -> None:
    plain = MLP(FEATURES, (66, 9), CLASSES, activation=activation).to(torch.float64)
    fast, sgd = plain.to(torch.float64), SGD(0.1, momentum=0.9, weight_decay=0.01)
    x, y = (t[:rows] for t in batches(2, 256)[0])
    velocities = rest(plain), rest(fast)
    step = Step(fast, 256, sgd, velocities[1])
    for _ in range(3):
        plainly(plain, x.double(), y, sgd, velocities[0])
        step.score(x.double(), y)
        step.learn()
    torch.testing.assert_close(fast.state_dict(), plain.state_dict(), rtol=0, atol=1e-13)
    torch.testing.assert_close(velocities[1], velocities[0], rtol=0, atol=1e-13)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("sgd", [SGD(0.05), SGD(0.05, momentum=0.9, weight_decay=1e-3)], ids=str)
@pytest.mark.parametrize(
    ("hidden", "rows"), [((200, 70), 600), ((100,), 256), ((101, 33), 250), ((784,), 1000)], ids=str
)
def test_no_number_of_threads_changes_a_bit(
    hidden: tuple[int, ...], rows: int, sgd: SGD, threads: Callable[[int], None]
) -> None:
    def trained(number: int) -> tuple[list[float], dict[str, Tensor]]:
        threads(number)
        model = MLP(FEATURES, hidden, CLASSES)
        step, losses = Step(model, rows, sgd, rest(model)), []
        with at_most(SLICES):
            for x, y in batches(12, rows):
                losses.append(step.score(x, y)[0])
                step.learn()
        return losses, model.state_dict()

    losses, alone = trained(1)
    for number in (2, 3, 4, 16):
        again, state = trained(number)
        assert again == losses, number
        for name, tensor in state.items():
            assert torch.equal(tensor, alone[name]), (number, name)


@pytest.mark.parametrize(("n", "k", "m"), [(256, 784, 100), (100, 256, 784), (10, 256, 100), (7, 5, 3), (6, 9, 1)])
def test_a_product_is_that_of_torch_and_the_same_on_any_number_of_threads(
    n: int, k: int, m: int, threads: Callable[[int], None]
) -> None:
    generator = torch.Generator().manual_seed(1)
    out, a, b = (torch.randn(*shape, generator=generator) for shape in ((n, m), (k, n), (k, m)))
    expected = (0.5 * out.double() - 2 * (a.T.double() @ b.double())).float()
    got = []
    for number in range(1, SLICES + 1):
        threads(number)
        got.append(out.clone())
        add_product(got[-1], a.T, b, beta=0.5, alpha=-2)
    torch.testing.assert_close(got[0], expected, rtol=1e-5, atol=1e-4)
    assert all(torch.equal(other, got[0]) for other in got)


def test_scoring_leaves_the_weights_alone_and_a_loss_beyond_float_is_told() -> None:
    model = MLP(FEATURES, (8,), CLASSES)
    model.weights[1].mul_(1e38)
    before = copy.deepcopy(model.state_dict())
    x, y = batches(2, 50)[0]
    loss, _ = Step(model, 50, SGD(1.0), rest(model)).score(x, y)
    assert not torch.tensor(loss).isfinite()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
