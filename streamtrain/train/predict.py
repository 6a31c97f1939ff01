"""A model and rows of pixels → the class of each row."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from streamtrain.block import Array, Block
from streamtrain.engine.dense import one_thread
from streamtrain.errors import DataError
from streamtrain.nn.functional import softmax
from streamtrain.nn.mlp import MLP
from streamtrain.schema import Schema
from streamtrain.shards.fractions import quotients
from streamtrain.storage.objects import Location, location
from streamtrain.storage.ownership import MANIFEST
from streamtrain.stream.batches import normalise
from streamtrain.stream.dataset import Shards, open_shards
from streamtrain.train.compatibility import DataSummary, check, pixel_names
from streamtrain.train.inputs import Model, open_model, schema_of

_ROWS = 1024  # at a time


@dataclass(frozen=True, eq=False)
class Predictions:
    """The predictions for some rows, in their order; `len()` is how many.

    labels: (rows,) int64, class indices
    probs: (rows, classes) float32, the probability of each class
    """

    labels: Array
    probs: Array

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"Predictions({len(self)} rows, {self.probs.shape[1]} classes)"

    @property
    def confidence(self) -> Array:
        """Return the probability of the predicted class, (rows,) float32."""
        return np.asarray(self.probs.max(axis=1))


def predict(model: Model, data: Shards | str | os.PathLike[str] | Iterable[Block]) -> Iterator[Predictions]:
    """Predict every row in order, normalised as in training; yield up to 1,024 rows at a time.

    model: a trained model, a checkpoint, or the path of a run
    data: shards, the path of their folder or of a CSV with or without labels, or blocks, whose pixels are as in
        the source of the training data or, if they are integers, as its shards store them
    Warns if the data is unlike that of training. Raises DataError, for rows of another width than the model reads,
    values on another scale, a bad row of a CSV, or a model that was not trained.
    """
    net = open_model(model)
    schema = schema_of(net)
    if isinstance(data, str | os.PathLike) and _are_shards(location(data)):
        data = open_shards(location(data))
    if isinstance(data, Shards):
        blocks, where = _checked(net, data), str(data.folder)
        schema = schema.stored_as(data.schema.dtype, data.schema.denominator)
        return (part for block in blocks for part in _predict(net, schema, block, where))
    if isinstance(data, str | os.PathLike):
        blocks, where = _check_first(net, _csv_blocks(location(data), schema), str(data)), str(data)
    else:
        given = ((_as_in_source(block, schema), ()) for block in data)
        blocks, where = _check_first(net, given, "the data"), "the data"
    return (part for block in blocks for part in _predict(net, schema.of_source, block, where))


def _are_shards(place: Location) -> bool:
    return place.is_dir() if isinstance(place, Path) else (place / MANIFEST).exists()


def predict_block(model: MLP, schema: Schema, block: Block) -> Iterator[Predictions]:
    """Predict rows as the source has them without comparing them with the training data; see `predict`."""
    return _predict(model, schema.of_source, block, "the data")


def _as_in_source(block: Block, schema: Schema) -> Block:
    if schema.denominator == 1 or block.pixels.dtype.kind == "f":
        return block
    return Block(quotients(block.pixels, schema.denominator), block.labels, block.lines)


def _predict(model: MLP, schema: Schema, block: Block, where: str) -> Iterator[Predictions]:
    if block.pixels.shape[1] != model.features:
        raise DataError(f"{where}: a row has {block.pixels.shape[1]} pixels, but the model takes {model.features}")
    for start in range(0, len(block), _ROWS):
        pixels = block.pixels[start : start + _ROWS]
        with one_thread():
            x = normalise(pixels, schema, out=torch.empty(pixels.shape, dtype=torch.float32))
            probs = softmax(model.forward(x.to(model.device))[0]).cpu()
        yield Predictions(probs.argmax(1).numpy(), probs.numpy())


def _checked(model: MLP, shards: Shards) -> Iterator[Block]:
    if shards.schema.features == model.features:
        _warn(check(model, DataSummary.of(shards), where=str(shards.folder)))
    return shards.blocks(lines=False)


def _check_first(model: MLP, blocks: Iterator[tuple[Block, tuple[str, ...]]], where: str) -> Iterator[Block]:
    """Return the blocks; the first, and the names of the pixels with it, are compared with the training data."""
    block, names = next(blocks, (None, ()))
    if block is None:
        return iter(())
    if len(block) and block.pixels.shape[1] == model.features:
        _warn(check(model, DataSummary.of_block(block, names), where=where))
    return chain([block], (block for block, _ in blocks))


def _csv_blocks(path: Location, schema: Schema) -> Iterator[tuple[Block, tuple[str, ...]]]:
    from streamtrain.convert.rows import iter_rows

    for rows in iter_rows(path, features=schema.features):
        if rows.bad:
            bad = rows.bad[0]
            raise DataError(f"{bad.path}:{bad.file_line}: {bad.what}", path=bad.path, line=bad.file_line)
        yield rows.block, pixel_names(rows.parse, schema.features)


def _warn(texts: Iterable[str]) -> None:
    for text in texts:
        warnings.warn(text, stacklevel=4)
