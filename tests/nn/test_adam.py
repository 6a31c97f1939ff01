"""A step of Adam is that of torch.optim.AdamW, and what it keeps is what torch keeps."""

import copy

import pytest
import torch

from streamtrain.nn.adam import Adam
from streamtrain.nn.functional import cross_entropy_gradient
from streamtrain.nn.mlp import MLP
from streamtrain.nn.optimizer import optimizer_for
from streamtrain.nn.sgd import SGD, zeros_like


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-6), (torch.float64, 1e-13)], ids=str)
def test_40_steps_are_those_of_torchs_adamw(weight_decay: float, dtype: torch.dtype, atol: float) -> None:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(20, 8, dtype=torch.float64, generator=generator).to(dtype), torch.arange(20) % 3
    model = MLP(8, (6,), 3).to(dtype)
    optimizer = Adam.at_rest(model, weight_decay=weight_decay)
    theirs = {name: p.clone().requires_grad_() for name, p in model.state_dict().items()}
    expected = torch.optim.AdamW(theirs.values(), lr=0.01, weight_decay=weight_decay)
    for number in range(40):
        lr = 0.01 / (1 + number)
        logits, inputs = model.forward(x)
        gradients = model.backward(inputs, cross_entropy_gradient(logits, y)[1])
        given = copy.deepcopy(gradients)
        for p, gradient in zip(theirs.values(), (g for pair in gradients for g in pair), strict=True):
            p.grad = gradient.clone()
        expected.param_groups[0]["lr"] = lr
        expected.step()
        optimizer.step(model, gradients, lr=lr)
        torch.testing.assert_close(gradients, given, rtol=0, atol=0)
    torch.testing.assert_close(
        model.state_dict(), {name: p.detach() for name, p in theirs.items()}, rtol=0, atol=atol
    )
    for key, kept in (("exp_avg", optimizer.first), ("exp_avg_sq", optimizer.second)):
        of_torch = [expected.state[p][key] for p in theirs.values()]
        torch.testing.assert_close([t for pair in kept for t in pair], of_torch, rtol=0, atol=atol)
    assert optimizer.steps == 40


def test_a_negative_decay_and_what_another_optimizer_kept_are_refused() -> None:
    with pytest.raises(ValueError, match="weight_decay is not negative"):
        Adam(-1.0)
    model = MLP(8, (6,), 3)
    kept = {"velocity": zeros_like(model)}
    with pytest.raises(ValueError, match="adam keeps first_moment, second_moment, not velocity"):
        optimizer_for(model, "adam", momentum=0, weight_decay=0, buffers=kept)
    with pytest.raises(ValueError, match="sgd keeps velocity, not nothing"):
        optimizer_for(model, "sgd", momentum=0.9, weight_decay=0, buffers={})
    assert optimizer_for(model, "sgd", momentum=0.9, weight_decay=0, buffers=kept, steps=3).steps == 3
    assert isinstance(optimizer_for(model, "sgd", momentum=0, weight_decay=0, buffers={}), SGD)
