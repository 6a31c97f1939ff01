"""Digit CSV of any size → Parquet shards → shuffled minibatches → an MLP with hand-written gradients."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamtrain.ingest.convert import convert
    from streamtrain.learn.checkpoint import load
    from streamtrain.learn.evaluate import evaluate
    from streamtrain.learn.fit import fit
    from streamtrain.learn.mlp import MLP
    from streamtrain.learn.predict import predict
    from streamtrain.stream.store import open_shards

__version__ = "0.1.0"

_PUBLIC = {
    "convert": "streamtrain.ingest.convert",
    "open_shards": "streamtrain.stream.store",
    "MLP": "streamtrain.learn.mlp",
    "fit": "streamtrain.learn.fit",
    "evaluate": "streamtrain.learn.evaluate",
    "predict": "streamtrain.learn.predict",
    "load": "streamtrain.learn.checkpoint",
}
__all__ = ["MLP", "convert", "evaluate", "fit", "load", "open_shards", "predict"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `import streamtrain` stays light."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'streamtrain' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value
