"""After a kill -9 of predict, report or export its file is whole or as before, and the next run cleans up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from shared import contents
from test_faults import calls_of, count_calls, in_child

if TYPE_CHECKING:
    from conftest import RunCli

COMMANDS = {
    "p.csv": ("predict", "run", "d.csv", "--label", "first", "--out", "p.csv", "--overwrite"),
    "report.html": ("report", "run", "--test", "shards", "--out", "report.html", "--overwrite"),
    "model.pt": ("export", "run", "--to", "torch", "--out", "model.pt", "--overwrite"),
}
SECONDS = 4 * 3600


def command(name: str) -> Callable[[], None]:
    """Return a function that runs the command that writes the file `name`, without a word, and exits."""

    def run() -> None:
        sys.argv = ["streamtrain", *COMMANDS[name], "-q"]
        for descriptor in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
        try:
            main()
        except SystemExit as left:
            if left.code:
                os._exit(int(left.code))

    return run


def killed(folder: Path, name: str, kills: int) -> dict[str, int]:
    """Kill a command at `kills` of its calls, spread evenly; return how often its file was as before or whole."""
    work, file = command(name), folder / name
    assert in_child(work) == 0
    whole = contents(folder)
    states = {"before": 0, "after": 0}
    for earlier in (None, whole[name]):
        for point in np.linspace(1, calls_of(work), kills // 2).astype(int).tolist():
            file.unlink(missing_ok=True)
            if earlier:
                file.write_bytes(earlier)

            def die(point: int = point) -> None:
                count_calls(die_at=point)
                work()

            assert in_child(die) in (0, signal.SIGKILL)  # 0: the calls of two runs differ a little
            there = file.read_bytes() if file.exists() else None
            assert there in (earlier, whole[name])
            states["after" if there == whole[name] else "before"] += 1
            assert in_child(work) == 0
            assert contents(folder) == whole
    return states


def campaign(
    run_cli: RunCli, shards: Path, digits_csv: Path, folder: Path, name: str, kills: int
) -> dict[str, int]:
    """Kill in a process that has no threads, which do not survive a fork."""
    (folder / "shards").symlink_to(shards)
    (folder / "d.csv").symlink_to(digits_csv)
    assert run_cli("train", "shards", "--out", "run", "--epochs", "2", "-q").returncode == 0
    words = [sys.executable, __file__, name, str(kills)]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    print(name, done.stdout)
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_kill_leaves_the_file_whole_or_as_before_and_the_next_run_leaves_nothing_else(
    run_cli: RunCli, shards: Path, digits_csv: Path, tmp_path: Path, name: str
) -> None:
    assert sum(campaign(run_cli, shards, digits_csv, tmp_path, name, 6).values()) == 6


@pytest.mark.long
@pytest.mark.parametrize("name", COMMANDS)
def test_fifty_kills(run_cli: RunCli, shards: Path, digits_csv: Path, tmp_path: Path, name: str) -> None:
    states = campaign(run_cli, shards, digits_csv, tmp_path, name, 50)
    assert sum(states.values()) == 50
    assert states["before"] > 0


if __name__ == "__main__":
    from streamtrain.cli import main

    print(json.dumps(killed(Path.cwd(), sys.argv[1], int(sys.argv[2]))))
