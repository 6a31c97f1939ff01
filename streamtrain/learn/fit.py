"""Training: minibatches → steps, an evaluation an epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

from streamtrain.errors import DataError, RunError, UsageError
from streamtrain.learn.evaluate import evaluate, one_thread
from streamtrain.learn.functional import cross_entropy_gradient
from streamtrain.learn.mlp import MLP
from streamtrain.learn.sgd import sgd_step
from streamtrain.stream.pipeline import Minibatch, minibatches
from streamtrain.stream.store import Shards


@dataclass(frozen=True)
class EpochReport:
    """What one epoch did; losses in nats a row, times in seconds of the training pass and of the evaluation.

    train_loss: mean over the rows as they were trained; the other figures are over the whole sets after it, None
    for a set that was not evaluated.
    """

    epoch: int
    train_loss: float
    train_accuracy: float | None
    test_loss: float | None
    test_accuracy: float | None
    val_loss: float | None
    val_accuracy: float | None
    rows: int
    seconds: float
    eval_seconds: float

    @property
    def rows_per_second(self) -> float:
        """Of the training pass alone."""
        return self.rows / self.seconds


def fit(
    model: MLP,
    train: Shards,
    *,
    test: Shards | None = None,
    val: Shards | None = None,
    epochs: int = 20,
    first_epoch: int = 1,
    batch_size: int = 256,
    lr: float = 0.05,
    seed: int = 0,
    window_rows: int | None = None,
    eval_train: bool = True,
) -> Iterator[EpochReport]:
    """Train `model` in place by SGD and yield a report an epoch.

    test, val: read with the meaning of the training data; window_rows: rows shuffled together, by default all
    Raises UsageError or DataError at the call for sizes out of range and for sets that do not fit each other;
    RunError before a loss that is not finite reaches the weights.
    """
    if min(epochs, first_epoch, batch_size) < 1 or not (lr > 0 and math.isfinite(lr)) or seed < 0:
        raise UsageError(f"epochs, batch size and lr are positive, not {epochs}, {batch_size} and {lr:g}")
    if (train.schema.features, len(train.schema.classes)) != (model.features, model.classes):
        raise DataError(
            f"{train.folder} has {train.schema.features} pixels and {len(train.schema.classes)} classes, "
            f"the model reads {model.features} and gives {model.classes}"
        )
    window = window_rows or train.rows
    sets = [None if data is None else data.like(train.schema) for data in (test, val)]

    def reports() -> Iterator[EpochReport]:
        for epoch in range(first_epoch, epochs + 1):
            start = time.perf_counter()
            sizes = {"batch_size": batch_size, "window_rows": window}
            batches = minibatches(train, seed=seed, epoch=epoch, reuse=True, **sizes)
            loss, rows = train_epoch(model, batches, lr=lr, epoch=epoch)
            if rows != train.rows:
                raise RunError(f"epoch {epoch} saw {rows} rows, the manifest of {train.folder} has {train.rows}")
            trained = time.perf_counter()
            done = [data and evaluate(model, data) for data in (train if eval_train else None, *sets)]
            figures = [(e.loss, e.accuracy) if e else (None, None) for e in done]
            (_, train_accuracy), (test_loss, test_accuracy), (val_loss, val_accuracy) = figures
            yield EpochReport(
                epoch=epoch,
                train_loss=loss,
                train_accuracy=train_accuracy,
                test_loss=test_loss,
                test_accuracy=test_accuracy,
                val_loss=val_loss,
                val_accuracy=val_accuracy,
                rows=rows,
                seconds=trained - start,
                eval_seconds=time.perf_counter() - trained,
            )

    return reports()


def train_epoch(model: MLP, batches: Iterator[Minibatch], *, lr: float, epoch: int) -> tuple[float, int]:
    """Take a step a batch; the mean loss over the rows as they were trained, and how many they were."""
    loss_sum, rows = 0.0, 0
    with one_thread():
        for x, y in batches:
            logits, inputs = model.forward(x)
            losses, dlogits = cross_entropy_gradient(logits, y)
            batch_loss = float(losses.double().sum())
            if not math.isfinite(batch_loss):
                raise RunError(
                    f"epoch {epoch}, row {rows + 1}: the loss is {batch_loss} at lr {lr:g}. The weights are "
                    f"as before it; train anew with a smaller step: --lr {lr / 10:g}"
                )
            sgd_step(model, model.backward(inputs, dlogits), lr=lr)
            loss_sum, rows = loss_sum + batch_loss, rows + len(y)
    return (loss_sum / rows if rows else math.nan), rows
