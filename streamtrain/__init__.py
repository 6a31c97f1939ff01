"""Digit CSV of any size → Parquet shards → shuffled minibatches → an MLP with hand-written gradients."""

# ruff: noqa: E402  # what is imported from is settled before anything is
from __future__ import annotations

from streamtrain.import_path import leave_if_run_as_module

leave_if_run_as_module()

import importlib
from typing import TYPE_CHECKING, Any

from streamtrain._version import __version__ as __version__
from streamtrain.convert import convert  # at once: the folder of that name would take its place

if TYPE_CHECKING:
    from streamtrain.nn.mlp import MLP
    from streamtrain.stream.dataset import open_shards
    from streamtrain.train.checkpoint import load
    from streamtrain.train.evaluate import evaluate
    from streamtrain.train.fit import fit
    from streamtrain.train.predict import predict

_PUBLIC = {
    "open_shards": "streamtrain.stream.dataset",
    "MLP": "streamtrain.nn.mlp",
    "fit": "streamtrain.train.fit",
    "evaluate": "streamtrain.train.evaluate",
    "predict": "streamtrain.train.predict",
    "load": "streamtrain.train.checkpoint",
}
__all__ = ["MLP", "convert", "evaluate", "fit", "load", "open_shards", "predict"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `import streamtrain` stays light."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'streamtrain' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value
