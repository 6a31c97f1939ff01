"""A run on the made digits with some of them misread, which the tests of the report share."""

from __future__ import annotations

from pathlib import Path

import pytest

import streamtrain as st
from streamtrain.convert import convert
from streamtrain.train.config import FitConfig
from streamtrain.train.fit import Training
from streamtrain.train.progress import EpochReport
from streamtrain.train.run import Run


def make_run(folder: Path, data: Path, test: Path, **options: float) -> Path:
    """A trained run folder, as `streamtrain train` leaves it."""
    train, tested = st.open_shards(data), st.open_shards(test)
    recipe = {"epochs": 4, "batch_size": 64, "lr": 0.3, "seed": 0, "memory": 256_000_000} | options
    model = st.MLP(64, (12,), seed=0)
    rows = {
        "data": str(data),
        "test": str(test),
        "val": None,
        "test_digest": tested.manifest.digest,
        "hidden": [12],
        "window_rows": train.rows,
    }
    config = FitConfig(**{name: recipe[name] for name in ("epochs", "batch_size", "lr", "seed")})
    training = Training(model, train, config, test=tested)
    run = Run.create(folder, training, rows | recipe)
    for event in training:
        if isinstance(event, EpochReport):
            run.record(event, training)
    return folder


@pytest.fixture(scope="session")
def report_data(digits_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Make shards to train on and shards to evaluate on, the latter from two files."""
    folder = tmp_path_factory.mktemp("report")
    header, *lines = digits_csv.read_text().splitlines()
    (folder / "learn.csv").write_text("\n".join([header, *lines[:400]]))
    for name, part in (("first", lines[400:500]), ("<second>", lines[500:])):
        (folder / f"{name}.csv").write_text("\n".join([header, *part]))
    convert(folder / "learn.csv", folder / "train")
    convert([folder / "first.csv", folder / "<second>.csv"], folder / "test")
    return folder / "train", folder / "test"


@pytest.fixture(scope="session")
def report_run(report_data: tuple[Path, Path]) -> Path:
    """A run that misreads some of its test set."""
    return make_run(report_data[0].parent / "run", *report_data)


@pytest.fixture(scope="session")
def other_run(report_data: tuple[Path, Path]) -> Path:
    """The same with another learning rate."""
    return make_run(report_data[0].parent / "other", *report_data, lr=1.0, epochs=6)
