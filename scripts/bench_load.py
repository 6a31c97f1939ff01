"""Shuffled, normalised float32 batches of 256 from zstd shards and from other loaders, a process each in turn.

The clock runs from the first request to the last batch of an epoch, or of all epochs of a training if the rows
stay in memory. Each side loads as much once before that, so that libraries are imported and files and arrays made;
ours then opens the shards again and decodes every row again. Peers read the same Parquet files with a buffer of
10,000 rows to shuffle in; Lance reads its own copy of them by random takes. torch's DataLoader has normalised
float32 rows in memory, four times the bytes. A peer that is not installed is left out and named.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from _bench import machine, measured, table, versions, write_digits

import streamtrain as st

BATCH, BUFFER, EPOCHS, SIDE = 256, 10_000, 20, "--side"
Batches = Iterator[tuple[torch.Tensor, torch.Tensor]]


def streamtrain(folder: Path, memory_bytes: int, epochs: int = 1) -> Callable[[], Batches]:
    def batches() -> Batches:
        shards = st.open_shards(folder)
        for epoch in range(1, epochs + 1):
            yield from shards.minibatches(batch_size=BATCH, epoch=epoch, memory_bytes=memory_bytes)

    return batches


def arrays(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Return all rows, normalised, and their labels."""
    batches = list(st.open_shards(folder).minibatches(batch_size=BATCH))
    return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])


def dataloader(folder: Path) -> Callable[[], Batches]:
    from torch.utils.data import DataLoader, TensorDataset

    data = TensorDataset(*arrays(folder))
    loader = DataLoader(data, batch_size=BATCH, shuffle=True)
    return lambda: itertools.chain.from_iterable(itertools.repeat(loader, EPOCHS))


def dataloader_of_batches(folder: Path) -> Callable[[], Batches]:
    from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

    data = TensorDataset(*arrays(folder))
    sampler = BatchSampler(RandomSampler(data), BATCH, drop_last=False)
    loader = DataLoader(data, sampler=sampler, batch_size=None)
    return lambda: itertools.chain.from_iterable(itertools.repeat(loader, EPOCHS))


def decoded(images: list[bytes], labels: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a batch from what a peer yields: the bytes of each row, and labels."""
    pixels = np.frombuffer(b"".join(images), np.uint8).reshape(len(images), -1)
    return torch.from_numpy(pixels.astype(np.float32)).div_(255), torch.tensor(labels)


def datasets(folder: Path) -> Callable[[], Batches]:
    from datasets import load_dataset

    files = sorted(map(str, folder.glob("*.parquet")))
    stream = load_dataset("parquet", data_files=files, streaming=True, split="train")
    shuffled = stream.shuffle(seed=0, buffer_size=BUFFER)
    return lambda: (decoded(b["image"], b["label"]) for b in shuffled.iter(BATCH))


def ray(folder: Path) -> Callable[[], Batches]:
    import ray as library

    library.init(include_dashboard=False, log_to_driver=False, logging_level="error")
    data = library.data.read_parquet(sorted(map(str, folder.glob("*.parquet"))))
    library.data.DataContext.get_current().enable_progress_bars = False
    options = {"batch_size": BATCH, "local_shuffle_buffer_size": BUFFER, "batch_format": "pyarrow"}
    return lambda: (decoded(b["image"].to_pylist(), b["label"].to_numpy()) for b in data.iter_batches(**options))


def lance(folder: Path) -> Callable[[], Batches]:
    import lance as library

    rows = pq.read_table(sorted(folder.glob("*.parquet")), columns=["label", "image"])
    data = library.write_dataset(rows, folder.with_suffix(".lance"), mode="overwrite")

    def batches() -> Batches:
        order = np.random.default_rng(0).permutation(len(rows))
        for start in range(0, len(order), BATCH):
            taken = data.take(order[start : start + BATCH].tolist())
            yield decoded(taken["image"].to_pylist(), taken["label"].to_numpy())

    return batches


FIRST, TWENTY = "streamtrain, --memory 256MB, its first epoch", f"the same, {EPOCHS} epochs"
BY_ROW, BY_BATCH = "torch DataLoader, TensorDataset in memory", "torch DataLoader, indexed a batch at a time"

# By peer: its package, how many epochs are measured, and the function that makes their batches.
SIDES: dict[str, tuple[str | None, int, Callable[[Path], Callable[[], Batches]]]] = {
    "streamtrain, --memory 32MB, an epoch": (None, 1, lambda folder: streamtrain(folder, 32_000_000)),
    FIRST: (None, 1, lambda folder: streamtrain(folder, 256_000_000)),
    TWENTY: (None, EPOCHS, lambda folder: streamtrain(folder, 256_000_000, EPOCHS)),
    BY_ROW: (None, EPOCHS, dataloader),
    BY_BATCH: (None, EPOCHS, dataloader_of_batches),
    "Hugging Face datasets, streaming": ("datasets", 1, datasets),
    "Ray Data": ("ray", 1, ray),
    "Lance, random takes": ("lance", 1, lance),
}


def measure(side: str, folder: Path) -> None:
    """Load twice and print the rows per second of the second time as JSON."""
    make = SIDES[side][2](folder)
    for _ in make():
        pass
    started, rows = time.perf_counter(), 0
    for x, y in make():
        rows += min(len(x), len(y))
    seconds = time.perf_counter() - started
    print(json.dumps({"rows": rows, "rows_per_second": rows / seconds, "dtype": str(x.dtype)}))


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench load", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="of each; the table has the medians")
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument(SIDE, nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        measure(arguments.side[0], Path(arguments.side[1]))
        return
    missing = {
        name: "not installed"
        for name, (module, _, _) in SIDES.items()
        if module and not importlib.util.find_spec(module)
    }
    speeds: dict[str, list[float]] = {name: [] for name in SIDES if name not in missing}
    with tempfile.TemporaryDirectory() as scratch:
        csv, folder = Path(scratch, "digits.csv"), Path(scratch, "shards")
        source = write_digits(csv, rows=arguments.rows)
        st.convert(csv, folder)
        for _ in range(arguments.repeats):
            for name, found in list(speeds.items()):
                try:
                    result = measured([sys.executable, "-B", __file__, SIDE, name, folder]).result
                except SystemExit as error:
                    if not SIDES[name][0]:
                        raise
                    missing[name] = f"it fails here: {str(error).strip().splitlines()[-1]}"
                    del speeds[name]
                    continue
                if (result["rows"], result["dtype"]) != (arguments.rows * SIDES[name][1], "torch.float32"):
                    sys.exit(f"{name} gave {result}")
                found.append(result["rows_per_second"])
    medians = {name: statistics.median(found) for name, found in speeds.items()}
    packages = {"datasets": "datasets", "ray": "ray", "lance": "pylance"}
    there = [packages[module] for name, (module, _, _) in SIDES.items() if module and name not in missing]
    print(f"{machine()}\n{versions(['streamtrain', 'torch', 'pyarrow', *there])}")
    print(f"{arguments.rows:,} rows of {source}, {arguments.repeats} repeats, medians\n")
    print(table(("", "rows a second"), [(name, f"{value:,.0f}") for name, value in medians.items()]))
    promised = [
        (f"{name}, times {peer}", f"{medians[name] / medians[peer]:.2f}", f"{least} or more")
        for name, least in ((TWENTY, 6), (FIRST, 2))
        for peer in (BY_ROW, BY_BATCH)
    ]
    print("", table(("", "measured", "promised"), promised), sep="\n")
    for name, why in missing.items():
        print(f"\n{name}: not measured, {why}")


if __name__ == "__main__":
    main()
