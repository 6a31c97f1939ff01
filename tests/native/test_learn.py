"""The passes of a whole net in C compute what the references say, the same bits with every instruction set."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from streamtrain.native import learn


class Case(NamedTuple):
    """What a pass is given, without its `room`, and labels."""

    pixels: np.ndarray
    order: np.ndarray
    sizes: np.ndarray
    activation: int
    skips_zeros: int
    low: float
    span: float
    parameters: np.ndarray
    labels: np.ndarray

    @property
    def net(self) -> tuple[object, ...]:
        """Return the arguments from `sizes` to `parameters`."""
        return self[2:8]


def case(
    sizes: list[int], rows: int, *, activation: int = learn.SIGMOID, kind: str = "sparse", seed: int = 0
) -> Case:
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (rows + 7, sizes[0]))
    low, span, dtype = 0.0, 255.0, np.uint8
    if kind == "sparse":
        pixels[random.random(pixels.shape) > 0.2] = 0
    elif kind == "uint16":
        low, span, dtype = 3.0, 1000.0, np.uint16
    elif kind == "float":
        low, span, dtype = -2.0, 300.0, np.float32
    parameters = np.zeros(learn.count_parameters(sizes), np.float32)
    for weight, bias in learn.layers_of(parameters, sizes):
        weight[:] = random.standard_normal(weight.shape) / np.sqrt(len(weight))
        bias[:] = random.standard_normal(bias.shape) / 4
    order = random.permutation(len(pixels))[:rows]
    return Case(
        (pixels + (0.25 if kind == "float" else 0)).astype(dtype),
        order,
        np.array(sizes),
        activation,
        int(kind == "sparse"),
        low,
        span,
        parameters,
        random.integers(0, sizes[-1], rows),
    )


def room_for(of: Case, rows: int) -> np.ndarray:
    return np.full(learn.room(of.sizes, of.skips_zeros, rows), np.nan, np.float32)


def logits_of(of: Case, order: np.ndarray) -> np.ndarray:
    found = np.full((len(order), learn.padded(int(of.sizes[-1]))), np.nan, np.float32)
    learn.logits(of.pixels, order, *of.net, room_for(of, min(len(order), learn.LOGIT_ROWS)), found)
    return found


def gradient_of(of: Case, part: slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
    gradient, totals = np.full_like(of.parameters, np.nan), np.zeros(2)
    order = of.order[part]
    room = room_for(of, len(order))
    learn.gradient(of.pixels, order, *of.net, room, gradient, of.labels[part], totals)
    return gradient, totals


KINDS = ["sparse", "bytes", "uint16", "float"]
sizes_of_nets = some.lists(some.integers(1, 70), min_size=2, max_size=5).map(lambda n: [4 * n[0], *n[1:]])


@settings(max_examples=80, deadline=None)
@given(sizes_of_nets, some.integers(1, 90), some.integers(0, 2), some.sampled_from(KINDS), some.integers(0, 9999))
def test_every_instruction_set_computes_the_passes_of_the_reference(
    on_each_isa: Callable[[], Iterator[str]], sizes: list[int], rows: int, activation: int, kind: str, seed: int
) -> None:
    of = case(sizes, rows, activation=activation, kind=kind, seed=seed)
    expected = np.empty((rows, learn.padded(sizes[-1])), np.float32)
    by_gradient, totals = np.empty_like(of.parameters), np.zeros(2)
    learn.logits_reference(of.pixels, of.order, *of.net, np.empty(0), expected)
    learn.gradient_reference(of.pixels, of.order, *of.net, np.empty(0), by_gradient, of.labels, totals)
    bits = set()
    for _ in on_each_isa():
        logits = logits_of(of, of.order)
        gradient, found = gradient_of(of)
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
        if (
            activation != learn.RELU
        ):  # whose derivative jumps where a sum that is rounded otherwise changes its sign
            np.testing.assert_allclose(gradient, by_gradient, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(found[0], totals[0], rtol=1e-5)
        bits.add(logits.tobytes() + gradient.tobytes() + found.tobytes())
    assert len(bits) == 1


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_every_instruction_set_moves_as_the_reference(
    on_each_isa: Callable[[], Iterator[str]], momentum: float
) -> None:
    random = np.random.default_rng(1)
    p, v, g = (random.standard_normal(4096).astype(np.float32) for _ in range(3))
    v = v if momentum else v[:0]
    moved, moving = p.copy(), v.copy()
    learn.move_reference(moved, moving, g, 1 / 200, 0.3, momentum, 0.01)
    assert np.abs(moved - p).max() > 1e-3
    bits = set()
    for _ in on_each_isa():
        found, speed = p.copy(), v.copy()
        learn.move(found, speed, g, 1 / 200, 0.3, momentum, 0.01)
        np.testing.assert_allclose(found, moved, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(speed, moving, rtol=1e-5, atol=1e-6)
        bits.add(found.tobytes() + speed.tobytes())
    assert len(bits) == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", [learn.SIGMOID, learn.TANH])
def test_a_gradient_is_that_of_the_loss_in_a_random_direction(kind: str, activation: int) -> None:
    of = case([20, 9, 6, 4], 30, activation=activation, kind=kind)
    direction = np.zeros_like(of.parameters)
    for weight, bias in learn.layers_of(direction, of.sizes.tolist()):
        weight[:], bias[:] = np.random.default_rng(2).standard_normal(weight.shape), 0.5
    gradient, _ = gradient_of(of)
    step, losses = 2e-3, []
    for sign in (-1, 1):
        _, totals = gradient_of(of._replace(parameters=of.parameters + np.float32(sign * step) * direction))
        losses.append(totals[0])
    slope = float(gradient.astype(np.float64) @ direction)
    assert abs(slope) > 0.05
    assert (losses[1] - losses[0]) / (2 * step) == pytest.approx(slope, rel=1e-2, abs=5e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_has_the_same_logits_to_the_bit_wherever_it_is_computed(kind: str) -> None:
    of = case([150, 33, 10], 600, kind=kind)
    together = logits_of(of, of.order)
    for row in (0, 1, 255, 256, 599):
        assert np.array_equal(logits_of(of, of.order[row : row + 1])[0], together[row])
    assert not together[:, 10:].any()


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_parts_of_a_batch_add_up_and_their_padding_is_zero(kind: str) -> None:
    of = case([150, 33, 10], 250, kind=kind)
    whole, totals = gradient_of(of)
    parts = [gradient_of(of, slice(at, at + 64)) for at in range(0, 250, 64)]
    np.testing.assert_allclose(sum(gradient for gradient, _ in parts), whole, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(sum(found for _, found in parts), totals, rtol=1e-12)
    inside = np.zeros_like(whole)
    for weight, bias in learn.layers_of(inside, of.sizes.tolist()):
        weight[:], bias[:] = 1, 1
    assert not whole[inside == 0].any()
    assert whole[inside == 1].any()


@pytest.mark.parametrize(
    "changes",
    [
        {"order": np.array([0, 17])},
        {"order": np.array([-1, 0])},
        {"labels": np.array([0, 5])},
        {"labels": np.array([0])},
        {"sizes": np.array([12, 7, 6])},
        {"sizes": np.array([12, 7, 0])},
        {"sizes": np.array([12])},
        {"parameters": np.zeros(16, np.float32)},
        {"activation": 3},
        {"low": 1.0},
        {"pixels": np.zeros((9, 12), np.float32)},
        {"pixels": np.zeros((9, 13), np.uint8)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_arrays_that_do_not_fit_are_refused_and_not_read_beyond(changes: dict[str, object]) -> None:
    of = case([12, 7, 5], 2)
    gradient_of(of)
    room, gradient = room_for(of, 2), np.empty_like(of.parameters)
    wrong = of._replace(**changes)
    with pytest.raises(ValueError, match="do not fit each other"):
        learn.gradient(wrong.pixels, wrong.order, *wrong.net, room, gradient, wrong.labels, np.zeros(2))
    with pytest.raises(ValueError, match="do not fit each other"):
        learn.gradient(of.pixels, of.order, *of.net, room[:-1], gradient, of.labels, np.zeros(2))
