"""A run folder: the recipe, a line of metrics per epoch, the checkpoints; enough to resume after a kill.

A checkpoint is published after the metrics of the epoch that it closes. So a run that is killed between the two
computes that epoch's evaluation again, and writes the same line again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from streamtrain.decode import convert, decode_json
from streamtrain.errors import RunError
from streamtrain.process import peak_rss_mb
from streamtrain.schema import Schema
from streamtrain.storage.destination import Destination, discard, staging_of
from streamtrain.storage.objects import Location
from streamtrain.storage.ownership import BEST, LAST, METRICS, PREVIOUS, RECIPE
from streamtrain.storage.permissions import opened
from streamtrain.storage.publish import write_file
from streamtrain.train.checkpoint import Checkpoint, load_checkpoint
from streamtrain.train.fit import Training
from streamtrain.train.progress import EpochReport, Metrics, Progress

_CHANGEABLE = ("epochs", "data", "test", "val")  # of a recipe, by a resume


@dataclass
class Run:
    """The folder of a run, written while training.

    recipe: every setting that decides the weights, and where the data was
    data_digest: as in Checkpoint
    """

    folder: Path
    recipe: Mapping[str, Any]
    schema: Schema
    data_digest: str

    @classmethod
    def create(
        cls,
        folder: Path,
        training: Training,
        recipe: Mapping[str, Any],
        *,
        overwrite: bool = False,
        reads: Sequence[Location] = (),
    ) -> Run:
        """Publish a folder with the recipe and a checkpoint of the initial weights, whole, before any step.

        reads: what is read besides the training data; it is not replaced either
        Raises UsageError if something is there that must not be replaced.
        """
        destination = Destination(folder, overwrite, [training.train.folder, *reads])
        destination.check()
        staging = staging_of(folder)
        staging.parent.mkdir(parents=True, exist_ok=True)
        destination.make(staging)
        run = cls(folder, recipe, training.train.schema, training.train.manifest.content_digest)
        try:
            write_file(staging / RECIPE, run._recipe_bytes())
            run._checkpoint(training, Progress.at(1)).save(staging / LAST)
            destination.publish(staging)
        except BaseException:
            discard(staging)
            raise
        return run

    @classmethod
    def open(cls, folder: Path) -> tuple[Run, Checkpoint, str | None]:
        """Return a run, the checkpoint to resume it from, and a warning or None.

        If the last checkpoint is damaged, it is the one before. Later lines of the metrics are dropped, and so are
        files that a kill left half-written; a folder in order is only read.
        Raises RunError if neither can be used, or recipe.json was changed since.
        """
        warning = None
        try:
            last = load_checkpoint(folder / LAST)
        except RunError as error:
            if not (folder / PREVIOUS).exists():
                raise
            last = load_checkpoint(folder / PREVIOUS)
            _link(folder / PREVIOUS, folder / LAST)
            warning = f"{error} Resuming from {PREVIOUS}, epoch {last.progress.cursor.epoch}"
        run = cls(folder, last.recipe, last.schema, last.data_digest)
        run._check_recipe()
        for leftover in (*folder.glob(".*.tmp"), *folder.glob(".*.link")):
            leftover.unlink(missing_ok=True)
        kept = [line for line in run.metrics() if line["epoch"] < last.progress.cursor.epoch]
        _write_if_changed(folder / METRICS, "".join(json.dumps(line) + "\n" for line in kept).encode())
        _write_if_changed(folder / RECIPE, run._recipe_bytes())
        return run, last, warning

    def change_recipe(self, changes: Mapping[str, Any], checkpoint: Checkpoint) -> None:
        """Record another number of epochs, or other places of the data, with the last checkpoint."""
        self.recipe = {**self.recipe, **changes}
        self._save(replace(checkpoint, recipe=self.recipe))  # a resume reads it from there
        write_file(self.folder / RECIPE, self._recipe_bytes())

    def metrics(self) -> list[dict[str, Any]]:
        """Return the metrics of each epoch so far; see `read_metrics`."""
        return read_metrics(self.folder)

    def save(self, training: Training) -> None:
        """Keep the state of a training as the last checkpoint, and the last one as the previous.

        While an epoch is evaluated, it is the state at the end of that epoch.
        """
        progress = training.write_back()
        self._save(self._checkpoint(training, progress))

    def _save(self, checkpoint: Checkpoint) -> None:
        _link(self.folder / LAST, self.folder / PREVIOUS)
        checkpoint.save(self.folder / LAST)

    def record(self, report: EpochReport, training: Training) -> dict[str, Any]:
        """Keep an epoch, its line in metrics.jsonl and the checkpoints; return the line."""
        line = report.to_json() | {"peak_rss_mb": peak_rss_mb()}
        done = Progress.at(report.epoch + 1)
        before = [_selection_score(earlier) for earlier in self.metrics()]
        score = _selection_score(line)
        if score is not None and all(other is None or score > other for other in before):
            replace(self._checkpoint(training, done), buffers={}).save(self.folder / BEST)
        with opened(self.folder / METRICS, "ab") as file:
            file.write(json.dumps(line).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._save(self._checkpoint(training, done))
        return line

    def _check_recipe(self) -> None:
        """Raise RunError if recipe.json differs from the checkpoint.

        What `change_recipe` changes may differ: a kill can fall between the two writes.
        """
        path = self.folder / RECIPE
        try:
            found = decode_json(path.read_bytes(), dict[str, Any])
        except (OSError, ValueError):
            return  # it is written again
        for name, value in self.recipe.items():
            if name not in _CHANGEABLE and found.get(name, value) != value:
                raise RunError(
                    f"{path}: {name} is {str(found[name])[:40]}, but the weights were trained with "
                    f"{str(value)[:40]}. Restore that value, or start a new run with `out`"
                )

    def _recipe_bytes(self) -> bytes:
        return json.dumps(dict(self.recipe), indent=1).encode() + b"\n"

    def _checkpoint(self, training: Training, progress: Progress) -> Checkpoint:
        return Checkpoint(
            training.model,
            self.schema,
            self.recipe,
            progress,
            self.data_digest,
            training.optimizer.buffers,
            training.best,
        )


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's metrics.jsonl, without a last one that was cut short.

    Raises RunError for a line that no training writes.
    """
    path = run / METRICS
    text = path.read_bytes().decode(errors="replace") if path.exists() else ""
    whole = text.split("\n")[:-1]
    return [_read_line(line, f"{path} line {number}") for number, line in enumerate(whole, 1)]


def _read_line(line: str, where: str) -> dict[str, Any]:
    try:
        record = decode_json(line, dict[str, Any])
        convert(record, Metrics)
    except ValueError as error:
        what = f"{line[:40]!r} ({error})"
        raise RunError(f"{where} is not an epoch record: {what}. Delete that line and resume") from None
    return record


class BestEpoch(NamedTuple):
    """The epoch whose weights a run keeps as its best.

    name: of the set by whose accuracy it was chosen, val or test
    """

    epoch: int
    name: str
    accuracy: float


def best_epoch(lines: Sequence[Mapping[str, Any]]) -> BestEpoch | None:
    """Return the first epoch with the highest accuracy on val, otherwise on test; None if neither was evaluated.

    lines: as `read_metrics` returns them
    """
    name = "val" if lines and lines[-1]["val_accuracy"] is not None else "test"
    scored = [(line["epoch"], line[f"{name}_accuracy"]) for line in lines if line[f"{name}_accuracy"] is not None]
    if not scored:
        return None
    epoch, accuracy = max(scored, key=lambda each: (each[1], -each[0]))
    return BestEpoch(epoch, name, accuracy)


def _write_if_changed(path: Path, data: bytes) -> None:
    """Publish a file, unless it holds `data` already."""
    if (path.read_bytes() if path.exists() else b"") != data:
        write_file(path, data)


def _selection_score(line: Mapping[str, Any]) -> float | None:
    """Return the accuracy by which the best epoch is chosen: on val, otherwise on test."""
    accuracy: float | None = line["test_accuracy"] if line["val_accuracy"] is None else line["val_accuracy"]
    return accuracy


def _link(target: Path, name: Path) -> None:
    """Give a file a second name, in one step, in place of the file there; without hard links, a copy of it."""
    hidden = name.with_name(f".{name.name}.link")
    hidden.unlink(missing_ok=True)
    try:
        hidden.hardlink_to(target)
    except FileNotFoundError:
        raise
    except OSError:  # exFAT, SMB and many file systems in user space have none
        write_file(name, target.read_bytes())
        return
    hidden.replace(name)
    hidden.unlink(missing_ok=True)  # replacing one name of a file by another name of the same does nothing
