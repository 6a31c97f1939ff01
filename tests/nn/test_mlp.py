"""The network starts as stated, computes what torch.nn computes, and its gradients are those of autograd."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as oracle

from streamtrain.nn.functional import cross_entropy_from_logits, cross_entropy_gradient, softmax
from streamtrain.nn.mlp import MLP

FEATURES, CLASSES, ROWS = 7, 4, 9
each_depth = pytest.mark.parametrize("hidden", [(), (5,), (6, 5)], ids=["1 layer", "2 layers", "3 layers"])
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def draw(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(ROWS, FEATURES, dtype=dtype, generator=generator)
    return x, torch.randint(CLASSES, (ROWS,), generator=generator)


def biased(hidden: tuple[int, ...], dtype: torch.dtype = torch.float64) -> MLP:
    """A model whose biases count: fresh ones are zero."""
    model = MLP(FEATURES, hidden, CLASSES).to(dtype)
    generator = torch.Generator().manual_seed(2)
    for bias in model.biases:
        bias.normal_(generator=generator)
    return model


def twin(model: MLP) -> nn.Sequential:
    """The same network as torch modules."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise((model.features, *model.hidden, model.classes)):
        layers += [nn.Linear(fan_in, fan_out), nn.Sigmoid()]
    network = nn.Sequential(*layers[:-1]).to(model.weights[0].dtype)
    network.load_state_dict(model.state_dict(), strict=True)
    return network


@each_depth
@pytest.mark.parametrize(("options", "seed"), [({}, 0), ({"seed": 0}, 0), ({"seed": 7}, 7)])
def test_a_fresh_model_holds_the_draws_of_one_generator_transposed_and_zero_biases(
    options: dict[str, int], seed: int, hidden: tuple[int, ...]
) -> None:
    model = MLP(FEATURES, hidden, CLASSES, **options)
    generator = torch.Generator().manual_seed(seed)
    sizes = list(itertools.pairwise((FEATURES, *hidden, CLASSES)))
    assert len(model.weights) == len(model.biases) == len(sizes)
    for weight, bias, (fan_in, fan_out) in zip(model.weights, model.biases, sizes, strict=True):
        drawn = torch.randn(fan_in, fan_out, generator=generator) * math.sqrt(2 / (fan_in + fan_out))
        assert weight.dtype == torch.float32
        assert torch.equal(weight, drawn.T)
        assert torch.equal(bias, torch.zeros(fan_out))


def test_the_default_model_reads_784_pixels_through_100_units_into_10_classes() -> None:
    model = MLP()
    assert (model.features, model.hidden, model.classes) == (784, (100,), 10)
    assert [tuple(weight.shape) for weight in model.weights] == [(100, 784), (10, 100)]


@pytest.mark.parametrize(
    "sizes", [{"features": 0}, {"hidden": (5, 0)}, {"hidden": (-3,)}, {"classes": 0}], ids=str
)
def test_a_layer_without_units_is_refused(sizes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="at least one unit"):
        MLP(**sizes)


@each_depth
@each_dtype
def test_forward_gives_the_logits_of_torch_and_the_input_of_each_layer(
    dtype: torch.dtype, hidden: tuple[int, ...]
) -> None:
    model, (x, _) = biased(hidden, dtype), draw(dtype)
    untouched = x.clone()
    network = twin(model)
    logits, inputs = model.forward(x)
    tolerance = 32 * torch.finfo(dtype).eps
    with torch.no_grad():
        torch.testing.assert_close(logits, network(x), rtol=tolerance, atol=tolerance)
        assert len(inputs) == len(hidden) + 1
        for layer, a in enumerate(inputs):
            torch.testing.assert_close(a, network[: 2 * layer](x), rtol=tolerance, atol=tolerance)
    assert torch.equal(x, untouched)


@each_depth
def test_backward_gives_the_gradients_of_autograd(hidden: tuple[int, ...]) -> None:
    model, (x, labels) = biased(hidden), draw()
    network = twin(model)
    logits, inputs = model.forward(x)
    expected = torch.autograd.grad(oracle.cross_entropy(network(x), labels), list(network.parameters()))
    gradients = model.backward(inputs, cross_entropy_gradient(logits, labels)[1])
    actual = list(itertools.chain(*gradients))
    torch.testing.assert_close(actual, list(expected), rtol=0, atol=1e-10)


@each_depth
def test_the_gradient_is_the_slope_of_the_loss_along_a_random_direction(hidden: tuple[int, ...]) -> None:
    model, (x, labels) = biased(hidden), draw()
    logits, inputs = model.forward(x)
    gradients = itertools.chain(*model.backward(inputs, cross_entropy_gradient(logits, labels)[1]))
    generator = torch.Generator().manual_seed(3)
    parameters = model.state_dict()
    direction = {k: torch.randn(p.shape, dtype=p.dtype, generator=generator) for k, p in parameters.items()}

    def loss(step: float) -> float:
        moved = MLP.from_state_dict(
            {name: p + step * direction[name] for name, p in parameters.items()}, activation="sigmoid"
        )
        return float(cross_entropy_from_logits(moved.forward(x)[0], labels))

    h = 1e-5
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, direction.values(), strict=True))
    assert abs(slope) > 1e-2, "a direction along which nothing changes shows nothing"
    assert (loss(h) - loss(-h)) / (2 * h) == pytest.approx(slope, rel=1e-6)


@each_depth
@pytest.mark.parametrize("rows", [1, ROWS])
def test_gradients_have_the_shapes_of_the_parameters_and_nothing_given_is_changed(
    rows: int, hidden: tuple[int, ...]
) -> None:
    model, (x, labels) = biased(hidden), draw()
    logits, inputs = model.forward(x[:rows])
    dlogits = cross_entropy_gradient(logits, labels[:rows])[1]
    given = [dlogits, *inputs, *model.weights, *model.biases]
    copies = [t.clone() for t in given]
    gradients = model.backward(inputs, dlogits)
    shapes = [(dweight.shape, dbias.shape) for dweight, dbias in gradients]
    assert shapes == [(w.shape, b.shape) for w, b in zip(model.weights, model.biases, strict=True)]
    assert all(torch.equal(t, copy) for t, copy in zip(given, copies, strict=True))


@pytest.mark.parametrize("inked", [1.0, 0.19], ids=["uniform pixels", "mostly blank pixels"])
def test_a_fresh_model_spreads_its_probabilities_and_starts_near_a_loss_of_2_4(inked: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(256, 784, generator=generator) * (torch.rand(256, 784, generator=generator) < inked)
    labels = torch.randint(10, (256,), generator=generator)
    logits, _ = MLP(784, (100,), 10, seed=0).forward(x)
    assert torch.allclose(softmax(logits).sum(1), torch.ones(256), rtol=0, atol=1e-6)
    # A guess of 1/10 for each class costs log 10 = 2.303; the spread of the logits adds about half its variance.
    assert 2.2 < float(cross_entropy_from_logits(logits, labels)) < 2.8


@each_depth
@each_dtype
def test_a_model_comes_back_from_its_tensors(dtype: torch.dtype, hidden: tuple[int, ...]) -> None:
    model = biased(hidden, dtype)
    state = model.state_dict()
    assert list(state) == [f"{2 * i}.{kind}" for i in range(len(hidden) + 1) for kind in ("weight", "bias")]
    # From torch's own dictionary, and whatever the order of its entries.
    again = MLP.from_state_dict(dict(reversed(twin(model).state_dict().items())), activation="sigmoid")
    assert (again.features, again.hidden, again.classes) == (FEATURES, hidden, CLASSES)
    assert list(again.state_dict()) == list(state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in again.state_dict().items())


NOT_A_MODEL: dict[str, tuple[dict[str, Tensor | None], str]] = {
    "a bias is missing": ({"2.bias": None}, "not an MLP: 0.bias, 0.weight, 2.weight"),
    "the first layer is missing": ({"0.weight": None, "0.bias": None}, "not an MLP"),
    "a name too many": ({"4.scale": torch.zeros(1)}, "not an MLP"),
    "layers that do not chain": ({"2.weight": torch.zeros(4, 6)}, r"shape \(4, 6\) and \(4,\) does not fit"),
    "a bias of another length": ({"0.bias": torch.zeros(4)}, r"\(5, 7\) and \(4,\) does not fit"),
    "a flat weight": ({"2.weight": torch.zeros(4)}, "does not fit"),
    "integers": ({"2.weight": torch.zeros(4, 5).long(), "2.bias": torch.zeros(4).long()}, "does not fit"),
    "a bias of another type": ({"2.bias": torch.zeros(4).double()}, "does not fit"),
}


@pytest.mark.parametrize(("changes", "message"), NOT_A_MODEL.values(), ids=NOT_A_MODEL)
def test_tensors_that_are_not_a_model_are_refused(changes: dict[str, Tensor | None], message: str) -> None:
    state = MLP(FEATURES, (5,), CLASSES).state_dict() | changes
    with pytest.raises(ValueError, match=message):
        MLP.from_state_dict(
            {name: tensor for name, tensor in state.items() if tensor is not None}, activation="sigmoid"
        )


def test_an_empty_dictionary_is_not_a_model() -> None:
    with pytest.raises(ValueError, match="not an MLP"):
        MLP.from_state_dict({}, activation="sigmoid")


@each_dtype
def test_a_cast_model_is_a_copy_even_if_the_type_stays(dtype: torch.dtype) -> None:
    model = biased((5,), torch.float32)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    cast = model.to(dtype)
    for name, tensor in cast.state_dict().items():
        assert tensor.dtype == dtype
        assert torch.equal(tensor, before[name].to(dtype))
        tensor.add_(1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
