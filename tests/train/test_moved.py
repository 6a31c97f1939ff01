"""The content of data decides whether a run continues with it, not its place or age."""

from __future__ import annotations

import dataclasses
import gzip
import os
from pathlib import Path

import pytest

import streamtrain as st
from streamtrain.convert import convert
from streamtrain.errors import RunError
from streamtrain.shards.manifest import Manifest
from streamtrain.storage.ownership import LAST
from streamtrain.train.checkpoint import load_checkpoint, weights_sha256
from streamtrain.train.config import TrainConfig
from streamtrain.train.fit import Training
from streamtrain.train.progress import EpochReport
from streamtrain.train.resume import Sets, build_model, recipe, resume_fit
from streamtrain.train.run import Run


def train(folder: Path, data: Path, *, epochs: int) -> Path:
    """A run on data that is its test set too, as `streamtrain train` leaves it."""
    config, shards = TrainConfig(epochs=epochs, batch_size=32, hidden=(20,)), st.open_shards(data)
    training = Training(build_model(shards, config), shards, config, test=shards)
    paths = {"data": str(data), "test": str(data), "val": None}
    run = Run.create(folder, training, recipe(config, paths, Sets(shards, shards), training.plan))
    for event in training:
        if isinstance(event, EpochReport):
            run.record(event, training)
    return folder


def weights(run: Path) -> str:
    return weights_sha256(load_checkpoint(run / LAST).model.state_dict())


def record_the_manifest(run: Path, manifest: Manifest) -> None:
    """Write the digest of the whole manifest into a run, as earlier versions did."""
    checkpoint = load_checkpoint(run / LAST)
    recorded = {**checkpoint.recipe, "test_digest": manifest.digest}
    dataclasses.replace(checkpoint, data_digest=manifest.digest, recipe=recorded).save(run / LAST)
    (run / "recipe.json").unlink()


def test_copies_of_a_source_have_one_content_and_other_rows_another(digits_csv: Path, tmp_path: Path) -> None:
    (tmp_path / "copy.csv").write_bytes(digits_csv.read_bytes())
    os.utime(tmp_path / "copy.csv", (1, 1))
    with gzip.open(tmp_path / "packed.csv.gz", "wb") as file:
        file.write(digits_csv.read_bytes())
    (tmp_path / "cells.csv").write_text(digits_csv.read_text()[:-2] + "7\n")
    found = {}
    for path in (digits_csv, *sorted(tmp_path.glob("*.csv*"))):
        convert(path, tmp_path / "shards" / path.name)
        found[path.name] = Manifest.load(tmp_path / "shards" / path.name)
    assert len({manifest.digest for manifest in found.values()}) == 4
    cells = found.pop("cells.csv").content_digest
    (same,) = {manifest.content_digest for manifest in found.values()}
    assert cells != same
    convert(digits_csv, tmp_path / "other-range", pixel_range=(0, 300))
    assert Manifest.load(tmp_path / "other-range").content_digest not in (same, cells)


def test_a_moved_run_on_moved_data_ends_with_the_weights_of_one_that_stayed(
    digits_csv: Path, shards: Path, tmp_path: Path
) -> None:
    whole = train(tmp_path / "whole", shards, epochs=3)
    convert(digits_csv, tmp_path / "data")
    train(tmp_path / "half", tmp_path / "data", epochs=2)
    moved = (tmp_path / "half").rename(tmp_path / "moved")
    data = (tmp_path / "data").rename(tmp_path / "elsewhere")
    with pytest.raises(
        RunError, match=r"not at .*data. Pass its new place: streamtrain train --resume .*moved DATA --test DATA"
    ):
        resume_fit(moved, epochs=3)
    with pytest.raises(
        RunError, match=r"the test of .* is not at .*data. .* --resume .*moved .*elsewhere --test D"
    ):
        resume_fit(moved, epochs=3, data=data)
    assert [report.epoch for report in resume_fit(moved, epochs=3, data=data, test=data)] == [3]
    assert weights(moved) == weights(whole)
    assert st.load(moved).recipe["data"] == load_checkpoint(moved / LAST).recipe["test"] == str(data)


def test_other_data_at_the_new_place_is_refused_and_changes_nothing(
    digits_csv: Path, shards: Path, tmp_path: Path
) -> None:
    run = train(tmp_path / "run", shards, epochs=1)
    (tmp_path / "fewer.csv").write_text("".join(digits_csv.read_text().splitlines(keepends=True)[:500]))
    convert(tmp_path / "fewer.csv", tmp_path / "fewer")
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    for name in ("data", "test", "val"):
        with pytest.raises(RunError, match=f"fewer is not the {name} that .*run was started with"):
            resume_fit(run, epochs=2, **{name: tmp_path / "fewer"})  # type: ignore[arg-type]  # a test's shortcut
    with pytest.raises(RunError, match="fewer is not the data"):
        resume_fit(run, data=tmp_path / "fewer")  # a finished run too
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_a_run_of_an_earlier_version_goes_on_with_the_manifest_that_it_recorded(
    digits_csv: Path, shards: Path, tmp_path: Path
) -> None:
    whole = train(tmp_path / "whole", shards, epochs=2)
    convert(digits_csv, tmp_path / "data")
    run = train(tmp_path / "run", tmp_path / "data", epochs=1)
    record_the_manifest(run, Manifest.load(tmp_path / "data"))
    data = (tmp_path / "data").rename(tmp_path / "elsewhere")
    resume_fit(run, epochs=2, data=data, test=data)
    assert weights(run) == weights(whole)


def test_a_kill_between_the_checkpoint_and_the_recipe_keeps_the_new_place(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train(tmp_path / "run", shards, epochs=1)
    old = (run / "recipe.json").read_bytes()
    (tmp_path / "link").symlink_to(shards)
    assert resume_fit(run, data=tmp_path / "link") == []
    assert (run / "recipe.json").read_bytes() != old
    (run / "recipe.json").write_bytes(old)
    assert Run.open(run)[0].recipe["data"] == str(tmp_path / "link")
    assert str(tmp_path / "link") in (run / "recipe.json").read_text()
