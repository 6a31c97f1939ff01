"""How commands talk to people: the result goes to stdout, everything else to stderr."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

import click

from streamtrain.cli.progress import ProgressLine
from streamtrain.text import one_line, printable


@dataclass
class Console:
    """The settings of --json, --quiet and --debug, which every command has, and what follows from them."""

    json: bool = False
    quiet: bool = False
    debug: bool = False

    def result(self, values: Mapping[str, Any], text: str) -> None:
        """Print a result on stdout: `values` as one line of JSON with --json, otherwise `text`."""
        click.echo(json.dumps(values) if self.json else printable(text))
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """Print on stderr what is good to know, unless --quiet."""
        if not self.quiet:
            say(text)

    def progress(self, *, shown: bool = True) -> ProgressLine:
        """Return a progress line, which shows nothing with --quiet or unless `shown`."""
        return ProgressLine(quiet=self.quiet or not shown)


pass_console = click.make_pass_decorator(Console, ensure=True)


def say(text: str) -> None:
    """Print a line on stderr, with --quiet too."""
    click.echo(printable(text), err=True)


def warn(text: str) -> None:
    """Print a warning on stderr, with --quiet too."""
    say(f"warning: {one_line(text)}")


@functools.cache  # once in a process
def warn_if_not_built() -> None:
    """Warn that the loops in C are missing, and say what brings them."""
    from streamtrain import native

    if not native.available():
        warn(native.NOT_BUILT)


def shows_unicode(stream: IO[str]) -> bool:
    """Return whether a stream is a terminal that may get colours and block characters."""
    return stream.isatty() and not os.environ.get("NO_COLOR")
