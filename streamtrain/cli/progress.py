"""Progress: one line that rewrites itself on a terminal; elsewhere sparse plain lines, or nothing when quiet."""

from __future__ import annotations

import os
import shutil
import sys
import time

import click

_REDRAW_SECONDS = 0.1
_BAR = 8, 30  # characters of a bar: the fewest that are worth it, and the most


class ProgressLine:
    """The progress of one piece of work, on stderr; use it in a `with`, so that a terminal's line is cleared.

    A log gets a line after 1, 2, 4, 8, … seconds, and never a control character.
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

    def due(self) -> bool:
        """Whether `update` would show something now; ask it before making the text."""
        now = time.monotonic()
        if self._quiet:
            return False
        if self._terminal:
            return now - self._drawn >= _REDRAW_SECONDS
        return now - self._started >= self._next

    def update(self, text: str, share: float = 0.0) -> None:
        """Show where the work stands; a terminal gets a bar of the share that is done, where there is room."""
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1  # in the last column some terminals break the line
            line = text + bar(share, width - len(text) - 2)
            click.echo(f"\r\x1b[K{line[:width]}", err=True, nl=False)
            self._drawn, self._shown = time.monotonic(), True
        else:
            click.echo(text, err=True)
            while self._next <= time.monotonic() - self._started:
                self._next *= 2

    def clear(self) -> None:
        """Take a terminal's line away, so that other lines can be written."""
        if self._shown:
            click.echo("\r\x1b[K", err=True, nl=False)
            self._shown = False


def bar(share: float, room: int) -> str:
    """Two spaces and a bar, at most `room` long, of what is done; empty where nothing is known or room is little.

    >>> bar(0.25, 8)
    '  ██░░░░░░'
    >>> bar(0.25, 7)
    ''
    """
    least, most = _BAR
    if not share or room < least:
        return ""
    length = min(room, most)
    done, rest = "#." if os.environ.get("NO_COLOR") else "█░"
    filled = int(share * length)
    return "  " + done * filled + rest * (length - filled)


def percent_and_eta(share: float, seconds: float) -> str:
    """The share that is done and how long the rest takes, for a line; empty where the share is not known.

    >>> percent_and_eta(0.25, 30.0), percent_and_eta(0.0, 30.0)
    (' 25%  1:30 left', '')
    """
    return f"{share:4.0%}  {eta(share, seconds)}" if share else ""


def eta(share: float, seconds: float) -> str:
    """How long the rest takes at the pace so far.

    >>> eta(0.25, 30.0)
    '1:30 left'
    """
    if not share:
        return ""
    left = round(seconds / share - seconds)
    hours, minutes = divmod(left // 60, 60)
    return f"{hours}:{minutes:02}:{left % 60:02} left" if hours else f"{minutes}:{left % 60:02} left"
