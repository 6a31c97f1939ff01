"""The compression of shards: the one that was asked for, recorded, verified, and kept by a shuffle."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from streamtrain.block import Block
from streamtrain.convert import convert
from streamtrain.errors import UsageError
from streamtrain.shards.build import write_shards
from streamtrain.shards.declare import COMPRESSIONS
from streamtrain.shards.digests import digest_of_json
from streamtrain.shards.manifest import Manifest
from streamtrain.shards.shuffle import shuffle
from streamtrain.shards.verify import verify
from streamtrain.stream.dataset import open_shards

CODECS = {"zstd": "ZSTD", "lz4": "LZ4", "none": "UNCOMPRESSED"}


def codecs_of(folder: Path) -> set[str]:
    groups = [pq.ParquetFile(path).metadata.row_group(0) for path in folder.glob("*.parquet")]
    return {group.column(c).compression for group in groups for c in range(group.num_columns)}


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_convert_and_shuffle_write_shards_of_the_compression_asked_for(
    digits_csv: Path, shards: Path, tmp_path: Path, name: str
) -> None:
    convert(digits_csv, tmp_path / "data", compression=name)
    shuffle(tmp_path / "data", tmp_path / "shuffled")
    for folder in (tmp_path / "data", tmp_path / "shuffled"):
        assert codecs_of(folder) == {CODECS[name]}
        assert Manifest.load(folder).compression == name
        assert verify(folder).ok
    (block,), (usual,) = open_shards(tmp_path / "data").blocks(), open_shards(shards).blocks()
    np.testing.assert_array_equal(block.pixels, usual.pixels)
    files = str(tmp_path / "data" / "*.parquet")
    lines = block.lines.tolist()
    assert pl.read_parquet(files)["line"].to_list() == lines
    assert [line for (line,) in duckdb.sql(f"select line from '{files}'").fetchall()] == lines


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_blocks_become_shards_of_the_compression_asked_for(tmp_path: Path, name: str) -> None:
    block = Block(np.arange(48, dtype=np.uint8).reshape(3, 16), np.array([7, 2, 7]), np.arange(1, 4))
    manifest = write_shards([block], tmp_path / "data", compression=name)[""]
    assert (manifest.compression, codecs_of(tmp_path / "data")) == (name, {CODECS[name]})


def test_another_compression_is_refused_by_name(digits_csv: Path, tmp_path: Path) -> None:
    for refused in (lambda: convert(digits_csv, tmp_path / "a", compression="gzip"),
                    lambda: write_shards([], tmp_path / "b", compression="gzip")):  # fmt: skip
        with pytest.raises(UsageError, match="`compression` is 'gzip', but must be one of zstd, lz4, none"):
            refused()


def test_verify_finds_a_shard_of_another_compression(digits_csv: Path, tmp_path: Path) -> None:
    convert(digits_csv, tmp_path / "data", compression="lz4")
    replace(Manifest.load(tmp_path / "data"), compression="zstd").write(tmp_path / "data")
    assert [problem.what for problem in verify(tmp_path / "data").problems] == ["its compression is lz4, not zstd"]


def test_a_manifest_that_records_no_compression_is_read_and_keeps_its_digest(shards: Path, tmp_path: Path) -> None:
    body = json.loads((shards / "manifest.json").read_text())
    del body["compression"], body["digest"]
    body["digest"] = digest_of_json(body)
    (tmp_path / "manifest.json").write_text(json.dumps(body, indent=1))
    manifest = Manifest.load(tmp_path)
    assert (manifest.compression, manifest.digest) == (None, body["digest"])
    assert manifest.content_digest == Manifest.load(shards).content_digest
