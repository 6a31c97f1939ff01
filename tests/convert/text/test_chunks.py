"""However a source is cut, and in any number of threads, its rows, line numbers and rejected rows are the same."""

from __future__ import annotations

import functools
import gzip
import json
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from shared import contents, source_digest

from streamtrain.convert import convert
from streamtrain.convert import pipeline as conversion
from streamtrain.convert.dialect.detect import ReadOptions, detect
from streamtrain.convert.dialect.dialect import Dialect
from streamtrain.convert.parse.parse import parse_chunk
from streamtrain.convert.text import chunks as module
from streamtrain.convert.text.chunks import Chunk, ChunkBuffer, chunks
from streamtrain.convert.text.text_file import TextFile
from streamtrain.convert.write.parallel import map_chunks
from streamtrain.errors import DataError
from streamtrain.shards.manifest import Manifest

FIELDS = 17


def awkward(rows: int) -> bytes:
    """Return digits and all kinds of lines: bad, blank, comments, a header again, any line end."""
    random = np.random.default_rng(rows)
    values = np.where(random.random((rows, FIELDS)) < 0.6, 0, random.integers(0, 256, (rows, FIELDS)))
    values[:, 0] = random.integers(0, 10, rows)
    header = ",".join(["label", *(f"p{i}" for i in range(1, FIELDS))])
    lines = [header]
    for number, row in enumerate(values.tolist()):
        line = ",".join(map(str, row))
        odd = {3: line + ",7", 8: "", 13: "# note", 21: header, 27: "1,x" + line[3:], 34: "é,é", 40: f" {line}"}
        lines.append(odd.get(number % 50, line))
    ends = ["\r\n" if i % 7 == 0 else "\r" if i % 31 == 30 else "\n" for i in range(len(lines) - 1)]
    return "".join(line + end for line, end in zip(lines, [*ends, ""], strict=True)).encode()


def findings(paths: list[Path], dialect: Dialect, *, chunk_bytes: int, workers: int) -> dict[str, Any]:
    """Return all that a pass finds in the files, with the chunks joined."""

    def work(chunk: Chunk, number: int, buffer: ChunkBuffer) -> tuple[Any, ...]:
        parsed = parse_chunk(chunk, dialect, buffer)
        block, counts = parsed.block, (parsed.lines, parsed.header, parsed.blank, parsed.repeated_headers)
        return block.pixels.tolist(), block.labels.tolist(), block.lines.tolist(), list(parsed.bad), counts

    steps = list(map_chunks(paths, work, workers=workers, chunk_bytes=chunk_bytes))
    pixels, labels, lines, bad, counts = zip(*(step.result for step in steps), strict=True)
    return {
        "rows": [list(chain(*pixels)), list(chain(*labels)), list(chain(*lines))],
        "bad": list(chain(*bad)),
        "counts": np.sum(counts, axis=0).tolist(),
        "digests": [step.facts.digest for step in steps if step.facts],
        "read": [step.bytes_read for step in steps if step.facts],
    }


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    path = tmp_path / "d.csv"
    path.write_bytes(awkward(60))
    return path


def dialect_of(path: Path) -> Dialect:
    return detect(path.read_bytes(), path=str(path), whole=True, options=ReadOptions(label="first")).dialect


def test_chunks_of_every_size_from_a_byte_to_two_rows_find_the_same(plain: Path) -> None:
    packed = plain.with_suffix(".csv.gz")
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    text = plain.read_bytes()
    dialect = dialect_of(plain)
    longest = max(map(len, text.splitlines()))
    for paths in ([plain], [packed], [plain, packed, plain]):
        whole = findings(paths, dialect, chunk_bytes=1 << 20, workers=1)
        assert whole["counts"][0] == len(paths) * len(text.splitlines())
        assert (len(whole["rows"][0]), len(whole["bad"])) == (len(paths) * 52, len(paths) * 4)
        assert whole["digests"] == [source_digest(path.read_bytes()) for path in paths]
        assert whole["read"] == [path.stat().st_size for path in paths]
        sizes = range(1, longest + 3) if paths != [plain, packed, plain] else range(5, 2 * longest, 23)
        for size in sizes:
            assert findings(paths, dialect, chunk_bytes=size, workers=1 + size % 8) == whole, size


def test_a_chunk_holds_the_lines_that_begin_in_its_range(plain: Path) -> None:
    text = plain.read_bytes()
    with TextFile(plain) as file:
        for chunk in chunks(file, chunk_bytes=100):
            assert chunk.offset == 0 or text[chunk.offset - 1 : chunk.offset] in (b"\n", b"\r")
            number = chunk.offset // 100
            last = chunk.text(0, chunk.size).rstrip(b"\r\n").rfind(b"\n") + 1
            assert number * 100 <= chunk.offset + last < (number + 1) * 100
            assert chunk.data[chunk.size :][:16].tolist() == [10] * 16


def rows_and_ledger(folder: Path) -> tuple[Any, ...]:
    manifest = Manifest.load(folder)
    table = pq.read_table([folder / shard.file for shard in manifest.shards])
    ledger = [json.loads(line) for line in (folder / "rejected.jsonl").read_text().splitlines()]
    facts = (manifest.totals, manifest.schema, manifest.sources, manifest.label_counts, manifest.label_disorder)
    return table.to_pydict(), ledger, facts, manifest.pixels


@pytest.mark.parametrize("times", [6, pytest.param(1000, marks=pytest.mark.long)])
def test_conversions_in_chunks_of_random_sizes_by_1_to_8_workers_are_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    source = tmp_path / "d.csv"
    source.write_bytes(awkward(800))
    random = np.random.default_rng(times)
    how: dict[str, Any] = {"label": "first", "on_bad_row": "reject", "overwrite": True}
    convert(source, tmp_path / "whole", **how)
    whole = rows_and_ledger(tmp_path / "whole")
    assert len(whole[1]) == 48
    for size in random.integers(300, source.stat().st_size, times).tolist():
        monkeypatch.setattr(conversion, "map_chunks", functools.partial(map_chunks, chunk_bytes=size))
        workers = [1, int(random.integers(2, 9))]
        for number in workers:
            convert(source, tmp_path / str(number), workers=number, **how)
            assert rows_and_ledger(tmp_path / str(number)) == whole, (size, number)
        assert contents(tmp_path / str(workers[0])) == contents(tmp_path / str(workers[1]))


def test_a_line_that_never_ends_is_an_error_and_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LONGEST_LINE", 1 << 20)
    for name, pack in (("d.csv", bytes), ("d.csv.gz", gzip.compress)):
        source = tmp_path / name
        source.write_bytes(pack(b"1,2,3\n" * 10 + b"1" * (3 << 20)))
        with TextFile(source) as file, pytest.raises(DataError, match="a line of over 1 MiB before byte"):
            list(chunks(file, chunk_bytes=1000))


def test_an_error_in_one_thread_ends_them_all(plain: Path) -> None:
    def work(chunk: Chunk, number: int, buffer: ChunkBuffer) -> int:
        if number == 3:
            raise DataError("chunk 3")
        return number

    steps = map_chunks([plain], work, workers=4, chunk_bytes=100)
    assert [next(steps).result for _ in range(3)] == [0, 1, 2]
    with pytest.raises(DataError, match="chunk 3"):
        next(steps)


def test_rows_of_10_001_columns_are_converted(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    rows = np.where(random.random((40, 10_001)) < 0.8, 0, random.integers(0, 256, (40, 10_001)))
    rows[:, 0] = np.arange(40) % 10
    source = tmp_path / "wide.csv"
    source.write_text("".join(",".join(map(str, row)) + "\n" for row in rows.tolist()))
    done = convert(source, tmp_path / "out", label="first")
    assert done.schema.image_shape == (100, 100)
    images = pq.read_table(tmp_path / "out" / "shard-00000.parquet")["image"].to_pylist()
    assert np.array_equal([np.frombuffer(image, dtype=np.uint8) for image in images], rows[:, 1:])
