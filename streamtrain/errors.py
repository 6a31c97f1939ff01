"""Errors that a person reads: each message says where, what is wrong and what to do next."""

from __future__ import annotations


class StreamtrainError(Exception):
    """A fault explained in one line; `exit_code` is the exit status of the command line.

    option: the parameter at fault, such as "memory_bytes", or None
    path, line, column: the place in a file, each None if unknown; line and column count from 1
    """

    exit_code = 1

    def __init__(
        self,
        message: str = "",
        *,
        option: str | None = None,
        path: str | None = None,
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
