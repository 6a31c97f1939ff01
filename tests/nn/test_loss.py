"""Smoothed labels and class weights give the loss of torch, and the gradient of autograd and along a direction."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from torch import Tensor

from streamtrain.nn.functional import cross_entropy_from_logits, cross_entropy_gradient
from streamtrain.nn.loss import CrossEntropy, balanced_weights
from streamtrain.nn.mlp import MLP


def drawn(rows: int, classes: int, seed: int) -> tuple[Tensor, Tensor, tuple[float, ...]]:
    """Logits, labels and class weights."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    weights = tuple((torch.rand(classes, generator=generator) + 0.1).double().tolist())
    return logits, torch.randint(classes, (rows,), generator=generator), weights


@given(
    rows=some.integers(1, 9),
    classes=some.integers(2, 12),
    smoothing=some.sampled_from([0.0, 0.1, 0.9]),
    weighted=some.booleans(),
    seed=some.integers(0, 999),
)
def test_the_losses_and_their_gradient_are_those_of_torch(
    rows: int, classes: int, smoothing: float, weighted: bool, seed: int
) -> None:
    logits, labels, weights = drawn(rows, classes, seed)
    loss = CrossEntropy(smoothing, weights if weighted else ())
    weight = torch.tensor(weights, dtype=torch.float64) if weighted else None
    theirs = torch.nn.CrossEntropyLoss(weight, reduction="none", label_smoothing=smoothing)
    logits.requires_grad_()
    expected = theirs(logits, labels)
    losses = loss.losses(logits.detach(), labels)
    torch.testing.assert_close(losses, expected.detach(), rtol=1e-12, atol=1e-12)
    [gradient] = torch.autograd.grad(expected.mean(), logits)
    _, dlogits = cross_entropy_gradient(logits.detach(), labels)
    ours = loss.correct_(dlogits, labels, scale=1 / rows)
    assert ours is dlogits
    torch.testing.assert_close(ours, gradient, rtol=1e-10, atol=1e-12)


def test_equal_weights_and_no_smoothing_are_the_plain_cross_entropy() -> None:
    logits, labels, _ = drawn(5, 4, 1)
    plain = cross_entropy_from_logits(logits, labels)
    assert CrossEntropy().is_plain
    for loss in (CrossEntropy(), CrossEntropy(weights=(1.0,) * 4)):
        torch.testing.assert_close(loss.losses(logits, labels).mean(), plain)
    assert not CrossEntropy(weights=(1.0,) * 4).is_plain


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_gradient_of_a_net_agrees_with_the_loss_along_a_direction(smoothing: float) -> None:
    model, generator = MLP(7, (6,), 4).to(torch.float64), torch.Generator().manual_seed(3)
    x = torch.rand(9, 7, dtype=torch.float64, generator=generator)
    y, loss = torch.arange(9) % 4, CrossEntropy(smoothing, (1.0, 2.0, 0.5, 1.5))

    def value(step: float) -> float:
        moved = MLP.from_state_dict(
            model.state_dict() | {"0.weight": model.weights[0] + step * direction}, activation="sigmoid"
        )
        return float(loss.losses(moved(x), y).mean())

    logits, inputs = model.forward(x)
    dlogits = loss.correct_(cross_entropy_gradient(logits, y)[1], y, scale=1 / 9)
    direction = torch.randn(6, 7, dtype=torch.float64, generator=generator)
    slope = float((model.backward(inputs, dlogits)[0][0] * direction).sum())
    assert (value(1e-6) - value(-1e-6)) / 2e-6 == pytest.approx(slope, rel=1e-6)


def test_balanced_weights_make_every_class_count_the_same() -> None:
    counts = [5, 0, 15, 40]
    weights = balanced_weights(counts)
    assert weights[1] == 1
    assert {round(weight * count, 9) for weight, count in zip(weights, counts, strict=True) if count} == {20.0}
