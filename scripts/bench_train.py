"""An epoch of MNIST from zstd shards beside a notebook's loop over float32 arrays in memory, in turn in a process.

The notebook's side: a fancy-indexed batch of 256, the formulas as written, torch in all its threads; its arrays
are there before the clock starts. Ours reads shards, in the memory that is named. The floor is what the two
products of 784×100 take alone, in reused buffers, on batches that are slices of an array. Other work on the
machine slows the notebook's threads, which wait for each other in every product, more than ours: measure in peace.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from _bench import machine, table, versions, write_digits
from torch import Tensor

import streamtrain as st
from streamtrain.stream.store import Shards

BATCH, LR, HIDDEN = 256, 0.05, 100
NOTEBOOK = "the notebook's loop"
Times = dict[str, list[float]]


def arrays(shards: Shards) -> tuple[Tensor, Tensor]:
    """All rows as float32 in 0..1, and their labels."""
    blocks = list(shards.blocks())
    x = torch.cat([torch.from_numpy(block.pixels.copy()) for block in blocks]).float() / 255
    return x, torch.cat([torch.from_numpy(block.labels.copy()) for block in blocks]).long()


def notebook_epoch(x: Tensor, y: Tensor, parameters: list[Tensor]) -> None:
    """The training pass of the notebook."""
    w1, b1, w2, b2 = parameters
    order = torch.randperm(len(x))
    for start in range(0, len(x), BATCH):
        index = order[start : start + BATCH]
        xb, yb = x[index], y[index]
        a1 = torch.sigmoid(xb @ w1 + b1)
        logits = a1 @ w2 + b2
        exponentials = torch.exp(logits - logits.max(dim=1, keepdim=True).values)
        probs = exponentials / exponentials.sum(dim=1, keepdim=True)
        targets = torch.zeros_like(probs)
        targets[torch.arange(len(yb)), yb] = 1
        float(-(targets * torch.log(probs.clamp_min(1e-12))).sum(dim=1).mean())
        dlogits = (probs - targets) / len(yb)
        dw2, db2 = a1.T @ dlogits, dlogits.sum(dim=0)
        dz1 = (dlogits @ w2.T) * a1 * (1 - a1)
        dw1, db1 = xb.T @ dz1, dz1.sum(dim=0)
        for parameter, gradient in zip(parameters, (dw1, db1, dw2, db2), strict=True):
            parameter -= LR * gradient


def notebook_evaluation(x: Tensor, y: Tensor, parameters: list[Tensor]) -> float:
    """Accuracy over a whole set at once."""
    w1, b1, w2, b2 = parameters
    return float(((torch.sigmoid(x @ w1 + b1) @ w2 + b2).argmax(dim=1) == y).float().mean())


def floor(x: Tensor) -> None:
    """The two products of the first layer, a batch at a time."""
    w, z, dw = torch.zeros(HIDDEN, x.shape[1]), torch.zeros(BATCH, HIDDEN), torch.zeros(HIDDEN, x.shape[1])
    for start in range(0, len(x), BATCH):
        batch = x[start : start + BATCH]
        torch.mm(batch, w.T, out=z[: len(batch)])
        torch.mm(z[: len(batch)].T, batch, out=dw)


def note(times: Times, name: str, call: Callable[[], object]) -> None:
    """Add the seconds that a call takes."""
    started = time.perf_counter()
    call()
    times.setdefault(name, []).append(time.perf_counter() - started)


def ours(folders: tuple[Path, Path], *, memory_bytes: int, name: str, times: tuple[Times, Times]) -> None:
    """Two epochs from shards that nothing holds yet: the times of the second, and of the first's training pass."""
    train, test = (st.open_shards(folder) for folder in folders)
    model = st.MLP(train.schema.features, (HIDDEN,), len(train.schema.classes))
    parameters = sum(tensor.numel() for tensor in model.state_dict().values())
    sizes = {"batch_size": BATCH, "parameters": parameters, "units": HIDDEN + model.classes}
    plan = train.plan(memory_bytes, **sizes)
    first, second = st.fit(
        model, train, test=test, epochs=2, batch_size=BATCH, lr=LR, window_rows=plan.window_rows
    )
    times[0].setdefault(f"{name}, first epoch", []).append(first.seconds)
    times[0].setdefault(name, []).append(second.seconds)
    times[1].setdefault(name, []).append(second.eval_seconds)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench train", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="of each; the tables have the medians")
    parser.add_argument("--rows", type=int, default=60_000, help="to train on; a sixth of them to test")
    arguments = parser.parse_args()
    training: Times = {}
    evaluating: Times = {}
    with tempfile.TemporaryDirectory() as scratch:
        folders = Path(scratch, "train"), Path(scratch, "test")
        for folder, rows in zip(folders, (arguments.rows, arguments.rows // 6), strict=True):
            source = write_digits(folder.with_suffix(".csv"), rows=rows)
            st.convert(folder.with_suffix(".csv"), folder)
        train, test = (arrays(st.open_shards(folder)) for folder in folders)
        model = st.MLP(train[0].shape[1], (HIDDEN,), 10)
        w1, w2 = (weight.T.contiguous() for weight in model.weights)
        parameters = [w1, model.biases[0], w2, model.biases[1]]
        for _ in range(arguments.repeats):
            note(training, NOTEBOOK, lambda: notebook_epoch(*train, parameters))
            note(evaluating, NOTEBOOK, lambda: [notebook_evaluation(*data, parameters) for data in (train, test)])
            for name, memory_bytes in (("--memory 32MB", 32_000_000), ("--memory 256MB", 256_000_000)):
                ours(folders, memory_bytes=memory_bytes, name=name, times=(training, evaluating))
            note(training, "floor: two products of 784×100", lambda: floor(train[0]))
    print(f"{machine()}\n{versions(['torch', 'streamtrain'])}, {torch.get_num_threads()} threads")
    print(f"{arguments.rows:,} rows of {source}, a sixth of that to test, {arguments.repeats} repeats\n")
    for title, times in (("a training pass", training), ("an evaluation of both sets", evaluating)):
        medians = {name: statistics.median(values) for name, values in times.items()}
        base = medians[NOTEBOOK]
        rows = [
            (name, f"{median * 1e3:,.0f}", f"{base / median:.2f}", f"{min(times[name]) * 1e3:,.0f}")
            for name, median in medians.items()
        ]
        print(table((title, "median ms", "times as fast", "least ms"), rows), end="\n\n")


if __name__ == "__main__":
    main()
