"""Errors for people: each message names the place, the fault and the next step.

    StreamtrainError          any of these; `exit_code` is what the command line exits with
    ├── DataError             the data cannot be used as it is: a missing file, a bad row
    │   └── CorruptShardError a shard differs from what its manifest says; `what` is the fault
    ├── RunError              a run cannot continue: a non-finite loss, a recipe that changed
    └── UsageError            the request itself is wrong: an option out of range, a destination that exists

All of them take `option` (the parameter at fault), `path`, `line` and `column`, for programs that handle errors.

A message names a parameter in backticks as a Python caller writes it, alone or with a value to pass:

>>> error = UsageError(f"`memory_bytes` = 10 is too small. Pass {argument('memory_bytes', 9_000_000)} or more",
...                    option="memory_bytes")
>>> print(error)
`memory_bytes` = 10 is too small. Pass `memory_bytes=9000000` or more

Only the command line spells flags. It turns each such parameter into one:

>>> print(error.spelled(lambda name, *value: " ".join(["--memory", *(f"{v / 1e6:g}MB" for v in value)])))
--memory = 10 is too small. Pass --memory 9MB or more
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

_PARAMETER = re.compile(r"`([a-z][a-z0-9_]*)(?:=([^`]+))?`")


def argument(name: str, value: object) -> str:
    """Return `name=value` in backticks, as a message advises it; `value` is a plain Python value or a string."""
    return (
        f"`{name}={value!r}`"
        if "`" not in repr(value)
        else f"`{name}={repr(value).replace('`', chr(92) + 'x60')}`"
    )


class StreamtrainError(Exception):
    """A fault explained in one line.

    option:       the parameter at fault, as `memory_bytes`
    path:         the file or folder at fault; a str if it is an address in a store
    line, column: the place in it, counted from 1
    """

    exit_code = 1

    def __init__(
        self,
        message: str,
        *,
        option: str | None = None,
        path: object = None,
        line: int | None = None,
        column: int | None = None,
    ) -> None:
        super().__init__(message)
        self.option, self.line, self.column = option, line, column
        self.path = path if path is None or isinstance(path, str | Path) else str(path)

    def spelled(self, flag: Callable[..., str | None]) -> str:
        """Return the message with every parameter written as `flag(name)` or `flag(name, value)` returns it.

        What `flag` returns None for stays as it is: text from a file may stand in backticks too.
        """

        def spell(match: re.Match[str]) -> str:
            name, value = match.groups()
            try:
                values: list[Any] = [] if value is None else [ast.literal_eval(value)]
            except (ValueError, SyntaxError):
                return match[0]
            return flag(name, *values) or match[0]

        return _PARAMETER.sub(spell, str(self))


class DataError(StreamtrainError):
    """The data cannot be used as it is: a missing file, a bad row, a damaged shard."""


class CorruptShardError(DataError):
    """A shard is not what its manifest says.

    what: the fault alone, without the path and the advice of the message
    """

    def __init__(self, message: str, *, what: str = "", path: object = None) -> None:
        super().__init__(message, path=path)
        self.what = what


class RunError(StreamtrainError):
    """A run cannot continue: a non-finite loss, a damaged checkpoint, a recipe that changed."""


class UsageError(StreamtrainError):
    """The request itself is wrong: an option out of range, a destination that exists."""

    exit_code = 2
