"""What a model gets right over a whole data set, as a streaming aggregate."""

from __future__ import annotations

import contextlib
import functools
import operator
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from queue import SimpleQueue

import numpy as np
import torch
from torch import Tensor

from streamtrain.block import Array, Block
from streamtrain.engine.dense import Call, one_thread
from streamtrain.engine.device import to_tensor
from streamtrain.engine.sparse import EVALUATION, bind_first_layer, padded_zeros
from streamtrain.engine.step import bind_upper_layers
from streamtrain.errors import DataError
from streamtrain.metrics.evaluation import Evaluation, bind_evaluation
from streamtrain.nn.mlp import MLP
from streamtrain.stream.dataset import Shards
from streamtrain.stream.prefetch import Task, prefetch

_GROUPS = 4  # that a thread scores before it hands over
_LEAST = 128  # rows of a product: for few the library takes other kernels, whose sums end in other bits


def evaluate(model: MLP, shards: Shards) -> Evaluation:
    """What the model gets right over every row of `shards`, each counted once, two row groups in memory at a time.

    Raises DataError where rows are of another width than the model reads, have no labels, or where not every
    row of the manifest was seen.
    """
    with one_thread() as threads:
        (total,) = deque(iter_evaluate(model, shards, threads), maxlen=1)
    return total


def iter_evaluate(model: MLP, shards: Shards, threads: int) -> Iterator[Evaluation]:
    """Yield the evaluation of the rows so far, a few row groups at a time, that of all rows last.

    threads: that share the row groups, torch being left with one; two at most
    """
    if shards.schema.features != model.features or len(shards.schema.classes) != model.classes:
        raise DataError(
            f"{shards.folder} has {shards.schema.features} pixels and {len(shards.schema.classes)} classes, the "
            f"model {model.features} and {model.classes}. Evaluate data of the same kind"
        )
    return _evaluating(model, shards, threads)


def _evaluating(model: MLP, shards: Shards, threads: int) -> Iterator[Evaluation]:
    total = Evaluation.empty(model.classes)
    here = model.device.type == "cpu"
    count = min(threads, EVALUATION.threads) if here else 1
    free: SimpleQueue[_Scorer] = SimpleQueue()

    def score(groups: Sequence[int], told: list[Evaluation]) -> None:
        torch.set_num_threads(1)  # of this thread
        scorer = free.get()
        try:
            told[:] = map(scorer, groups)
        finally:
            free.put(scorer)

    def tasks(groups: Sequence[int], told: list[Evaluation]) -> list[Task]:
        return [partial(score, groups, told)]

    told: list[list[Evaluation]] = [[] for _ in range(2 * count)]
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            scored = _scored(model, shards) if here else _sent(model, shards)
            free.put(stack.enter_context(contextlib.closing(_Scorer(shards, scored))))
        ahead = stack.enter_context(
            contextlib.closing(prefetch(_jobs(len(shards.group_rows)), told, tasks=tasks, workers=count))
        )
        for _, of_groups in ahead:
            total = sum(of_groups, start=total)  # in their order, so that no number of threads changes a bit
            yield total
    if total.rows != shards.rows:
        raise DataError(f"{shards.folder}: saw {total.rows} rows, the manifest has {shards.rows}")


def _jobs(groups: int) -> Iterator[range]:
    """The row groups in runs, short ones at the end, lest one thread has many left while the other has none."""
    at = 0
    while left := groups - at:
        size = max(1, min(_GROUPS, left // (2 * EVALUATION.threads)))
        yield range(at, at + size)
        at += size


class _Scorer:
    """Evaluates row groups one by one; a shard stays open from one to the next of its own."""

    def __init__(self, shards: Shards, scored: Callable[[Block], Evaluation]) -> None:
        self._asked: deque[int] = deque()
        self._blocks = shards.blocks(iter(self._asked.popleft, None), lines=False)
        self._scored = scored

    def __call__(self, group: int) -> Evaluation:
        self._asked.append(group)
        return self._scored(next(self._blocks))

    def close(self) -> None:
        """Give the shard back."""
        self._blocks.close()


def _scored(model: MLP, shards: Shards) -> Callable[[Block], Evaluation]:
    """What evaluates blocks, in buffers that are made once."""
    forward, most = bind_first_layer(shards, model)
    most = min(most, int(shards.group_rows.max()))
    room = _room(model, max(most, _LEAST))
    logits, labels = torch.zeros(most, model.classes), np.zeros(most, np.int64)

    @functools.lru_cache(maxsize=8)  # the parts of a shard have few lengths
    def prepared(rows: int) -> tuple[Callable[[Array], object], list[Call], Callable[[], Evaluation]]:
        z = [z[: max(rows, _LEAST)] for z in room]
        calls: list[Call] = [*bind_upper_layers(model, z, threads=1), partial(logits[:rows].copy_, z[-1][:rows])]
        return forward(z[0]), calls, bind_evaluation(logits[:rows].numpy(), labels[:rows])

    def scored(part: Block) -> Evaluation:
        first, calls, evaluation = prepared(len(part))
        first(part.pixels)
        labels[: len(part)] = part.labels
        for call in calls:
            call()
        return evaluation()

    return lambda block: functools.reduce(operator.add, map(scored, _parts(block, most)))


def _room(model: MLP, rows: int) -> list[Tensor]:
    """For z (rows, units) of each layer; all but the first lie by columns, which halves a product of few units."""
    first, *outs = *model.hidden, model.classes
    return [padded_zeros(rows, first), *(torch.zeros(units, rows).T for units in outs)]


def _parts(block: Block, most: int) -> Iterable[Block]:
    """The block in parts as long as each other, of up to so many rows."""
    count = -(-len(block) // most)
    size = -(-len(block) // count)
    return [block] if count == 1 else (block.take(slice(at, at + size)) for at in range(0, len(block), size))


def _sent(model: MLP, shards: Shards) -> Callable[[Block], Evaluation]:
    """The same by the plain formulas on the model's device."""

    def scored(block: Block) -> Evaluation:
        logits, _ = model.forward(to_tensor(block.pixels, scale=shards.schema.scale, to=model.device))
        return Evaluation.of(logits.cpu().numpy(), block.labels)

    return scored
