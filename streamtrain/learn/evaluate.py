"""A model's loss and confusion over a whole data set, as a streaming aggregate."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator

import numpy as np
import torch

from streamtrain.errors import DataError
from streamtrain.learn.functional import cross_entropy_gradient
from streamtrain.learn.mlp import MLP
from streamtrain.stream.pipeline import normalise
from streamtrain.stream.store import Shards
from streamtrain.tally import Evaluation


def evaluate(model: MLP, shards: Shards) -> Evaluation:
    """Loss and confusion over every row of `shards`, each counted once, a row group in memory at a time.

    Raises DataError where rows are of another width than the model reads, have no labels, or where not every
    row of the manifest was seen.
    """
    (total,) = deque(evaluating(model, shards), maxlen=1)
    return total


def evaluating(model: MLP, shards: Shards) -> Iterator[Evaluation]:
    """Yield the evaluation of the rows so far after each row group, that of all rows last."""
    if shards.schema.features != model.features or len(shards.schema.classes) != model.classes:
        raise DataError(
            f"{shards.folder} has {shards.schema.features} pixels and {len(shards.schema.classes)} classes, the "
            f"model {model.features} and {model.classes}. Evaluate data of the same kind"
        )
    return _evaluating(model, shards)


def _evaluating(model: MLP, shards: Shards) -> Iterator[Evaluation]:
    total = Evaluation.empty(model.classes)
    x = torch.empty((shards.group_rows.max(initial=0), model.features))
    for block in shards.blocks():
        with one_thread():
            logits, _ = model.forward(normalise(block.pixels, shards.schema, out=x[: len(block)]))
            labels = torch.from_numpy(block.labels.astype(np.int64))
            losses, _ = cross_entropy_gradient(logits, labels)
            predicted = logits.argmax(1)
        total += Evaluation.of(losses.numpy(), predicted.numpy(), labels.numpy(), classes=model.classes)
        yield total
    if total.rows != shards.rows:
        raise DataError(f"{shards.folder}: saw {total.rows} rows, the manifest has {shards.rows}")


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread inside a `with`.

    A matrix product split among threads sums in another order, so the last bits of the weights would depend on
    the number of cores.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
