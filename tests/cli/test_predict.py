"""`streamtrain predict` and `evaluate`: every row, in its order, as torch computes it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

import streamtrain as st

if TYPE_CHECKING:
    from conftest import RunCli


@pytest.fixture(scope="module")
def run(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from streamtrain.learn.fit import Progress
    from streamtrain.learn.run import Run

    folder = tmp_path_factory.mktemp("runs") / "run"
    train = st.open_shards(shards)
    model = st.MLP(64)
    made = Run.create(folder, model, train, {"data": str(shards)})
    list(st.fit(model, train, epochs=5, lr=0.5))
    made.save(model, Progress.at(6))
    return folder


def expected(run: Path, digits_csv: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predicted class and confidence of every row by torch's own layers, and the true labels."""
    table = np.loadtxt(digits_csv, delimiter=",", skiprows=1)
    net = torch.nn.Sequential(torch.nn.Linear(64, 100), torch.nn.Sigmoid(), torch.nn.Linear(100, 10))
    net.load_state_dict(st.load(run).model.state_dict(), strict=True)
    with torch.no_grad():
        probs = torch.softmax(net(torch.from_numpy(table[:, 1:]).float() / table[:, 1:].max()), dim=1)
    return probs.argmax(1).numpy(), probs.amax(1).numpy(), table[:, 0]


def test_each_row_gets_its_label_and_confidence_with_or_without_labels_in_the_file(
    run_cli: RunCli, run: Path, digits_csv: Path, tmp_path: Path
) -> None:
    labels, confidence, _ = expected(run, digits_csv)
    bare = "\n".join(line.split(",", 1)[1] for line in digits_csv.read_text().splitlines()[1:])
    (tmp_path / "bare.csv").write_text(bare)
    for path in (digits_csv, Path("bare.csv")):
        done = run_cli("predict", run, path)
        assert done.returncode == 0, done.stderr
        header, *rows = csv.reader(done.stdout.splitlines())
        assert header == ["row", "label", "confidence"]
        assert [int(row[0]) for row in rows] == list(range(600))
        assert [int(row[1]) for row in rows] == labels.tolist()
        assert [float(row[2]) for row in rows] == pytest.approx(confidence.tolist(), abs=2e-6)


def test_a_bad_row_keeps_its_number_and_gets_no_label(
    run_cli: RunCli, run: Path, digits_csv: Path, tmp_path: Path
) -> None:
    lines = digits_csv.read_text().splitlines()
    lines[3] = lines[3].replace(",", ",x", 1)
    lines.insert(2, "")  # a blank line is no row
    (tmp_path / "bad.csv").write_text("\n".join(lines))
    done = run_cli("predict", run, "bad.csv", "--json")
    assert done.returncode == 3
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["row"] for row in rows] == list(range(600))
    assert [row["row"] for row in rows if row["label"] is None] == [2]
    assert rows[2]["confidence"] is None
    assert "bad.csv:5: column 2" in done.stderr


def test_a_csv_of_another_width_is_refused(run_cli: RunCli, run: Path, tmp_path: Path) -> None:
    (tmp_path / "narrow.csv").write_text("".join(f"0,{i},0,{i % 7}\n" for i in range(50)))
    done = run_cli("predict", run, "narrow.csv", "--label", "none")
    assert done.returncode == 1
    assert "narrow.csv: a row has 4 pixels, the model reads 64" in done.stderr


def test_an_evaluation_counts_each_row_once_in_the_confusion_of_torch_and_sklearn(
    run_cli: RunCli, run: Path, shards: Path, digits_csv: Path
) -> None:
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    predicted, _, true = expected(run, digits_csv)
    done = run_cli("evaluate", run, shards, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["rows"] == 600
    assert result["accuracy"] == (predicted == true).mean()
    assert result["confusion"] == confusion_matrix(true, predicted, labels=range(10)).tolist()
    scores = precision_recall_fscore_support(true, predicted, labels=range(10), zero_division=0)
    for key, values in zip(("precision", "recall", "f1", "support"), scores, strict=True):
        told = [result["per_class"][str(k)][key] for k in range(10)]
        assert told == pytest.approx(values.tolist(), abs=1e-12)
