"""`streamtrain predict` and `evaluate`: every row, in its order, as torch computes it."""

from __future__ import annotations

import csv
import gzip
import json
import subprocess
import sys
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
    from streamtrain.train.config import FitConfig
    from streamtrain.train.fit import Training
    from streamtrain.train.run import Run

    folder = tmp_path_factory.mktemp("runs") / "run"
    train = st.open_shards(shards)
    model = st.MLP(64)
    training = Training(model, train, FitConfig(epochs=5, lr=0.5))
    made = Run.create(folder, training, {"data": str(shards)})
    list(training)
    made.save(training)
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
    call_cli: RunCli, run: Path, digits_csv: Path, tmp_path: Path
) -> None:
    labels, confidence, _ = expected(run, digits_csv)
    bare = "\n".join(line.split(",", 1)[1] for line in digits_csv.read_text().splitlines()[1:])
    (tmp_path / "bare.csv").write_text(bare)
    for path in (digits_csv, Path("bare.csv")):
        done = call_cli("predict", run, path)
        assert done.returncode == 0, done.stderr
        header, *rows = csv.reader(done.stdout.splitlines())
        assert header == ["row", "label", "confidence"]
        assert [int(row[0]) for row in rows] == list(range(600))
        assert [int(row[1]) for row in rows] == labels.tolist()
        assert [float(row[2]) for row in rows] == pytest.approx(confidence.tolist(), abs=2e-6)


def test_a_bad_row_keeps_its_number_and_gets_no_label(
    call_cli: RunCli, run: Path, digits_csv: Path, tmp_path: Path
) -> None:
    lines = digits_csv.read_text().splitlines()
    lines[3] = lines[3].replace(",", ",x", 1)
    lines.insert(2, "")  # a blank line is not a row
    (tmp_path / "bad.csv").write_text("\n".join(lines))
    done = call_cli("predict", run, "bad.csv", "--json")
    assert done.returncode == 3
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["row"] for row in rows] == list(range(600))
    assert [row["row"] for row in rows if row["label"] is None] == [2]
    assert rows[2]["confidence"] is None
    assert "bad.csv:5: column 2" in done.stderr


def test_a_kaggle_submission_is_written_whole_from_a_gzip_file(
    call_cli: RunCli, run: Path, digits_csv: Path, tmp_path: Path
) -> None:
    labels, _, _ = expected(run, digits_csv)
    lines = [line.split(",", 1)[1] for line in digits_csv.read_text().splitlines()]
    lines[8] = lines[8].replace(",", ",x", 1)
    (tmp_path / "test.csv.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    command = ("predict", run, "test.csv.gz", "--columns", "ImageId,Label", "--start", "1", "--out", "sub.csv")
    done = call_cli(*command)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("warning: test.csv.gz:9: column 2")
    assert done.stderr.endswith("Row 8 gets no label\nsub.csv: 600 rows, 1 of them without a label\n")
    header, *rows = (tmp_path / "sub.csv").read_text().splitlines()
    assert header == "ImageId,Label"
    assert rows == [f"{i},{'' if i == 8 else label}" for i, label in enumerate(labels, start=1)]
    again = call_cli(*command)
    assert (again.returncode, "--overwrite" in again.stderr) == (2, True)
    assert call_cli(*command, "--overwrite", "--json").returncode == 3
    assert json.loads((tmp_path / "sub.csv").read_text().splitlines()[7]) == {"ImageId": 8, "Label": None}
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_proba_adds_a_column_a_class_that_sums_to_one(call_cli: RunCli, run: Path, digits_csv: Path) -> None:
    done = call_cli("predict", run, digits_csv, "--proba")
    header, *rows = csv.reader(done.stdout.splitlines())
    assert header == ["row", "label", "confidence", *(f"p_{k}" for k in range(10))]
    table = np.array(rows, dtype=float)
    assert table[:, 3:].sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert table[:, 3:].argmax(axis=1).tolist() == table[:, 1].tolist()
    assert table[:, 3:].max(axis=1).tolist() == table[:, 2].tolist()


@pytest.mark.parametrize("names", ["row", "a,a", "a,,b", "a,b,c,d"])
def test_columns_are_two_or_three_names(call_cli: RunCli, run: Path, digits_csv: Path, names: str) -> None:
    done = call_cli("predict", run, digits_csv, "--columns", names)
    assert done.returncode == 2
    assert "ImageId,Label" in done.stderr


@pytest.mark.parametrize("rows", [1, 20])
def test_a_reader_that_stops_early_is_not_an_error(run: Path, digits_csv: Path, tmp_path: Path, rows: int) -> None:
    header, *lines = digits_csv.read_text().splitlines()
    (tmp_path / "long.csv").write_text("\n".join([header, *lines * rows]))
    command = [sys.executable, "-m", "streamtrain", "predict", str(run), "long.csv"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""


def test_a_csv_of_another_width_is_refused(call_cli: RunCli, run: Path, tmp_path: Path) -> None:
    (tmp_path / "narrow.csv").write_text("".join(f"0,{i},0,{i % 7}\n" for i in range(50)))
    done = call_cli("predict", run, "narrow.csv", "--label", "none")
    assert done.returncode == 1
    assert "narrow.csv: a row has 4 pixels, but the model takes 64" in done.stderr


def test_an_evaluation_counts_each_row_once_in_the_confusion_of_torch_and_sklearn(
    call_cli: RunCli, run: Path, shards: Path, digits_csv: Path
) -> None:
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    predicted, _, true = expected(run, digits_csv)
    done = call_cli("evaluate", run, shards, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["rows"] == 600
    assert result["accuracy"] == (predicted == true).mean()
    assert result["confusion"] == confusion_matrix(true, predicted, labels=range(10)).tolist()
    scores = precision_recall_fscore_support(true, predicted, labels=range(10), zero_division=0)
    for key, values in zip(("precision", "recall", "f1", "support"), scores, strict=True):
        reported = [result["per_class"][str(k)][key] for k in range(10)]
        assert reported == pytest.approx(values.tolist(), abs=1e-12)
