"""The estimator keeps scikit-learn's rules, and learns the same from arrays and from shards."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import streamtrain as st
from streamtrain.adapters.sklearn import StreamClassifier


@pytest.fixture(scope="module")
def table(digits_csv: Path) -> np.ndarray:
    return np.loadtxt(digits_csv, delimiter=",", skiprows=1)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_it_passes_the_checks_of_scikit_learn() -> None:
    results = check_estimator(StreamClassifier(batch_size=16, lr=0.5), on_fail=None)
    assert len(results) > 40
    assert {
        result["check_name"]: repr(result["exception"]) for result in results if result["status"] == "failed"
    } == {}


def test_arrays_and_shards_of_the_same_rows_give_models_that_agree(table: np.ndarray, shards: Path) -> None:
    x, y = table[:, 1:], table[:, 0].astype(int)
    of_arrays = StreamClassifier(epochs=10, batch_size=16, lr=0.5).fit(x, y)
    of_shards = StreamClassifier(epochs=10, batch_size=16, lr=0.5).fit(shards)
    assert of_arrays.pixel_range_ == of_shards.pixel_range_
    assert of_arrays.classes_.tolist() == of_shards.classes_.tolist() == list(range(10))
    for model in (of_arrays, of_shards):
        assert model.loss_curve_[-1] < model.loss_curve_[0]
        assert model.score(x, y) == model.score(shards) == model.score(st.open_shards(shards)) > 0.95
        assert model.predict_proba(x) == pytest.approx(model.predict_proba(shards), abs=1e-6)
        assert (model.predict(shards) == y).mean() == model.score(x, y)


def test_it_trains_on_shards_as_fit_does(shards: Path) -> None:
    data, model = st.open_shards(shards), st.MLP(64, (20,))
    list(st.fit(model, data, epochs=3, batch_size=32, lr=0.1, seed=4))
    fresh = st.MLP(64, (20,), seed=4)
    list(st.fit(fresh, data, epochs=3, batch_size=32, lr=0.1, seed=4))
    estimator = StreamClassifier((20,), epochs=3, batch_size=32, lr=0.1, seed=4).fit(data)
    assert all(map(np.array_equal, estimator.model_.weights, fresh.weights))
    assert not np.array_equal(estimator.model_.weights[0], model.weights[0])


def test_it_learns_from_standardised_pixels(table: np.ndarray) -> None:
    """Fractions of any size: float32 rounds the ends of their range, and their sums are near 0."""
    pipeline = make_pipeline(StandardScaler(), StreamClassifier(epochs=30, lr=0.5))
    assert pipeline.fit(table[:, 1:], table[:, 0]).score(table[:, 1:], table[:, 0]) > 0.9


def test_partial_fit_learns_batch_by_batch(table: np.ndarray) -> None:
    x, y = table[:, 1:], table[:, 0].astype(int)
    model = StreamClassifier(pixel_range=(0, 240))
    with pytest.raises(ValueError, match="classes"):
        model.partial_fit(x, y)
    for _ in range(15):
        for at in range(0, 600, 100):
            model.partial_fit(x[at : at + 100], y[at : at + 100], classes=range(10))
    assert model.score(x, y) > 0.95
    with pytest.raises(ValueError, match="12"):
        model.partial_fit(x[:1], [12])


def test_it_can_be_cloned_pickled_and_cross_validated(table: np.ndarray) -> None:
    x, y = table[:, 1:], np.array(["zero", "one", *"23456789"])[table[:, 0].astype(int)]
    model = StreamClassifier(epochs=10, batch_size=16, lr=0.5).fit(x, y)
    assert np.array_equal(pickle.loads(pickle.dumps(model)).predict(x), model.predict(x))
    assert clone(model).get_params() == model.get_params()
    assert cross_val_score(StreamClassifier(epochs=10, batch_size=16, lr=0.5), x, y, cv=3).mean() > 0.9
