"""Blocks from anywhere become shards: the same ones as from CSV, whole or not at all."""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shared import contents, row_groups_of

from streamtrain.block import Array, Block
from streamtrain.convert import convert
from streamtrain.errors import DataError, UsageError
from streamtrain.nn.mlp import MLP
from streamtrain.schema import Schema
from streamtrain.shards.build import write_shards
from streamtrain.shards.manifest import Manifest
from streamtrain.shards.verify import iter_verify
from streamtrain.stream.dataset import open_shards
from streamtrain.train.fit import fit


@pytest.fixture
def images(digits_csv: Path) -> Array:
    """(600, 8, 8) uint8 digits."""
    return np.loadtxt(digits_csv, delimiter=",", dtype=np.uint8, skiprows=1)[:, 1:].reshape(-1, 8, 8)


@pytest.fixture
def labels(digits_csv: Path) -> Array:
    """(600,) uint8, the class of each."""
    return np.loadtxt(digits_csv, delimiter=",", dtype=np.uint8, skiprows=1)[:, 0]


@pytest.fixture
def bare_csv(digits_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same digits in a CSV without a header."""
    path = tmp_path_factory.mktemp("bare") / "digits.csv"
    path.write_text(digits_csv.read_text().split("\n", 1)[1])
    return path


@pytest.fixture
def small_shards() -> Iterator[None]:
    """Shards of 200 rows of 64 bytes, in row groups of 50."""
    with row_groups_of(50 * 64):
        yield


def blocks_of(images: Array, labels: Array, size: int = 100) -> Iterator[Block]:
    for start in range(0, len(images), size):
        pixels = images[start : start + size].reshape(-1, images[0].size)
        yield Block(pixels, labels[start : start + size], np.arange(start, start + len(pixels)) + 1)


def rows_of(folder: Path) -> Block:
    """Return all rows of a folder of shards, which must be whole."""
    *_, report = iter_verify(folder)
    assert report.ok, report.problems
    blocks = list(open_shards(folder).blocks())
    return Block(*(np.concatenate([getattr(b, name) for b in blocks]) for name in ("pixels", "labels", "lines")))


@pytest.mark.usefixtures("small_shards")
def test_arrays_of_numpy_become_shards_that_a_model_learns(images: Array, labels: Array, tmp_path: Path) -> None:
    manifest = write_shards(blocks_of(images, labels), tmp_path / "shards", source="digits")[""]
    assert [shard.rows for shard in manifest.shards] == [200, 200, 200]
    assert manifest == Manifest.load(tmp_path / "shards")
    assert manifest.schema == Schema((8, 8), "uint8", (0, int(images.max())), tuple("0123456789"))
    rows = rows_of(tmp_path / "shards")
    assert np.array_equal(rows.pixels.reshape(images.shape), images)
    assert np.array_equal(rows.labels, labels)
    assert np.array_equal(rows.lines, np.arange(1, 601))
    *_, report = fit(
        MLP(64, hidden=(30,), seed=0), open_shards(tmp_path / "shards"), epochs=10, lr=0.5, batch_size=16
    )
    assert report.train_accuracy > 0.8


def test_an_idx_file_becomes_the_shards_of_the_same_rows_in_a_csv(
    images: Array, labels: Array, bare_csv: Path, tmp_path: Path
) -> None:
    (tmp_path / "images.idx").write_bytes(struct.pack(">4B3I", 0, 0, 8, 3, *images.shape) + images.tobytes())
    (tmp_path / "labels.idx").write_bytes(struct.pack(">4BI", 0, 0, 8, 1, len(labels)) + labels.tobytes())

    def read_idx(path: Path) -> Array:
        data = path.read_bytes()
        sides = struct.unpack_from(f">{data[3]}I", data, 4)
        return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(sides)

    write_shards(blocks_of(read_idx(tmp_path / "images.idx"), read_idx(tmp_path / "labels.idx")), tmp_path / "idx")
    convert(bare_csv, tmp_path / "csv", label="first", header=False)
    idx, csv = Manifest.load(tmp_path / "idx"), Manifest.load(tmp_path / "csv")
    assert (idx.schema, idx.shards, idx.totals) == (csv.schema, csv.shards, csv.totals)
    assert (idx.pixels, idx.class_sums, idx.label_disorder) == (csv.pixels, csv.class_sums, csv.label_disorder)


@pytest.mark.usefixtures("small_shards")
def test_the_size_of_the_blocks_changes_no_byte(images: Array, labels: Array, tmp_path: Path) -> None:
    for size in (600, 1, 37, 200):
        write_shards(blocks_of(images, labels, size), tmp_path / str(size), split={"a": 0.5, "b": 0.5})
        assert contents(tmp_path / str(size)) == contents(tmp_path / "600")


@pytest.mark.usefixtures("small_shards")
def test_a_maker_of_blocks_may_reuse_its_memory(images: Array, labels: Array, tmp_path: Path) -> None:
    def refilled() -> Iterator[Block]:
        one = Block(np.empty((30, 64), np.uint8), np.empty(30, np.int64), np.empty(30, np.int64))
        for block in blocks_of(images, labels, 30):
            one.pixels[:], one.labels[:], one.lines[:] = block.pixels, block.labels, block.lines
            yield one
            one.pixels[:], one.labels[:], one.lines[:] = 0, 99, 0

    write_shards(refilled(), tmp_path / "refilled")
    write_shards(blocks_of(images, labels), tmp_path / "made")
    assert contents(tmp_path / "refilled") == contents(tmp_path / "made")


def test_a_split_puts_each_row_where_a_conversion_would(
    images: Array, labels: Array, bare_csv: Path, tmp_path: Path
) -> None:
    split = {"train": 0.7, "val": 0.3}
    manifests = write_shards(blocks_of(images, labels), tmp_path / "out", split=split)
    convert(bare_csv, tmp_path / "csv", label="first", header=False, split=split)
    assert list(manifests) == ["train", "val"]
    for part in split:
        ours, theirs = rows_of(tmp_path / "out" / part), rows_of(tmp_path / "csv" / part)
        assert np.array_equal(ours.lines, theirs.lines)
    assert next(iter([*iter_verify(tmp_path / "out")][-1:])).ok


def test_other_data_is_written_with_the_schema_of_the_first(images: Array, labels: Array, tmp_path: Path) -> None:
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    train = write_shards(blocks_of(images, labels), tmp_path / "train", classes=names, pixel_range=(0, 240))[""]
    few = labels < 3
    test = write_shards(blocks_of(images[few], labels[few]), tmp_path / "test", schema=train.schema)[""]
    assert test.schema == train.schema == Schema((8, 8), "uint8", (0, 240), tuple(names))
    assert test.label_counts == [*np.bincount(labels)[:3].tolist(), *[0] * 7]
    bare = write_shards(
        blocks_of(images, np.full(600, -1)), tmp_path / "bare", schema=train.schema, source="bare"
    )[""]
    assert bare.schema.classes == ()
    assert rows_of(tmp_path / "bare").labels.tolist() == [-1] * 600


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_wider_pixels_and_rows_that_are_not_square_are_kept_exactly(dtype: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    pixels = (random.random((300, 6)) * 60_000 - (0 if dtype == "uint16" else 100)).astype(dtype)
    block = Block(pixels, random.integers(0, 5, 300), np.arange(1, 301))
    manifest = write_shards([block], tmp_path / "out")[""]
    assert manifest.schema.image_shape == (6,)
    assert manifest.schema.pixel_range == (min(pixels.min().item(), 0), pixels.max().item())
    assert np.array_equal(rows_of(tmp_path / "out").pixels, pixels)
    assert write_shards([block], tmp_path / "wide", image_shape=(2, 3))[""].schema.image_shape == (2, 3)


def test_a_line_that_is_left_out_counts_as_blank(images: Array, labels: Array, tmp_path: Path) -> None:
    kept = np.arange(600) % 7 != 3
    block = Block(images.reshape(600, 64)[kept], labels[kept], np.arange(1, 601)[kept])
    totals = write_shards([block], tmp_path / "out")[""].totals
    assert (totals.lines, totals.kept, totals.blank) == (600, int(kept.sum()), int((~kept).sum()))
    assert np.array_equal(rows_of(tmp_path / "out").lines, block.lines)


def changed(block: Block, **columns: Any) -> Block:
    return Block(**{name: columns.get(name, getattr(block, name)) for name in ("pixels", "labels", "lines")})


def at(values: Array, row: int, value: Any, dtype: Any = None) -> Array:
    values = values.astype(dtype or values.dtype)
    values[row] = value
    return values


FAULTS: dict[str, tuple[Any, str]] = {
    "other pixels": (lambda b: changed(b, pixels=b.pixels[:, 1:]), "after line 500 a row has 63 pixels of uint8"),
    "another dtype": (lambda b: changed(b, pixels=b.pixels.astype("f4")), "64 pixels of float32, not 64 of uint8"),
    "integers": (lambda b: changed(b, pixels=b.pixels.astype("i8")), "pixels are int64, but shards store uint8"),
    "a bright pixel": (
        lambda b: changed(b, pixels=at(b.pixels, (7, 2), 250)),
        "line 508: pixel 3 is 250, not in 0",
    ),
    "no label": (lambda b: changed(b, labels=at(b.labels, 4, -1, int)), r"line 505: the label is -1, not a class"),
    "a high label": (
        lambda b: changed(b, labels=at(b.labels, 4, 10)),
        r"the label is 10, not a class index in 0\.\.9",
    ),
    "a fraction": (lambda b: changed(b, labels=b.labels + 0.5), "line 501: the label is"),
    "lines from 1": (lambda b: changed(b, lines=b.lines - 500), "over all blocks, but after 500 come 1, 2, 3"),
    "a line twice": (lambda b: changed(b, lines=at(b.lines, 9, 509)), "ascend over all blocks"),
    "an array": (lambda b: b.pixels, r"a block is a ndarray\. Make it: Block\(pixels, labels, lines\)"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_rows_that_do_not_fit_are_refused_by_line_and_leave_nothing(
    images: Array, labels: Array, tmp_path: Path, fault: str
) -> None:
    spoil, said = FAULTS[fault]
    *good, last = blocks_of(images, labels)
    with pytest.raises((DataError, UsageError), match=said) as error:
        write_shards([*good, spoil(last)], tmp_path / "out", pixel_range=(0, 240), classes=10, source="digits")
    assert str(error.value).startswith("digits")
    assert len(str(error.value)) < 300
    assert list(tmp_path.iterdir()) == []


def test_a_number_that_is_not_finite_and_a_label_among_none_are_refused(tmp_path: Path) -> None:
    pixels = np.ones((4, 9), dtype=np.float32)
    pixels[2, 5] = np.nan
    lines = np.arange(1, 5)
    with pytest.raises(DataError, match="line 3: pixel 6 is nan, not a finite number") as error:
        write_shards([Block(pixels, np.zeros(4, int), lines)], tmp_path / "out")
    assert (error.value.line, error.value.column) == (3, 6)
    blocks = [Block(pixels[:1], np.full(1, -1), lines[:1]), Block(pixels[1:2], np.zeros(1, int), lines[1:2])]
    with pytest.raises(DataError, match="line 2: the label is 0, not -1, as the rows before have no labels"):
        write_shards(blocks, tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"image_shape": "8x8"}, "`image_shape` is '8x8', but must be the sides of an image"),
        ({"pixel_range": (1, 0)}, "`pixel_range` is"),
        ({"classes": []}, "`classes` is"),
        ({"split": {"a": 2}}, "`split` is .* shares that sum to 1"),
        ({"schema": Schema((8, 8), "uint8", (0, 16), ()), "classes": 10}, "Pass it, or the others"),
        ({"image_shape": (4, 4)}, "has 64 pixels of uint8, not 16 of uint8"),
        ({"split": {"a": 1 - 1e-9, "b": 1e-9}}, "part b of the split has no rows"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused(
    images: Array, labels: Array, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises((DataError, UsageError), match=said):
        write_shards(blocks_of(images, labels), tmp_path / "out", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("blocks", [[], [Block(np.zeros((0, 4), np.uint8), np.zeros(0, int), np.zeros(0, int))]])
def test_without_rows_there_is_no_data(tmp_path: Path, blocks: list[Block]) -> None:
    with pytest.raises(DataError, match="blocks has no rows"):
        write_shards(blocks, tmp_path / "out")


def test_what_is_there_is_replaced_only_if_that_is_asked_for(images: Array, labels: Array, tmp_path: Path) -> None:
    write = functools.partial(write_shards, dest=tmp_path / "out")
    write(blocks_of(images, labels))
    before = contents(tmp_path / "out")
    with pytest.raises(UsageError, match="exists already"):
        write(blocks_of(images[:50], labels[:50]))
    with pytest.raises(ZeroDivisionError):
        write((1 / 0 for _ in range(1)), overwrite=True)
    assert contents(tmp_path / "out") == before
    write(blocks_of(images[:50], labels[:50]), overwrite=True)
    assert len(rows_of(tmp_path / "out")) == 50
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
