"""`streamtrain train` as a process: its result, its run folder, and what stops it."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import safetensors.torch
import torch
from shared import without_times

import streamtrain as st
from streamtrain.metrics.evaluation import Evaluation
from streamtrain.storage.locks import lock_file
from streamtrain.train.checkpoint import load_checkpoint, weights_sha256
from streamtrain.train.epoch_evaluation import EpochEvaluation
from streamtrain.train.run import Run

if TYPE_CHECKING:
    from conftest import JsonLines, RunCli, SignalAt

EPOCH_KEYS = {
    *("epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "rows", "seconds"),
    *("rows_per_second", "eval_seconds", "peak_rss_mb", "label_disorder", "effective_batch_size", "wait_share"),
}


def test_a_run_reports_each_epoch_and_leaves_what_its_last_line_names(
    run_cli: RunCli, shards: Path, tmp_path: Path, json_lines: JsonLines
) -> None:
    done = run_cli("train", shards, "--test", shards, "--out", "run", "--epochs", "3", "--lr", "0.5", "--json")
    assert done.returncode == 0, done.stderr
    *epochs, last = json_lines(done.stdout)
    assert [line["epoch"] for line in epochs] == [1, 2, 3]
    assert all(line.keys() >= EPOCH_KEYS and line["rows"] == 600 for line in epochs)
    assert epochs[0]["train_loss"] > epochs[2]["train_loss"]
    assert epochs[2]["train_accuracy"] == epochs[2]["test_accuracy"] > 0.5
    assert "at most" in done.stderr  # the predicted peak
    assert not re.search(r"[\x1b\r]", done.stdout + done.stderr)  # no control character reaches a pipe
    assert json_lines((tmp_path / "run" / "metrics.jsonl").read_text()) == epochs
    state = safetensors.torch.load_file(tmp_path / last["checkpoint"])
    assert (last["done"], last["epochs"], last["weights_sha256"]) == (True, 3, weights_sha256(state))
    model = st.MLP(64)
    assert [
        r.test_loss for r in st.fit(model, st.open_shards(shards), test=st.open_shards(shards), epochs=3, lr=0.5)
    ]
    assert weights_sha256(model.state_dict()) == last["weights_sha256"]
    recipe = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert (recipe["lr"], recipe["batch_size"], recipe["seed"], recipe["window_rows"]) == (0.5, 256, 0, 600)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        *("recipe.json", "metrics.jsonl", "last.safetensors", "previous.safetensors", "best.safetensors")
    }


def test_the_best_epoch_has_the_highest_accuracy_on_val(
    call_cli: RunCli, shards: Path, tmp_path: Path, json_lines: JsonLines
) -> None:
    done = call_cli(
        *("train", shards, "--val", shards, "--out", "run", "--epochs", "6", "--lr", "3", "--batch-size", "600"),
        *("--no-eval-train", "--json"),
    )
    *epochs, _ = json_lines(done.stdout)
    assert {(line["train_accuracy"], line["test_loss"]) for line in epochs} == {(None, None)}
    best = st.load(tmp_path / "run")
    accuracies = [line["val_accuracy"] for line in epochs]
    assert best.progress.cursor == (1 + accuracies.index(max(accuracies)) + 1, 0)
    assert st.evaluate(best.model, st.open_shards(shards)).accuracy == max(accuracies)


def test_a_csv_is_converted_next_to_itself_once_and_again_when_it_changes(
    run_cli: RunCli, digits_csv: Path, tmp_path: Path
) -> None:
    csv = tmp_path / "digits.csv"
    csv.write_bytes(digits_csv.read_bytes())
    command = ("train", "digits.csv", "--epochs", "1", "-q", "--out")
    first = run_cli(*command, "one")
    assert (first.returncode, "converted" in first.stderr) == (0, True), first.stderr
    assert st.open_shards(tmp_path / "digits.csv.shards").rows == 600
    os.utime(csv, (1, 1))  # touched, the same bytes
    again = run_cli(*command, "two")
    assert (again.returncode, "converted" in again.stderr) == (0, False), again.stderr
    text = csv.read_text()
    csv.write_text(text[:-2] + ("1" if text[-2] == "0" else "0") + "\n")
    changed = run_cli(*command, "three")
    assert changed.returncode == 1
    assert "digits.csv changed" in changed.stderr
    assert "--overwrite" in changed.stderr
    assert not (tmp_path / "three").exists()


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root may write anywhere")
def test_a_finished_run_repeats_its_last_line_and_goes_on_when_epochs_are_raised(
    call_cli: RunCli, shards: Path, tmp_path: Path, json_lines: JsonLines
) -> None:
    whole = json_lines(call_cli("train", shards, "--out", "whole", "--epochs", "4", "--json").stdout)
    half = json_lines(call_cli("train", shards, "--out", "half", "--epochs", "2", "--json").stdout)
    again = json_lines(call_cli("train", "--resume", "half", "--json").stdout)
    assert again == half[-1:]
    more = json_lines(call_cli("train", "--resume", "half", "--epochs", "4", "--json").stdout)
    assert [line.get("epoch") for line in more] == [3, 4, None]
    assert more[-1]["weights_sha256"] == whole[-1]["weights_sha256"]
    lines = json_lines((tmp_path / "half" / "metrics.jsonl").read_text())
    assert without_times(lines) == without_times(whole[:-1])


def test_a_resume_keeps_the_recipe(call_cli: RunCli, shards: Path) -> None:
    call_cli("train", shards, "--out", "run", "--epochs", "1")
    others = {
        "--seed": ("1", "0"),
        "--batch-size": ("8", "256"),
        "--lr": ("1", "0.05"),
        "--hidden": ("9", "100"),
        "--memory": ("9MB", "256MB"),
    }
    for option, (given, recorded) in others.items():
        done = call_cli("train", "--resume", "run", option, given)
        assert done.returncode == 2
        assert f"run was started with {option} {recorded}, not {option} {given}" in done.stderr.replace("1.0", "1")


def test_a_resume_on_other_data_is_refused(call_cli: RunCli, digits_csv: Path, tmp_path: Path) -> None:
    call_cli("convert", digits_csv, "data")
    call_cli("train", "data", "--out", "run", "--epochs", "1")
    lines = digits_csv.read_text().splitlines(keepends=True)
    (tmp_path / "fewer.csv").write_text("".join(lines[:500]))
    call_cli("convert", "fewer.csv", "data", "--overwrite")
    done = call_cli("train", "--resume", "run", "--epochs", "2")
    assert done.returncode == 1
    assert "is not the data" in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_is_saved_and_ends_as_the_uninterrupted_one(
    call_cli: RunCli,
    signal_at: SignalAt,
    shards: Path,
    tmp_path: Path,
    number: signal.Signals,
    code: int,
    json_lines: JsonLines,
) -> None:
    options = ("--test", str(shards), "--epochs", "3", "--batch-size", "60", "--json")
    whole = json_lines(call_cli("train", shards, "--out", "whole", *options).stdout)
    signal_at(number, (2, 240))
    cut = call_cli("train", shards, "--out", "cut", *options)
    assert cut.returncode == code
    assert "streamtrain train --resume cut" in cut.stderr
    # While the epoch before is evaluated, its end is saved.
    assert load_checkpoint(tmp_path / "cut" / "last.safetensors").progress.cursor in ((2, 240), (1, 600))
    done = call_cli("train", "--resume", "cut", "--json")
    assert json_lines(done.stdout)[-1]["weights_sha256"] == whole[-1]["weights_sha256"]
    lines = json_lines((tmp_path / "cut" / "metrics.jsonl").read_text())
    assert without_times(lines) == without_times(whole[:-1])


def test_a_run_that_is_interrupted_while_an_epoch_is_evaluated_has_each_epoch_once(
    call_cli: RunCli,
    signal_at: SignalAt,
    shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    json_lines: JsonLines,
) -> None:
    options = (
        "--test",
        str(shards),
        "--epochs",
        "3",
        "--batch-size",
        "60",
        "--checkpoint-every",
        "2steps",
        "--json",
    )
    whole = json_lines(call_cli("train", shards, "--out", "whole", *options).stdout)
    monkeypatch.setattr(EpochEvaluation, "is_ready", property(lambda evaluation: False))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)  # one of them evaluates
        signal_at(signal.SIGINT, (3, 240))
        assert call_cli("train", shards, "--out", "cut", *options).returncode == 130
        assert load_checkpoint(tmp_path / "cut" / "last.safetensors").progress.cursor == (2, 600)
        monkeypatch.undo()
        [line] = json_lines((tmp_path / "cut" / "metrics.jsonl").read_text())
        assert line["epoch"] == 1
        monkeypatch.chdir(tmp_path)
        done = call_cli("train", "--resume", "cut", "--json")
    finally:
        torch.set_num_threads(before)
    assert json_lines(done.stdout)[-1]["weights_sha256"] == whole[-1]["weights_sha256"]
    lines = json_lines((tmp_path / "cut" / "metrics.jsonl").read_text())
    assert without_times(lines) == without_times(whole[:-1])


def test_a_damaged_last_checkpoint_falls_back_to_the_one_before(
    call_cli: RunCli, shards: Path, tmp_path: Path, json_lines: JsonLines
) -> None:
    whole = json_lines(call_cli("train", shards, "--out", "whole", "--epochs", "4", "--json").stdout)
    call_cli("train", shards, "--out", "run", "--epochs", "3")
    last = tmp_path / "run" / "last.safetensors"
    data = bytearray(last.read_bytes())
    data[-1] ^= 1
    last.write_bytes(data)
    done = call_cli("train", "--resume", "run", "--epochs", "4", "--json")
    assert done.returncode == 0
    assert "warning: " in done.stderr
    assert "previous.safetensors" in done.stderr
    assert json_lines(done.stdout)[-1]["weights_sha256"] == whole[-1]["weights_sha256"]
    assert [line["epoch"] for line in json_lines((tmp_path / "run" / "metrics.jsonl").read_text())] == [1, 2, 3, 4]


def test_a_step_too_large_stops_before_the_weights_are_lost(
    call_cli: RunCli, shards: Path, tmp_path: Path
) -> None:
    done = call_cli("train", shards, "--out", "run", "--lr", "1e38", "--batch-size", "8")
    assert done.returncode == 1
    assert "epoch 1, row" in done.stderr
    assert "--lr" in done.stderr
    assert st.load(tmp_path / "run").progress.cursor == (1, 0)


def test_a_budget_too_small_names_the_smallest_that_works_and_that_one_does(
    call_cli: RunCli, shards: Path
) -> None:
    small = call_cli("train", shards, "--out", "run", "--epochs", "1", "--memory", "100KB")
    assert small.returncode == 2
    least = small.stderr.split("Pass --memory ")[1].split(" ")[0]
    done = call_cli("train", shards, "--out", "run", "--epochs", "1", "--memory", least)
    assert done.returncode == 0, done.stderr


def test_options_come_from_a_file_and_the_environment_and_the_command_line_wins(
    call_cli: RunCli, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run.toml").write_text('epochs = 1\nbatch-size = 100\n[train]\nlr = 0.2\nhidden = "7"\n')
    monkeypatch.setenv("STREAMTRAIN_SEED", "9")
    done = call_cli("train", shards, "--out", "run", "--config", "run.toml", "--batch-size", "50")
    assert done.returncode == 0, done.stderr
    recipe = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert {name: recipe[name] for name in ("epochs", "batch_size", "lr", "hidden", "seed")} == {
        "epochs": 1,
        "batch_size": 50,
        "lr": 0.2,
        "hidden": [7],
        "seed": 9,
    }
    (tmp_path / "run.toml").write_text("epoch = 1\n")
    unknown = call_cli("train", shards, "--out", "other", "--config", "run.toml")
    assert unknown.returncode == 2
    assert "'epoch' is not an option" in unknown.stderr


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--lr", "0", "--lr"),
        ("--lr", "-1", "--lr"),
        ("--momentum", "1", "--momentum"),
        ("--weight-decay", "-0.1", "--weight-decay"),
        ("--activation", "softplus", "--activation"),
        ("--memory", "inf", "is not a size"),
        ("--lr", "nan", "--lr is nan, but must be a number above 0"),
        ("--lr", "1e39", "at most 3.40282e+38"),
        ("--momentum", "nan", "--momentum is nan, but must be a number of at least 0 and below 1"),
        ("--weight-decay", "inf", "--weight-decay is inf, but must be a number of at least 0"),
        ("--seed", str(2**64), "--seed"),
        ("--hidden", "1000000000000", "below 2^31"),
        ("--hidden", "300000", "--memory 256MB is too small"),
    ],
)
def test_a_setting_out_of_range_is_refused_before_a_run_is_made(
    call_cli: RunCli, shards: Path, tmp_path: Path, option: str, value: str, message: str
) -> None:
    done = call_cli("train", shards, "--out", "run", option, value)
    assert done.returncode == 2
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--hidden", "none", "--dropout", "0.5"), "--dropout leaves out units of hidden layers"),
        (("--step-epochs", "3"), "--step-epochs is of the step schedule, not of constant"),
        (("--schedule", "cosine", "--step-factor", "0.5"), "--step-factor is of the step schedule, not of cosine"),
    ],
)
def test_a_setting_that_would_change_nothing_is_refused_before_a_run_is_made(
    call_cli: RunCli, shards: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    done = call_cli("train", shards, "--out", "run", *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_net_too_large_for_any_machine_is_refused_in_a_line(
    call_cli: RunCli, shards: Path, tmp_path: Path
) -> None:
    done = call_cli("train", shards, "--out", "run", "--hidden", "2147483647", "--memory", "9000000GB")
    assert done.returncode == 2
    assert done.stderr.startswith("error: this net, in batches of 256 rows, does not fit in the ")
    assert done.stderr.endswith("Use fewer --hidden units, or a smaller --batch-size\n")
    assert list(tmp_path.iterdir()) == []


def test_a_deep_net_with_momentum_learns_and_resumes_to_the_same_weights(
    call_cli: RunCli, shards: Path, tmp_path: Path, json_lines: JsonLines
) -> None:
    options = (
        "--hidden",
        "32,16",
        "--activation",
        "relu",
        "--momentum",
        "0.9",
        "--weight-decay",
        "0.001",
        "--json",
    )
    batches = ("--batch-size", "32", "--lr", "0.1", "-q")
    whole = json_lines(call_cli("train", shards, "--out", "whole", "--epochs", "4", *options, *batches).stdout)
    assert whole[-2]["train_accuracy"] > 0.9 > whole[0]["progressive_accuracy"] > 0.1
    call_cli("train", shards, "--out", "half", "--epochs", "2", *options, *batches)
    more = json_lines(call_cli("train", "--resume", "half", "--epochs", "4", "--json").stdout)
    assert more[-1]["weights_sha256"] == whole[-1]["weights_sha256"]
    model = st.load(tmp_path / "half").model
    assert (model.hidden, model.activation) == ((32, 16), "relu")
    for option, value in (("--momentum", "0.5"), ("--activation", "tanh"), ("--weight-decay", "0")):
        done = call_cli("train", "--resume", "half", option, value)
        assert (done.returncode, option in done.stderr) == (2, True)


def test_a_test_set_that_changed_is_refused_by_name(call_cli: RunCli, digits_csv: Path, tmp_path: Path) -> None:
    call_cli("convert", digits_csv, "data")
    call_cli("convert", digits_csv, "test")
    assert call_cli("train", "data", "--test", "test", "--out", "run", "--epochs", "1").returncode == 0
    lines = digits_csv.read_text().splitlines(keepends=True)
    (tmp_path / "fewer.csv").write_text("".join(lines[:500]))
    call_cli("convert", "fewer.csv", "test", "--overwrite")
    done = call_cli("train", "--resume", "run", "--epochs", "2")
    assert done.returncode == 1
    assert "is not the test that run was started with" in done.stderr


def test_epochs_are_raised_and_not_taken_back(call_cli: RunCli, shards: Path) -> None:
    call_cli("train", shards, "--out", "run", "--epochs", "3", "-q")
    done = call_cli("train", "--resume", "run", "--epochs", "2")
    assert done.returncode == 2
    assert "is in epoch 3 already: --epochs can be raised" in done.stderr
    assert call_cli("train", "--resume", "run", "--epochs", "3").returncode == 0


def test_the_second_of_two_processes_on_one_run_is_refused(call_cli: RunCli, shards: Path, tmp_path: Path) -> None:
    call_cli("train", shards, "--out", "run", "--epochs", "1", "-q")
    with lock_file(tmp_path / ".run.lock", busy="free"):  # as the other process holds it
        for command in (("--resume", "run"), (str(shards), "--out", "run", "--overwrite")):
            done = call_cli("train", *command)
            assert done.returncode == 2
            assert "run is being trained by another process" in done.stderr
    assert call_cli("train", "--resume", "run").returncode == 0


def test_a_run_is_replaced_only_when_asked_and_a_missing_one_is_refused(
    call_cli: RunCli, shards: Path, tmp_path: Path
) -> None:
    call_cli("train", shards, "--out", "run", "--epochs", "1", "-q")
    kept = (tmp_path / "run" / "last.safetensors").read_bytes()
    assert call_cli("train", shards, "--out", "run", "--epochs", "1", "--seed", "3").returncode == 2
    assert call_cli("train", shards, "--out", "run", "--lr", "nan", "--overwrite").returncode == 2
    assert (tmp_path / "run" / "last.safetensors").read_bytes() == kept
    done = call_cli("train", shards, "--out", "run", "--epochs", "1", "--seed", "3", "--overwrite")
    assert done.returncode == 0
    assert st.load(tmp_path / "run").recipe["seed"] == 3
    missing = call_cli("train", "--resume", "other")
    assert (missing.returncode, "there is no such run" in missing.stderr) == (1, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_a_second_signal_stops_at_once_and_the_run_goes_on_from_its_last_checkpoint(
    call_cli: RunCli, shards: Path, tmp_path: Path
) -> None:
    script = """
import os, signal
from streamtrain.__main__ import main
from streamtrain.train.epoch_evaluation import EpochEvaluation
from streamtrain.train.run import Run

def save(*_):  # the first signal comes while a checkpoint is written, the second in a call into C
    os.kill(os.getpid(), signal.SIGINT)
    print("saving", flush=True)
    os.kill(os.getpid(), signal.SIGINT)
    print("still here", flush=True)

Run.save = save
main()
"""
    options = (str(shards), "--out", "run", "--epochs", "2", "--checkpoint-every", "1steps")
    command = [sys.executable, "-c", script, "train", *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGINT, "saving\n")
    assert "Saving. A second signal stops at once" in done.stderr
    assert call_cli("train", "--resume", "run").returncode == 0


def test_a_raise_of_epochs_survives_a_kill(call_cli: RunCli, shards: Path, tmp_path: Path) -> None:
    call_cli("train", shards, "--out", "run", "--epochs", "1", "-q")
    script = """
import os, signal
from streamtrain.__main__ import main
from streamtrain.train.fit import Training

Training.__iter__ = lambda self: os.kill(os.getpid(), signal.SIGKILL)
main()
"""
    command = [sys.executable, "-c", script, "train", "--resume", "run", "--epochs", "100000"]
    assert subprocess.run(command, cwd=tmp_path, stderr=subprocess.DEVNULL, check=False).returncode == -9
    assert Run.open(tmp_path / "run")[0].recipe["epochs"] == 100_000
    (tmp_path / "run" / "recipe.json").write_text("{}")  # as if the kill had come before it was written
    Run.open(tmp_path / "run")
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["epochs"] == 100_000


def test_a_finished_run_needs_no_data_and_is_only_read(
    call_cli: RunCli, shards: Path, tmp_path: Path, json_lines: JsonLines
) -> None:
    shutil.copytree(shards, tmp_path / "data")
    first = call_cli("train", "data", "--out", "run", "--epochs", "1", "--json")
    (tmp_path / "data").rename(tmp_path / "moved")
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in (tmp_path / "run").iterdir()}
    again = call_cli("train", "--resume", "run", "--json")
    assert (again.returncode, json_lines(again.stdout)) == (0, json_lines(first.stdout)[-1:])
    assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in (tmp_path / "run").iterdir()} == before
    assert call_cli("train", "--resume", "run", "--epochs", "2").returncode == 1
    assert Run.open(tmp_path / "run")[0].recipe["epochs"] == 1


def test_a_run_has_one_lock_and_one_place_by_whatever_name(
    call_cli: RunCli, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call_cli("train", shards, "--out", "run", "--epochs", "1", "-q")
    (tmp_path / "link").symlink_to("run")
    with lock_file(tmp_path / ".run.lock", busy="free"):
        assert "another process" in call_cli("train", "--resume", "link").stderr
    assert call_cli("train", shards, "--out", "link", "--epochs", "2", "--overwrite").returncode == 0
    assert (tmp_path / "link").readlink() == Path("run")
    monkeypatch.chdir(tmp_path / "run")
    assert call_cli("train", "--resume", ".", "--epochs", "3").returncode == 0
    assert st.load(tmp_path / "run").recipe["epochs"] == 3
    for out in (".", ".."):
        done = call_cli("train", shards, "--out", out, "--overwrite")
        assert (done.returncode, "holds the current folder" in done.stderr) == (2, True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "circle").symlink_to("circle")
    done = call_cli("train", shards, "--out", "circle", "--epochs", "1")
    assert (done.returncode, "circle is a link that leads back to itself" in done.stderr) == (2, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["circle", "link", "run"]


def test_data_may_be_named_again_by_another_path_to_it(call_cli: RunCli, shards: Path, tmp_path: Path) -> None:
    shutil.copytree(shards, tmp_path / "data")
    call_cli("train", "data", "--test", "data", "--out", "run", "--epochs", "1")
    assert call_cli("train", "--resume", "run", "--test", "data", "--epochs", "2").returncode == 0
    assert call_cli("train", "--resume", "run", "--test", str(tmp_path / "data"), "--epochs", "3").returncode == 0
    done = call_cli("train", "--resume", "run", "--val", "data")
    assert (done.returncode, "run was started without --val. Leave --val out" in done.stderr) == (2, True)


def test_a_project_that_moved_goes_on_from_a_copy_of_its_source(
    call_cli: RunCli, digits_csv: Path, shards: Path, tmp_path: Path, json_lines: JsonLines
) -> None:
    whole = json_lines(
        call_cli("train", shards, "--test", shards, "--out", "whole", "--epochs", "3", "--json").stdout
    )
    (tmp_path / "old").mkdir()
    shutil.copy(digits_csv, tmp_path / "old" / "digits.csv")
    for folder in ("old/test", "old/digits.csv.shards"):
        call_cli("convert", "old/digits.csv", folder)
    call_cli("train", "old/digits.csv", "--test", "old/test", "--out", "old/run", "--epochs", "2")
    (tmp_path / "new").mkdir()
    (tmp_path / "old" / "run").rename(tmp_path / "new" / "my run")
    (tmp_path / "old" / "digits.csv").rename(tmp_path / "new" / "copy.csv")
    os.utime(tmp_path / "new" / "copy.csv", (1, 1))
    shutil.rmtree(tmp_path / "old")
    finished = call_cli("train", "--resume", "new/my run", "--json")
    assert (finished.returncode, json_lines(finished.stdout)[-1]["epochs"]) == (0, 2)
    lost = call_cli("train", "--resume", "new/my run", "--epochs", "3")
    assert lost.returncode == 1
    command = "streamtrain train --resume 'new/my run' DATA --test DATA"
    assert f"old/digits.csv. Pass its new place: {command}" in lost.stderr
    call_cli("convert", "new/copy.csv", "new/copy.csv.shards")
    words = ("--resume", "new/my run", "new/copy.csv", "--test", "new/copy.csv.shards")
    done = call_cli("train", *words, "--epochs", "3", "--json")
    assert (done.returncode, json_lines(done.stdout)[-1]["weights_sha256"]) == (0, whole[-1]["weights_sha256"])
    again = call_cli("train", "--resume", "new/my run", "--epochs", "4")  # the new places are recorded
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize(
    "forged",
    [
        *(
            {"lr": "0.05"},
            {"epochs": 2.5},
            {"window_rows": -5},
            {"data": 5},
            {"data": ""},
            {"memory": "x"},
            {"hidden": [7]},
        ),
        *({"test": None, "seed": -1}, {"hidden": [[]]}, {"batch_size": 0}, {"epochs": 0}, {"test": 7}),
    ],
    ids=str,
)
def test_a_recipe_that_training_did_not_write_is_refused_in_a_line(
    call_cli: RunCli, shards: Path, tmp_path: Path, forged: dict[str, Any]
) -> None:
    call_cli("train", shards, "--out", "run", "--epochs", "2", "-q")
    last = tmp_path / "run" / "last.safetensors"
    checkpoint = load_checkpoint(last)
    for recipe in (
        {**checkpoint.recipe, **forged},
        {name: value for name, value in checkpoint.recipe.items() if name not in forged},
    ):
        dataclasses.replace(checkpoint, recipe=recipe).save(last)
        (tmp_path / "run" / "recipe.json").unlink(missing_ok=True)
        (tmp_path / "run" / "previous.safetensors").unlink(missing_ok=True)
        done = call_cli("train", "--resume", "run", "--epochs", "9")
        assert done.returncode == 1
        assert re.fullmatch(
            r"error: run(: recipe.json was not written by streamtrain train|/last.safetensors is damaged): "
            rf".*\b({'|'.join(forged)}).*\n",
            done.stderr,
        )
        assert len(done.stderr) < 300


def test_a_recipe_that_was_edited_is_refused_by_name(call_cli: RunCli, shards: Path, tmp_path: Path) -> None:
    call_cli("train", shards, "--out", "run", "--epochs", "1", "-q")
    path = tmp_path / "run" / "recipe.json"
    text = path.read_text()
    for name, value in (("lr", 0.1), ("seed", 3), ("batch_size", 7)):
        path.write_text(json.dumps(json.loads(text) | {name: value}))
        done = call_cli("train", "--resume", "run", "--epochs", "2")
        assert (done.returncode, f"{name} is {value}, but the weights were" in done.stderr) == (1, True)
    for damaged in ("", "[1]", "{}"):
        path.write_text(damaged)
        assert call_cli("train", "--resume", "run").returncode == 0
        assert path.read_text() == text


@pytest.mark.parametrize("line", ["garbage", "[1]", "{}", '{"epoch": 1}', "\udcff"], ids=ascii)
def test_a_foreign_line_in_the_metrics_is_named(call_cli: RunCli, shards: Path, tmp_path: Path, line: str) -> None:
    call_cli("train", shards, "--out", "run", "--epochs", "1", "-q")
    with (tmp_path / "run" / "metrics.jsonl").open("ab") as file:
        file.write(line.encode(errors="surrogateescape") + b"\n")
    for words in (("train", "--resume", "run", "--epochs", "2"), ("inspect", "run")):
        done = call_cli(*words)
        assert done.returncode == 1
        assert "metrics.jsonl line 2 is not an epoch record" in done.stderr


def test_a_signal_while_evaluating_saves_the_whole_epoch(
    call_cli: RunCli, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, json_lines: JsonLines
) -> None:
    signals = [signal.SIGTERM]

    def struck(*args: Any) -> Evaluation:
        if signals:
            os.kill(os.getpid(), signals.pop())
        return added(*args)

    added = Evaluation.__add__
    with monkeypatch.context() as patched:
        patched.setattr(Evaluation, "__add__", struck)
        done = call_cli("train", shards, "--out", "run", "--epochs", "2")
    assert done.returncode == 143
    assert "--resume" in done.stderr
    assert load_checkpoint(tmp_path / "run" / "last.safetensors").progress.cursor == (1, 600)
    lines = json_lines(call_cli("train", "--resume", "run", "--json").stdout)
    assert [line.get("epoch") for line in lines] == [1, 2, None]


def test_evaluate_reports_the_top_3_accuracy_and_the_calibration(
    call_cli: RunCli, shards: Path, json_lines: JsonLines
) -> None:
    call_cli("train", shards, "--out", "run", "--epochs", "5", "--lr", "0.5", "-q")
    (result,) = json_lines(call_cli("evaluate", "run", shards, "--json").stdout)
    assert result["accuracy"] <= result["top3_accuracy"] <= 1
    assert sum(of["rows"] for of in result["calibration"]["bins"]) == result["rows"] == 600
    assert sum(of["correct"] for of in result["calibration"]["bins"]) == round(result["accuracy"] * 600)
    assert 0 <= result["calibration"]["expected_error"] <= 1
    text = call_cli("evaluate", "run", shards).stdout
    assert "precision" in text
    assert f"expected calibration error {result['calibration']['expected_error']:.4f}" in text


def test_the_line_of_an_epoch_has_the_progressive_accuracy_if_the_train_set_is_not_evaluated(
    call_cli: RunCli, shards: Path, tmp_path: Path, json_lines: JsonLines
) -> None:
    done = call_cli("train", shards, "--out", "run", "--epochs", "1", "--no-eval-train")
    (line,) = json_lines((tmp_path / "run" / "metrics.jsonl").read_text())
    assert line["train_accuracy"] is None
    sets, _, figures, *_ = done.stdout.splitlines()
    assert sets.split(maxsplit=1) == ["train,", "as learned"]
    assert figures.split()[:3] == ["1/1", f"{line['train_loss']:.4f}", f"{line['progressive_accuracy']:.4f}"]


def test_evaluate_and_report_say_which_checkpoint_and_which_data_they_took(
    call_cli: RunCli, shards: Path, tmp_path: Path, json_lines: JsonLines
) -> None:
    shutil.copytree(shards, tmp_path / "data")
    call_cli("train", "data", "--test", "data", "--out", "run", "--epochs", "2")
    best = load_checkpoint(tmp_path / "run" / "best.safetensors").progress.cursor.epoch - 1
    done = call_cli("evaluate", "run", "data")
    assert f"run/best.safetensors, after epoch {best}, on data\n" in done.stderr
    done = call_cli("evaluate", "run/last.safetensors", "data", "--json")
    assert "run/last.safetensors, after epoch 2, on data\n" in done.stderr
    (values,) = json_lines(done.stdout)
    assert values["checkpoint"] == "run/last.safetensors"
    assert (values["position"], values["data"]) == ("after epoch 2", "data")
    (run,) = json_lines(call_cli("report", "run", "--json").stdout)[0]["runs"]
    assert (run["checkpoint"], run["data"]) == ("run/best.safetensors", str(tmp_path / "data"))
    page = (tmp_path / "run" / "report.html").read_text()
    assert (
        f"those of <code>best.safetensors</code>, after epoch {best}, evaluated on <code>{run['data']}</code>"
        in page
    )
    (tmp_path / "data").rename(tmp_path / "moved")
    lost = call_cli("report", "run")
    assert lost.returncode == 1
    assert f"{tmp_path / 'data'}. Pass its new place: streamtrain report run --test DATA" in lost.stderr
    assert call_cli("report", "run", "--test", "moved").returncode == 0
    assert call_cli("train", "--resume", "run", "moved", "--test", "moved").returncode == 0
    assert "is missing or has changed" in (tmp_path / "run" / "report.html").read_text()
    assert call_cli("report", "run", "--test", "moved").returncode == 0


def test_a_file_named_as_shards_is_refused_with_the_command_that_converts_it(digits_csv: Path) -> None:
    with pytest.raises(
        st.DataError, match=r"digits\.csv is a file.* streamtrain convert .*digits\.csv .*csv\.shards"
    ):
        st.open_shards(digits_csv)


def test_a_run_on_a_file_system_without_hard_links_keeps_both_checkpoints(
    call_cli: RunCli, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, json_lines: JsonLines
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    train = ("train", shards, "--epochs", "2", "-q", "--json", "--out")
    whole = json_lines(call_cli(*train, "linked").stdout)[-1]
    monkeypatch.setattr(Path, "hardlink_to", refused)
    copied = json_lines(call_cli(*train, "copied").stdout)[-1]
    assert copied["weights_sha256"] == whole["weights_sha256"]
    for name in ("last.safetensors", "previous.safetensors"):
        epochs = [st.load(tmp_path / run / name).progress.cursor.epoch for run in ("linked", "copied")]
        assert epochs[0] == epochs[1], name
    assert sorted(p.name for p in (tmp_path / "copied").iterdir()) == sorted(
        p.name for p in (tmp_path / "linked").iterdir()
    )


def test_softmax_regression_is_trained_evaluated_shown_and_exported(
    call_cli: RunCli, shards: Path, tmp_path: Path, json_lines: JsonLines
) -> None:
    fast = ("--epochs", "3", "--batch-size", "16", "--lr", "0.5")
    done = call_cli("train", shards, "--test", shards, "--out", "run", "--hidden", "none", *fast, "--json")
    lines = json_lines(done.stdout)
    assert lines[2]["test_accuracy"] > 0.8
    assert load_checkpoint(tmp_path / "run" / "last.safetensors").model.hidden == ()
    [evaluated] = json_lines(call_cli("evaluate", "run", shards, "--json").stdout)
    assert evaluated["accuracy"] == max(line["test_accuracy"] for line in lines[:-1])
    assert "64→10 units" in call_cli("inspect", "run").stdout
    for words in (("report", "run"), ("export", "run", "--to", "onnx"), ("train", "--resume", "run")):
        assert call_cli(*words).returncode == 0, words


def test_a_weight_for_a_class_that_is_not_there_is_refused(call_cli: RunCli, shards: Path, tmp_path: Path) -> None:
    done = call_cli("train", shards, "--out", "run", "--class-weights", "3=2,ten=1")
    assert done.returncode == 2
    assert "--class-weights has 'ten', which is not a class of" in done.stderr
    assert not (tmp_path / "run").exists()
    refused = call_cli("train", shards, "--out", "run", "--class-weights", "most")
    assert "'most' is not of the form equal, balanced or 7=2,9=1.5" in refused.stderr
