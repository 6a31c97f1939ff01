"""The options of a conversion, each declared once: type, default, check and help."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from streamtrain.convert.dialect.delimiters import delimiter_of
from streamtrain.convert.dialect.options import ReadOptions, resolve
from streamtrain.errors import UsageError, argument
from streamtrain.settings import Integer, Number, OneOf, boolean, check_settings, setting
from streamtrain.shards import declare


def _optional(check: Any) -> Any:
    """Return the check that accepts None too."""
    return lambda value: None if value is None else check(value)


def _path(value: Any) -> str:
    if not isinstance(value, str | os.PathLike):
        raise ValueError("a path")
    return os.fspath(value)


def _column(value: Any) -> str:
    """Return a column's name or number as text; a number counts from 1."""
    if isinstance(value, bool) or not isinstance(value, str):
        return str(Integer(1)(value))
    return value


def _columns(value: Any) -> tuple[str, ...]:
    return (_column(value),) if isinstance(value, str | int) else tuple(map(_column, value))


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """How CSV text becomes shards; by default all that can be found in the data is found there.

    Lists may be given as any sequence and integers as NumPy's; they become tuples and Python's integers.
    Raises UsageError for an option that is not valid.

    >>> ConvertOptions(classes=3, split={"train": 0.75, "val": 0.25}).classes
    ('0', '1', '2')
    """

    label: str | int | None = setting(
        None,
        help="Column of the label; a number counts from 1, a range as 257-266 is one-hot.",
        check=_optional(_column),
        metavar="first|last|NAME|INDEX|none",
    )
    labels: str | os.PathLike[str] | None = setting(
        None,
        help="File with the labels, one a row in order, if the rows have none.",
        check=_optional(_path),
        metavar="FILE",
    )
    header: bool | None = setting(
        None, help="Whether line 1 names the columns.", check=_optional(boolean), flag="--header/--no-header"
    )
    shape: Sequence[int] | None = setting(
        None, help="Rows and columns of the image, as 28x28.", check=_optional(declare.image_shape), metavar="HxW"
    )
    pixel_range: Sequence[float] | None = setting(
        None,
        help="Least and largest value of a pixel, as 0..255.",
        check=_optional(declare.pixel_range),
        flag="--range",
        metavar="LO..HI",
    )
    classes: Sequence[str] | int | None = setting(
        None,
        help="Number of classes, or their names in order.",
        check=_optional(declare.class_names),
        metavar="N|A,B,...",
    )
    preset: str | os.PathLike[str] | None = setting(
        None,
        help="A known data set, as mnist or emnist-letters; the other options overrule it.",
        check=_optional(_path),
        metavar="NAME|FILE.toml",
    )
    delimiter: str | None = setting(
        None,
        help="What separates the values: comma, semicolon, tab, space, pipe or ctrl-a.",
        check=_optional(delimiter_of),
        metavar="NAME",
    )
    drop: Sequence[str | int] | None = setting(
        None,
        help="Columns that are neither label nor pixels, by name or number from 1.",
        check=_optional(_columns),
        metavar="NAME|INDEX,...",
    )
    split: Mapping[str, float] | None = setting(
        None,
        help="Parts in folders of their own, as train=0.9,val=0.1; a row's part depends on its pixels alone.",
        check=_optional(declare.split_shares),
        metavar="NAME=SHARE,...",
    )
    compression: str = setting(
        "zstd",
        help="Of the shards: zstd is smallest, lz4 is read faster, none is for tools that want it.",
        check=OneOf(declare.COMPRESSIONS),
    )
    on_bad_row: str = setting(
        "error",
        help="Stop at the first bad row, or write it to rejected.jsonl and continue.",
        check=OneOf(("error", "reject")),
    )
    shuffle: bool = setting(
        False, help="Write the rows in a random order, as streamtrain shuffle does.", check=boolean, recorded=False
    )
    seed: int = setting(0, help="Seed of the random order.", check=Integer(0, 2**64 - 1), recorded=False)
    memory_bytes: int = setting(
        256_000_000,
        help="Memory that shuffling may use.",
        check=Integer(1),
        flag="--memory",
        metavar="SIZE",
        recorded=False,
    )
    resume: bool = setting(
        False, help="Continue an interrupted conversion to DEST, if there is one.", check=boolean, recorded=False
    )
    max_rejected: float | None = setting(
        None,
        help="Most rows that may be rejected: a number, or below 1 a share of the rows.",
        check=_optional(Number(0)),
        metavar="N|SHARE",
        recorded=False,
    )
    overwrite: bool = setting(False, help="Replace DEST if streamtrain wrote it.", check=boolean, recorded=False)
    workers: int = setting(
        os.cpu_count() or 1,
        help="Threads that read the data.",
        check=Integer(1),
        recorded=False,
        default_text="the number of processors",
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if self.max_rejected is not None and self.on_bad_row != "reject":
            raise UsageError(
                f"`max_rejected` limits the rows that are rejected. Pass {argument('on_bad_row', 'reject')} too",
                option="max_rejected",
            )

    @property
    def strict(self) -> bool:
        """Whether the first bad row ends the conversion."""
        return self.on_bad_row == "error"

    @property
    def shares(self) -> dict[str, float]:
        """The share of the rows for each part; one part without a name unless there is a split."""
        return dict(self.split or {"": 1.0})

    def read_options(self) -> ReadOptions:
        """Return what is declared of the source: by these options, else by the preset."""
        own = ReadOptions(
            label="none" if self.labels else cast("str | None", self.label),
            header=self.header,
            shape=cast("tuple[int, ...] | None", self.shape),
            pixel_range=cast("tuple[float, float] | None", self.pixel_range),
            classes=cast("tuple[str, ...] | None", self.classes),
            delimiter=self.delimiter,
            drop=cast("tuple[str, ...] | None", self.drop),
        )
        return resolve(own, None if self.preset is None else os.fspath(self.preset))
