"""The network as a scikit-learn classifier, for arrays and for shards."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from streamtrain.block import Array, Block
from streamtrain.engine.dense import one_thread
from streamtrain.nn.functional import cross_entropy_gradient, iterate_minibatches, softmax
from streamtrain.nn.mlp import MLP
from streamtrain.nn.sgd import sgd_step
from streamtrain.schema import Schema
from streamtrain.shards.build import write_shards
from streamtrain.stream.batches import normalise
from streamtrain.stream.dataset import Shards, open_shards
from streamtrain.train.evaluate import evaluate
from streamtrain.train.fit import fit

_ROWS = 1024  # predicted at a time
_TILE = 128  # rows of a product: in whole tiles the probabilities of a row do not depend on its neighbours


class StreamClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """A multilayer perceptron with hand-written gradients, trained by `streamtrain.fit`.

    X is an array (rows, features) of raw values, with y its labels, or a data set on disk without a y: `Shards`,
    or the path of their folder. `fit` writes an array to shards in a temporary folder, as float32.

    hidden: units of the hidden layers; epochs, batch_size, lr, seed, memory_bytes: as for `streamtrain.fit`
    pixel_range: (lo, hi), the values that become 0 and 1; by default the least and largest of the first X seen, or
    the range of the shards
    After a fit: classes_ (classes,), n_features_in_, model_ the MLP, pixel_range_, loss_curve_ the mean train loss
    of each epoch in nats.
    """

    def __init__(
        self,
        hidden: tuple[int, ...] = (100,),
        *,
        epochs: int = 20,
        batch_size: int = 256,
        lr: float = 0.05,
        seed: int = 0,
        pixel_range: tuple[float, float] | None = None,
        memory_bytes: int = 256_000_000,
    ) -> None:
        self.hidden, self.epochs, self.batch_size = hidden, epochs, batch_size
        self.lr, self.seed, self.pixel_range, self.memory_bytes = lr, seed, pixel_range, memory_bytes

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train from new weights for `epochs` epochs."""
        if (shards := _as_shards(X)) is not None:
            names = shards.schema.classes
            self.classes_ = np.array([int(name) for name in names] if all(map(str.isdecimal, names)) else names)
            self.n_features_in_ = shards.schema.features
            self.pixel_range_ = self.pixel_range or shards.schema.of_source.pixel_range
            return self._fit_shards(shards.with_schema(self._schema(names)))
        X, y = validate_data(self, X, y, dtype="numeric")
        check_classification_targets(y)
        classes, labels = np.unique(y, return_inverse=True)
        self._begin(classes, X)
        schema = self._schema(tuple(map(str, range(len(classes)))))
        block = Block(X.astype(np.float32), labels.astype(np.int32), np.arange(1, len(X) + 1))
        with tempfile.TemporaryDirectory(prefix="streamtrain-") as folder:
            write_shards([block], Path(folder, "shards"), schema=schema)
            return self._fit_shards(open_shards(Path(folder, "shards")).with_schema(schema))

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> Self:
        """Train one pass over an array, in its order; the first call names all classes."""
        first = not hasattr(self, "model_")
        if first and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        X, y = validate_data(self, X, y, dtype="numeric", reset=first)
        check_classification_targets(y)
        if first:
            self._begin(np.unique(classes), X)
            self.loss_curve_ = []
        labels = np.searchsorted(self.classes_, y)
        unknown = self.classes_[np.minimum(labels, len(self.classes_) - 1)] != y
        if np.any(unknown):
            raise ValueError(f"label {np.asarray(y)[unknown][0]!r} is not in classes {self.classes_}")
        self.loss_curve_.append(self._pass(X, labels))
        return self

    def predict(self, X: Any) -> Array:
        """Return the most probable class of each row, (rows,)."""
        most = self.predict_proba(X).argmax(axis=1)
        return np.asarray(self.classes_[most])

    def predict_proba(self, X: Any) -> Array:
        """Return the probability of each class, (rows, classes) float32, in the order of `classes_`."""
        check_is_fitted(self)
        shards = _as_shards(X)
        parts = [X] if shards is None else (block.pixels for block in shards.blocks())
        return np.concatenate([probs for part in parts for probs in self._probs(part)])

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the accuracy on an array and its labels, or on shards."""
        check_is_fitted(self)
        if (shards := _as_shards(X)) is None:
            return float(super().score(X, y, sample_weight))
        schema = self._schema(tuple(map(str, self.classes_)))
        return evaluate(self.model_, shards.with_schema(schema)).accuracy

    def _fit_shards(self, shards: Shards) -> Self:
        self.model_ = MLP(self.n_features_in_, self.hidden, len(self.classes_), seed=self.seed)
        reports = fit(
            self.model_,
            shards,
            epochs=self.epochs,
            batch_size=self.batch_size,
            lr=self.lr,
            seed=self.seed,
            memory_bytes=self.memory_bytes,
            eval_train=False,
        )
        self.loss_curve_ = [report.train_loss for report in reports]
        return self

    def _begin(self, classes: Array, X: Array) -> None:
        """Make new weights, for these classes and the range of these values."""
        self.classes_ = classes
        self.pixel_range_ = self.pixel_range or (X.min().item(), X.max().item())
        low, high = np.percentile(X, (1, 99))
        if not self.pixel_range and 0 < high - low < (self.pixel_range_[1] - self.pixel_range_[0]) / 5:
            warnings.warn(
                f"98% of the values lie in {low:.4g}..{high:.4g}, but a few make the range {self.pixel_range_}, "
                "which becomes 0..1. Pass pixel_range, or leave out a scaler before this classifier",
                stacklevel=3,
            )
        self.model_ = MLP(X.shape[1], self.hidden, len(classes), seed=self.seed)

    def _schema(self, classes: tuple[str, ...] = ()) -> Schema:
        return Schema((self.n_features_in_,), "float32", self.pixel_range_, classes)

    def _pass(self, X: Array, labels: Array) -> float:
        """Take a plain step for each batch of X in its order; return the mean loss."""
        model, schema, total = self.model_, self._schema(), 0.0
        rows, numbers = torch.arange(len(X)), torch.from_numpy(labels.astype(np.int64))
        with one_thread():
            for index, y in iterate_minibatches(rows, numbers, self.batch_size, shuffle=False):
                out = torch.empty((len(index), schema.features), dtype=torch.float32)
                logits, inputs = model.forward(normalise(X[index.numpy()], schema, out=out))
                losses, dlogits = cross_entropy_gradient(logits, y)
                sgd_step(model, model.backward(inputs, dlogits), lr=self.lr)
                total += float(losses.double().sum())
        return total / len(X)

    def _probs(self, X: Any) -> Iterator[Array]:
        X, schema = validate_data(self, X, dtype="numeric", reset=False), self._schema()
        for start in range(0, len(X), _ROWS):
            part = X[start : start + _ROWS]
            rows = -(-len(part) // _TILE) * _TILE
            with one_thread():
                x = torch.zeros(rows, schema.features, dtype=torch.float32)
                normalise(part, schema, out=x[: len(part)])
                yield softmax(self.model_.forward(x)[0])[: len(part)].numpy()


def _as_shards(X: Any) -> Shards | None:
    """Return the shards that X is or names; None if it is an array."""
    if isinstance(X, str | os.PathLike):
        return open_shards(X)
    return X if isinstance(X, Shards) else None
