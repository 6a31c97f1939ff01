"""CSV files in a real S3 server, and on the web, become the shards that the same local files become."""

from __future__ import annotations

import functools
import gzip
import json
import zipfile
from pathlib import Path

import pytest
import stores
from shared import contents
from stores import put

from streamtrain import DataError, UsageError, convert
from streamtrain.convert import pipeline
from streamtrain.convert.options import ConvertOptions
from streamtrain.convert.pipeline import Progress, iter_convert
from streamtrain.convert.write.parallel import map_chunks
from streamtrain.storage.objects import ObjectPath

CHUNK_BYTES = 16_000  # of the digits, which are 130 kB: several ranges, each a shard


def shards_of(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in contents(folder).items() if name.endswith(".parquet")}


@pytest.fixture
def local(digits_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The shards of the local file, as conversions of the test make them too."""
    monkeypatch.setattr(pipeline, "map_chunks", functools.partial(map_chunks, chunk_bytes=CHUNK_BYTES))
    convert(digits_csv, tmp_path / "local")
    found = shards_of(tmp_path / "local")
    assert len(found) > 5
    return found


def test_a_plain_object_becomes_the_shards_of_the_file(
    bucket: ObjectPath, digits_csv: Path, tmp_path: Path, local: dict[str, bytes]
) -> None:
    put(bucket / "digits.csv", digits_csv.read_bytes())
    conversion = convert(f"{bucket}/digits.csv", tmp_path / "remote", workers=4)
    assert shards_of(tmp_path / "remote") == local
    [source] = conversion.manifests[""].sources
    [same] = convert(digits_csv, tmp_path / "again").manifests[""].sources
    assert (source.path, source.size, source.digest) == (f"{bucket}/digits.csv", same.size, same.digest)


def test_a_compressed_object_and_a_member_of_an_archive_do_too(
    bucket: ObjectPath, digits_csv: Path, tmp_path: Path, local: dict[str, bytes]
) -> None:
    put(bucket / "digits.csv.gz", gzip.compress(digits_csv.read_bytes()))
    with zipfile.ZipFile(tmp_path / "two.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(digits_csv, "data/digits.csv")
        archive.writestr("notes.txt", "not digits")
    put(bucket / "two.zip", (tmp_path / "two.zip").read_bytes())
    for number, name in enumerate(("digits.csv.gz", "two.zip:data/digits.csv")):
        convert(f"{bucket}/{name}", tmp_path / str(number))
        assert shards_of(tmp_path / str(number)) == local


def test_a_file_on_the_web_does_too(
    s3_server: stores.Server, bucket: ObjectPath, digits_csv: Path, tmp_path: Path, local: dict[str, bytes]
) -> None:
    put(bucket / "digits.csv", digits_csv.read_bytes())
    url = f"http://127.0.0.1:{s3_server.web}/buckets/{stores.BUCKET}/{bucket.key}"
    convert(f"{url}/digits.csv", tmp_path / "remote")
    assert shards_of(tmp_path / "remote") == local
    with pytest.raises(DataError, match="no list of its files"):
        convert(f"{url}/", tmp_path / "other")
    with pytest.raises(DataError, match="there is no such object"):
        convert(f"{url}/other.csv", tmp_path / "other")


@pytest.mark.parametrize("named", ["part/", "part", "part/*.csv"])
def test_a_folder_and_a_pattern_are_their_files_in_order(
    bucket: ObjectPath, digits_csv: Path, tmp_path: Path, local: dict[str, bytes], named: str
) -> None:
    header, *rows = digits_csv.read_bytes().splitlines(keepends=True)
    (tmp_path / "part").mkdir()
    for name, part in (("b.csv", rows[400:]), ("a.csv", rows[:400])):
        (tmp_path / "part" / name).write_bytes(header + b"".join(part))
        put(bucket / f"part/{name}", header + b"".join(part))
    put(bucket / "part/notes.md", b"# not digits")
    conversion = convert(f"{bucket}/{named}", tmp_path / "remote")
    convert(tmp_path / "part", tmp_path / "same")
    assert [source.path for source in conversion.manifests[""].sources] == [
        f"{bucket}/part/a.csv",
        f"{bucket}/part/b.csv",
    ]
    assert shards_of(tmp_path / "remote") == shards_of(tmp_path / "same")


def test_a_store_that_fails_for_moments_changes_no_byte(
    bucket: ObjectPath, proxy: stores.Proxy, digits_csv: Path, tmp_path: Path, local: dict[str, bytes]
) -> None:
    put(bucket / "digits.csv", digits_csv.read_bytes())
    proxy.faults = ["503", "", "reset", "", "cut", "cut", "stall", "503", "", "cut", "reset", "", "cut", "503"]
    convert(f"{bucket}/digits.csv", tmp_path / "remote", workers=3)
    assert not proxy.faults
    assert shards_of(tmp_path / "remote") == local


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_an_object_that_changes_on_the_way_is_an_error_and_leaves_nothing(
    bucket: ObjectPath, digits_csv: Path, tmp_path: Path, local: dict[str, bytes], compress: type[bytes]
) -> None:
    text = digits_csv.read_bytes() * 3
    put(bucket / "digits.csv", compress(text))
    steps = iter_convert(
        f"{bucket}/digits.csv", tmp_path / "remote", ConvertOptions(on_bad_row="reject", workers=1)
    )
    assert isinstance(next(steps), Progress)
    put(bucket / "digits.csv", compress(text[: len(text) // 2] + text))
    with pytest.raises(DataError, match=r"s3://.*digits\.csv changed while it was read"):
        list(steps)
    assert {path.name for path in tmp_path.iterdir()} == {"local"}


def test_a_bad_row_is_named_by_its_place_in_the_object(
    bucket: ObjectPath, digits_csv: Path, tmp_path: Path, local: dict[str, bytes]
) -> None:
    lines = digits_csv.read_bytes().splitlines(keepends=True)
    lines[500] = lines[500].replace(b",", b",x", 1)
    put(bucket / "digits.csv", b"".join(lines))
    with pytest.raises(DataError, match=r"^s3://digits/\S+/digits\.csv:501: column 2 "):
        convert(f"{bucket}/digits.csv", tmp_path / "remote")


def test_labels_are_read_from_an_object_too(bucket: ObjectPath, digits_csv: Path, tmp_path: Path) -> None:
    rows = [line.split(",", 1) for line in digits_csv.read_text(encoding="utf-8").splitlines()[1:]]
    for name, column in (("labels.csv", 0), ("images.csv", 1)):
        text = "".join(row[column].strip() + "\n" for row in rows).encode()
        put(bucket / name, text)
        (tmp_path / name).write_bytes(text)
    convert(f"{bucket}/images.csv", tmp_path / "remote", labels=f"{bucket}/labels.csv")
    convert(tmp_path / "images.csv", tmp_path / "local", labels=tmp_path / "labels.csv")
    assert shards_of(tmp_path / "remote") == shards_of(tmp_path / "local")


def test_predictions_of_an_object_are_those_of_the_file(
    bucket: ObjectPath, digits_csv: Path, shards: Path, call_cli: object, tmp_path: Path
) -> None:
    assert callable(call_cli)
    put(bucket / "digits.csv", digits_csv.read_bytes())
    assert call_cli("train", shards, "--out", "run", "--epochs", "1").returncode == 0
    remote = call_cli("predict", "run", f"{bucket}/digits.csv", "--label", "first")
    assert remote.returncode == 0
    assert remote.stdout == call_cli("predict", "run", digits_csv, "--label", "first").stdout
    assert len(remote.stdout.splitlines()) == 601


def test_the_command_line_reads_an_object_and_inspects_it(
    bucket: ObjectPath, digits_csv: Path, call_cli: object
) -> None:
    assert callable(call_cli)
    put(bucket / "digits.csv", digits_csv.read_bytes())
    assert call_cli("convert", f"{bucket}/digits.csv", "shards", "-q").returncode == 0
    result = json.loads(call_cli("inspect", f"{bucket}/digits.csv", "--json").stdout)
    assert (result["kind"], result["rows"]) == ("csv", 600)
    missing = call_cli("convert", f"{bucket}/other.csv", "other")
    assert missing.returncode == 1
    assert missing.stderr == f"error: {bucket}/other.csv: there is no such object. Check the bucket and the name\n"


def test_what_no_store_has_is_refused(bucket: ObjectPath, tmp_path: Path) -> None:
    put(bucket / "notes.md", b"# no digits")
    with pytest.raises(DataError, match="has no CSV files"):
        convert(f"{bucket}/", tmp_path / "shards")
    with pytest.raises(DataError, match="no object matches"):
        convert(f"{bucket}/*.csv", tmp_path / "shards")


def test_nothing_is_written_to_a_store_yet(
    digits_csv: Path, shards: Path, call_cli: object, tmp_path: Path
) -> None:
    assert callable(call_cli)
    for words in (
        ("convert", digits_csv, "s3://digits/shards"),
        ("convert", digits_csv, "s3://digits/shards", "--resume"),
        ("shuffle", shards, "s3://digits/shards"),
        ("train", shards, "--out", "s3://digits/run"),
        ("train", "--resume", "s3://digits/run"),
    ):
        done = call_cli(*words)
        assert done.returncode == 2, done.stderr
        assert f"error: s3://digits/{'run' if 'train' in words else 'shards'} is in a store" in done.stderr
    with pytest.raises(UsageError, match="can only be read yet"):
        convert(digits_csv, "s3://digits/shards")
    assert not [*tmp_path.iterdir()]
