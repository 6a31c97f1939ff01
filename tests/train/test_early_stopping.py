"""Training ends when the accuracy on validation data has not risen for some epochs, also after a resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import streamtrain as st
from streamtrain.errors import UsageError
from streamtrain.train.checkpoint import load_checkpoint
from streamtrain.train.early_stopping import NO_EPOCH, Best, epochs_left

if TYPE_CHECKING:
    from conftest import RunCli

SLOW = ("--lr", "1e-7", "--epochs", "9", "--patience", "3")  # the accuracy stays what it is after the first epoch


def test_the_best_epoch_is_the_first_of_the_highest_accuracy() -> None:
    best = NO_EPOCH
    for epoch, accuracy in enumerate((0.5, 0.7, 0.7, 0.6), 1):
        best = best.after(epoch, accuracy)
    assert best == Best(2, 0.7)
    assert [epochs_left(2, best, epoch) for epoch in (2, 3, 4, 5)] == [2, 1, 0, 0]
    assert epochs_left(0, best, 99) is None


def test_it_stops_when_patience_ends_and_says_how_many_epochs_are_left(shards: Path) -> None:
    model, data = st.MLP(64, (8,), 10), st.open_shards(shards)
    reports = st.fit(model, data, val=data, lr=1e-7, epochs=9, patience=3)
    assert [report.patience_left for report in reports] == [3, 2, 1, 0]
    better = st.fit(st.MLP(64, (8,), 10), data, val=data, lr=0.5, batch_size=32, epochs=3, patience=1)
    assert [report.patience_left for report in better][:2] == [1, 1]
    with pytest.raises(UsageError, match="`patience=3` needs data to judge by: pass `val`"):
        st.fit(model, data, test=data, patience=3)


def test_a_run_that_stopped_is_finished_and_one_that_was_cut_short_stops_at_the_same_epoch(
    call_cli: RunCli, shards: Path, tmp_path: Path
) -> None:
    def lines(*words: str | Path) -> list[dict[str, Any]]:
        return [json.loads(line) for line in call_cli("train", *words, "--json").stdout.splitlines()]

    *epochs, last = lines(shards, "--val", shards, "--out", "run", *SLOW)
    assert [line["epoch"] for line in epochs] == [1, 2, 3, 4]
    assert last["epochs"] == 4
    assert lines("--resume", "run") == [last]
    assert load_checkpoint(tmp_path / "run" / "last.safetensors").best.epoch == 1
    refused = call_cli("train", "--resume", "run", "--epochs", "20")
    assert refused.returncode == 2
    assert "has stopped after 3 epochs without a better one than epoch 1" in refused.stderr
    assert "--init run" in refused.stderr
    shown = call_cli("train", shards, "--val", shards, "--out", "shown", *SLOW).stdout.splitlines()
    assert shown[1].endswith("  left")
    assert [line.split()[-1] for line in shown[2:6]] == ["3", "2", "1", "0"]
    without = call_cli("train", shards, "--out", "none", *SLOW)
    assert (without.returncode, "--patience 3 needs data" in without.stderr) == (2, True)
    assert not (tmp_path / "none").exists()
