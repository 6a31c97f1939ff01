"""What a row gets depends on seed, epoch and place alone, and is a deformation of the size that was asked for."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

import streamtrain as st
from streamtrain.block import Array
from streamtrain.errors import UsageError
from streamtrain.schema import Schema
from streamtrain.stream.augment import Augmentation, draws_for, sine_and_cosine
from streamtrain.stream.order import Cursor

SCHEMA = Schema((28, 28), "uint8", (0, 255), tuple("0123456789"))
ALL = {"shift": 2.0, "rotate": 15.0, "scale": 0.1, "shear": 0.1, "elastic": 3.0}


def images(rows: int) -> Array:
    """A bright square of 10 pixels a side in the middle of each image."""
    made = np.zeros((rows, 28, 28), np.uint8)
    made[:, 9:19, 9:19] = 200
    return made.reshape(rows, -1)


def middles(pixels: Array) -> Array:
    """The centre of gravity of each image, (rows, 2) of x and y."""
    weight = pixels.reshape(-1, 28, 28).astype(float)
    weight /= weight.sum(axis=(1, 2), keepdims=True)
    place = np.arange(28)
    return np.stack([(weight.sum(axis=1) * place).sum(axis=1), (weight.sum(axis=2) * place).sum(axis=1)], axis=1)


def test_a_row_gets_the_same_in_any_batch_and_another_in_another_epoch_place_or_seed() -> None:
    rows = images(40)
    whole = Augmentation(SCHEMA, ALL, seed=3)(rows, Cursor(2, 100)).copy()
    parts = Augmentation(SCHEMA, ALL, seed=3)
    for at in range(0, 40, 7):
        assert (parts(rows[at : at + 7], Cursor(2, 100 + at)) == whole[at : at + 7]).all()
    assert (rows == images(40)).all()
    for seed, at in ((4, Cursor(2, 100)), (3, Cursor(3, 100)), (3, Cursor(2, 101))):
        other = Augmentation(SCHEMA, ALL, seed=seed)(rows, at)
        assert (other != whole).any(axis=1).all()
    assert len(np.unique(whole, axis=0)) == 40


def test_the_draws_are_spread_evenly_and_are_independent() -> None:
    draws = draws_for(2**64 - 1, Cursor(1, 0), 4000) / 32768
    assert np.abs(draws.mean(axis=0)).max() < 0.04
    assert np.abs(draws.std(axis=0) - 1 / math.sqrt(3)).max() < 0.03
    assert np.abs(np.corrcoef(draws[:, :30].T) - np.eye(30)).max() < 0.08
    assert draws_for(0, Cursor(1, 0), 1)[0, :4].tolist() == [-855, -25423, 12852, 9366]  # as ever


def test_a_shift_moves_the_middle_by_at_most_its_amount_and_nothing_else() -> None:
    moved = middles(Augmentation(SCHEMA, {"shift": 3.0}, seed=0)(images(500), Cursor(1, 0))) - 13.5
    assert 2.8 < np.abs(moved).max() < 3.02
    assert np.abs(moved.mean(axis=0)).max() < 0.3


def test_a_rotation_a_scale_and_a_shear_keep_the_middle() -> None:
    for amounts in ({"rotate": 30.0}, {"scale": 0.3}, {"shear": 0.3}, {"rotate": 180.0, "scale": 0.5}):
        changed = Augmentation(SCHEMA, amounts, seed=1)(images(200), Cursor(1, 0))
        assert np.abs(middles(changed) - 13.5).max() < 0.05, amounts
        assert (changed != images(200)).any(axis=1).mean() > 0.95
    mass = Augmentation(SCHEMA, {"scale": 0.3}, seed=1)(images(500), Cursor(1, 0)).sum(axis=1) / (100 * 200)
    assert 0.45 < mass.min() < 0.6  # the square of 1 − 0.3, and of 1 + 0.3
    assert 1.55 < mass.max() < 1.75


def test_an_elastic_field_bends_without_moving_far() -> None:
    bent = Augmentation(SCHEMA, {"elastic": 3.0}, seed=1)(images(300), Cursor(1, 0))
    assert (bent != images(300)).any(axis=1).all()
    distance = np.abs(middles(bent) - 13.5)
    assert 0.2 < distance.mean() < 1
    assert distance.max() < 3


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_other_pixels_than_bytes_are_deformed_alike(dtype: str) -> None:
    schema = Schema((28, 28), dtype, (0, 255), SCHEMA.classes)
    bytes_ = Augmentation(SCHEMA, ALL, seed=5)(images(9), Cursor(1, 0))
    wide = Augmentation(schema, ALL, seed=5)(images(9).astype(dtype), Cursor(1, 0))
    assert wide.dtype == dtype
    assert np.abs(wide.astype(float) - bytes_).max() <= 0.5


def test_the_sine_and_cosine_are_those_of_numpy() -> None:
    angles = np.linspace(-math.pi, math.pi, 999)
    sine, cosine = sine_and_cosine(angles)
    assert np.abs(sine - np.sin(angles)).max() < 1e-13
    assert np.abs(cosine - np.cos(angles)).max() < 1e-13


def test_rows_that_are_not_images_are_refused() -> None:
    for shape in ((16,), (1, 5), (2000, 3)):
        with pytest.raises(UsageError, match="`augment` needs images of 2 to 1024 pixels a side") as refused:
            Augmentation(Schema(shape, "uint8", (0, 255), ()), ALL, seed=0)
        assert refused.value.option == "augment"


def test_minibatches_take_a_transform_of_raw_rows_that_follows_from_their_place(shards: Path) -> None:
    data, places = st.open_shards(shards), []

    def inverted(pixels: Array, at: Cursor) -> Array:
        places.append(at)
        assert pixels.dtype == np.uint8
        return np.subtract(255, pixels, out=pixels)

    plain = list(data.minibatches(batch_size=250, epoch=3))
    changed = list(data.minibatches(batch_size=250, epoch=3, transform=inverted))
    assert places == [(3, 0), (3, 250), (3, 500)]
    low, span = data.schema.scale
    for (x, y), (other, same) in zip(plain, changed, strict=True):
        assert torch.equal(y, same)
        raw = x * span + low
        torch.testing.assert_close(other, (255 - raw - low) / span)
    with pytest.raises(UsageError, match="`transform` returned float64"):
        next(iter(data.minibatches(transform=lambda pixels, _: pixels / 255)))


def test_augmented_minibatches_are_those_that_a_training_learns(shards: Path) -> None:
    data = st.open_shards(shards)
    deform = Augmentation(data.schema, {"shift": 1.0}, seed=0)
    model, twin = st.MLP(64, (), 10), st.MLP(64, (), 10)
    st.fit(model, data, epochs=1, batch_size=600, augment={"shift": 1.0}, eval_train=False)
    [(x, y)] = data.minibatches(batch_size=600, transform=deform)
    logits, inputs = twin.forward(x)
    from streamtrain.nn.functional import cross_entropy_gradient
    from streamtrain.nn.sgd import sgd_step

    sgd_step(twin, twin.backward(inputs, cross_entropy_gradient(logits, y)[1]), lr=0.05)
    torch.testing.assert_close(model.weights[0], twin.weights[0], rtol=0, atol=1e-6)
    st.fit(plain := st.MLP(64, (), 10), data, epochs=1, batch_size=600, eval_train=False)
    assert float((plain.weights[0] - model.weights[0]).abs().max()) > 1e-3
