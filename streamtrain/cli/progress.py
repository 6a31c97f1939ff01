"""Progress: one line that rewrites itself on a terminal, a few plain lines in a log, nothing with --quiet."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

import click

from streamtrain.text import printable

_REDRAW_SECONDS = 0.1
_BAR = 8, 30  # characters of the progress bar: the fewest that are useful, and the most

Step = TypeVar("Step")


class Status(NamedTuple):
    """How far a task is: `done` of `total` in any unit; without a total, the line has only the task and `text`."""

    task: str
    done: float = 0
    total: float = 0
    text: str = ""


class ProgressLine:
    """The progress of one command on stderr. Use it in a `with`, which clears the terminal's line at the end.

    A log gets a line after 1, 2, 4, 8, … seconds and never a control character.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._started = self._drawn = time.monotonic()
        self._next = 1.0
        self._shown = False

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def follow(self, steps: Iterable[Step], status: Callable[[Step], Status | None]) -> Iterator[Step]:
        """Yield each of `steps` and then, if it is time to, show its status; `status` is not called otherwise.

        A task begins with the first step, and again when the type of the steps changes.
        """
        began = time.monotonic()
        kind: type | None = None
        for step in steps:
            if kind not in (None, type(step)):
                began = time.monotonic()
            kind = type(step)
            yield step
            if self.due() and (now := status(step)):
                self.update(now, seconds=time.monotonic() - began)

    def finish(self, steps: Iterable[Step], status: Callable[[Step], Status | None]) -> Step:
        """Go through all steps as `follow` does, and return the last."""
        for last in self.follow(steps, status):  # noqa: B007  # it is what remains
            pass
        return last

    def due(self) -> bool:
        """Return whether `update` would show something now."""
        now = time.monotonic()
        if self._quiet:
            return False
        if self._terminal:
            return now - self._drawn >= _REDRAW_SECONDS
        return now - self._started >= self._next

    def update(self, status: Status, *, seconds: float = 0.0) -> None:
        """Show a status that was reached in `seconds`; on a terminal with a bar if the line has room for one."""
        share = status.done / status.total if status.total else 0.0
        text = printable("  ".join(filter(None, [status.task, percent_and_eta(share, seconds), status.text])))
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1  # some terminals wrap after the last column
            line = text + bar(share, width - len(text) - 2)
            click.echo(f"\r\x1b[K{line[:width]}", err=True, nl=False)
            self._drawn, self._shown = time.monotonic(), True
        else:
            click.echo(text, err=True)
            while self._next <= time.monotonic() - self._started:
                self._next *= 2

    def clear(self) -> None:
        """Erase the terminal's line, so that other lines can be written."""
        if self._shown:
            click.echo("\r\x1b[K", err=True, nl=False)
            self._shown = False


def bar(share: float, room: int) -> str:
    """Return two spaces and a bar of the share that is done, in `room` characters; empty if there is too little.

    >>> bar(0.25, 8)
    '  ██░░░░░░'
    >>> bar(0.25, 7)
    ''
    """
    fewest, most = _BAR
    if not share or room < fewest:
        return ""
    length = min(room, most)
    done, rest = "#." if os.environ.get("NO_COLOR") else "█░"
    filled = int(share * length)
    return "  " + done * filled + rest * (length - filled)


def percent_and_eta(share: float, seconds: float) -> str:
    """Return the share that is done and the time that is left, or an empty text if nothing is known.

    >>> percent_and_eta(0.25, 30.0), percent_and_eta(0.0, 30.0)
    (' 25%  1:30 left', '')
    """
    return f"{share:4.0%}  {eta(share, seconds)}" if share else ""


def eta(share: float, seconds: float) -> str:
    """Return the time that is left at the pace so far.

    >>> eta(0.25, 30.0)
    '1:30 left'
    """
    if not share:
        return ""
    return f"{duration(seconds / share - seconds)} left"


def duration(seconds: float) -> str:
    """Return a time as minutes and seconds, with the hours if there are any.

    >>> duration(90.4), duration(3601)
    ('1:30', '1:00:01')
    """
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
