"""An interrupted conversion continues to the same bytes, or is refused by the name of what changed."""

from __future__ import annotations

import errno
import functools
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from shared import contents

from streamtrain.cli import group
from streamtrain.convert import convert
from streamtrain.convert import pipeline as module
from streamtrain.convert.options import ConvertOptions
from streamtrain.convert.pipeline import iter_convert
from streamtrain.convert.write.chunk_writer import ChunkWriter
from streamtrain.convert.write.parallel import map_chunks
from streamtrain.errors import DataError, RunError, UsageError


@pytest.fixture
def source(digits_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """600 digits, two bad rows among them, converted in eight chunks."""
    lines = digits_csv.read_text().splitlines()
    lines[100] += ",1"
    lines[500] = lines[500].replace(",", ",x", 1)
    path = tmp_path / "d.csv"
    path.write_text("\n".join(lines) + "\n")
    chunk_bytes = -(-path.stat().st_size // 8)
    monkeypatch.setattr(module, "map_chunks", functools.partial(map_chunks, chunk_bytes=chunk_bytes))
    return path


def start(source: Path, dest: Path, chunks: int, **options: Any) -> None:
    """Convert until `chunks` chunks are done, and leave it as a killed process does."""
    steps = iter_convert(source, dest, ConvertOptions(on_bad_row="reject", workers=1, **options))
    for _ in range(chunks):
        next(steps)
    steps.close()  # type: ignore[attr-defined]  # a generator


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the numbers of the chunks that are parsed."""
    numbers: list[int] = []
    original = ChunkWriter.__call__

    def counted(self: ChunkWriter, chunk: Any, number: int, buffer: Any) -> Any:
        numbers.append(number)
        return original(self, chunk, number, buffer)

    monkeypatch.setattr(ChunkWriter, "__call__", counted)
    return numbers


@pytest.mark.parametrize("options", [{}, {"split": {"train": 0.7, "val": 0.3}}, {"shuffle": True, "seed": 3}])
def test_what_is_finished_is_not_parsed_again_and_the_bytes_are_the_same(
    source: Path, tmp_path: Path, parsed: list[int], options: dict[str, Any]
) -> None:
    convert(source, tmp_path / "whole", on_bad_row="reject", **options)
    start(source, tmp_path / "out", 4, **options)
    assert not (tmp_path / "out").exists()
    parsed.clear()
    conversion = convert(source, tmp_path / "out", on_bad_row="reject", resume=True, **options)
    assert {7} <= set(parsed) <= {4, 5, 6, 7}
    assert conversion.totals.rejected == 2
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.csv", "out", "whole"]


def test_with_nothing_to_resume_it_starts(source: Path, tmp_path: Path) -> None:
    assert convert(source, tmp_path / "out", on_bad_row="reject", resume=True).totals.kept == 598
    with pytest.raises(UsageError, match="exists already"):
        convert(source, tmp_path / "out", resume=True)


def damage_record(staging: Path) -> None:
    path = staging / ".journal" / "00001.record"
    path.write_bytes(path.read_bytes()[:-100])


def damage_shard(staging: Path) -> None:
    path = staging / "shard-00001.parquet"
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize("damage", [damage_record, damage_shard, lambda s: (s / "shard-00001.parquet").unlink()])
def test_a_torn_record_or_shard_is_made_again(
    source: Path, tmp_path: Path, parsed: list[int], damage: Callable[[Path], object]
) -> None:
    convert(source, tmp_path / "whole", on_bad_row="reject")
    start(source, tmp_path / "out", 3)
    staging = tmp_path / ".out.unfinished"
    damage(staging)
    (staging / ".manifest.json.1234abcd.tmp").write_text("left by a killed process")
    parsed.clear()
    convert(source, tmp_path / "out", on_bad_row="reject", resume=True)
    assert 1 in parsed
    assert 0 not in parsed
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def touched(source: Path) -> None:
    os.utime(source, ns=(1, 1))


def grown(source: Path) -> None:
    with source.open("a") as file:
        file.write("0\n")


def rewritten_with_the_same_size_and_time(source: Path) -> None:
    facts = source.stat()
    text = source.read_text()
    source.write_text(text[:300] + text[300:600].replace("0", "1") + text[600:])
    os.utime(source, ns=(facts.st_atime_ns, facts.st_mtime_ns))


@pytest.mark.parametrize("change", [touched, grown, rewritten_with_the_same_size_and_time])
def test_a_source_that_changed_is_refused_by_name(
    source: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    start(source, tmp_path / "out", 3)
    change(source)
    with pytest.raises(DataError, match=r"d\.csv changed since its conversion was interrupted.*without `resume`"):
        convert(source, tmp_path / "out", on_bad_row="reject", resume=True)
    assert not (tmp_path / "out").exists()


def test_another_option_or_source_is_refused_by_name(source: Path, tmp_path: Path) -> None:
    start(source, tmp_path / "out", 3)
    again = functools.partial(convert, source, tmp_path / "out", on_bad_row="reject", resume=True)
    with pytest.raises(UsageError, match="`label` was None when"):
        again(label="first")
    with pytest.raises(UsageError, match="`on_bad_row` was reject when"):
        again(on_bad_row="error")
    (tmp_path / "more.csv").write_bytes(source.read_bytes())
    with pytest.raises(UsageError, match=r"the sources were .*d\.csv"):
        convert([source, tmp_path / "more.csv"], tmp_path / "out", on_bad_row="reject", resume=True)
    assert again().totals.kept == 598


def test_what_a_killed_shuffle_left_is_removed_too(source: Path, tmp_path: Path) -> None:
    start(source, tmp_path / "out", 3, shuffle=True)
    (tmp_path / ".out.shuffled" / "train").mkdir(parents=True)
    convert(source, tmp_path / "out", on_bad_row="reject", resume=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.csv", "out"]


def test_a_bad_row_leaves_nothing_behind(source: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        convert(source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["d.csv"]


def test_the_second_of_two_converters_on_one_folder_is_refused(source: Path, tmp_path: Path) -> None:
    steps = iter_convert(source, tmp_path / "out", ConvertOptions(on_bad_row="reject"))
    next(steps)
    with pytest.raises(UsageError, match="being written by another process"):
        convert(source, tmp_path / "out", on_bad_row="reject")
    *_, conversion = steps
    assert conversion.totals.kept == 598  # type: ignore[union-attr]  # the last is the Conversion


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT as a terminal sends it: a shell starts what it puts in the background with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_keeps_what_is_finished_and_prints_how_to_continue(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    whole, arguments = module.map_chunks, ["convert", str(source), str(tmp_path / "out"), "--on-bad-row", "reject"]

    def signalled(*args: Any, **kwargs: Any) -> Any:
        for count, step in enumerate(whole(*args, **kwargs)):
            if count == 3:
                os.kill(os.getpid(), number)
            yield step

    monkeypatch.setattr(module, "map_chunks", signalled)
    done = CliRunner().invoke(group, arguments, standalone_mode=False)
    assert (done.return_value, done.stdout) == (code, "")
    assert "--resume" in done.stderr
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(module, "map_chunks", whole)
    done = CliRunner().invoke(group, [*arguments, "--resume"], standalone_mode=False)
    assert done.return_value == 3, done.stderr
    start(source, tmp_path / "out", 3, overwrite=True)
    done = CliRunner().invoke(group, [*arguments, "--overwrite"], standalone_mode=False)
    assert "an interrupted conversion to" in done.stderr
    assert "is discarded" in done.stderr


def test_a_full_disk_is_reported_with_the_way_to_continue(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, fsync, synced = module.map_chunks, os.fsync, []

    def full(descriptor: int) -> None:
        fsync(descriptor)
        synced.append(descriptor)
        if len(synced) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")

    arguments = ["convert", str(source), str(tmp_path / "out"), "--on-bad-row", "reject"]
    monkeypatch.setattr(os, "fsync", full)
    done = CliRunner().invoke(group, arguments, standalone_mode=False)
    assert isinstance(done.exception, RunError)
    assert "the disk is full" in str(done.exception)
    assert "--resume" in str(done.exception)
    monkeypatch.undo()
    monkeypatch.setattr(module, "map_chunks", whole)
    assert CliRunner().invoke(group, [*arguments, "--resume"], standalone_mode=False).return_value == 3


def test_a_disk_that_cannot_hold_the_shards_is_noticed_before_it_is_full(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["convert", str(source), str(tmp_path / "out"), "--on-bad-row", "reject"]
    there = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda folder: there._replace(free=1000))
        done = CliRunner().invoke(group, arguments, standalone_mode=False)
    assert isinstance(done.exception, RunError)
    found = r"out: about [\d.]+ kB more are needed, but the disk has 1\.0 kB free\. Free some space, then"
    assert re.search(found, str(done.exception))
    assert not (tmp_path / "out").exists()
    resumed = CliRunner().invoke(group, [*arguments, "--resume"], standalone_mode=False)
    assert resumed.return_value == 3, resumed.stderr


def test_a_source_that_changes_while_it_is_read_is_an_error(source: Path, tmp_path: Path) -> None:
    steps = iter_convert(source, tmp_path / "out", ConvertOptions(on_bad_row="reject", workers=1))
    next(steps)
    grown(source)
    with pytest.raises(DataError, match="changed while it was read"):
        list(steps)
    assert [path.name for path in tmp_path.iterdir()] == ["d.csv"]
