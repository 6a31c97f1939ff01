"""Nothing but streamtrain's own code runs: not what lies next to the data, nor what another user could write."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import streamtrain
from streamtrain.import_path import python_command
from streamtrain.native.trust import read_trusted, trusted_folder

PACKAGE = Path(streamtrain.__file__).parent
TRAP = "open('RAN', 'w').close()\n"


def streamtrain_in(folder: Path, *words: str, start: tuple[str, ...], **env: str) -> str:
    """Run the command in a folder; return what it says. It has to succeed."""
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


@pytest.mark.parametrize("module", ["click", "csv", "platform", "shlex", "numba", "sitecustomize"])
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
    assert (tmp_path / "RAN").exists()  # the user said so


def test_an_empty_entry_of_pythonpath_is_not_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", ".", "/somewhere"]))
    monkeypatch.syspath_prepend("")
    command, environment = python_command("print(sys.path)")
    assert environment["PYTHONPATH"] == "/somewhere"
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert str(tmp_path) not in told
    assert "''" not in told
    assert str(PACKAGE.parent) in told


def test_machine_code_that_another_user_could_write_is_not_read(tmp_path: Path) -> None:
    folder, file = tmp_path / "cache", tmp_path / "cache" / "parse.code"
    assert trusted_folder(folder)
    file.write_bytes(b"code")
    assert read_trusted(file) == b"code"
    for path, mode in ((file, 0o666), (file, 0o620), (folder, 0o777), (folder, 0o770)):
        before = path.stat().st_mode
        path.chmod(mode)
        with pytest.raises(PermissionError, match="another user"):
            read_trusted(file)
        assert trusted_folder(folder) == (path != folder)
        path.chmod(before)
    (folder / "link.code").symlink_to(file)
    (tmp_path / "link").symlink_to(folder)
    os.mkfifo(folder / "pipe.code")
    for path in (
        folder / "link.code",
        tmp_path / "link" / "parse.code",
        folder / "pipe.code",
        folder / "none.code",
    ):
        with pytest.raises(OSError, match=r"link|pipe|none|directory"):
            read_trusted(path)
    assert not trusted_folder(tmp_path / "link")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file of another user")
def test_machine_code_of_another_user_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "parse.code"
    file.write_bytes(b"code")
    assert read_trusted(file) == b"code"
    os.chown(file, 12345, 12345)
    with pytest.raises(PermissionError, match="another user"):
        read_trusted(file)
    os.chown(file, 0, 0)
    os.chown(tmp_path, 12345, 12345)
    with pytest.raises(PermissionError, match="another user"):
        read_trusted(file)


def test_machine_code_is_kept_where_only_its_owner_writes_whatever_the_umask(
    digits_csv: Path, tmp_path: Path
) -> None:
    site, cache = tmp_path / "site", tmp_path / "cache"
    shutil.copytree(PACKAGE, site / "streamtrain", ignore=shutil.ignore_patterns("__pycache__"))
    (site / "streamtrain" / "native" / "__pycache__").mkdir()
    (site / "streamtrain" / "native" / "__pycache__").chmod(0o777)  # where anybody could put code: not used
    code = (
        "import os, sys; os.umask(0); from streamtrain.convert import convert; "
        f"convert({str(digits_csv)!r}, sys.argv[1])"
    )
    env = {"PYTHONPATH": str(site), "XDG_CACHE_HOME": str(cache)}
    streamtrain_in(tmp_path, "out", start=("-P", "-c", code), **env)
    kept = list((cache / "streamtrain").glob("parse-*.code"))
    assert [path.stat().st_mode & 0o777 for path in (*kept, cache / "streamtrain")] == [0o644, 0o755]
    assert not list(site.rglob("*.code"))
