"""One pass over a test set: the evaluation of a model, and its most confident mistakes."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch

from streamtrain.block import Block
from streamtrain.engine.dense import one_thread
from streamtrain.metrics.evaluation import Evaluation
from streamtrain.stream.batches import normalise
from streamtrain.stream.dataset import Shards
from streamtrain.train.checkpoint import Checkpoint


class Mistake(NamedTuple):
    """A row with the wrong prediction. Mistakes sort by confidence, then line, so the choice does not vary."""

    confidence: float
    line: int
    true: int
    predicted: int
    pixels: bytes


@dataclass
class ErrorAnalysis:
    """The result of the pass, in memory that does not grow with the rows.

    worst: the most confident mistakes; cells: those of each pair (true, predicted); the most confident first
    """

    evaluation: Evaluation
    worst: list[Mistake] = field(default_factory=list)
    cells: dict[tuple[int, int], list[Mistake]] = field(default_factory=dict)


def iter_error_analysis(
    checkpoint: Checkpoint, shards: Shards, *, worst: int, each_cell: int
) -> Iterator[ErrorAnalysis]:
    """Evaluate a checkpoint on `shards`, which have its schema, and keep its most confident mistakes.

    worst, each_cell: how many mistakes to keep in all, and for each pair (true, predicted); 0 for none by pair
    Yields the same object after each row group, and once more at the end with its mistakes sorted.
    """
    found = ErrorAnalysis(Evaluation.empty(checkpoint.model.classes))
    for block in shards.blocks():
        _add(found, checkpoint, shards, block, worst=worst, each_cell=each_cell)
        yield found
    found.worst.sort(reverse=True)
    for cell in found.cells.values():
        cell.sort(reverse=True)
    yield found


def _add(
    found: ErrorAnalysis, checkpoint: Checkpoint, shards: Shards, block: Block, *, worst: int, each_cell: int
) -> None:
    with one_thread():
        x = normalise(block.pixels, shards.schema, out=torch.empty(block.pixels.shape))
        log_probs = torch.log_softmax(checkpoint.model.forward(x)[0], 1).numpy()
    found.evaluation += Evaluation.of(log_probs, block.labels)
    predicted, confidence = log_probs.argmax(axis=1), np.exp(log_probs.max(axis=1).astype(np.float64))
    for at in np.flatnonzero(predicted != block.labels).tolist():
        true, line = int(block.labels[at]), int(block.lines[at])
        mistake = Mistake(float(confidence[at]), line, true, int(predicted[at]), block.pixels[at].tobytes())
        _keep(found.worst, mistake, worst)
        if each_cell:
            _keep(found.cells.setdefault((mistake.true, mistake.predicted), []), mistake, each_cell)


def keep_within(found: ErrorAnalysis, room: float, *, picture: float, cell: float) -> None:
    """Drop mistakes, the least confident of each cell first, until the rest fits in `room` on a page.

    picture, cell: the size of a mistake, and of a cell without its mistakes, in the unit of `room`
    If not even one mistake of each cell fits, the cells with the most rows are kept.
    """
    most = max(map(len, found.cells.values()), default=0)
    fits = [
        n for n in range(1, most + 1) if room >= sum(cell + picture * min(n, len(c)) for c in found.cells.values())
    ]
    counts = found.evaluation.counts.by_pair()
    order = sorted(found.cells, key=lambda pair: (-counts[pair], pair))
    kept = order if fits else order[: max(int(room / (cell + picture)), 0)]
    found.cells = {pair: found.cells[pair][: max(fits, default=1)] for pair in kept}


def _keep(heap: list[Mistake], mistake: Mistake, most: int) -> None:
    """Add to a heap that keeps the `most` most confident mistakes."""
    if len(heap) < most:
        heapq.heappush(heap, mistake)
    elif heap:
        heapq.heappushpop(heap, mistake)
