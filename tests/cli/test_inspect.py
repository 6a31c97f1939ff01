"""`streamtrain inspect` shows a CSV, shards or a run as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from conftest import RunCli


def test_a_csv_is_shown_with_reasons_classes_and_digits_and_left_alone(
    call_cli: RunCli, digits_csv: Path, tmp_path: Path
) -> None:
    before = sorted(digits_csv.parent.iterdir())
    done = call_cli("inspect", digits_csv)
    assert done.returncode == 0, done.stderr
    assert "600 rows" in done.stdout
    assert "the header calls it label" in done.stdout
    assert done.stdout.count("     60  #") + done.stdout.count("  60  #") == 10
    assert "%" in done.stdout.split("(line 2)")[1]
    assert sorted(digits_csv.parent.iterdir()) == before


def test_shards_as_json_have_the_counts_of_the_rows(call_cli: RunCli, shards: Path) -> None:
    result = json.loads(call_cli("inspect", shards, "--json").stdout)
    assert (result["kind"], result["rows"], result["image_shape"]) == ("shards", 600, [8, 8])
    assert sum(result["classes"].values()) == 600
    assert result["memory"]["window_rows"] == 600
    assert sum(result["shards"].values()) == sum(path.stat().st_size for path in shards.glob("*.parquet"))


def test_bad_rows_of_a_csv_are_counted_and_end_in_exit_3(
    call_cli: RunCli, digits_csv: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.csv").write_text(digits_csv.read_text() + "1,2,3\n")
    done = call_cli("inspect", "bad.csv")
    assert done.returncode == 3
    assert "warning: 1 row is bad" in done.stderr
    assert "1 rejected" in done.stdout


def test_a_line_shows_its_row(call_cli: RunCli, digits_csv: Path, shards: Path) -> None:
    row = np.loadtxt(digits_csv, delimiter=",", skiprows=1)[98].astype(int).tolist()
    result = json.loads(call_cli("inspect", shards, "--line", "100", "--json").stdout)
    assert result == {
        "line": 100,
        "file": str(digits_csv),
        "file_line": 100,
        "label": str(row[0]),
        "pixels": row[1:],
    }
    done = call_cli("inspect", shards, "--line", "100")
    head, *picture = done.stdout.splitlines()
    assert head == f"{digits_csv}:100  label {row[0]}"
    dark = np.array(row[1:]).reshape(4, 2, 8).mean(axis=1) < 5
    assert [[cell == " " for cell in f"{line:8}"] for line in picture] == dark.tolist()
    assert call_cli("inspect", shards, "--line", "1").returncode == 2
    assert call_cli("inspect", shards, "--line", "9999").returncode == 2


def test_a_run_shows_its_recipe_and_curve(call_cli: RunCli, shards: Path) -> None:
    assert call_cli("train", shards, "--out", "run", "--epochs", "3", "--lr", "0.5").returncode == 0
    done = call_cli("inspect", "run")
    assert "64→100→10 units" in done.stdout
    assert "lr 0.5" in done.stdout
    assert "3 epochs, train loss" in done.stdout
    result = json.loads(call_cli("inspect", "run", "--json").stdout)
    assert (result["layers"], len(result["epochs"]), result["recipe"]["epochs"]) == ([64, 100, 10], 3, 3)
    assert call_cli("inspect", "run", "--line", "3").returncode == 2


def test_anything_but_data_or_a_run_is_refused_by_name(call_cli: RunCli, tmp_path: Path) -> None:
    for path in (tmp_path, "missing"):
        done = call_cli("inspect", path)
        assert done.returncode == 1
        assert done.stderr.startswith(f"error: {path}: ")
