"""The events of a training: its progress after each step and during an evaluation, and a report of each epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, TypedDict

from msgspec import Meta

from streamtrain.decode import Count, Finite, Positive, convert
from streamtrain.metrics.evaluation import Evaluation
from streamtrain.stream.order import Cursor

Share = Annotated[float, Meta(ge=0, le=1)]
Seconds = Annotated[float, Meta(ge=0, le=1e12)]


class Progress(NamedTuple):
    """The position of a training between two steps; with the weights and velocity, all that a resume needs.

    cursor: the epoch and how many of its rows were trained
    loss_sum: over those rows, each as it was trained, in nats; correct: how many of them were right then
    seconds: that they took
    """

    cursor: Cursor
    loss_sum: float = 0.0
    correct: int = 0
    seconds: float = 0.0

    @classmethod
    def at(cls, epoch: int) -> Progress:
        """Return the start of an epoch, counted from 1."""
        return cls(Cursor(epoch, 0))

    @classmethod
    def from_json(cls, data: Any) -> Progress:
        """Return the progress that a checkpoint has. Raises ValueError for other values."""
        saved = convert(data, _Saved)
        progress = cls(Cursor(*saved["cursor"]), saved["loss_sum"], saved["correct"], saved["seconds"])
        if progress.correct > progress.cursor.rows:
            raise ValueError(f"correct is {progress.correct}, of {progress.cursor.rows} rows")
        return progress

    @property
    def loss(self) -> float:
        """Return the mean loss per row of the epoch so far, in nats; NaN before the first row."""
        return self.loss_sum / self.cursor.rows if self.cursor.rows else math.nan

    @property
    def accuracy(self) -> float:
        """Return the share of the rows of the epoch so far that were right; NaN before the first row."""
        return self.correct / self.cursor.rows if self.cursor.rows else math.nan


class _Saved(TypedDict):
    """A progress as JSON values."""

    cursor: tuple[Positive, Count]
    loss_sum: Finite
    correct: Count
    seconds: Seconds


@dataclass(frozen=True)
class Evaluating:
    """How far an evaluation after an epoch has come.

    progress: of the training, at the end of the epoch; name: of the set: train, test or val
    rows: evaluated so far, of `total`
    """

    progress: Progress
    name: str
    rows: int
    total: int


@dataclass(frozen=True, eq=False)
class EpochReport:
    """The results of one epoch.

    train_loss, progressive_accuracy: over the rows as they were trained, each scored before it was learned
    train, test, val: over the whole sets after the epoch; None for a set that was not evaluated
    rows: trained; seconds, eval_seconds: of the training pass and of the evaluations
    label_disorder: D of the order that was trained, see `LabelDisorder`; effective_batch_size: of its batches, in
    rows; both None if the epoch has no whole batch of D or the data one class
    wait_share: share of the training pass's seconds that the model waited for minibatches
    patience_left: more epochs that may pass without a better accuracy on val; None without a limit
    """

    epoch: int
    train_loss: float
    progressive_accuracy: float
    train: Evaluation | None
    test: Evaluation | None
    val: Evaluation | None
    rows: int
    seconds: float
    eval_seconds: float
    label_disorder: float | None
    effective_batch_size: float | None
    wait_share: float
    patience_left: int | None = None

    @property
    def train_accuracy(self) -> float | None:
        """Return the accuracy on the whole training set."""
        return self.train.accuracy if self.train else None

    @property
    def test_loss(self) -> float | None:
        """Return the loss on the test set, in nats per row."""
        return self.test.loss if self.test else None

    @property
    def test_accuracy(self) -> float | None:
        """Return the accuracy on the test set."""
        return self.test.accuracy if self.test else None

    @property
    def val_loss(self) -> float | None:
        """Return the loss on the validation set, in nats per row."""
        return self.val.loss if self.val else None

    @property
    def val_accuracy(self) -> float | None:
        """Return the accuracy on the validation set."""
        return self.val.accuracy if self.val else None

    @property
    def rows_per_second(self) -> float:
        """Return the pace of the training pass alone."""
        return self.rows / self.seconds

    def to_json(self) -> dict[str, Any]:
        """Return its figures as JSON values under the keys of `METRICS_KEYS`."""
        return {key: getattr(self, key) for key in METRICS_KEYS}

    def __repr__(self) -> str:
        shown = {"train_loss": self.train_loss, "train_accuracy": self.train_accuracy}
        shown |= {"test_accuracy": self.test_accuracy, "val_accuracy": self.val_accuracy}
        figures = "".join(f", {name}={value:.4f}" for name, value in shown.items() if value is not None)
        return f"EpochReport(epoch={self.epoch}{figures})"


class Metrics(TypedDict):
    """A line of metrics.jsonl; `EpochReport` says what each is. The run adds its peak memory."""

    epoch: Positive
    train_loss: Finite
    progressive_accuracy: Share
    train_accuracy: Share | None
    test_loss: Finite | None
    test_accuracy: Share | None
    val_loss: Finite | None
    val_accuracy: Share | None
    rows: Positive
    seconds: Seconds
    eval_seconds: Seconds
    label_disorder: Finite | None
    effective_batch_size: Finite | None
    wait_share: Finite
    rows_per_second: Finite


METRICS_KEYS = tuple(Metrics.__annotations__)
