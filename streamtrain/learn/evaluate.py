"""What a model gets right over a whole data set, as a streaming aggregate."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue

import numpy as np
import torch
from torch import Tensor

from streamtrain.block import Block
from streamtrain.budget import SCORERS
from streamtrain.errors import DataError
from streamtrain.learn.device import read
from streamtrain.learn.mlp import MLP
from streamtrain.learn.products import Call, one_thread
from streamtrain.learn.sparse import forward_of, laid_out
from streamtrain.learn.step import onward
from streamtrain.stream.store import Shards
from streamtrain.tally import Evaluation, evaluator

Scorer = Callable[[Block], Evaluation]

_GROUPS = 4  # that one takes at a time, for to open a shard takes a tenth of their time
_LEAST = 128  # rows of a product: for few the library takes other kernels, whose sums end in other bits


def evaluate(model: MLP, shards: Shards) -> Evaluation:
    """What the model gets right over every row of `shards`, each counted once, two row groups in memory at a time.

    Raises DataError where rows are of another width than the model reads, have no labels, or where not every
    row of the manifest was seen.
    """
    with one_thread() as threads:
        (total,) = deque(evaluating(model, shards, threads), maxlen=1)
    return total


def evaluating(model: MLP, shards: Shards, threads: int) -> Iterator[Evaluation]:
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
    empty = total = Evaluation.empty(model.classes)
    here = model.device.type == "cpu"
    count = min(threads, SCORERS) if here else 1
    free: SimpleQueue[Scorer] = SimpleQueue()
    for _ in range(count):
        free.put(_scorer(model, shards) if here else _sent(model, shards))

    def scored(groups: Sequence[int]) -> Evaluation:
        scorer = free.get()
        try:
            return sum(map(scorer, shards.blocks(groups, lines=False)), start=empty)
        finally:
            free.put(scorer)

    groups = range(len(shards.groups))
    with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        # Added up in their order, so that no number of threads changes a bit.
        for some in pool.map(scored, (groups[at : at + _GROUPS] for at in groups[::_GROUPS])):
            total += some
            yield total
    if total.rows != shards.rows:
        raise DataError(f"{shards.folder}: saw {total.rows} rows, the manifest has {shards.rows}")


def _scorer(model: MLP, shards: Shards) -> Scorer:
    """What evaluates blocks, in buffers that are made once."""
    forward, most = forward_of(shards, model)
    most = min(most, int(shards.group_rows.max()))
    room = _room(model, max(most, _LEAST))
    logits, labels = torch.zeros(most, model.classes), np.zeros(most, np.int64)

    @functools.lru_cache(maxsize=8)  # the parts of a shard have few lengths
    def prepared(rows: int) -> tuple[list[Call], Callable[[], Evaluation]]:
        z = [z[: max(rows, _LEAST)] for z in room]
        calls: list[Call] = [*onward(model, z, threads=1), partial(logits[:rows].copy_, z[-1][:rows])]
        return calls, evaluator(logits[:rows].numpy(), labels[:rows])

    def scored(part: Block) -> Evaluation:
        calls, evaluation = prepared(len(part))
        forward(part.pixels, room[0][: max(len(part), _LEAST)])
        labels[: len(part)] = part.labels
        for call in calls:
            call()
        return evaluation()

    return lambda block: sum(map(scored, _parts(block, most)), start=Evaluation.empty(model.classes))


def _room(model: MLP, rows: int) -> list[Tensor]:
    """For z (rows, units) of each layer; all but the first lie by columns, which halves a product of few units."""
    first, *outs = *model.hidden, model.classes
    return [laid_out(rows, first), *(torch.zeros(units, rows).T for units in outs)]


def _parts(block: Block, most: int) -> Iterator[Block]:
    """The block in parts as long as each other, of up to so many rows."""
    size = -(-len(block) // -(-len(block) // most))
    return (block.take(slice(at, at + size)) for at in range(0, len(block), size))


def _sent(model: MLP, shards: Shards) -> Scorer:
    """The same by the plain formulas on the model's device."""

    def scored(block: Block) -> Evaluation:
        logits, _ = model.forward(read(block.pixels, scale=shards.schema.scale, to=model.device))
        return Evaluation.of(logits.cpu().numpy(), block.labels)

    return scored
