"""The kernel keeps what the careful path keeps, to the value, and refuses what it is not sure of."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrain.convert.dialect.dialect import Dialect
from streamtrain.convert.parse.parse import Parsed, parse_chunk
from streamtrain.convert.text.chunks import Chunk, ChunkBuffer
from streamtrain.native import parse as kernel

MUTANTS = [
    b"",
    b",",
    b"\n",
    b"\r",
    b" ",
    b'"',
    b"-",
    b"+",
    b".",
    b"e",
    b"x",
    b"\0",
    b"\xff",
    b"/",
    b":",
    b"9",
    b"00",
]


def dialect(fields: int, label: int | None, *, delimiter: str = ",", high: int = 255) -> Dialect:
    pixels = fields - (label is not None)
    return Dialect(
        delimiter=delimiter,
        header=False,
        names=(),
        fields=fields,
        label=label,
        label_kind="number",
        decimal=False,
        dtype="uint8",
        low=0,
        high=high,
        declared_range=True,
        classes=(),
        image_shape=(pixels,),
    )


def chunk(text: bytes) -> Chunk:
    data = np.frombuffer(text + b"\n" * kernel.PADDING, dtype=np.uint8).copy()
    return Chunk(data, len(text), "d.csv", 0, kernel.count_lines(data, len(text)), 1, 1)


def facts(parsed: Parsed) -> tuple[object, ...]:
    block = parsed.block
    bad = [(row.line, row.column, row.reason, row.value, row.raw, row.byte_offset) for row in parsed.bad]
    counts = (parsed.lines, parsed.blank, parsed.comments, parsed.repeated_headers)
    return block.pixels.tolist(), block.labels.tolist(), block.lines.tolist(), bad, counts


def carefully(text: bytes, how: Dialect) -> tuple[object, ...]:
    """What the careful path alone says: pixels of two bytes are none for the kernel."""
    wide = replace(how, dtype="uint16")
    assert not wide.fits_kernel
    return facts(parse_chunk(chunk(text), wide, ChunkBuffer()))


class Kernel(NamedTuple):
    """Everything that the kernel writes."""

    pixels: list[list[int]]
    labels: list[int]
    lines: list[int]
    odd: list[list[int]]
    blank: int


def run(parse: object, text: bytes, how: Dialect, *, skip: int = 0) -> Kernel:
    of = chunk(text)
    rows = (of.size + 1) // (2 * how.fields)
    pixels, counts = np.full((rows, how.image_shape[0]), 99, dtype=np.uint8), np.zeros(3, dtype=np.int64)
    labels, lines = np.zeros(rows, dtype=np.int32), np.zeros(rows, dtype=np.int32)
    odd, classes = np.zeros((of.lines, 3), dtype=np.int32), np.arange(kernel.LABELS, dtype=np.int32)
    label = -1 if how.label is None else how.label
    with np.errstate(over="ignore"):  # the Python function wraps around as the compiled one does
        parse(  # type: ignore[operator]
            *(of.data, of.size, ord(how.delimiter), how.fields, label, int(how.high), classes, skip),
            *(pixels, labels, lines, odd, counts),
        )
    kept, blank, refused = counts.tolist()
    return Kernel(
        pixels[:kept].tolist(), labels[:kept].tolist(), lines[:kept].tolist(), odd[:refused].tolist(), blank
    )


@st.composite
def texts(draw: st.DrawFn) -> tuple[bytes, Dialect]:
    """A few rows of digits, some bytes of them replaced, taken out or put in, and how they should be read."""
    fields = draw(st.integers(2, 14))
    label = draw(st.sampled_from([None, 0, fields - 1, fields // 2]))
    how = dialect(
        fields, label, delimiter=draw(st.sampled_from([",", ";", "\t"])), high=draw(st.sampled_from([255, 16]))
    )
    value = st.sampled_from([0, 0, 0, 0, 0, 0, 7, 16, 17, 99, 255, 256])
    rows = draw(st.lists(st.lists(value, min_size=fields, max_size=fields), min_size=1, max_size=4))
    ends = draw(st.sampled_from(["\n", "\r\n"]))
    text = ends.join(how.delimiter.join(map(str, row)) for row in rows).encode()
    text += draw(st.sampled_from([b"", b"\n", b"\r\n", b"\n\n"]))
    for _ in range(draw(st.integers(0, 3))):
        at, cut = draw(st.integers(0, len(text))), draw(st.integers(0, 2))
        text = text[:at] + draw(st.sampled_from(MUTANTS)) + text[at + cut :]
    return text, how


@settings(max_examples=400, deadline=None)
@given(texts())
def test_the_kernel_says_of_every_mutated_row_what_the_careful_path_says(given: tuple[bytes, Dialect]) -> None:
    text, how = given
    assert facts(parse_chunk(chunk(text), how, ChunkBuffer())) == carefully(text, how)


@pytest.mark.long
@settings(max_examples=10_000, deadline=None)
@given(texts())
def test_the_kernel_says_what_the_careful_path_says_of_10_000_texts(given: tuple[bytes, Dialect]) -> None:
    text, how = given
    assert facts(parse_chunk(chunk(text), how, ChunkBuffer())) == carefully(text, how)


@settings(max_examples=150, deadline=None)
@given(texts(), st.integers(0, 2))
def test_the_python_function_is_the_compiled_one(given: tuple[bytes, Dialect], skip: int) -> None:
    text, how = given
    assert run(kernel.parse, text, how, skip=skip) == run(kernel.parse.py_func, text, how, skip=skip)


def test_clean_rows_never_need_the_careful_path() -> None:
    random = np.random.default_rng(3)
    for fields in (2, 3, 5, 9, 17, 785):
        for label in (None, 0, fields - 1, fields // 2):
            rows = np.where(random.random((50, fields)) < 0.7, 0, random.integers(0, 256, (50, fields)))
            text = "\r\n".join(",".join(map(str, row)) for row in rows).encode()
            done = run(kernel.parse, text, dialect(fields, label))
            assert done.odd == []
            assert done.pixels == (rows if label is None else np.delete(rows, label, axis=1)).tolist()
            assert done.labels == ([-1] * 50 if label is None else rows[:, label].tolist())


@pytest.mark.parametrize(
    "bad", ["256", "999", "1000", "-1", "", " 1", "1 ", "+1", "1.0", "1e1", "0x1", "1,", ",1", '"1"', "²"]
)
def test_the_kernel_refuses_a_bad_value_in_every_column(bad: str) -> None:
    for column in range(17):
        row = ["0"] * 17
        row[column] = bad
        text = ("0," * 16 + "0\n" + ",".join(row) + "\n" + "1," * 16 + "1").encode()
        done = run(kernel.parse, text, dialect(17, None))
        assert (done.lines, [line for line, *_ in done.odd]) == ([0, 2], [1])


def test_lines_are_counted_and_ended_as_python_does() -> None:
    for text in (b"", b"\n", b"1", b"1\n2", b"\n\n", b"1\n" * 1000, b"1\r\n2\r\n"):
        assert kernel.count_lines(chunk(text).data, len(text)) == len(text.split(b"\n")) - (
            text[-1:] in (b"", b"\n")
        )
        assert kernel.count_lines.py_func(chunk(text).data, len(text)) == kernel.count_lines(
            chunk(text).data, len(text)
        )
    for end_lines in (kernel.end_lines, kernel.end_lines.py_func):
        data = np.frombuffer(b"\r1\r\r\n2\r", dtype=np.uint8).copy()
        end_lines(data, 0, len(data))
        assert data.tobytes() == b"\n1\n\r\n2\n"
