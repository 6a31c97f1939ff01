"""A CSV given as DATA: where its shards go, who makes them, and what a run of somebody else may cause."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from streamtrain.cli.data import open_recorded_data
from streamtrain.errors import DataError
from streamtrain.shards.verify import verify
from streamtrain.train.checkpoint import load_checkpoint
from streamtrain.train.run import Run

if TYPE_CHECKING:
    from conftest import RunCli

# As root, without the right to write everywhere.
_MAY_NOT = ("setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override") if os.geteuid() == 0 else ()
_TRAIN = ("--epochs", "1", "-q")


@pytest.fixture
def csv(digits_csv: Path, tmp_path: Path) -> Path:
    """The digits in a folder of their own below tmp_path."""
    (tmp_path / "input").mkdir()
    return Path(shutil.copy(digits_csv, tmp_path / "input" / "d.csv"))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def restricted(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [*_MAY_NOT, sys.executable, "-P", "-m", "streamtrain", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_shards_that_cannot_lie_next_to_their_csv_go_to_the_current_folder_which_is_printed(
    csv: Path, tmp_path: Path
) -> None:
    csv.parent.chmod(0o555)
    done = restricted("train", "input/d.csv", "--out", "run", *_TRAIN, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (
        f"nothing can be written next to input/d.csv, so its shards go to {tmp_path}/d.csv.shards" in done.stderr
    )
    again = restricted("evaluate", "run", "input/d.csv", "-q", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert names(tmp_path) == ["d.csv.shards", "input", "run"]
    assert names(csv.parent) == ["d.csv"]
    csv.parent.chmod(0o755)
    csv.write_text(csv.read_text() + csv.read_text().splitlines()[-1] + "\n")
    csv.parent.chmod(0o555)
    changed = restricted("evaluate", "run", "input/d.csv", "-q", cwd=tmp_path)
    assert "changed since d.csv.shards was made from it" in changed.stderr


def test_where_nothing_can_be_written_at_all_there_is_one_line(csv: Path, tmp_path: Path) -> None:
    for folder in (csv.parent, tmp_path):
        folder.chmod(0o555)
    done = restricted("train", "input/d.csv", "--out", "/tmp/never", *_TRAIN, cwd=tmp_path)
    for folder in (csv.parent, tmp_path):
        folder.chmod(0o755)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "error: the shards of input/d.csv can be written neither next to it nor in the current folder. Go to a "
        "folder of your own first"
    )


def test_of_several_trainings_of_a_csv_one_converts_and_the_others_wait(csv: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "streamtrain", "train", str(csv), *_TRAIN, "--out"]
    started = [
        subprocess.Popen([*command, f"run{i}"], cwd=tmp_path, stderr=subprocess.PIPE, text=True) for i in range(3)
    ]
    said = [process.communicate()[1] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], said
    assert sum("is converted first" in text for text in said) == 1
    assert not any("error" in text for text in said)
    assert verify(csv.with_name("d.csv.shards")).ok
    assert names(csv.parent) == ["d.csv", "d.csv.shards"]
    assert len({load_checkpoint(tmp_path / f"run{i}/last.safetensors").data_digest for i in range(3)}) == 1


def test_a_csv_whose_name_begins_with_a_dash_is_not_taken_for_an_option(
    run_cli: RunCli, csv: Path, tmp_path: Path
) -> None:
    csv.rename(tmp_path / "-x.csv")
    done = run_cli("train", "./-x.csv", "--out", "run", *_TRAIN)
    assert done.returncode == 0, done.stderr
    assert "streamtrain convert ./-x.csv ./-x.csv.shards --resume" in done.stderr


def test_what_a_run_names_is_only_read(run_cli: RunCli, csv: Path, shards: Path, tmp_path: Path) -> None:
    assert run_cli("train", shards, "--test", shards, "--out", "run", *_TRAIN, "--epochs", "2").returncode == 0
    for name in ("last", "previous", "best"):
        path = tmp_path / f"run/{name}.safetensors"
        if path.exists():
            checkpoint = load_checkpoint(path)
            object.__setattr__(checkpoint, "recipe", {**checkpoint.recipe, "test": str(csv)})
            checkpoint.save(path)
    (tmp_path / "run/recipe.json").write_text(json.dumps(Run.open(tmp_path / "run")[0].recipe))
    advice = f"If it is the right file, name it yourself: streamtrain report run --test {csv}"
    assert run_cli("report", "run").stderr.endswith(f"{advice}\n")
    resumed = run_cli("train", "--resume", "run", "--epochs", "3", "-q")
    assert resumed.stderr.endswith(f"name it yourself: streamtrain train --resume run --test {csv}\n")
    assert names(csv.parent) == ["d.csv"]
    assert run_cli("report", "run", "--test", csv, "-q").returncode == 0


def test_an_address_on_the_web_that_a_run_names_is_not_fetched() -> None:
    again = ["streamtrain", "report", "run", "--test"]
    with pytest.raises(DataError, match="nothing is fetched from the web because a run names it") as refused:
        open_recorded_data("http://127.0.0.1:9/shards", "run", workers=1, again=again)
    assert str(refused.value).endswith("streamtrain report run --test http://127.0.0.1:9/shards")
