"""Outputs have no wider permissions than what they are made of, and nothing is written through a link."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from streamtrain.storage.locks import lock_file
from streamtrain.storage.permissions import common_mode, make_folder, opened
from streamtrain.storage.publish import write_file

if TYPE_CHECKING:
    from conftest import RunCli


def modes(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.rglob("*"))
    }


@pytest.mark.parametrize(("mode", "widest"), [(0o600, 0o700), (0o640, 0o750), (0o644, 0o755), (0o400, 0o700)])
def test_the_permissions_of_an_output_stay_within_those_of_its_source(
    run_cli: RunCli, digits_csv: Path, tmp_path: Path, mode: int, widest: int
) -> None:
    (tmp_path / "d.csv").write_text(digits_csv.read_text() + "bad\n")
    (tmp_path / "d.csv").chmod(mode)
    reject = ("--on-bad-row", "reject")
    assert run_cli("convert", "d.csv", "data", *reject, "--split", "train=0.5,test=0.5").returncode == 3
    assert run_cli("convert", "d.csv", "shuffled", *reject, "--shuffle").returncode == 3
    assert run_cli("shuffle", "data", "mixed").returncode == 0
    assert run_cli("train", "data/train", "--test", "data/test", "--out", "run", "--epochs", "1").returncode == 0
    assert run_cli("predict", "run", "d.csv", "--out", "p.csv").returncode == 3
    assert run_cli("export", "run", "--to", "torch", "--out", "model.pt").returncode == 0
    made = {}
    for name in ("data", "shuffled", "mixed", "run"):
        made |= modes(tmp_path / name)
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == widest
    made |= {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("p.csv", "model.pt")}
    assert {"rejected.jsonl", "manifest.json", "train/manifest.json", "metrics.jsonl", "p.csv"} <= made.keys()
    assert {name: oct(found) for name, found in made.items() if found & ~widest} == {}
    assert all(found & 0o600 == 0o600 for found in made.values())


def test_the_group_of_another_file_gets_nothing_that_the_others_do_not_get(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.touch()
    path.chmod(0o640)
    assert common_mode([path]) == 0o640
    if os.geteuid() == 0:
        os.chown(path, 0, os.getegid() + 12345)
        assert common_mode([path]) == 0o600
        path.chmod(0o664)
        assert common_mode([path]) == 0o644
    assert common_mode([]) == 0o666
    assert common_mode([tmp_path / "missing"]) == 0o666


def test_a_folder_can_be_entered_by_those_who_may_read(tmp_path: Path) -> None:
    for number, (mode, expected) in enumerate(((0o600, 0o700), (0o644, 0o755), (0o640, 0o750))):
        make_folder(tmp_path / str(number), mode=mode)
        assert stat.S_IMODE((tmp_path / str(number)).stat().st_mode) == expected
        make_folder(tmp_path / str(number) / "below")
        assert stat.S_IMODE((tmp_path / str(number) / "below").stat().st_mode) == expected


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "link").symlink_to("precious")
    for how in ("wb", "ab", "xb"):
        with pytest.raises(OSError, match="link"):
            opened(tmp_path / "link", how)
    write_file(tmp_path / "link", b"new")  # takes the link's place
    assert (tmp_path / "precious").read_text() == "kept"
    assert not (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("kind", ["link", "dangling", "file", "pipe", "folder"])
def test_a_lock_that_is_something_else_is_refused_and_kept(
    run_cli: RunCli, digits_csv: Path, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "notes.txt").write_text("precious")
    lock = tmp_path / ".out.lock"
    if kind in ("link", "dangling"):
        lock.symlink_to("notes.txt" if kind == "link" else "missing")
    elif kind == "file":
        lock.write_text("mine")
    elif kind == "pipe":
        os.mkfifo(lock)
    else:
        lock.mkdir()
    before = lock.lstat()
    done = run_cli("convert", digits_csv, "out")
    assert (done.returncode, "is not a lock of streamtrain" in done.stderr) == (2, True)
    assert (lock.lstat().st_ino, lock.lstat().st_size) == (before.st_ino, before.st_size)
    assert (tmp_path / "notes.txt").read_text() == "precious"
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("name", [".out.unfinished", ".out.shuffled"])
def test_a_link_in_the_place_of_an_unfinished_folder_is_refused_and_not_followed(
    run_cli: RunCli, digits_csv: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "notes.txt").write_text("precious")
    (tmp_path / name).symlink_to("elsewhere")
    for flags in ((), ("--resume",)):
        done = run_cli("convert", digits_csv, "out", "--shuffle", *flags)
        assert (done.returncode, f"{name} is in the way" in done.stderr) == (2, True)
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["notes.txt"]


def test_a_lock_is_gone_when_it_is_given_up(tmp_path: Path) -> None:
    with lock_file(tmp_path / ".lock", busy="?"):
        assert stat.S_IMODE((tmp_path / ".lock").stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == []
