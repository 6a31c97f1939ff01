"""Ranks of a distributed training share the rows, each once, and get equally many batches."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader

import streamtrain as st
from streamtrain.adapters.shares import Share
from streamtrain.adapters.torch_dataset import ShardDataset
from streamtrain.errors import UsageError

ROWS = 1100

# A rank of a DistributedDataParallel training, as users write it. It prints the rows of each batch.
RANK = """
import json, sys
import numpy as np, torch, torch.distributed as dist
from torch.utils.data import DataLoader
from streamtrain.adapters.torch_dataset import ShardDataset

if __name__ == "__main__":
    folder, meet, rank, ranks, workers, context = sys.argv[1:]
    early = ShardDataset(folder, batch_size=64, seed=5)
    dist.init_process_group("gloo", init_method="file://" + meet, rank=int(rank), world_size=int(ranks))
    late = ShardDataset(folder, batch_size=64, seed=5)
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(8, 7))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for data in (early, late):
        options = {"num_workers": int(workers), "multiprocessing_context": context} if int(workers) else {}
        rows = []
        for x, y in DataLoader(data, batch_size=None, **options):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            pixels = np.rint(x.numpy() * 255).astype(int)
            rows.append((pixels[:, 1] * 256 + pixels[:, 0]).tolist())
        print(json.dumps([len(data), rows]))
    print(json.dumps(model.module.weight.sum().item()))
    dist.destroy_process_group()
"""


@pytest.mark.parametrize(("ranks", "workers", "context"), [(3, 2, "fork"), (2, 1, "spawn")])
def test_ranks_of_torch_distributed_train_on_each_row_once(
    numbered: Path, tmp_path: Path, ranks: int, workers: int, context: str
) -> None:
    """A rank with one more batch would wait for the others for ever."""
    (tmp_path / "rank.py").write_text(RANK)
    words = [sys.executable, "rank.py", str(numbered), str(tmp_path / "meet")]
    processes = [
        subprocess.Popen(
            [*words, str(rank), str(ranks), str(workers), context],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(ranks)
    ]
    ends = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0] * ranks, ends
    printed = [[json.loads(line) for line in out.splitlines()] for out, _ in ends]
    for epoch in (0, 1):
        lengths, rows = zip(*(of_rank[epoch] for of_rank in printed), strict=True)
        assert sorted(itertools.chain(*itertools.chain(*rows))) == list(range(ROWS))
        assert {len(batches) for batches in rows} == {*lengths} == {-(-ROWS // (64 * ranks))}
    assert len({of_rank[-1] for of_rank in printed}) == 1


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("ranks", "batch_size"), [(2, 64), (3, 366), (3, 100), (7, 157), (11, 10), (1100, 5)])
def test_ranks_that_are_given_share_the_rows_evenly(
    numbered: Path, ranks: int, batch_size: int, workers: int
) -> None:
    found = []
    for rank in range(ranks) if ranks < 100 else (0, 1, 1099):
        data = ShardDataset(numbered, batch_size=batch_size, seed=5, rank=rank, ranks=ranks)
        loader = DataLoader(data, batch_size=None, num_workers=workers if ranks < 8 else 0)
        batches = [(np.rint(x.numpy() * 255).astype(int)[:, :2] @ [256, 1]).tolist() for x, _ in loader]
        assert len(batches) == len(data)
        assert 0 < min(map(len, batches)) <= max(map(len, batches)) <= batch_size
        found.append(batches)
    assert len({len(batches) for batches in found}) == 1
    rows = list(itertools.chain(*itertools.chain(*found)))
    assert len(rows) == len(set(rows)) == (ROWS if ranks < 100 else 3)


def test_every_share_of_any_size_gives_as_many_batches_and_each_row_once() -> None:
    """Over all small sizes."""
    for rows, size, ranks in itertools.product(range(1, 50), range(2, 8), range(1, 7)):
        if rows < ranks:
            continue
        ends = [Share(rank, ranks).batch_ends(rows, size).tolist() for rank in range(ranks)]
        assert sum(each[-1] for each in ends) == rows
        assert len({len(each) for each in ends}) == 1
        sizes = {stop - start for each in ends for start, stop in itertools.pairwise([0, *each])}
        assert 0 < min(sizes) <= max(sizes) <= size


def test_a_rank_continues_from_the_state_of_another(numbered: Path) -> None:
    """All have yielded the same number of batches, so one rank may save the state for all."""
    whole = [(x.tolist(), y.tolist()) for x, y in ShardDataset(numbered, batch_size=366, rank=2, ranks=3)]
    assert len(whole) == 2
    for taken in (0, 1, 2):
        state = ShardDataset(numbered, batch_size=366, rank=0, ranks=3).state_dict(batches=taken)
        resumed = ShardDataset(numbered, batch_size=366, rank=2, ranks=3)
        resumed.load_state_dict(state)
        assert [(x.tolist(), y.tolist()) for x, y in resumed] == whole[taken:]


@pytest.mark.parametrize("given", [{"rank": 0}, {"ranks": 2}, {"rank": 2, "ranks": 2}, {"rank": -1, "ranks": 2}])
def test_ranks_that_are_not_valid_are_refused(numbered: Path, given: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="`rank` is one of 0 … `ranks` − 1"):
        ShardDataset(numbered, **given)  # type: ignore[arg-type]


def test_too_few_rows_for_all_ranks_are_refused(numbered: Path) -> None:
    for given in ({"ranks": 1101, "batch_size": 4}, {"ranks": 3, "batch_size": 1}):
        with pytest.raises(UsageError, match="ranks equally many batches"):
            iter(ShardDataset(numbered, rank=0, **given))


def test_the_rows_of_a_part_are_those_between_two_places(numbered: Path) -> None:
    store = st.open_shards(numbered)
    order = np.array([3, 10, 0, 7, 1, 2, 4, 5, 6, 8, 9])
    lines = np.concatenate([next(store.blocks([group])).lines for group in order])
    for start, stop in ((0, ROWS), (0, 1), (99, 101), (150, 150), (250, 777), (1099, 1100)):
        part = store.part(order, start, stop)
        assert part.rows == stop - start
        found = [block.lines for block in part.blocks()]
        assert sorted(np.concatenate(found).tolist() if found else []) == sorted(lines[start:stop].tolist())
        labels = part.row_groups.read_labels(np.arange(len(part.row_groups)))
        assert labels.tolist() == [int(label) for block in part.blocks() for label in block.labels]
