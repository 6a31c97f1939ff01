"""Check every byte of a folder of shards against its manifest, and the manifest against itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamtrain.block import Array
from streamtrain.errors import CorruptShardError, DataError
from streamtrain.metrics.label_disorder import LabelDisorder
from streamtrain.metrics.pixel_statistics import PixelStatistics, class_sums
from streamtrain.shards.consistency import contradictions, rounding, same
from streamtrain.shards.fetched import footer_of
from streamtrain.shards.folders import split_folders
from streamtrain.shards.manifest import Manifest, Shard
from streamtrain.shards.reader import ShardFile, check_digest
from streamtrain.shards.writer import rows_per_group
from streamtrain.storage.object_file import open_to_read
from streamtrain.storage.objects import Location, NoSuchObjectError, ObjectPath, given_place
from streamtrain.storage.ownership import MANIFEST, REJECTED


@dataclass(frozen=True)
class Problem:
    """A fault of one file.

    shard: the file, relative to the verified folder
    what:  the fault
    """

    shard: str
    what: str


@dataclass(frozen=True)
class VerifyReport:
    """The findings so far.

    shards, rows: that were read
    total:        shards that there are
    problems:     the faults
    """

    shards: int
    total: int
    rows: int
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def verify(data: str | Path | ObjectPath) -> VerifyReport:
    """Read every byte of a folder of shards, or of its parts, and return all faults.

    Raises DataError if there is no manifest, neither in the folder nor in those right below it.
    """
    (last,) = deque(iter_verify(data), maxlen=1)
    return last


def iter_verify(data: str | Path | ObjectPath) -> Iterator[VerifyReport]:
    """Verify as `verify` does; yield what was found after each shard, and at the end all of it."""
    folder = given_place(data, "data")
    return _iter_verify(folder, split_folders(folder))


def _iter_verify(folder: Location, parts: list[Location]) -> Iterator[VerifyReport]:
    check_digest.cache_clear()  # a file that was checked before may be damaged now
    footer_of.cache_clear()
    problems: list[Problem] = []
    manifests: dict[Location, Manifest] = {}
    for part in parts:
        try:
            manifests[part] = Manifest.read(part)
        except DataError as error:
            problems.append(Problem(_name(part / MANIFEST, folder), str(error).removeprefix(f"{part}/")))
    total = sum(len(manifest.shards) for manifest in manifests.values())
    shards = rows = 0
    for part, manifest in manifests.items():
        audit = _Audit(manifest)
        for shard in manifest.shards:
            try:
                with ShardFile(part, shard, manifest.schema, rows_per_group=manifest.rows_per_group) as file:
                    found = audit.read_shard(shard, file)
                shards, rows = shards + 1, rows + shard.rows
            except CorruptShardError as damage:
                found = [damage.what]
            except DataError as error:
                if not isinstance(error.__cause__, FileNotFoundError | NoSuchObjectError):
                    raise
                found = ["it is missing"]
            audit.complete &= not found
            problems += [Problem(_name(part / shard.file, folder), what) for what in found]
            yield VerifyReport(shards, total, rows, tuple(problems))
        found = [
            *contradictions(manifest),
            *_check_groups(manifest),
            *audit.check_aggregates(),
            *_check_rejected(folder, part, manifest),
        ]
        if part != folder:
            found += _check_parts(manifest, list(manifests.values()))
        problems += [Problem(_name(part / MANIFEST, folder), what) for what in found]
    problems += _unknown_files(folder, parts, manifests)
    yield VerifyReport(shards, total, rows, tuple(problems))


def _name(path: Location, folder: Location) -> str:
    return str(path)[len(str(folder / "x")) - 1 :]


class _Audit:
    """Add up the rows of one manifest's shards. `complete` as long as every shard could be read."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest, self.complete = manifest, True
        self._pixels: PixelStatistics | None = None
        self._class_sums: Array | int = 0
        self._disorder = LabelDisorder()
        self._line = 0
        self._seen = np.zeros(0, dtype=np.uint8)  # a bit for each line, if the rows are shuffled

    def read_shard(self, shard: Shard, file: ShardFile) -> list[str]:
        """Read every row group of a shard; return its faults."""
        classes = len(self.manifest.schema.classes)
        counts, found = (
            np.zeros(classes, dtype=np.int64),
            dict.fromkeys(file.prove_pieces()),
        )  # a set in order of discovery
        for group in range(-(-shard.rows // self.manifest.rows_per_group)):
            block = file.read_group(group)
            found |= dict.fromkeys(self._check_lines(block.lines) + self._check_pixels(block.pixels))
            if classes:
                counts += np.bincount(block.labels, minlength=classes)
                self._disorder.update(block.labels)
            if self.manifest.class_sums is not None:
                self._class_sums = self._class_sums + class_sums(block.pixels, block.labels, classes=classes)
        if self.manifest.compression and file.compression != {self.manifest.compression}:
            found[f"its compression is {'/'.join(file.compression)}, not {self.manifest.compression}"] = None
        if tuple(counts.tolist()) != shard.label_counts:
            found["its labels are not as many of each class as the manifest says"] = None
        return list(found)

    def _check_lines(self, lines: Array) -> list[str]:
        if lines.min() < 1 or lines.max() > self.manifest.totals.lines:
            return [f"a line number is outside 1..{self.manifest.totals.lines}"]
        if not self.manifest.shuffle:
            before, self._line = self._line, int(lines[-1])
            return [] if (np.diff(lines, prepend=before) > 0).all() else ["its line numbers do not ascend"]
        if not len(self._seen):
            try:
                self._seen = np.zeros(self.manifest.totals.lines // 8 + 1, dtype=np.uint8)
            except MemoryError:
                return [f"{self.manifest.totals.lines} lines are too many to check that none occurs twice"]
        byte, bit = lines >> 3, (1 << (lines & 7)).astype(np.uint8)
        twice = (self._seen[byte] & bit).any() or len(np.unique(lines)) < len(lines)
        np.bitwise_or.at(self._seen, byte, bit)
        return ["it holds a line that was there before"] if twice else []

    def _check_pixels(self, pixels: Array) -> list[str]:
        statistics = PixelStatistics.of(pixels)
        self._pixels = statistics if self._pixels is None else self._pixels + statistics
        low, high = self.manifest.schema.limits
        inside = low <= statistics.min.min() and statistics.max.max() <= high
        return [] if inside else [f"a pixel is outside {low:g}..{high:g}"]

    def check_aggregates(self) -> list[str]:
        """Return which aggregates of the manifest are not those of the rows; none unless all could be read."""
        if not self.complete or self._pixels is None:
            return []
        found, error = [], rounding(self.manifest)
        for name, values in self._pixels.to_json().items():
            if not same(values, dict(self.manifest.pixels)[name], error):
                found.append(f"the {name} of the pixels is not that of the rows")
        if self.manifest.class_sums is not None and not same(self._class_sums, self.manifest.class_sums, error):
            found.append("the sums of the pixels of each class are not those of the rows")
        if not same(self._disorder.value(), self.manifest.label_disorder):
            found.append(f"label disorder is {self._disorder.value()}, not {self.manifest.label_disorder}")
        return found


def _check_groups(manifest: Manifest) -> list[str]:
    size = manifest.rows_per_group
    return [] if size == rows_per_group(manifest.schema) else [f"row groups of {size} rows are not of 1 MiB"]


def _unknown_files(folder: Location, parts: list[Location], manifests: dict[Location, Manifest]) -> list[Problem]:
    """Return files that the manifests do not know."""
    if str(folder).startswith("http"):
        return []  # the web has no lists
    known = {folder / REJECTED, *parts, *(part / name for part in parts for name in (MANIFEST, REJECTED))}
    known |= {part / shard.file for part, manifest in manifests.items() for shard in manifest.shards}
    places = ({folder} | {*parts}) - {part for part in parts if part not in manifests}  # a damaged one cannot say
    there = {path for place in places for path in _inside(place)}
    return [
        Problem(_name(path, folder), "the manifest does not know this file")
        for path in sorted(there - known, key=str)
    ]


def _inside(folder: Location) -> list[Location]:
    if isinstance(folder, Path):
        return [*folder.iterdir()]
    return [folder / name.rstrip("/") for name in folder.names()]


def _check_rejected(folder: Location, part: Location, manifest: Manifest) -> list[str]:
    """Check the number of rejected rows, one a line; those of a split lie next to its parts."""
    places = [part / REJECTED]
    if part != folder or manifest.totals.in_other_parts:
        places.append(part.parent / REJECTED)
    path = next((place for place in places if place.exists()), None)
    if not path and manifest.shuffle:
        return []  # a part was shuffled alone: its rejected rows lie with the source
    lines = 0
    if path:
        with open_to_read(path) as file:
            lines = sum(1 for _ in file)
    rejected = manifest.totals.rejected
    return [] if lines == rejected else [f"{rejected} rows were rejected, {REJECTED} has {lines}"]


def _check_parts(manifest: Manifest, manifests: list[Manifest]) -> list[str]:
    """Check that all parts of a split are here."""
    rows = sum(other.rows for other in manifests if other.sources == manifest.sources)
    missing = manifest.totals.kept - rows
    return [f"{missing} rows of its split are not in any part here"] if missing else []
