"""A run folder: the recipe, a line of metrics an epoch, the checkpoints; enough to go on after a kill.

A checkpoint is published after the metrics of the epoch that it closes. So a run that is killed between the two
computes that epoch's evaluation again, and writes its line again, the same.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from streamtrain.errors import RunError
from streamtrain.nn.mlp import MLP, Gradients
from streamtrain.nn.sgd import rest
from streamtrain.process import peak_rss_mb
from streamtrain.schema import Schema
from streamtrain.storage.destination import Destination, discard, staging_of
from streamtrain.storage.files import write_file
from streamtrain.storage.ownership import BEST, LAST, METRICS, PREVIOUS, RECIPE
from streamtrain.storage.permissions import opened
from streamtrain.stream.dataset import Shards
from streamtrain.train.checkpoint import Checkpoint, load_checkpoint
from streamtrain.train.fit import EpochReport, Progress

_NAMES = {field.name for field in fields(EpochReport)}  # of a line of the metrics, at least


@dataclass
class Run:
    """The folder of a run, written as training goes.

    recipe: every setting that decides the weights; manifest_digest: of the training data
    velocity: of the parameters where there is momentum, which training moves in place; else empty
    """

    folder: Path
    recipe: Mapping[str, Any]
    schema: Schema
    manifest_digest: str
    velocity: Gradients = field(default_factory=list)

    @classmethod
    def create(
        cls,
        folder: Path,
        model: MLP,
        train: Shards,
        recipe: Mapping[str, Any],
        *,
        overwrite: bool = False,
        reads: Sequence[Path] = (),
    ) -> Run:
        """Publish a folder with the recipe and a checkpoint of the first weights, whole, before any step.

        reads: what is used besides `train`, and is not replaced either
        Raises UsageError if something stands there that may not be replaced.
        """
        destination = Destination(folder, overwrite, [train.folder, *reads])
        destination.check()
        staging = staging_of(folder)
        staging.parent.mkdir(parents=True, exist_ok=True)
        destination.make(staging)
        velocity = rest(model) if recipe.get("momentum") else []
        run = cls(folder, recipe, train.schema, train.manifest.digest, velocity)
        try:
            write_file(staging / RECIPE, run._told_recipe())
            run._checkpoint(model, Progress.at(1)).save(staging / LAST)
            destination.publish(staging)
        except BaseException:
            discard(staging)
            raise
        return run

    @classmethod
    def resume(cls, folder: Path) -> tuple[Run, MLP, Progress, str | None]:
        """A run as its last checkpoint left it, the model, the place to go on from, and a warning or None.

        Where the last checkpoint is damaged the one before it serves. Later lines of the metrics are dropped, and
        so is what a kill left half-written; a folder in order is only read.
        Raises RunError where neither can be used, and where recipe.json was changed since.
        """
        warning = None
        try:
            last = load_checkpoint(folder / LAST)
        except RunError as error:
            if not (folder / PREVIOUS).exists():
                raise
            last = load_checkpoint(folder / PREVIOUS)
            _link(folder / PREVIOUS, folder / LAST)
            warning = f"{error} Going on from {PREVIOUS}, epoch {last.progress.cursor.epoch}"
        run = cls(folder, last.recipe, last.schema, last.manifest_digest, last.velocity)
        run._refuse_another_recipe()
        for beside in (*folder.glob(".*.tmp"), *folder.glob(".*.link")):
            beside.unlink(missing_ok=True)
        kept = [line for line in run.metrics() if line["epoch"] < last.progress.cursor.epoch]
        _settle(folder / METRICS, "".join(json.dumps(line) + "\n" for line in kept).encode())
        _settle(folder / RECIPE, run._told_recipe())
        return run, last.model, last.progress, warning

    def set_epochs(self, epochs: int, model: MLP, progress: Progress) -> None:
        """Train for so many epochs in all, from a checkpoint on; a finished run goes on when they are raised."""
        self.recipe = {**self.recipe, "epochs": epochs}
        self.save(model, progress)  # which a resume goes by
        write_file(self.folder / RECIPE, self._told_recipe())

    def metrics(self) -> list[dict[str, Any]]:
        """What it left of each epoch so far; see `read_metrics`."""
        return read_metrics(self.folder)

    def save(self, model: MLP, progress: Progress) -> None:
        """Keep the model as the last checkpoint, and the last one as the previous."""
        _link(self.folder / LAST, self.folder / PREVIOUS)
        self._checkpoint(model, progress).save(self.folder / LAST)

    def record(self, report: EpochReport, model: MLP) -> dict[str, Any]:
        """Keep an epoch, its line in metrics.jsonl and the checkpoints; returns the line."""
        line = asdict(report) | {"rows_per_second": report.rows_per_second, "peak_rss_mb": peak_rss_mb()}
        done = Progress.at(report.epoch + 1)
        before = [_judged(earlier) for earlier in self.metrics()]
        judged = _judged(line)
        if judged is not None and all(other is None or judged > other for other in before):
            replace(self._checkpoint(model, done), velocity=[]).save(self.folder / BEST)
        with opened(self.folder / METRICS, "ab") as file:
            file.write(json.dumps(line).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self.save(model, done)
        return line

    def _refuse_another_recipe(self) -> None:
        """Raise RunError where recipe.json says otherwise; of epochs it may, where a kill lay between the two."""
        path = self.folder / RECIPE
        try:
            told = dict(json.loads(path.read_bytes()))
        except (OSError, ValueError, TypeError):
            return  # it is written anew
        for name, value in self.recipe.items():
            if name != "epochs" and told.get(name, value) != value:
                raise RunError(
                    f"{path}: {name} is {told[name]!r}, the weights were trained with {value!r}. Put that back, "
                    "or begin a new run: --out"
                )

    def _told_recipe(self) -> bytes:
        return json.dumps(dict(self.recipe), indent=1).encode() + b"\n"

    def _checkpoint(self, model: MLP, progress: Progress) -> Checkpoint:
        return Checkpoint(model, self.schema, self.recipe, progress, self.manifest_digest, self.velocity)


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl, none before its first epoch; a last one that was cut short is left out.

    Raises RunError for a line that no training writes.
    """
    path = run / METRICS
    text = path.read_bytes().decode(errors="replace") if path.exists() else ""
    whole = text.split("\n")[:-1]
    return [_told(line, f"{path}, line {number}") for number, line in enumerate(whole, 1)]


def _told(line: str, where: str) -> dict[str, Any]:
    """What a line of the metrics says."""
    try:
        told = json.loads(line)
    except ValueError:
        told = None
    if not (isinstance(told, dict) and isinstance(told.get("epoch"), int) and told.keys() >= _NAMES):
        raise RunError(f"{where}, is none of an epoch: {line[:40]!r}. Take it out, then go on")
    return told


def _settle(path: Path, data: bytes) -> None:
    """Publish a file, unless that is what it holds."""
    if (path.read_bytes() if path.exists() else b"") != data:
        write_file(path, data)


def _judged(line: Mapping[str, Any]) -> float | None:
    """The accuracy by which the best epoch is chosen: on val, else on test."""
    accuracy: float | None = line["test_accuracy"] if line["val_accuracy"] is None else line["val_accuracy"]
    return accuracy


def _link(target: Path, name: Path) -> None:
    """Give a file a second name, in one step and in place of what has it."""
    beside = name.with_name(f".{name.name}.link")
    beside.unlink(missing_ok=True)
    beside.hardlink_to(target)
    beside.replace(name)
    beside.unlink(missing_ok=True)  # to replace one name of a file by another of the same does nothing
