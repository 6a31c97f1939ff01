"""Only streamtrain's own code runs: no module next to the data, or where another user could write."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import streamtrain
from streamtrain.import_path import python_command

PACKAGE = Path(streamtrain.__file__).parent
TRAP = "open('RAN', 'w').close()\n"


def streamtrain_in(folder: Path, *words: str, start: tuple[str, ...], **env: str) -> str:
    """Run the command in a folder; return its output. It must succeed."""
    done = subprocess.run(
        [sys.executable, *start, *words],
        cwd=folder,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


SCRIPT = ("-P", "-c", "from streamtrain.__main__ import main; main()")  # what the installed command does
MODULE = ("-m", "streamtrain")


@pytest.mark.parametrize("module", ["click", "csv", "platform", "shlex", "numpy", "sitecustomize"])
def test_a_module_next_to_the_csv_is_not_imported_by_the_conversion_that_train_starts(
    digits_csv: Path, tmp_path: Path, module: str
) -> None:
    (tmp_path / "d.csv").write_bytes(digits_csv.read_bytes())
    (tmp_path / f"{module}.py").write_text(TRAP)
    said = streamtrain_in(tmp_path, "train", "d.csv", "--out", "run", "--epochs", "1", start=SCRIPT)
    assert "is converted first" in said
    assert not (tmp_path / "RAN").exists()


@pytest.mark.parametrize("module", ["click", "csv", "typing", "signal", "numpy"])
def test_python_m_streamtrain_leaves_the_current_folder_before_it_imports(
    digits_csv: Path, tmp_path: Path, module: str
) -> None:
    (tmp_path / "d.csv").write_bytes(digits_csv.read_bytes())
    (tmp_path / f"{module}.py").write_text(TRAP)
    streamtrain_in(tmp_path, "inspect", "d.csv", start=MODULE)
    assert not (tmp_path / "RAN").exists()


def test_a_checkout_and_a_folder_named_by_pythonpath_are_found_all_the_same(
    digits_csv: Path, tmp_path: Path
) -> None:
    """The package is found through the current folder, as in a checkout, and PYTHONPATH names that in full."""
    shutil.copytree(PACKAGE, tmp_path / "streamtrain", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "d.csv").write_bytes(digits_csv.read_bytes())
    said = streamtrain_in(tmp_path, "train", "d.csv", "--out", "run", "--epochs", "1", start=MODULE, PYTHONPATH="")
    assert "is converted first" in said
    (tmp_path / "sitecustomize.py").write_text(TRAP)
    streamtrain_in(tmp_path, "--version", start=SCRIPT, PYTHONPATH=str(tmp_path))
    assert (tmp_path / "RAN").exists()  # the user asked for it


def test_an_empty_entry_of_pythonpath_is_not_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", ".", "/somewhere"]))
    monkeypatch.syspath_prepend("")
    command, environment = python_command("print(sys.path)")
    assert environment["PYTHONPATH"] == "/somewhere"
    paths = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert str(tmp_path) not in paths
    assert "''" not in paths
    assert str(PACKAGE.parent) in paths
