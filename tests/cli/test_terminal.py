"""What people see while they wait: one line that rewrites itself on a terminal, sparse lines in a log."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from streamtrain.cli import progress as live
from streamtrain.cli.progress import ProgressLine
from streamtrain.cli.tables import status_line
from streamtrain.stream.order import Cursor
from streamtrain.train.progress import Progress

if TYPE_CHECKING:
    from conftest import RunCli

_ANEW = "\r\x1b[K"  # what takes the live line away


class Seen(NamedTuple):
    """What a terminal showed: lines that stay, and each state of the lines that did not."""

    code: int
    stays: list[str]
    passed: list[str]


def on_terminal(cwd: Path, *args: str | Path, columns: int = 80, env: dict[str, str] | None = None) -> Seen:
    """Run streamtrain with both outputs on a terminal of so many columns."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    around = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    command = [sys.executable, "-m", "streamtrain", *map(str, args)]
    with subprocess.Popen(
        command, cwd=cwd, env=around | (env or {}), stdin=slave, stdout=slave, stderr=slave
    ) as process:
        os.close(slave)
        said = b""
        while data := _read(master):
            said += data
        os.close(master)
    stays, passed = [], []
    for line in said.decode().replace("\r\n", "\n").split("\n"):
        *before, last = line.split(_ANEW)
        passed += [state for state in before if state]
        stays.append(last)
    return Seen(process.returncode, stays, passed)


def _read(master: int) -> bytes:
    try:
        return os.read(master, 1 << 16)
    except OSError:  # the other end is closed
        return b""


def test_training_shows_one_live_line_a_row_an_epoch_and_a_curve_at_the_end(shards: Path, tmp_path: Path) -> None:
    slow = ("--batch-size", "1", "--hidden", "900,900", "--activation", "tanh", "--lr", "0.01", "--workers", "1")
    options = ("--epochs", "3", *slow)
    seen = on_terminal(tmp_path, "train", shards, "--test", shards, "--out", "run", *options)
    assert seen.code == 0
    state = re.compile(
        r"epoch ([123])/3 +(\d+)%  \d:\d\d left  loss (\d\.\d{4})  accuracy [01]\.\d{4}  [\d,]+ rows/s"
    )
    states = [state.fullmatch(text) for text in seen.passed]
    assert len(states) > 3
    assert all(states), seen.passed
    done = [(int(match[1]), int(match[2])) for match in states if match]
    assert done == sorted(done)
    assert {epoch for epoch, _ in done} >= {1, 2}
    assert all(0 <= share <= 100 for _, share in done)
    losses = [float(match[3]) for match in states if match]
    assert losses[0] > losses[-1]  # it is the loss of this epoch so far, and falls
    assert all(len(text) < 80 for text in seen.passed)
    *_, one, two, three, curve, last, end = seen.stays
    rows = [re.match(r"epoch (\d)/3  train loss \d\.\d{4}  train accuracy", line) for line in (one, two, three)]
    assert [row and row[1] for row in rows] == ["1", "2", "3"]
    assert re.fullmatch(r"train loss \d\.\d{4} █[▁-█]▁ \d\.\d{4}", curve)
    assert (last, end) == ("run/last.safetensors: the weights after 3 epochs", "")


def test_a_narrow_terminal_without_colours_gets_lines_that_fit_and_plain_characters(
    shards: Path, tmp_path: Path
) -> None:
    options = ("--epochs", "2", "--batch-size", "1", "--no-eval-train", "--out", "run")
    seen = on_terminal(tmp_path, "train", shards, *options, columns=40, env={"NO_COLOR": "1"})
    assert seen.code == 0
    assert seen.passed
    assert max(map(len, seen.passed)) < 40
    assert all(re.match(r"epoch [12]/2 +\d+%  \d:\d\d left  loss \d", text) for text in seen.passed)
    assert any(re.fullmatch(r"train loss \d\.\d{4} @\. \d\.\d{4}", line) for line in seen.stays)
    assert "\x1b" not in "".join(seen.stays)


def test_quiet_training_shows_its_result_alone_on_a_terminal(shards: Path, tmp_path: Path) -> None:
    seen = on_terminal(tmp_path, "train", shards, "--epochs", "2", "--batch-size", "1", "--out", "run", "-q")
    assert seen.passed == []
    assert [line.split(" ")[0] for line in seen.stays] == ["epoch", "epoch", "run/last.safetensors:", ""]


def test_a_conversion_shows_its_bytes_as_a_bar_and_the_time_left(digits_csv: Path, tmp_path: Path) -> None:
    header, rest = digits_csv.read_text().split("\n", 1)
    (tmp_path / "many.csv").write_text(header + "\n" + rest * 1000)  # 100 MB: six shards, a second
    seen = on_terminal(tmp_path, "convert", "many.csv", "shards", "--workers", "1")
    assert seen.code == 0
    assert seen.passed
    for text in seen.passed:
        match = re.fullmatch(r"converting  ([ \d]{2}\d)%  \d:\d\d left  ([\d,]+) rows  (█*)(░*)", text)
        assert match, text
        share, rows = int(match[1]) / 100, int(match[2].replace(",", ""))
        assert rows == pytest.approx(600_000 * share, rel=0.1)  # the share is that of the bytes
        assert len(match[3]) == pytest.approx(share * (len(match[3]) + len(match[4])), abs=1.5)
    assert seen.stays[-2] == "shards: 600,000 rows, 10 classes, 6 shards"


class Clock:
    """A time that a test moves on."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(live, "time", made)
    return made


def test_a_log_gets_a_line_after_1_2_4_8_seconds_and_a_quiet_one_none(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with ProgressLine(quiet=False) as shown, ProgressLine(quiet=True) as hushed:
        for tenth in range(1, 201):
            clock.now = 100 + tenth / 10
            assert not hushed.due()
            if shown.due():
                shown.update(f"{tenth / 10:g} seconds", tenth / 200)
    assert capsys.readouterr().err == "1 seconds\n2 seconds\n4 seconds\n8 seconds\n16 seconds\n"


def test_a_terminal_that_knows_no_control_characters_is_a_log(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    for term, shown in (("dumb", "half\n"), ("xterm", "\r\x1b[Khalf\r\x1b[K")):
        monkeypatch.setenv("TERM", term)
        with ProgressLine(quiet=False) as live_line:
            clock.now += 1
            assert live_line.due()
            live_line.update("half")
        assert capsys.readouterr().err == shown


def test_a_log_that_was_not_asked_for_long_gets_one_line_and_not_the_missed_ones(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with ProgressLine(quiet=False) as shown:
        for now in (5.0, 6.0, 7.9, 8.0):
            clock.now = 100 + now
            if shown.due():
                shown.update(f"{now:g}")
    assert capsys.readouterr().err == "5\n8\n"


def test_the_time_left_is_that_of_all_epochs() -> None:
    progress = Progress(Cursor(2, 500), seconds=5.0)
    assert status_line(progress, 1000, 11).startswith("epoch 2/11  50%  1:35 left  ")


@pytest.mark.parametrize(("command", "said"), [("predict", "predicting"), ("evaluate", "evaluating")])
def test_long_inputs_show_where_they_stand(
    call_cli: RunCli, shards: Path, digits_csv: Path, monkeypatch: pytest.MonkeyPatch, command: str, said: str
) -> None:
    call_cli("train", shards, "--out", "run", "--epochs", "1", "-q")
    monkeypatch.setattr(ProgressLine, "due", lambda self: not self._quiet)
    source = digits_csv if command == "predict" else shards
    told = call_cli(command, "run", source)
    assert re.search(rf"^{said}  100%  0:00 left", told.stderr, flags=re.M)
    assert call_cli(command, "run", source, "-q").stderr == ""
