"""JSON and TOML that a file holds → values of declared types, or one line that names the key at fault.

A file may come from another program, another version or a damaged disk, so each type says its limits. Keys that a
type does not declare are left out, unless it forbids them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

T = TypeVar("T")

Count = Annotated[int, Meta(ge=0, le=2**53)]
Positive = Annotated[int, Meta(ge=1, le=2**53)]
Finite = Annotated[float, Meta(ge=-1e300, le=1e300)]
# A number that stays an integer if it is one. Sums of squares of float32 numbers are within its limits.
Number = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | Annotated[float, Meta(ge=-1e100, le=1e100)]
PathText = Annotated[str, Meta(max_length=4096, pattern=r"\A[^\x00]*\Z")]

_WORDS = {"int": "an integer", "float": "a number", "str": "text", "bool": "true or false"}
_WORDS |= {"array": "a list", "object": "a table of keys"}


def decode_json(text: bytes | str, kind: type[T]) -> T:
    """Return the values of a JSON text as a `kind`. Raises ValueError, in a few words, for any other text.

    >>> decode_json('{"rows": [3, -1]}', dict[str, list[Count]])
    Traceback (most recent call last):
    ValueError: [...][1] should be an integer >= 0
    """
    return convert(parse(json.loads, text), kind)


def parse(loads: Callable[[Any], Any], text: bytes | str) -> Any:
    """Return what a parser of JSON or TOML returns. Raises ValueError for a malformed or deep text."""
    try:
        return loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def convert(values: Any, kind: type[T]) -> T:
    """Return values of JSON or TOML as a `kind`. Raises ValueError, which names the key, for other values.

    >>> convert({"rows": "3"}, dict[str, Count])
    Traceback (most recent call last):
    ValueError: [...] should be an integer, got text
    """
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise ValueError(_in_words(str(error))[:150]) from None
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _in_words(message: str) -> str:
    r"""Return the message of msgspec in plain words, the place first and without backticks.

    >>> _in_words("Object missing required field `file` - at `$.shards[0]`")
    'shards[0]: the key file is missing'
    """
    what, at, place = message.rpartition(" - at ")
    what, place = (what, place) if at else (message, "")
    what = re.sub("Object missing required field (.*)", r"the key \1 is missing", what, flags=re.DOTALL)
    what = re.sub(" matching regex .*", " that is a valid name", what, flags=re.DOTALL)
    what = re.sub(r"`(.*?)(?: \| null)?`", lambda kinds: " or ".join(map(_word, kinds[1].split(" | "))), what)
    key = place.replace("`", "").replace("key in", "a key of").replace("$.", "").removeprefix("$")
    if what.startswith("Expected "):
        return f"{key or 'it'} should be {what.removeprefix('Expected ')}"
    return f"{key}: {what}" if key else what


def _word(kind: str) -> str:
    return _WORDS.get(kind, kind)
