"""Files of one data set are read as one; what is not a CSV is named for what it is."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from streamtrain.convert import convert
from streamtrain.convert.rows import iter_rows
from streamtrain.errors import DataError, StreamtrainError

if TYPE_CHECKING:
    from conftest import Digits

NAMES = [f"pixel{i}" for i in range(64)]
GRID = [f"{i // 8 + 1}x{i % 8 + 1}" for i in range(64)]


def text(rows: Any, *names: str) -> str:
    return "".join(",".join(map(str, row)) + "\n" for row in ([names] if names else []) + [*rows.tolist()])


def parts(digits: Callable[..., Digits]) -> tuple[np.ndarray, np.ndarray]:
    made = digits()
    both = np.column_stack([made.labels, made.pixels])
    return both[:80], both[80:]


def found(folder: Path) -> np.ndarray:
    """Return (rows, 65): the class and the pixels of each row, in the order of the lines."""
    classes = json.loads((folder / "manifest.json").read_text())["schema"]["classes"]
    table = pq.read_table(sorted(folder.glob("*.parquet")))
    images = [np.frombuffer(image, dtype=np.uint8) for image in table["image"].to_pylist()]
    return np.column_stack([[int(classes[k]) for k in table["label"].to_pylist()], images])


@pytest.mark.parametrize(
    ("files", "options", "said"),
    [
        ({"part-00000": "", "part-00001": "rows"}, {}, "1 of them have no rows"),
        ({"part-00000.csv": "header", "part-00001.csv": "header rows"}, {}, "part-00000.csv"),
        ({"_SUCCESS": "", ".x.crc": "7", "part-00000": "rows"}, {}, "separated by commas"),
        ({"a.csv": "header rows", "b.csv": "grid rows"}, {"label": "first"}, "2 files"),
        ({"a.csv": "index rows", "b.csv": "index few"}, {}, "column 1 is left out"),
        ({"a.csv": "title header rows", "b.csv": "header rows"}, {}, "is skipped: it is a title"),
        ({"a.csv": "rows", "b.csv": "rows as 3.0"}, {}, "2 files"),
    ],
)
def test_the_parts_of_a_set_are_read_as_one(
    digits: Callable[..., Digits], tmp_path: Path, files: dict[str, str], options: dict[str, Any], said: str
) -> None:
    one, two = parts(digits)
    folder, rows = tmp_path / "set", iter([one, two])
    folder.mkdir()
    expected = []
    for name, what in files.items():
        words = what.split()
        body = ""
        if "rows" in words or "few" in words:
            kept = next(rows)[: 3 if "few" in words else None]
            expected.append(kept)
            first = np.arange(len(kept))[:, None] + 500 * (len(expected) - 1) + 1
            body = text(np.hstack([first, kept]) if "index" in words else kept)
            if "3.0" in words:
                body = "".join(line.replace(",", ".0,", 1) for line in body.splitlines(keepends=True))
        heads = {
            "title": "Digits" + "," * 64,
            "header": ",".join(["label", *NAMES]),
            "grid": ",".join(["label", *GRID]),
        }
        head = "".join(heads[word] + "\n" for word in words if word in heads)
        (folder / name).write_text(head + body if what != "7" else what)
    conversion = convert(folder, tmp_path / "out", workers=1, **options)
    assert any(said in reason for reason in conversion.detection.reasons), conversion.detection.reasons
    assert np.array_equal(found(tmp_path / "out"), np.vstack(expected))
    assert conversion.totals.rejected == 0


def test_files_that_differ_are_refused_with_the_way_to_read_them_as_one(
    digits: Callable[..., Digits], tmp_path: Path
) -> None:
    one, two = parts(digits)
    (tmp_path / "a.csv").write_text(text(one, "label", *NAMES))
    (tmp_path / "b.csv").write_text(text(two, "label", *GRID))
    with pytest.raises(DataError, match=r"names: column 2 is '1x1', not 'pixel0'.*pass `label='1'`"):
        convert(tmp_path, tmp_path / "out")
    (tmp_path / "b.csv").write_text(text(two[:, :50], "label", *NAMES[:49]))
    with pytest.raises(
        DataError, match=r"differs from .*a.csv in fields: '50', not '65'. Convert them separately$"
    ):
        convert(tmp_path, tmp_path / "out")
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("")
    with pytest.raises(DataError, match="is empty"):
        convert(tmp_path, tmp_path / "out")


def packed(name: str, data: bytes) -> bytes:
    file = io.BytesIO()
    if name == "tar":
        with tarfile.open(fileobj=file, mode="w") as tar:
            member = tarfile.TarInfo("train.csv")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        return gzip.compress(file.getvalue())
    with zipfile.ZipFile(file, "w") as archive:
        for member in {"xlsx": ["[Content_Types].xml", "xl/workbook.xml"], "npz": ["x.npy", "y.npy"]}[name]:
            archive.writestr(member, data)
    return file.getvalue()


FOREIGN: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "tar.gz": (lambda data: packed("tar", data), "is a tar archive"),
    "xlsx": (lambda data: packed("xlsx", data), "is an Excel workbook"),
    "npz": (lambda data: packed("npz", data), "holds NumPy arrays"),
    "gzip twice": (lambda data: gzip.compress(gzip.compress(data)), "is compressed with gzip twice"),
    "npy": (lambda data: b"\x93NUMPY\1\0" + data, "is a NumPy array"),
    "idx": (lambda data: b"\0\0\x08\x03" + data, "is an IDX file of images"),
    "parquet": (lambda data: b"PAR1" + data, "is a Parquet file"),
    "JSON": (lambda data: json.dumps([{"label": 3, "image": [0] * 64}] * 20).encode(), "is JSON"),
    "one long line": (lambda data: data[:20] + b",0" * (5 << 20), "is longer than 8 MB"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_not_a_csv_is_named(digits: Callable[..., Digits], tmp_path: Path, name: str) -> None:
    pack, said = FOREIGN[name]
    one, _ = parts(digits)
    source = tmp_path / "d.csv"
    source.write_bytes(pack(text(one).encode()))
    with pytest.raises(DataError, match=said) as error:
        convert(source, tmp_path / "out")
    assert len(str(error.value)) - len(str(source)) < 250
    assert not (tmp_path / "out").exists()


def test_a_web_address_and_a_pipe_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is a web address\. Download the file first"):
        convert("ftp://example.org/train.csv", tmp_path / "out")
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(StreamtrainError, match="is not an ordinary file"):
        convert(tmp_path / "pipe.csv", tmp_path / "out")


@pytest.mark.parametrize("head", [None, ["", *map(str, range(64))], ["id", *NAMES], [*map(str, range(1, 66))]])
def test_a_prediction_finds_header_and_index_as_a_conversion_does(
    digits: Callable[..., Digits], tmp_path: Path, head: list[str] | None
) -> None:
    made = digits()
    source = tmp_path / "d.csv"
    indexed = np.column_stack([np.arange(len(made.labels)), made.pixels])
    source.write_text(text(indexed, *(head or ())))
    [rows] = iter_rows(source, features=64)
    assert np.array_equal(rows.block.pixels, made.pixels)
    assert rows.ordinals.tolist() == list(range(len(made.labels)))
    convert(source, tmp_path / "out")
    table = pq.read_table(sorted((tmp_path / "out").glob("*.parquet")))
    assert table["line"].to_pylist() == [i + 1 + bool(head) for i in range(len(made.labels))]
