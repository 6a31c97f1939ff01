"""Closed streams, empty names, and a system that gives too little: a line, not a traceback."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import RunCli

_CLOSED = "standard output is closed, so the result has no place. Send it to a file: > FILE"
_NOTHING = "error: - is empty. Check the download, or name another file"


def in_shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    words = ["bash", "-c", f"{line}", sys.executable]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ('"$0" -P -m streamtrain verify shards >&-', 1, f"error: {_CLOSED}"),
        (
            '"$0" -P -m streamtrain convert - out <&-',
            1,
            "error: - is empty. Check the download, or name another file",
        ),
        ('"$0" -P -m streamtrain convert d.csv out -q 2>&- >result; test -e out/manifest.json', 0, ""),
        ('"$0" -P -m streamtrain verify shards >&- 2>&-', 1, ""),
        ('"$0" -P -m streamtrain convert d.csv out -q --json | true', 0, ""),
    ],
)
def test_a_closed_stream_is_a_line_or_nothing(
    shards: Path, digits_csv: Path, tmp_path: Path, line: str, code: int, said: str
) -> None:
    (tmp_path / "shards").symlink_to(shards)
    (tmp_path / "d.csv").symlink_to(digits_csv)
    done = in_shell(line, tmp_path)
    assert (done.returncode, done.stderr.strip()) == (code, said)


@pytest.mark.parametrize(
    "words",
    [
        *(
            ("convert", "", "out"),
            ("convert", "{csv}", ""),
            ("shuffle", "", "out"),
            ("verify", ""),
            ("inspect", ""),
        ),
        *(("train", "", "--out", "run"), ("train", "{csv}", "--out", ""), ("train", "--resume", "")),
        *(("evaluate", "", "{csv}"), ("predict", "run", ""), ("report", ""), ("export", "", "--to", "torch")),
        ("convert", "{csv}", "out", "--labels", ""),
    ],
)
def test_an_empty_name_is_not_the_current_folder(
    call_cli: RunCli, digits_csv: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    done = call_cli(*(word.format(csv=digits_csv) for word in words))
    assert done.returncode == 2
    assert "it is empty. Name a file or folder. See streamtrain" in done.stderr
    assert list(tmp_path.iterdir()) == []


def limited(kind: int, most: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(kind, (most, most))


@pytest.mark.long
@pytest.mark.parametrize("megabytes", [400, 600, 800, 1000, 1200, 1500])
@pytest.mark.parametrize("words", [("convert", "{csv}", "out"), ("train", "{shards}", "--out", "run")])
def test_too_little_memory_is_a_line_or_enough(
    shards: Path, digits_csv: Path, tmp_path: Path, words: tuple[str, ...], megabytes: int
) -> None:
    command = [word.format(csv=digits_csv, shards=shards) for word in words]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "streamtrain", *command, "-q"],
        cwd=tmp_path,
        preexec_fn=limited(resource.RLIMIT_AS, megabytes << 20),
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert done.returncode == 0 or done.stderr.splitlines()[-1].startswith("error: "), done.stderr
