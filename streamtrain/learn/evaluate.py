"""What a model gets right over a whole data set, as a streaming aggregate."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import torch

from streamtrain.block import Block
from streamtrain.budget import EVALUATED_ROWS
from streamtrain.errors import DataError
from streamtrain.learn.mlp import MLP
from streamtrain.learn.team import Team, pieces, team
from streamtrain.stream.pipeline import normalise
from streamtrain.stream.store import Shards
from streamtrain.tally import Evaluation

_PART = EVALUATED_ROWS  # of a row group are normalised at a time
_ROWS = 256  # of a piece, at most
_LEAST = 128  # rows of a product: for few the library takes other kernels, whose sums end in other bits


def evaluate(model: MLP, shards: Shards) -> Evaluation:
    """What the model gets right over every row of `shards`, each counted once, a row group in memory at a time.

    Raises DataError where rows are of another width than the model reads, have no labels, or where not every
    row of the manifest was seen.
    """
    with team() as crew:
        (total,) = deque(evaluating(model, shards, crew), maxlen=1)
    return total


def evaluating(model: MLP, shards: Shards, crew: Team) -> Iterator[Evaluation]:
    """Yield the evaluation of the rows so far after each row group, that of all rows last."""
    if shards.schema.features != model.features or len(shards.schema.classes) != model.classes:
        raise DataError(
            f"{shards.folder} has {shards.schema.features} pixels and {len(shards.schema.classes)} classes, the "
            f"model {model.features} and {model.classes}. Evaluate data of the same kind"
        )
    return _evaluating(model, shards, crew)


def _evaluating(model: MLP, shards: Shards, crew: Team) -> Iterator[Evaluation]:
    total = Evaluation.empty(model.classes)
    x, log_probs = torch.zeros(_PART, model.features), torch.zeros(_PART, model.classes)

    def score(piece: tuple[Block, slice]) -> None:
        block, rows = piece
        normalise(block.pixels[rows], shards.schema, out=x[rows])
        enough = slice(rows.start, max(rows.stop, _LEAST))  # a short piece is the only one of its part
        log_probs[enough] = torch.log_softmax(model.forward(x[enough])[0], 1)

    for block in shards.blocks():
        for at in range(0, len(block), _PART):
            part = block.take(slice(at, at + _PART))
            crew.each(score, [(part, rows) for rows in pieces(len(part), _ROWS)])
            total += Evaluation.of(log_probs[: len(part)].numpy(), part.labels)
        del block, part  # or they would stay in memory while the next is decoded
        yield total
    if total.rows != shards.rows:
        raise DataError(f"{shards.folder}: saw {total.rows} rows, the manifest has {shards.rows}")
