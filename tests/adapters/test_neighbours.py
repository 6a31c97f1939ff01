"""accelerate and Lightning, the real ones, train on each row once an epoch."""

from __future__ import annotations

import itertools
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from streamtrain.adapters.torch_dataset import ShardDataset

pytestmark = [
    pytest.mark.filterwarnings("ignore:`isinstance\\(treespec, LeafSpec\\)`"),  # Lightning's own calls
    pytest.mark.filterwarnings("ignore:Your `IterableDataset` has `__len__` defined"),  # it is right with workers
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),  # more workers than cores
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated"),  # torchdata's own call
]

ROWS = 1100
Epochs = list[list[list[int]]]

ACCELERATE = """
import json, sys
from pathlib import Path
import numpy as np, torch
from accelerate import Accelerator
from torch.utils.data import DataLoader
from streamtrain.adapters.torch_dataset import ShardDataset
from streamtrain.errors import UsageError

if __name__ == "__main__":
    folder, workers = sys.argv[1:]
    accelerator = Accelerator(cpu=True)
    model = torch.nn.Linear(8, 7)
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
    found = {}
    own = {"rank": accelerator.process_index, "ranks": accelerator.num_processes}
    for way, ranks in {"prepared": {"rank": 0, "ranks": 1}, "own": own}.items():
        data = ShardDataset(folder, batch_size=64, seed=5, **ranks)
        loader = DataLoader(data, batch_size=None, num_workers=int(workers))
        loader = loader if way == "own" else accelerator.prepare(loader)
        found[way] = [[], []]
        for epoch in range(2):
            data.set_epoch(epoch)
            for x, y in loader:
                optimizer.zero_grad()
                accelerator.backward(torch.nn.functional.cross_entropy(model(x), y))
                optimizer.step()
                found[way][epoch].append((np.rint(x.numpy() * 255).astype(int)[:, :2] @ [1, 256]).tolist())
    try:
        ShardDataset(folder, batch_size=64)
    except UsageError as error:
        found["nothing"] = str(error)
    Path(f"{accelerator.process_index}.json").write_text(json.dumps(found))
"""

LIGHTNING = """
import json, sys
from pathlib import Path
import numpy as np, torch
import pytorch_lightning as lightning
from torch.utils.data import DataLoader
from streamtrain.adapters.torch_dataset import ShardDataset

class Model(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer, self.epochs = torch.nn.Linear(8, 7), []

    def on_train_epoch_start(self):
        self.epochs.append([])
        self.trainer.train_dataloader.dataset.set_epoch(self.current_epoch)

    def training_step(self, batch, number):
        x, y = batch
        self.epochs[-1].append((np.rint(x.numpy() * 255).astype(int)[:, :2] @ [1, 256]).tolist())
        return torch.nn.functional.cross_entropy(self.layer(x), y)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

if __name__ == "__main__":
    folder, workers = sys.argv[1:]
    loader = DataLoader(ShardDataset(folder, batch_size=64, seed=5), batch_size=None, num_workers=int(workers))
    trainer = lightning.Trainer(
        accelerator="cpu", devices=2, strategy="ddp", max_epochs=3, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )
    model = Model()
    trainer.fit(model, loader)
    Path(f"{trainer.global_rank}.json").write_text(json.dumps(model.epochs))
"""


def numbers(x: Tensor) -> list[int]:
    """The numbers of the rows of a batch."""
    return list(map(int, np.rint(x.numpy() * 255).astype(int)[:, :2] @ [1, 256]))


def every_row_once(batches: Iterable[list[int]]) -> bool:
    return sorted(itertools.chain(*batches)) == list(range(ROWS))


def opened(folder: Path) -> ShardDataset:
    return ShardDataset(folder, batch_size=64, seed=5)


def loader(data: ShardDataset, workers: int, **options: Any) -> DataLoader[Any]:
    return DataLoader(data, batch_size=None, num_workers=workers, **options)


def in_two_ranks(script: str, folder: Path, *words: str, launches_itself: bool = False) -> list[Any]:
    """Run a script in two ranks, of which it starts one if it `launches_itself`; return what they wrote."""
    (folder / "rank.py").write_text(script)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "rank.py", *words],
            cwd=folder,
            env={**os.environ, **meet, **own},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for own in ([{}] if launches_itself else [{"RANK": r, "LOCAL_RANK": r, "WORLD_SIZE": "2"} for r in "01"])
    ]
    said = [process.communicate()[0] for process in processes]
    assert not any(process.returncode for process in processes), said
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def share_every_epoch(ranks: list[Epochs]) -> bool:
    """Whether the ranks gave each row once in each epoch, in nine batches each, in another order every time."""
    orders = [str(epoch) for epoch in ranks[0]]
    return len(set(orders)) == len(orders) and all(
        every_row_once(itertools.chain(*of_ranks)) and {len(batches) for batches in of_ranks} == {9}
        for of_ranks in zip(*ranks, strict=True)
    )


@pytest.fixture
def accelerator() -> Iterator[Any]:
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")
    yield accelerate.Accelerator(cpu=True)
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)  # it belongs to the process


@pytest.mark.parametrize("workers", [0, 2])
def test_accelerate_gives_every_row_once_in_another_order_each_epoch(
    numbered: Path, accelerator: Any, workers: int
) -> None:
    batches = accelerator.prepare(loader(opened(numbered), workers))
    found = [[numbers(x) for x, _ in batches] for _ in range(3)]
    assert len(batches) == len(found[0]) == 18
    assert all(map(every_row_once, found))
    assert found[0] != found[1] != found[2] != found[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_accelerate_may_peek_read_in_two_loops_and_skip_the_batches_that_a_run_had_taken(
    numbered: Path, accelerator: Any, workers: int
) -> None:
    data = opened(numbered)
    data.set_epoch(0)
    whole = [numbers(x) for x, _ in loader(data, workers)]
    begun = iter(accelerator.prepare(loader(opened(numbered), workers)))
    taken = [numbers(x) for x, _ in itertools.islice(begun, 5)]
    peeked = next(iter(accelerator.prepare(loader(opened(numbered), workers))))
    assert numbers(peeked[0]) == whole[0]
    assert taken + [numbers(x) for x, _ in begun] == whole
    one, two = (accelerator.prepare(loader(data, workers)) for _ in range(2))
    turns = [(numbers(a), numbers(b)) for (a, _), (b, _) in zip(one, two, strict=True)]
    assert turns == [(batch, batch) for batch in whole]
    rest = accelerator.skip_first_batches(accelerator.prepare(loader(opened(numbered), workers)), 5)
    assert [numbers(x) for x, _ in rest] == whole[5:]


@pytest.mark.parametrize("workers", [0, 2])
def test_accelerates_stateful_loader_goes_on_where_it_was(numbered: Path, workers: int, tmp_path: Path) -> None:
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")
    pytest.importorskip("torchdata.stateful_dataloader", reason="torchdata is not installed")
    configuration = accelerate.utils.DataLoaderConfiguration(use_stateful_dataloader=True)
    accelerator = accelerate.Accelerator(cpu=True, dataloader_config=configuration)
    try:
        first = accelerator.prepare(loader(opened(numbered), workers))
        begun = iter(first)
        taken = [numbers(x) for x, _ in itertools.islice(begun, 7)]
        accelerator.save_state(str(tmp_path / "state"))
        whole = taken + [numbers(x) for x, _ in begun]
        assert every_row_once(whole)
        accelerator.free_memory()
        second = accelerator.prepare(loader(opened(numbered), workers))
        accelerator.load_state(str(tmp_path / "state"))
        assert [numbers(x) for x, _ in second] == whole[7:]
        assert every_row_once([numbers(x) for x, _ in second])
    finally:
        accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("workers", [0, 2])
def test_two_processes_of_accelerate_train_on_each_row_once_or_refuse(
    numbered: Path, tmp_path: Path, workers: int
) -> None:
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    found = in_two_ranks(ACCELERATE, tmp_path, str(numbered), str(workers))
    for way in ("prepared", "own"):
        assert share_every_epoch([rank[way] for rank in found]), way
    assert all("accelerate runs 2 processes" in rank["nothing"] for rank in found)


@pytest.fixture
def lightning() -> Any:
    return pytest.importorskip("pytorch_lightning", reason="pytorch-lightning is not installed")


def trained(
    lightning: Any, data: ShardDataset, workers: int, peek: int | None, **options: Any
) -> tuple[Epochs, Epochs]:
    """The rows that three epochs trained on, and those that the validation after each saw."""

    class Model(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 7)
            self.trained: Epochs = []
            self.validated: Epochs = []

        def on_train_epoch_start(self) -> None:
            self.trained.append([])

        def on_validation_epoch_start(self) -> None:
            self.validated.append([])

        def training_step(self, batch: Any, number: int) -> Tensor:
            x, y = batch
            if number == peek:
                next(iter(self.trainer.train_dataloader))
            self.trained[-1].append(numbers(x))
            return cross_entropy(self.layer(x), y)

        def validation_step(self, batch: Any, number: int) -> None:
            self.validated[-1].append(numbers(batch[0]))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(accelerator="cpu", max_epochs=3, enable_model_summary=False, **quiet)
    model = Model()
    trainer.fit(model, loader(data, workers, **options), loader(data, workers))
    assert trainer.num_training_batches == 18
    return model.trained, model.validated


@pytest.mark.parametrize(
    ("workers", "persistent", "peek"),
    # A peek by a loader whose workers stay starts its loop again, with any data set.
    [(0, False, None), (0, False, 5), (2, False, None), (2, False, 5), (2, True, None)],
)
def test_lightning_without_set_epoch_gives_every_row_once(
    numbered: Path, lightning: Any, workers: int, persistent: bool, peek: int | None
) -> None:
    """It first checks two batches of the validation, from the same dataset; later validations are whole."""
    data = opened(numbered)
    epochs, validations = trained(lightning, data, workers, peek, persistent_workers=persistent)
    assert len(epochs) == 3
    assert all(map(every_row_once, epochs))
    assert [len(batches) for batches in validations] == [2, 18, 18, 18]
    assert all(map(every_row_once, validations[1:]))


def test_two_processes_of_lightning_train_on_each_row_once_in_another_order_each_epoch(
    numbered: Path, tmp_path: Path, lightning: Any
) -> None:
    found = in_two_ranks(LIGHTNING, tmp_path, str(numbered), "2", launches_itself=True)
    assert [len(epochs) for epochs in found] == [3, 3]
    assert share_every_epoch(found)
