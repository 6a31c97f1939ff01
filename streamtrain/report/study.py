"""One pass over a test set: what a model gets right, how sure it is, and which rows it misreads."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch

from streamtrain.block import Array, Block
from streamtrain.learn.checkpoint import Checkpoint
from streamtrain.learn.evaluate import one_thread
from streamtrain.learn.functional import cross_entropy_gradient, softmax
from streamtrain.stream.pipeline import normalise
from streamtrain.stream.store import Shards
from streamtrain.tally import Evaluation

BINS = 10


class Mistake(NamedTuple):
    """A misread row; compared by confidence, then by line, so that the pick depends on no order."""

    confidence: float
    line: int
    true: int
    said: int
    pixels: bytes


@dataclass
class Study:
    """What the pass gathers, in memory that does not grow with the rows.

    evaluation: loss and confusion; bins: (3, BINS) float64, of the rows whose confidence falls into each tenth of
    0..1 their number, the sum of their confidences, and how many are right
    worst: the most confident mistakes; cells: those of each (true, predicted) pair; most confident first
    """

    evaluation: Evaluation
    bins: Array = field(default_factory=lambda: np.zeros((3, BINS)))
    worst: list[Mistake] = field(default_factory=list)
    cells: dict[tuple[int, int], list[Mistake]] = field(default_factory=dict)

    @property
    def calibration_error(self) -> float:
        """Mean over rows of |accuracy − confidence| of their bin (Naeini, Cooper and Hauskrecht 2015)."""
        _, confidence, right = self.bins
        return float(np.abs(right - confidence).sum() / max(self.evaluation.rows, 1))


def study(checkpoint: Checkpoint, shards: Shards, *, worst: int, each_cell: int) -> Study:
    """Pass over `shards`, read with the meaning of the checkpoint, and keep so many mistakes in all and a cell."""
    found = Study(Evaluation.empty(checkpoint.model.classes))
    for block in shards.blocks():
        _take(found, checkpoint, shards, block, worst=worst, each_cell=each_cell)
    found.worst.sort(reverse=True)
    for cell in found.cells.values():
        cell.sort(reverse=True)
    return found


def _take(
    found: Study, checkpoint: Checkpoint, shards: Shards, block: Block, *, worst: int, each_cell: int
) -> None:
    labels = block.labels.astype(np.int64)
    with one_thread():
        x = normalise(block.pixels, shards.schema, out=torch.empty(block.pixels.shape))
        logits, _ = checkpoint.model.forward(x)
        losses, _ = cross_entropy_gradient(logits, torch.from_numpy(labels))
        probs = softmax(logits).numpy()
    said, confidence = probs.argmax(axis=1), probs.max(axis=1).astype(np.float64)
    found.evaluation += Evaluation.of(losses.numpy(), said, labels, classes=checkpoint.model.classes)
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    for row, weights in enumerate((None, confidence, said == labels)):
        found.bins[row] += np.bincount(place, weights, minlength=BINS)
    for at in np.flatnonzero(said != labels).tolist():
        mistake = Mistake(
            float(confidence[at]), int(block.lines[at]), int(labels[at]), int(said[at]), block.pixels[at].tobytes()
        )
        _keep(found.worst, mistake, worst)
        _keep(found.cells.setdefault((mistake.true, mistake.said), []), mistake, each_cell)


def _keep(heap: list[Mistake], mistake: Mistake, most: int) -> None:
    """Add to a heap of the `most` most confident mistakes."""
    if len(heap) < most:
        heapq.heappush(heap, mistake)
    elif heap:
        heapq.heappushpop(heap, mistake)
