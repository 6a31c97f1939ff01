"""Ctrl-C at any time is one line and exit code 130; what was converted before is not converted again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import streamtrain as st
from streamtrain import __main__ as program
from streamtrain.convert import pipeline as ingest
from streamtrain.convert.options import ConvertOptions
from streamtrain.convert.write.journal import can_resume

if TYPE_CHECKING:
    from conftest import RunCli

_SLOW = """
import pathlib, time
pathlib.Path({at!r}).touch()
try:
    time.sleep(30)
except BaseException:
    pass
"""


@pytest.mark.parametrize(("module", "command"), [("click", "--help"), ("torch", "train"), ("pyarrow", "convert")])
def test_an_interrupt_while_a_module_is_imported_is_one_line(
    shards: Path, tmp_path: Path, module: str, command: str
) -> None:
    """Also where the module swallows it, as torch and NumPy do."""
    (tmp_path / f"{module}.py").write_text(_SLOW.format(at=str(tmp_path / "imported")))
    words = {"train": [str(shards), "--out", "run"], "convert": [str(shards / "no.csv"), "out"]}.get(command, [])
    around = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    with subprocess.Popen(
        [sys.executable, "-m", "streamtrain", command, *words],
        env=around,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # in the background it is ignored
    ) as process:
        while not (tmp_path / "imported").exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=20)
    assert (process.returncode, told) == (130, "\nInterrupted.\n")


def test_elsewhere_an_interrupt_is_what_python_makes_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = sys._getframe()
    while "importlib" not in frame.f_code.co_filename and frame.f_back:
        frame = frame.f_back
    with pytest.raises(KeyboardInterrupt):
        program.interrupted(signal.SIGINT, frame)
    calls: list[object] = []
    monkeypatch.setattr("streamtrain.cli.main", lambda: calls.append(signal.getsignal(signal.SIGINT)))
    before = signal.getsignal(signal.SIGINT)
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        program.main()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        program.main()
    finally:
        signal.signal(signal.SIGINT, before)
    assert calls == [signal.SIG_IGN, program.interrupted]


def cut_off(csv: Path) -> Path:
    """Leave a conversion of `csv` beside it that was cut off after its first chunk."""
    folder = csv.with_name(f"{csv.name}.shards")
    steps = ingest.iter_convert(csv, folder, ConvertOptions(workers=1))
    next(steps)
    steps.close()
    assert can_resume(folder)
    return folder


def test_training_on_a_csv_goes_on_with_its_conversion_that_was_cut_off(
    run_cli: RunCli, digits_csv: Path, tmp_path: Path
) -> None:
    header, rest = digits_csv.read_text().split("\n", 1)
    csv = tmp_path / "digits of mine.csv"
    csv.write_text(header + "\n" + rest * 160)  # two chunks
    folder = cut_off(csv)
    kept = tmp_path / f".{folder.name}.unfinished" / "shard-00000.parquet"
    before = kept.stat()
    done = run_cli("train", csv.name, "--out", "run", "--epochs", "1", "-q")
    assert done.returncode == 0
    assert "streamtrain convert 'digits of mine.csv' 'digits of mine.csv.shards' --resume" in done.stderr
    after = (folder / "shard-00000.parquet").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert st.open_shards(folder).rows == 96_000


def test_a_signal_while_a_csv_is_converted_for_training_ends_both_processes(
    digits_csv: Path, tmp_path: Path
) -> None:
    header, rest = digits_csv.read_text().split("\n", 1)
    (tmp_path / "many.csv").write_text(header + "\n" + rest * 2000)
    command = [sys.executable, "-m", "streamtrain", "train", "many.csv", "--out", "run", "--workers", "1"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        while not list(tmp_path.glob(".many.csv.shards.unfinished/.journal/*.record")):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "The same command goes on with what is converted." in told
    assert "Traceback" not in told
    assert can_resume(tmp_path / "many.csv.shards")
    assert not re.findall(r"many\.csv", _commands())


def _commands() -> str:
    """The command lines of all processes here."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return "\n".join(lines)
