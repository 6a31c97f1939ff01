"""What a model gets right over a whole data set, as a streaming aggregate."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterator

import torch

from streamtrain.budget import EVALUATED_ROWS
from streamtrain.errors import DataError
from streamtrain.learn.mlp import MLP
from streamtrain.learn.products import Call, one_thread
from streamtrain.learn.step import forward
from streamtrain.stream.pipeline import normalise
from streamtrain.stream.store import Shards
from streamtrain.tally import Evaluation

_PART = EVALUATED_ROWS  # of a row group are normalised at a time
_LEAST = 128  # rows of a product: for few the library takes other kernels, whose sums end in other bits


def evaluate(model: MLP, shards: Shards) -> Evaluation:
    """What the model gets right over every row of `shards`, each counted once, a row group in memory at a time.

    Raises DataError where rows are of another width than the model reads, have no labels, or where not every
    row of the manifest was seen.
    """
    with one_thread() as threads:
        (total,) = deque(evaluating(model, shards, threads), maxlen=1)
    return total


def evaluating(model: MLP, shards: Shards, threads: int) -> Iterator[Evaluation]:
    """Yield the evaluation of the rows so far after each row group, that of all rows last.

    threads: that share the products, torch being left with one
    """
    if shards.schema.features != model.features or len(shards.schema.classes) != model.classes:
        raise DataError(
            f"{shards.folder} has {shards.schema.features} pixels and {len(shards.schema.classes)} classes, the "
            f"model {model.features} and {model.classes}. Evaluate data of the same kind"
        )
    return _evaluating(model, shards, threads)


def _evaluating(model: MLP, shards: Shards, threads: int) -> Iterator[Evaluation]:
    total = Evaluation.empty(model.classes)
    room = [torch.zeros(_PART, units) for units in (model.features, *model.hidden, model.classes)]

    @functools.lru_cache(maxsize=2)  # for whole parts, and for the short ones
    def prepared(rows: int) -> list[Call]:
        return forward(model, [a[: max(rows, _LEAST)] for a in room], threads=threads)

    for block in shards.blocks():
        for at in range(0, len(block), _PART):
            part = block.take(slice(at, at + _PART))
            normalise(part.pixels, shards.schema, out=room[0][: len(part)])
            for call in prepared(len(part)):
                call()
            log_probs = torch.log_softmax(room[-1][: len(part)], 1)  # (rows, classes)
            total += Evaluation.of(log_probs.numpy(), part.labels)
        del block, part  # or they would stay in memory while the next is decoded
        yield total
    if total.rows != shards.rows:
        raise DataError(f"{shards.folder}: saw {total.rows} rows, the manifest has {shards.rows}")
