"""The evaluation of a model on a whole data set, as a streaming aggregate."""

from __future__ import annotations

import contextlib
import functools
import operator
import warnings
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
from streamtrain.engine.native_step import bind_logits, computes_natively
from streamtrain.engine.sparse import EVALUATION, bind_first_layer, padded_zeros
from streamtrain.engine.step import bind_upper_layers
from streamtrain.errors import DataError
from streamtrain.metrics.evaluation import Evaluation, bind_evaluation
from streamtrain.nn.mlp import MLP
from streamtrain.stream.dataset import Shards
from streamtrain.stream.prefetch import Task, prefetch
from streamtrain.train.compatibility import read_as_learned
from streamtrain.train.inputs import Data, Model, open_data, open_model

_GROUPS = 4  # row groups that a thread scores before it hands over
_MIN_ROWS = 128  # rows of a product: for fewer, BLAS picks another kernel, which rounds differently


def evaluate(model: Model, data: Data) -> Evaluation:
    """Return what a model gets right over every row, each counted once, with two row groups in memory at a time.

    model: a model, a checkpoint, or the path of a run
    data: shards, the path of their folder, or of a CSV, which is converted to CSV.shards first; they are read with
    the classes and the range that the model learned
    Warns if the data is unlike that of training. Raises DataError if it cannot be read as that of training, or if
    not every row of the manifest was seen.
    """
    net = open_model(model)
    shards, notes = read_as_learned(net, open_data(data))
    for text in notes:
        warnings.warn(text, stacklevel=2)
    with one_thread() as threads:
        (total,) = deque(iter_evaluate(net, shards, threads), maxlen=1)
    return total


def iter_evaluate(model: MLP, shards: Shards, threads: int) -> Iterator[Evaluation]:
    """Yield the evaluation of the rows so far, a few row groups at a time, that of all rows last.

    threads: how many threads score row groups (at most 2). Torch itself must be limited to one, by `one_thread`.
    """
    if shards.schema.features != model.features or len(shards.schema.classes) != model.classes:
        raise DataError(
            f"{shards.folder} has {shards.schema.features} pixels and {len(shards.schema.classes)} classes, but "
            f"the model takes {model.features} and has {model.classes}. Evaluate data of the same kind",
            path=shards.folder,
        )
    return _iter_evaluate(model, shards, threads)


def _iter_evaluate(model: MLP, shards: Shards, threads: int) -> Iterator[Evaluation]:
    total = Evaluation.empty(model.classes)
    on_cpu, native = model.device.type == "cpu", computes_natively(shards, model)
    count = min(threads, EVALUATION.threads) if on_cpu else 1
    free: SimpleQueue[_Scorer] = SimpleQueue()

    def score(groups: Sequence[int], results: list[Evaluation]) -> None:
        torch.set_num_threads(1)  # of this thread
        scorer = free.get()
        try:
            results[:] = map(scorer, groups)
        finally:
            free.put(scorer)

    def tasks(groups: Sequence[int], results: list[Evaluation]) -> list[Task]:
        return [partial(score, groups, results)]

    results: list[list[Evaluation]] = [[] for _ in range(2 * count)]
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            bind = _bind_device_scorer if not on_cpu else _bind_native_scorer if native else _bind_cpu_scorer
            free.put(stack.enter_context(contextlib.closing(_Scorer(shards, bind(model, shards)))))
        scored = stack.enter_context(
            contextlib.closing(prefetch(_jobs(len(shards.group_rows)), results, tasks=tasks, workers=count))
        )
        for _, of_groups in scored:
            total = sum(of_groups, start=total)  # in their order, so that no number of threads changes a bit
            yield total
    if total.rows != shards.rows:
        raise DataError(f"{shards.folder}: saw {total.rows} rows, the manifest has {shards.rows}")


def _jobs(groups: int) -> Iterator[range]:
    """Split the row groups into jobs, smaller towards the end, so that both threads finish together."""
    at = 0
    while left := groups - at:
        size = max(1, min(_GROUPS, left // (2 * EVALUATION.threads)))
        yield range(at, at + size)
        at += size


class _Scorer:
    """Evaluates row groups one by one; a shard stays open from one of its row groups to the next."""

    def __init__(self, shards: Shards, score: Callable[[Block], Evaluation]) -> None:
        self._asked: deque[int] = deque()
        self._blocks = shards.blocks(iter(self._asked.popleft, None), lines=False)
        self._score = score

    def __call__(self, group: int) -> Evaluation:
        self._asked.append(group)
        return self._score(next(self._blocks))

    def close(self) -> None:
        """Close the shard."""
        self._blocks.close()


def _bind_native_scorer(model: MLP, shards: Shards) -> Callable[[Block], Evaluation]:
    """Return a function that evaluates blocks by calls of C, in buffers that are made once."""
    most = int(shards.group_rows.max())
    compute, logits = bind_logits(shards, model, most)
    labels = np.zeros(most, np.int64)

    @functools.lru_cache(maxsize=8)  # the row groups have few lengths
    def bind(rows: int) -> Callable[[], Evaluation]:
        return bind_evaluation(logits[:rows], labels[:rows], model.classes)

    def score(block: Block) -> Evaluation:
        compute(block.pixels)
        labels[: len(block)] = block.labels
        return bind(len(block))()

    return score


def _bind_cpu_scorer(model: MLP, shards: Shards) -> Callable[[Block], Evaluation]:
    """Return a function that evaluates blocks, in buffers that are made once."""
    bind_first, most = bind_first_layer(shards, model)
    most = min(most, int(shards.group_rows.max()))
    buffers = _buffers(model, max(most, _MIN_ROWS))
    logits = torch.zeros(most, model.classes, dtype=torch.float32)
    labels = np.zeros(most, np.int64)

    @functools.lru_cache(maxsize=8)  # the parts of a shard have few lengths
    def bind(rows: int) -> tuple[Callable[[Array], object], list[Call], Callable[[], Evaluation]]:
        z = [z[: max(rows, _MIN_ROWS)] for z in buffers]
        calls: list[Call] = [*bind_upper_layers(model, z, threads=1), partial(logits[:rows].copy_, z[-1][:rows])]
        return bind_first(z[0]), calls, bind_evaluation(logits[:rows].numpy(), labels[:rows])

    def score(part: Block) -> Evaluation:
        first, calls, evaluation = bind(len(part))
        first(part.pixels)
        labels[: len(part)] = part.labels
        for call in calls:
            call()
        return evaluation()

    return lambda block: functools.reduce(operator.add, map(score, _parts(block, most)))


def _buffers(model: MLP, rows: int) -> list[Tensor]:
    """Return zeros for z (rows, units) of each layer.

    All but the first lie by columns, which halves the time of a product with few units.
    """
    first, *outs = *model.hidden, model.classes
    return [padded_zeros(rows, first), *(torch.zeros(units, rows, dtype=torch.float32).T for units in outs)]


def _parts(block: Block, most: int) -> Iterable[Block]:
    """Split a block into parts of equal length, of up to `most` rows."""
    count = -(-len(block) // most)
    size = -(-len(block) // count)
    return [block] if count == 1 else (block.take(slice(at, at + size)) for at in range(0, len(block), size))


def _bind_device_scorer(model: MLP, shards: Shards) -> Callable[[Block], Evaluation]:
    """Return a function that evaluates blocks on the model's device, by the plain formulas."""

    def score(block: Block) -> Evaluation:
        logits, _ = model.forward(to_tensor(block.pixels, scale=shards.schema.scale, to=model.device))
        return Evaluation.of(logits.cpu().numpy(), block.labels)

    return score
