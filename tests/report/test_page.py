"""The page shows the figures of the run and its test set, and its commands make the same weights again."""

from __future__ import annotations

import base64
import json
import re
import shlex
import shutil
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import streamtrain as st
from streamtrain.report.page import render
from streamtrain.report.png import grey, signed
from streamtrain.report.run_view import RunView, view
from streamtrain.train.config import FitConfig
from streamtrain.train.fit import Training
from streamtrain.train.run import Run

if TYPE_CHECKING:
    from conftest import RunCli

pytest.importorskip("jinja2")


@pytest.fixture(scope="module")
def seen(report_run: Path, report_data: tuple[Path, Path]) -> RunView:
    return view(report_run, st.open_shards(report_data[1]), tested=str(report_data[1]))


@pytest.fixture(scope="module")
def page(seen: RunView) -> str:
    return render([seen])


def test_the_figures_are_those_of_evaluate(page: str, seen: RunView) -> None:
    evaluation = st.evaluate(seen.checkpoint.model, seen.shards)
    assert f"<dd>{100 * evaluation.accuracy:.2f} %</dd>" in page
    assert f"<dd>{evaluation.loss:.4f}</dd>" in page
    table = page.split('<table class="matrix">')[1].split("</table>")[0]
    cells = [re.sub(r"<[^>]*>", "", cell) for cell in re.findall(r"<td.*?</td>", table, flags=re.S)]
    assert [int(cell or 0) for cell in cells] == evaluation.confusion.flatten().tolist()


def test_each_misread_digit_names_its_file_and_line(seen: RunView, report_data: tuple[Path, Path]) -> None:
    assert {picture.file for picture in seen.worst} == {"first.csv", "<second>.csv"}
    for picture in seen.worst:
        label, *pixels = Path(picture.path).read_text().splitlines()[picture.line - 1].split(",")
        assert label == picture.true
        assert picture.uri == grey(np.array(pixels, dtype=float).reshape(8, 8) / seen.checkpoint.schema.scale[1])


def test_names_from_outside_are_escaped_and_nothing_is_fetched(page: str) -> None:
    assert "&lt;second&gt;.csv" in page
    assert "<second>" not in page
    assert "<script" not in page
    assert re.findall(r'(?:src|href)="(?!#|data:)', page) == []
    assert "http" not in page.replace("http-equiv", "")


def test_every_link_has_its_place_and_every_picture_its_words(page: str) -> None:
    places = re.findall(r'\bid="([^"]*)"', page)
    assert len(places) == len(set(places))
    assert set(re.findall(r'href="#([^"]*)"', page)) <= set(places)
    assert len(re.findall(r'href="#r0-\d-\d"', page)) > 3
    assert all(re.search(r'alt="[^"]+"', image) for image in re.findall(r"<img[^>]*>", page))
    assert page.count('<svg class="square" viewBox') + page.count('role="img"') == 4


def test_the_same_run_gives_the_same_page(seen: RunView, page: str, report_data: tuple[Path, Path]) -> None:
    again = view(seen.folder, st.open_shards(report_data[1]), tested=str(report_data[1]))
    assert render([again]) == page


def test_its_commands_make_the_same_weights_again(
    call_cli: RunCli, seen: RunView, page: str, tmp_path: Path
) -> None:
    commands = unescape(page.split("<pre>")[1].split("</pre>")[0]).splitlines()
    assert [shlex.split(command)[1] for command in commands] == ["convert", "train"]
    assert call_cli(*shlex.split(commands[0])[1:]).returncode == 0
    done = call_cli(*shlex.split(commands[1])[1:], "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["weights_sha256"] in page


def test_its_commands_spell_every_setting_as_the_command_line_reads_it(
    call_cli: RunCli, report_data: tuple[Path, Path]
) -> None:
    train = (
        "train",
        report_data[0],
        "--epochs",
        "2",
        "--class-weights",
        "3=2.5",
        "--hidden",
        "none",
        "-q",
        "--json",
    )
    first = call_cli(*train, "--out", "run")
    seen = view(Path("run"), st.open_shards(report_data[1]), tested=str(report_data[1]))
    assert (seen.settings["memory"], seen.settings["hidden"]) == ("256MB", "none")
    words = shlex.split(seen.commands[-1].replace("again-shards", str(report_data[0])))
    done = call_cli(*words[1:], "-q", "--json")
    assert done.returncode == 0, done.stderr
    weights = [json.loads(each.stdout.splitlines()[-1])["weights_sha256"] for each in (first, done)]
    assert weights[0] == weights[1]


def test_its_commands_never_write_to_what_they_read(run_cli: RunCli, digits_csv: Path, tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_bytes(digits_csv.read_bytes())
    assert run_cli("train", "d.csv", "--out", "run", "--epochs", "1", "-q").returncode == 0
    page = view(tmp_path / "run", st.open_shards(tmp_path / "d.csv.shards"), tested="d.csv")
    convert, train = (shlex.split(command)[1:] for command in page.commands)
    assert convert == ["convert", "d.csv", "again-shards"]
    assert run_cli(*convert).returncode == 0
    assert run_cli(*train).returncode == 0
    assert (tmp_path / "d.csv").read_bytes() == digits_csv.read_bytes()


def test_a_run_whose_data_is_gone_is_still_reported(
    seen: RunView, report_data: tuple[Path, Path], tmp_path: Path
) -> None:
    moved = report_data[0].rename(tmp_path / "elsewhere")
    try:
        page = render([view(seen.folder, st.open_shards(report_data[1]), tested=str(report_data[1]))])
    finally:
        moved.rename(report_data[0])
    assert "is missing or has changed" in page


def test_runs_stand_side_by_side_with_what_differs(
    call_cli: RunCli, report_run: Path, other_run: Path, tmp_path: Path
) -> None:
    done = call_cli("report", report_run, other_run, "--out", "both.html", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    page = (tmp_path / "both.html").read_text()
    assert result["bytes"] == len(page.encode())
    for run in result["runs"]:
        assert f"<td>{run['accuracy']:.4f}</td>" in page
    side = page.split("Side by side")[1].split("</table>")[0]
    assert re.search(r'<th scope="row">lr</th><td>0.3</td><td>1.0</td>', side)
    assert '<th scope="row">seed</th>' not in side
    assert page.count('<table class="matrix">') == 2
    again = call_cli("report", report_run, "--out", "both.html")
    assert (again.returncode, "--overwrite" in again.stderr) == (2, True)


def test_runs_of_one_name_are_distinguished_by_their_folders(
    call_cli: RunCli, report_run: Path, tmp_path: Path
) -> None:
    for folder in ("a", "b"):
        shutil.copytree(report_run, tmp_path / folder / "run")
    assert call_cli("report", "a/run", "b/run", "--out", "both.html").returncode == 0
    page = (tmp_path / "both.html").read_text()
    assert "<h1>a/run, b/run</h1>" in page
    assert len(re.findall(r"</svg> a/run <b>", page)) == len(re.findall(r"</svg> b/run <b>", page)) == 2


def test_a_run_without_a_test_set_is_evaluated_on_its_training_data_and_says_so(
    call_cli: RunCli, shards: Path, tmp_path: Path
) -> None:
    call_cli("train", shards, "--out", "run", "--epochs", "1", "-q")
    done = call_cli("report", "run")
    assert "warning: run has no test data" in done.stderr
    page = (tmp_path / "run" / "report.html").read_text()
    assert "It is evaluated on the rows that it was trained on." in page
    assert len(re.findall(r'<circle class="s0" r="4"', page)) == 2  # one epoch: loss and accuracy of train


def test_of_very_many_epochs_some_stand_in_the_table(
    report_run: Path, report_data: tuple[Path, Path], tmp_path: Path
) -> None:
    shutil.copytree(report_run, tmp_path / "run")
    metrics = tmp_path / "run" / "metrics.jsonl"
    line = json.loads(metrics.read_text().splitlines()[0])
    metrics.write_text("".join(json.dumps(line | {"epoch": k}) + "\n" for k in range(1, 20_001)))
    page = render([view(tmp_path / "run", st.open_shards(report_data[1]), tested="test")])
    assert "here 400 of 20,000; all are in metrics.jsonl" in page
    table = page.split('aria-label="Figures of each epoch"')[1].split("</table>")[0]
    epochs = [int(number) for number in re.findall(r'<th scope="row">(\d+)</th>', table)]
    assert (len(epochs), epochs[0], epochs[-1]) == (400, 1, 20_000)
    assert len(page) < 1_000_000


def test_the_command_writes_into_the_run_and_again(call_cli: RunCli, report_run: Path) -> None:
    for _ in range(2):
        done = call_cli("report", report_run)
        assert done.returncode == 0, done.stderr
        assert (report_run / "report.html").exists()
    assert done.stdout.startswith(f"{report_run}/report.html: ")


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (28, 28)])
def test_a_picture_keeps_its_pixels(shape: tuple[int, int]) -> None:
    image_module = pytest.importorskip("PIL.Image")
    import io

    def opened(uri: str, mode: str) -> np.ndarray:
        data = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
        return np.asarray(image_module.open(io.BytesIO(data)).convert(mode))

    values = np.random.default_rng(0).random(shape)
    assert opened(grey(values), "L").tolist() == np.rint(values * 255).astype(int).tolist()
    mixed = opened(signed(values * 2 - 1), "RGBA")
    assert ((mixed[..., 0] > mixed[..., 2]) >= (values * 2 - 1 > 0.01)).all()
    assert (np.abs(mixed[..., 3] / 255 - np.abs(values * 2 - 1)) < 0.02).all()


def test_the_page_of_a_run_that_misreads_most_of_mnist_stays_small(
    call_cli: RunCli, real_data: Path, tmp_path: Path
) -> None:
    assert call_cli("convert", real_data / "mnist_test.csv.gz", "test").returncode == 0
    shards = st.open_shards("test")
    model = st.MLP(seed=3)
    model.weights[0].mul_(30)
    model.weights[1].sub_(
        model.weights[1].mean(1, keepdim=True)
    )  # with fewer epochs it predicts few of the classes
    Run.create(tmp_path / "run", Training(model, shards, FitConfig()), {"data": "test", "test": "test"})
    assert call_cli("report", "run").returncode == 0
    page = (tmp_path / "run" / "report.html").read_bytes()
    assert page.count(b"<li><img") > 1000
    assert len(page) < 3_000_000
