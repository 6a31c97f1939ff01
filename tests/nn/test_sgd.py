"""A step is that of torch.optim.SGD, happens in place and goes downhill."""

import copy

import pytest
import torch

from streamtrain.nn.functional import cross_entropy_from_logits, cross_entropy_gradient
from streamtrain.nn.mlp import MLP, Gradients
from streamtrain.nn.sgd import sgd_step

each_depth = pytest.mark.parametrize("hidden", [(), (6,), (6, 5)], ids=["1 layer", "2 layers", "3 layers"])


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(20, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1)), torch.arange(
        20
    ) % 3


def loss_and_gradients(model: MLP) -> tuple[float, Gradients]:
    x, labels = batch()
    logits, inputs = model.forward(x)
    gradients = model.backward(inputs, cross_entropy_gradient(logits, labels)[1])
    return float(cross_entropy_from_logits(logits, labels)), gradients


@each_depth
@pytest.mark.parametrize("lr", [0.05, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_step_is_that_of_torchs_optimizer_and_leaves_the_gradients(
    dtype: torch.dtype, lr: float, hidden: tuple[int, ...]
) -> None:
    _, gradients = loss_and_gradients(MLP(8, hidden, 3).to(torch.float64))
    gradients = [(dweight.to(dtype), dbias.to(dtype)) for dweight, dbias in gradients]
    given = copy.deepcopy(gradients)
    model = MLP(8, hidden, 3).to(dtype)
    expected = [p.clone().requires_grad_() for p in model.state_dict().values()]
    for p, gradient in zip(expected, (g for layer in given for g in layer), strict=True):
        p.grad = gradient.clone()
    torch.optim.SGD(expected, lr=lr).step()
    sgd_step(model, gradients, lr=lr)
    moved = list(model.state_dict().values())
    torch.testing.assert_close(moved, [p.detach() for p in expected], rtol=0, atol=1e-7)
    torch.testing.assert_close(gradients, given, rtol=0, atol=0)


@each_depth
def test_a_step_writes_into_the_tensors_of_the_model(hidden: tuple[int, ...]) -> None:
    model = MLP(8, hidden, 3).to(torch.float64)
    tensors = model.state_dict()
    storage = {name: tensor.data_ptr() for name, tensor in tensors.items()}
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    sgd_step(model, loss_and_gradients(model)[1], lr=0.05)
    for name, tensor in model.state_dict().items():
        assert tensor is tensors[name]
        assert tensor.data_ptr() == storage[name]
        assert not torch.equal(tensor, before[name]), name


@each_depth
def test_a_small_step_lowers_the_loss_by_what_the_gradient_says_and_its_opposite_raises_it(
    hidden: tuple[int, ...],
) -> None:
    model = MLP(8, hidden, 3).to(torch.float64)
    loss, gradients = loss_and_gradients(model)
    slope = sum(float(g.square().sum()) for layer in gradients for g in layer)
    lr = 1e-4
    down, up = (model.to(torch.float64) for _ in range(2))
    sgd_step(down, gradients, lr=lr)
    sgd_step(up, [(-dweight, -dbias) for dweight, dbias in gradients], lr=lr)
    assert loss_and_gradients(down)[0] - loss == pytest.approx(-lr * slope, rel=1e-2)
    assert loss_and_gradients(up)[0] - loss == pytest.approx(lr * slope, rel=1e-2)
