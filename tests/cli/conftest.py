"""What the tests of the command line share: JSON lines, a terminal, and a training that signals itself."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

JsonLines = Callable[[str], list[dict[str, Any]]]
OnTerminal = Callable[..., "Seen"]
SignalAt = Callable[..., None]

_NEW_LINE = "\r\x1b[K"  # erases the progress line
# The command line with a clock that is a second later at each look, so that every step is shown.
_EVERY_STEP = """
import itertools
from streamtrain.__main__ import main
from streamtrain.cli import progress

class Clock:
    monotonic = itertools.count().__next__

progress.time = Clock
main()
"""


class Seen(NamedTuple):
    """The lines that stayed on a terminal, and all states of its progress line."""

    code: int
    lines: list[str]
    states: list[str]


@pytest.fixture(scope="session")
def json_lines() -> JsonLines:
    """Parse text of JSON lines."""
    return lambda text: [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def on_terminal(tmp_path: Path) -> OnTerminal:
    """Run the command line in tmp_path with its outputs on a terminal, and show the progress of every step."""

    def run(*args: str | Path, columns: int = 80, env: Mapping[str, str] | None = None) -> Seen:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        around = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
        command = [sys.executable, "-c", _EVERY_STEP, *map(str, args)]
        with subprocess.Popen(
            command, cwd=tmp_path, env=around | dict(env or {}), stdin=theirs, stdout=theirs, stderr=theirs
        ) as process:
            os.close(theirs)
            output = b"".join(_chunks(ours))
            os.close(ours)
        lines, states = [], []
        for line in output.decode().replace("\r\n", "\n").split("\n"):
            *before, last = line.split(_NEW_LINE)
            states += [state for state in before if state]
            lines.append(last)
        return Seen(process.returncode, lines, states)

    return run


def _chunks(terminal: int) -> Iterator[bytes]:
    try:
        while chunk := os.read(terminal, 1 << 16):
            yield chunk
    except OSError:  # the other end is closed
        return


@pytest.fixture
def signal_at(monkeypatch: pytest.MonkeyPatch) -> SignalAt:
    """Let the next training in this process send itself a signal when it has reached a cursor."""
    from streamtrain.train.fit import Training
    from streamtrain.train.progress import Progress

    def patch(number: signal.Signals, cursor: tuple[int, int]) -> None:
        events, waiting = Training.__iter__, [cursor]

        def signalling(training: Training) -> Iterator[Any]:
            for event in events(training):
                if isinstance(event, Progress) and event.cursor in waiting:
                    waiting.clear()
                    os.kill(os.getpid(), number)
                yield event

        monkeypatch.setattr(Training, "__iter__", signalling)

    return patch
