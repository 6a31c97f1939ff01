"""What people see while they wait: one line that rewrites itself on a terminal, a few lines in a log."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from streamtrain.cli import progress
from streamtrain.cli.progress import ProgressLine, Status
from streamtrain.cli.tables import status_line
from streamtrain.stream.order import Cursor
from streamtrain.train.progress import Progress

if TYPE_CHECKING:
    from conftest import OnTerminal, RunCli

EPOCHS = ("--epochs", "2", "--batch-size", "200", "--lr", "0.5")  # three steps each


def test_training_shows_one_progress_line_a_row_for_each_epoch_and_a_curve_at_the_end(
    on_terminal: OnTerminal, shards: Path
) -> None:
    seen = on_terminal("train", shards, "--test", shards, "--out", "run", *EPOCHS)
    assert seen.code == 0
    state = re.compile(
        r"epoch ([12])/2 +(\d+)%  \d:\d\d left  loss (\d\.\d{4})  accuracy [01]\.\d{4}  [\d,]+ rows/s"
    )
    states = [state.fullmatch(text) for text in seen.states]
    assert all(states), seen.states
    done = [(int(match[1]), int(match[2])) for match in states if match]
    assert sorted(set(done)) == [(epoch, share) for epoch in (1, 2) for share in (33, 67, 100)]
    assert done == sorted(done)
    losses = [float(match[3]) for match in states if match]
    assert losses[0] > losses[-1]  # it is the loss of this epoch so far, and falls
    assert all(len(text) < 80 for text in seen.states)
    sets, names, one, two, curve, best, last, following, end = seen.lines[-9:]
    assert (sets.split(), names.split()) == (["train", "test"], ["epoch", "loss", "acc", "loss", "acc", "time"])
    rows = [re.fullmatch(r" +(\d)/2( +\d\.\d{4}){4} +\d:\d\d", line) for line in (one, two)]
    assert [row and row[1] for row in rows] == ["1", "2"]
    assert len({len(line) for line in (names, one, two)}) == 1
    assert re.fullmatch(r"train loss \d\.\d{4} █▁ \d\.\d{4}", curve)
    assert re.fullmatch(r"run/best.safetensors: epoch \d, the best by test accuracy, \d\.\d{4}", best)
    assert re.fullmatch(r"run/last.safetensors: the weights after 2 epochs, in \d:\d\d", last)
    assert (following, end) == ("Next: streamtrain report run", "")
    assert max(map(len, seen.lines[-9:])) < 80


def test_a_narrow_terminal_without_colours_gets_lines_that_fit_and_plain_characters(
    on_terminal: OnTerminal, shards: Path
) -> None:
    options = (*EPOCHS, "--no-eval-train", "--out", "run")
    seen = on_terminal("train", shards, *options, columns=40, env={"NO_COLOR": "1"})
    assert seen.code == 0
    assert len(seen.states) == 6
    assert max(map(len, seen.states)) < 40
    assert all(re.match(r"epoch [12]/2 +\d+%  \d:\d\d left  loss \d", text) for text in seen.states)
    assert any(re.fullmatch(r"train loss \d\.\d{4} @\. \d\.\d{4}", line) for line in seen.lines)
    assert "\x1b" not in "".join(seen.lines)


def test_quiet_training_shows_its_result_alone_on_a_terminal(on_terminal: OnTerminal, shards: Path) -> None:
    seen = on_terminal("train", shards, *EPOCHS, "--out", "run", "-q")
    assert seen.states == []
    first = [line.split(maxsplit=1)[:1] for line in seen.lines]
    assert first == [["train"], ["epoch"], ["1/2"], ["2/2"], ["run/last.safetensors:"], []]


def test_a_conversion_shows_its_bytes_as_a_bar_and_the_time_left(
    on_terminal: OnTerminal, digits_csv: Path, tmp_path: Path
) -> None:
    header, rest = digits_csv.read_text().split("\n", 1)
    (tmp_path / "many.csv").write_text(header + "\n" + rest * 400)  # three chunks
    seen = on_terminal("convert", "many.csv", "shards", "--workers", "1")
    assert seen.code == 0
    assert len(seen.states) >= 3
    for text in seen.states:
        match = re.fullmatch(r"converting  ([ \d]{2}\d)%  \d:\d\d left  ([\d,]+) rows  (█*)(░*)", text)
        assert match, text
        share, rows = int(match[1]) / 100, int(match[2].replace(",", ""))
        assert rows == pytest.approx(240_000 * share, rel=0.1)  # the share is that of the bytes
        assert len(match[3]) == pytest.approx(share * (len(match[3]) + len(match[4])), abs=1.5)
    assert seen.lines[-2].startswith("shards: 240,000 rows, 10 classes, ")


@pytest.mark.parametrize("no_color", ["", "1"])
def test_a_terminal_gets_half_blocks_unless_no_color_is_set(
    on_terminal: OnTerminal, shards: Path, no_color: str
) -> None:
    text = "".join(on_terminal("inspect", shards, "--line", "2", env={"NO_COLOR": no_color}).lines)
    assert ("\x1b[38;5;" in text, "▀" in text) == (not no_color, not no_color)


class Clock:
    """A time that a test moves on."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


def test_a_log_gets_a_line_after_1_2_4_8_seconds_and_a_quiet_one_none(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with ProgressLine(quiet=False) as shown, ProgressLine(quiet=True) as quiet:
        for tenth in range(1, 201):
            clock.now = 100 + tenth / 10
            assert not quiet.due()
            if shown.due():
                shown.update(Status(f"{tenth / 10:g} seconds"))
    assert capsys.readouterr().err == "1 seconds\n2 seconds\n4 seconds\n8 seconds\n16 seconds\n"


def test_a_terminal_that_knows_no_control_characters_is_a_log(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    for term, shown in (("dumb", "half\n"), ("xterm", "\r\x1b[Khalf\r\x1b[K")):
        monkeypatch.setenv("TERM", term)
        with ProgressLine(quiet=False) as line:
            clock.now += 1
            assert line.due()
            line.update(Status("half"))
        assert capsys.readouterr().err == shown


def test_a_log_that_was_not_asked_for_long_gets_one_line_and_not_the_missed_ones(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with ProgressLine(quiet=False) as shown:
        for now in (5.0, 6.0, 7.9, 8.0):
            clock.now = 100 + now
            if shown.due():
                shown.update(Status(f"{now:g}"))
    assert capsys.readouterr().err == "5\n8\n"


def test_following_steps_shows_each_that_is_due_and_the_time_left_of_its_kind(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    def seconds(step: float | str) -> Status | None:
        return None if step == "end" else Status("reading" if isinstance(step, float) else "sorting", 1, 4, "x")

    steps: list[float | str] = [10.0, 30.0, "sort", "sort", "end"]
    with ProgressLine(quiet=False) as line:
        times = iter((110, 130, 140, 180, 300))
        for _ in line.follow(steps, seconds):
            clock.now = next(times)
    assert capsys.readouterr().err == "".join(
        f"{text}  x\n"
        for text in (
            *("reading   25%  0:30 left", "reading   25%  1:30 left"),
            *("sorting   25%  0:30 left", "sorting   25%  2:30 left"),
        )
    )


def test_the_time_left_is_that_of_all_epochs() -> None:
    step = Progress(Cursor(2, 500), seconds=5.0)
    assert status_line(step, 1000, 11).startswith("epoch 2/11  50%  1:35 left  ")


@pytest.mark.parametrize(("command", "task"), [("predict", "predicting"), ("evaluate", "evaluating")])
def test_long_inputs_show_how_far_they_are(
    call_cli: RunCli, shards: Path, digits_csv: Path, monkeypatch: pytest.MonkeyPatch, command: str, task: str
) -> None:
    call_cli("train", shards, "--out", "run", "--epochs", "1", "-q")
    monkeypatch.setattr(ProgressLine, "due", lambda self: not self._quiet)
    source = digits_csv if command == "predict" else shards
    done = call_cli(command, "run", source)
    assert re.search(rf"^{task}  100%  0:00 left", done.stderr, flags=re.M)
