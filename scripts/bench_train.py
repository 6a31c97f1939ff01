"""Training from zstd shards against a notebook's loop over float32 arrays, a process each in turn.

The notebook takes batches of 256 by fancy indexing and computes the formulas as written, with all threads of
torch; its arrays exist before the clock starts. Ours is `streamtrain train` from shards, with the given memory; an
epoch is timed from one line of its output to the next, so with evaluation it has everything in it. "In turn" is
`iter_fit`, which evaluates between the epochs, in all threads. The dense digits are MNIST with noise in some of
the places, so that half of the pixels are not zero, as in Fashion-MNIST. Of each process the first epoch is listed
separately, and the median of the others counts. The floor is the time of the two products of 784×100 alone, in
reused buffers, on batches that are slices of an array. Measure on an idle machine: other work slows the notebook,
whose threads spin while they wait, far more than ours.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from _bench import machine, measured, table, versions, write_digits
from torch import Tensor

import streamtrain as st
from streamtrain.stream.dataset import Shards

BATCH, LR, HIDDEN, EPOCHS = 256, 0.05, 100, 4
SIDE = "--side"
NOTEBOOK, DENSE_NOTEBOOK = "the notebook's loop", "dense digits: the notebook's loop"
SMALL, DEFAULT, DENSE = "--memory 32MB", "--memory 256MB", "dense digits: --memory 256MB"
EVALUATED, IN_TURN = "--memory 256MB, with its evaluation", "in turn"
Times = dict[str, list[float]]
Taken = dict[str, list[float]]


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
    """Print the seconds of epochs, each with its evaluation of both sets and the floor, as JSON."""
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


def in_turn(train_folder: Path, test_folder: Path) -> None:
    """Print the seconds of epochs and of their evaluations of both sets, one after the other, as JSON."""
    train, test = st.open_shards(train_folder), st.open_shards(test_folder)
    events = st.iter_fit(st.MLP(784, (HIDDEN,), 10), train, test=test, epochs=EPOCHS)
    reports = [event for event in events if isinstance(event, st.EpochReport)]
    result = {"training": [report.seconds for report in reports]}
    print(json.dumps(result | {"evaluation": [report.eval_seconds for report in reports]}))


def ours(train: Path, memory: str, run: Path, *options: str | Path) -> Taken:
    """Return the seconds from one epoch's line of the command to the next; the first epoch's are its own."""
    command = [
        sys.executable,
        "-m",
        "streamtrain",
        "train",
        train,
        "--out",
        run,
        "--overwrite",
        "--memory",
        memory,
    ]
    command += [
        "--epochs",
        EPOCHS,
        "--batch-size",
        BATCH,
        "--lr",
        LR,
        "--hidden",
        HIDDEN,
        "--json",
        "-q",
        *options,
    ]
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        lines = [(time.perf_counter(), json.loads(line)) for line in process.stdout][:EPOCHS]
    if process.returncode:
        sys.exit(f"{command} failed")
    between = [later - earlier for (earlier, _), (later, _) in itertools.pairwise(lines)]
    return {"training": [lines[0][1]["seconds"], *between]}


def dense_digits(digits: Path, folder: Path) -> None:
    """Write the digits with noise of 1..64 where they are zero, in some of the places."""
    random = np.random.default_rng(0)
    shards = st.open_shards(digits)
    noisy = random.random(shards.schema.features) < 0.38

    def blocks() -> Iterator[st.Block]:
        for block in shards.blocks():
            noise = random.integers(1, 65, block.pixels.shape, np.uint8) * noisy
            yield st.Block(np.where(block.pixels, block.pixels, noise), block.labels, block.lines)

    st.write_shards(blocks(), folder, schema=shards.schema)
    print(f"dense digits: {st.open_shards(folder).density:.0%} of the pixels are not zero")


def sides_of(scratch: Path) -> dict[str, Callable[[], Taken]]:
    """Return what is measured, by name."""
    train, test, dense, run = (scratch / name for name in ("train", "test", "dense", "run"))

    def here(side: str, data: Path) -> Callable[[], Taken]:
        return lambda: measured([sys.executable, "-B", __file__, SIDE, side, data, test]).result

    return {
        NOTEBOOK: here("notebook", train),
        SMALL: lambda: ours(train, "32MB", run, "--no-eval-train"),
        DEFAULT: lambda: ours(train, "256MB", run, "--no-eval-train"),
        EVALUATED: lambda: ours(train, "256MB", run, "--test", test),
        IN_TURN: here("in_turn", train),
        DENSE_NOTEBOOK: here("notebook", dense),
        DENSE: lambda: ours(dense, "256MB", run, "--no-eval-train"),
    }


def ratios(training: Mapping[str, float], evaluating: Mapping[str, float]) -> Iterator[tuple[str, ...]]:
    """Yield each figure that is promised: what it is, what was measured and what it must be."""
    notebook, dense = training[NOTEBOOK], training[DENSE_NOTEBOOK]
    yield "an epoch, times the notebook", f"{notebook / training[DEFAULT]:.2f}", "3.5 or more"
    yield "the same at 32MB", f"{notebook / training[SMALL]:.2f}", "3 or more"
    yield "the same with dense digits", f"{dense / training[DENSE]:.2f}", "2 or more"
    yield "with its evaluation, times without", f"{training[EVALUATED] / training[DEFAULT]:.2f}", "1.1 or less"
    evaluation = f"{evaluating[NOTEBOOK] / evaluating[IN_TURN]:.2f}"
    yield "an evaluation of both sets, times the notebook", evaluation, "4 or more"


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench train", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="of each; the tables have the medians")
    parser.add_argument("--rows", type=int, default=60_000, help="to train on; a sixth of them to test")
    parser.add_argument(SIDE, nargs=3, metavar=("NAME", "TRAIN", "TEST"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        name, *folders = arguments.side
        {"notebook": notebook, "in_turn": in_turn}[name](*map(Path, folders))
        return
    times: dict[str, Times] = {"training": {}, "evaluation": {}}
    with tempfile.TemporaryDirectory() as scratch:
        folders = Path(scratch, "train"), Path(scratch, "test")
        for folder, rows in zip(folders, (arguments.rows, arguments.rows // 6), strict=True):
            source = write_digits(folder.with_suffix(".csv"), rows=rows)
            st.convert(folder.with_suffix(".csv"), folder)
        dense_digits(folders[0], Path(scratch, "dense"))
        for _ in range(arguments.repeats):
            for name, side in sides_of(Path(scratch)).items():
                taken = side()
                first, *later = taken["training"]
                times["training"].setdefault(name, []).append(statistics.median(later))
                times["training"].setdefault(f"{name}, first epoch", []).append(first)
                if "evaluation" in taken:
                    times["evaluation"].setdefault(name, []).append(statistics.median(taken["evaluation"][1:]))
                if name == NOTEBOOK:
                    times["training"].setdefault("floor: two products of 784×100", []).append(min(taken["floor"]))
    print(f"{machine()}\n{versions(['torch', 'streamtrain'])}, {torch.get_num_threads()} threads")
    print(f"{arguments.rows:,} rows of {source}, a sixth of that to test, {arguments.repeats} repeats\n")
    medians = {kind: {name: statistics.median(of) for name, of in found.items()} for kind, found in times.items()}
    for kind, title in (("training", "an epoch"), ("evaluation", "an evaluation of both sets")):
        base = medians[kind][NOTEBOOK]
        rows = [
            (name, f"{median * 1e3:,.0f}", f"{base / median:.2f}", f"{min(times[kind][name]) * 1e3:,.0f}")
            for name, median in medians[kind].items()
        ]
        print(table((title, "median ms", "times as fast", "least ms"), rows), end="\n\n")
    print(table(("", "measured", "promised"), ratios(medians["training"], medians["evaluation"])))


if __name__ == "__main__":
    main()
