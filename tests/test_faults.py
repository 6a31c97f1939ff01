"""After a kill at any call, a cut-off write or a full disk, the output is whole or as it was before."""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shared import contents

from streamtrain.convert import convert
from streamtrain.convert import pipeline as module
from streamtrain.convert.write.parallel import map_chunks
from streamtrain.errors import UsageError
from streamtrain.shards import shuffle as shuffle_module
from streamtrain.shards.shuffle import shuffle
from streamtrain.shards.verify import iter_verify
from streamtrain.storage import publish

pytestmark = pytest.mark.filterwarnings("ignore:This process.*fork:DeprecationWarning")

OPTIONS: dict[str, Any] = {"on_bad_row": "reject", "split": {"train": 0.8, "val": 0.2}, "workers": 2}


def in_child(work: Callable[[], object]) -> int:
    """Run in a process of its own; return its wait status."""
    child = os.fork()
    if not child:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def count_calls(die_at: int | None = None) -> Iterator[int]:
    """Count the calls of Python functions in this process from now on, in all threads; kill it at one of them."""
    calls = itertools.count(1)

    def called(frame: object, event: str, argument: object) -> None:
        if event == "call" and next(calls) == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    threading.setprofile(called)
    sys.setprofile(called)
    return calls


class CrashPoints:
    """Counts every write, fsync, rename, new folder and removal of this process, and dies at the n-th.

    A write that it dies at is half done. Nothing after it is done, in no thread.
    """

    def __init__(self, die_at: int | None = None) -> None:
        self.count, self.die_at = 0, die_at
        for name in ("fsync", "replace", "rename", "mkdir", "unlink", "rmdir"):
            setattr(os, name, self._counted(getattr(os, name)))
        publish._exchange = self._counted(publish._exchange)  # type: ignore[assignment]  # renameat2
        self._open = io.open
        io.open = self._opened  # type: ignore[assignment]  # what Path.open calls

    def _point(self) -> bool:
        self.count += 1
        return self.count == self.die_at

    def _counted(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def plural(*args: Any, **kwargs: Any) -> Any:
            if self._point():
                os._exit(9)
            return original(*args, **kwargs)

        return plural

    def _opened(self, path: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        file = self._open(path, mode, *args, **kwargs)
        return file if mode in ("r", "rb") else _Written(file, self._point)


class _Written:
    """A file whose writes are counted."""

    def __init__(self, file: Any, point: Callable[[], bool]) -> None:
        self._file, self._point = file, point

    def write(self, data: Any) -> int:
        if self._point():
            self._file.write(data[: len(data) // 2])
            self._file.flush()
            os._exit(9)
        return int(self._file.write(data))

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _Written:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


class Case:
    """A conversion to `out`: the source, the expected output, and what was there before, if anything."""

    def __init__(self, folder: Path, source: Path, before: Path | None, **options: Any) -> None:
        self.folder, self.source, self.before = folder, source, before
        self.out, self.options = folder / "out", OPTIONS | options
        convert(source, folder / "whole", **self.options)
        self.whole = contents(folder / "whole")

    def prepare(self) -> None:
        for path in self.folder.iterdir():
            if path.name not in ("whole", self.source.name) and path != self.before:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        if self.before:
            shutil.copytree(self.before, self.out)

    def convert(self, **options: Any) -> None:
        convert(self.source, self.out, overwrite=self.before is not None, **self.options, **options)

    def check(self) -> str:
        """Return whether the output is as before or whole; then continue it, which must give the same bytes."""
        there = contents(self.out) if self.out.exists() else {}
        state = "after" if there == self.whole else "before"
        assert there in (self.whole, contents(self.before) if self.before else {})
        if state == "before" or self.before:
            self.convert(resume=True)
        assert contents(self.out) == self.whole
        left = {path.name for path in self.folder.iterdir()} - {"out", "whole", "before", self.source.name}
        assert left <= {".out.unfinished", ".out.lock"}, left
        return state


@pytest.fixture
def source(digits_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """600 digits, a bad row among them, converted in four chunks; a class is 24, so shards are written twice."""
    lines = [line.replace("3,", "24,", 1) if line[:2] == "3," else line for line in digits_csv.read_text().split()]
    lines[100] += ",1"
    (tmp_path / "d.csv").write_text("\n".join(lines) + "\n")
    chunk_bytes = -(-(tmp_path / "d.csv").stat().st_size // 4)
    monkeypatch.setattr(module, "map_chunks", functools.partial(map_chunks, chunk_bytes=chunk_bytes))
    return tmp_path / "d.csv"


@pytest.fixture
def fresh(source: Path, tmp_path: Path) -> Case:
    return Case(tmp_path, source, None)


@pytest.fixture
def replacing(source: Path, shards: Path, tmp_path: Path) -> Case:
    return Case(tmp_path, source, shutil.copytree(shards, tmp_path / "before"))


@pytest.fixture
def iter_shuffle(source: Path, tmp_path: Path) -> Case:
    return Case(tmp_path, source, None, shuffle=True)


def number_from_child(work: Callable[[], int]) -> int:
    """Return the result of some work that runs in a process of its own."""
    read, write = os.pipe()

    def count() -> None:
        os.write(write, str(work()).encode())

    assert in_child(count) == 0
    total = int(os.read(read, 99))
    os.close(read)
    os.close(write)
    return total


def points_of(work: Callable[[], object]) -> int:
    """Return how many points some work has."""

    def count() -> int:
        points = CrashPoints()
        work()
        return points.count

    return number_from_child(count)


def calls_of(work: Callable[[], object]) -> int:
    """Return how many functions some work calls."""

    def count() -> int:
        calls = count_calls()
        work()
        return next(calls)

    return number_from_child(count)


def crash_points(case: Case, step: int) -> dict[str, int]:
    """Crash at every `step`-th point of a conversion and the last; return how often all was as before or whole."""
    case.prepare()
    total = points_of(case.convert)
    states = {"before": 0, "after": 0, "points": total}
    for point in range(total, 0, -step):
        case.prepare()

        def crash(point: int = point) -> None:
            CrashPoints(die_at=point)
            case.convert()

        assert os.waitstatus_to_exitcode(in_child(crash)) in (0, 9)  # 0: threads take turns, and points with them
        states[case.check()] += 1
    return states


def test_a_crash_at_a_write_a_sync_or_a_rename_leaves_what_was_before_or_the_whole(fresh: Case) -> None:
    states = crash_points(fresh, 6)
    assert states["points"] > 40
    assert states["before"] > 5


def test_a_crash_while_an_earlier_output_is_replaced_leaves_one_of_the_two(replacing: Case) -> None:
    states = crash_points(replacing, 9)
    assert states["before"] > 3
    assert states["after"] > 0


@pytest.mark.long
@pytest.mark.parametrize("kind", ["fresh", "replacing", "iter_shuffle"])
def test_a_crash_at_every_single_one(kind: str, request: pytest.FixtureRequest) -> None:
    states = crash_points(request.getfixturevalue(kind), 1)
    print(kind, states)
    assert states["before"] + states["after"] == states["points"]


def crashed_shuffles(data: Path, folder: Path, step: int) -> int:
    """Crash at every `step`-th point of a shuffle, shuffle again each time; return how many points there are."""
    shuffle(data, folder / "mixed")
    total = points_of(lambda: shuffle(data, folder / "counted"))
    for point in range(total - 1, 0, -step):  # the last is the removal of the lock

        def crash(point: int = point) -> None:
            CrashPoints(die_at=point)
            shuffle(data, folder / "out")

        assert os.waitstatus_to_exitcode(in_child(crash)) == 9
        if not (folder / "out").exists():
            shuffle(data, folder / "out")
        assert contents(folder / "out") == contents(folder / "mixed")
        shutil.rmtree(folder / "out")
    return total


def test_a_crash_of_a_shuffle_leaves_nothing_or_the_whole(fresh: Case, tmp_path: Path) -> None:
    assert crashed_shuffles(tmp_path / "whole", tmp_path, 4) > 15


@pytest.mark.long
def test_a_crash_of_a_shuffle_at_every_single_point(fresh: Case, tmp_path: Path) -> None:
    print("shuffle", crashed_shuffles(tmp_path / "whole", tmp_path, 1))


def test_of_two_converters_one_wins_and_the_other_is_refused(
    fresh: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh.prepare()
    whole = module.map_chunks
    has_begun, may_go_on = os.pipe(), os.pipe()

    def waiting(*args: Any, **kwargs: Any) -> Iterator[Any]:
        os.write(has_begun[1], b".")
        os.read(may_go_on[0], 1)
        yield from whole(*args, **kwargs)

    def first() -> None:
        monkeypatch.setattr(module, "map_chunks", waiting)
        fresh.convert()

    child = os.fork()
    if not child:
        os.close(may_go_on[1])
        with contextlib.suppress(BaseException):
            first()
            os._exit(0)
        os._exit(1)
    os.close(has_begun[1])
    try:
        assert os.read(has_begun[0], 1)
        with pytest.raises(UsageError, match="written by another process"):
            fresh.convert()
    finally:
        os.close(may_go_on[1])  # which ends the child's wait
    assert os.waitpid(child, 0)[1] == 0
    assert contents(fresh.out) == fresh.whole
    with pytest.raises(UsageError, match="exists already"):
        fresh.convert()
    os.close(has_begun[0])
    os.close(may_go_on[0])


def kills(case: Case, count: int) -> dict[str, int]:
    """Kill a conversion at `count` of the calls that it makes, drawn at random."""
    case.prepare()
    calls = calls_of(case.convert)
    states = {"before": 0, "after": 0, "killed": 0, "calls": calls}
    for call in np.random.default_rng(0).integers(1, calls + 1, count).tolist():
        case.prepare()

        def work(call: int = call) -> None:
            count_calls(die_at=call)
            case.convert()

        code = os.waitstatus_to_exitcode(in_child(work))
        assert code in (0, -9)  # 0: threads take turns, so another time there are some calls fewer
        states["killed"] += code == -9
        states[case.check()] += 1
    return states


def test_kill_9_leaves_what_was_before_or_the_whole(fresh: Case) -> None:
    assert kills(fresh, 8)["killed"] > 5


@pytest.mark.long
@pytest.mark.parametrize("kind", ["fresh", "replacing"])
def test_200_kills_of_a_conversion(kind: str, request: pytest.FixtureRequest) -> None:
    states = kills(request.getfixturevalue(kind), 200)
    print(kind, states)
    assert states["killed"] > 180


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a file system of 4 MiB, or skip the test if that is not possible."""
    folder.mkdir()
    if not shutil.which("mount"):
        pytest.skip("there is no mount command here")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def fill(disk: Path, free: int) -> Path:
    """Leave `free` bytes free."""
    filler = disk / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - free)
    return filler


def failure_of(work: Callable[[], object]) -> int | None:
    """Return the number of the system's error that ends the work, or None."""
    try:
        work()
    except OSError as error:
        return error.errno
    return None


def full_disk(source: Path, disk: Path, count: int) -> int:
    """Convert with `count` amounts of free space from nothing to enough; return how often it was not enough."""
    case = Case(disk, source, None)
    free = shutil.disk_usage(disk).free
    case.convert(resume=True)
    needed = free - shutil.disk_usage(disk).free
    failed = 0
    for offset in np.linspace(0, 4 * needed, count).astype(int).tolist():
        case.prepare()
        filler = fill(disk, offset)
        error = failure_of(case.convert)
        filler.unlink()
        assert error in (None, errno.ENOSPC)
        assert case.check() == ("before" if error else "after")
        failed += error is not None
    return failed


def test_a_full_disk_leaves_no_output_and_what_is_finished(source: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        assert 2 < full_disk(source, disk, 8) < 8


@pytest.mark.long
def test_a_full_disk_at_100_offsets(source: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        failed = full_disk(source, disk, 100)
    print("failed", failed)
    assert 20 < failed < 100


def test_a_shuffle_on_a_full_disk_leaves_nothing(
    fresh: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shuffle_module._Shuffle, "_check_disk", lambda _: None)
    with small_disk(tmp_path / "disk") as disk:
        for free in (0, 8192, 40_000):
            filler = fill(disk, free)
            with pytest.raises(OSError, match="No space left"):
                shuffle(tmp_path / "whole", disk / "out")
            filler.unlink()
            assert list(disk.iterdir()) == []
        shuffle(tmp_path / "whole", disk / "out")
        *_, verified = iter_verify(disk / "out")
        assert verified.ok


def test_training_on_a_full_disk_prints_how_to_continue_and_continues_to_the_same_weights(
    shards: Path, tmp_path: Path, call_cli: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    whole = call_cli("train", shards, "--out", "whole", "--epochs", "4", "--json", "-q")
    with small_disk(tmp_path / "disk") as disk:
        run = disk / "run"
        stops = []
        for free in (0, 50_000):  # for no run at all, and for one checkpoint, but not for two
            filler = fill(disk, free)
            stopped = call_cli("train", shards, "--out", run, "--epochs", "4")
            stops.append((stopped.returncode, run.exists(), stopped.stderr.splitlines()[-1]))
            filler.unlink()
        full = f"error: {run}: the disk is full. Free some space, then continue with:"
        assert stops == [
            (1, False, f"{full} the same command"),
            (1, True, f"{full} streamtrain train --resume {run}"),
        ]
        done = call_cli("train", "--resume", run, "--json", "-q")
    assert done.returncode == 0
    ends = [json.loads(each.stdout.splitlines()[-1])["weights_sha256"] for each in (whole, done)]
    assert ends[0] == ends[1]


def test_everything_is_synced_before_the_rename_that_publishes_it(
    fresh: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut needs this order: files, the folders that name them, the rename, its folder."""
    fresh.prepare()
    synced: dict[tuple[int, int], object] = {}  # a file or folder, by device and inode → what it held when synced
    unsynced: list[list[str]] = []
    fsync, rename = os.fsync, os.rename

    def identity(path: Path) -> tuple[int, int]:
        return path.stat().st_dev, path.stat().st_ino

    def held(path: Path) -> object:
        """Return the bytes of a file, or the inodes that the names in a folder stand for."""
        if path.is_dir():
            return {each.name: identity(each) for each in path.iterdir() if not each.name.startswith(".")}
        return path.read_bytes()

    def note_sync(descriptor: int) -> None:
        fsync(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced[identity(path)] = held(path)

    def note_rename(old: Any, new: Any, **kwargs: Any) -> None:
        if Path(new) == fresh.out:
            paths = [Path(old), *Path(old).rglob("*")]
            unsynced.append([path.name for path in paths if synced.get(identity(path)) != held(path)])
            synced.pop(identity(tmp_path), None)
        rename(old, new, **kwargs)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "rename", note_rename)
    fresh.convert()
    assert unsynced == [[]]
    assert identity(tmp_path) in synced
