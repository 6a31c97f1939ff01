"""One safetensors file: the weights and everything needed to use them or to train them further."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import safetensors.torch
import torch
from safetensors import SafetensorError

from streamtrain.decode import PathText, Positive, convert, decode_json
from streamtrain.errors import RunError, UsageError
from streamtrain.nn.mlp import MLP, Gradients
from streamtrain.nn.optimizer import BUFFERS
from streamtrain.schema import Schema
from streamtrain.storage.names import given_path
from streamtrain.storage.ownership import BEST, LAST
from streamtrain.storage.publish import write_file
from streamtrain.train.compatibility import DataSummary
from streamtrain.train.early_stopping import NO_EPOCH, Best
from streamtrain.train.progress import Progress

# What a damaged file, or one of another program, makes its reader raise; ValueError if its values are not ours.
_UNREADABLE = (SafetensorError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, OSError)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model with what its pixels and classes mean, how it was trained, and how far.

    data_digest: the content digest of the training data; earlier versions wrote that of its whole manifest
    buffers: what the optimiser keeps, by name: (of the weight, of the bias) of each layer; only to train further
    best: the best epoch so far by the accuracy on validation data
    """

    model: MLP
    schema: Schema
    recipe: Mapping[str, Any]
    progress: Progress
    data_digest: str
    buffers: Mapping[str, Gradients] = field(default_factory=dict)
    best: Best = NO_EPOCH

    def __repr__(self) -> str:
        return f"Checkpoint({self.model!r}, epoch {self.progress.cursor.epoch})"

    @property
    def is_trained(self) -> bool:
        """Return whether the model has taken a step; a run has a checkpoint before the first."""
        return self.progress != Progress.at(1) or self.model.trained_on is not None

    @property
    def position(self) -> str:
        """Return how far the training of a run was, in words."""
        epoch, rows = self.progress.cursor
        if rows:
            return f"in epoch {epoch}, after {rows:,} rows"
        if epoch > 1:
            return f"after epoch {epoch - 1}"
        return "saved by a program" if self.is_trained else "before the first step"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Publish it whole at `path`."""
        parts = self.model.state_dict(), _named(self.buffers)
        state, kept = ({name: tensor.cpu().contiguous() for name, tensor in part.items()} for part in parts)
        learned = self.model.trained_on
        metadata = {
            "activation": self.model.activation,
            "recipe": json.dumps(dict(self.recipe)),
            "schema": json.dumps(self.schema.to_json()),
            "progress": json.dumps(self.progress._asdict()),
            "manifest_digest": self.data_digest,
            "weights_sha256": weights_sha256(state),
            "velocity_sha256": weights_sha256(kept),  # of all that the optimiser keeps
            "best": json.dumps(self.best),
        }
        if isinstance(learned, DataSummary):
            metadata["trained_on"] = json.dumps(learned.to_json())
        data = safetensors.torch.save(state | kept, metadata | {"metadata_sha256": _sha256(metadata)})
        write_file(Path(path), data)


def save(model: MLP, path: str | os.PathLike[str]) -> None:
    """Save a trained model with its activation, classes, names and range as a checkpoint file; `load` reads it.

    Raises UsageError if the model has not been trained.
    """
    if not isinstance(model.schema, Schema):
        raise UsageError("the model has no classes and pixel range yet: train it first")
    Checkpoint(model, model.schema, {}, Progress.at(1), "").save(path)


def load_checkpoint(path: Path) -> Checkpoint:
    """Return the checkpoint in a file. Raises RunError if it is missing or a byte of it is damaged."""
    if not path.exists():
        raise RunError(
            f"{path} is missing. Name the folder of a run, as made by streamtrain train DATA --out RUN", path=path
        )
    try:
        with safetensors.safe_open(path, framework="pt") as file, torch.inference_mode(False):
            metadata = file.metadata() or {}
            # A copy: the file's own memory is not aligned, and products of another alignment end in other bits.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118  # no mapping
        if metadata.pop("metadata_sha256", "") != _sha256(metadata):
            raise ValueError("its metadata do not match their digest")
        return _read(tensors, convert(metadata, _Metadata))
    except _UNREADABLE as error:
        raise _damaged(path, str(error)) from error


def load(run: str | os.PathLike[str]) -> Checkpoint:
    """Return the checkpoint of a run folder, its best if one was chosen, otherwise its last; or one in a file."""
    return load_checkpoint(checkpoint_file(run))


def checkpoint_file(run: str | os.PathLike[str]) -> Path:
    """Return the file that `load` reads."""
    path = given_path(run, "run")
    if path.is_dir() or not path.exists():
        path = path / (BEST if (path / BEST).exists() else LAST)
    return path


def weights_sha256(state: Mapping[str, torch.Tensor]) -> str:
    """Return the sha256 of the tensors' bytes in name order, hexadecimal."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(state[name].cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _read(tensors: Mapping[str, torch.Tensor], metadata: _Metadata) -> Checkpoint:
    """Return the checkpoint that these make up. Raises one of the errors above if they do not."""
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32:
            raise ValueError(f"{name} is {tensor.dtype}, not float32")
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} has a number that is not finite")
    kept = {name: tensor for name, tensor in tensors.items() if name.startswith(BUFFERS)}
    state = {name: tensor for name, tensor in tensors.items() if name not in kept}
    for kind, part in (("weights", state), ("velocity", kept)):
        if weights_sha256(part) != dict(metadata)[f"{kind}_sha256"]:
            raise ValueError(f"its {kind} do not match their digest")
    schema = decode_json(metadata["schema"], Schema)
    model = MLP.from_state_dict(state, activation=metadata["activation"])
    model.schema = schema
    if "trained_on" in metadata:
        learned = DataSummary.from_json(decode_json(metadata["trained_on"], dict))
        model.trained_on = learned
        if len(learned.means) != schema.features:
            raise ValueError("its mean image does not fit its schema")
    if (model.features, model.classes) != (schema.features, len(schema.classes)):
        raise ValueError("its layers do not fit its schema")
    return Checkpoint(
        model=model,
        schema=schema,
        recipe=_recipe(metadata["recipe"]),
        progress=Progress.from_json(decode_json(metadata["progress"], dict)),
        data_digest=metadata["manifest_digest"],
        buffers=_buffers(kept, model),
        best=decode_json(metadata.get("best", json.dumps(NO_EPOCH)), Best),
    )


class _Metadata(TypedDict):
    """The metadata in the header; most values are JSON text."""

    activation: str
    recipe: str
    schema: str
    progress: str
    manifest_digest: str
    weights_sha256: str
    velocity_sha256: str
    trained_on: NotRequired[str]
    best: NotRequired[str]


class _Places(TypedDict, total=False):
    """The keys of a recipe that are read in addition to the settings; `train` checks the settings itself."""

    data: PathText
    test: PathText | None
    val: PathText | None
    test_digest: str
    val_digest: str
    window_rows: Positive
    turned: bool


def _recipe(text: str) -> dict[str, Any]:
    recipe = decode_json(text, dict[str, Any])
    convert(recipe, _Places)
    return recipe


def _named(buffers: Mapping[str, Gradients]) -> dict[str, torch.Tensor]:
    """Return the tensors of an optimiser, each under the name of its buffer and of its parameter."""
    return {
        f"{buffer}.{2 * layer}.{kind}": tensor
        for buffer, gradients in buffers.items()
        for layer, pair in enumerate(gradients)
        for kind, tensor in zip(("weight", "bias"), pair, strict=True)
    }


def _buffers(kept: Mapping[str, torch.Tensor], model: MLP) -> dict[str, Gradients]:
    """Return the inverse of `_named`. Raises ValueError if the shapes are not those of the model."""
    buffers = {}
    for buffer in BUFFERS:
        own = {name.removeprefix(f"{buffer}."): kept[name] for name in kept if name.startswith(f"{buffer}.")}
        if not own:
            continue
        shaped = MLP.from_state_dict(own, activation=model.activation)
        if [w.shape for w in shaped.weights] != [w.shape for w in model.weights]:
            raise ValueError(f"its {buffer} does not fit its weights")
        buffers[buffer] = list(zip(shaped.weights, shaped.biases, strict=True))
    return buffers


def _sha256(metadata: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(metadata, sort_keys=True).encode()).hexdigest()


def _damaged(path: Path, what: str) -> RunError:
    return RunError(f"{path} is damaged: {what[:120]}. Use an earlier checkpoint, or train again")
