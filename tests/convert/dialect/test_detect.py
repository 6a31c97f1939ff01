"""The way a file is written is found and reported, never guessed; neither row order nor policy matters."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrain.convert import convert
from streamtrain.convert.dialect.detect import detect
from streamtrain.convert.dialect.options import ReadOptions
from streamtrain.convert.rows import iter_rows
from streamtrain.errors import DataError, UsageError
from streamtrain.shards.manifest import Manifest
from streamtrain.stream.dataset import open_shards

RANDOM = np.random.default_rng(23)
LABELS = np.arange(60) % 10
PIXELS = RANDOM.integers(0, 256, (60, 16))
PIXELS[:, [0, -1]] = 0  # dark at the corners, as digits are
NAMES = [f"pixel{i}" for i in range(16)]
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def joined(cells: Callable[[int], list[Any]], separator: str = ",", end: str = "\n", header: str = "") -> bytes:
    lines = [separator.join(map(str, cells(row))) for row in range(60)]
    return ("".join(line + end for line in ([header] if header else []) + lines)).encode()


def plain(row: int) -> list[Any]:
    return [LABELS[row], *PIXELS[row]]


def onehot(row: int) -> list[int]:
    return [int(k == LABELS[row]) for k in range(10)]


# The same 60 digits, each time written in another way, which is found without options.
WAYS: dict[str, tuple[bytes, str]] = {
    "commas": (joined(plain), "separated by commas"),
    "semicolons": (joined(plain, ";"), "separated by semicolons"),
    "tabs": (joined(plain, "\t"), "separated by tabs"),
    "spaces": (joined(plain, " "), "separated by spaces"),
    "runs of spaces": (joined(lambda r: [f"{c:4}" for c in plain(r)], " "), "separated by spaces"),
    "commas and spaces": (joined(plain, ", "), "separated by commas"),
    "CRLF": (joined(plain, end="\r\n"), "no header"),
    "CR": (joined(plain, end="\r"), "no header"),
    "no final newline": (joined(plain).removesuffix(b"\n"), "no header"),
    "mixed ends": (joined(plain).replace(b"\n", b"\r\n", 20).replace(b"\n", b"\r", 10), "no header"),
    "a BOM": (b"\xef\xbb\xbf" + joined(plain), "no header"),
    "a BOM and a header": (b"\xef\xbb\xbf" + joined(plain, header=",".join(["label", *NAMES])), "calls it label"),
    "a header": (joined(plain, header=",".join(["label", *NAMES])), "line 1 is a header: label, pixel0"),
    "a quoted header": (joined(plain, header='"' + '","'.join(["label", *NAMES]) + '"'), "calls it label"),
    "quoted numbers": (joined(lambda r: [f'"{c}"' for c in plain(r)]), "17 columns"),
    "a separator at the end": (joined(lambda r: [*plain(r), ""]), "one after the last too"),
    "tabs at the end": (joined(lambda r: [*plain(r), ""], "\t"), "one after the last too"),
    "spaces at the end": (joined(lambda r: [*plain(r), ""], " "), "separated by spaces"),
    "label last": (joined(lambda r: [*PIXELS[r], LABELS[r]]), "the label is the last column"),
    "label named in the middle": (
        joined(
            lambda r: [*PIXELS[r][:5], LABELS[r], *PIXELS[r][5:]],
            header=",".join([*NAMES[:5], "class", *NAMES[5:]]),
        ),
        "the label is column 6: the header calls it class",
    ),
    "label of another name": (
        joined(plain, header=",".join(["ziffer", *NAMES])),
        "the label is column 1: ziffer is named unlike a pixel",
    ),
    "label as a decimal": (joined(lambda r: [f"{LABELS[r]}.0000", *PIXELS[r]]), "the label is the first column"),
    "words": (joined(lambda r: [WORDS[LABELS[r]], *PIXELS[r]]), "the label is the first column"),
    "words, last": (joined(lambda r: [*PIXELS[r], WORDS[LABELS[r]]]), "the label is the last column"),
    "one-hot, last": (joined(lambda r: [*PIXELS[r], *onehot(r)]), "the label is the last 10 columns"),
    "one-hot, first": (joined(lambda r: [*onehot(r), *PIXELS[r]]), "the label is the first 10 columns"),
    "digits": (joined(lambda r: ["".join(map(str, onehot(r))), *PIXELS[r]]), "a 1 in the place of its class"),
    "an index": (
        joined(lambda r: [r, *plain(r)], header=",".join(["", "label", *NAMES])),
        "column 1 is left out: the header calls it ''",
    ),
    "a row number": (
        joined(lambda r: [1000 + r, *plain(r)]),
        "column 1 is left out: it holds a different whole number",
    ),
    "numbers for a header": (
        joined(plain, header=",".join(map(str, range(17)))),
        "line 1 is a header, since its numbers",
    ),
    "pipes": (joined(plain, "|"), "separated by pipes"),
    "an id": (
        joined(lambda r: [r, *PIXELS[r], LABELS[r]], header=",".join(["id", *NAMES, "label"])),
        "column 1 is left out: the header calls it 'id'",
    ),
    "a class list": (b"0,1,2,3,4,5,6,7,8,9\n" + joined(plain), "line 1 lists the 10 classes"),
    "a comment": (b"# made by hand\n\n" + joined(plain), "no header"),
    "decimals": (joined(lambda r: [LABELS[r], *(f"{p}.00" for p in PIXELS[r])]), "pixels are integers"),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_same_digits_are_found_however_they_are_written(tmp_path: Path, way: str) -> None:
    data, said = WAYS[way]
    source = tmp_path / "d.csv"
    source.write_bytes(data)
    conversion = convert(source, tmp_path / "out", workers=1)
    assert any(said in reason for reason in conversion.detection.reasons), conversion.detection.reasons
    table = pq.read_table(next((tmp_path / "out").glob("*.parquet")), columns=["label", "image"])
    schema = Manifest.load(tmp_path / "out").schema
    pixels = np.array([np.frombuffer(image, dtype=np.uint8) for image in table["image"].to_pylist()])
    names = [schema.classes[label] for label in table["label"].to_pylist()]
    assert np.array_equal(pixels, PIXELS)
    assert names == [WORDS[k] if "words" in way else str(k) for k in LABELS]
    assert schema.image_shape == (4, 4)
    totals = conversion.totals
    assert totals.lines == totals.header + totals.blank + totals.kept
    assert totals.header == way.endswith(("header", "list", "index", "id", "name", "middle"))


@pytest.mark.parametrize(
    ("low", "high", "dtype", "scale"),
    [
        (0, 16, "uint8", 1),
        (0, 100, "uint8", 1),
        (0, 1, "uint8", 1),
        (0, 4000, "uint16", 1),
        (-1, 1, "float32", 1000),
    ],
)
def test_the_range_is_the_exact_one_of_the_full_pass(
    tmp_path: Path, low: int, high: int, dtype: str, scale: int
) -> None:
    pixels = RANDOM.integers(low * scale, high * scale + 1, (60, 16)) / scale
    pixels[:, 3], pixels[7, 7], pixels[9, 9] = high, low, high
    source = tmp_path / "d.csv"
    source.write_bytes(joined(lambda r: [LABELS[r], *(f"{p:g}" for p in pixels[r])]))
    convert(source, tmp_path / "out", label="first", workers=1)
    schema = Manifest.load(tmp_path / "out").schema
    assert (schema.pixel_range, schema.dtype) == ((low, high), dtype)


# Texts with two possible readings: what the refusal says, and the option that it names.
UNDECIDED: dict[str, tuple[bytes, str, dict[str, Any]]] = {
    "a label at either end": (
        joined(lambda r: [LABELS[r], *PIXELS[r], (LABELS[r] + 3) % 10]),
        "it may be the first column or the last column. Pass `label='first'`, `label='last'` or `label='none'`",
        {"label": "first", "drop": ("last",)},
    ),
    "no label at all": (
        joined(lambda r: list(PIXELS[r][:15])),
        "neither the first column nor the last looks like one",
        {"label": "none"},
    ),
    "one-hot at one end, a label at the other": (
        joined(lambda r: [*onehot(r), *PIXELS[r][:15], (LABELS[r] + 1) % 10]),
        "it may be the last column or the first 10 columns. Pass `label='last'`, `label='1-10'` or",
        {"label": "1-10", "drop": ("last",)},
    ),
    "named classes counted from 0 or 1": (
        joined(lambda r: [1 + LABELS[r] % 8, *PIXELS[r]]),
        "counted from 0 or from 1? Declare it in a preset file: labels",
        {"classes": tuple("123456789")},
    ),
}


@pytest.mark.parametrize("case", UNDECIDED)
def test_if_two_readings_are_possible_both_are_named_and_the_option_decides(tmp_path: Path, case: str) -> None:
    data, said, options = UNDECIDED[case]
    source = tmp_path / "d.csv"
    source.write_bytes(data)
    asked = {"classes": tuple("abcdefghi"), "label": "first"} if "named" in case else {}
    for policy in ("error", "reject"):
        with pytest.raises(DataError) as error:
            convert(source, tmp_path / "out", on_bad_row=policy, workers=1, **asked)
        assert said in str(error.value)
        assert len(str(error.value)) - len(str(source)) < 250
    assert convert(source, tmp_path / "out", workers=1, **(asked | options)).totals.kept == 60


def test_named_classes_decide_where_the_count_begins(tmp_path: Path) -> None:
    source = tmp_path / "d.csv"
    source.write_bytes(joined(lambda r: [1 + LABELS[r], *PIXELS[r]]))
    conversion = convert(source, tmp_path / "out", classes=tuple("abcdefghij"), label="first", workers=1)
    assert "labels count from 1: 1 is a" in conversion.detection.reasons
    assert Manifest.load(tmp_path / "out").label_counts == [6] * 10


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"label": "18"}, "has no column '18'"),
        ({"label": "0"}, "has no column '0'"),
        ({"label": "label"}, "has no column 'label'"),
        ({"label": "9-3"}, "is not a range of columns"),
        ({"drop": ("nope",)}, "has no column 'nope'"),
        ({"delimiter": "colon"}, "'colon', but must be comma, semicolon, tab"),
        ({"shape": (5, 5)}, "`shape` 5x5 is 25 pixels, but a row has 16"),
        ({"max_rejected": 5}, "Pass `on_bad_row="),
    ],
)
def test_an_option_that_cannot_be_is_refused(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    source = tmp_path / "d.csv"
    source.write_bytes(joined(plain))
    with pytest.raises(UsageError) as error:
        convert(source, tmp_path / "out", **options)
    assert said in str(error.value)


def detected(data: bytes) -> str:
    """Return the dialect that is found, or the message of the refusal."""
    try:
        return repr(detect(data, path="d.csv", whole=True, options=ReadOptions()).dialect)
    except DataError as error:
        return str(error)


SPOILED = [
    "",
    "1,2,3",
    "a,b",
    '"',
    "#",
    ",".join(["x"] * 17),
    ",".join(["0"] * 18),
    "300," * 16 + "0",
    "-1," * 16 + "1.5",
]
BODIES = {name: data for name, (data, _) in WAYS.items() if "BOM" not in name and "comment" not in name}
BODIES |= {name: data for name, (data, _, _) in UNDECIDED.items()}


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(sorted(BODIES)),
    spoiled=st.lists(st.tuples(st.integers(1, 59), st.sampled_from(SPOILED)), max_size=6),
    seed=st.integers(0, 2**32),
)
def test_the_order_of_the_rows_changes_no_detection(name: str, spoiled: list[tuple[int, str]], seed: int) -> None:
    first, *rows = BODIES[name].splitlines()
    for at, text in spoiled:
        rows[at % len(rows)] = text.encode()
    before = detected(b"\n".join([first, *rows]) + b"\n")
    random.Random(seed).shuffle(rows)
    assert detected(b"\n".join([first, *rows]) + b"\n") == before


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(sorted(WAYS)),
    spoiled=st.lists(st.tuples(st.integers(5, 59), st.sampled_from(SPOILED)), min_size=1, max_size=6),
)
def test_odd_rows_never_change_a_detection(name: str, spoiled: list[tuple[int, str]]) -> None:
    data = WAYS[name][0]
    rows = data.splitlines()
    for at, text in spoiled:
        rows[at % len(rows) or 7] = text.encode()
    assert detected(b"\n".join(rows) + b"\n") == detected(b"\n".join(data.splitlines()) + b"\n")


def test_files_share_a_dialect_and_a_header_that_one_of_them_has(tmp_path: Path) -> None:
    lines = joined(plain, header=",".join(["label", *NAMES])).splitlines(keepends=True)
    for name, part in {"a": lines[:40], "b": lines[40:59], "c": lines[59:]}.items():  # as split(1) cuts a file
        (tmp_path / f"{name}.csv").write_bytes(b"".join(part))
    conversion = convert(tmp_path, tmp_path / "out", workers=1)
    assert (conversion.totals.header, conversion.totals.kept) == (1, 60)
    assert "3 files" in conversion.detection.reasons[0]
    (tmp_path / "d.csv").write_bytes(joined(plain, header=",".join(["label", *reversed(NAMES)])))
    with pytest.raises(DataError, match=r"d.csv differs from .*a.csv in names"):
        convert(tmp_path, tmp_path / "other", workers=1)


def test_a_prediction_reads_the_images_of_a_preset_upright(tmp_path: Path) -> None:
    images = RANDOM.integers(0, 256, (5, 28, 28))
    source = tmp_path / "letters.csv"
    source.write_text("".join(",".join(map(str, [k + 1, *images[k].T.ravel()])) + "\n" for k in range(5)))
    [rows] = iter_rows(source, features=784, preset="emnist-letters")
    assert np.array_equal(rows.block.pixels, images.reshape(5, 784))
    (tmp_path / "more.csv").write_text("")
    with pytest.raises(UsageError, match="names 2 files"):
        iter_rows(tmp_path, features=784)


def test_integers_that_float32_would_round_are_refused(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(0, (1 << 24) + 2, (40, 17))
    rows[:, 0] = np.arange(40) % 4
    np.savetxt(tmp_path / "d.csv", rows, fmt="%d", delimiter=",")
    with pytest.raises(UsageError, match="exact for integers up to 16,777,216 only"):
        convert(tmp_path / "d.csv", tmp_path / "out", label="first", pixel_range=(0, (1 << 24) + 1))
    rows[:, 1:] %= (1 << 24) + 1
    rows[5, 5] = 1 << 24
    np.savetxt(tmp_path / "d.csv", rows, fmt="%d", delimiter=",")
    convert(tmp_path / "d.csv", tmp_path / "out", label="first", pixel_range=(0, 1 << 24))
    (block,) = open_shards(tmp_path / "out").blocks()
    np.testing.assert_array_equal(block.pixels.astype(np.int64), rows[:, 1:])
