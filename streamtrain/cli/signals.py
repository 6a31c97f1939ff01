"""The effect of SIGINT (Ctrl-C) and SIGTERM (kill) while a command works."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator

from streamtrain.cli.console import say


@contextlib.contextmanager
def stop_on_signal() -> Iterator[list[int]]:
    """Context manager: yield a list that gets the number of the first SIGINT or SIGTERM.

    After the first, both have their default action again: a second one ends the process at once, even inside a
    long call that Python cannot interrupt.
    """
    caught: list[int] = []
    numbers = signal.SIGINT, signal.SIGTERM

    def note(number: int, _frame: object) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_DFL)
        caught.append(number)
        say("Saving. A second signal stops at once, without saving.")

    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def sigterm_exits() -> Iterator[None]:
    """Context manager: SIGTERM raises SystemExit(143), so that `finally` blocks run."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def exit_code(stop: KeyboardInterrupt | SystemExit) -> int:
    """Return the exit code of a command that a signal stopped, inside `sigterm_exits`: 130 or 143."""
    return 130 if isinstance(stop, KeyboardInterrupt) else 143
