"""Training: minibatches → steps, an evaluation an epoch."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from streamtrain.engine.dense import one_thread
from streamtrain.engine.device import DeviceStep
from streamtrain.engine.sparse import Sparse, first_layer_for, required_kernels
from streamtrain.engine.step import Step
from streamtrain.errors import DataError, RunError, UsageError
from streamtrain.metrics.label_disorder import LabelDisorder
from streamtrain.native import load
from streamtrain.nn.mlp import MLP, Gradients
from streamtrain.nn.sgd import SGDConfig, rest
from streamtrain.stream.batches import Batch, pixel_epochs
from streamtrain.stream.dataset import Shards
from streamtrain.stream.order import Cursor, Order
from streamtrain.stream.windows import labels_in_order
from streamtrain.train.evaluate import iter_evaluate


class Progress(NamedTuple):
    """Where training stands between two steps; with the weights, all that a resume needs.

    cursor: the epoch and its rows that were trained; loss_sum: over those rows, each as it was trained, in nats
    correct: how many of them were right then; seconds: that they took
    """

    cursor: Cursor
    loss_sum: float = 0.0
    correct: int = 0
    seconds: float = 0.0

    @classmethod
    def at(cls, epoch: int) -> Progress:
        """The start of an epoch, counted from 1."""
        return cls(Cursor(epoch, 0))

    @property
    def loss(self) -> float:
        """Mean loss a row of the epoch so far, in nats; NaN before the first."""
        return self.loss_sum / self.cursor.rows if self.cursor.rows else math.nan

    @property
    def accuracy(self) -> float:
        """Share of the rows of the epoch so far that were right; NaN before the first."""
        return self.correct / self.cursor.rows if self.cursor.rows else math.nan


@dataclass(frozen=True)
class EpochReport:
    """What one epoch did; losses in nats a row, times in seconds of the training pass and of the evaluation.

    train_loss and progressive_accuracy: over the rows as they were trained, each scored before it was learned;
    the other losses and accuracies are over the whole sets after it, None for a set that was not evaluated.
    label_disorder: D of the order that was trained, see `tally.DisorderTally`; effective_batch_size: of its
    batches, in rows; both None where the epoch has no whole batch of D or the data one class
    wait_share: of the training pass's seconds, the share that the model waited for minibatches
    """

    epoch: int
    train_loss: float
    progressive_accuracy: float
    train_accuracy: float | None
    test_loss: float | None
    test_accuracy: float | None
    val_loss: float | None
    val_accuracy: float | None
    rows: int
    seconds: float
    eval_seconds: float
    label_disorder: float | None
    effective_batch_size: float | None
    wait_share: float

    @property
    def rows_per_second(self) -> float:
        """Of the training pass alone."""
        return self.rows / self.seconds


def fit(model: MLP, train: Shards, **options: Any) -> Iterator[EpochReport]:
    """Train `model` in place and yield a report an epoch; the options are those of `iter_fit`."""
    return (report for report in iter_fit(model, train, **options) if isinstance(report, EpochReport))


def iter_fit(
    model: MLP,
    train: Shards,
    *,
    test: Shards | None = None,
    val: Shards | None = None,
    epochs: int = 20,
    batch_size: int = 256,
    lr: float = 0.05,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    seed: int = 0,
    window_rows: int | None = None,
    prefetch_threads: int = 1,
    ahead: bool = False,
    eval_train: bool = True,
    start: Progress | None = None,
    velocity: Gradients | None = None,
) -> Iterator[Progress | EpochReport]:
    """Train `model` in place by SGD; yield Progress after every step and a report at the end of each epoch.

    test, val: read with the meaning of the training data; window_rows: rows shuffled together, by default all
    prefetch_threads: threads that load the next window meanwhile; with 0 there is one window in memory, else two
    ahead: one more may read the next batch while one is learned
    start: go on from there, `model` and `velocity` being as they were then; by default from epoch 1 and from rest
    velocity: moved in place, where there is momentum; see `sgd_step`
    Products are shared out among `torch.get_num_threads()` threads, whose number changes nothing but time.
    Raises UsageError or DataError at the call for sizes out of range and for sets that do not fit each other;
    RunError before a loss that is not finite reaches the weights.
    """
    if min(epochs, batch_size) < 1 or seed < 0:
        raise UsageError(
            f"epochs and batch size are positive and seed is not below 0: {epochs}, {batch_size}, {seed}"
        )
    sgd = SGDConfig(lr, momentum, weight_decay).checked()
    _check_fit(model, train)
    order = Order(seed, window_rows or train.rows)
    evaluated = [data and data.with_schema(train.schema) for data in (train if eval_train else None, test, val)]

    def reports() -> Iterator[Progress | EpochReport]:
        progress = start or Progress.at(1)
        stream = pixel_epochs(
            train.decoded,
            order,
            batch_size=batch_size,
            prefetch_threads=prefetch_threads,
            start=progress.cursor,
            last=epochs,
        )
        with one_thread() as threads, contextlib.closing(stream):
            moving = velocity or (rest(model) if momentum else [])
            step = _step(model, train, batch_size, sgd, moving, threads=threads, ahead=ahead)
            # Without memory for one prefetch thread there is none for two row groups either.
            shared = threads if prefetch_threads else 1
            for epoch, batches in stream:
                disorder = LabelDisorder()
                for labels in labels_in_order(train.row_groups, order, epoch, stop=progress.cursor.rows):
                    disorder.update(labels)
                counted = _counted(batches, disorder)
                trained, waited = yield from _steps(step, train, counted, progress)
                began = time.perf_counter()
                figures: list[float | None] = []
                for data in evaluated:
                    figures += yield from _figures(model, data, trained, shared)
                seconds = trained.seconds, time.perf_counter() - began
                share = waited / max(trained.seconds - progress.seconds, waited, 1e-9)
                yield _report(disorder, batch_size, trained, figures, seconds=seconds, wait_share=share)
                progress = Progress.at(epoch + 1)

    return reports()


def _counted(batches: Iterator[Batch], disorder: LabelDisorder) -> Iterator[Batch]:
    """Pass batches on, their labels counted."""
    for batch in batches:
        disorder.update(batch.labels)
        yield batch


def _report(
    disorder: LabelDisorder,
    batch_size: int,
    trained: Progress,
    figures: Sequence[float | None],
    *,
    seconds: tuple[float, float],
    wait_share: float,
) -> EpochReport:
    """What the epoch did; figures: loss and accuracy over the training, test and validation set."""
    _, train_accuracy, test_loss, test_accuracy, val_loss, val_accuracy = figures
    return EpochReport(
        epoch=trained.cursor.epoch,
        train_loss=trained.loss,
        progressive_accuracy=trained.accuracy,
        train_accuracy=train_accuracy,
        test_loss=test_loss,
        test_accuracy=test_accuracy,
        val_loss=val_loss,
        val_accuracy=val_accuracy,
        rows=trained.cursor.rows,
        seconds=seconds[0],
        eval_seconds=seconds[1],
        label_disorder=disorder.value(),
        effective_batch_size=disorder.effective_batch_size(batch_size),
        wait_share=wait_share,
    )


def _check_fit(model: MLP, train: Shards) -> None:
    if (train.schema.features, len(train.schema.classes)) != (model.features, model.classes):
        raise DataError(
            f"{train.folder} has {train.schema.features} pixels and {len(train.schema.classes)} classes, "
            f"the model reads {model.features} and gives {model.classes}"
        )


def _step(
    model: MLP, train: Shards, rows: int, sgd: SGDConfig, velocity: Gradients, *, threads: int, ahead: bool
) -> Step | DeviceStep:
    """What takes the steps on the model's device."""
    if model.device.type != "cpu":
        return DeviceStep(model, sgd, velocity, scale=train.schema.scale)
    load(required_kernels(train, model))
    rows = min(rows, train.rows)
    pixels = [first_layer_for(train, model, rows, threads=threads)]
    if ahead and threads > 1 and isinstance(pixels[0], Sparse):  # dense ones take all threads themselves
        pixels.append(first_layer_for(train, model, rows, threads=threads))
    return Step(model, rows, sgd, velocity, pixels=pixels, threads=threads)


def _steps(
    step: Step | DeviceStep, train: Shards, minibatches: Iterator[Batch], progress: Progress
) -> Generator[Progress, None, tuple[Progress, float]]:
    """Take a step for each minibatch that is left of the epoch.

    Returns the progress at its end, and the seconds that were waited for minibatches.
    """
    (epoch, rows), loss_sum, correct, seconds = progress
    began, waited = time.perf_counter() - seconds, 0.0
    reading: Generator[Any] = step.reading(minibatches)  # as the step takes them
    with contextlib.closing(reading) as batches:
        while True:
            asked = time.perf_counter()
            batch = next(batches, None)
            waited += time.perf_counter() - asked
            if batch is None:
                break
            batch_loss, batch_correct = step.score(batch)
            if not math.isfinite(batch_loss):
                raise RunError(
                    f"epoch {epoch}, row {rows + 1}: the loss is {batch_loss} at lr {step.sgd.lr:g}. The weights "
                    f"are as before it; train anew with a smaller step: --lr {step.sgd.lr / 10:g}"
                )
            step.learn()
            rows, loss_sum, correct = rows + batch.rows, loss_sum + batch_loss, correct + batch_correct
            progress = Progress(Cursor(epoch, rows), loss_sum, correct, time.perf_counter() - began)
            yield progress
    if rows != train.rows:
        raise RunError(f"epoch {epoch} saw {rows} rows, the manifest of {train.folder} has {train.rows}")
    return progress, waited


def _figures(
    model: MLP, data: Shards | None, progress: Progress, threads: int
) -> Generator[Progress, None, tuple[float | None, float | None]]:
    """Loss and accuracy over a whole set, None of none; the progress stays where it is meanwhile."""
    figures: tuple[float | None, float | None] = (None, None)
    for total in iter_evaluate(model, data, threads) if data else ():
        figures = total.loss, total.accuracy
        yield progress
    if data and not math.isfinite(figures[0] or 0.0):
        raise RunError(
            f"after epoch {progress.cursor.epoch} the loss over {data.folder} is {figures[0]}. The last "
            "checkpoint is from before; train anew with a smaller step: --lr"
        )
    return figures
