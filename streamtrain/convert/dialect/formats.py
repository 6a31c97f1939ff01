"""Files that are not a CSV of digits, each recognised and named, with what to do instead."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from streamtrain.convert.dialect.sample import Line, NoRowsError
from streamtrain.errors import DataError

_CONTROL = re.compile(rb"[\0-\x08\x0b\x0c\x0e-\x1f]")
_CTRL_A = b"\x01"

# What a file begins with, what that is, and the next step.
_MAGIC: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, not the data", "Fetch it: git lfs pull"),
    (b"\xff\xfe", "UTF-16 text", "Save it as UTF-8: iconv -f UTF-16 -t UTF-8"),
    (b"\xfe\xff", "UTF-16 text", "Save it as UTF-8: iconv -f UTF-16 -t UTF-8"),
    (b"\x1f\x8b", "compressed with gzip twice", "Unpack it once: gunzip"),
    (b"BZh", "compressed twice", "Unpack it once: bunzip2"),
    (b"\xfd7zXZ", "compressed twice", "Unpack it once: unxz"),
    (b"\x28\xb5\x2f\xfd", "compressed twice", "Unpack it once: unzstd"),
    (b"PK\x03\x04", "a zip archive inside a compressed file", "Unpack it once"),
    (b"\x93NUMPY", "a NumPy array (.npy)", "Write it as text: numpy.savetxt with fmt='%d' and delimiter=','"),
    (b"\0\0\x08\x03", "an IDX file of images", "Convert it to CSV, a label and the pixels in a row"),
    (b"\0\0\x08\x01", "an IDX file of labels", "Convert it to CSV, a label and the pixels in a row"),
    (b"PAR1", "a Parquet file", "Write it as CSV: pandas.read_parquet, then to_csv with index=False"),
    (b"\x89HDF", "an HDF5 file", "Write its arrays as CSV, a row an image"),
    (b"\x89PNG", "binary, a PNG image", "Write the images as CSV, a row an image"),
    (b"\xff\xd8\xff", "binary, a JPEG image", "Write the images as CSV, a row an image"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", "Save the sheet as CSV"),
    (b"%PDF", "a PDF document", "Name the CSV file"),
    (b"\x80\x02", "a Python pickle", "Write the arrays as CSV, a row an image"),
    (b"\x80\x03", "a Python pickle", "Write the arrays as CSV, a row an image"),
    (b"\x80\x04", "a Python pickle", "Write the arrays as CSV, a row an image"),
    (b"\x80\x05", "a Python pickle", "Write the arrays as CSV, a row an image"),
    (b"MATLAB 5.0", "a MATLAB file", "Write its arrays as CSV, a row an image"),
)


def refuse_foreign(sample: bytes, *, path: str) -> None:
    """Raise DataError for what is not text with rows of numbers at all, saying what it is instead."""
    if not sample:
        raise NoRowsError(f"{path} is empty. Check the download, or name another file")
    for start, what, step in _MAGIC:
        if sample.startswith(start):
            raise DataError(f"{path} is {what}. {step}")
    if sample[257:262] == b"ustar":
        raise DataError(f"{path} is a tar archive. Unpack it, and name the CSV file in it: tar -xf")
    start = sample[:200].lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise DataError(f"{path} is a web page, not a CSV. Download the file itself, not its page")
    if start.startswith((b"{", b"[{", b"[\n", b"[ {")):
        raise DataError(f"{path} is JSON, not a CSV. Write it as CSV: pandas.read_json, then to_csv(index=False)")
    if b"\0" in sample:
        lines = sample.split(b"\n")
        if sum(_CONTROL.search(line.replace(_CTRL_A, b"")) is not None for line in lines) > len(lines) / 2:
            raise DataError(f"{path} is binary, not CSV text. Check what file it is: file {path}")


_LIBSVM = re.compile(r"\s*[+-]?[\d.]+(\s+\d+:[+-]?[\d.eE+-]+)+\s*(#.*)?")
_BRACKETS = re.compile(r"\s*[\[({].*[\])}],?;?\s*")


def _is_quoted_whole(text: str) -> bool:
    """Whether a line is one quoted value, with values in it."""
    inner = text.strip()
    quote = inner[:1]
    return (
        quote in ("'", '"')
        and inner.endswith(quote)
        and inner.count(quote) == 2
        and bool(re.search(r"\d\s*[,;|\t ]\s*\d", inner))
    )


# How most lines look, and what is said of them.
_LINES: tuple[tuple[Callable[[str], object], str, str], ...] = (
    (
        _LIBSVM.fullmatch,
        "LibSVM text (index:value), which leaves zeros out",
        "Write it as CSV: sklearn.datasets.load_svmlight_file, then numpy.savetxt",
    ),
    (_is_quoted_whole, "written with each line as one quoted value", "Take the quotes away: tr -d '\"'"),
    (_BRACKETS.fullmatch, "written with each line in brackets", "Take them away: tr -d '[](){}'"),
)


def refuse_foreign_lines(first: Sequence[Line], lines: Sequence[Line], *, path: str) -> None:
    """Raise DataError for text in a format other than CSV."""
    head = first[0].text.strip().lower()
    if head.startswith(("@relation", "@attribute", "%")) or any(
        line.text.strip().lower().startswith("@attribute") for line in first
    ):
        raise DataError(
            f"{path}:{first[0].number}: this is an ARFF file (Weka). Keep only the lines after @data: "
            "sed '1,/^@data/Id'"
        )
    for is_such, what, step in _LINES:
        if sum(bool(is_such(line.text)) for line in lines) > len(lines) / 2:
            number = min(line.number for line in lines if is_such(line.text))
            raise DataError(f"{path}:{number}: the file is {what}. {step}")


ARRAY = re.compile(r"[\[(]\s*[-\d.]|[-\d.]+(\s+[-\d.]+){2,}|[-\d.]+(\s*[;,]\s*[-\d.]+){3,}")
_TRUTH = re.compile(r"true|false|t|f|yes|no", re.IGNORECASE)
_MISSING = re.compile(r"|na|n/a|nan|null|none|nil|\?|-|\.|#n/a|missing|\\n", re.IGNORECASE)
IMAGE_FILE = re.compile(r".*\.(png|jpe?g|bmp|gif|tiff?|webp|pgm|ppm)", re.IGNORECASE)

IMAGES_ELSEWHERE = "streamtrain reads pixels from the CSV itself, not from images"

# What a cell that is not a number may be: the pattern, the words for it, and the next step.
_CELLS: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (_MISSING, "no value", "Fill it in, with 0 if that is meant, then convert again"),
    (_TRUTH, "a truth value", "Write 1 and 0 instead: sed 's/TRUE/1/gI; s/FALSE/0/gI'"),
    (
        re.compile(r"[+-]?[1-9]\d{0,2}([,.' ]\d{3})+"),
        "a number with thousands marks",
        "Write numbers without them",
    ),
    (
        re.compile(r"[+-]?\d*,\d+"),
        "a number with a decimal comma",
        # Not tr: the comma may separate the values too, which are quoted then.
        r"Write points instead: sed -E 's/([0-9]),([0-9])/\1.\2/g'",
    ),
    (re.compile(r"\d+\s*[;:|/\t ]\s*\d+"), "two values behind another separator", "Use one separator throughout"),
    (ARRAY, "several numbers in one value", "Give each pixel a column of its own"),
    (IMAGE_FILE, "the name of an image file", IMAGES_ELSEWHERE),
    (re.compile(r"\d+(\.\d+)?\s*%"), "a percentage", "Write numbers only"),
    (re.compile(r"0[xX][0-9a-fA-F]+|#[0-9a-fA-F]{2,8}"), "a hexadecimal number", "Write decimal numbers"),
)


def cell_format(text: str) -> tuple[str, str]:
    """Return what a cell that is not a number may be, and the next step."""
    for pattern, what, step in _CELLS:
        if pattern.match(text) if pattern is ARRAY else pattern.fullmatch(text):
            return what, step
    return "a word", "Write a number for each pixel"


def is_number_format(what: str) -> bool:
    """Whether what `cell_format` found is a number in another format, rather than a word or nothing."""
    return what not in ("a word", "no value", "the name of an image file", "several numbers in one value")
