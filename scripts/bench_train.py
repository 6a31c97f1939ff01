"""An epoch of MNIST from zstd shards against a notebook's loop over float32 arrays, a process each in turn.

The notebook takes batches of 256 by fancy indexing and computes the formulas as written, with all threads of
torch; its arrays exist before the clock starts. Ours is `streamtrain train` from shards, with the given memory. Of
three epochs per process the first is listed separately, and the faster of the others counts. The floor is the time
of the two products of 784×100 alone, in reused buffers, on batches that are slices of an array. Measure on an idle
machine: other work slows the notebook, whose threads spin while they wait, far more than ours.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from _bench import machine, measured, table, versions, write_digits
from torch import Tensor

import streamtrain as st
from streamtrain.stream.dataset import Shards

BATCH, LR, HIDDEN, EPOCHS = 256, 0.05, 100, 3
NOTEBOOK, SIDE = "the notebook's loop", "--notebook"
Times = dict[str, list[float]]


def arrays(shards: Shards) -> tuple[Tensor, Tensor]:
    """Return all rows as float32 in 0..1, and their labels."""
    blocks = list(shards.blocks())
    x = torch.cat([torch.from_numpy(block.pixels.copy()) for block in blocks]).float() / 255
    return x, torch.cat([torch.from_numpy(block.labels.copy()) for block in blocks]).long()


def notebook_epoch(x: Tensor, y: Tensor, parameters: list[Tensor]) -> None:
    """Train for one epoch as the notebook does."""
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
    """Return the accuracy on a whole set, computed at once."""
    w1, b1, w2, b2 = parameters
    return float(((torch.sigmoid(x @ w1 + b1) @ w2 + b2).argmax(dim=1) == y).float().mean())


def floor(x: Tensor) -> None:
    """Compute the two products of the first layer, batch by batch."""
    w, z, dw = torch.zeros(HIDDEN, x.shape[1]), torch.zeros(BATCH, HIDDEN), torch.zeros(HIDDEN, x.shape[1])
    for start in range(0, len(x), BATCH):
        batch = x[start : start + BATCH]
        torch.mm(batch, w.T, out=z[: len(batch)])
        torch.mm(z[: len(batch)].T, batch, out=dw)


def seconds(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def notebook(train_folder: Path, test_folder: Path) -> None:
    """Print the seconds of three epochs, each with its evaluation of both sets and the floor, as JSON."""
    train, test = (arrays(st.open_shards(folder)) for folder in (train_folder, test_folder))
    model = st.MLP(train[0].shape[1], (HIDDEN,), 10)
    w1, w2 = (weight.T.contiguous() for weight in model.weights)
    parameters = [w1, model.biases[0], w2, model.biases[1]]
    taken: dict[str, list[float]] = {"training": [], "evaluation": [], "floor": []}
    for _ in range(EPOCHS):
        taken["training"].append(seconds(lambda: notebook_epoch(*train, parameters)))
        taken["evaluation"].append(
            seconds(lambda: [notebook_evaluation(*data, parameters) for data in (train, test)])
        )
        taken["floor"].append(seconds(lambda: floor(train[0])))
    print(json.dumps(taken))


def ours(folders: tuple[Path, Path], memory: str, run: Path) -> dict[str, list[float]]:
    """Return the seconds of three epochs of the command, and of their evaluations of both sets."""
    train, test = folders
    command = [sys.executable, "-m", "streamtrain", "train", train, "--test", test, "--out", run, "--overwrite"]
    options = [
        "--memory",
        memory,
        "--epochs",
        EPOCHS,
        "--batch-size",
        BATCH,
        "--lr",
        LR,
        "--hidden",
        HIDDEN,
        "--json",
    ]
    done = subprocess.run(list(map(str, [*command, *options])), capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()][:EPOCHS]
    return {
        "training": [line["seconds"] for line in lines],
        "evaluation": [line["eval_seconds"] for line in lines],
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench train", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="of each; the tables have the medians")
    parser.add_argument("--rows", type=int, default=60_000, help="to train on; a sixth of them to test")
    parser.add_argument(SIDE, nargs=2, metavar=("TRAIN", "TEST"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.notebook:
        notebook(*map(Path, arguments.notebook))
        return
    training: Times = {}
    evaluating: Times = {}
    with tempfile.TemporaryDirectory() as scratch:
        folders = Path(scratch, "train"), Path(scratch, "test")
        for folder, rows in zip(folders, (arguments.rows, arguments.rows // 6), strict=True):
            source = write_digits(folder.with_suffix(".csv"), rows=rows)
            st.convert(folder.with_suffix(".csv"), folder)
        sides = {NOTEBOOK: lambda: measured([sys.executable, "-B", __file__, SIDE, *folders]).result}
        for memory in ("32MB", "256MB"):
            sides[f"--memory {memory}"] = lambda memory=memory: ours(folders, memory, Path(scratch, "run"))
        for _ in range(arguments.repeats):
            for name, side in sides.items():
                taken = side()
                training.setdefault(name, []).append(min(taken["training"][1:]))
                training.setdefault(f"{name}, first epoch", []).append(taken["training"][0])
                evaluating.setdefault(name, []).append(min(taken["evaluation"][1:]))
                if name == NOTEBOOK:
                    training.setdefault("floor: two products of 784×100", []).append(min(taken["floor"]))
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
