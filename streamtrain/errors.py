"""Errors that a person reads: each message says where, what is wrong and what to do next."""

from __future__ import annotations


class StreamtrainError(Exception):
    """A fault explained in one line; `exit_code` is what the command line leaves with."""

    exit_code = 1


class DataError(StreamtrainError):
    """The data cannot be used as it is: a missing file, a bad row, a damaged shard."""


class RunError(StreamtrainError):
    """A run cannot go on: a non-finite loss, a damaged checkpoint, a recipe that changed."""


class UsageError(StreamtrainError):
    """The request itself is wrong: an option out of range, a destination that exists."""

    exit_code = 2
