"""The inputs that users pass: a model as itself, a checkpoint or a run; data as shards, a folder or a CSV."""

from __future__ import annotations

import functools
import os
import shlex
import warnings
from pathlib import Path

from streamtrain.errors import DataError, UsageError, argument
from streamtrain.nn.mlp import MLP
from streamtrain.schema import Schema
from streamtrain.shards.manifest import Manifest, Source, digest_of_file
from streamtrain.storage.ownership import MANIFEST
from streamtrain.stream.dataset import Shards, open_shards
from streamtrain.train.checkpoint import Checkpoint, load

Model = MLP | Checkpoint | str | os.PathLike[str]
Data = Shards | str | os.PathLike[str]


def open_model(model: Model) -> MLP:
    """Return the model itself, that of a checkpoint, or that of a run folder or checkpoint file.

    Warns if a checkpoint holds the initial weights.
    """
    if isinstance(model, MLP):
        return model
    if not isinstance(model, Checkpoint | str | os.PathLike):
        raise UsageError(f"`model` is a {type(model).__name__}. Pass a model, a checkpoint, or the path of a run")
    checkpoint = model if isinstance(model, Checkpoint) else load(model)
    if not checkpoint.is_trained:
        warnings.warn("the run has not taken a step yet: its weights are random", stacklevel=3)
    return checkpoint.model


def open_data(data: Data) -> Shards:
    """Return shards themselves, or open a folder of them; a CSV is converted to CSV.shards next to it first.

    Raises DataError if the CSV changed since CSV.shards was made, UsageError if it is something else.
    """
    if isinstance(data, Shards):
        return data
    if not isinstance(data, str | os.PathLike):
        raise UsageError(f"data is a {type(data).__name__}. Pass shards, or the path of shards or of a CSV")
    path = Path(data)
    if not path.is_file():
        return open_shards(path)
    folder = path.with_name(f"{path.name}.shards")
    if not folder.exists():
        check_place_of(folder, path)
        from streamtrain.convert import convert

        convert(path, folder, resume=True)
    elif changed(path, folder):
        raise DataError(
            f"{path} changed since {folder} was made from it. Convert it again with {argument('overwrite', True)}",
            path=path,
        )
    return open_shards(folder)


def schema_of(like: Model | Shards) -> Schema:
    """Return what pixels and classes mean to a model or a data set, for reading other data alike.

    like: a model, a checkpoint, the path of a run, shards, or the path of their folder
    Raises DataError if it is a model that was not trained.
    """
    if isinstance(like, Shards):
        return like.schema
    if isinstance(like, str | os.PathLike) and (Path(like) / "manifest.json").exists():
        return open_shards(Path(like)).schema
    schema = open_model(like).schema
    if not isinstance(schema, Schema):
        raise DataError("the model has no classes and pixel range yet: train it first")
    return schema


def check_place_of(folder: Path, csv: Path) -> None:
    """Raise DataError if the shards of a CSV cannot be written to a folder next to it."""
    if not os.access(folder.parent, os.W_OK | os.X_OK):
        command = shlex.join(["streamtrain", "convert", str(csv), folder.name])
        raise DataError(
            f"the shards of {csv} cannot be written next to it. Convert it to a folder of your own and name that: "
            f"{command}",
            path=csv,
        )


def changed(path: Path, folder: Path) -> bool:
    """Return whether a file differs from the one source of the shards in `folder`, or its labels do."""
    rows, *others = Manifest.load(folder).sources
    made_ns = (folder / MANIFEST).stat().st_mtime_ns
    labels = [source for source in others if not source.lines and Path(source.path).is_file()]
    several = any(source.lines for source in others)
    differs = functools.partial(_differs, made_ns=made_ns)
    return several or differs(path, rows) or any(differs(Path(source.path), source) for source in labels)


def _differs(path: Path, source: Source, *, made_ns: int) -> bool:
    """Return whether a file differs from what it was; if size and times leave it open, its digest decides.

    made_ns: when the shards were made. No program can set the time of a file's last change of any kind (ctime),
    while many set that of its last write.
    """
    facts = path.stat()
    if facts.st_size != source.size:
        return True
    untouched = facts.st_mtime_ns == source.mtime_ns and facts.st_ctime_ns < made_ns
    return not untouched and digest_of_file(path) != source.digest
