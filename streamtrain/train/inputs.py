"""The inputs that users pass: a model as itself, a checkpoint or a run; data as shards, a folder or a CSV."""

from __future__ import annotations

import functools
import os
import shlex
import warnings
from collections.abc import Callable
from pathlib import Path

from streamtrain.errors import DataError, UsageError, argument
from streamtrain.nn.mlp import MLP
from streamtrain.schema import Schema
from streamtrain.shards.digests import digest_of_source
from streamtrain.shards.manifest import Manifest, Source
from streamtrain.storage.locks import lock_file
from streamtrain.storage.names import hidden_sibling
from streamtrain.storage.objects import Location, ObjectPath, given_place, is_one_file, location
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
    """Return shards themselves, or open a folder of them; a CSV becomes CSV.shards first, see `csv_shards`.

    Raises DataError if the CSV changed since CSV.shards was made, UsageError if it is something else.
    """
    if isinstance(data, Shards):
        return data
    if not isinstance(data, str | os.PathLike):
        raise UsageError(f"data is a {type(data).__name__}. Pass shards, or the path of shards or of a CSV")

    def make(csv: Path, folder: Path) -> None:
        from streamtrain.convert import convert

        convert(csv, folder, resume=True)

    return open_place(
        given_place(data, "data"),
        make=make,
        tell=lambda text: warnings.warn(text, stacklevel=5),
        again=f"Convert it again with {argument('overwrite', True)}",
    )


def open_place(
    place: Location,
    *,
    make: Callable[[Path, Path], None],
    tell: Callable[[str], object],
    again: str | None = None,
    workers: int = os.cpu_count() or 1,
) -> Shards:
    """Open a folder of shards, or CSV.shards for a CSV.

    make: makes the shards of a CSV, in a folder; tell, again: as for `csv_shards`
    workers: as for `open_shards`
    Raises DataError if an address is that of a CSV: its shards could not be written next to it.
    """
    if isinstance(place, Path) and is_one_file(place):
        place = csv_shards(place, make=functools.partial(make, place), tell=tell, again=again)
    elif isinstance(place, ObjectPath) and not (place / MANIFEST).exists() and place.exists():
        command = shlex.join(["streamtrain", "convert", str(place), f"{place.name}.shards"])
        raise DataError(
            f"{place} is a CSV in a store. Convert it first, and name its shards: {command}", path=place
        )
    return open_shards(place, workers=workers)


def csv_shards(
    csv: Path, *, make: Callable[[Path], object], tell: Callable[[str], object], again: str | None = None
) -> Path:
    """Return the folder CSV.shards with the shards of a CSV; if it is missing, `make` makes it.

    It lies next to the CSV, or in the current folder if nothing can be written there. If another process makes it,
    this one waits. `tell` gets what to say about that.

    again: the next step if the CSV changed since they were made
    Raises DataError if it did, or if neither folder can be written to.
    """
    places = [csv.with_name(f"{csv.name}.shards"), Path(f"{csv.name}.shards")]
    folder = next((place for place in places if place.exists()), None)
    if folder is None:
        folder = next((place for place in places if _may_write(place.parent)), None)
        if folder is None:
            raise DataError(
                f"the shards of {csv} can be written neither next to it nor in the current folder. Go to a folder "
                "of your own first",
                path=csv,
            )
        if folder.parent != csv.parent:
            tell(f"nothing can be written next to {csv}, so its shards go to {folder.absolute()}")
        with lock_file(
            hidden_sibling(folder, "making.lock"),
            wait=lambda: tell(f"another process converts {csv}; waiting for it"),
        ):
            if not folder.exists():
                make(folder)
    if changed(csv, folder):
        command = shlex.join(["streamtrain", "convert", str(csv), str(folder), "--overwrite"])
        raise DataError(
            f"{csv} changed since {folder} was made from it. {again or f'Convert it again: {command}'}", path=csv
        )
    return folder


def _may_write(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)


def schema_of(like: Model | Shards) -> Schema:
    """Return what pixels and classes mean to a model or a data set, for reading other data alike.

    like: a model, a checkpoint, the path of a run, shards, or the path of their folder
    Raises DataError if it is a model that was not trained.
    """
    if isinstance(like, Shards):
        return like.schema
    if isinstance(like, str | os.PathLike) and (location(like) / MANIFEST).exists():
        return open_shards(location(like)).schema
    schema = open_model(like).schema
    if not isinstance(schema, Schema):
        raise DataError("the model has no classes and pixel range yet: train it first")
    return schema


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
    return not untouched and digest_of_source(path, like=source.digest) != source.digest
