"""A source gives every byte of its text or an error, however it is packed."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from shared import source_digest

from streamtrain.convert import convert
from streamtrain.convert.text import text_file as opening
from streamtrain.convert.text.chunks import chunks
from streamtrain.convert.text.decompress import FORMATS, zstd
from streamtrain.convert.text.physical_file import STDIN
from streamtrain.convert.text.sources import find_sources
from streamtrain.convert.text.text_file import TextFile
from streamtrain.errors import DataError, UsageError
from streamtrain.shards.manifest import Manifest

TEXT = "".join(f"{i % 10},{i % 256},{i * 7 % 256},0,{i * i % 256}\n" for i in range(20_000)).encode()
HEAD = b"".join(TEXT.splitlines(keepends=True)[:300])
PACK: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstd.compress,
}


def text_of(path: Path, *, size: int = 100_000) -> bytes:
    with TextFile(path) as file:
        text = b"".join(iter(lambda: file.read(size), b""))
        raw_bytes, facts = file.raw_bytes, file.facts()
    if path != STDIN:
        assert facts.digest == source_digest(path.read_bytes())
        assert facts.size == path.stat().st_size == raw_bytes or zipfile.is_zipfile(path)
    return text


def zipped(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name.replace("__dot__", "."), text)
    return path


@pytest.mark.parametrize("kind", PACK)
@pytest.mark.parametrize("size", [1 << 20, 4093, 1])
def test_a_compressed_file_gives_its_text_whatever_its_name(tmp_path: Path, kind: str, size: int) -> None:
    source = tmp_path / "data.csv"
    text = TEXT if size > 1 else TEXT[:2000]
    source.write_bytes(PACK[kind](text))
    assert text_of(source, size=size) == text


@pytest.mark.parametrize("kind", PACK)
def test_a_compressed_file_of_several_members_gives_them_all(tmp_path: Path, kind: str) -> None:
    source = tmp_path / "data"
    source.write_bytes(b"".join(PACK[kind](TEXT[i : i + 50_000]) for i in range(0, len(TEXT), 50_000)))
    assert text_of(source) == TEXT


@pytest.mark.parametrize("kind", PACK)
def test_a_compressed_file_cut_anywhere_is_an_error_that_names_it(tmp_path: Path, kind: str) -> None:
    packed = PACK[kind](TEXT[:3000])
    for cut in range(8, len(packed), 5):
        source = tmp_path / f"data.{kind}"
        source.write_bytes(packed[:cut])
        with pytest.raises(DataError, match=f"data.{kind} is a damaged or truncated .* Copy or download it again"):
            text_of(source)


@pytest.mark.parametrize("kind", PACK)
@pytest.mark.parametrize("tail", [b"x", b"garbage, and more of it than a header takes", b"\x1f\x8b\x08"])
def test_garbage_after_a_compressed_file_is_an_error(tmp_path: Path, kind: str, tail: bytes) -> None:
    source = tmp_path / "data"
    source.write_bytes(PACK[kind](TEXT) + tail)
    with pytest.raises(DataError, match="damaged or truncated"):
        text_of(source)


def test_zero_bytes_after_a_compressed_file_are_padding(tmp_path: Path) -> None:
    source = tmp_path / "data"
    source.write_bytes(gzip.compress(TEXT) + bytes(300_000) + gzip.compress(b"1,2\n") + bytes(4))
    assert text_of(source) == TEXT + b"1,2\n"


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zip"])
def test_one_flipped_bit_is_an_error_or_changes_nothing(tmp_path: Path, kind: str) -> None:
    text, source = TEXT[:600], tmp_path / "data"
    packed = zipped(source, d=text).read_bytes() if kind == "zip" else PACK[kind](text)
    changed = []
    for bit in range(0, 8 * len(packed), 11):
        broken = bytearray(packed)
        broken[bit // 8] ^= 1 << bit % 8
        if not broken.startswith((*FORMATS, *opening._ZIP)):
            continue  # no longer known as compressed: refused as binary
        source.write_bytes(broken)
        try:
            changed += [bit] if text_of(source) != text else []
        except DataError:
            continue
    assert changed == []


def test_a_zip_without_a_data_file_is_refused(tmp_path: Path) -> None:
    for members in ({}, {"data/": b"", "__MACOSX/._x.csv": b"x"}):
        path = zipped(tmp_path / "d.zip", **members)
        with pytest.raises(DataError, match="holds no data file"):
            TextFile(path)


def test_a_zip_gives_its_one_file_or_the_chosen_one(tmp_path: Path) -> None:
    one = zipped(tmp_path / "one.zip", **{"a.csv": TEXT, "__MACOSX/._a.csv": b"\0\5\x16\7", "folder/": b""})
    assert text_of(one) == TEXT
    two = zipped(tmp_path / "two.zip", **{"train.csv": TEXT, "in/test.csv": HEAD})
    with pytest.raises(DataError, match=r"2 files \(train.csv, in/test.csv\). Choose one: '.*two.zip:train.csv'"):
        TextFile(two)
    with TextFile(tmp_path / "two.zip:in/test.csv") as file:
        assert file.read(1 << 20) == HEAD
    with pytest.raises(DataError, match=r"no member 'nope.csv'. It has train.csv"):
        TextFile(tmp_path / "two.zip:nope.csv")
    conversion = convert(f"{two}:in/test.csv", tmp_path / "out", label="first")
    assert conversion.totals.kept == 300
    assert Manifest.load(tmp_path / "out").sources[0].digest == source_digest(two.read_bytes())


def test_a_truncated_zip_is_an_error(tmp_path: Path) -> None:
    source = zipped(tmp_path / "a.zip", **{"a.csv": TEXT})
    packed = source.read_bytes()
    for cut in (30, len(packed) // 2, len(packed) - 1):
        source.write_bytes(packed[:cut])
        with pytest.raises(DataError, match="damaged or truncated zip"):
            text_of(source)


def test_the_zip_of_real_digits_with_its_macos_member_converts(real_data: Path, tmp_path: Path) -> None:
    conversion = convert(real_data / "samples" / "mnist_test_headerless.csv.zip", tmp_path / "out")
    assert conversion.totals.lines == conversion.totals.kept == 10_000
    assert sum(Manifest.load(tmp_path / "out").pixels["sum"]) == 264_923_200


@pytest.mark.parametrize("ends", [b"\r", b"\r\n", b"\n"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_every_line_end_reads_the_same_at_any_size_and_place(tmp_path: Path, ends: bytes, size: int) -> None:
    source = tmp_path / "data.csv"
    source.write_bytes(TEXT[:3000].replace(b"\n", ends) + b"7,7\r\r8\r\n9\n\r")
    expected = TEXT[:3000].replace(b"\n", ends if ends == b"\r\n" else b"\n") + b"7,7\n\n8\r\n9\n\n"
    assert text_of(source, size=size) == expected
    with TextFile(source) as file:
        assert file.plain
        read = list(chunks(file, chunk_bytes=size))
        assert b"".join(chunk.text(0, chunk.size) for chunk in read) == expected
        assert sum(chunk.lines for chunk in read) == expected.count(b"\n")
        assert file.facts().digest == source_digest(source.read_bytes())


def stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BufferedReader(io.BytesIO(data))))


@pytest.mark.parametrize("kind", ["plain", *PACK])
def test_standard_input_is_sniffed_and_converted_without_a_seek(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    text = TEXT * 60  # 20 MB, more than is kept
    packed = PACK[kind](text) if kind != "plain" else text
    stdin(monkeypatch, packed)
    conversion = convert("-", tmp_path / "out", label="first")
    assert conversion.totals.kept == 60 * 20_000
    [source] = Manifest.load(tmp_path / "out").sources
    assert (source.path, source.size, source.digest) == ("-", len(packed), source_digest(packed))
    if kind == "plain":
        with pytest.raises(UsageError, match="only once"):
            TextFile(STDIN)


def test_standard_input_is_named_once_and_cannot_be_a_zip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="Name - once"):
        find_sources(["-", "-"])
    stdin(monkeypatch, zipped(tmp_path / "a.zip", **{"a.csv": TEXT}).read_bytes())
    with pytest.raises(DataError, match="unzip -p"):
        convert("-", tmp_path / "out")


def test_a_folder_gives_its_csv_files_sorted_and_nothing_else(tmp_path: Path) -> None:
    for name in ("b.csv", "a.CSV.gz", ".hidden.csv", "readme.md", "c.tra", "sub.csv/x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(TEXT[:100])
    assert [p.name for p in find_sources([tmp_path])] == ["a.CSV.gz", "b.csv", "c.tra"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="folder without CSV files"):
        find_sources([tmp_path / "empty"])
    with pytest.raises(DataError, match="no file matches"):
        find_sources([tmp_path / "*.nope"])


def test_a_pipe_by_name_is_refused_with_the_way_to_read_it() -> None:
    with pytest.raises(UsageError, match="convert - DEST"):
        TextFile(Path("/dev/null"))


def test_a_file_of_carriage_returns_becomes_the_shards_of_one_of_newlines(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(TEXT)
    (tmp_path / "b.csv").write_bytes(lzma.compress(TEXT.replace(b"\n", b"\r")))
    for name in ("a", "b"):
        convert(tmp_path / f"{name}.csv", tmp_path / name, label="first")
    one, other = (Manifest.load(tmp_path / name) for name in ("a", "b"))
    assert one.shards == other.shards
    assert one.totals == other.totals
