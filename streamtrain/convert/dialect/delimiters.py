"""The delimiters of values, by themselves and by name; imports nothing heavy, so that options can use it."""

from __future__ import annotations

from streamtrain.errors import UsageError

DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "space": " ", "pipe": "|", "ctrl-a": "\x01"}


def delimiter_of(text: str) -> str:
    """Return a delimiter that is given by itself or its name. Raises UsageError for another."""
    if text in DELIMITERS.values():
        return text
    if text not in DELIMITERS:
        names = ", ".join(DELIMITERS)
        raise UsageError(
            f"`delimiter` is {text[:20]!r}, but must be {names}, or such a character", option="delimiter"
        )
    return DELIMITERS[text]
