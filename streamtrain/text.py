"""Numbers as text for people: counts with their nouns, and sizes."""

from __future__ import annotations


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
