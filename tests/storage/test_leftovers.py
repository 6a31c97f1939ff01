"""What killed processes leave behind is taken away by the next one; what a living one uses stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from streamtrain.storage.publish import atomic_write, write_file
from streamtrain.storage.temporary import temporary_folder

# A process that dies in the middle of its work, as by kill -9.
_DIES = {
    "file": "import os\nfrom pathlib import Path\nfrom streamtrain.storage.publish import atomic_write\n"
    "with atomic_write(Path('p.csv')) as file:\n    file.write(b'half')\n    file.flush()\n    os._exit(9)",
    "folder": "import os\nfrom streamtrain.storage.temporary import temporary_folder\n"
    "with temporary_folder() as folder:\n    (folder / 'x').write_text('half')\n    os._exit(9)",
}


def dies(what: str, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _DIES[what]], cwd=folder, env=os.environ | {"TMPDIR": str(folder)}, check=False
    )
    assert done.returncode == 9


def test_the_file_of_a_killed_process_is_removed_by_the_next_and_no_other_file(tmp_path: Path) -> None:
    dies("file", tmp_path)
    (left,) = tmp_path.iterdir()
    assert left.read_bytes() == b"half"
    mine = {".p.csv.old.tmp", ".p.csv.0123456789.tmp", "p.csv.01234567.tmp", ".q.csv.01234567.tmp"}
    for name in mine:
        (tmp_path / name).write_text("mine")
    (tmp_path / ".p.csv.01234567.tmp").symlink_to(tmp_path / ".q.csv.01234567.tmp")
    write_file(tmp_path / "p.csv", b"whole")
    assert {path.name for path in tmp_path.iterdir()} == mine | {"p.csv", ".p.csv.01234567.tmp"}


def test_the_file_that_a_living_process_writes_stays(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    with atomic_write(path) as first:
        first.write(b"one")
        write_file(path, b"other")
        assert path.read_bytes() == b"other"
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


def test_the_folder_of_a_killed_process_is_removed_by_the_next_and_no_other_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    dies("folder", tmp_path)
    (left,) = tmp_path.iterdir()
    (tmp_path / "streamtrain-mine").mkdir()
    (tmp_path / "streamtrain-mine" / "thesis.tex").write_text("ten years")
    with temporary_folder() as one:
        assert not left.exists()
        with temporary_folder() as other:
            assert one.exists()
            assert one != other
    assert [path.name for path in tmp_path.iterdir()] == ["streamtrain-mine"]
