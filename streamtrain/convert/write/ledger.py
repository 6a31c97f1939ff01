"""The account of every line of the sources: how many of each kind, which rows were rejected, from which file."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from streamtrain.convert.dialect.dialect import Dialect
from streamtrain.convert.text.text_file import FileFacts
from streamtrain.convert.write.chunk_writer import ChunkResult
from streamtrain.shards.builder import ShardBuilder
from streamtrain.shards.manifest import LineCounts, Manifest, Source
from streamtrain.storage.ownership import REJECTED
from streamtrain.storage.permissions import opened


class Ledger:
    """What a pass over the sources has come to so far; no row itself is kept."""

    def __init__(self, dialect: Dialect, staging: Path, builder: ShardBuilder) -> None:
        self.dialect, self.staging, self.builder = dialect, staging, builder
        self.sources: list[Source] = []
        self._counts: Counter[str] = Counter()

    @property
    def totals(self) -> LineCounts:
        """Every line so far."""
        return LineCounts(**self._counts)

    def add(self, result: ChunkResult) -> None:
        """Account for the next chunk, and append its rejected rows to their file."""
        if result.rejected:
            with result.rejected.open("rb") as rows, opened(self.staging / REJECTED, "ab") as file:
                shutil.copyfileobj(rows, file)
        self._counts.update(asdict(result.totals))
        self.builder.add(result.rows)

    def end_file(self, facts: FileFacts) -> None:
        """Account for a file whose last chunk was added."""
        before = sum(source.lines for source in self.sources)
        lines = self._counts["lines"] - before
        source = Source(facts.path, facts.size, facts.mtime_ns, facts.digest, lines, before + 1)
        self.sources.append(source)

    def finish(self) -> dict[str, Manifest]:
        """Write the manifests and return them by part. Raises DataError if a part has no rows."""
        if (self.staging / REJECTED).exists():
            with (self.staging / REJECTED).open("rb") as file:
                os.fsync(file.fileno())
        return self.builder.finish(sources=tuple(self.sources), parse=self.dialect.to_json(), totals=self.totals)
