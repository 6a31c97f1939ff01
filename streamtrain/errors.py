"""Errors that a person reads: each message says where, what is wrong and what to do next."""

from __future__ import annotations

from pathlib import Path


class StreamtrainError(Exception):
    """A fault explained in one line.

    option:       the parameter at fault, as `memory_bytes`
    path:         the file or folder at fault
    line, column: the place in it, counted from 1
    """

    exit_code = 1

    def __init__(
        self,
        message: str,
        *,
        option: str | None = None,
        path: str | Path | None = None,
        line: int | None = None,
        column: int | None = None,
    ) -> None:
        super().__init__(message)
        self.option, self.path, self.line, self.column = option, path, line, column


class DataError(StreamtrainError):
    """The data cannot be used as it is: a missing file, a bad row, a damaged shard."""


class RunError(StreamtrainError):
    """A run cannot go on: a non-finite loss, a damaged checkpoint, a recipe that changed."""


class UsageError(StreamtrainError):
    """The request itself is wrong: an option out of range, a destination that exists."""

    exit_code = 2
