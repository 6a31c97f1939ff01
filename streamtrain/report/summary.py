"""The facts and warnings of a data set, from its manifest alone; and single rows of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from streamtrain.block import Array, Block
from streamtrain.errors import UsageError
from streamtrain.schema import Schema
from streamtrain.shards.manifest import Manifest, Source
from streamtrain.stream.dataset import Shards
from streamtrain.text import plural

DISORDERED = 2.0  # label disorder from which an order counts as sorted; 1 is random
_FULL_SCALES = (1, 15, 16, 100, 255, 4095, 65535)  # largest values that pixels usually have
_FEW = 0.1  # of the average class


@dataclass(frozen=True)
class DatasetSummary:
    """The facts of a data set, counted over all rows.

    classes: the number of rows of each class; shards, sources: the bytes of each file
    dtype, denominator: how a pixel is stored; pixel_range: the stored values that become 0 and 1
    seen: the least and the largest stored value
    mean, deviation: of all normalised pixels; constant_pixels: how many positions have one value in all rows
    lines: the counts of the manifest's totals; warnings: one sentence each
    """

    rows: int
    classes: dict[str, int]
    image_shape: tuple[int, ...]
    dtype: str
    denominator: int
    pixel_range: tuple[float, float]
    seen: tuple[float, float]
    mean: float
    deviation: float
    constant_pixels: int
    shards: dict[str, int]
    label_disorder: float | None
    lines: dict[str, int]
    sources: dict[str, int]
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, manifest: Manifest) -> DatasetSummary:
        """Return the summary of the data that a manifest describes."""
        schema, pixels = manifest.schema, {name: np.array(values) for name, values in manifest.pixels.items()}
        low, span = schema.scale
        count = max(manifest.rows, 1) * schema.features
        mean = float(pixels["sum"].sum()) / count
        square = float(pixels["sum_of_squares"].sum()) / count
        classes = dict(zip(schema.classes, manifest.label_counts, strict=True))
        seen = (pixels["min"].min().item(), pixels["max"].max().item())
        constant = int((pixels["min"] == pixels["max"]).sum())
        read = (seen[0] / schema.denominator, seen[1] / schema.denominator)
        return cls(
            rows=manifest.rows,
            classes=classes,
            image_shape=schema.image_shape,
            dtype=schema.dtype,
            denominator=schema.denominator,
            pixel_range=schema.pixel_range,
            seen=seen,
            mean=(mean - low) / span,
            deviation=max(square - mean * mean, 0.0) ** 0.5 / span,
            constant_pixels=constant,
            shards={shard.file: shard.bytes for shard in manifest.shards},
            label_disorder=manifest.label_disorder,
            lines=asdict(manifest.totals),
            sources={source.path: source.size for source in manifest.sources},
            warnings=(
                *_order_warnings(manifest.label_disorder),
                *_class_warnings(classes),
                *_pixel_warnings(
                    schema.of_source, read, constant, declared=bool(manifest.parse.get("declared_range"))
                ),
            ),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the summary as JSON values."""
        return asdict(self)


def _order_warnings(disorder: float | None) -> list[str]:
    if (disorder or 0.0) <= DISORDERED:
        return []
    return [
        f"the rows are sorted by class (label disorder {disorder:.0f}, random is 1): "
        "mix them with convert --shuffle or streamtrain shuffle"
    ]


def _class_warnings(classes: dict[str, int]) -> list[str]:
    average = sum(classes.values()) / max(len(classes), 1)
    few = {name: count for name, count in classes.items() if count < _FEW * average}
    return [f"class {name} has {plural(count, 'row')}, the average {average:,.0f}" for name, count in few.items()]


def _pixel_warnings(schema: Schema, seen: tuple[float, float], constant: int, *, declared: bool) -> list[str]:
    warnings = []
    low, high = schema.pixel_range
    if constant > schema.features / 2:
        warnings.append(f"{constant} of {schema.features} pixel positions never change: is this the right file?")
    if declared and seen[1] - seen[0] < (high - low) / 4:
        warnings.append(f"pixels are {seen[0]:g}..{seen[1]:g}, but declared as {low:g}..{high:g}: check --range")
    elif not declared and schema.dtype != "float32" and high not in _FULL_SCALES:
        full = next((scale for scale in _FULL_SCALES if scale > high), high)
        warnings.append(
            f"the largest pixel, {high:g}, becomes 1: if white is {full:g}, convert with --range 0..{full:g}"
        )
    return warnings


class Row(NamedTuple):
    """One row: `pixels` (features,) as stored, its class's name or None, and its line counted over all sources."""

    pixels: Array
    label: str | None
    line: int

    def image(self, schema: Schema) -> Array:
        """Return the image (rows, columns) as float64 in 0..1; data that is not an image has one row of pixels."""
        low, span = schema.scale
        shape = schema.image_shape if len(schema.image_shape) == 2 else (1, schema.features)
        return ((self.pixels.astype(np.float64) - low) / span).reshape(shape)


def origin(sources: Sequence[Source], line: int) -> tuple[str, int]:
    """Return the file of a line that is counted over all sources, and its number in that file, from 1."""
    source = max((s for s in sources if s.first_line <= line), key=lambda s: s.first_line)
    return source.path, line - source.first_line + 1


def row_at(shards: Shards, line: int) -> Row:
    """Return the row of a line that is counted over all sources. Raises UsageError if the line has no row."""
    total = shards.manifest.totals.lines
    if not 1 <= line <= total:
        raise UsageError(
            f"`line` = {line} is not among the {total:,} lines of the source. Name one of 1..{total}",
            option="line",
        )
    for block in shards.blocks():
        for at in np.flatnonzero(block.lines == line):
            return _row(shards, block, int(at))
    raise UsageError(
        f"line {line} has no row here: it is the header, blank, rejected, or in another part. Pass another `line`",
        option="line",
    )


def examples(shards: Shards, count: int) -> list[Row]:
    """Return up to `count` rows, spread evenly over the whole set."""
    rows: list[Row] = []
    starts = np.concatenate([[0], np.cumsum(shards.group_rows)])
    wanted = np.unique(np.linspace(0, shards.rows - 1, min(count, shards.rows)).astype(np.int64))
    groups = np.searchsorted(starts, wanted, side="right") - 1
    for group in np.unique(groups).tolist():
        (block,) = shards.row_groups.read([group])
        rows += [_row(shards, block, at) for at in (wanted[groups == group] - starts[group]).tolist()]
    return rows


def _row(shards: Shards, block: Block, at: int) -> Row:
    label = int(block.labels[at])
    return Row(block.pixels[at].copy(), shards.schema.classes[label] if label >= 0 else None, int(block.lines[at]))
