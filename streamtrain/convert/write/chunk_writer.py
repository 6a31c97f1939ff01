"""A chunk → its rows as a shard of each part, and the facts about it that the pass needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from streamtrain.convert.dialect.dialect import Dialect
from streamtrain.convert.parse.label_file import LabelFile
from streamtrain.convert.parse.label_rows import add_labels
from streamtrain.convert.parse.parse import Parsed, parse_chunk
from streamtrain.convert.parse.row_parser import BadRow, BadRows
from streamtrain.convert.text.chunks import Chunk, ChunkBuffer
from streamtrain.shards.builder import ShardBuilder
from streamtrain.shards.digests import digest_bytes
from streamtrain.shards.manifest import LineCounts
from streamtrain.shards.parts import WrittenRows, numbered_classes


@dataclass(frozen=True)
class ChunkResult:
    """The result for a chunk whose rows are written; its text is not needed any more.

    digest:   of its text
    rows:     those kept; none if a bad row ends the conversion
    bad:      the bad rows while the chunk is in memory; the first alone if it ends the conversion
    rejected: the file of the rejected rows, as lines of JSON; None if no row was rejected
    """

    digest: str
    totals: LineCounts
    rows: WrittenRows
    bad: BadRows | tuple[BadRow, ...] = ()
    rejected: Path | None = None


@dataclass(frozen=True)
class ChunkWriter:
    """Parses chunks and writes their rows, in any thread.

    builder: writes the shards
    strict:  whether a bad row ends the conversion
    labels:  the file of the labels, if the rows have none
    """

    dialect: Dialect
    builder: ShardBuilder
    strict: bool
    labels: LabelFile | None = None

    def __call__(self, chunk: Chunk, number: int, buffer: ChunkBuffer) -> ChunkResult:
        """Parse a chunk and write its rows, synced to disk, as shard `number` of each part."""
        parsed = parse_chunk(chunk, self.dialect, buffer, strict=self.strict)
        rows, labels_missing = WrittenRows.none(), False
        if self.labels:
            taken = self.labels.take(number, len(parsed.block) + len(parsed.bad))
            labels_missing = taken.short  # which ends the conversion, as a bad row does if `strict`
            parsed = parsed if labels_missing else add_labels(parsed, chunk, taken, self.dialect)
        if parsed.bad and self.strict:
            return ChunkResult("", LineCounts(), rows, parsed.bad)
        if not labels_missing:
            rows = self.builder.write(parsed.block, number, self._names(parsed))
        totals = LineCounts(
            lines=parsed.lines,
            header=parsed.header,
            blank=parsed.blank,
            repeated_headers=parsed.repeated_headers,
            kept=len(parsed.block),
            rejected=len(parsed.bad),
            comments=parsed.comments,
        )
        return ChunkResult(digest_bytes(chunk.data[: chunk.size].data), totals, rows, parsed.bad)

    def _names(self, parsed: Parsed) -> tuple[str, ...]:
        """Return what the labels of a chunk are indices into: the declared classes, its words, or 0, 1, 2, …"""
        if not self.dialect.labelled:
            return ()
        if self.dialect.classes or parsed.words:
            return self.dialect.classes or parsed.words
        return numbered_classes(int(parsed.block.labels.max(initial=-1)) + 1)
