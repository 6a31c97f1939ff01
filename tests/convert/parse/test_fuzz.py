"""On mutated rows the parser agrees with a slow reader, made of the csv module, int and float."""

from __future__ import annotations

import csv
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unicodedata import category

import numpy as np
import pytest

from streamtrain.convert.dialect.dialect import Dialect
from streamtrain.convert.parse.parse import parse_chunk
from streamtrain.convert.text.chunks import ChunkBuffer, chunks
from streamtrain.convert.text.text_file import TextFile

PLAIN = Dialect(
    delimiter=",",
    header=True,
    names=("label", *(f"pixel{i}" for i in range(9))),
    fields=10,
    label=0,
    label_kind="number",
    decimal=False,
    dtype="uint8",
    low=0,
    high=255,
    declared_range=False,
    classes=(),
    image_shape=(3, 3),
)
DIGITS = tuple(map(str, range(10)))
DIALECTS = {
    "label first": PLAIN,
    "label last, classes declared, 0..16": replace(
        PLAIN, header=False, names=(), label=9, classes=DIGITS, source_labels=DIGITS, high=16, declared_range=True
    ),
    "label in the middle, semicolons, an offset": replace(
        PLAIN, delimiter=";", label=4, classes=tuple("abcdefghi"), source_labels=DIGITS[1:], header=False, names=()
    ),
    "no label, tabs": replace(PLAIN, delimiter="\t", label=None, fields=9, header=False, names=()),
    "words, an id to drop": replace(PLAIN, label=9, label_kind="word", dropped=(0,), image_shape=(8,)),
    "decimals, a decimal label": replace(PLAIN, decimal=True, label_kind="decimal", header=False, names=()),
    "one-hot, floats": replace(
        PLAIN,
        header=False,
        names=(),
        label=6,
        label_width=4,
        label_kind="onehot",
        decimal=True,
        dtype="float32",
        low=-1,
        high=1,
        image_shape=(6,),
        classes=DIGITS[:4],
        source_labels=DIGITS[:4],
    ),
    "runs of spaces": replace(PLAIN, delimiter=" ", header=False, names=()),
    "a separator after the last": replace(PLAIN, trailing_delimiter=True, header=False, names=()),
}

INTEGER = re.compile("[+-]?[0-9]+")
DECIMAL = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
Found = tuple[Any, ...]


class Reference:
    """The slow reader: a line at a time, a value at a time."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self.seen_header = False

    def line(self, raw: bytes, number: int) -> Found:
        """("kept", label, pixels), ("bad", column, reason), or ("header" and the like,)."""
        d = self.dialect
        text = raw.decode("utf-8", "surrogateescape")
        if number == 1:
            text = text.removeprefix("\ufeff")
        if not text.replace(" ", "").replace("\t", "" if d.delimiter != "\t" else "\t"):
            return ("blank",)
        hashed = text.lstrip(" \t").startswith("#")
        if hashed and d.label_kind != "word":
            return ("comment",)
        try:
            squeezed = re.sub(" +", " ", text.strip(" \t")) if d.delimiter == " " else text
            # If nothing is quoted, a quote is an ordinary character.
            quoting: Any = csv.QUOTE_MINIMAL if '"' in text else csv.QUOTE_NONE
            [cells] = csv.reader(
                [squeezed], delimiter=d.delimiter, strict=True, skipinitialspace=True, quoting=quoting
            )
        except (csv.Error, ValueError):
            return ("bad", None, "quote")
        cells = [cell.strip(" \t") for cell in cells]
        if d.trailing_delimiter and len(cells) == d.fields + 1 and cells[-1] == "":
            cells = cells[:-1]
        if d.names and tuple(cells) == d.names:
            first, self.seen_header = not self.seen_header and number == 1, True
            return ("header",) if first else ("repeated",)
        if len(cells) != d.fields:
            return ("comment",) if cells[0].startswith("#") else ("bad", None, "fields")
        return self.row(cells)

    def row(self, cells: Sequence[str]) -> Found:
        d = self.dialect
        pixels, label = [], None
        for column, cell in enumerate(cells):
            if column == d.label:
                label = self.label(cells)
                if label is None:
                    return ("bad", column + 1, "label")
            elif column not in d.label_columns and column not in d.dropped:
                value = self.pixel(cell)
                if isinstance(value, str):
                    return ("bad", column + 1, value)
                pixels.append(value)
        return ("kept", -1 if label is None else label, tuple(pixels))

    def pixel(self, cell: str) -> float | str:
        d = self.dialect
        if cell == "":
            return "empty"
        if not DECIMAL.fullmatch(cell):
            return "not_a_number"
        value = int(cell) if INTEGER.fullmatch(cell) and len(cell) < 300 else float(cell)
        if not d.low <= value <= d.high:
            return "out_of_range"
        integer = INTEGER.fullmatch(cell) if not d.decimal else value == int(value)
        return value if d.dtype == "float32" or integer else "not_an_integer"

    def label(self, cells: Sequence[str]) -> int | str | None:
        d = self.dialect
        assert d.label is not None
        cell = cells[d.label]
        if d.label_kind == "onehot":
            truth = {"true": 1.0, "false": 0.0}  # as pandas.get_dummies writes them
            parts = [cells[c] for c in d.label_columns]
            values = [float(part) if DECIMAL.fullmatch(part) else truth.get(part.lower(), 2) for part in parts]
            return values.index(1) if sorted(values) == [0, 0, 0, 1] else None
        if d.label_kind == "word":
            shown = all(c.isprintable() or c in "\u200c\u200d" or category(c) == "Zs" for c in cell)
            return cell if cell.strip() == cell != "" and shown and not DECIMAL.fullmatch(cell) else None
        if not DECIMAL.fullmatch(cell):
            return None
        value = float(cell)
        if not 0 <= value <= 65_535 or value != int(value):
            return None
        if d.classes:
            return d.source_labels.index(str(int(value))) if str(int(value)) in d.source_labels else None
        return int(value)


NASTY = [
    "",
    " ",
    "256",
    "255",
    "17",
    "16",
    "-1",
    "-0",
    "+5",
    "007",
    "0000",
    "00000000000000000012",
    "12.5",
    "12.0",
    "6.",
]
NASTY += [
    ".5",
    "1e2",
    "1E-3",
    "1e",
    "1e999",
    "1e-999",
    "0x1F",
    "NaN",
    "nan",
    "inf",
    "-inf",
    "abc",
    "cat",
    "1 2",
    "1_0",
    "٣",
]
NASTY += [
    "#",
    "# 1",
    '"',
    '"7"',
    '""',
    '"7',
    '7"',
    '"7"8',
    '"1,2"',
    "\0",
    "\xa07",
    "7\x0b",
    "1,5",
    "9" * 25,
    "1" * 320,
]
NASTY += [
    "999",
    "1000",
    "70000",
    "65535",
    "\ufeff",
    "\udcff",
    "--1",
    "+",
    "-",
    ".",
    "true",
    "0;0",
    "1\t2",
    "9.0",
    "1.0",
]
BYTES = b'0123456789012345,,,;;\t\t  ..-+"#eE\r\n\0\xff\xc3x'


def good_row(dialect: Dialect, draw: random.Random) -> list[str]:
    columns = []
    hot = draw.randrange(max(1, dialect.label_width))
    for column in range(dialect.fields):
        if column in dialect.label_columns and dialect.label_kind == "onehot":
            columns.append(str(int(column - (dialect.label or 0) == hot)))
        elif column == dialect.label:
            kinds = {"word": draw.choice(["ka", "kha", "ga"]), "decimal": f"{draw.randrange(10)}.0000"}
            columns.append(kinds.get(dialect.label_kind, str(draw.randrange(1, 10))))
        elif dialect.dtype == "float32":
            columns.append(f"{draw.uniform(-1, 1):.4f}")
        else:
            value = draw.choice([0, 0, draw.randrange(int(dialect.high) + 1)])
            columns.append(f"{value}.00" if dialect.decimal else str(value))
    return columns


def swap(cells: list[str], draw: random.Random) -> list[str]:
    column = draw.randrange(len(cells))
    return [*cells[:column], draw.choice(NASTY), *cells[column + 1 :]]


def quote(cells: list[str], draw: random.Random) -> list[str]:
    return [f'"{cell}"' if draw.random() < 0.7 else f" {cell} " for cell in cells]


def resize(cells: list[str], draw: random.Random) -> list[str]:
    at = draw.randrange(len(cells) + 1)
    return draw.choice(
        [cells[:at], cells[:at] + cells[at + 1 :], [*cells[:at], "0", *cells[at:]], cells + cells, []]
    )


def made(dialect: Dialect, rows: int, seed: int) -> bytes:
    """Return a file of `rows` rows, about half of them changed in one way or two."""
    draw = random.Random(seed)
    cell_changes: list[Callable[[list[str], random.Random], list[str]]] = [swap, swap, swap, quote, resize]
    lines = [dialect.delimiter.join(dialect.names).encode()] if dialect.names else []
    for _ in range(rows):
        cells = good_row(dialect, draw)
        kind = draw.random()
        if kind < 0.35:
            cells = draw.choice(cell_changes)(cells, draw)
        if kind < 0.1 and cells:
            cells = draw.choice(cell_changes)(cells, draw)
        separator = dialect.delimiter * (draw.randrange(1, 4) if dialect.delimiter == " " else 1)
        line = bytearray(separator.join(cells).encode("utf-8", "surrogateescape"))
        line += dialect.delimiter.encode() * dialect.trailing_delimiter
        if 0.35 < kind < 0.55:
            at = draw.randrange(len(line) + 1)
            line[at : at + draw.randrange(2)] = bytes(draw.choices(BYTES, k=draw.randrange(3)))
        if 0.55 < kind < 0.58 and dialect.names:
            line = bytearray(lines[0])
        lines.append(bytes(line))
    return b"".join(line + draw.choice([b"\n", b"\n", b"\n", b"\r\n", b"\r"]) for line in lines)


def parsed(path: Path, dialect: Dialect, *, chunk_bytes: int) -> tuple[dict[int, Found], Counter[str]]:
    """Return what the package reads from each line that is a row, and how many other lines there are."""
    rows: dict[int, Found] = {}
    counts: Counter[str] = Counter()
    with TextFile(path) as file:
        for chunk in chunks(file, chunk_bytes=chunk_bytes):
            result = parse_chunk(chunk, dialect, ChunkBuffer())
            block = result.block
            for line, label, pixels in zip(
                block.lines.tolist(), block.labels.tolist(), block.pixels.tolist(), strict=True
            ):
                name = result.words[label] if dialect.text_labels else label
                assert line not in rows
                rows[line] = ("kept", name, tuple(pixels))
            for bad in result.bad:
                assert bad.line not in rows
                rows[bad.line] = ("bad", bad.column, bad.reason)
            counts += Counter(
                blank=result.blank - result.comments,
                comment=result.comments,
                header=result.header,
                repeated=result.repeated_headers,
            )
            assert result.lines == chunk.lines
    return rows, counts


def agree(path: Path, dialect: Dialect, data: bytes, *, chunk_bytes: int) -> tuple[int, int]:
    """Compare line by line; return how many rows both keep and both reject."""
    path.write_bytes(data)
    rows, counts = parsed(path, dialect, chunk_bytes=chunk_bytes)
    reference = Reference(dialect)
    expected: dict[int, Found] = {}
    others: Counter[str] = Counter()
    raw = data.splitlines()
    for number, line in enumerate(raw, start=1):
        found = reference.line(line, number)
        if found[0] == "kept" and dialect.dtype == "float32":
            found = (*found[:2], tuple(float(np.float32(pixel)) for pixel in found[2]))
        if found[0] in ("kept", "bad"):
            expected[number] = found
        else:
            others[found[0]] += 1
    wrong = [
        (number, raw[number - 1], expected.get(number), rows.get(number))
        for number in sorted({*expected, *rows})
        if expected.get(number) != rows.get(number)
    ]
    assert wrong[:3] == []
    assert counts == others
    assert len(raw) == len(rows) + others.total()
    return (
        sum(found[0] == "kept" for found in rows.values()),
        sum(found[0] == "bad" for found in rows.values()),
    )


@pytest.mark.parametrize("name", DIALECTS)
def test_mutated_rows_are_read_as_the_slow_reader_reads_them(tmp_path: Path, name: str) -> None:
    data = made(DIALECTS[name], 20_000 // len(DIALECTS) + 1, seed=1)
    kept, bad = agree(tmp_path / "d.csv", DIALECTS[name], data, chunk_bytes=9_000)
    assert min(kept, bad) > 300


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 22))
def test_a_million_mutated_rows_are_read_as_the_slow_reader_reads_them(tmp_path: Path, seed: int) -> None:
    for name, dialect in DIALECTS.items():
        data = made(dialect, 50_000 // len(DIALECTS) + 1, seed=seed)
        kept, bad = agree(
            tmp_path / "d.csv", dialect, data, chunk_bytes=random.Random(seed).randrange(500, 90_000)
        )
        print(f"{name}: {kept} kept, {bad} rejected")
        assert min(kept, bad) > 300
