"""Shards in a real S3 server: the rows of the local ones, fetched by row group, each byte proved."""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import stores
from shared import contents
from stores import put
from torch.utils.data import DataLoader

import streamtrain as st
from streamtrain.errors import CorruptShardError, DataError, UsageError
from streamtrain.shards.manifest import Manifest
from streamtrain.storage import objects
from streamtrain.storage.objects import ObjectPath

if TYPE_CHECKING:
    from conftest import RunCli


def put_folder(folder: Path, at: ObjectPath) -> ObjectPath:
    for name, data in contents(folder).items():
        put(at / name, data)
    return at


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12,000 images of 28×28 in 3 shards of 4 row groups: large enough that headers do not count."""
    random = np.random.default_rng(3)
    pixels = random.integers(0, 256, (12_000, 784), dtype=np.uint8) * (random.random((12_000, 784)) < 0.2)
    folder = tmp_path_factory.mktemp("images") / "shards"
    blocks = [st.Block(pixels.astype(np.uint8), np.arange(12_000) % 10, np.arange(12_000) + 1)]
    st.write_shards(blocks, folder, schema=st.Schema((28, 28), "uint8", (0, 255), tuple("0123456789")))
    return folder


def test_a_manifest_says_where_each_row_group_lies_and_what_its_digest_is(images: Path) -> None:
    manifest = Manifest.load(images)
    assert manifest.version == 2
    for shard in manifest.shards:
        data = (images / shard.file).read_bytes()
        assert len(shard.groups) == -(-shard.rows // manifest.rows_per_group)
        assert shard.footer
        pieces = [*shard.groups, shard.footer]
        assert data[:4] + b"".join(data[p.start : p.start + p.length] for p in pieces) == data


def test_the_rows_and_the_minibatches_are_those_of_the_local_shards(bucket: ObjectPath, numbered: Path) -> None:
    there, here = st.open_shards(put_folder(numbered, bucket)), st.open_shards(numbered)
    for one, other in zip(there.blocks(), here.blocks(), strict=True):
        assert (one.pixels == other.pixels).all()
        assert (one.labels == other.labels).all()
        assert (one.lines == other.lines).all()
    for memory_bytes in (10_000_000, 2_000_000):
        arguments = {"batch_size": 32, "seed": 5, "memory_bytes": memory_bytes}
        batches = zip(there.minibatches(**arguments), here.minibatches(**arguments), strict=True)
        assert all((x == a).all() and (y == b).all() for (x, y), (a, b) in batches)


def test_only_the_row_groups_that_are_read_are_fetched(
    bucket: ObjectPath, proxy: stores.Proxy, images: Path
) -> None:
    shards = st.open_shards(put_folder(images, bucket))
    groups = np.random.default_rng(1).permutation(len(shards.group_rows))[:6]
    pieces = [piece for shard in shards.manifest.shards for piece in shard.groups]
    needed = sum(pieces[group].length for group in groups)
    proxy.sent = proxy.requests = 0
    rows = sum(len(block) for block in shards.blocks(groups.tolist()))
    assert rows == shards.group_rows[groups].sum()
    assert needed < proxy.sent < 1.05 * needed
    assert proxy.requests <= len(groups) + len(shards.manifest.shards)  # a footer of each


def test_shards_of_version_1_are_read_and_verified_too(bucket: ObjectPath, shards: Path, tmp_path: Path) -> None:
    manifest = Manifest.load(shards)
    old = replace(manifest, shards=tuple(replace(shard, groups=(), footer=None) for shard in manifest.shards))
    assert old.content_digest == manifest.content_digest
    put_folder(shards, bucket)
    old.write(tmp_path)
    body = json.loads((tmp_path / "manifest.json").read_bytes())
    assert (body["version"], "groups" in body["shards"][0]) == (1, False)
    put(bucket / "manifest.json", (tmp_path / "manifest.json").read_bytes())
    there = st.open_shards(str(bucket))
    assert there.manifest.digest == body["digest"]
    assert sum(len(block) for block in there.blocks()) == 600
    assert st.verify(str(bucket)).ok


def damaged(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_a_flipped_bit_is_found_when_its_row_group_is_read_and_by_verify(bucket: ObjectPath, images: Path) -> None:
    put_folder(images, bucket)
    shard = Manifest.load(images).shards[1]
    data = (images / shard.file).read_bytes()
    put(bucket / shard.file, damaged(data, shard.groups[2].start + 1000))
    shards = st.open_shards(str(bucket))
    before = len(Manifest.load(images).shards[0].groups)
    assert sum(len(block) for block in shards.blocks(range(before + 2))) > 0
    with pytest.raises(
        CorruptShardError, match=r"damaged: its bytes from [\d,]+ on are not those .* streamtrain verify"
    ):
        list(shards.blocks([before + 2]))
    report = st.verify(str(bucket))
    assert [(problem.shard, "digest" in problem.what) for problem in report.problems] == [(shard.file, True)]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda data: damaged(data, 1), "digest"),
        (lambda data: damaged(data, len(data) - 40), "digest"),
        (lambda data: data + b"x", "the manifest says"),
        (lambda data: data[:-1], "shorter"),
        (lambda data: b"", "shorter"),
    ],
    ids=["the first bytes", "the footer", "a byte more", "a byte less", "nothing"],
)
def test_verify_proves_every_byte(bucket: ObjectPath, shards: Path, change: object, what: str) -> None:
    assert callable(change)
    put_folder(shards, bucket)
    assert st.verify(str(bucket)).ok
    put(bucket / "shard-00000.parquet", change((shards / "shard-00000.parquet").read_bytes()))
    [problem] = st.verify(str(bucket)).problems
    assert problem.shard == "shard-00000.parquet"
    assert what in problem.what


def test_verify_finds_what_is_missing_and_what_does_not_belong(bucket: ObjectPath, images: Path) -> None:
    for name, data in contents(images).items():
        if name != "shard-00001.parquet":
            put(bucket / name, data)
    put(bucket / "notes.txt", b"mine")
    found = {problem.shard: problem.what for problem in st.verify(str(bucket)).problems}
    assert found == {
        "shard-00001.parquet": "it is missing",
        "notes.txt": "the manifest does not know this file",
    }
    with pytest.raises(DataError, match=r"shard-00001\.parquet is missing"):
        list(st.open_shards(str(bucket)).blocks())


def test_the_parts_of_a_split_are_verified_and_named(bucket: ObjectPath, digits_csv: Path, tmp_path: Path) -> None:
    st.convert(digits_csv, tmp_path / "parts", split={"train": 0.8, "test": 0.2})
    put_folder(tmp_path / "parts", bucket)
    assert st.verify(str(bucket)).ok
    with pytest.raises(DataError, match=r"has parts: test, train\. Name one: s3://digits/.*/test"):
        st.open_shards(str(bucket))
    with pytest.raises(DataError, match=r"other: no manifest\.json"):
        st.open_shards(f"{bucket}/other")


def test_a_training_and_its_evaluation_are_the_same_from_a_store_that_fails_for_moments(
    bucket: ObjectPath, proxy: stores.Proxy, shards: Path, call_cli: RunCli
) -> None:
    put_folder(shards, bucket)
    proxy.faults = ["", "503", "cut", "reset", "", "cut", "503"]
    words = ["--epochs", "2", "--batch-size", "32", "--json"]
    results = []
    for data, run in ((bucket, "there"), (shards, "here")):
        done = call_cli("train", data, "--test", data, "--out", run, *words)
        assert done.returncode == 0, done.stderr
        results.append(json.loads(done.stdout.splitlines()[-1])["weights_sha256"])
    assert not proxy.faults
    assert results[0] == results[1]
    evaluated = [json.loads(call_cli("evaluate", "there", data, "--json").stdout) for data in (bucket, shards)]
    assert evaluated[0]["loss"] == evaluated[1]["loss"]
    assert evaluated[0]["data"] == str(bucket)
    recipe = json.loads(Path("there/recipe.json").read_text(encoding="utf-8"))
    assert recipe["data"] == recipe["test"] == str(bucket)
    more = call_cli("train", "--resume", "there", "--epochs", "3", "--json")
    again = call_cli("train", "--resume", "here", "--epochs", "3", "--json")
    assert more.returncode == again.returncode == 0, more.stderr
    assert [json.loads(line).get("weights_sha256") for line in more.stdout.splitlines()] == [
        json.loads(line).get("weights_sha256") for line in again.stdout.splitlines()
    ]
    assert call_cli("report", "there", "-q").returncode == 0


def test_inspect_verify_and_shuffle_take_an_address(
    bucket: ObjectPath, shards: Path, call_cli: RunCli, tmp_path: Path
) -> None:
    put_folder(shards, bucket)
    assert json.loads(call_cli("inspect", bucket, "--json").stdout)["rows"] == 600
    assert json.loads(call_cli("inspect", bucket, "--line", "4", "--json").stdout)["line"] == 4
    verified = call_cli("verify", bucket)
    assert (verified.returncode, verified.stdout) == (
        0,
        f"{bucket}: 600 rows in 1 shard, all as the manifest says\n",
    )
    assert call_cli("shuffle", bucket, "there", "--seed", "3").returncode == 0
    assert call_cli("shuffle", shards, "here", "--seed", "3").returncode == 0
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


def test_a_csv_in_a_store_is_not_trained_on_but_converted_first(
    bucket: ObjectPath, digits_csv: Path, call_cli: RunCli
) -> None:
    put(bucket / "digits.csv", digits_csv.read_bytes())
    done = call_cli("train", f"{bucket}/digits.csv", "--out", "run")
    assert done.returncode == 1
    assert (
        f"Convert it first, and name its shards: streamtrain convert {bucket}/digits.csv digits.csv.shards"
        in done.stderr
    )


def test_spawned_workers_read_a_store_and_forked_ones_are_refused(bucket: ObjectPath, numbered: Path) -> None:
    put_folder(numbered, bucket)
    there, here = (st.ShardDataset(path, batch_size=64) for path in (str(bucket), numbered))
    spawned = DataLoader(there, batch_size=None, num_workers=1, multiprocessing_context="spawn")
    for (x, y), (a, b) in zip(spawned, here, strict=True):
        assert (x == a).all()
        assert (y == b).all()
    if "fork" in multiprocessing.get_all_start_methods():
        forked = DataLoader(there, batch_size=None, num_workers=1, multiprocessing_context="fork")
        with pytest.raises(UsageError, match=r"opened before this process was forked"):
            list(forked)


def test_the_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "obstore", None)
    with pytest.raises(UsageError, match=r"needs the package obstore: pip install 'streamtrain\[cloud\]'$"):
        objects.ObjectPath("s3://bucket", "a").read_bytes()
