"""Training: minibatches → steps, an evaluation after each epoch."""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import replace
from functools import partial

import torch

from streamtrain.engine.dense import in_one_thread, one_thread
from streamtrain.engine.device import DeviceStep
from streamtrain.engine.native_step import NativeStep, computes_natively
from streamtrain.engine.sparse import Sparse, first_layer_for
from streamtrain.engine.step import B, CpuStep, G, TrainStep
from streamtrain.errors import RunError, UsageError, argument
from streamtrain.memory import Plan
from streamtrain.metrics.label_disorder import LabelDisorder
from streamtrain.nn.loss import Objective
from streamtrain.nn.mlp import MLP
from streamtrain.nn.optimizer import Optimizer
from streamtrain.settings import spelled_out
from streamtrain.stream.batches import Gathering, gather_pixels, pixel_epochs, select_pixels
from streamtrain.stream.dataset import Shards
from streamtrain.stream.order import Cursor, Order
from streamtrain.stream.windows import labels_in_order
from streamtrain.train.build import (
    build_augmentation,
    build_loss,
    build_optimizer,
    build_schedule,
    check_fit,
    plan_memory,
    steps_before,
)
from streamtrain.train.compatibility import DataSummary, check_against, check_held_out, read_as_learned
from streamtrain.train.config import FitConfig, FitOptions
from streamtrain.train.early_stopping import NO_EPOCH, Best, epochs_left
from streamtrain.train.epoch_evaluation import EpochEvaluation, Evaluations
from streamtrain.train.inputs import Data, open_data
from streamtrain.train.progress import EpochReport, Evaluating, Progress
from streamtrain.train.rate import not_finite

Event = Progress | Evaluating | EpochReport


@spelled_out(FitOptions)
def fit(model: MLP, train: Data, options: FitOptions) -> list[EpochReport]:
    """Train `model` in place and return a report of each epoch.

    model: its tensors stay the same objects and hold the trained values afterwards; it gets the schema of `train`
    train: shards, or the path of shards or of a CSV; it has as many pixels and classes as the model
    test, val: data to evaluate after each epoch, read with the classes and range of `train`
    Raises UsageError or DataError if a setting is out of range or a set does not fit the model, and RunError if a
    loss is not finite; a step with such a loss is not taken. Torch's threads share the matrix products; their
    number changes the time, not the result.
    """
    training = _with_warnings(Training(model, open_data(train), options, overlap_evaluation=True))
    return [event for event in training if isinstance(event, EpochReport)]


@spelled_out(FitOptions)
def iter_fit(model: MLP, train: Data, options: FitOptions) -> Iterator[Event]:
    """Train as `fit` does, and yield events: Progress, Evaluating or EpochReport.

    Progress comes after each step, Evaluating several times during an evaluation, EpochReport after each epoch.
    The tensors of the model are up to date at each event; do not change them before the loop ends.
    """
    return _written_back(_with_warnings(Training(model, open_data(train), options)))


def _with_warnings(training: Training) -> Training:
    for text in training.warnings:
        warnings.warn(text, stacklevel=4)  # points to the line that called `fit`
    return training


def _written_back(training: Training) -> Iterator[Event]:
    for event in training:
        if isinstance(event, Progress):
            training.write_back()
        yield event


class Training:
    """A model in training; loop over it once to train.

    model: if it was trained before, all sets are read with the classes and range that it learned
    warnings: how the data differs from what the model learned, or why it cannot judge the model
    model, optimizer: up to date after `write_back` and when the loop ends; at each Evaluating and EpochReport, as
    they were at the end of that epoch
    start: resume from here; `model` and `optimizer` must have the state that they had at this point
    optimizer: by default as before the first step
    plan: sizes to keep, such as those of an earlier run; by default what `memory_bytes` allows
    best: the best epoch so far by the accuracy on `val`; it decides when `patience` ends
    overlap_evaluation: whether an epoch may be evaluated while the next one is trained; its report comes during
    the next epoch then, and Evaluating only if the training waits for it
    Raises UsageError or DataError if a setting is out of range or a set does not fit the model.
    """

    def __init__(
        self,
        model: MLP,
        train: Shards,
        config: FitConfig,
        *,
        test: Shards | None = None,
        val: Shards | None = None,
        start: Progress | None = None,
        optimizer: Optimizer | None = None,
        plan: Plan | None = None,
        best: Best = NO_EPOCH,
        overlap_evaluation: bool = False,
    ) -> None:
        own = config if isinstance(config, FitOptions) else FitOptions()
        if own is config:
            test, val = (None if data is None else open_data(data) for data in (own.test, own.val))
        if config.patience and val is None:
            raise UsageError(
                f"{argument('patience', config.patience)} needs data to judge by: pass `val`", option="val"
            )
        self.warnings: list[str] = []
        if model.schema:
            train, self.warnings = read_as_learned(model, train)
        check_fit(model, train, config)
        self.model, self.train, self.config = model, train, config
        self.summary = DataSummary.of(train)
        if len(self.summary.present) == 1:
            self.warnings.append(
                f"all rows of {train.folder} are of class {self.summary.present[0]!r}: there is nothing to learn"
            )
        self.evaluated: Mapping[str, Shards | None] = {
            "train": train if config.eval_train else None,
            "test": test and self._read(test),
            "val": val and self._read(val),
        }
        self.start = start or Progress.at(1)
        self.optimizer = optimizer or build_optimizer(config, model)
        self.plan = plan or plan_memory(train, model.hidden, config)
        self._schedule = build_schedule(config, train.rows)
        self.best, self._callback, self._ends = best, own.callback, False
        # Whether an epoch is the last one is known when it has been evaluated.
        self._overlap_evaluation = overlap_evaluation and not (config.patience or own.callback)
        self._position = self.start
        self._write_back: Callable[[], None] = lambda: None
        self._evaluations = Evaluations(self._judged)
        self._transforms = [*build_augmentation(config, train.schema), *filter(None, [own.transform])]
        self._objective = Objective(build_loss(config, train), config.dropout, config.seed)

    def _read(self, data: Shards) -> Shards:
        """Return `data` with the schema of the training data; add a warning for each way in which they differ."""
        shards, summary, where = data.with_schema(self.train.schema), DataSummary.of(data), str(data.folder)
        self.warnings += check_against(self.summary, self.train.schema, summary, where=where)
        self.warnings += check_held_out(self.summary, summary, where=where)
        return shards

    def __iter__(self) -> Iterator[Event]:
        threads = torch.get_num_threads()
        on_cpu = self.model.device.type == "cpu"
        return in_one_thread(self._on_cpu(threads) if on_cpu else self._on_device(threads))

    def write_back(self) -> Progress:
        """Bring the tensors of `model` and `optimizer` up to date between two steps; return their progress.

        While an epoch is evaluated they stay as they were at its end.
        """
        if evaluation := self._evaluations.current:
            return evaluation.trained
        with one_thread():
            self._write_back()
        return self._position

    def _on_cpu(self, threads: int) -> Generator[Event]:
        rows = min(self.config.batch_size, self.train.rows)
        if not self._transforms and computes_natively(self.train, self.model, self._objective):
            native = NativeStep(self.train, self.model, self.optimizer, rows)
            yield from self._events(native, select_pixels, threads, overlap=self._overlap_evaluation)
            return
        layers = [first_layer_for(self.train, self.model, rows, threads=threads)]
        # A second layer prepares the next batch in a thread of its own. A dense layer already uses all threads.
        if self.plan.prefetch_batch and threads > 1 and isinstance(layers[0], Sparse):
            layers.append(first_layer_for(self.train, self.model, rows, threads=threads))
        step = CpuStep(
            self.model, self.optimizer, rows, first_layers=layers, threads=threads, objective=self._objective
        )
        yield from self._events(step, partial(gather_pixels, transforms=self._transforms), threads)

    def _on_device(self, threads: int) -> Generator[Event]:
        scale = self.train.schema.scale
        step = DeviceStep(self.model, self.optimizer, scale=scale, objective=self._objective)
        yield from self._events(step, partial(gather_pixels, transforms=self._transforms), threads)

    def _events(
        self, step: TrainStep[G, B], gather: Gathering[G], threads: int, *, overlap: bool = False
    ) -> Generator[Event]:
        """Train and evaluate epoch by epoch; overlap: whether the step leaves the model's tensors alone."""
        self.model.schema, self.model.trained_on = self.train.schema, self.summary
        self._write_back = step.write_back
        config, plan, progress = self.config, self.plan, self.start
        # If the memory is too small for a prefetch thread, it is too small for a second row group.
        threads = threads if plan.prefetch_threads else 1
        overlap = overlap and threads > 1
        order = Order(config.seed, plan.window_rows)
        with contextlib.closing(self._batches(order, gather)) as stream, contextlib.ExitStack() as stack:
            stack.callback(step.write_back)
            stack.callback(self._evaluations.drop)
            for epoch, batches in stream:
                disorder = LabelDisorder()
                for labels in labels_in_order(self.train.row_groups, order, epoch, stop=progress.cursor.rows):
                    disorder.update(labels)
                steps = self._train_epoch(step, _counted(batches, disorder), progress)
                trained, waited = yield from self._evaluations.reported_during(steps)
                yield from self._evaluations.finish()
                step.write_back()
                report = EpochReport(
                    epoch=epoch,
                    train_loss=trained.loss,
                    progressive_accuracy=trained.accuracy,
                    train=None,
                    test=None,
                    val=None,
                    rows=trained.cursor.rows,
                    seconds=trained.seconds,
                    eval_seconds=0.0,
                    label_disorder=disorder.value(),
                    effective_batch_size=disorder.effective_batch_size(config.batch_size),
                    wait_share=waited / max(trained.seconds - progress.seconds, waited, 1e-9),
                    patience_left=None,
                )
                refused = partial(not_finite, self.model, self.train, config, config.lr)
                evaluation = EpochEvaluation(
                    self.model, self.evaluated, trained, report, not_finite=refused, threads=threads - overlap
                )
                self._evaluations.begin(evaluation, in_thread=overlap)
                if not overlap:
                    yield from self._evaluations.finish()
                if self._ends:
                    return
                self._position = progress = Progress.at(epoch + 1)
            yield from self._evaluations.finish()

    def _batches(self, order: Order, gather: Gathering[G]) -> Generator[tuple[int, Iterator[G]]]:
        """Yield each epoch from the start on, and its batches."""
        return pixel_epochs(
            self.train.decoded,
            order,
            gather=gather,
            batch_size=self.config.batch_size,
            prefetch_threads=self.plan.prefetch_threads,
            start=self.start.cursor,
            last=self.config.epochs,
        )

    def _judged(self, report: EpochReport) -> EpochReport:
        """Return the report of an epoch with its patience; note whether the training ends with it."""
        if report.val:
            self.best = self.best.after(report.epoch, report.val.accuracy)
        report = replace(report, patience_left=epochs_left(self.config.patience, self.best, report.epoch))
        self._ends = bool(self._callback and self._callback(report) is True) or report.patience_left == 0
        return report

    def _train_epoch(
        self, step: TrainStep[G, B], minibatches: Iterator[G], progress: Progress
    ) -> Generator[Progress, None, tuple[Progress, float]]:
        """Take a step for each remaining minibatch of the epoch.

        Returns the progress at the end of the epoch, and the seconds spent waiting for minibatches.
        """
        (number, rows), loss_sum, correct, seconds = progress
        began, waited = time.perf_counter() - seconds, 0.0
        steps = steps_before(self.config, self.train.rows, progress.cursor)
        with contextlib.closing(step.prefetch(minibatches)) as batches:
            while True:
                asked = time.perf_counter()
                batch = next(batches, None)
                waited += time.perf_counter() - asked
                if batch is None:
                    break
                lr = self._schedule.rate(steps)
                batch_loss, batch_correct = step.forward_backward(batch)
                if not math.isfinite(batch_loss):
                    where = f"epoch {number}, row {rows + 1}: the loss is {batch_loss}"
                    raise not_finite(self.model, self.train, self.config, lr, where)
                step.update(lr)
                steps, rows = steps + 1, rows + batch.rows
                loss_sum, correct = loss_sum + batch_loss, correct + batch_correct
                seconds = time.perf_counter() - began - self._evaluations.paused
                self._position = progress = Progress(Cursor(number, rows), loss_sum, correct, seconds)
                yield progress
        if rows != self.train.rows:
            raise RunError(f"epoch {number} saw {rows} rows, but {self.train.folder} has {self.train.rows}")
        return progress, waited


def _counted(batches: Iterator[G], disorder: LabelDisorder) -> Iterator[G]:
    """Yield the batches, and count the labels of each."""
    for batch in batches:
        disorder.update(batch.labels)
        yield batch
