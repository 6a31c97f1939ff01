"""One process at a time writes to a place; a lock that the system refuses is not reported as one that is held."""

from __future__ import annotations

import errno
import fcntl
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from streamtrain.errors import RunError, UsageError
from streamtrain.storage.locks import lock_file, lock_folder

HOLDER = """
import sys
from pathlib import Path
from streamtrain.storage.locks import lock_file

with lock_file(Path(sys.argv[1]), busy="?"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_another_process_is_kept_out_until_the_holder_is_done_or_killed(tmp_path: Path) -> None:
    path = tmp_path / "new" / ".lock"
    for end in ("done", "killed"):
        command = [sys.executable, "-c", HOLDER, str(path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdin is not None
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(UsageError, match="busy"), lock_file(path, busy="busy"):
                pass
            if end == "killed":
                holder.kill()
            holder.stdin.close()
            holder.wait()
        assert path.exists() == (end == "killed")
        with lock_file(path, busy="busy"), pytest.raises(UsageError, match="busy"), lock_file(path, busy="busy"):
            pass
        assert not path.exists()


def test_a_lock_whose_file_was_removed_keeps_the_next_process_out_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, original, raced = tmp_path / "lock", fcntl.flock, []

    def flock(descriptor: int, how: int) -> None:
        if not raced:
            raced.append(path.stat().st_ino)
            path.unlink()  # by the holder before, between our open and our flock
        original(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with lock_file(path, busy="busy"):
        assert path.exists()
        with pytest.raises(UsageError, match="busy"), lock_file(path, busy="busy"):
            pass
    assert raced
    assert not path.exists()


@pytest.mark.parametrize(
    ("number", "kind", "said"),
    [
        (errno.ENOLCK, RunError, r"is on a file system that gives no locks \(no lock to be had\)"),
        (errno.ENOSYS, RunError, "gives no locks"),
        (errno.EOPNOTSUPP, RunError, "gives no locks"),
        (errno.EIO, OSError, "no lock to be had: '.*lock'"),
    ],
)
def test_a_lock_that_the_system_cannot_give_is_not_called_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception], said: str
) -> None:
    def flock(descriptor: int, how: int) -> None:
        raise OSError(number, "no lock to be had")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(kind, match=said), lock_file(tmp_path / "lock", busy="busy"):
        pass
    assert kind is OSError or not list(tmp_path.iterdir())


def test_a_lock_that_is_waited_for_comes_when_its_holder_is_done(tmp_path: Path) -> None:
    held, said, order = lock_file(tmp_path / "lock"), list[str](), list[str]()

    def wait() -> None:
        said.append("another")
        order.append("first")
        held.__exit__(None, None, None)

    held.__enter__()
    with lock_file(tmp_path / "lock", wait=wait):
        order.append("second")
    assert (said, order) == (["another"], ["first", "second"])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_has_one_lock_by_whatever_link_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to("run")
    other = pytest.raises(UsageError, match="link is being trained by another process")
    with lock_folder(tmp_path / "run"), other, lock_folder(tmp_path / "link", action="trained"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "run"]


def test_what_took_the_place_of_a_lock_is_not_removed_with_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with lock_file(path, busy="busy"):
        path.unlink()
        path.write_text("mine")
    assert path.read_text() == "mine"


def test_a_generator_that_holds_a_lock_may_be_closed_by_another_thread(tmp_path: Path) -> None:
    held = lock_file(tmp_path / "lock", busy="busy")
    held.__enter__()
    thread = threading.Thread(target=held.__exit__, args=(None, None, None))
    thread.start()
    thread.join()
    with lock_file(tmp_path / "lock", busy="busy"):
        pass
    assert list(tmp_path.iterdir()) == []
