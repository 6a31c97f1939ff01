"""Row groups are read by number, with another data set's meaning if asked, wherever the process is by then."""

from __future__ import annotations

import weakref
from pathlib import Path

import numpy as np
import pytest
from shared import row_groups_of

import streamtrain as st
from streamtrain.block import Block
from streamtrain.errors import DataError
from streamtrain.schema import Schema
from streamtrain.shards.manifest import Manifest
from streamtrain.shards.reader import ShardFile, row_group_table
from streamtrain.shards.row_groups import RowGroups


@pytest.fixture(scope="module")
def sorted_by_class(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of 600 rows of 8 pixels in 30 row groups, sorted by class; of class k, k pixels of 8 are not zero."""
    folder = tmp_path_factory.mktemp("sorted")
    labels = np.repeat(np.arange(6), 100)
    pixels = (np.arange(8) < labels[:, None]) * 9
    np.savetxt(folder / "rows.csv", np.c_[labels, pixels], fmt="%d", delimiter=",")
    with row_groups_of(8 * 20):
        st.convert(folder / "rows.csv", folder / "shards", label="first", pixel_range=(0, 9), shape=(8,))
    return folder / "shards"


def test_the_table_names_the_shard_the_group_and_the_rows_of_each(sorted_by_class: Path) -> None:
    table = row_group_table(Manifest.load(sorted_by_class), sorted_by_class)
    assert table.dtype.names == ("shard", "group", "rows")
    assert table["rows"].sum() == 600
    assert table["group"].tolist() == list(range(30))
    assert set(table["shard"]) == {0}


def test_density_is_that_of_the_whole_set_though_it_is_sorted_by_class(sorted_by_class: Path) -> None:
    groups = RowGroups.open(sorted_by_class)
    first = next(groups.read([0]))
    assert np.count_nonzero(first.pixels) == 0
    assert groups.density == pytest.approx(15 / 48, abs=0.03)
    assert RowGroups.open(sorted_by_class).density == groups.density
    assert groups.select(np.array([0])).density == 0  # its own, not what was found for the whole


def test_class_indices_become_those_of_another_schema(sorted_by_class: Path) -> None:
    groups = RowGroups.open(sorted_by_class)
    reversed_names = Schema((8,), "float32", (0, 18), tuple("9876543210"))
    other = groups.with_schema(reversed_names).select(np.array([29, 0]))
    assert (other.schema.dtype, other.schema.pixel_range) == ("uint8", (0, 18))
    assert [np.unique(block.labels).tolist() for block in other.read([0, 1])] == [[9], [4]]
    assert other.read_labels(np.array([0, 1])).tolist() == [9] * 20 + [4] * 20
    with pytest.raises(DataError, match="class '5' is not among the 5 classes"):
        groups.with_schema(Schema((8,), "uint8", (0, 9), tuple("01234")))


def test_shards_are_found_after_the_current_folder_changed(
    sorted_by_class: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(sorted_by_class.parent)
    shards = st.open_shards("shards")
    monkeypatch.chdir(tmp_path)
    again = shards.with_schema(Schema((8,), "uint8", (0, 18), tuple("0123456")))
    part = again.part(np.array([3]))
    assert (len(shards), len(again), len(part)) == (600, 600, 20)
    assert sum(len(y) for _, y in part.minibatches()) == 20
    assert sum(len(block) for block in again.blocks()) == 600


def test_shards_and_their_minibatches_have_a_length_and_a_short_repr(sorted_by_class: Path) -> None:
    shards = st.open_shards(sorted_by_class)
    assert repr(shards) == f"<Shards {sorted_by_class}: 600 rows of 8 uint8, 6 classes>"
    batches = shards.minibatches(batch_size=256, epoch=3)
    assert len(batches) == 3
    assert repr(batches) == "<3 minibatches of 256 rows, epoch 3>"


def test_a_row_group_is_freed_before_the_next_is_decoded(
    sorted_by_class: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = ShardFile.read_group
    alive: list[weakref.ref[np.ndarray]] = []

    def read_group(file: ShardFile, group: int, *, lines: bool = True) -> Block:
        assert not any(pixels() is not None for pixels in alive)
        block = inner(file, group, lines=lines)
        alive.append(weakref.ref(block.pixels))
        return block

    monkeypatch.setattr(ShardFile, "read_group", read_group)
    shards = st.open_shards(sorted_by_class, workers=1)
    assert 0 < shards.density < 1
    for block in shards.blocks():
        assert len(block) == 20
        del block
    assert sum(len(y) for _, y in shards.minibatches()) == 600
    assert len(alive) == 8 + 30 + 30
