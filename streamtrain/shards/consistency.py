"""Whether a manifest agrees with itself: its sums, counts, sizes and orders, each of which is recorded twice."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from streamtrain.shards.manifest import Manifest, Shard

_MAGIC_BYTES = 4  # with which a Parquet file begins


def contradictions(manifest: Manifest) -> list[str]:
    """Return what a manifest contradicts of itself, in a few words each."""
    return [*_lines(manifest), *_shards(manifest), *_sums(manifest)]


def _lines(manifest: Manifest) -> Iterator[str]:
    totals, sources = manifest.totals, manifest.sources
    placed = manifest.rows + totals.in_other_parts
    if totals.kept != placed:
        yield f"{totals.kept} rows were kept, but the shards and other parts have {placed}"
    if totals.comments > totals.blank:
        yield f"{totals.comments} lines are comments, but only {totals.blank} blank"
    if sum(source.lines for source in sources) != totals.lines:
        yield f"the sources' lines do not add up to {totals.lines}"
    starts = itertools.accumulate((source.lines for source in sources), initial=1)
    if any(source.first_line != start for source, start in zip(sources, starts, strict=False)):
        yield "a source does not begin where the one before it ends"


def _shards(manifest: Manifest) -> Iterator[str]:
    classes, names = len(manifest.schema.classes), [shard.file for shard in manifest.shards]
    if any(len(shard.label_counts) != classes for shard in manifest.shards):
        yield f"a shard has not a label count for each of {classes} classes"
    elif classes and any(sum(shard.label_counts) != shard.rows for shard in manifest.shards):
        yield "a shard's label counts do not add up to its rows"
    if not all(_fits(shard, manifest.rows_per_group) for shard in manifest.shards if shard.footer):
        yield "the pieces of a shard do not make up its row groups and its bytes"
    if len(set(names)) < len(names):
        yield "a shard is named twice"
    elif names != sorted(names, key=lambda name: (len(name), name)):
        yield "its shards are not in the order of their numbers"


def _fits(shard: Shard, rows_per_group: int) -> bool:
    """Return whether the pieces of a shard follow one another to its end, one for each row group."""
    pieces = [*shard.groups, *([shard.footer] if shard.footer else [])]
    ends = list(itertools.accumulate((piece.length for piece in pieces), initial=_MAGIC_BYTES))
    starts = [piece.start for piece in pieces]
    return (
        starts == ends[:-1] and ends[-1] == shard.bytes and len(shard.groups) == -(-shard.rows // rows_per_group)
    )


def _sums(manifest: Manifest) -> Iterator[str]:
    schema, pixels, sums = manifest.schema, manifest.pixels, manifest.class_sums
    if any(len(values) != schema.features for values in (*pixels.values(), *(sums or ()))):
        yield f"the statistics of the pixels are not of {schema.features} positions"
        return
    low, high = (np.array(pixels[name]) for name in ("min", "max"))
    least, most = schema.limits
    if not (least <= low.min() and (low <= high).all() and high.max() <= most):
        yield f"the least and largest pixels do not lie in {least:g}..{most:g}"
    total, error = np.array(pixels["sum"]), rounding(manifest)
    if not ((low * manifest.rows <= total + error) & (total <= high * manifest.rows + error)).all():
        yield "the sum of the pixels is not between their least and largest times the rows"
    if sums is not None and len(sums) != len(schema.classes):
        yield f"there are class sums for {len(sums)} of {len(schema.classes)} classes"
    elif sums is not None and not same(np.sum(sums, axis=0), pixels["sum"], error):
        yield "the class sums do not add up to the sums of the pixels"


def rounding(manifest: Manifest) -> float:
    """Return by how much two sums of the same pixels may differ if they were added in another order."""
    largest = max(map(abs, manifest.schema.pixel_range))
    return 1e-12 * manifest.rows * largest if manifest.schema.dtype == "float32" else 0


def same(one: Any, other: Any, error: float = 0) -> bool:
    """Return whether JSON numbers are equal: integers exactly, floats up to the order of summation.

    error: by how much floats may differ even if that is much of them, as for a sum near 0
    """
    try:
        one, other = np.asarray(one), np.asarray(other)
    except ValueError:  # a table whose rows have several lengths
        return False
    if one.dtype.kind != "f" or one.shape != other.shape or other.dtype.kind not in "fi":
        return np.array_equal(one, other)
    return bool(np.allclose(one, other, rtol=1e-9, atol=error))
