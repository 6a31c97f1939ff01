"""One safetensors file: the weights and everything needed to use or to continue them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from streamtrain.errors import RunError
from streamtrain.files import write_file
from streamtrain.learn.fit import Progress
from streamtrain.learn.mlp import MLP
from streamtrain.schema import Schema
from streamtrain.stream.order import Cursor

LAST, PREVIOUS, BEST = "last.safetensors", "previous.safetensors", "best.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A model with what its pixels and classes mean, how it was trained, and how far."""

    model: MLP
    schema: Schema
    recipe: Mapping[str, Any]
    progress: Progress
    manifest_digest: str

    def save(self, path: Path) -> None:
        """Publish it whole at `path`."""
        state = self.model.state_dict()
        metadata = {
            "recipe": json.dumps(dict(self.recipe)),
            "schema": json.dumps(self.schema.to_json()),
            "progress": json.dumps(self.progress._asdict()),
            "manifest_digest": self.manifest_digest,
            "weights_sha256": weights_sha256(state),
        }
        write_file(path, safetensors.torch.save(state, metadata | {"metadata_sha256": _sha256(metadata)}))


def load_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint in a file. Raises RunError where it is missing or a byte of it is damaged."""
    if not path.exists():
        raise RunError(f"{path} is missing. Name the folder of a run, as made by streamtrain train DATA --out RUN")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state: dict[str, torch.Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
        if metadata.pop("metadata_sha256") != _sha256(metadata):
            raise ValueError("its metadata do not match their digest")
        if weights_sha256(state) != metadata["weights_sha256"]:
            raise ValueError("its weights do not match their digest")
        if not all(bool(tensor.isfinite().all()) for tensor in state.values()):
            raise ValueError("a weight is not finite")
        schema = Schema.from_json(json.loads(metadata["schema"]))
        model = MLP.from_state_dict(state)
        if (model.features, model.classes) != (schema.features, len(schema.classes)):
            raise ValueError("its layers do not fit its schema")
        progress = json.loads(metadata["progress"])
        return Checkpoint(
            model=model,
            schema=schema,
            recipe=json.loads(metadata["recipe"]),
            progress=Progress(**progress | {"cursor": Cursor(*progress["cursor"])}),
            manifest_digest=metadata["manifest_digest"],
        )
    except (SafetensorError, ValueError, KeyError, TypeError, OSError) as error:
        raise RunError(f"{path} is damaged: {error}. Use an earlier checkpoint, or train again") from error


def load(run: str | Path) -> Checkpoint:
    """The model of a run folder, its best where one was chosen, else its last; or of a checkpoint file."""
    path = Path(run)
    if path.is_dir() or not path.exists():
        path = path / (BEST if (path / BEST).exists() else LAST)
    return load_checkpoint(path)


def weights_sha256(state: Mapping[str, torch.Tensor]) -> str:
    """sha256 of the tensors' bytes in name order, hexadecimal."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(state[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def _sha256(metadata: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(metadata, sort_keys=True).encode()).hexdigest()
