"""A dropped unit takes no part in a step, the others make up for it, and the gradient says so."""

import pytest
import torch

from streamtrain.nn.activations import ACTIVATIONS
from streamtrain.nn.dropout import draw_mask
from streamtrain.nn.functional import cross_entropy_from_logits, cross_entropy_gradient
from streamtrain.nn.mlp import MLP


def mask(rate: float, *key: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return draw_mask(torch.empty(300, 200, dtype=dtype), rate, *key)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.999, 1 / 3])
def test_a_mask_has_its_share_of_zeros_and_a_mean_of_one(rate: float) -> None:
    drawn = mask(rate, 4, 7)
    zeros = float((drawn == 0).float().mean())
    assert zeros == pytest.approx(rate, abs=0.01)
    [value] = drawn[drawn > 0].unique().tolist()
    assert value == pytest.approx(1 / (1 - round(rate * 65536) / 65536), rel=1e-6)
    assert float(drawn.mean()) == pytest.approx(1, abs=0.2 if rate > 0.9 else 0.02)


def test_a_mask_follows_from_its_key_alone() -> None:
    assert torch.equal(mask(0.5, 1, 2), mask(0.5, 1, 2))
    assert torch.equal(mask(0.5, 1, 2).double(), mask(0.5, 1, 2, dtype=torch.float64))
    others = [mask(0.5, *key) for key in ((1, 2), (1, 3), (2, 2), (1, 2, 0))]
    for number, each in enumerate(others):
        for other in others[:number]:
            assert 0.49 < float((each == other).float().mean()) < 0.51


def test_the_masks_of_a_key_stay_what_they_are() -> None:
    first = draw_mask(torch.empty(2, 8), 0.5, 0, 0, 0)
    assert first.tolist() == [[0, 2, 2, 2, 2, 0, 0, 2], [2, 0, 0, 2, 0, 2, 2, 0]]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_gradients_with_masks_are_those_of_autograd(activation: str) -> None:
    generator = torch.Generator().manual_seed(2)
    model = MLP(9, (30, 20), 5, activation=activation).to(torch.float64)
    x, y = torch.randn(16, 9, dtype=torch.float64, generator=generator), torch.arange(16) % 5
    empty = [torch.empty(16, units, dtype=torch.float64) for units in (30, 20)]
    masks = [draw_mask(each, 0.4, layer) for layer, each in enumerate(empty)]
    logits, inputs = model.forward(x, masks)
    gradients = model.backward(inputs, cross_entropy_gradient(logits, y)[1], masks)

    leaves = [t.clone().requires_grad_() for t in model.state_dict().values()]
    a, function = x, {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu}[activation]
    for layer in range(3):
        a = a @ leaves[2 * layer].T + leaves[2 * layer + 1]
        a = function(a) * masks[layer] if layer < 2 else a
    torch.testing.assert_close(logits, a.detach(), rtol=0, atol=1e-12)
    expected = torch.autograd.grad(cross_entropy_from_logits(a, y), leaves)
    torch.testing.assert_close([g for pair in gradients for g in pair], list(expected), rtol=0, atol=1e-12)
