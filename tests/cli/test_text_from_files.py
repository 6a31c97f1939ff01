"""Names, headers, cells and paths are text wherever they are shown: they move no cursor and start no line."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import streamtrain as st
from streamtrain.block import Block

if TYPE_CHECKING:
    from conftest import OnTerminal, RunCli

NAMES = (
    *("\x1b]0;title\x07", "two\nlines", "\u202egnp", "<script>document.title = 1</script>", "\"'><img src=x>"),
    *("{{ 7 * 7 }}", "=1+1", "tab\there", "ü", "\\x1b"),
)


@pytest.fixture(scope="module")
def hostile(digits_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits whose classes have those names, and a run that learned them."""
    folder = tmp_path_factory.mktemp("hostile")
    table = np.loadtxt(digits_csv, delimiter=",", skiprows=1, dtype=np.int64)
    block = Block(table[:, 1:].astype(np.uint8), table[:, 0], np.arange(1, 601))
    st.write_shards([block], folder / "shards", classes=NAMES, source="\x1b[2Ja\nb.csv")
    return folder / "shards"


@pytest.fixture
def run(call_cli: RunCli, hostile: Path) -> str:
    assert call_cli("train", hostile, "--test", hostile, "--out", "run", "--epochs", "1", "-q").returncode == 0
    return "run"


def is_clean(lines: list[str]) -> bool:
    """Whether nothing is there that moves a cursor, sets a title or turns text around."""
    return not re.search(r"\x1b\]|\x1b\[2J|\x1b\[31m|[\x07\t\u202e]", "\n".join(lines))


@pytest.mark.parametrize(
    "words",
    [
        *(["inspect", "{shards}"], ["inspect", "{shards}", "--line", "3"], ["evaluate", "run", "{shards}"]),
        *(["inspect", "run"], ["predict", "run", "{csv}", "--label", "label", "--proba"]),
    ],
    ids=" ".join,
)
def test_on_a_terminal_each_name_is_escaped_and_starts_no_line(
    on_terminal: OnTerminal, run: str, hostile: Path, digits_csv: Path, words: list[str]
) -> None:
    seen = on_terminal(*(word.format(shards=hostile, csv=digits_csv) for word in words), env={"NO_COLOR": "1"})
    assert seen.code == 0, seen.lines
    assert is_clean(seen.lines)
    assert not [line for line in seen.lines if line.lstrip().startswith(("lines", "b.csv"))]
    shown = "\n".join(seen.lines)
    assert r"a\nb.csv" in shown if "--line" in words else r"two\nlines" in shown


def test_an_error_that_names_a_cell_a_header_and_a_path_is_one_line(call_cli: RunCli, tmp_path: Path) -> None:
    path = tmp_path / "\x1b[2Jo\n\u202e.csv"
    path.write_text("label,\x1b]0;t\x07,b,c,d\n" + "1,2,3,4,5\n" * 30 + "1,\x1b[31mred\u202e,3,4,5\n")
    done = call_cli("convert", path, "out", "--shape", "2x2", "--label", "first")
    assert done.returncode == 1
    error = done.stderr.splitlines()[-1]
    assert error.startswith("error: ")
    assert r"\x1b[2Jo\n\u202e.csv:32: column 2" in error
    assert r"\x1b[31mred\u202e" in error
    assert is_clean(done.stderr.splitlines())


def test_json_gives_each_name_as_it_is_in_ascii(call_cli: RunCli, hostile: Path) -> None:
    done = call_cli("inspect", hostile, "--json")
    assert done.stdout.isascii()
    assert done.stdout.count("\n") == 1
    assert tuple(json.loads(done.stdout)["classes"]) == NAMES


def test_csv_gives_each_name_as_it_is_quoted_where_it_must_be(
    call_cli: RunCli, run: str, digits_csv: Path, tmp_path: Path
) -> None:
    done = call_cli("predict", run, digits_csv, "--label", "label", "--proba", "--out", "p.csv")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "p.csv").open(newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    assert head == ["row", "label", "confidence", *(f"p_{name}" for name in NAMES)]
    assert [row[0] for row in rows] == [str(number) for number in range(600)]
    assert {row[1] for row in rows} <= {*NAMES}
    assert not call_cli("predict", run, digits_csv, "--label", "label", "-q").stdout.count("\x1b[2J")
    text = io.StringIO(call_cli("predict", run, digits_csv, "--label", "label", "--json").stdout)
    assert {json.loads(line)["label"] for line in text} == {row[1] for row in rows}
