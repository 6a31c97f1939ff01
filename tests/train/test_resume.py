"""A run that is killed at any call, any number of times, ends as one that was not."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from shared import without_times

from streamtrain.errors import RunError
from streamtrain.storage.ownership import LAST, METRICS, PREVIOUS
from streamtrain.train.checkpoint import load, load_checkpoint, weights_sha256
from streamtrain.train.run import Run

# Imports torch once; then each line on stdin is [arguments, kind, n] and becomes a process of its own, which kills
# itself before its n-th call that changes the disk, or its n-th call of any function. Prints its exit code when it
# ended, and how many of these calls it made.
NURSERY = """
import itertools, json, os, sys, threading
import streamtrain.cli.data, streamtrain.cli.train, streamtrain.train.run
from streamtrain.cli import main

def count_calls(kind, die_at):
    # Dies at one of them; the function that is returned counts one more.
    calls = itertools.count(1)
    def count():
        number = next(calls)
        if number == die_at:
            os.kill(os.getpid(), 9)
        return number
    def changing(call):
        def counted(*args, **options):
            count()
            return call(*args, **options)
        return counted
    def called(frame, event, argument):
        if event == "call":
            count()
    if kind == "disk":
        for name in ("fsync", "replace", "rename", "link", "unlink"):
            setattr(os, name, changing(getattr(os, name)))
    else:
        threading.setprofile(called)
        sys.setprofile(called)
    return count

for line in sys.stdin:
    arguments, kind, die_at = json.loads(line)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.argv = ["streamtrain", *arguments]
        count = count_calls(kind, die_at)
        try:
            main()
        except SystemExit as end:
            os.write(write, str(count()).encode())
            os._exit(end.code or 0)
        os._exit(99)
    os.close(write)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(json.dumps([code, int(os.read(read, 99) or 0)]), flush=True)
    os.close(read)
"""
NEVER = -1
OPTIONS = (
    *("--epochs", "3", "--batch-size", "16", "--hidden", "16,8"),
    *("--checkpoint-every", "15steps", "-q"),
)


# Whatever else changes what a step computes; each is killed and resumed on its own.
VARIANTS = {
    "patience": ("--patience", "2", "--lr", "1e-7", "--epochs", "9"),
    "augment": ("--augment", "shift=1,rotate,scale,shear,elastic"),
    "dropout": ("--dropout", "0.3", "--activation", "relu"),
    "loss": ("--label-smoothing", "0.1", "--class-weights", "balanced"),
    "softmax regression": ("--hidden", "none"),
    "momentum": ("--momentum", "0.9"),
    "adam": ("--optimizer", "adam", "--weight-decay", "0.1"),
    "cosine": ("--schedule", "cosine", "--warmup", "0.5"),
    "steps": ("--schedule", "step", "--step-epochs", "1"),
}


class Nursery:
    """Processes of the command line that start at once."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", NURSERY], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, *arguments: str | Path, kind: str = "disk", die_at: int = NEVER) -> tuple[int, int]:
        """Run a process to its end; return its exit code and how many calls it made."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps([list(map(str, arguments)), kind, die_at]) + "\n")
        self.process.stdin.flush()
        code, calls = json.loads(self.process.stdout.readline())
        return code, calls

    def finish(self, *arguments: str | Path) -> None:
        """Run a process that must succeed."""
        code, _ = self.run(*arguments)
        assert code == 0


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    made = Nursery(tmp_path_factory.mktemp("nursery"))
    yield made
    assert made.process.stdin
    made.process.stdin.close()
    assert made.process.wait() == 0


def outcome(run: Path) -> dict[str, Any]:
    """Return what must not depend on the interruptions of a run."""
    lines = [json.loads(line) for line in (run / METRICS).read_text().splitlines()]
    last, best = load_checkpoint(run / LAST), load(run)
    kept = [t for gradients in last.buffers.values() for pair in gradients for t in pair]
    return {
        "weights": weights_sha256(last.model.state_dict()),
        "kept by the optimiser": weights_sha256({f"{number:03}": t for number, t in enumerate(kept)}),
        "best": weights_sha256(best.model.state_dict()),
        "metrics": without_times(lines),
        "files": sorted(path.name for path in run.iterdir()),
    }


def begin_or_go_on(shards: Path, run: Path, more: tuple[str, ...] = ()) -> tuple[str | Path, ...]:
    if run.exists():
        return ("train", "--resume", run, "-q", "--checkpoint-every", "15steps")
    return ("train", shards, "--val", shards, "--out", run, *OPTIONS, *more)


def survive(
    nursery: Nursery,
    shards: Path,
    tmp_path: Path,
    *,
    kills: int,
    moments: random.Random,
    more: tuple[str, ...] = (),
) -> tuple[int, int]:
    """Kill runs until `kills` have struck, each at another call; returns how many kills struck how many runs.

    more: options of the runs
    """
    calls = {}
    for kind in ("disk", "any"):
        shutil.rmtree(tmp_path / "whole", ignore_errors=True)
        code, calls[kind] = nursery.run(*begin_or_go_on(shards, tmp_path / "whole", more), kind=kind)
        assert code == 0
    expected = outcome(tmp_path / "whole")
    assert len(expected["metrics"]) == 3, "of 9 epochs, if patience ends"
    struck = ended = 0
    while struck < kills:
        run = tmp_path / f"run{ended}"
        for _ in range(1 + ended % 3):
            kind = ("any", "disk")[ended % 2]
            moment = moments.randint(1, calls[kind])
            code, _ = nursery.run(*begin_or_go_on(shards, run, more), kind=kind, die_at=moment)
            assert code in (-9, 0)  # 0: the rest of a run has fewer calls than a whole one
            struck += code == -9
        nursery.finish(*begin_or_go_on(shards, run, more))
        assert outcome(run) == expected, f"after {ended} runs"
        shutil.rmtree(run)
        ended += 1
    return struck, ended


def test_killed_runs_end_with_the_weights_and_metrics_of_the_uninterrupted_one(
    nursery: Nursery, shards: Path, tmp_path: Path
) -> None:
    survive(nursery, shards, tmp_path, kills=5, moments=random.Random(4))


@pytest.mark.parametrize("name", VARIANTS)
def test_killed_runs_end_as_the_uninterrupted_one_with_each_option_that_changes_a_step(
    nursery: Nursery, shards: Path, tmp_path: Path, name: str
) -> None:
    survive(nursery, shards, tmp_path, kills=3, moments=random.Random(name), more=VARIANTS[name])


@pytest.mark.long
def test_200_kills(nursery: Nursery, shards: Path, tmp_path: Path) -> None:
    struck, ended = survive(nursery, shards, tmp_path, kills=200, moments=random.Random(5))
    print(f"\n{struck} kills, {ended} runs")


def damaged_runs(nursery: Nursery, shards: Path, run: Path, *, flips: int, cuts: int) -> dict[str, int]:
    """Damage the newest checkpoint so often, resume, and count the warnings; only what was saved is loaded."""
    nursery.finish(*begin_or_go_on(shards, run))
    data = (run / LAST).read_bytes()
    saved = {name: load_checkpoint(run / name) for name in (LAST, PREVIOUS)}
    moments = random.Random(6)
    counts = {"warned": 0, "harmless": 0}
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
        counts["warned" if warning else "harmless"] += 1
        assert checkpoint.progress == origin.progress
        expected = origin.model.state_dict()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in checkpoint.model.state_dict().items())
    return counts


def test_a_damaged_newest_checkpoint_is_never_taken_for_another(
    nursery: Nursery, shards: Path, tmp_path: Path
) -> None:
    counts = damaged_runs(nursery, shards, tmp_path / "run", flips=40, cuts=10)
    assert counts["warned"] > 40


@pytest.mark.long
def test_2000_bit_flips_and_500_truncations(nursery: Nursery, shards: Path, tmp_path: Path) -> None:
    print(f"\n{damaged_runs(nursery, shards, tmp_path / 'run', flips=2000, cuts=500)}")


def test_with_both_checkpoints_damaged_nothing_is_loaded(nursery: Nursery, shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    nursery.finish(*begin_or_go_on(shards, run))
    for name in (LAST, PREVIOUS):
        data = (run / name).read_bytes()
        (run / name).unlink()
        (run / name).write_bytes(data[:-1])
    with pytest.raises(RunError, match="is damaged"):
        Run.open(run)
