"""Labels in a separate file get to their rows, and none is lost, invented or moved."""

import bz2
import functools
import gzip
import json
import lzma
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamtrain.cli import group
from streamtrain.convert import convert
from streamtrain.convert import pipeline as module
from streamtrain.convert.options import ConvertOptions
from streamtrain.convert.parse import label_file as labels_module
from streamtrain.convert.pipeline import iter_convert
from streamtrain.convert.write import chunk_writer as record
from streamtrain.convert.write.parallel import map_chunks
from streamtrain.errors import DataError, UsageError
from streamtrain.shards.manifest import Manifest
from streamtrain.shards.verify import iter_verify
from streamtrain.train.inputs import changed


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in chunks of a few rows."""
    monkeypatch.setattr(module, "map_chunks", functools.partial(map_chunks, chunk_bytes=200))


def row(i: int) -> str:
    """4×4 pixels, the first of them the row's number."""
    return ",".join(map(str, [i, *range(10, 25)]))


def labelled_rows(folder: Path) -> list[tuple[int, str, int]]:
    """Return the first pixel, the class name and the line of each row, read by pyarrow alone."""
    names = json.loads((folder / "manifest.json").read_text())["schema"]["classes"]
    table = pq.read_table(sorted(folder.glob("*.parquet")), columns=["label", "line", "image"]).to_pylist()
    return [(r["image"][0], names[r["label"]], r["line"]) for r in table]


def write(path: Path, lines: list[str], end: str = "\n") -> Path:
    path.write_bytes("".join(line + end for line in lines).encode())
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """40 rows without labels, and nothing else."""
    return write(tmp_path / "d.csv", [row(i) for i in range(40)])


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("labels", [[str(i * 7 % 10) for i in range(40)], ["cat", "dog", "eel", "ape"] * 10])
@pytest.mark.usefixtures("small_chunks")
def test_each_row_gets_the_label_of_its_place(data: Path, tmp_path: Path, labels: list[str], workers: int) -> None:
    file = write(tmp_path / "l.txt", labels)
    conversion = convert(data, tmp_path / "out", labels=file, workers=workers)
    assert labelled_rows(tmp_path / "out") == [(i, labels[i], i + 1) for i in range(40)]
    assert conversion.schema.classes == tuple(sorted(set(labels)))
    manifest = Manifest.load(tmp_path / "out")
    source, other = manifest.sources
    assert (source.path, source.lines, source.first_line) == (str(data), 40, 1)
    assert (other.path, other.lines, other.first_line) == (str(file), 0, 41)
    assert (other.size, other.mtime_ns) == (file.stat().st_size, file.stat().st_mtime_ns)
    assert len(manifest.shards) > 3
    assert not [*iter_verify(tmp_path / "out")][-1].problems


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
@pytest.mark.usefixtures("small_chunks")
def test_only_rows_take_a_label_and_bad_rows_take_theirs(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("labels")
    kinds = data.draw(st.lists(st.sampled_from("rrrrrrb #h"), min_size=4, max_size=60).filter(_mostly_rows))
    end = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    header = ",".join(f"p{i}" for i in range(16))
    lines, labels, kept, rejected = [header], [], [], []
    for line, kind in enumerate(kinds, start=2):
        lines.append(
            {"r": row(len(labels) % 250), "b": row(1) + ",x", " ": "", "#": "# no row", "h": header}[kind]
        )
        if kind in "rb":
            label = data.draw(st.sampled_from([*["0", "3", " 7", '"8"', "12"] * 3, "x", ""]))
            number = label.strip(' "')
            good = kind == "r" and number.isdecimal()
            if good:
                kept.append((len(labels) % 250, number, line))
            else:
                rejected.append((line, "label" if kind == "r" else "fields"))
            labels.append(label)
    labels = ["what", *labels] if data.draw(st.booleans()) and _mostly_numbers(labels) else labels
    if not (kept and _mostly_numbers(labels)) or labels[0] == "x" or not labels[-1]:
        return
    source = write(folder / "d.csv", lines, end)
    file = write(folder / "l.txt", [*labels, "", " "], end)
    workers = data.draw(st.integers(1, 3))
    conversion = convert(source, folder / "out", labels=file, on_bad_row="reject", workers=workers)
    assert labelled_rows(folder / "out") == kept
    assert (conversion.totals.kept, conversion.totals.rejected) == (len(kept), len(rejected))
    ledger = folder / "out" / "rejected.jsonl"
    bad = [json.loads(line) for line in ledger.read_text().splitlines()] if rejected else []
    assert [(b["line"], b["reason"]) for b in bad] == rejected
    text = source.read_bytes()
    for b in bad:
        assert text[b["byte_offset"] :].startswith(b["raw"].encode() + end.encode())
        if b["reason"] == "label":
            said = b["what"].split(f"{file}:")[1]
            place = int(said.split(" ")[0])
            assert labels[place - 1].strip(' "') == b["value"]


def test_an_empty_first_line_is_a_bad_label_and_the_next_line_is_not_a_header(data: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "l.txt", ["", "x", *(str(i % 4) for i in range(38))])
    convert(data, tmp_path / "out", labels=file, on_bad_row="reject")
    assert labelled_rows(tmp_path / "out") == [(i + 2, str(i % 4), i + 3) for i in range(38)]
    ledger = (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()
    assert [(bad["line"], bad["value"]) for bad in map(json.loads, ledger)] == [(1, ""), (2, "x")]


def _mostly_rows(kinds: list[str]) -> bool:
    return kinds.count("r") > len(kinds) * 0.6


def _mostly_numbers(labels: list[str]) -> bool:
    filled = [label for label in labels[1:] if label]
    return sum(label.strip(' "').isdecimal() for label in filled) * 2 > len(filled) + 1


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_the_file_may_be_compressed(data: Path, tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    (tmp_path / "l.packed").write_bytes(pack(b"".join(b"%d\n" % (i % 4) for i in range(40))))
    convert(data, tmp_path / "out", labels=tmp_path / "l.packed")
    assert labelled_rows(tmp_path / "out") == [(i, str(i % 4), i + 1) for i in range(40)]


@pytest.mark.usefixtures("small_chunks")
def test_one_file_has_the_labels_of_several_sources(data: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "e.csv", [row(i) for i in range(40, 55)])
    file = write(tmp_path / "l.txt", [str(i % 9) for i in range(55)])
    convert([data, other], tmp_path / "out", labels=file, workers=2)
    assert labelled_rows(tmp_path / "out") == [(i, str(i % 9), i + 1) for i in range(55)]


@pytest.mark.parametrize("words", [False, True])
def test_with_a_header_in_the_data_the_labels_may_have_one(tmp_path: Path, words: bool) -> None:
    labels = ["cat" if words and i % 2 else "dog" if words else str(i % 2) for i in range(40)]
    data = write(tmp_path / "d.csv", [",".join(f"pixel{i}" for i in range(16)), *(row(i) for i in range(40))])
    for name, lines in {"with": ["label", *labels], "without": labels}.items():
        convert(data, tmp_path / name, labels=write(tmp_path / f"{name}.txt", lines))
        assert labelled_rows(tmp_path / name) == [(i, labels[i], i + 2) for i in range(40)]


def test_declared_classes_name_the_labels_of_the_file(data: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "l.txt", [str(i % 2 + 1) for i in range(40)])
    conversion = convert(data, tmp_path / "out", labels=file, classes=("A", "B"))
    assert conversion.schema.classes == ("A", "B")
    assert labelled_rows(tmp_path / "out") == [(i, "AB"[i % 2], i + 1) for i in range(40)]


@pytest.mark.parametrize("count", [1, 39, 41, 200])
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("on_bad_row", ["error", "reject"])
@pytest.mark.usefixtures("small_chunks")
def test_another_number_of_labels_than_rows_is_an_error(
    data: Path, tmp_path: Path, count: int, workers: int, on_bad_row: str
) -> None:
    file = write(tmp_path / "l.txt", [str(i % 3) for i in range(count)])
    with pytest.raises(DataError, match=rf"l.txt has {count} labels, the data 40 rows"):
        convert(data, tmp_path / "out", labels=file, workers=workers, on_bad_row=on_bad_row)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.csv", "l.txt"]


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("x", 'its label in L:18 is "x", not a class number'),
        ("-1", 'its label in L:18 is "-1", not a class number'),
        ("", 'its label in L:18 is "", not a class number'),
        ("1,2", "its label in L:18 is a line of 2 values"),
        ('"1', "its label in L:18 has a quote left open"),
    ],
)
@pytest.mark.usefixtures("small_chunks")
def test_a_bad_label_names_its_line_in_both_files(data: Path, tmp_path: Path, label: str, said: str) -> None:
    file = write(tmp_path / "l.txt", [label if i == 17 else str(i % 3) for i in range(40)])
    with pytest.raises(DataError) as caught:
        convert(data, tmp_path / "out", labels=file)
    assert str(caught.value).startswith(f"{data}:18: {said}".replace("L:", f"{file}:"))
    assert len(str(caught.value).replace(str(tmp_path), "")) < 300


@pytest.mark.usefixtures("small_chunks")
def test_an_interrupted_conversion_goes_on_to_the_same_bytes(data: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "l.txt", ["y" if i in (5, 30) else str(i % 3) for i in range(40)])
    options: dict[str, Any] = {"labels": file, "on_bad_row": "reject", "workers": 1}
    convert(data, tmp_path / "whole", **options)
    steps = iter_convert(data, tmp_path / "out", ConvertOptions(**options))
    for _ in range(4):
        next(steps)
    steps.close()  # type: ignore[attr-defined]  # a generator
    with pytest.raises(UsageError, match="`labels` was"):
        convert(data, tmp_path / "out", resume=True, on_bad_row="reject")
    conversion = convert(data, tmp_path / "out", resume=True, **options)
    assert conversion.totals.rejected == 2
    assert {f.name: f.read_bytes() for f in (tmp_path / "out").iterdir()} == {
        f.name: f.read_bytes() for f in (tmp_path / "whole").iterdir()
    }


@pytest.mark.usefixtures("small_chunks")
def test_a_file_of_labels_that_changed_is_noticed(data: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "l.txt", [str(i % 3) for i in range(40)])
    steps = iter_convert(data, tmp_path / "out", ConvertOptions(labels=file, workers=1))
    next(steps)
    os.utime(file, (1, 1))
    with pytest.raises(DataError, match=r"l.txt changed while it was read"):
        list(steps)
    steps = iter_convert(data, tmp_path / "out", ConvertOptions(labels=file, workers=1))
    next(steps)
    steps.close()  # type: ignore[attr-defined]  # a generator
    os.utime(file, (2, 2))
    with pytest.raises(DataError, match=r"l.txt changed since its conversion was interrupted"):
        convert(data, tmp_path / "out", labels=file, resume=True)


def test_shards_of_a_csv_and_its_labels_are_reused_until_either_changes(data: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "l.txt", [str(i % 3) for i in range(40)])
    convert(data, tmp_path / "out", labels=file)
    assert not changed(data, tmp_path / "out")
    write(file, [str(i % 2) for i in range(40)])
    assert changed(data, tmp_path / "out")


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("where", [(labels_module, "_lines"), (record, "parse_chunk")])
def test_a_fault_in_the_middle_ends_the_pass_and_no_thread_waits_for_its_turn(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: tuple[Any, str]
) -> None:
    calls = iter(range(3))  # and then nothing more
    original = getattr(*where)

    def lines(_: Any) -> Iterator[bytes]:
        yield from [b"1"] * 10
        raise DataError("it is broken")

    def parse(*arguments: Any, **options: Any) -> Any:
        if next(calls, None) is None:
            raise DataError("it is broken")
        return original(*arguments, **options)

    monkeypatch.setattr(*where, lines if where[1] == "_lines" else parse)
    file = write(tmp_path / "l.txt", ["1"] * 40)
    with pytest.raises(DataError, match="it is broken"):
        convert(data, tmp_path / "out", labels=file, workers=3)


def test_a_truncated_file_of_labels_is_an_error(data: Path, tmp_path: Path) -> None:
    (tmp_path / "l.gz").write_bytes(gzip.compress(b"1\n" * 40)[:-4])
    with pytest.raises(DataError, match=r"l.gz is a damaged or truncated gzip file"):
        convert(data, tmp_path / "out", labels=tmp_path / "l.gz")


def test_options_that_contradict_each_other_are_a_usage_error(data: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "l.txt", ["1"] * 40)
    with pytest.raises(UsageError, match="`label` is first"):
        convert(data, tmp_path / "out", labels=file, label="first")
    with pytest.raises(UsageError, match="Name two files"):
        convert(data, tmp_path / "out", labels=data)
    with pytest.raises(DataError, match="exactly one label"):
        convert(data, tmp_path / "out", labels=write(tmp_path / "e.csv", [row(i) for i in range(9)]))


def test_the_command_line_takes_the_file(data: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "l.txt", [str(i % 3) for i in range(40)])
    done = CliRunner().invoke(
        group, ["convert", str(data), str(tmp_path / "out"), "--labels", str(file), "--json"]
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["schema"]["classes"] == ["0", "1", "2"]
    assert f"the labels are those of {file}" in done.stderr
    assert "no label" not in done.stderr
