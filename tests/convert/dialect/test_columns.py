"""Columns by position and by name; indices and copies of the label are found; labels as they are written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from streamtrain.convert import convert
from streamtrain.convert.dialect.label_column import onehot_columns
from streamtrain.convert.dialect.labels import canonical
from streamtrain.convert.dialect.sample import Sample
from streamtrain.errors import DataError, StreamtrainError, UsageError
from streamtrain.shards.manifest import Manifest

if TYPE_CHECKING:
    from conftest import Digits

NAMES = [f"pixel{i}" for i in range(64)]


@pytest.fixture
def write(tmp_path: Path, digits: Callable[..., Digits]) -> Callable[..., Path]:
    """A file of digits whose rows `change` returns, given the label, the pixels and the row's number."""

    def make(change: Callable[[int, list[int], int], list[Any]], header: list[str] | None = None) -> Path:
        made = digits()
        rows = [
            change(k, p, i)
            for i, (k, p) in enumerate(zip(made.labels.tolist(), made.pixels.tolist(), strict=True))
        ]
        lines = [",".join(map(str, row)) for row in ([header] if header else []) + rows]
        (tmp_path / "d.csv").write_text("\n".join(lines) + "\n")
        return tmp_path / "d.csv"

    return make


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"label": "3"},
            "3 is the name of column 5, but a number means a position. Pass `label='3-3'` or `label='5-5'`",
        ),
        ({"drop": "70"}, "has no column '70'"),
        ({"drop": "2-80"}, "is not a range of columns from 1 to 66"),
        ({"drop": ("1-66",)}, "no column is left"),
        ({"drop": ("2-66",)}, "no column is left"),
        ({"label": "sum"}, "has no column 'sum'"),
    ],
)
def test_a_number_is_a_position_unless_it_may_be_a_name(
    write: Callable[..., Path], tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    source = write(lambda k, p, i: [i, k, *p], ["", "label", *map(str, range(1, 65))])
    with pytest.raises(StreamtrainError) as error:
        convert(source, tmp_path / "out", **options)
    assert said in str(error.value)
    assert convert(source, tmp_path / "other", drop="1-1", label="2-2").schema.image_shape == (8, 8)


K = np.arange(150) * 7 % 10
GREYS = np.repeat(np.arange(150) % 10 * 28, 64).reshape(150, 64)


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        (
            np.column_stack([K, K, K]),
            {"label": "none"},
            "3 columns .*, column 1 to column 3, hold the same",
        ),
        (np.column_stack([K, K, K])[:10], {"label": "first"}, "2 columns .* hold the same number in each row"),
        (np.column_stack([K, K % 2, K // 2]), {"label": "last"}, "2 columns .* hold few different whole numbers"),
        (np.eye(10, dtype=int)[K], {"label": "none"}, "10 columns .* add up to 1 in each row"),
        (np.eye(100, dtype=int)[np.arange(150) % 100], {"label": "none"}, "100 columns .* add up to 1"),
        (np.column_stack([K, GREYS]), {}, "64 columns .* hold the same number"),
    ],
)
def test_columns_of_labels_without_an_image_are_refused_unless_the_shape_says_that_they_are(
    tmp_path: Path, rows: np.ndarray, options: dict[str, Any], said: str
) -> None:
    (tmp_path / "d.csv").write_text("".join(",".join(map(str, row)) + "\n" for row in rows.tolist()))
    with pytest.raises(DataError, match=f"the {said}.* declare its `shape`$"):
        convert(tmp_path / "d.csv", tmp_path / "out", **options)
    features = rows.shape[1] - (options.get("label") != "none")
    shape = (1, features) if features != 64 else (8, 8)
    result = convert(tmp_path / "d.csv", tmp_path / "out", shape=shape, **options)
    assert (result.totals.kept, result.schema.image_shape) == (len(rows), shape)


@pytest.mark.parametrize("value", [0, 255])
def test_images_of_one_value_alone_are_images(tmp_path: Path, value: int) -> None:
    rows = np.column_stack([K, np.full((150, 64), value)])
    (tmp_path / "d.csv").write_text("".join(",".join(map(str, row)) + "\n" for row in rows.tolist()))
    result = convert(tmp_path / "d.csv", tmp_path / "out", label="first")
    assert (result.totals.kept, result.schema.image_shape) == (150, (8, 8))


@pytest.mark.parametrize(
    ("change", "header", "said"),
    [
        (lambda k, p, i: [k, k, *p], ["label", "digit", *NAMES], r"Pass `label='label'` or `label='digit'`"),
        (
            lambda k, p, i: [k, *p, sum(map(bool, p))],
            ["label", *NAMES, "ink"],
            r"\"ink\"\) is named unlike .*`drop='ink'`",
        ),
        (lambda k, p, i: [k, 7000 + i % 5, *p], None, r"column 2 is mostly 700. or more.*`drop='2'`"),
        (lambda k, p, i: [k, -i % 3 - 9, *p], None, r"column 2 is mostly -.* or less.*`drop='2'`"),
        (
            lambda k, p, i: [k, "abcdefghij"[k], *p],
            None,
            r"column 2 is \"f\", and most rows have a word.*`drop='2'`",
        ),
        (lambda k, p, i: [k, 3 * k, *p], None, r"column 2 repeats the label of each row.*`drop='2'`"),
        (lambda k, p, i: [k, k // 4, *p], None, r"column 2 is the same in all rows of a class.*`drop='2'`"),
        (
            lambda k, p, i: [k, *(int(c == k) for c in range(10)), *p],
            None,
            r"columns 2 to 11 repeat the label of each row.*`drop='2-11'`",
        ),
        (lambda k, p, i: [k, *p[:63], p[63] if i % 9 else "NA"], None, ""),
    ],
)
def test_a_column_that_is_not_a_pixel_is_named_with_the_option_that_leaves_it_out(
    write: Callable[..., Path],
    tmp_path: Path,
    change: Callable[[int, list[int], int], list[Any]],
    header: list[str] | None,
    said: str,
) -> None:
    source = write(change, header)
    if not said:  # a few bad cells are faults of their rows, not of the column
        assert convert(source, tmp_path / "out", on_bad_row="reject").totals.rejected == 17
        return
    with pytest.raises(DataError, match=said):
        convert(source, tmp_path / "out", **({} if header else {"label": "first"}))
    assert not (tmp_path / "out").exists()


def test_every_column_may_be_kept_as_a_pixel(write: Callable[..., Path], tmp_path: Path) -> None:
    source = write(lambda k, p, i: [k, 7000 + i % 5, *p])
    conversion = convert(source, tmp_path / "out", drop="none", label="first", pixel_range=(0, 8000))
    assert conversion.schema.features == 65


def test_columns_of_an_image_are_left_alone(digits: Callable[..., Digits]) -> None:
    for side in (8, 16, 28):
        made = digits(200, side)
        rows = [list(map(str, row)) for row in np.column_stack([made.labels, made.pixels]).tolist()]
        sample = Sample("d.csv", rows, range(200))
        assert onehot_columns(sample, list(range(sample.fields)), None) == {}


@pytest.mark.parametrize(
    ("labels", "options", "classes"),
    [
        ("-1 1", {"label": "first"}, ("-1", "1")),
        ("-1 1", {"classes": ("1", "-1")}, ("1", "-1")),
        ("0 1 2 a b c", {"label": "first"}, ("0", "1", "2", "a", "b", "c")),
        ("9 10 A B", {"classes": ("A", "9", "B", "10")}, ("A", "9", "B", "10")),
        ("65536 131072", {"label": "first"}, ("65536", "131072")),
        ("007 8", {"label": "first"}, ("7", "8")),
        ("3.0 4", {"label": "first"}, ("3", "4")),
        ("T-shirt\u00a0top \U0001f469\u200d\U0001f52c", {"label": "first"}, None),
    ],
)
def test_labels_are_read_as_they_are_written(
    write: Callable[..., Path],
    tmp_path: Path,
    labels: str,
    options: dict[str, Any],
    classes: tuple[str, ...] | None,
) -> None:
    names = labels.split(" ")
    source = write(lambda k, p, i: [names[i % len(names)], *p])
    conversion = convert(source, tmp_path / "out", **{"label": "first", **options})
    assert conversion.schema.classes == (classes or tuple(sorted(names)))
    assert conversion.totals.kept == 150
    counts = dict(zip(conversion.schema.classes, Manifest.load(tmp_path / "out").label_counts, strict=True))
    assert all(counts[canonical(name)] in (len(range(n, 150, len(names))), 150) for n, name in enumerate(names))


@pytest.mark.parametrize(
    ("label", "said"),
    [
        (lambda k, i: f"{k}.5", "the label has a fraction in most rows"),
        (lambda k, i: "" if i % 3 else k, "is empty, as in most rows"),
        (lambda k, i: f"{k};0", "with another separator between them"),
    ],
)
def test_a_label_that_cannot_be_one_is_refused(
    write: Callable[..., Path], tmp_path: Path, label: Callable[[int, int], Any], said: str
) -> None:
    source = write(lambda k, p, i: [label(k, i), *p])
    with pytest.raises(DataError, match=said):
        convert(source, tmp_path / "out", label="first")


def test_a_declared_header_that_is_a_row_is_refused(write: Callable[..., Path], tmp_path: Path) -> None:
    source = write(lambda k, p, i: [k, *p])
    with pytest.raises(DataError, match=r"d.csv:1: .* Pass `header=False`"):
        convert(source, tmp_path / "out", header=True)
    with pytest.raises(DataError, match=r"d.csv:1: .* Pass `header=False`"):
        convert(source, tmp_path / "out", preset="digit-recognizer")
    assert convert(source, tmp_path / "out", header=False).totals.kept == 150


@pytest.mark.parametrize(("value", "warns"), [(255, False), (16, False), (18, True), (200, True)])
def test_a_row_that_alone_makes_the_range_is_warned_of(
    tmp_path: Path, digits: Callable[..., Digits], value: int, warns: bool
) -> None:
    made = digits(top=255 if value == 255 else 16)
    table = np.column_stack([made.labels, made.pixels])
    table[77, 30] = value
    source = tmp_path / "d.csv"
    source.write_text("".join(",".join(map(str, row)) + "\n" for row in table.tolist()))
    conversion = convert(source, tmp_path / "out", split={"a": 0.5, "b": 0.5})
    assert conversion.schema.pixel_range == (0, value)
    expected = f"line 78 alone has a pixel of {value}, all other rows lie in 0..16, and all are scaled by it."
    assert [text.partition(" If")[0] for text in conversion.warnings] == [expected] * warns
    if warns:
        assert "pass `pixel_range=(0.0, 16.0)`" in conversion.warnings[0]
        with pytest.raises(DataError, match=f'd.csv:78: .* is "{value}", not an integer in 0..16'):
            convert(source, tmp_path / "other", pixel_range=(0, 16))


def test_every_option_that_names_a_column_refuses_what_is_not_there(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    source = write(lambda k, p, i: [k, k, *p], ["label", "label", *NAMES])
    with pytest.raises(UsageError, match=r"2 columns are called 'label'. Pass `label='1'` or `label='2'`"):
        convert(source, tmp_path / "out", label="label")
    with pytest.raises(DataError, match=r"column 2 \(\"label\"\) is named unlike the pixels.*`drop='2'`"):
        convert(source, tmp_path / "out", label="1")
    assert convert(source, tmp_path / "out", label="1", drop="2").schema.features == 64
