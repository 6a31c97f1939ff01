"""CSV text of any dialect → blocks → shards, every line accounted for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streamtrain.convert.pipeline import Conversion


def convert(
    sources: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
    dest: str | os.PathLike[str],
    *,
    label: str | int | None = None,
    labels: str | os.PathLike[str] | None = None,
    header: bool | None = None,
    shape: Sequence[int] | None = None,
    pixel_range: Sequence[float] | None = None,
    classes: Sequence[str] | int | None = None,
    preset: str | os.PathLike[str] | None = None,
    delimiter: str | None = None,
    drop: Sequence[str | int] | None = None,
    split: Mapping[str, float] | None = None,
    compression: str = "zstd",
    on_bad_row: str = "error",
    shuffle: bool = False,
    seed: int = 0,
    memory_bytes: int = 256_000_000,
    resume: bool = False,
    max_rejected: float | None = None,
    overwrite: bool = False,
    workers: int = os.cpu_count() or 1,
) -> Conversion:
    """Convert CSV files to a folder of Parquet shards and return what became of every line.

    Whatever is left at None is found in the data. `dest` appears whole or not at all.

    sources: files, glob patterns, folders, "archive.zip:member.csv", or "-" for standard input; gz, bz2, xz, zst
        and zip are unpacked on the way; also addresses, as "s3://bucket/train.csv"
    label: "first", "last", "none", a name of the header, a column's number from 1, or a range of columns for a
        one-hot label, as "257-266"
    labels: a file with the labels, one for each data row in order, plain or compressed, with a header or
        without; one file for all sources
    header: whether line 1 of the sources names the columns
    shape: rows and columns of an image, as (28, 28)
    pixel_range: the least and the largest value that a pixel may have
    classes: how many classes there are, or their names in order
    preset: the name of a known data set, or a .toml file; the options above overrule it
    delimiter: "comma", "semicolon", "tab", "space", "pipe", "ctrl-a", or the character itself
    drop: names, numbers from 1, or ranges as "2-11", of columns that are neither label nor pixels; "none" keeps
        every column but the label as a pixel
    split: the share of the rows for each part, summing to 1: `dest`/train, `dest`/val, … The pixels of a row
        alone decide its part, so it stays the same when data is appended.
    compression: of the shards: "zstd", "lz4" or "none"
    on_bad_row: "error" stops at the first bad row; "reject" writes it to `dest`/rejected.jsonl and continues
    shuffle: whether to write the rows in a random order, which `seed` decides, using at most `memory_bytes`
    resume: continue an interrupted conversion to `dest`, if there is one
    max_rejected: the most rows that may be rejected: a number of them, or below 1 a share
    overwrite: whether to replace `dest` if it exists
    workers: threads that parse; the shards are the same for any number of them

    Raises DataError with file, line and column for bad data, UsageError for a request that cannot be met.
    """
    from streamtrain.convert.options import ConvertOptions
    from streamtrain.convert.pipeline import Conversion, iter_convert

    options = ConvertOptions(
        label=label,
        labels=labels,
        header=header,
        shape=shape,
        pixel_range=pixel_range,
        classes=classes,
        preset=preset,
        delimiter=delimiter,
        drop=drop,
        split=split,
        compression=compression,
        on_bad_row=on_bad_row,
        shuffle=shuffle,
        seed=seed,
        memory_bytes=memory_bytes,
        resume=resume,
        max_rejected=max_rejected,
        overwrite=overwrite,
        workers=workers,
    )
    *_, conversion = iter_convert(sources, dest, options)
    assert isinstance(conversion, Conversion)
    return conversion
