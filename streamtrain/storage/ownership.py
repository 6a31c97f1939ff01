"""Which files are streamtrain's own, as decided by manifests and by the content of files, not by name patterns.

This module has the names of all files that streamtrain writes into its folders. A folder with any other content,
even one file more, is not streamtrain's: it is never replaced or removed.
"""

from __future__ import annotations

import os
import re
import stat
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from streamtrain.decode import decode_json
from streamtrain.storage.permissions import opened

FORMAT = "streamtrain-shards"
MANIFEST, REJECTED = "manifest.json", "rejected.jsonl"
RECIPE, METRICS = "recipe.json", "metrics.jsonl"
LAST, PREVIOUS, BEST = "last.safetensors", "previous.safetensors", "best.safetensors"
REPORT, EXPORTED = "report.html", {"torch": "model.pt", "onnx": "model.onnx"}
REPORT_MARK = b'<meta name="generator" content="streamtrain">'  # in the page's head
TORCH_MARK = "archive/streamtrain"  # a member of the zip that torch.save writes
_ONNX_MARK = re.compile(rb"\x08.\x12\x0bstreamtrain", re.DOTALL)  # of ModelProto: ir_version, producer_name
MARK = ".streamtrain"  # a file in a folder that is being filled or emptied, and what it says
_MARKED = b"streamtrain is filling or emptying this folder\n"

# What `publishing` writes before it renames it, and a second name that a run gives a checkpoint.
_TEMPORARY = re.compile(r"\.(.+)\.(?:[0-9a-f]{8}\.tmp|link)")
_NAMED = "|".join(map(re.escape, (MANIFEST, REJECTED, RECIPE, METRICS, LAST, PREVIOUS, BEST, REPORT)))
_EXPORTS = "|".join(map(re.escape, EXPORTED.values()))
_UNFINISHED = re.compile(
    rf"{re.escape(MARK)}|\.journal/(?:recipe\.json|\d{{5,}}\.(?:record|rejected))"
    rf"|(?:\w[\w.-]*/)?(?:{_NAMED}|{_EXPORTS}|shard-\d{{5,}}\.parquet|spill/\d+)"
)


def why_foreign(folder: Path) -> str | None:
    """Return why a folder is not streamtrain's, or None if it is shards, a split or a run, and nothing else."""
    names = _shard_names(folder) or _split_names(folder) or _run_names(folder)
    entries = _entries(folder, {name.split("/")[0] for name in names if "/" in name})
    for name, regular in entries:
        if not names:
            return f"is neither shards nor a run of streamtrain: it holds {name}"
        if not (regular and _without_temporary(name) in names):
            return f"holds {name}, which is not part of what streamtrain wrote there"
    return None


def why_not_unfinished(folder: Path) -> str | None:
    """Return why a folder is not one that streamtrain was filling or emptying, or None if it is."""
    if folder.is_symlink() or not folder.is_dir():
        return "is not a folder"
    files = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    for path in files:
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not path.is_file() or not _UNFINISHED.fullmatch(_without_temporary(name)):
            return f"holds {name}, which streamtrain did not write"
    marked = folder / MARK in files and _MARKED.startswith(_start(folder / MARK))  # a kill may have cut it short
    return None if marked or not files else why_foreign(folder)


def mark(folder: Path) -> None:
    """Say in a folder that streamtrain is filling or emptying it."""
    with opened(folder / MARK, "xb") as file:
        file.write(_MARKED)


def is_report(path: Path) -> bool:
    """Return whether a file is a page that `report` wrote."""
    return REPORT_MARK in _start(path)


def is_export(path: Path) -> bool:
    """Return whether a file is a model that `export` wrote."""
    if _ONNX_MARK.match(_start(path)):
        return True
    try:
        with zipfile.ZipFile(path) as archive:
            return TORCH_MARK in archive.namelist()
    except (OSError, zipfile.BadZipFile, ValueError):
        return False


def begins_with(*firsts: bytes) -> Callable[[Path], bool]:
    """Return a function of a path that says whether the file begins with one of `firsts`."""
    return lambda path: _start(path).startswith(firsts)


class _Totals(Struct):
    rejected: int
    in_other_parts: int


class _Shard(Struct):
    file: Annotated[str, Meta(pattern=r"\A[^/]+\.parquet\Z")]


class _Shuffled(Struct):
    source: str


class _Manifest(Struct):
    """The part of a manifest that names the files of its folder and the parts of its split."""

    format: Literal["streamtrain-shards"]
    digest: str
    sources: list[Any]
    shards: list[_Shard]
    totals: _Totals
    shuffle: _Shuffled | None

    @property
    def files(self) -> set[str]:
        """Return the manifest's own name and those of its shards."""
        return {MANIFEST, *(shard.file for shard in self.shards)}


def _shard_names(folder: Path) -> set[str]:
    """Return the names that belong to a folder of shards by its manifest; none without a manifest."""
    manifest = _manifest(folder)
    return manifest.files | _rejected([manifest]) if manifest else set()


def _split_names(folder: Path) -> set[str]:
    """Return what belongs to the parts of a split, but not to a shuffled copy of one, other data or all rows."""
    manifests = {part.parent.name: _manifest(part.parent) for part in sorted(folder.glob(f"*/{MANIFEST}"))}
    parts = {name: manifest for name, manifest in manifests.items() if manifest}
    digests = {manifest.digest for manifest in parts.values()}
    sources = next((manifest.sources for manifest in parts.values()), None)
    parts = {
        name: manifest
        for name, manifest in parts.items()
        if manifest.sources == sources
        and not (manifest.shuffle and manifest.shuffle.source in digests)
        and manifest.totals.in_other_parts
    }
    names = {f"{part}/{name}" for part, manifest in parts.items() for name in manifest.files}
    return names | _rejected(list(parts.values()))


def _run_names(folder: Path) -> set[str]:
    """Return what belongs to a run; nothing if there is no recipe, or no checkpoint."""
    names = {name for name in (LAST, PREVIOUS, BEST) if _is_checkpoint(folder / name)}
    if not names & {LAST, PREVIOUS} or not (folder / RECIPE).is_file():
        return set()
    if _start(folder / METRICS).startswith(b'{"epoch": ') or not _start(folder / METRICS):
        names.add(METRICS)
    names |= {REPORT} if is_report(folder / REPORT) else set()
    return names | {RECIPE} | {name for name in EXPORTED.values() if is_export(folder / name)}


def _manifest(folder: Path) -> _Manifest | None:
    try:
        return decode_json((folder / MANIFEST).read_bytes(), _Manifest)
    except (OSError, ValueError):
        return None


def _rejected(manifests: list[_Manifest]) -> set[str]:
    return {REJECTED for manifest in manifests if manifest.totals.rejected}


class _Metadata(Struct):
    recipe: str
    manifest_digest: str


class _Header(Struct):
    """The header of a checkpoint, which other safetensors files do not have."""

    metadata: _Metadata = field(name="__metadata__")


def _is_checkpoint(path: Path) -> bool:
    """Return whether a safetensors file has the metadata of a checkpoint: 8 bytes of length, then JSON."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            decode_json(file.read(min(length, 1 << 24)), _Header)
    except (OSError, ValueError):
        return False
    return True


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(4096)
    except OSError:
        return b""


def _without_temporary(name: str) -> str:
    """Return the name that a half-written file was to have; other names as they are."""
    folder, slash, base = name.rpartition("/")
    found = _TEMPORARY.fullmatch(base)
    return folder + slash + found[1] if found else name


def _entries(folder: Path, parts: set[str]) -> Iterator[tuple[str, bool]]:
    """Yield what lies in a folder and its parts, and whether it is a regular file; no other folder is entered."""
    for name in sorted(os.listdir(folder)):  # noqa: PTH208  # names, as text
        if name in parts and stat.S_ISDIR((folder / name).lstat().st_mode):
            yield from ((f"{name}/{below}", regular) for below, regular in _entries(folder / name, set()))
        else:
            yield name, stat.S_ISREG((folder / name).lstat().st_mode)
