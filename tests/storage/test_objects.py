"""Objects in a real S3 server: what is read, what is refused, and what a store that fails for a moment changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import stores
from stores import put

from streamtrain.errors import DataError, UsageError
from streamtrain.storage import objects
from streamtrain.storage.object_file import ObjectFile
from streamtrain.storage.objects import NoSuchObjectError, ObjectPath, location

DATA = bytes(range(256)) * 40_000  # 10 MB


def test_a_url_is_an_object_and_a_path_stays_a_path() -> None:
    assert location("s3://bucket/a//b.csv") == ObjectPath("s3://bucket", "a/b.csv")
    assert location(Path("s3://bucket/b.csv")) == ObjectPath("s3://bucket", "b.csv")
    assert str(location("S3://bucket/b.csv")) == "s3://bucket/b.csv"
    assert location("https://host:8080/x/y.csv.gz").parent.name == "x"
    for local in ("s3", "s3:/bucket/b.csv", "data/train.csv", "C:/x", "-"):
        assert location(local) == Path(local)


def test_an_address_with_a_query_is_refused_with_what_to_do() -> None:
    with pytest.raises(UsageError, match="curl -o"):
        location("https://host/train.csv?signature=abc")


def test_ranges_whole_objects_and_names_are_read(bucket: ObjectPath) -> None:
    put(bucket / "a.bin", DATA)
    put(bucket / "sub/b.bin", b"b")
    facts = (bucket / "a.bin").stat()
    assert facts.size == len(DATA)
    assert (bucket / "a.bin").read_range(1_000_001, 1_000_100, facts) == DATA[1_000_001:1_000_100]
    assert (bucket / "a.bin").read_bytes() == DATA
    assert bucket.names() == ["a.bin", "sub/"]
    assert not (bucket / "c.bin").exists()
    assert (bucket / "sub/b.bin").exists()


def test_a_file_is_read_on_and_at_any_place(bucket: ObjectPath) -> None:
    put(bucket / "a.bin", DATA)
    with ObjectFile(bucket / "a.bin") as file:
        assert file.read() == DATA
        file.seek(5_000_003)
        assert file.read(100) == DATA[5_000_003:5_000_103]
        file.seek(-10, os.SEEK_END)
        assert file.read(100) == DATA[-10:]
        part = bytearray(1000)
        assert file.read_at(len(DATA) - 300, memoryview(part)) == 300
        assert part[:300] == DATA[-300:]
        assert file.read_at(len(DATA), memoryview(part)) == 0


def test_an_object_that_changes_is_never_read_as_a_mixture(bucket: ObjectPath) -> None:
    put(bucket / "a.bin", DATA)
    with ObjectFile(bucket / "a.bin") as file:
        assert file.read(1000) == DATA[:1000]
        put(bucket / "a.bin", DATA[::-1])
        with pytest.raises(DataError, match=r"a\.bin changed while it was read"):
            file.read()


@pytest.mark.parametrize("fault", ["503", "reset", "cut", "stall"])
def test_what_a_store_refuses_for_a_moment_is_asked_again(
    bucket: ObjectPath, proxy: stores.Proxy, fault: str
) -> None:
    put(bucket / "a.bin", DATA)
    proxy.faults = ["", fault, fault]
    facts = (bucket / "a.bin").stat()
    assert (bucket / "a.bin").read_range(3, 5_000_000, facts) == DATA[3:5_000_000]
    assert proxy.seen[-3:] == [fault, fault, ""]


def test_errors_say_what_to_do_in_one_line(
    bucket: ObjectPath, s3_server: stores.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NoSuchObjectError, match=r"^s3://digits/\S+/a\.bin: there is no such object\. Check"):
        (bucket / "a.bin").stat()
    with pytest.raises(NoSuchObjectError, match=r"^s3://other/a: there is no such object\. Check the bucket"):
        ObjectPath("s3://other", "a").read_bytes()
    with pytest.raises(DataError, match="no such object"):
        ObjectPath("s3://other", "").names()
    objects._store.cache_clear()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    for ask in (bucket.stat, bucket.read_bytes, bucket.names):
        with pytest.raises(DataError, match=r"access denied\)\. Check them, and their rights$"):
            ask()
    objects._store.cache_clear()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setattr(objects, "RETRY_SECONDS", 1)
    with pytest.raises(
        DataError, match=r"cannot be reached: .*\. Check the address and the network"
    ) as unreachable:
        bucket.stat()
    assert len(str(unreachable.value)) < 300
