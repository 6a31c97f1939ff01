"""The records of a pass in their order → the manifests of its parts."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from streamtrain.block import Block, joined
from streamtrain.convert.dialect.dialect import Dialect
from streamtrain.convert.text.text_file import FileFacts
from streamtrain.convert.write.chunk_writer import ChunkResult, PartResult
from streamtrain.errors import DataError
from streamtrain.metrics.label_disorder import LabelDisorder
from streamtrain.metrics.pixel_statistics import ClassSums, PixelStatistics
from streamtrain.schema import Schema
from streamtrain.shards.manifest import REJECTED, LineCounts, Manifest, Shard, Source
from streamtrain.shards.reader import ShardFile
from streamtrain.shards.writer import rows_per_group, write_shard


@dataclass
class _Part:
    """One part of the output while it is made: its folder, its shards, and what they hold together."""

    folder: Path
    shards: list[tuple[Shard, tuple[str, ...]]] = field(default_factory=list)
    pixels: PixelStatistics | None = None
    classes: ClassSums = field(default_factory=lambda: ClassSums({}))
    disorder: LabelDisorder = field(default_factory=LabelDisorder)


class ManifestBuilder:
    """What a pass has come to so far; of its rows nothing is kept."""

    def __init__(self, dialect: Dialect, schema: Schema, staging: Path, folders: Mapping[str, Path]) -> None:
        self.dialect, self.schema, self.staging = dialect, schema, staging
        self.parts = {name: _Part(folder) for name, folder in folders.items()}
        self.disorder = LabelDisorder()
        self.sources: list[Source] = []
        self._counts: Counter[str] = Counter()
        self._classes: dict[str, int] = {}  # the names of the labels that occur → where disorder counts them

    @property
    def totals(self) -> LineCounts:
        """Every line so far."""
        return LineCounts(**self._counts)

    def add(self, record: ChunkResult) -> None:
        """Account for the next chunk; its rejected rows go to their file."""
        if record.bad:
            with (self.staging / REJECTED).open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(asdict(row)) + "\n" for row in record.bad)
        self._counts.update(asdict(record.totals))
        for name, part in self.parts.items():
            if name in record.parts:
                _add_part(part, record.parts[name])
        if record.names:
            present = np.flatnonzero(np.bincount(record.labels, minlength=len(record.names)))
            place = np.full(len(record.names), -1, dtype=np.int64)
            for label in present.tolist():
                place[label] = self._classes.setdefault(record.names[label], len(self._classes))
            places = place[record.labels]
            self.disorder.update(places)
            for number, part in enumerate(self.parts.values()):
                part.disorder.update(places[record.part_of_row == number])

    def end_file(self, facts: FileFacts) -> None:
        """Account for a file whose last chunk was added."""
        before = sum(source.lines for source in self.sources)
        lines = self._counts["lines"] - before
        source = Source(facts.path, facts.size, facts.mtime_ns, facts.digest, lines, before + 1)
        self.sources.append(source)

    def finish(self) -> dict[str, Manifest]:
        """Fix what only the full pass knows, the classes and the pixel range, and write the manifests."""
        for name, part in self.parts.items():
            if part.pixels is None:
                said = f"part {name} of the split" if name else self.sources[0].path
                raise DataError(f"{said} has no rows. Check the source, or the shares of --split")
        self.schema = replace(self.schema, classes=self._class_names(), pixel_range=self._pixel_range())
        if (self.staging / REJECTED).exists():
            with (self.staging / REJECTED).open("rb") as file:
                os.fsync(file.fileno())
        return {name: self._manifest(part) for name, part in self.parts.items()}

    def _manifest(self, part: _Part) -> Manifest:
        shards = tuple(self._final_shard(part.folder, shard, names) for shard, names in part.shards)
        assert part.pixels is not None
        manifest = Manifest(
            schema=self.schema,
            sources=tuple(self.sources),
            parse=self.dialect.to_json(),
            rows_per_group=rows_per_group(self.schema),
            shards=shards,
            totals=replace(self.totals, in_other_parts=self._counts["kept"] - sum(s.rows for s in shards)),
            pixels=part.pixels.to_json(),
            label_disorder=part.disorder.value(),
            shuffle=None,
            class_sums=part.classes.to_json(self.schema.classes),
        )
        manifest.write(part.folder)
        return manifest

    def _class_names(self) -> tuple[str, ...]:
        """The declared classes, else those found: words in the order of the alphabet, numbers in their own."""
        if self.dialect.classes:
            return self.dialect.classes
        return tuple(sorted(self._classes, key=None if self.dialect.text_labels else int))

    def _pixel_range(self) -> tuple[float, float]:
        if self.dialect.declared_range:
            return self.dialect.low, self.dialect.high
        tallies = [part.pixels for part in self.parts.values() if part.pixels is not None]
        low = min(tally.min.min().item() for tally in tallies)
        return min(low, 0), max(tally.max.max().item() for tally in tallies)

    def _final_shard(self, folder: Path, shard: Shard, names: tuple[str, ...]) -> Shard:
        """A shard with class indices: as it is where its labels are those already, else written anew."""
        if not names:
            return shard
        index = {name: i for i, name in enumerate(self.schema.classes)}
        final = np.array([index.get(name, -1) for name in names], dtype=np.int32)
        present = np.flatnonzero(shard.label_counts)
        if np.array_equal(final[present], present):
            counts = np.zeros(len(index), dtype=np.int64)
            counts[present] = np.array(shard.label_counts)[present]
            return replace(shard, label_counts=tuple(counts.tolist()))
        as_written = replace(self.schema, classes=names)
        size = rows_per_group(self.schema)
        with ShardFile(folder, shard, as_written, rows_per_group=size) as file:
            block = joined([file.read_group(g) for g in range(-(-shard.rows // size))])
        block = Block(block.pixels, final[block.labels], block.lines)
        return write_shard(folder / shard.file, block, self.schema, labelled=True)


def _add_part(part: _Part, record: PartResult) -> None:
    part.shards.append((record.shard, record.names))
    part.pixels = record.pixels if part.pixels is None else part.pixels + record.pixels
    part.classes = part.classes + record.classes
