"""Blocks, schemas, totals and files, which everything else uses, refuse values that are not valid."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamtrain import process
from streamtrain.block import Block
from streamtrain.errors import UsageError
from streamtrain.metrics.evaluation import Evaluation
from streamtrain.metrics.label_disorder import LabelDisorder
from streamtrain.metrics.pixel_statistics import ClassSums, PixelStatistics
from streamtrain.schema import Schema
from streamtrain.shards.manifest import LineCounts, Manifest
from streamtrain.storage.destination import Destination, check_file
from streamtrain.stream.dataset import open_shards


def test_a_block_has_as_many_labels_and_lines_as_rows() -> None:
    with pytest.raises(ValueError, match=r"not \(3, 4\), \(2,\) and \(3,\)"):
        Block(np.zeros((3, 4), np.uint8), np.zeros(2, np.int32), np.zeros(3, np.int64))


@pytest.mark.parametrize(
    ("shape", "dtype", "fault"),
    [((2, 2), "int8", "not 'int8'"), ((2, 0), "uint8", r"\(2, 0\)"), ((), "uint8", "sides")],
)
def test_a_schema_has_positive_sides_and_a_dtype_that_shards_have(
    shape: tuple[int, ...], dtype: str, fault: str
) -> None:
    with pytest.raises(ValueError, match=fault):
        Schema(shape, dtype, (0, 1), ())


def test_totals_of_lines_must_add_up() -> None:
    with pytest.raises(ValueError, match="do not add up"):
        LineCounts(lines=5, kept=3, rejected=1)


def test_without_a_whole_batch_the_effective_batch_size_is_unknown() -> None:
    assert LabelDisorder().effective_batch_size(256) is None


def test_without_proc_the_peak_is_that_of_getrusage(monkeypatch: pytest.MonkeyPatch) -> None:
    peak = process.peak_rss_mb()
    monkeypatch.setattr(Path, "exists", lambda self: False)
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert process.peak_rss_mb() == pytest.approx(kib * 1024 / 1e6, rel=0.01)
    assert process.peak_rss_mb() >= peak * 0.9
    monkeypatch.setattr(sys, "platform", "darwin")  # counts bytes
    assert process.peak_rss_mb() == pytest.approx(kib / 1e6, rel=0.01)


def test_a_folder_is_replaced_even_if_the_system_cannot_exchange_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    for name in ("new", "there"):
        (tmp_path / name).mkdir()
        body: dict[str, Any] = {"format": "streamtrain-shards", "digest": name, "shards": [], "sources": []}
        body |= {"totals": {"rejected": 0, "in_other_parts": 0}, "shuffle": None}
        (tmp_path / name / "manifest.json").write_text(json.dumps(body))
    Destination(tmp_path / "there", overwrite=True).publish(tmp_path / "new")
    assert json.loads((tmp_path / "there" / "manifest.json").read_text())["digest"] == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_file_is_never_replaced_by_a_folder_nor_a_folder_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ours: dict[str, Any] = {"reads": [], "is_ours": lambda path: True}
    with pytest.raises(UsageError, match="is a file, but this command writes a folder"):
        Destination(tmp_path / "file", overwrite=True).check()
    with pytest.raises(UsageError, match="is a folder, but this command writes a file"):
        check_file(tmp_path, overwrite=True, **ours)
    with pytest.raises(UsageError, match="overwrite=True"):
        check_file(tmp_path / "file", overwrite=False, **ours)
    with pytest.raises(UsageError, match="not a name in UTF-8"):
        Destination(tmp_path / "\udcff").check()
    check_file(tmp_path / "file", overwrite=True, **ours)


def test_values_with_arrays_compare_hash_and_print_on_one_short_line(shards: Path) -> None:
    opened = open_shards(shards)
    block = next(opened.blocks())
    evaluation = Evaluation.of(np.zeros((3, 2), np.float32), np.zeros(3, np.int64))
    statistics, sums = PixelStatistics.of(block.pixels), ClassSums.of("a", block.pixels[:1])
    for value in (block, evaluation, statistics, sums, opened, opened.manifest, opened.minibatches()):
        assert value == value  # which for arrays is neither true nor false
        assert value != object()
        assert {value: 1}[value] == 1
    for value in (block, evaluation, opened, opened.manifest, opened.minibatches()):
        assert len(repr(value)) < 100 + len(str(shards))
    assert opened.manifest == Manifest.load(shards)
    assert hash(opened.manifest) == hash(Manifest.load(shards))
    assert (len(opened), len(block), len(opened.minibatches())) == (600, 600, 3)
