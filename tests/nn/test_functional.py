"""The hand-written functions give torch's values and derivatives, for extreme input too."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from torch import Tensor
from torch.nn import functional as oracle

from streamtrain.nn.functional import (
    accuracy,
    cross_entropy_from_logits,
    cross_entropy_from_probs,
    cross_entropy_gradient,
    iterate_minibatches,
    logsumexp,
    one_hot,
    sigmoid,
    sigmoid_deriv,
    softmax,
)

DTYPES = (torch.float32, torch.float64)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def normal(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def assert_near(actual: Tensor, expected: Tensor, *, magnitude: float = 1) -> None:
    """Equal up to a few roundings of numbers of that magnitude."""
    tolerance = 8 * torch.finfo(expected.dtype).eps
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance * max(magnitude, 1))


@each_dtype
def test_the_sigmoid_is_its_formula_and_its_derivative_is_that_of_autograd(dtype: torch.dtype) -> None:
    z = torch.linspace(-30, 30, 241, dtype=dtype).requires_grad_()
    a = sigmoid(z)
    assert_near(a.detach(), torch.tensor([1 / (1 + math.exp(-v)) for v in z.tolist()], dtype=dtype))
    assert_near(sigmoid_deriv(a.detach()), torch.autograd.grad(a.sum(), z)[0])


@each_dtype
def test_the_sigmoid_of_extreme_input_is_zero_or_one_and_flat(dtype: torch.dtype) -> None:
    a = sigmoid(torch.tensor([-1e4, 0, 1e4], dtype=dtype))
    assert a.tolist() == [0, 0.5, 1]
    assert sigmoid_deriv(a).tolist() == [0, 0.25, 0]


@each_dtype
@pytest.mark.parametrize("dim", [0, 1, 2, -1])
@pytest.mark.parametrize("scale", [1, 1e4])
def test_softmax_and_logsumexp_are_those_of_torch_along_every_dimension(
    scale: float, dim: int, dtype: torch.dtype
) -> None:
    logits = scale * normal(4, 5, 6, dtype=dtype)
    assert_near(softmax(logits, dim), torch.softmax(logits, dim))
    assert_near(logsumexp(logits, dim), torch.logsumexp(logits, dim), magnitude=scale)


def test_softmax_and_logsumexp_run_along_the_classes_by_default() -> None:
    logits = normal(4, 5)
    assert torch.equal(softmax(logits), softmax(logits, 1))
    assert torch.equal(logsumexp(logits), logsumexp(logits, 1))


@each_dtype
@pytest.mark.parametrize("classes", [1, 2, 10])
@pytest.mark.parametrize("level", [0, 1e4, -1e4])
def test_softmax_of_equal_logits_is_uniform(level: float, classes: int, dtype: torch.dtype) -> None:
    logits = torch.full((3, classes), level, dtype=dtype)
    assert_near(softmax(logits), torch.full((3, classes), 1 / classes, dtype=dtype))
    expected = torch.full((3,), level + math.log(classes), dtype=dtype)
    assert_near(logsumexp(logits), expected, magnitude=abs(level))


@each_dtype
@pytest.mark.parametrize(
    ("logits", "label", "loss", "probs"),
    [
        ([1e4, -1e4], 0, 0, [1, 0]),
        ([1e4, -1e4], 1, 2e4, [1, 0]),
        ([-1e4, 0, 1e4], 1, 1e4, [0, 0, 1]),
        ([1e4] * 10, 3, math.log(10), [0.1] * 10),
        ([-1e4] * 10, 3, math.log(10), [0.1] * 10),
        ([1e4], 0, 0, [1]),
        ([-1e4], 0, 0, [1]),
    ],
)
def test_the_loss_and_its_gradient_are_right_at_extreme_logits(
    logits: list[float], label: int, loss: float, probs: list[float], dtype: torch.dtype
) -> None:
    scores, labels = torch.tensor([logits], dtype=dtype), torch.tensor([label])
    expected = torch.tensor([loss], dtype=dtype)
    losses, gradient = cross_entropy_gradient(scores, labels)
    assert_near(losses, expected)
    assert_near(cross_entropy_from_logits(scores, labels), expected[0])
    assert_near(cross_entropy_from_logits(scores, one_hot(labels, len(logits))), expected[0])
    assert_near(softmax(scores), torch.tensor([probs], dtype=dtype))
    assert_near(gradient, torch.tensor([[p - (k == label) for k, p in enumerate(probs)]], dtype=dtype))


@settings(deadline=None)
@given(
    rows=some.integers(1, 9),
    classes=some.integers(1, 12),
    scale=some.sampled_from([0.1, 1, 30, 1e4]),
    dtype=some.sampled_from(DTYPES),
    seed=some.integers(0, 999),
)
def test_cross_entropies_and_their_gradient_are_those_of_torch(
    rows: int, classes: int, scale: float, dtype: torch.dtype, seed: int
) -> None:
    logits = (scale * normal(rows, classes, dtype=dtype, seed=seed)).requires_grad_()
    labels = torch.randint(classes, (rows,), generator=torch.Generator().manual_seed(seed))
    soft = torch.softmax(normal(rows, classes, dtype=dtype, seed=seed + 1), 1)
    expected = oracle.cross_entropy(logits, labels, reduction="none")
    (expected_gradient,) = torch.autograd.grad(expected.mean(), logits)
    expected, logits = expected.detach(), logits.detach()
    given_logits = logits.clone()

    losses, gradient = cross_entropy_gradient(logits, labels)
    assert_near(losses, expected)
    assert_near(gradient, expected_gradient)
    for targets in (labels, oracle.one_hot(labels, classes), soft):
        mean = oracle.cross_entropy(logits, targets.to(dtype) if targets.ndim == 2 else targets)
        assert_near(cross_entropy_from_logits(logits, targets), mean)
    assert torch.equal(logits, given_logits)


@each_dtype
def test_cross_entropy_from_probabilities_is_that_of_their_logarithms(dtype: torch.dtype) -> None:
    probs = torch.softmax(normal(8, 5, dtype=dtype), 1)
    soft = torch.softmax(normal(8, 5, dtype=dtype, seed=1), 1)
    labels = torch.arange(8) % 5
    assert_near(cross_entropy_from_probs(probs, labels), oracle.nll_loss(probs.log(), labels))
    assert_near(cross_entropy_from_probs(probs, one_hot(labels, 5)), oracle.nll_loss(probs.log(), labels))
    assert_near(cross_entropy_from_probs(probs, soft), oracle.cross_entropy(probs.log(), soft))


@each_dtype
@pytest.mark.parametrize(("p", "loss"), [(0, 27.6310), (1e-13, 27.6310), (1e-11, 25.3284), (1, 0)])
def test_a_probability_is_clamped_at_one_in_a_million_million(p: float, loss: float, dtype: torch.dtype) -> None:
    probs, labels = torch.tensor([[1 - p, p], [0, 1]], dtype=dtype), torch.tensor([1, 1])
    for targets in (labels, one_hot(labels, 2)):
        assert float(cross_entropy_from_probs(probs[:1], targets[:1])) == pytest.approx(loss, abs=1e-4)
        assert float(cross_entropy_from_probs(probs, targets)) == pytest.approx(loss / 2, abs=1e-4)


def test_a_target_of_zero_costs_nothing_even_if_the_logit_is_minus_infinity() -> None:
    logits = torch.tensor([[-math.inf, 1.0, 1.0]])
    loss = cross_entropy_from_logits(logits, torch.tensor([[0.0, 0.5, 0.5]]))
    assert float(loss) == pytest.approx(math.log(2))


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8], ids=str)
@pytest.mark.parametrize("labels", [[3, 0, 0, 2, 4], [1], []])
def test_one_hot_rows_are_those_of_torch_as_float32(labels: list[int], dtype: torch.dtype) -> None:
    expected = oracle.one_hot(torch.tensor(labels, dtype=torch.int64), 5).float()
    actual = one_hot(torch.tensor(labels, dtype=dtype), 5)
    assert (actual.dtype, actual.shape) == (torch.float32, (len(labels), 5))
    assert torch.equal(actual, expected)


@pytest.mark.parametrize(
    ("labels", "message"), [([0, 3], r"0\.\.2, not 0\.\.3"), ([-1, 2], r"0\.\.2, not -1\.\.2")]
)
def test_one_hot_refuses_a_label_that_is_not_a_class(labels: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        one_hot(torch.tensor(labels), 3)


def test_accuracy_is_the_share_of_rows_whose_largest_score_is_the_labels() -> None:
    scores, labels = normal(200, 3), torch.arange(200) % 3
    expected = float((scores.argmax(1) == labels).double().mean())
    assert 0 < expected < 1
    assert accuracy(scores, labels) == accuracy(softmax(scores), labels) == expected
    assert accuracy(scores, scores.argmax(1)) == 1
    assert accuracy(scores, scores.argmin(1)) == 0
    assert math.isnan(accuracy(scores[:0], labels[:0]))


def table(rows: int) -> tuple[Tensor, Tensor]:
    """Return rows that contain their label: x (rows, 1, 2) is [[−y, y]]."""
    y = torch.arange(rows)
    return torch.stack([-y, y], 1).unsqueeze(1), y


def order(rows: int, batch_size: int, generator: torch.Generator | None = None) -> list[int]:
    return [
        int(label) for _, y in iterate_minibatches(*table(rows), batch_size, generator=generator) for label in y
    ]


@settings(deadline=None)
@given(
    rows=some.integers(0, 40), batch_size=some.integers(1, 45), shuffle=some.booleans(), seed=some.integers(0, 99)
)
def test_batches_hold_each_row_once_with_its_label_and_only_the_last_is_short(
    rows: int, batch_size: int, shuffle: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    batches = list(iterate_minibatches(*table(rows), batch_size, shuffle=shuffle, generator=generator))
    full, rest = divmod(rows, batch_size)
    assert [len(y) for _, y in batches] == [batch_size] * full + [rest] * (rest > 0)
    for x, y in batches:
        assert torch.equal(x, torch.stack([-y, y], 1).unsqueeze(1))
    labels = [int(label) for _, y in batches for label in y]
    assert (sorted(labels) if shuffle else labels) == list(range(rows))


@settings(deadline=None)
@given(
    rows=some.integers(25, 60),
    batch_size=some.integers(1, 70),
    seeds=some.lists(some.integers(0, 999), min_size=2, max_size=2, unique=True),
)
def test_the_seed_of_the_generator_and_nothing_else_sets_the_order(
    rows: int, batch_size: int, seeds: list[int]
) -> None:
    one, again, other = (torch.Generator().manual_seed(seed) for seed in (seeds[0], *seeds))
    first = order(rows, batch_size, one)
    assert first == order(rows, 1, again)
    assert first != order(rows, batch_size, other)
    assert first != order(rows, batch_size, one), "the next epoch of a generator has an order of its own"
    assert first != list(range(rows))


def test_the_order_is_by_default_that_of_seed_zero_in_batches_of_256() -> None:
    assert order(300, 256) == order(300, 256, torch.Generator().manual_seed(0)) != list(range(300))
    assert [len(y) for _, y in iterate_minibatches(*table(300))] == [256, 44]


@pytest.mark.parametrize(
    ("rows", "labels", "batch_size", "message"),
    [(4, 4, 0, "at least 1 row, not 0"), (4, 4, -1, "not -1"), (4, 3, 2, "x has 4 rows, y 3")],
)
def test_wrong_batches_are_refused_at_the_call(rows: int, labels: int, batch_size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        iterate_minibatches(torch.zeros(rows, 2), torch.zeros(labels), batch_size)


@pytest.mark.parametrize("measure", [accuracy, cross_entropy_from_logits, cross_entropy_from_probs])
def test_scores_and_targets_of_different_lengths_are_refused(measure: Callable[[Tensor, Tensor], object]) -> None:
    with pytest.raises(ValueError, match="3 rows of scores, 1 targets"):
        measure(torch.full((3, 2), 0.5), torch.tensor([0]))
