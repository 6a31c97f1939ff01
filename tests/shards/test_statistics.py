"""The statistics of the manifest are exact, and those of parts add up to those of the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from streamtrain import open_shards, verify, write_shards
from streamtrain.block import Block
from streamtrain.convert import convert
from streamtrain.metrics.pixel_statistics import ClassSums
from streamtrain.schema import Schema
from streamtrain.shards.manifest import Manifest
from streamtrain.shards.statistics import tallies


def block(dtype: str, rows: int, classes: int = 4) -> Block:
    random = np.random.default_rng(rows)
    pixels = (random.integers(0, 256, (rows, 6)) if dtype != "float32" else random.random((rows, 6))).astype(dtype)
    return Block(pixels, random.integers(0, classes, rows).astype(np.int32), np.arange(rows))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_sums_are_those_of_numpy_and_parts_add_up_to_the_whole(dtype: str) -> None:
    whole, names = block(dtype, 70_000), ("a", "b", "c", "d", "never")
    pixels, classes = tallies(whole, names)
    wide = whole.pixels.astype(np.float64 if dtype == "float32" else np.int64)
    expected = {
        "sum": wide.sum(axis=0),
        "sum_of_squares": (wide * wide).sum(axis=0),
        "min": whole.pixels.min(axis=0),
        "max": whole.pixels.max(axis=0),
    }
    same = np.allclose if dtype == "float32" else np.array_equal
    for name, values in expected.items():
        assert same(getattr(pixels, name), values)
    assert classes.sums is not None
    assert set(classes.sums) == set("abcd")
    for index, name in enumerate("abcd"):
        assert same(classes.sums[name], wide[whole.labels == index].sum(axis=0))
    one, other = (tallies(whole.take(part), names) for part in (slice(0, 999), slice(999, None)))
    assert same((one[0] + other[0]).sum_of_squares, pixels.sum_of_squares)
    assert np.allclose((one[1] + other[1]).to_json(names), classes.to_json(names))


def test_rows_without_labels_or_with_too_many_classes_have_no_sums_by_class() -> None:
    assert tallies(block("uint8", 50), ())[1].sums is None
    many = ClassSums({str(i): np.zeros(1000) for i in range(1000)})
    assert many.sums is not None
    assert (many + ClassSums({str(i): np.zeros(1000) for i in range(1000, 1100)})).sums is None


@pytest.mark.parametrize("words", [False, True])
def test_the_manifest_has_the_sums_of_every_class_in_the_order_of_its_names(tmp_path: Path, words: bool) -> None:
    rows = block("uint8", 400)
    names = np.array(["zero", "one", "two", "six"] if words else ["0", "1", "2", "6"])[rows.labels]
    text = "".join(f"{name},{','.join(map(str, row))}\n" for name, row in zip(names, rows.pixels, strict=True))
    (tmp_path / "d.csv").write_text(text)
    convert(tmp_path / "d.csv", tmp_path / "out", label="first", header=False, split={"a": 0.5, "b": 0.5})
    parts = [Manifest.load(tmp_path / "out" / part) for part in "ab"]
    total = sum(np.array(part.class_sums) for part in parts)
    expected = [rows.pixels[names == name].sum(axis=0, dtype=int) for name in parts[0].schema.classes]
    assert np.array_equal(total, expected)
    for part in parts:
        assert np.array_equal(np.sum(part.class_sums, axis=0), part.pixels["sum"])


@pytest.mark.parametrize("seed", range(5))
def test_standardised_pixels_of_a_range_in_float64_are_not_taken_for_damage(tmp_path: Path, seed: int) -> None:
    """Their sums are near 0, so the order of summation shows; and float32 rounds the ends of the range."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(5000, 9)) * [0, 0.1, 1, 1, 1, 1, 1, 1e3, 1e6]
    values -= values.mean(axis=0)
    rows = Block(values.astype(np.float32), random.integers(0, 4, 5000).astype(np.int32), np.arange(1, 5001))
    schema = Schema((3, 3), "float32", (values.min(), values.max()), tuple("abcd"))
    parts = (rows.take(slice(start, start + 700)) for start in range(0, 5000, 700))
    write_shards(parts, tmp_path / "out", schema=schema)
    assert open_shards(tmp_path / "out").rows == 5000
    assert verify(tmp_path / "out").problems == ()
