"""A run and its test data as the HTML page shows them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from streamtrain.block import Array
from streamtrain.errors import StreamtrainError
from streamtrain.metrics.confusion import MATRIX_CLASSES
from streamtrain.report import png
from streamtrain.report.charts import Chart, curves
from streamtrain.report.error_analysis import ErrorAnalysis, Mistake, iter_error_analysis, keep_within
from streamtrain.report.summary import DatasetSummary, Row, origin
from streamtrain.settings import settings as settings_of
from streamtrain.settings import words, written
from streamtrain.shards.manifest import Manifest
from streamtrain.storage.objects import location
from streamtrain.storage.ownership import LAST
from streamtrain.stream.dataset import Shards
from streamtrain.train.checkpoint import Checkpoint, checkpoint_file, load, load_checkpoint, weights_sha256
from streamtrain.train.config import TrainConfig
from streamtrain.train.run import read_metrics

WORST = 24  # mistakes shown in all
_EACH_CELL = 24  # and for each pair of classes
_KEPT = 20_000  # mistakes that the pass keeps, roughly
_IMAGE_BYTES = 2_000_000  # size of all pictures on a page, roughly
_CELL_BYTES = 700  # size of a pair of classes without its pictures: a link, a heading
_EPOCHS = 400  # most rows of a run's table of epochs
_FEW = 12  # most classes whose names are written horizontally above the matrix
_UNITS = 100  # most units whose first-layer weights are drawn


@dataclass(frozen=True)
class Picture:
    """A misread row as it is shown: its image, its true and its predicted class, and where it comes from."""

    uri: str
    true: str
    predicted: str
    confidence: str
    file: str
    path: str
    line: int


@dataclass(frozen=True)
class RunView:
    """A run as the page shows it; `tested` is the name of the data in `shards`."""

    folder: Path
    tested: str
    shards: Shards
    checkpoint: Checkpoint
    epochs: Sequence[Mapping[str, Any]]
    errors: ErrorAnalysis

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the names of the classes, in index order."""
        return self.checkpoint.schema.classes

    @property
    def file(self) -> Path:
        """Return the checkpoint file that the weights come from."""
        return checkpoint_file(self.folder)

    @property
    def layers(self) -> str:
        """Return the units of each layer as 784→100→10."""
        model = self.checkpoint.model
        return "→".join(map(str, (model.features, *model.hidden, model.classes)))

    @property
    def parameters(self) -> int:
        """Return the number of weights and biases."""
        return sum(tensor.numel() for tensor in self.checkpoint.model.state_dict().values())

    @property
    def settings(self) -> dict[str, Any]:
        """Return the settings of the recipe as users write them, by their keys."""
        return {
            each.key: written(self.checkpoint.recipe[each.key], each.metavar)
            for each in settings_of(TrainConfig)
            if each.key in self.checkpoint.recipe
        }

    @cached_property
    def charts(self) -> list[Chart]:
        """Return the charts of loss and accuracy by epoch; none before the first epoch."""
        made = []
        for what in ("loss", "accuracy"):
            known = [column for column in self.columns if column.endswith(what)]
            series = {column.split("_")[0]: [line.get(column) for line in self.epochs] for column in known}
            if series:
                made.append(curves(what.capitalize(), series))
        return made

    @cached_property
    def shown_epochs(self) -> list[Mapping[str, Any]]:
        """Return the epochs of the table: all, or if there are many, some at equal distances."""
        picked = np.linspace(0, len(self.epochs) - 1, min(len(self.epochs), _EPOCHS)).round().astype(int)
        return [self.epochs[index] for index in picked.tolist()]

    @property
    def long_names(self) -> bool:
        """Return whether the names of classes are written vertically above narrow columns."""
        return len(self.classes) > _FEW and max(map(len, self.classes)) > 3

    @cached_property
    def columns(self) -> list[str]:
        """Return the names of the figures that any epoch has: train_loss, train_accuracy, …"""
        names = [f"{part}_{what}" for part in ("train", "test", "val") for what in ("loss", "accuracy")]
        return [name for name in names if any(line.get(name) is not None for line in self.epochs)]

    @cached_property
    def worst(self) -> list[Picture]:
        """Return the most confident mistakes."""
        return [self._picture(mistake) for mistake in self.errors.worst]

    def cell(self, true: int, predicted: int) -> list[Picture]:
        """Return the misread rows of a cell of the confusion matrix, the most confident first."""
        return [self._picture(mistake) for mistake in self.errors.cells.get((true, predicted), [])]

    @cached_property
    def matrix(self) -> list[list[tuple[int, float]]]:
        """Return the confusion matrix; each cell is a number of rows and their share of the true class.

        It is empty if there are too many classes to be read as a matrix.
        """
        if len(self.classes) > MATRIX_CLASSES:
            return []
        confusion = self.errors.evaluation.confusion
        shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
        return [list(zip(*pair, strict=True)) for pair in zip(confusion.tolist(), shares.tolist(), strict=True)]

    @cached_property
    def worst_pairs(self) -> list[tuple[str, str, int]]:
        """Return the pairs of classes that are taken for each other most often: true, predicted, rows."""
        pairs = self.errors.evaluation.counts.worst(WORST)
        return [(self.classes[true], self.classes[predicted], rows) for true, predicted, rows in pairs]

    @cached_property
    def reliability(self) -> list[dict[str, float]]:
        """Return lower end, rows, mean confidence and accuracy of each bin of confidence that has rows."""
        return [
            {
                "low": each["from"],
                "rows": each["rows"],
                "confidence": each["confidence_sum"] / each["rows"],
                "accuracy": each["correct"] / each["rows"],
            }
            for each in self.errors.evaluation.reliability()
            if each["rows"]
        ]

    @cached_property
    def weights(self) -> str | None:
        """Return a picture of the first layer, one tile for each unit; None if the data are not images.

        Each tile is scaled to its largest weight.
        """
        shape = self.checkpoint.schema.image_shape
        if len(shape) != 2:
            return None
        units = self.checkpoint.model.weights[0].numpy()[:_UNITS]
        tiles = units / np.maximum(np.abs(units).max(axis=1, keepdims=True), 1e-12)
        return png.signed(_mosaic(tiles.reshape(-1, *shape)))

    @cached_property
    def train_facts(self) -> DatasetSummary | None:
        """Return the facts of the training data; None if it is missing or has changed."""
        return DatasetSummary.of(self._train_manifest) if self._train_manifest else None

    @cached_property
    def _train_manifest(self) -> Manifest | None:
        """Return the manifest of the training data; None if it is missing or has changed."""
        data = location(str(self.checkpoint.recipe.get("data", "")))
        for folder in (data, data.parent / f"{data.name}.shards"):
            try:
                manifest = Manifest.load(folder)
            except (StreamtrainError, OSError):
                continue
            if manifest.matches(self.checkpoint.data_digest):
                return manifest
        return None

    @cached_property
    def test_facts(self) -> DatasetSummary:
        """Return the facts of the data that the run is evaluated on."""
        return DatasetSummary.of(self.shards.manifest)

    @cached_property
    def weights_sha256(self) -> str:
        """Return the digest of the last weights, which a repetition should give again."""
        return weights_sha256(load_checkpoint(self.folder / LAST).model.state_dict())

    @cached_property
    def commands(self) -> list[str]:
        """Return the commands that give the same weights again."""
        recipe, lines, data = self.checkpoint.recipe, [], str(self.checkpoint.recipe.get("data"))
        if (manifest := self._train_manifest) and manifest.sources:
            dest = "again-shards"  # a new folder: DATA may be a source itself, or hold one
            lines.append(shlex.join(["streamtrain", "convert", *_convert_words(manifest), dest]))
            data = str(Path(dest, Path(data).name)) if manifest.totals.in_other_parts else dest
        line = ["streamtrain", "train", data]
        line += [word for name in ("test", "val") if recipe.get(name) for word in (f"--{name}", str(recipe[name]))]
        for each in settings_of(TrainConfig):
            if recipe.get(each.key) is not None:
                line += words(each.flag, recipe[each.key], each.metavar)
        return [*lines, shlex.join([*line, "--out", "again"])]

    def _picture(self, mistake: Mistake) -> Picture:
        path, line = origin(self.shards.manifest.sources, mistake.line)
        pixels = np.frombuffer(mistake.pixels, dtype=self.shards.schema.stored_dtype)
        return Picture(
            uri=png.grey(Row(pixels, None, mistake.line).image(self.shards.schema)),
            true=self.classes[mistake.true],
            predicted=self.classes[mistake.predicted],
            confidence=f"{mistake.confidence:.1%}",
            file=Path(path).name,
            path=path,
            line=line,
        )


def view(folder: Path, shards: Shards, *, tested: str, runs: int = 1) -> RunView:
    """Evaluate a run on `shards`; runs: how many share the page and its space for pictures."""
    *_, seen = iter_view(folder, shards, tested=tested, runs=runs)
    assert isinstance(seen, RunView)
    return seen


def iter_view(folder: Path, shards: Shards, *, tested: str, runs: int = 1) -> Iterator[ErrorAnalysis | RunView]:
    """Yield the error analysis while a run is evaluated on `shards`, and the RunView of `view` at the end."""
    checkpoint = load(folder)
    shards = shards.with_schema(checkpoint.schema)
    classes = checkpoint.model.classes
    each_cell = min(_EACH_CELL, 1 + _KEPT // max(classes * (classes - 1), 1)) if classes <= MATRIX_CLASSES else 0
    for found in iter_error_analysis(checkpoint, shards, worst=WORST, each_cell=each_cell):
        yield found
    picture = 300 + 0.7 * checkpoint.schema.features
    keep_within(found, _IMAGE_BYTES / runs - WORST * picture, picture=picture, cell=_CELL_BYTES)
    yield RunView(folder, tested, shards, checkpoint, read_metrics(folder), found)


def _convert_words(manifest: Manifest) -> Iterator[str]:
    """Yield the sources, and the options of `convert` that a manifest records."""
    yield from (source.path for source in manifest.sources)
    if manifest.shuffle:
        yield from ("--shuffle", "--seed", str(manifest.shuffle["seed"]))
    if manifest.totals.rejected:
        yield from ("--on-bad-row", "reject")


def _mosaic(tiles: Array) -> Array:
    """Return images (count, rows, columns) as one square image, with a line of zeros between them."""
    count, height, width = tiles.shape
    across = int(np.ceil(np.sqrt(count)))
    down = -(-count // across)
    board = np.zeros((down * across, height + 1, width + 1))
    board[:count, :height, :width] = tiles
    return board.reshape(down, across, height + 1, width + 1).swapaxes(1, 2).reshape(down * (height + 1), -1)
