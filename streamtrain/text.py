"""Text for people: counts with their nouns, sizes, and what came from a file without its control characters."""

from __future__ import annotations

import re

_LONG_WORD = re.compile(r"\S{256,}")
_OUR_COLOURS = re.compile(r"(\x1b\[(?:38;5;\d+;48;5;\d+|0)m)")


def printable(text: str) -> str:
    r"""Return a text with every character escaped that a terminal would not show, but for newlines.

    Names, labels, cells and paths come from files: they must not set a terminal's title or reverse its text. The
    colours in which this package draws images stay.

    >>> print(printable("a\x1b]0;title\x07 b\u202e"))
    a\x1b]0;title\x07 b\u202e
    """
    parts = _OUR_COLOURS.split(text)
    parts[::2] = ["".join(map(_shown, part)) for part in parts[::2]]
    return "".join(parts)


def _shown(character: str) -> str:
    if character.isprintable() or character == "\n":
        return character
    return character.encode("unicode_escape", "surrogatepass").decode()


def one_line(text: str) -> str:
    r"""Return a message without newlines, and with the middle left out of words that no file name is as long as.

    >>> one_line("no column 'a\nb'"), len(one_line("x" * 10_000))
    ("no column 'a\\nb'", 101)
    """
    return _LONG_WORD.sub(lambda word: f"{word[0][:60]}…{word[0][-40:]}", text.replace("\n", "\\n"))


def plural(count: int, noun: str, plural: str = "") -> str:
    """Return a count with its noun, in the plural unless the count is 1.

    >>> plural(1, "shard"), plural(1200, "shard"), plural(0, "class", "classes")
    ('1 shard', '1,200 shards', '0 classes')
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def megabytes(count: float) -> str:
    """Return a number of bytes in MB or kB, which are powers of ten.

    >>> megabytes(1_518_522), megabytes(37_400)
    ('1.5 MB', '37.4 kB')
    """
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.1f} kB"
