"""Bad input gets one line with the place, the fault and the next step; no traceback, nothing half-written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import RunCli

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d" * 32 + b"\n"
GOOD = "".join(f"{i % 10},0,{i},{i * 2},0\n" for i in range(60))

FILES: dict[str, tuple[bytes | None, tuple[str, ...], str]] = {
    "missing": (None, (), "no such file"),
    "empty": (b"", (), "is empty"),
    "only a header": (b"label,a,b,c,d\n", (), "has a header and no rows"),
    "binary": (bytes(range(256)) * 40, (), "is binary"),
    "a Git LFS pointer": (LFS, (), "git lfs pull"),
    "a web page": (b"<!DOCTYPE html><html><body>404</body></html>", (), "web page"),
    "a label outside the classes": (GOOD.encode(), ("--classes", "5"), 'data:6: the label in column 1 is "5"'),
    "a width that changes": ((GOOD + "1,2,3\n").encode(), (), "data:61: the row has 3 values, not 5"),
    "a cell that is not a number": (
        (GOOD + "1,0,x,4,0\n").encode(),
        (),
        'data:61: column 3 is "x", not an integer',
    ),
    "a cell out of range": ((GOOD + "1,0,256,4,0\n").encode(), (), 'data:61: column 3 is "256"'),
    "a fraction": ((GOOD + "1,0,12.5,4,0\n").encode(), (), 'data:61: column 3 is "12.5"'),
    "an empty cell": ((GOOD + "1,0,,4,0\n").encode(), (), "data:61: column 3 is empty"),
}


def assert_refused(done: object, code: int, *said: str) -> None:
    assert done.returncode == code, done.stderr  # type: ignore[attr-defined]
    lines = done.stderr.splitlines()  # type: ignore[attr-defined]
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    assert len(lines[0]) < 300
    assert all(text in lines[0] for text in said), lines[0]
    assert done.stdout == ""  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", FILES)
def test_convert_refuses_a_file_that_is(call_cli: RunCli, tmp_path: Path, kind: str) -> None:
    content, options, said = FILES[kind]
    if content is not None:
        (tmp_path / "data").write_bytes(content)
    before = sorted(tmp_path.iterdir())
    assert_refused(call_cli("convert", "data", "out", "-q", "--shape", "2x2", *options), 1, "data", said)
    assert sorted(tmp_path.iterdir()) == before


def test_shards_without_a_manifest_are_never_read(call_cli: RunCli, shards: Path, tmp_path: Path) -> None:
    (tmp_path / "cut").mkdir()
    for shard in shards.glob("*.parquet"):
        (tmp_path / "cut" / shard.name).write_bytes(shard.read_bytes())
    assert_refused(call_cli("train", "cut", "--out", "run"), 1, "cut: no manifest.json", "streamtrain convert")
    assert not (tmp_path / "run").exists()


def test_train_and_test_of_different_shapes_or_classes_are_refused(
    call_cli: RunCli, shards: Path, digits_csv: Path, tmp_path: Path
) -> None:
    (tmp_path / "small.csv").write_text(GOOD)
    assert call_cli("convert", "small.csv", "small", "--label", "first").returncode == 0
    done = call_cli("train", shards, "--test", "small", "--out", "run")
    assert_refused(done, 1, "small: a row has 4 pixels", "64")
    text = digits_csv.read_text().replace("\n9,", "\n10,")
    (tmp_path / "more.csv").write_text(text)
    assert call_cli("convert", "more.csv", "more").returncode == 0
    done = call_cli("train", shards, "--test", "more", "--out", "run")
    assert_refused(done, 1, "more: class '10' is not among the 10 classes")
    assert not (tmp_path / "run").exists()


def test_data_without_labels_can_be_neither_learned_nor_evaluated(
    call_cli: RunCli, shards: Path, digits_csv: Path, tmp_path: Path
) -> None:
    lines = [line.split(",", 1)[1] for line in digits_csv.read_text().splitlines()]
    (tmp_path / "bare.csv").write_text("\n".join(lines) + "\n")
    assert call_cli("convert", "bare.csv", "bare").returncode == 0
    assert_refused(call_cli("train", "bare", "--out", "run"), 1, "bare has no labels", "--label")
    assert_refused(call_cli("train", shards, "--test", "bare", "--out", "run"), 1, "bare has no labels")


@pytest.mark.parametrize(("command", "existing"), [("convert", "out"), ("train", "run")])
def test_what_streamtrain_did_not_write_is_kept_whatever_the_options(
    call_cli: RunCli, shards: Path, digits_csv: Path, tmp_path: Path, command: str, existing: str
) -> None:
    (tmp_path / existing).mkdir()
    (tmp_path / existing / "precious").write_text("kept")
    arguments = [digits_csv, "out"] if command == "convert" else [shards, "--out", "run"]
    for words in (arguments, [*arguments, "--overwrite"]):
        assert_refused(call_cli(command, *words), 2, f"{existing} exists already", "it holds precious")
    assert (tmp_path / existing / "precious").read_text() == "kept"


def test_a_folder_that_is_not_a_run_is_refused(call_cli: RunCli, shards: Path) -> None:
    for arguments in (("evaluate", shards, shards), ("predict", shards, "x.csv"), ("train", "--resume", shards)):
        assert_refused(call_cli(*arguments), 1, "last.safetensors is missing", "streamtrain train")


def test_an_unknown_preset_is_a_usage_error_that_names_similar_ones(call_cli: RunCli, digits_csv: Path) -> None:
    assert_refused(call_cli("convert", digits_csv, "out", "--preset", "mnits"), 2, "--preset mnits", "mnist")
    assert_refused(call_cli("convert", digits_csv, "out", "--preset", "nope"), 2, "Similar: ")


def test_debug_shows_the_traceback(run_cli: RunCli) -> None:
    done = run_cli("convert", "missing.csv", "out", "--debug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "DataError" in done.stderr


def test_control_characters_of_names_and_cells_are_shown_escaped(call_cli: RunCli, tmp_path: Path) -> None:
    evil, escaped = "\x1b]0;title\x07\u202e", "\\x1b]0;title\\x07\\u202e"
    rows = [f"{'ab'[k % 2]},{k % 7 * 30},{k % 5 * 50},{k % 3 * 100},{k}\n" for k in range(40)]
    (tmp_path / f"{evil}.csv").write_text("".join(rows))
    (tmp_path / "cell.csv").write_text("".join([*rows[:20], f"{evil},1,2,3,4\n", *rows[20:]]))
    options = ("--label", "first", "--shape", "2x2")
    for words in (
        ("convert", f"{evil}.csv", "out", *options),  # the warnings name the file
        ("convert", f"{evil}.csv", "out", *options),  # which exists by now
        ("inspect", "out", "--line", "2"),
        ("convert", "cell.csv", "other", *options),
        ("convert", f"{evil}", "third"),
    ):
        done = call_cli(*words)
        assert not {"\x1b", "\x07", "\u202e"} & set(done.stdout + done.stderr), words
    assert escaped in done.stderr
    assert escaped in call_cli("inspect", "out", "--line", "2").stdout
    assert escaped in call_cli("convert", "cell.csv", "other", *options).stderr
