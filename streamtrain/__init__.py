"""Digit CSV of any size → Parquet shards → shuffled minibatches → an MLP with hand-written gradients."""

# ruff: noqa: E402  # where modules are imported from is settled before anything else is imported
from __future__ import annotations

from streamtrain.import_path import leave_if_run_as_module

leave_if_run_as_module()

import importlib
from typing import TYPE_CHECKING, Any

from streamtrain._version import __version__ as __version__
from streamtrain.convert import convert  # now, or the folder of that name would take its place
from streamtrain.errors import CorruptShardError, DataError, RunError, StreamtrainError, UsageError

if TYPE_CHECKING:
    from streamtrain.adapters.torch_dataset import ShardDataset
    from streamtrain.block import Block
    from streamtrain.convert.options import ConvertOptions
    from streamtrain.convert.pipeline import Conversion
    from streamtrain.metrics.evaluation import Evaluation
    from streamtrain.nn.mlp import MLP
    from streamtrain.schema import Schema
    from streamtrain.shards.build import write_shards
    from streamtrain.shards.shuffle import shuffle
    from streamtrain.shards.verify import verify
    from streamtrain.stream.augment import Augmentation
    from streamtrain.stream.batches import Minibatch
    from streamtrain.stream.dataset import Shards, open_shards
    from streamtrain.stream.order import Cursor
    from streamtrain.train.checkpoint import Checkpoint, load, save
    from streamtrain.train.config import TrainConfig
    from streamtrain.train.evaluate import evaluate
    from streamtrain.train.fit import fit, iter_fit
    from streamtrain.train.predict import Predictions, predict
    from streamtrain.train.progress import EpochReport, Evaluating, Progress
    from streamtrain.train.resume import resume_fit

__all__ = [
    "MLP",
    "Augmentation",
    "Block",
    "Checkpoint",
    "Conversion",
    "ConvertOptions",
    "CorruptShardError",
    "Cursor",
    "DataError",
    "EpochReport",
    "Evaluating",
    "Evaluation",
    "Minibatch",
    "Predictions",
    "Progress",
    "RunError",
    "Schema",
    "ShardDataset",
    "Shards",
    "StreamtrainError",
    "TrainConfig",
    "UsageError",
    "convert",
    "evaluate",
    "fit",
    "iter_fit",
    "load",
    "open_shards",
    "predict",
    "resume_fit",
    "save",
    "shuffle",
    "verify",
    "write_shards",
]

# The modules of the names above that are imported when they are first used.
_MODULES = {
    "streamtrain.adapters.torch_dataset": ("ShardDataset",),
    "streamtrain.block": ("Block",),
    "streamtrain.convert.options": ("ConvertOptions",),
    "streamtrain.convert.pipeline": ("Conversion",),
    "streamtrain.metrics.evaluation": ("Evaluation",),
    "streamtrain.nn.mlp": ("MLP",),
    "streamtrain.schema": ("Schema",),
    "streamtrain.shards.build": ("write_shards",),
    "streamtrain.shards.shuffle": ("shuffle",),
    "streamtrain.shards.verify": ("verify",),
    "streamtrain.stream.augment": ("Augmentation",),
    "streamtrain.stream.batches": ("Minibatch",),
    "streamtrain.stream.dataset": ("Shards", "open_shards"),
    "streamtrain.stream.order": ("Cursor",),
    "streamtrain.train.checkpoint": ("Checkpoint", "load", "save"),
    "streamtrain.train.config": ("TrainConfig",),
    "streamtrain.train.evaluate": ("evaluate",),
    "streamtrain.train.fit": ("fit", "iter_fit"),
    "streamtrain.train.predict": ("Predictions", "predict"),
    "streamtrain.train.progress": ("EpochReport", "Evaluating", "Progress"),
    "streamtrain.train.resume": ("resume_fit",),
}
_LAZY = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `import streamtrain` stays light."""
    if name not in _LAZY:
        raise AttributeError(f"module 'streamtrain' has no attribute {name!r}")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, imported or not."""
    return [*__all__, "__version__"]
