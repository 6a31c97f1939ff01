"""A model and blocks of pixels → the class of each row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from streamtrain.block import Array, Block
from streamtrain.engine.dense import one_thread
from streamtrain.errors import DataError
from streamtrain.nn.functional import softmax
from streamtrain.stream.batches import normalise
from streamtrain.train.checkpoint import Checkpoint

_ROWS = 1024  # at a time


@dataclass(frozen=True)
class Predictions:
    """For the rows of a block: `labels` (rows,) class indices and `probs` (rows, classes) float32."""

    labels: Array
    probs: Array

    @property
    def confidence(self) -> Array:
        """The probability of the predicted class, (rows,) float32."""
        return np.asarray(self.probs.max(axis=1))


def predict(checkpoint: Checkpoint, blocks: Iterable[Block]) -> Iterator[Predictions]:
    """Predict every row of each block in order, normalised as in training; up to 1,024 rows at a time.

    Raises DataError for rows of another width than the model reads.
    """
    model, schema = checkpoint.model, checkpoint.schema
    for block in blocks:
        if block.pixels.shape[1] != model.features:
            raise DataError(f"a row has {block.pixels.shape[1]} pixels, the model reads {model.features}")
        for start in range(0, len(block), _ROWS):
            pixels = block.pixels[start : start + _ROWS]
            with one_thread():
                x = normalise(pixels, schema, out=torch.empty(pixels.shape))
                probs = softmax(model.forward(x)[0])
            yield Predictions(probs.argmax(1).numpy(), probs.numpy())
