"""Library errors carry fields, and name parameters in a way that the command line can spell as flags."""

from __future__ import annotations

import pickle

import pytest

from streamtrain.cli import flag
from streamtrain.errors import CorruptShardError, DataError, RunError, StreamtrainError, UsageError, argument


@pytest.mark.parametrize("kind", [StreamtrainError, DataError, CorruptShardError, RunError, UsageError])
def test_an_error_keeps_its_message_and_fields_in_another_process(
    kind: type[StreamtrainError],
) -> None:
    error = kind("a is wrong", path="a.csv")
    error.line, error.column = 3, 4
    other = pickle.loads(pickle.dumps(error))
    assert type(other) is kind
    assert (str(other), other.path, other.line, other.column) == ("a is wrong", "a.csv", 3, 4)


@pytest.mark.parametrize(
    ("name", "value", "library", "command_line"),
    [
        ("memory_bytes", 9_000_000, "`memory_bytes=9000000`", "--memory 9MB"),
        ("memory_bytes", 1, "`memory_bytes=1`", "--memory 1e-06MB"),
        ("on_bad_row", "reject", "`on_bad_row='reject'`", "--on-bad-row reject"),
        ("shape", (28, 28), "`shape=(28, 28)`", "--shape 28x28"),
        ("overwrite", True, "`overwrite=True`", "--overwrite"),
        ("header", False, "`header=False`", "--no-header"),
        ("label", "it's `so`", '`label="it\'s \\x60so\\x60"`', "--label 'it'\"'\"'s `so`'"),
    ],
)
def test_an_advised_argument_is_spelled_for_python_and_for_the_shell(
    name: str, value: object, library: str, command_line: str
) -> None:
    error = UsageError(f"Pass {argument(name, value)}, see `seed`", option=name)
    assert str(error) == f"Pass {library}, see `seed`"
    assert error.spelled(flag) == f"Pass {command_line}, see --seed"


def test_text_other_than_a_parameter_stays_as_it_is() -> None:
    error = DataError("`a b` and `x=` and `y=no literal` and {braces} and `Capital`")
    assert error.spelled(flag) == str(error)
    assert DataError("`seed`").spelled(lambda name: None) == "`seed`"
