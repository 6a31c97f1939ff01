"""A run that is killed at any moment, and as often as you like, ends as the one that was not."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from streamtrain.errors import RunError
from streamtrain.storage.ownership import LAST, METRICS, PREVIOUS
from streamtrain.train.checkpoint import load, load_checkpoint, weights_sha256
from streamtrain.train.run import Run

# Imports torch once; then each line on stdin is [arguments, n] and becomes a process of its own, which kills
# itself before its n-th call that changes the disk. Prints the process's id, and its exit code when it ended.
NURSERY = """
import json, os, sys
import streamtrain.cli.data, streamtrain.cli.train, streamtrain.train.run
from streamtrain.cli import main

def fatal(name, left):
    call = getattr(os, name)
    def counted(*args, **options):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), 9)
        return call(*args, **options)
    setattr(os, name, counted)

for line in sys.stdin:
    arguments, die_at = json.loads(line)
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        left = [die_at]
        for name in ("fsync", "replace", "rename", "link", "unlink"):
            fatal(name, left)
        sys.argv = ["streamtrain", *arguments]
        try:
            main()
        except SystemExit as left:
            os._exit(left.code or 0)
        os._exit(99)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
NEVER = -1
OPTIONS = (
    *("--epochs", "3", "--batch-size", "16", "--momentum", "0.9", "--hidden", "16,8"),
    *("--checkpoint-every", "15steps", "-q"),
)


class Nursery:
    """Processes of the command line that start at once."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", NURSERY], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, *arguments: str | Path, die_at: int = NEVER) -> int:
        """Start a process; returns its id."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps([list(map(str, arguments)), die_at]) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def end(self) -> int:
        """Wait for it; returns its exit code."""
        assert self.process.stdout
        return int(self.process.stdout.readline())


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    made = Nursery(tmp_path_factory.mktemp("nursery"))
    yield made
    assert made.process.stdin
    made.process.stdin.close()
    assert made.process.wait(20) == 0


def outcome(run: Path) -> dict[str, Any]:
    """What must not depend on what happened to a run on its way."""
    measured = {"seconds", "eval_seconds", "rows_per_second", "peak_rss_mb", "wait_share"}
    lines = [json.loads(line) for line in (run / METRICS).read_text().splitlines()]
    last, best = load_checkpoint(run / LAST), load(run)
    velocity = {f"{layer}.{kind}": v for layer, pair in enumerate(last.velocity) for kind, v in enumerate(pair)}
    return {
        "weights": weights_sha256(last.model.state_dict()),
        "velocity": weights_sha256(velocity),
        "best": weights_sha256(best.model.state_dict()),
        "metrics": [{key: value for key, value in line.items() if key not in measured} for line in lines],
        "files": sorted(path.name for path in run.iterdir()),
    }


def begin_or_go_on(shards: Path, run: Path) -> tuple[str | Path, ...]:
    if run.exists():
        return ("train", "--resume", run, "-q", "--checkpoint-every", "15steps")
    return ("train", shards, "--test", shards, "--out", run, *OPTIONS)


def survive(
    nursery: Nursery, shards: Path, tmp_path: Path, *, kills: int, moments: random.Random
) -> tuple[int, int]:
    """Kill runs so often in all, each after another moment; returns how many kills struck how many runs."""
    started = time.monotonic()
    nursery.start(*begin_or_go_on(shards, tmp_path / "whole"))
    assert nursery.end() == 0
    length = time.monotonic() - started
    expected = outcome(tmp_path / "whole")
    assert len(expected["metrics"]) == 3
    struck = ended = 0
    while struck < kills:
        run = tmp_path / f"run{ended}"
        for _ in range(1 + ended % 3):
            if ended % 2:
                nursery.start(*begin_or_go_on(shards, run), die_at=moments.randint(1, 60))
            else:
                child = nursery.start(*begin_or_go_on(shards, run))
                time.sleep(moments.uniform(0, length))
                subprocess.run(["kill", "-9", str(child)], check=False, stderr=subprocess.DEVNULL)
            code = nursery.end()
            assert code in (-9, 0)
            struck += code == -9
        nursery.start(*begin_or_go_on(shards, run))
        assert nursery.end() == 0
        assert outcome(run) == expected, f"after {ended} runs"
        shutil.rmtree(run)
        ended += 1
    return struck, ended


def test_killed_runs_end_with_the_weights_and_metrics_of_the_uninterrupted_one(
    nursery: Nursery, shards: Path, tmp_path: Path
) -> None:
    survive(nursery, shards, tmp_path, kills=5, moments=random.Random(4))


@pytest.mark.long
def test_200_kills(nursery: Nursery, shards: Path, tmp_path: Path) -> None:
    struck, ended = survive(nursery, shards, tmp_path, kills=200, moments=random.Random(5))
    print(f"\n{struck} kills, {ended} runs")


def damaged_runs(nursery: Nursery, shards: Path, run: Path, *, flips: int, cuts: int) -> dict[str, int]:
    """Damage the newest checkpoint so often, resume, and count what was told; only what was saved is loaded."""
    nursery.start(*begin_or_go_on(shards, run))
    assert nursery.end() == 0
    data = (run / LAST).read_bytes()
    saved = {name: load_checkpoint(run / name) for name in (LAST, PREVIOUS)}
    moments = random.Random(6)
    told = {"warned": 0, "harmless": 0}
    for number in range(flips + cuts):
        damaged = bytearray(data)
        if number < flips:
            bit = moments.randrange(len(data) * 8)
            damaged[bit // 8] ^= 1 << bit % 8
        else:
            del damaged[moments.randrange(len(data)) :]
        (run / LAST).unlink()  # the previous one may be the same file
        (run / LAST).write_bytes(damaged)
        _, checkpoint, warning = Run.open(run)
        origin = saved[PREVIOUS if warning else LAST]
        told["warned" if warning else "harmless"] += 1
        assert checkpoint.progress == origin.progress
        expected = origin.model.state_dict()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in checkpoint.model.state_dict().items())
    return told


def test_a_damaged_newest_checkpoint_is_never_taken_for_another(
    nursery: Nursery, shards: Path, tmp_path: Path
) -> None:
    told = damaged_runs(nursery, shards, tmp_path / "run", flips=40, cuts=10)
    assert told["warned"] > 40


@pytest.mark.long
def test_2000_bit_flips_and_500_truncations(nursery: Nursery, shards: Path, tmp_path: Path) -> None:
    print(f"\n{damaged_runs(nursery, shards, tmp_path / 'run', flips=2000, cuts=500)}")


def test_with_both_checkpoints_damaged_nothing_is_loaded(nursery: Nursery, shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    nursery.start(*begin_or_go_on(shards, run))
    assert nursery.end() == 0
    for name in (LAST, PREVIOUS):
        data = (run / name).read_bytes()
        (run / name).unlink()
        (run / name).write_bytes(data[:-1])
    with pytest.raises(RunError, match="is damaged"):
        Run.open(run)
