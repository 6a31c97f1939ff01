"""Windows loaded ahead hand out every row of every epoch once, whatever the threads, wherever training resumes."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from shared import row_groups_of

import streamtrain as st
from streamtrain.block import Array
from streamtrain.errors import DataError, UsageError
from streamtrain.metrics.label_disorder import LabelDisorder
from streamtrain.stream import windows
from streamtrain.stream.batches import Batch, Minibatches, gather_pixels, normalise, pixel_epochs
from streamtrain.stream.dataset import Shards
from streamtrain.stream.order import Cursor, Order
from streamtrain.stream.windows import labels_in_order

ROWS, FEATURES = 6000, 198
BEGIN = Cursor(1, 0)


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards whose pixels are the row's number: its low, high and low byte, again and again."""
    folder = tmp_path_factory.mktemp("numbered")
    number = np.arange(ROWS)
    pixels = np.stack([number & 255, number >> 8, number & 255], axis=1)
    table = np.concatenate([(number % 7)[:, None], np.tile(pixels, FEATURES // 3)], axis=1)
    for part in range(3):
        np.savetxt(folder / f"{part}.csv", table[part * 2000 : part * 2000 + 2000], fmt="%d", delimiter=",")
    with row_groups_of(100 * FEATURES):
        options = {"label": "first", "pixel_range": (0, 255), "shape": (FEATURES,)}
        st.convert(sorted(folder.glob("*.csv")), folder / "shards", **options)
    return folder / "shards"


def threads_that_load() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("streamtrain")]


def rows_of(x: Array) -> Array:
    """The numbers of the rows, raw or normalised, of which every pixel must be theirs."""
    pixels = np.rint(x * (1 if x.dtype == np.uint8 else 255)).astype(int).reshape(len(x), -1, 3)
    assert (pixels == pixels[:, :1]).all()
    return pixels[:, 0, 1] * 256 + pixels[:, 0, 0]


def epochs_of(
    shards: Shards, window_rows: int, *, start: Cursor = BEGIN, last: int = 2
) -> Iterator[tuple[int, Iterator[Batch]]]:
    order = Order(3, window_rows)
    return pixel_epochs(
        shards.decoded, order, gather=gather_pixels, batch_size=64, prefetch_threads=1, start=start, last=last
    )


def numbers_of(batches: Iterator[Batch] | Minibatches) -> list[int]:
    """The numbers of the rows of an epoch in order, whose labels must be theirs."""
    found: list[int] = []
    for x, y in batches:
        numbers = rows_of(np.asarray(x))
        assert (numbers % 7 == np.asarray(y)).all()
        found += numbers.tolist()
    return found


def handed_out(shards: Shards, window_rows: int, *, start: Cursor = BEGIN, last: int = 2) -> list[list[int]]:
    """The numbers of the rows of each epoch, in order."""
    epochs = epochs_of(shards, window_rows, start=start, last=last)
    return [numbers_of(batches) for _, batches in epochs]


@pytest.mark.parametrize("window_rows", [100, 900, 5999, ROWS])
def test_every_row_comes_once_an_epoch_with_its_label_the_same_for_any_number_of_threads(
    numbered: Path, window_rows: int
) -> None:
    one = handed_out(st.open_shards(numbered, workers=1), window_rows)
    decoded = st.open_shards(numbered, workers=4).decoded
    order = Order(3, window_rows)
    four = [numbers_of(Minibatches(decoded, order, Cursor(epoch, 0), 64, 4)) for epoch in (1, 2)]
    assert one == four
    assert one[0] != one[1]
    assert [sorted(epoch) for epoch in one] == [list(range(ROWS))] * 2


@pytest.mark.parametrize("window_rows", [900, ROWS])
@pytest.mark.parametrize("rows", [0, 64, 900, 1984, ROWS])
def test_an_order_can_be_entered_anywhere_without_what_came_before(
    numbered: Path, window_rows: int, rows: int
) -> None:
    store = st.open_shards(numbered)
    whole = handed_out(store, window_rows, last=3)
    assert handed_out(store, window_rows, last=3, start=Cursor(2, rows)) == [whole[1][rows:], whole[2]]
    later = Minibatches(store.decoded, Order(3, window_rows), Cursor(2, rows), 64, 1)
    assert numbers_of(later) == whole[1][rows:]
    assert len(later) == len(list(later)) == -(-(ROWS - rows) // 64)


@pytest.mark.parametrize("window_rows", [900, ROWS])
@pytest.mark.parametrize("rows", [0, 64, 1000, 1984, ROWS])
def test_the_labels_before_a_position_are_known_without_their_pixels(
    numbered: Path, window_rows: int, rows: int
) -> None:
    shards, order = st.open_shards(numbered), Order(3, window_rows)
    (_, whole), _ = [(epoch, numbers_of(batches)) for epoch, batches in epochs_of(shards, window_rows)]
    before = [*labels_in_order(shards.row_groups, order, 1, stop=rows), np.empty(0, int)]
    assert np.concatenate(before).tolist() == [number % 7 for number in whole[:rows]]
    every = np.concatenate(list(labels_in_order(shards.row_groups, order, 1)))
    assert every.tolist() == [number % 7 for number in whole]


def test_label_disorder_does_not_depend_on_how_the_labels_are_cut() -> None:
    labels = np.random.default_rng(0).integers(0, 7, 20_000) // np.arange(1, 20_001).clip(max=3)
    whole, cut = LabelDisorder(), LabelDisorder()
    whole.update(labels)
    borrowed = np.empty(300, np.int64)
    for at in range(0, len(labels), 300):
        part = labels[at : at + 300]
        borrowed[: len(part)] = part
        cut.update(borrowed[: len(part)])
        borrowed[:] = -1  # as a buffer that is refilled
        if at % 900 == 0:
            cut.value()
    assert cut.value() == whole.value()
    assert cut.effective_batch_size(256) == whole.effective_batch_size(256)


def test_the_next_epochs_first_window_is_read_while_this_ones_last_is_used(
    numbered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards, order = st.open_shards(numbered), Order(3, 3100)
    tasks, seventh = itertools.count(1), threading.Event()
    inner = windows._decode

    def decode(*args: object) -> None:
        if next(tasks) == 7:  # a task for each shard and window: epoch 1 has six
            seventh.set()
        inner(*args)

    monkeypatch.setattr(windows, "_decode", decode)
    stream = epochs_of(shards, order.window_rows)
    _, first = next(stream)
    assert sum(len(y) for _, y in first) == ROWS
    assert seventh.wait()  # nobody has asked for epoch 2
    next(next(stream)[1])
    stream.close()


def test_an_epoch_left_early_is_skipped_to_its_end(numbered: Path) -> None:
    store = st.open_shards(numbered)
    whole = handed_out(store, 900)
    starts = []
    for _, batches in epochs_of(store, 900):
        x, _ = next(batches)
        starts.append(rows_of(x).tolist())
    assert starts == [rows[:64] for rows in whole]


@pytest.mark.parametrize("memory_bytes", [2_000_000, 256_000_000])
def test_minibatches_of_the_library_can_be_looped_over_again_and_at_the_same_time(
    numbered: Path, memory_bytes: int
) -> None:
    batches = st.open_shards(numbered).minibatches(batch_size=50, seed=1, epoch=4, memory_bytes=memory_bytes)
    first, second = zip(*itertools.zip_longest(batches, batches), strict=True)
    labels = [[int(label) for _, y in loop for label in y] for loop in (first, second)]
    assert labels[0] == labels[1]
    assert np.bincount(labels[0]).tolist() == np.bincount(np.arange(ROWS) % 7).tolist()
    kept = [rows_of(x.numpy()) for x, _ in list(batches)]  # batches stay valid
    assert sorted(np.concatenate(kept)) == list(range(ROWS))


def test_a_batch_larger_than_the_data_is_all_of_it(numbered: Path) -> None:
    [(x, y)] = st.open_shards(numbered).minibatches(batch_size=10**9)
    assert sorted(rows_of(x.numpy())) == list(range(ROWS))
    assert len(y) == ROWS


@pytest.mark.parametrize(
    ("pixel_range", "dtype", "form"),
    [
        ((0, 255), "uint8", "%d"),
        ((5, 60), "uint8", "%d"),
        ((0, 900), "uint16", "%d"),
        ((-1, 2), "float32", "%.3f"),
    ],
)
@pytest.mark.parametrize("window_rows", [40, 300])
def test_pixels_of_any_kind_are_normalised_to_the_bit(
    tmp_path: Path, pixel_range: tuple[float, float], dtype: str, form: str, window_rows: int
) -> None:
    values = np.random.default_rng(1).uniform(*pixel_range, (300, 15))
    np.savetxt(tmp_path / "rows.csv", np.c_[np.arange(300), values], fmt=["%d", *[form] * 15], delimiter=",")
    with row_groups_of(400):
        options = {"label": "first", "pixel_range": pixel_range, "shape": (15,)}
        st.convert(tmp_path / "rows.csv", tmp_path / "shards", **options)
    store = st.open_shards(tmp_path / "shards")
    assert store.schema.dtype == dtype
    stored = np.concatenate([block.pixels for block in store.blocks()])
    expected = normalise(stored, store.schema, out=torch.empty(stored.shape)).numpy()
    order = Order(3, window_rows)
    epochs = pixel_epochs(
        store.decoded, order, gather=gather_pixels, batch_size=32, prefetch_threads=1, start=BEGIN, last=1
    )
    minibatches = Minibatches(store.decoded, order, BEGIN, 32, 1)
    normalised = ((x.numpy(), y.numpy()) for x, y in minibatches)
    raw = ((x, y) for _, batches in epochs for x, y in batches)
    for batches, meant in ((normalised, expected), (raw, stored)):
        found = np.zeros(300, int)
        for x, y in batches:
            assert x.dtype == meant.dtype
            assert x.tobytes() == meant[y].tobytes()  # a row's label is its number
            found[y] += 1
        assert (found == 1).all()


def test_rows_in_memory_are_counted_and_bounded_and_a_loop_left_early_leaves_no_thread(numbered: Path) -> None:
    store = st.open_shards(numbered)
    batches = store.minibatches(memory_bytes=2_000_000)
    loop = iter(batches)
    next(loop)
    assert threads_that_load()
    loop.close()
    assert not threads_that_load()
    assert store.resident_rows == 2 * batches.order.window_rows < ROWS
    list(batches)
    assert store.resident_rows == 2 * batches.order.window_rows


def test_row_groups_are_those_that_are_named_in_memory_as_on_disk(numbered: Path) -> None:
    store, held = st.open_shards(numbered), st.open_shards(numbered)
    list(held.minibatches(memory_bytes=256_000_000))
    assert held.resident_rows == ROWS
    every = list(store.blocks())
    for groups in ([0], [1, 3], [len(every) - 1], range(len(every))):
        for found in (store.blocks(groups), held.blocks(groups)):
            for block, number in zip(found, groups, strict=True):
                assert (block.pixels == every[number].pixels).all()
                assert (block.labels == every[number].labels).all()


def test_a_damaged_shard_is_an_error_of_the_loop_that_needs_it(numbered: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    for path in numbered.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    shard = next(folder.glob("*.parquet"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 255
    shard.write_bytes(data)
    with pytest.raises(DataError, match=shard.name):
        handed_out(st.open_shards(folder), 900)
    assert not threads_that_load()


@pytest.mark.parametrize(
    ("name", "value"),
    [("batch_size", 0), ("batch_size", 2.5), ("memory_bytes", "64MB"), ("epoch", 0), ("seed", -1), ("seed", None)],
)
def test_a_size_that_is_not_valid_is_refused_at_the_call_with_its_name(
    numbered: Path, name: str, value: object
) -> None:
    with pytest.raises(UsageError, match=f"`{name}` is {value!r}, but must be an integer of at least") as refused:
        st.open_shards(numbered).minibatches(**{name: value})  # type: ignore[arg-type]
    assert refused.value.option == name


def test_sizes_may_be_integers_of_numpy(numbered: Path) -> None:
    shards = st.open_shards(numbered, workers=np.int32(2))
    sizes = {"batch_size": 100, "seed": 3, "epoch": 2, "memory_bytes": 2_000_000}
    ours = shards.minibatches(**{name: np.int64(value) for name, value in sizes.items()})
    assert (ours.order, ours.start, len(ours)) == (Order(3, ours.order.window_rows), Cursor(2, 0), 60)
    assert numbers_of(ours) == numbers_of(shards.minibatches(**sizes))
    with pytest.raises(UsageError, match="`memory_bytes=1` is too small"):
        shards.minibatches(memory_bytes=np.uint8(1))
