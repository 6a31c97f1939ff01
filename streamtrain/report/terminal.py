"""Pictures, bars and curves in the characters of a terminal.

`rich` says whether colours and block characters may be used; else all is printable ASCII.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from streamtrain.block import Array

_SHADES = " .:-=+*#%@"
_GREYS = 24  # of the 256-colour palette: 232, nearly black, to 255, nearly white
_BARS = " ▁▂▃▄▅▆▇█"


def picture(image: Array, *, rich: bool) -> list[str]:
    """Lines that draw an image (rows, columns) of values in 0..1, two rows of pixels a line.

    >>> print("\\n".join(picture(np.array([[0.0, 1.0], [0.0, 1.0], [0.5, 0.0]]), rich=False)))
     @
    :
    """
    height, width = image.shape
    pairs = np.zeros((-(-height // 2), 2, width))
    pairs.reshape(-1, width)[:height] = np.clip(image, 0, 1)
    if not rich:
        shades = np.rint(pairs.mean(axis=1) * (len(_SHADES) - 1)).astype(int)
        return ["".join(_SHADES[shade] for shade in line).rstrip() for line in shades.tolist()]
    greys = 232 + np.rint(pairs * (_GREYS - 1)).astype(int)
    return [
        "".join(
            f"\x1b[38;5;{upper};48;5;{lower}m" + "▀" * len(list(run))
            for (upper, lower), run in itertools.groupby(zip(*line, strict=True))
        )
        + "\x1b[0m"
        for line in greys.tolist()
    ]


def beside(pictures: Sequence[Sequence[str]], captions: Sequence[str], *, columns: int) -> str:
    """Pictures, `columns` characters wide each, next to each other with a caption above each.

    >>> print(beside([["@"], ["@@"]], ["three", "8"], columns=2))
    three  8
    @      @@
    """
    width = max(columns, *map(len, captions))

    def padded(line: str) -> str:
        return line + " " * (width - (columns if "\x1b" in line else len(line)))

    lines = [captions, *zip(*pictures, strict=True)]
    return "\n".join("  ".join(map(padded, line)).rstrip() for line in lines)


def megabytes(count: float) -> str:
    """Bytes for a person, in units of powers of ten.

    >>> megabytes(1_518_522), megabytes(37_400)
    ('1.5 MB', '37.4 kB')
    """
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.1f} kB"


def plural(count: int, noun: str, plural: str = "") -> str:
    """A number of things, in words.

    >>> plural(1, "shard"), plural(1200, "shard"), plural(0, "class", "classes")
    ('1 shard', '1,200 shards', '0 classes')
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def bars(counts: Mapping[str, int], *, width: int, rich: bool) -> str:
    """A line a name: the name, its count, and a bar as long as its share of the largest.

    >>> print(bars({"0": 4, "10": 2}, width=20, rich=False))
     0  4  #############
    10  2  #######
    """
    left, middle = max(map(len, counts)), max(len(f"{count:,}") for count in counts.values())
    room, most = max(width - left - middle - 4, 1), max(*counts.values(), 1)
    lines = []
    for name, count in counts.items():
        bar = ("█" if rich else "#") * math.ceil(room * count / most)
        lines.append(f"{name:>{left}}  {count:>{middle},}  {bar}".rstrip())
    return "\n".join(lines)


def sparkline(values: Sequence[float], *, rich: bool, width: int = 60) -> str:
    """A curve in one line, from its least value to its largest, thinned out to `width` characters.

    >>> sparkline([3.0, 2.0, 1.0], rich=True)
    '█▅▁'
    >>> sparkline([3.0, 2.0, 1.0], rich=False)
    '@+.'
    """
    if not values:
        return ""
    picked = [values[i] for i in np.linspace(0, len(values) - 1, min(len(values), width)).round().astype(int)]
    low, span = min(picked), (max(picked) - min(picked)) or 1.0
    marks = _BARS[1:] if rich else _SHADES[1:]
    return "".join(marks[round((value - low) / span * (len(marks) - 1))] for value in picked)
