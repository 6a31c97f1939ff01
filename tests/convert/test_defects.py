"""A defect of a row is one exact entry of the ledger, or it means what is written here; none is silently wrong."""

from __future__ import annotations

import gzip
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest

from streamtrain.convert import convert
from streamtrain.errors import DataError

ROWS = 40  # of a file with at most one defect
HEADER = "label," + ",".join(f"{r}x{c}" for r in range(1, 5) for c in range(1, 5))
VALUES = np.random.default_rng(11).integers(0, 256, (600, 17))
VALUES[:, 0] = np.arange(600) % 10
FIRST, MIDDLE, LAST = 1, 8, 16  # columns of pixels, from 0


class Bad(NamedTuple):
    """The row is rejected: reason, column from 1 or None, the value at fault."""

    reason: str
    column: int | None = None
    value: str = ""


class Kept(NamedTuple):
    """The row is kept, with this value in this column from 0."""

    column: int
    value: int


class Counted(NamedTuple):
    """The line is not a row: it is counted under this name of the totals."""

    name: str


def cell(column: int, text: str) -> Callable[[list[str]], str]:
    return lambda cells: ",".join([*cells[:column], text, *cells[column + 1 :]])


BAD_CELLS = {
    "256": "out_of_range",
    "-1": "out_of_range",
    "999999999999999999999": "out_of_range",
    "1e2": "not_an_integer",
    "12.5": "not_an_integer",
    "12.0": "not_an_integer",
    "1e999": "out_of_range",
    "": "empty",
    "0x1F": "not_a_number",
    "NaN": "not_a_number",
    "inf": "not_a_number",
    "abc": "not_a_number",
    "1 2": "not_a_number",
    "1_2": "not_a_number",
    "--5": "not_a_number",
    "٣": "not_a_number",
    "\uff11\uff12": "not_a_number",
    "½": "not_a_number",
    "7\u00a0": "not_a_number",
    "1'234": "not_a_number",
    "O": "not_a_number",
    "7\0": "not_a_number",
    "\ufeff7": "not_a_number",
    "TRUE": "not_a_number",
    "#REF!": "not_a_number",
}
GOOD_CELLS = {"007": 7, "+5": 5, " 7 ": 7, "\t7": 7, '"7"': 7, '" 7 "': 7, "-0": 0, "0" * 30 + "9": 9}
BAD_LABELS = ("-1", "3.5", "cat", "", "70000", "٣")

ManifestBuilder = Bad | Kept | Counted
TABLE: dict[str, tuple[Callable[[list[str]], str], ManifestBuilder]] = {
    **{
        f"{text!r} in column {column}": (cell(column, text), Bad(reason, column + 1, text.strip(" \t")))
        for column in (FIRST, MIDDLE, LAST)
        for text, reason in BAD_CELLS.items()
    },
    **{
        f"{text!r} in column {column}": (cell(column, text), Kept(column, value))
        for column in (FIRST, MIDDLE, LAST)
        for text, value in GOOD_CELLS.items()
    },
    **{f"label {text!r}": (cell(0, text), Bad("label", 1, text)) for text in BAD_LABELS},
    "label 007": (cell(0, "007"), Kept(0, 7)),
    "label 3.0": (cell(0, "3.0"), Kept(0, 3)),
    "label 1e0": (cell(0, "1e0"), Kept(0, 1)),
    "a cell too few": (lambda cells: ",".join(cells[:-1]), Bad("fields")),
    "a cell too many": (lambda cells: ",".join([*cells, "0"]), Bad("fields")),
    "a separator at the end": (lambda cells: ",".join(cells) + ",", Bad("fields")),
    "a separator at the start": (lambda cells: "," + ",".join(cells), Bad("fields")),
    "a double separator": (lambda cells: ",".join(cells).replace(",", ",,", 1), Bad("fields")),
    "a thousands separator": (cell(MIDDLE, "1,234"), Bad("fields")),
    "a decimal comma": (cell(MIDDLE, "1,5"), Bad("fields")),
    "semicolons": (lambda cells: ";".join(cells), Bad("fields")),
    "tabs": (lambda cells: "\t".join(cells), Bad("fields")),
    "spaces": (lambda cells: " ".join(cells), Bad("fields")),
    "half a row": (lambda cells: ",".join(cells)[:20], Bad("fields")),
    "two rows in one line": (lambda cells: ",".join(cells + cells), Bad("fields")),
    "only separators": (lambda cells: "," * 16, Bad("label", 1)),
    "Ctrl-Z": (lambda cells: "\x1a", Bad("fields")),
    "a note": (lambda cells: "end of file", Bad("fields")),
    "a quote left open": (cell(MIDDLE, '"12'), Bad("quote")),
    "a quote left open at the end": (lambda cells: ",".join(cells) + '"', Bad("not_a_number", 17)),
    "a quote inside a value": (cell(MIDDLE, '1"2'), Bad("not_a_number", MIDDLE + 1, '1"2')),
    "a quote after a quoted value": (cell(MIDDLE, '"1"2'), Bad("quote")),
    "quoted separators": (cell(MIDDLE, '"1,2"'), Bad("not_a_number", MIDDLE + 1, "1,2")),
    "bytes that are not UTF-8": (cell(MIDDLE, "\udcff\udc80"), Bad("not_a_number", MIDDLE + 1, "\udcff\udc80")),
    "the header again": (lambda cells: HEADER, Counted("repeated_headers")),
    "the header again, quoted": (
        lambda cells: ",".join(f'"{name}"' for name in HEADER.split(",")),
        Counted("repeated_headers"),
    ),
    "another header": (lambda cells: HEADER.replace("label", "class"), Bad("label", 1, "class")),
    "a blank line": (lambda cells: "", Counted("blank")),
    "a line of spaces": (lambda cells: "  \t ", Counted("blank")),
    "a comment": (lambda cells: "# made by hand, 1, 2, 3", Counted("comments")),
    "a row behind a #": (lambda cells: "#" + ",".join(cells), Counted("comments")),
}


def spoiled(*changes: Callable[[list[str]], str], every: int = 1, rows: int = ROWS) -> bytes:
    """Return a header and rows, every `every`-th row with the next of the changes."""
    lines = [",".join(map(str, row)) for row in VALUES[:rows]]
    for number, change in enumerate(changes):
        lines[every * number + every - 1] = change(lines[every * number + every - 1].split(","))
    return "".join(f"{line}\n" for line in [HEADER, *lines]).encode("utf-8", "surrogateescape")


Source = Callable[[bytes], str | Path]


@pytest.fixture(params=["plain", "gz", "stdin"])
def source(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """Write bytes to the file that convert reads."""

    def put(data: bytes) -> str | Path:
        if request.param == "stdin":
            stream = SimpleNamespace(buffer=io.BufferedReader(io.BytesIO(data)))
            monkeypatch.setattr(sys, "stdin", stream)
            return "-"
        path = tmp_path / "d.csv"
        path.write_bytes(gzip.compress(data, 1) if request.param == "gz" else data)
        return path

    return put


def test_each_defect_has_the_outcome_that_is_written_down(source: Source, tmp_path: Path) -> None:
    assert 40 <= 3 * len(TABLE) < len(VALUES)
    data = spoiled(*(change for change, _ in TABLE.values()), every=3, rows=len(VALUES))
    totals = convert(source(data), tmp_path / "out", on_bad_row="reject").totals
    [shard] = (tmp_path / "out").glob("*.parquet")
    table = pq.read_table(shard, columns=["label", "line", "image"])
    pixels = np.array([np.frombuffer(image, dtype=np.uint8) for image in table["image"].to_pylist()])
    rows = dict(zip(table["line"].to_pylist(), np.column_stack([table["label"].to_numpy(), pixels]), strict=True))
    ledger = [json.loads(line) for line in (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()]
    bad = {entry["line"]: entry for entry in ledger}
    assert len(bad) == len(ledger) == totals.rejected

    lines = data.split(b"\n")
    wrong, plural = [], {"repeated_headers": 0, "blank": 0, "comments": 0}
    wanted = {line: VALUES[line - 2].copy() for line in range(2, len(VALUES) + 2)}
    for number, (name, (_, outcome)) in enumerate(TABLE.items()):
        line = 3 * number + 4
        if isinstance(outcome, Kept):
            wanted[line][outcome.column] = outcome.value
            continue
        del wanted[line]
        if isinstance(outcome, Counted):
            plural[outcome.name] += 1
            continue
        entry = bad.pop(line, {})
        found = Bad(entry.get("reason", ""), entry.get("column"), entry.get("value", "") if outcome.value else "")
        place = (entry.get("file_line"), entry.get("byte_offset"))
        raw = entry.get("raw", "").encode("utf-8", "surrogateescape")
        if found != outcome or place != (line, len(b"\n".join(lines[: line - 1])) + 1) or raw != lines[line - 1]:
            wrong.append((name, outcome, entry))
    assert wrong == []
    assert bad == {}
    assert list(rows) == list(wanted)
    assert all(np.array_equal(rows[line], wanted[line]) for line in rows)
    assert totals.header == 1
    assert totals.repeated_headers == plural["repeated_headers"]
    assert (totals.comments, totals.blank) == (plural["comments"], plural["comments"] + plural["blank"])
    assert (
        totals.lines == len(VALUES) + 1 == 1 + totals.blank + totals.repeated_headers + totals.kept + len(ledger)
    )


@pytest.mark.parametrize("defect", [name for name, (_, outcome) in TABLE.items() if isinstance(outcome, Bad)])
def test_without_reject_a_defect_ends_the_conversion_with_its_place(tmp_path: Path, defect: str) -> None:
    path = tmp_path / "d.csv"
    path.write_bytes(spoiled(TABLE[defect][0], every=17))
    with pytest.raises(DataError) as error:
        convert(path, tmp_path / "out", workers=1)
    said = str(error.value)
    assert said.startswith(f"{path}:18: ")
    assert "`on_bad_row='reject'`" in said
    assert said.isprintable()
    assert len(said) - len(str(path)) < 250
    assert sorted(file.name for file in tmp_path.iterdir()) == ["d.csv"]


FILES: dict[str, tuple[bytes, str]] = {
    "UTF-16": (spoiled().decode().encode("utf-16"), "is UTF-16 text"),
    "UTF-16 without its mark": (spoiled().decode().encode("utf-16-le"), "is binary"),
    "a Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
    "a web page": (b"<!DOCTYPE html>\n<html><body>Sign in</body></html>\n", "is a web page"),
    "a web page in capitals": (b"\n<HTML><HEAD><TITLE>404</TITLE></HEAD></HTML>", "is a web page"),
    "an XML error": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "is a web page"),
    "nothing": (b"", "is empty"),
    "blank lines": (b"\n\n  \n", "has only blank lines and comments"),
    "only comments": (b"# one\n# two\n", "has only blank lines and comments"),
    "only a header": (HEADER.encode(), "has a header and no rows"),
    "an image": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)) * 8, "is binary"),
    "prose": (
        b"It was a bright cold day in April,\nand the clocks were striking thirteen.\n" * 9,
        "may|same number",
    ),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_not_a_csv_of_digits_is_refused_as_a_whole(
    source: Source, tmp_path: Path, kind: str
) -> None:
    data, said = FILES[kind]
    for policy in ("error", "reject"):
        with pytest.raises(DataError, match=said):
            convert(source(data), tmp_path / "out", on_bad_row=policy, workers=1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_a_last_line_that_was_cut_is_a_bad_row(source: Source, tmp_path: Path, ends: str) -> None:
    whole = spoiled().replace(b"\n", ends.encode())
    for cut in (len(ends), len(ends) + 30):
        conversion = convert(source(whole[:-cut]), tmp_path / str(cut), on_bad_row="reject", workers=1)
        assert conversion.totals.lines == ROWS + 1
        assert conversion.totals.rejected == (cut > len(ends))


def test_the_first_row_may_be_the_bad_one(source: Source, tmp_path: Path) -> None:
    lines = spoiled().splitlines()
    lines[1] = lines[1].replace(b",", b",x", 1)
    conversion = convert(source(b"\n".join(lines)), tmp_path / "out", on_bad_row="reject", workers=1)
    assert (conversion.totals.header, conversion.totals.kept, conversion.totals.rejected) == (1, ROWS - 1, 1)


def test_a_carriage_return_inside_a_row_ends_it(source: Source, tmp_path: Path) -> None:
    data = spoiled(lambda cells: ",".join(cells[:5]) + "\r" + ",".join(cells[5:]), every=9)
    conversion = convert(source(data), tmp_path / "out", on_bad_row="reject", workers=1)
    assert (conversion.totals.lines, conversion.totals.kept, conversion.totals.rejected) == (ROWS + 2, ROWS - 1, 2)


@pytest.mark.parametrize(("most", "passes"), [(2, False), (3, True), (0.05, False), (0.08, True), (0, False)])
def test_max_rejected_is_a_number_of_rows_or_a_share_of_them(
    source: Source, tmp_path: Path, most: float, passes: bool
) -> None:
    lines = spoiled().splitlines()
    for row in (3, 9, 30):
        lines[row] += b",1"
    options: dict[str, Any] = {"on_bad_row": "reject", "max_rejected": most, "workers": 1}
    if passes:
        assert convert(source(b"\n".join(lines)), tmp_path / "out", **options).totals.rejected == 3
    else:
        with pytest.raises(DataError, match=f"3 of 40 rows rejected, more than `max_rejected={most}` allows"):
            convert(source(b"\n".join(lines)), tmp_path / "out", **options)
        assert not (tmp_path / "out").exists()
