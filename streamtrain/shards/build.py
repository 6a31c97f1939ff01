"""Any iterable of blocks → a folder of shards and their manifest, whole or not at all."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import xxhash

from streamtrain.block import Block
from streamtrain.errors import DataError, UsageError
from streamtrain.schema import DTYPES, Schema
from streamtrain.settings import OneOf, checked
from streamtrain.shards import declare
from streamtrain.shards.builder import ShardBuilder
from streamtrain.shards.manifest import LineCounts, Manifest, Source
from streamtrain.shards.parts import numbered_classes
from streamtrain.shards.writer import GROUPS_PER_SHARD, rows_per_group
from streamtrain.storage.destination import Destination
from streamtrain.storage.names import given_path

LARGEST_LABEL = 65_535


def write_shards(
    blocks: Iterable[Block],
    dest: str | os.PathLike[str],
    *,
    schema: Schema | None = None,
    image_shape: Sequence[int] | None = None,
    pixel_range: Sequence[float] | None = None,
    classes: Sequence[str] | int | None = None,
    split: Mapping[str, float] | None = None,
    compression: str = "zstd",
    source: str = "blocks",
    overwrite: bool = False,
) -> dict[str, Manifest]:
    """Write blocks as a folder of Parquet shards, as `convert` does with CSV, and return the manifest by part.

    `dest` appears whole or not at all. The rows may come in blocks of any size: it does not change the shards. No
    more than a shard (4 MiB of pixels) and a block are in memory.

    blocks: rows in their order. Pixels are uint8, uint16 or float32, the same in all blocks. Labels are class
        indices, or -1 in every row if there are none. Lines number the rows from 1 and ascend over all blocks; a
        number that is left out counts as a blank line.
    schema: what the rows mean, instead of the next three; without labels its classes are left out
    image_shape: rows and columns of an image. By default a square, or (features,) if they do not fill one
    pixel_range: the values that become 0 and 1; by default 0, or less, and the largest pixel
    classes: names in index order, or how many. By default the labels that occur, named by their number
    split: the share of the rows for each part, as for `convert`. Without a split the only part is named ""
    compression: of the shards: "zstd", "lz4" or "none"
    source: what the rows come from, for reports and error messages
    overwrite: whether to replace `dest` if it exists

    Raises DataError for rows that do not fit, by their line, and UsageError for a request that cannot be met.

    >>> import numpy as np, tempfile
    >>> pixels, labels = np.arange(48, dtype=np.uint8).reshape(3, 16), np.array([7, 2, 7])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_shards([Block(pixels, labels, np.arange(1, 4))], f"{folder}/shards")[""].schema
    Schema(image_shape=(4, 4), dtype='uint8', pixel_range=(0, 47), classes=('2', '7'), denominator=1)
    """
    if schema and any(given is not None for given in (image_shape, pixel_range, classes)):
        raise UsageError("`schema` has the shape, range and classes. Pass it, or the others", option="schema")
    shape = None if image_shape is None else checked("image_shape", image_shape, declare.image_shape)
    limits = None if pixel_range is None else checked("pixel_range", pixel_range, declare.pixel_range)
    names = () if classes is None else checked("classes", classes, declare.class_names)
    shares = {"": 1.0} if split is None else checked("split", split, declare.split_shares)
    compression = checked("compression", compression, OneOf(declare.COMPRESSIONS))
    destination = Destination(given_path(dest, "dest"), overwrite)
    destination.check()
    first, blocks = _first(blocks, source)
    found = Schema(shape or _shape(first.pixels.shape[1]), first.pixels.dtype.name, limits or (0, 1), names)
    rows = _Rows(source, schema or found, bool(schema or limits), bool((first.labels >= 0).any()))
    with destination.published() as staging:
        stored = rows.schema if rows.labelled else replace(rows.schema, classes=())
        declared = rows.declared_range
        builder = ShardBuilder(staging, stored, shares, declared_range=declared, compression=compression)
        return _write(rows, _regroup(rows.checked(blocks), rows.schema), builder)


def _first(blocks: Iterable[Block], source: str) -> tuple[Block, Iterator[Block]]:
    """Return the first block that has rows, and all from it on. Raises DataError if there is none."""
    rest = iter(blocks)
    for block in rest:
        _check_type(block, source)
        if len(block):
            return block, chain([block], rest)
    raise DataError(f"{source} has no rows. Check what the blocks are made from")


def _check_type(block: Block, source: str) -> None:
    if not isinstance(block, Block):
        raise UsageError(f"{source}: a block is a {type(block).__name__}. Make it: Block(pixels, labels, lines)")
    if block.pixels.dtype.name not in DTYPES:
        raise DataError(
            f"{source}: pixels are {block.pixels.dtype}, but shards store {', '.join(DTYPES)}. Convert them, for "
            "example with pixels.astype('float32')"
        )


def _shape(features: int) -> tuple[int, ...]:
    side = math.isqrt(features)
    return (side, side) if side * side == features else (features,)


@dataclass(frozen=True)
class _Rows:
    """The properties that all rows have in common, and their checks.

    declared_range: whether the range of the schema was given; if not it is found
    labelled:       whether the rows have labels
    """

    source: str
    schema: Schema
    declared_range: bool
    labelled: bool

    def checked(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """Yield the blocks that have rows. Raises DataError for the first row that does not fit."""
        line = 0
        for block in blocks:
            _check_type(block, self.source)
            if block.pixels.shape[1] != self.schema.features or block.pixels.dtype.name != self.schema.dtype:
                raise DataError(
                    f"{self.source}: after line {line} a row has {block.pixels.shape[1]} pixels of "
                    f"{block.pixels.dtype}, not {self.schema.features} of {self.schema.dtype}. Make all rows alike"
                )
            if not len(block):
                continue
            self._check_lines(block, line)
            self._check_labels(block)
            self._check_pixels(block)
            line = int(block.lines[-1])
            yield block

    def _check_lines(self, block: Block, before: int) -> None:
        lines = block.lines
        if lines.dtype.kind not in "iu" or not (np.diff(lines.astype(np.int64), prepend=before) > 0).all():
            raise DataError(
                f"{self.source}: line numbers must be integers that ascend over all blocks, but after {before} "
                f"come {', '.join(map(str, lines[:3].tolist()))}, … Number the rows: np.arange({before + 1}, …)"
            )

    def _check_labels(self, block: Block) -> None:
        last = len(self.schema.classes) - 1 if self.schema.classes else LARGEST_LABEL
        low, high = (0, last) if self.labelled else (-1, -1)
        wrong = (block.labels < low) | (block.labels > high)
        if block.labels.dtype.kind not in "iu":
            wrong[:] = True
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            expected = f"a class index in 0..{last}" if self.labelled else "-1, as the rows before have no labels"
            raise DataError(
                f"{self.source}, line {block.lines[row]}: the label is {block.labels[row]}, not {expected}. Give "
                "class indices, or -1 in every row",
                line=int(block.lines[row]),
            )

    def _check_pixels(self, block: Block) -> None:
        low, high = self.schema.limits if self.declared_range else (-np.inf, np.inf)
        fits = (block.pixels >= low) & (block.pixels <= high) & np.isfinite(block.pixels)
        if not fits.all():
            row, pixel = np.argwhere(~fits)[0].tolist()
            expected = f"in {low:g}..{high:g}" if self.declared_range else "a finite number"
            raise DataError(
                f"{self.source}, line {block.lines[row]}: pixel {pixel + 1} is {block.pixels[row, pixel]}, not "
                f"{expected}. Leave the row out, or pass another `pixel_range`",
                line=int(block.lines[row]),
                column=pixel + 1,
            )


def _regroup(blocks: Iterable[Block], schema: Schema) -> Iterator[Block]:
    """Yield the rows of the blocks a shard at a time, in memory that the next shard reuses.

    Each block is copied when it comes, so its maker may reuse its memory too.
    """
    size, filled = GROUPS_PER_SHARD * rows_per_group(schema), 0
    shard = Block(
        np.empty((size, schema.features), dtype=schema.dtype),
        np.empty(size, dtype=np.int32),
        np.empty(size, dtype=np.int64),
    )
    for block in blocks:
        start = 0
        while start < len(block):
            count = min(size - filled, len(block) - start)
            for name in ("pixels", "labels", "lines"):
                getattr(shard, name)[filled : filled + count] = getattr(block, name)[start : start + count]
            start, filled = start + count, filled + count
            if filled == size:
                yield shard
                filled = 0
    if filled:
        yield shard.take(slice(filled))


def _write(rows: _Rows, blocks: Iterable[Block], builder: ShardBuilder) -> dict[str, Manifest]:
    """Write a shard of each part for every block, then the manifests."""
    schema = builder.schema
    digest, size, kept, line = xxhash.xxh3_128(), 0, 0, 0
    for number, block in enumerate(blocks):
        names = schema.classes or numbered_classes(int(block.labels.max()) + 1)  # without labels, all -1, none
        builder.add(builder.write(block, number, names))
        for array in (block.pixels.astype(schema.stored_dtype, copy=False), block.labels.astype("<i4")):
            digest.update(array.data)
            size += array.nbytes
        kept, line = kept + len(block), int(block.lines[-1])
    source = Source(rows.source, size, 0, f"xxh3_128:{digest.hexdigest()}", line, 1)
    totals = LineCounts(lines=line, kept=kept, blank=line - kept)
    return builder.finish(sources=(source,), parse={"declared_range": rows.declared_range}, totals=totals)
