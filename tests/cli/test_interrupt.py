"""Ctrl-C at any time is one line and exit code 130; what was converted before is not converted again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
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

# A module that is interrupted while it is imported and swallows the exception.
_INTERRUPTED = """
import os, signal
try:
    os.kill(os.getpid(), signal.SIGINT)
except BaseException:
    pass
"""


@pytest.mark.parametrize(("module", "command"), [("click", "--help"), ("torch", "train"), ("pyarrow", "convert")])
def test_an_interrupt_while_a_module_is_imported_is_one_line(
    shards: Path, tmp_path: Path, module: str, command: str
) -> None:
    """The module may swallow the exception, as torch and NumPy do."""
    (tmp_path / f"{module}.py").write_text(_INTERRUPTED)
    words = {"train": [str(shards), "--out", "run"], "convert": [str(shards / "no.csv"), "out"]}.get(command, [])
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "streamtrain", command, *words],
        env=os.environ | {"PYTHONPATH": path},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job ignores it
    )
    assert (done.returncode, done.stderr) == (130, "\nInterrupted.\n")


def test_outside_an_import_an_interrupt_is_a_keyboard_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = sys._getframe()
    while "importlib" not in frame.f_code.co_filename and frame.f_back:
        frame = frame.f_back
    with pytest.raises(KeyboardInterrupt):
        program.interrupted(signal.SIGINT, frame)
    calls: list[object] = []
    monkeypatch.setattr("streamtrain.cli.main", lambda **_: calls.append(signal.getsignal(signal.SIGINT)))
    before = signal.getsignal(signal.SIGINT)
    terminated = signal.getsignal(signal.SIGTERM)
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        program.main()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        program.main()
    finally:
        signal.signal(signal.SIGINT, before)
        signal.signal(signal.SIGTERM, terminated)
    assert calls == [signal.SIG_IGN, program.interrupted]


def cut_off(csv: Path) -> Path:
    """Leave a conversion of `csv`, next to it, that stopped after its first chunk."""
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


# The command line, whose child process signals it after the first chunk and then waits to be ended.
_SIGNALLED = """
import os, signal, subprocess, sys
from streamtrain.__main__ import main
from streamtrain.cli import data

CHILD = '''
import os, signal
from streamtrain.__main__ import main
from streamtrain.convert import pipeline

iter_convert = pipeline.iter_convert

def signalling(*args, **options):
    for step in iter_convert(*args, **options):
        os.kill(os.getppid(), signal.SIGTERM)
        while True:
            signal.pause()
        yield step

pipeline.iter_convert = signalling
main()
'''

class Popen(subprocess.Popen):
    def __init__(self, command, **options):
        super().__init__([sys.executable, "-c", CHILD, *command[command.index("convert") :]], **options)

    def __exit__(self, *error):
        print("child", self.returncode)
        return super().__exit__(*error)

subprocess.Popen = Popen
main()
"""


def test_a_signal_while_a_csv_is_converted_for_training_ends_both_processes(
    digits_csv: Path, tmp_path: Path
) -> None:
    header, rest = digits_csv.read_text().split("\n", 1)
    (tmp_path / "many.csv").write_text(header + "\n" + rest * 160)  # two chunks
    command = [sys.executable, "-c", _SIGNALLED, "train", "many.csv", "--out", "run", "--workers", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (143, "child 143\n")
    assert "The same command continues with what is converted." in done.stderr
    assert "Traceback" not in done.stderr
    assert can_resume(tmp_path / "many.csv.shards")
