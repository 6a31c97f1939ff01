"""Files → chunks of whole lines that know their file, their first line and their place in it."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from streamtrain.errors import DataError, UsageError
from streamtrain.ingest.opening import STDIN, TextFile, file_of

CHUNK_BYTES = 16 << 20  # decompressed text of one shard
LONGEST_LINE = 64 << 20
_READ_BYTES = 256 << 10
_CSV_NAME = re.compile(r"^[^.].*\.(csv|tsv|txt|data|dat|tra|tes)(\.(gz|bz2|xz|zst|zip))?$", re.IGNORECASE)


@dataclass(frozen=True)
class Chunk:
    """Whole lines of one file: those that begin in one fixed range of its decompressed bytes.

    data:   the lines, each with its line end but perhaps the file's last
    path:   the file, as it was named
    offset: place of data[0] in the decompressed file
    file_line: number of the first line in the file, from 1
    line:   number of the first line over all sources, from 1
    """

    data: bytes
    path: str
    offset: int
    file_line: int
    line: int

    @property
    def lines(self) -> int:
        """Lines in it, a last one without a line end included."""
        return self.data.count(b"\n") + (not self.data.endswith(b"\n"))


def find_sources(sources: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """The files that paths, glob patterns and folders name, in the order given; a pattern's or folder's sorted.

    `-` is standard input, `archive.zip:member.csv` a member of an archive; of a folder its CSV-like files count.
    Raises DataError for what is missing.
    """
    found: list[Path] = []
    for source in (os.fspath(source) for source in sources):
        paths = [Path(source)]
        if source != "-" and not paths[0].exists() and glob.has_magic(source):
            paths = [Path(match) for match in sorted(glob.glob(source))]
        if not paths:
            raise DataError(f"{source}: no file matches. Check the pattern and the folder")
        for path in paths:
            file = file_of(path)
            if file and not file.exists():
                raise DataError(f"{path}: there is no such file. Check the name and the folder")
            found += _files_of(path) if path.is_dir() else [path]
    if found.count(STDIN) > 1:
        raise UsageError("standard input can be read only once. Name - once")
    return found


def _files_of(folder: Path) -> list[Path]:
    files = sorted(f for f in folder.iterdir() if f.is_file() and _CSV_NAME.search(f.name))
    if not files:
        raise DataError(f"{folder} is a folder without CSV files (.csv, .tsv, .txt, .data, …). Name its files")
    return files


def chunks(file: TextFile, *, first_line: int, chunk_bytes: int = CHUNK_BYTES) -> Iterator[Chunk]:
    """Cut a file into chunks: chunk i holds the lines that begin in bytes [i, i + 1) × chunk_bytes.

    first_line: number of the file's first line over all sources.
    Raises DataError for a line longer than 64 MiB.
    """
    offset, file_line, line, carry = 0, 1, first_line, b""
    limit = chunk_bytes
    while True:
        wanted = limit - offset - len(carry)
        data = carry + file.read(wanted) if wanted > 0 else carry
        pieces, ended = [data], len(data) < limit - offset
        data_end = data.rfind(b"\n", 0, limit - offset) + 1
        while not ended and not (len(data) >= limit - offset and data_end == limit - offset):
            # The last line goes on past the limit: read to its end.
            cut = data.find(b"\n", limit - offset)
            if cut >= 0:
                data_end = cut + 1
                break
            more = file.read(_READ_BYTES)
            if not more:
                ended = True
                break
            if len(data) - data_end > LONGEST_LINE:
                raise DataError(
                    f"{file.path}:{file_line + data.count(10)}: a line of over {LONGEST_LINE >> 20} MiB. "
                    "Is this a text file with one row a line?"
                )
            pieces = [data, more]
            data = b"".join(pieces)
        if ended:
            data_end = len(data)
        head, carry = data[:data_end], data[data_end:]
        if head:
            chunk = Chunk(head, str(file.path), offset, file_line, line)
            yield chunk
            count = chunk.lines
            file_line, line = file_line + count, line + count
        offset += len(head)
        if ended:
            return
        limit += chunk_bytes
        while limit <= offset:  # a line longer than a chunk: ranges in which no line begins
            limit += chunk_bytes
