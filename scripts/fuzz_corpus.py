"""The first inputs of scripts/fuzz: rows of every dialect, each after the bytes that say how they are written."""

from __future__ import annotations

import random
import sys
from pathlib import Path

DELIMITERS = ",;\t |\x01"  # as in fuzz_parse.c, and so are the next three
LIMITS = ["0..255", "0..16", "1..99", "0..65535", "0..1", "any", "-1..1"]
PIXEL, LABEL, DROPPED = range(3)
KINDS = ["number", "decimal", "word", "text", "declared word", "onehot", "digits"]

PLAIN = ["0", "0", "0", "0", "0", "7", "16", "255"]
ODD = ["", "256", "007", "-0", "+5", "12.5", "1e2", ".5", "abc", "1" * 20, '"7"', '"7', " 7 ", "65536", "# 1"]
FRACTIONS = [
    "0.0",
    "0.003921569",
    "0.49019607843137253",
    "1.",
    "-1.5e-3",
    "2.5E+1",
    "0.1234567890123456789",
    "12.0",
]
WORDS = ["zero", "Ankle boot", "é", "b", "label", "7", "x y"]
LABELS = {
    "number": ["0", "7", "9", "09", "+1"],
    "decimal": ["3.0", "1e0", "9"],
    "word": WORDS,
    "text": WORDS,
    "declared word": WORDS,
    "onehot": ["0,0,1", "1.0,0.0,0", "0,0,0"],
    "digits": ["0000000001", "1000000000", "0110000000"],
}


def made(draw: random.Random, kind: str) -> bytes:
    """Return one input: five bytes and the parts of a row, then some rows."""
    delimiter, decimal, size = draw.choice(DELIMITERS), draw.random() < 0.5, draw.randrange(3)
    wide, pixels = 3 if kind == "onehot" else 1, draw.randrange(1, 18)
    parts = [(PIXEL, pixels), (LABEL, wide), (DROPPED, 1)][: draw.randrange(1, 4)]
    draw.shuffle(parts)
    flags = decimal | draw.randrange(4) << 1 | size << 3
    head = [DELIMITERS.index(delimiter), flags, KINDS.index(kind), draw.randrange(len(LIMITS)), len(parts)]
    for role, count in parts:
        head += [role, count - 1]
    rows = [_row(draw, parts, kind, delimiter, decimal) for _ in range(draw.randrange(1, 8))]
    trailing = delimiter if flags & 2 else ""
    text = "".join(f"{row}{trailing}{draw.choice([chr(10), chr(10), chr(13) + chr(10)])}" for row in rows)
    return bytes(head) + text.encode()


def _row(draw: random.Random, parts: list[tuple[int, int]], kind: str, delimiter: str, decimal: bool) -> str:
    cells = []
    for role, count in parts:
        if role == LABEL:
            cells += draw.choice(LABELS[kind]).split(",")
        else:
            cells += draw.choices(PLAIN * 8 + ODD + FRACTIONS * 8 * decimal, k=count)
    quoted = draw.random() < 0.2
    return delimiter.join(f'"{cell}"' if quoted else cell for cell in cells)


def main() -> None:
    folder = Path(sys.argv[1])
    draw = random.Random(0)
    for number in range(700):
        (folder / f"row-{number:03d}").write_bytes(made(draw, KINDS[number % len(KINDS)]))


if __name__ == "__main__":
    main()
