"""Pictures, bars and curves in the characters of a terminal.

`unicode`: whether colours and block characters may be used; otherwise the text is printable ASCII.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from streamtrain.block import Array
from streamtrain.text import one_line

_SHADES = " .:-=+*#%@"
_GREYS = 24  # of the 256-colour palette: 232, nearly black, to 255, nearly white
_BARS = " ▁▂▃▄▅▆▇█"


def picture(image: Array, *, unicode: bool) -> list[str]:
    """Return the lines that draw an image (rows, columns) of values in 0..1; each line shows two rows of pixels.

    >>> print("\\n".join(picture(np.array([[0.0, 1.0], [0.0, 1.0], [0.5, 0.0]]), unicode=False)))
     @
    :
    """
    height, width = image.shape
    pairs = np.zeros((-(-height // 2), 2, width))
    pairs.reshape(-1, width)[:height] = np.clip(image, 0, 1)
    if not unicode:
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


def side_by_side(pictures: Sequence[Sequence[str]], captions: Sequence[str], *, columns: int) -> str:
    """Return pictures, each `columns` characters wide, next to each other with a caption above each.

    >>> print(side_by_side([["@"], ["@@"]], ["three", "8"], columns=2))
    three  8
    @      @@
    """
    width = max(columns, *map(len, captions))

    def padded(line: str) -> str:
        return line + " " * (width - (columns if "\x1b" in line else len(line)))

    lines = [captions, *zip(*pictures, strict=True)]
    return "\n".join("  ".join(map(padded, line)).rstrip() for line in lines)


def bars(counts: Mapping[str, int], *, width: int, unicode: bool) -> str:
    """Return a line for each name: the name, its count, and a bar whose length is proportional to the count.

    >>> print(bars({"0": 4, "10": 2}, width=20, unicode=False))
     0  4  #############
    10  2  #######
    """
    names = [one_line(name) for name in counts]
    left, middle = max(map(len, names)), max(len(f"{count:,}") for count in counts.values())
    room, most = max(width - left - middle - 4, 1), max(*counts.values(), 1)
    lines = []
    for name, count in zip(names, counts.values(), strict=True):
        bar = ("█" if unicode else "#") * math.ceil(room * count / most)
        lines.append(f"{name:>{left}}  {count:>{middle},}  {bar}".rstrip())
    return "\n".join(lines)


def sparkline(values: Sequence[float], *, unicode: bool, width: int = 60) -> str:
    """Return a curve as one line, scaled from its least to its largest value, of at most `width` characters.

    >>> sparkline([3.0, 2.0, 1.0], unicode=True)
    '█▅▁'
    >>> sparkline([3.0, 2.0, 1.0], unicode=False)
    '@+.'
    """
    if not values:
        return ""
    picked = [values[i] for i in np.linspace(0, len(values) - 1, min(len(values), width)).round().astype(int)]
    low, span = min(picked), (max(picked) - min(picked)) or 1.0
    marks = _BARS[1:] if unicode else _SHADES[1:]
    return "".join(marks[round((value - low) / span * (len(marks) - 1))] for value in picked)
