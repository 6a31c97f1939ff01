"""The kernel keeps what the careful path keeps, with the same values, and leaves the rest to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import Phase, assume, given, seed, settings
from hypothesis import strategies as st

from streamtrain.convert.dialect.dialect import Dialect
from streamtrain.convert.parse import parse as parse_module
from streamtrain.convert.parse.layout import layout_of
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


def dialect(fields: int, label: int | None, *, delimiter: str = ",", high: int = 255, **more: Any) -> Dialect:
    """How plain rows are written; more: other fields of the dialect."""
    wide = more.get("label_width", 1) if label is not None else 0
    pixels = fields - wide - len(more.get("dropped", ()))
    plain = {
        "header": False,
        "names": (),
        "label_kind": "number",
        "decimal": False,
        "dtype": "uint8",
        "low": 0,
        "declared_range": True,
        "classes": (),
        "image_shape": (pixels,),
    }
    return Dialect(delimiter=delimiter, fields=fields, label=label, high=high, **(plain | more))  # type: ignore[arg-type]


def chunk(text: bytes) -> Chunk:
    data = np.frombuffer(text + b"\n" * kernel.PADDING, dtype=np.uint8).copy()
    return Chunk(data, len(text), "d.csv", 99, kernel.count_lines(data, len(text)), 8, 8)


def facts(parsed: Parsed) -> tuple[object, ...]:
    block, words = parsed.block, parsed.words
    bad = [(row.line, row.column, row.reason, row.value, row.raw, row.byte_offset) for row in parsed.bad]
    counts = (parsed.lines, parsed.blank, parsed.comments, parsed.header + parsed.repeated_headers)
    labels = [words[label] for label in block.labels.tolist()] if words else block.labels.tolist()
    pixels = block.pixels
    return str(pixels.dtype), pixels.tobytes(), labels, block.lines.tolist(), bad, counts, sorted(words)


def carefully(text: bytes, how: Dialect) -> tuple[object, ...]:
    """What the careful row parser alone says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parse_module, "layout_of", lambda _: None)
        return facts(parse_chunk(chunk(text), how, ChunkBuffer()))


class Kernel(NamedTuple):
    """Everything that the kernel writes."""

    pixels: list[list[int]]
    labels: list[int]
    lines: list[int]
    odd: list[list[int]]
    blank: int


def run(parse: Callable[..., None], text: bytes, how: Dialect, *, skip: int = 0) -> Kernel:
    of, layout = chunk(text), layout_of(how)
    assert layout
    rows = (of.size + 1) // (2 * how.fields)
    pixels, counts = np.full((rows, how.image_shape[0]), 99, dtype=how.dtype), np.zeros(4, dtype=np.int64)
    labels, lines = np.zeros(rows, dtype=np.int32), np.zeros(rows, dtype=np.int32)
    odd = np.zeros((of.lines, 3), dtype=np.int32)
    parse(of.data, of.size, *layout.fresh(), skip, pixels, labels, lines, odd, counts)
    kept, blank, refused, _ = counts.tolist()
    return Kernel(
        pixels[:kept].tolist(), labels[:kept].tolist(), lines[:kept].tolist(), odd[:refused].tolist(), blank
    )


def spoiled(draw: st.DrawFn, text: bytes) -> bytes:
    """The text with up to three bytes replaced, taken out or put in."""
    for _ in range(draw(st.integers(0, 3))):
        at, cut = draw(st.integers(0, len(text))), draw(st.integers(0, 2))
        text = text[:at] + draw(st.sampled_from(MUTANTS)) + text[at + cut :]
    return text


@st.composite
def texts(draw: st.DrawFn) -> tuple[bytes, Dialect]:
    """A few rows of digits, perhaps spoiled, and how they should be read."""
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
    return spoiled(draw, text), how


PLAIN = ["0", "0", "0", "0", "1", "7", "16", "99", "255"]
WRITTEN = {
    "uint8": [*PLAIN, "256", "007", "+3", "-0", "-1", "1000000000000000000000"],
    "uint16": [*PLAIN, "300", "65535", "65536", "00012", "+512", "-7"],
    "float32": [*PLAIN, "-3", "123456789", "9007199254740993", "123456789012345678", "18446744073709551617"],
}
FRACTIONS = [
    "0.0",
    "12.0",
    "1.",
    ".5",
    "0.5",
    "1e2",
    "2.5E+1",
    "0.49019607843137253",
    "1e-7",
    "1e",
    "1.5.2",
    "1.0.5",
    "1.0e1",
    ".",
]
FRACTIONS += [
    ".",
    "1.0.5",
    "1.0e1",
    "-0.0",
    "3.4028236e38",
    "1e39",
    "0.1234567890123456789",
    "0.12345678901234567890",
    "123.456e-30",
]
AROUND = ["{}", "{}", "{}", " {}", "{} ", " {} ", '"{}"', '" {} "', ' "{}"', '"{}" ', "\t{}", '\t"{}"', "{}\t"]
NUMBERS = ["0", "1", "2", "9", "09", "+1", "-1", "65535", "65536", "1.0", "2.5", "1e0", "", "x"]
WORDS = ["a", "b", "zero", "Ankle boot", "é", "7", "007", "12", "7.0", "1e3", "nan", "x y", "#", '""', ""]


@st.composite
def labels_of(draw: st.DrawFn, kind: str, written: tuple[str, ...]) -> str:
    if kind == "digits":
        return draw(st.sampled_from(["100", "010", "001", "000", "110", "0100", "01x"]))
    if kind in ("word", "text"):
        return draw(st.sampled_from([*written, *WORDS] if written else WORDS))
    return draw(
        st.sampled_from(["0", "1", "2", "9", "09", "+1", "-1", "65535", "65536", "1.0", "2.5", "1e0", "", "x"])
    )


@st.composite
def dialects(draw: st.DrawFn) -> Dialect:
    """Any way of writing up to 14 columns."""
    fields = draw(st.integers(6, 14))
    kind = draw(st.sampled_from(["number", "decimal", "word", "text", "onehot", "digits"]))
    width = 3 if kind == "onehot" else 1
    label = draw(st.sampled_from([None, 0, fields - width, 1]))
    kind, width = (kind, width) if label is not None else ("number", 1)
    free = [c for c in range(fields) if label is None or not label <= c < label + width]
    dtype = draw(st.sampled_from(["uint8", "uint16", "float32"]))
    low, high = {
        "uint8": [(0, 255), (0, 16), (1, 99)],
        "uint16": [(0, 65535), (0, 300), (5, 65535)],
        "float32": [(0, 1), (-3.4e38, 3.4e38), (0, 255)],
    }[dtype][draw(st.integers(0, 2))]
    written: tuple[str, ...] = ()
    if kind in ("onehot", "digits"):
        written = ("a", "b", "c")
    elif draw(st.booleans()):
        written = ("b", "Ankle boot", "é", "label") if kind in ("word", "text") else ("1", "9", "0", "x")
    dropped = tuple(draw(st.lists(st.sampled_from(free), max_size=2, unique=True)))
    order = draw(st.permutations([c for c in free if c not in dropped])) if draw(st.booleans()) else ()
    headers = [(), ("label", *(f"p{i}" for i in range(fields - 1))), ("zero", *map(str, range(fields - 1)))]
    return dialect(
        fields,
        label,
        delimiter=draw(st.sampled_from([",", ";", "\t", " ", "|", "\x01"])),
        high=high,  # type: ignore[arg-type]  # a float too
        low=low,
        dtype=dtype,
        decimal=draw(st.booleans()) or dtype == "float32",
        label_kind=kind,
        label_width=width,
        source_labels=written,
        classes=written,
        dropped=dropped,
        pixel_order=tuple(order),
        trailing_delimiter=draw(st.booleans()),
        names=draw(st.sampled_from(headers)),
        skipped=draw(st.sampled_from([(), (("b",),), (("0",) * fields,)])),
    )


@st.composite
def rows_of(draw: st.DrawFn, how: Dialect) -> str:
    """A row, mostly as it should be; each cell may have something around it."""
    pixel = st.sampled_from(WRITTEN[how.dtype] + (FRACTIONS if how.decimal or draw(st.booleans()) else []))
    good = st.sampled_from([n for n in PLAIN if how.low <= int(n) <= how.high])
    cells: list[str] = []
    hot = draw(st.integers(0, 3))
    for column in range(how.fields):
        if column in how.label_columns:
            one = draw(st.sampled_from(["1", "1", "1.0", "0"])) if hot == len(cells) - (how.label or 0) else "0"
            cell = one if how.label_kind == "onehot" else draw(labels_of(how.label_kind, how.source_labels))
        elif column in how.dropped:
            cell = draw(st.sampled_from(["", "id-7", "0", "x,y", "#1", "zero", "é", "a b"]))
        else:
            cell = draw(good if draw(st.integers(0, 9)) else pixel)
        cells.append(draw(st.sampled_from(AROUND)).format(cell) if not draw(st.integers(0, 5)) else cell)
    return how.delimiter.join(cells) + (
        how.delimiter if how.trailing_delimiter and draw(st.integers(0, 3)) else ""
    )


@st.composite
def texts_of_any_dialect(draw: st.DrawFn) -> tuple[bytes, Dialect]:
    """A few rows of any dialect, perhaps a header among them, perhaps spoiled."""
    how = draw(dialects())
    rows = draw(st.lists(rows_of(how), min_size=1, max_size=4))
    if how.names and draw(st.booleans()):
        rows.insert(draw(st.integers(0, len(rows))), how.delimiter.join(how.names))
    text = draw(st.sampled_from(["\n", "\r\n"])).join(rows).encode() + draw(st.sampled_from([b"", b"\n", b"\r\n"]))
    return spoiled(draw, text) if draw(st.booleans()) else text, how


@settings(max_examples=300, deadline=None)
@given(texts())
def test_the_kernel_says_of_every_mutated_row_what_the_careful_path_says(given: tuple[bytes, Dialect]) -> None:
    text, how = given
    assert facts(parse_chunk(chunk(text), how, ChunkBuffer())) == carefully(text, how)


@settings(max_examples=500, deadline=None)
@given(texts_of_any_dialect())
def test_the_kernel_says_of_any_dialect_what_the_careful_path_says(given: tuple[bytes, Dialect]) -> None:
    text, how = given
    assert facts(parse_chunk(chunk(text), how, ChunkBuffer())) == carefully(text, how)


@pytest.mark.long
@pytest.mark.parametrize("part", range(20))
def test_the_kernel_says_what_the_careful_path_says_of_20_000_texts(part: int) -> None:
    @seed(part)
    @settings(max_examples=1_000, deadline=None, database=None, phases=[Phase.generate, Phase.shrink])
    @given(texts_of_any_dialect())
    def agree(given: tuple[bytes, Dialect]) -> None:
        text, how = given
        assert facts(parse_chunk(chunk(text), how, ChunkBuffer())) == carefully(text, how)

    agree()


@settings(max_examples=150, deadline=None)
@given(texts_of_any_dialect(), st.integers(0, 2))
def test_every_instruction_set_keeps_and_refuses_the_same(
    on_each_isa: Callable[[], Iterator[str]], given: tuple[bytes, Dialect], skip: int
) -> None:
    text, how = given
    assume(layout_of(how) is not None)
    assert len({str(run(kernel.parse, text, how, skip=skip)) for _ in on_each_isa()}) == 1


@settings(max_examples=300, deadline=None)
@given(texts(), st.integers(0, 2))
def test_what_the_reference_keeps_c_keeps_and_the_careful_path_agrees(
    given: tuple[bytes, Dialect], skip: int
) -> None:
    text, how = given
    plain, built = (run(parse, text, how, skip=skip) for parse in (kernel.parse_reference, kernel.parse))
    kept = {line: (row, label) for line, row, label in zip(built.lines, built.pixels, built.labels, strict=True)}
    for line, *values in zip(plain.lines, plain.pixels, plain.labels, strict=True):
        assert kept[line] == tuple(values)
    assert plain.blank == built.blank
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "parse", kernel.parse_reference)
        assert facts(parse_chunk(chunk(text), how, ChunkBuffer())) == carefully(text, how)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_reference_reads_texts_of_many_slabs(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "_SLAB", 100)
    random = np.random.default_rng(3)
    rows = random.integers(0, 300, (200, 9)) * (random.random((200, 9)) < 0.5)
    text = end.join(",".join(map(str, row)) if row[1] else "" for row in rows).encode()
    found = run(kernel.parse_reference, text, dialect(9, 0))
    assert found == run(kernel.parse, text, dialect(9, 0))
    assert min(len(found.lines), len(found.odd), found.blank) > 3


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


@pytest.mark.parametrize("bad", ["256", "999", "1000", "-1", "", "1.0", "1e1", "0x1", "1,", ",1", "²", "1 1"])
def test_the_kernel_refuses_a_bad_value_in_every_column(bad: str) -> None:
    for parse in (kernel.parse, kernel.parse_reference):
        for column in range(17):
            row = ["0"] * 17
            row[column] = bad
            text = ("0," * 16 + "0\n" + ",".join(row) + "\n" + "1," * 16 + "1").encode()
            done = run(parse, text, dialect(17, None))
            assert (done.lines, [line for line, *_ in done.odd]) == ([0, 2], [1])


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.floats(1e-9, 1).map(repr),
        st.integers(0, 65535).map(lambda n: repr(n / 65535)),
        st.integers(10**17, 10**19 - 1).map(lambda n: f"0.{n}"),
        st.decimals(0, 10**6, places=12).map(str),
        st.from_regex(r"[0-9]{1,9}\.[0-9]{1,10}(e[+-]?[0-9])?", fullmatch=True),
    )
)
def test_a_decimal_is_rounded_as_python_rounds_it(text: str) -> None:
    how = dialect(2, None, dtype="float32", decimal=True, low=-3e38, high=3e38)  # type: ignore[arg-type]  # a float too
    done = run(kernel.parse, f"{text},-{text}\n".encode(), how)
    if done.pixels:  # or it was left to Python
        assert done.pixels == [[float(np.float32(float(text))), -float(np.float32(float(text)))]]
    else:
        assert len(text.replace(".", "").split("e")[0].lstrip("0")) > 19 or text.count("e")


def test_a_decimal_close_to_the_middle_of_two_floats_is_rounded_to_the_nearer_double_first() -> None:
    """A range whose bounds are doubles shows it: a value read as its neighbour would lie outside."""
    for text in ("0.49019607843137253", "0.30000000000000004", "0.1234567890123456789", "9007199254740993e-3"):
        value = float(text)
        for low, kept in ((value, 1), (np.nextafter(value, np.inf), 0)):
            how = dialect(2, None, dtype="float32", decimal=True, low=float(low), high=1e38)  # type: ignore[arg-type]
            assert len(run(kernel.parse, f"{text},{text}\n".encode(), how).pixels) == kept


@pytest.mark.parametrize(
    ("cell", "options"),
    [
        ('"{}"', {}),
        (" {} ", {}),
        ("+{}", {}),
        ("{}.0", {"decimal": True}),
        ("{}.25", {"decimal": True, "dtype": "float32"}),
        ("{}e0", {"decimal": True, "dtype": "float32"}),
        ("{}", {"dtype": "uint16"}),
        ("{}", {"trailing_delimiter": True}),
        ("{}", {"delimiter": " "}),
        ("{}", {"delimiter": "|"}),
        ("{}", {"dropped": (0, 4)}),
        ("{}", {"label_kind": "word"}),
        ("{}", {"label_kind": "text"}),
        ("{}", {"label_kind": "word", "source_labels": ("x7", "x8")}),
        ("{}", {"label_kind": "onehot", "label_width": 2, "classes": ("a", "b")}),
        ("{}", {"label_kind": "digits", "classes": ("a", "b")}),
    ],
)
def test_good_rows_of_every_dialect_never_need_the_careful_path(cell: str, options: dict[str, Any]) -> None:
    how = dialect(9, 3, **options)
    label = {"word": ["x7"], "text": ["7"], "onehot": ["0", "1"], "digits": ["01"]}.get(how.label_kind, ["7"])
    rows = []
    for i in range(20):
        cells = [cell.format((i * 31 + c * 17) % 256) for c in range(9)]
        cells[3 : 3 + how.label_width] = label
        rows.append(how.delimiter.join(cells) + (how.delimiter if how.trailing_delimiter else ""))
    done = run(kernel.parse, "\n".join(rows).encode(), how)
    assert done.odd == []
    of_pixels = [c for c in range(9) if c not in (*how.label_columns, *how.dropped)]
    plain = float(cell.format(0).strip(' "'))
    assert done.pixels == [[(i * 31 + c * 17) % 256 + plain for c in of_pixels] for i in range(20)]
    assert set(done.labels) == {{"word": 0, "text": 0, "onehot": 1, "digits": 1}.get(how.label_kind, 7)}


def test_lines_are_counted_and_ended_as_python_does() -> None:
    for text in (b"", b"\n", b"1", b"1\n2", b"\n\n", b"1\n" * 1000, b"1\r\n2\r\n"):
        assert kernel.count_lines(chunk(text).data, len(text)) == len(text.split(b"\n")) - (
            text[-1:] in (b"", b"\n")
        )
        assert kernel.count_lines_reference(chunk(text).data, len(text)) == kernel.count_lines(
            chunk(text).data, len(text)
        )
    for end_lines in (kernel.end_lines, kernel.end_lines_reference):
        data = np.frombuffer(b"\r1\r\r\n2\r", dtype=np.uint8).copy()
        end_lines(data, 0, len(data))
        assert data.tobytes() == b"\n1\n\r\n2\n"
