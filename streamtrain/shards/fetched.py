"""A shard in a store, of which only the row groups that are read are fetched, each proved by its digest."""

from __future__ import annotations

import functools

import pyarrow as pa
import pyarrow.parquet as pq

from streamtrain.shards.digests import digest_bytes
from streamtrain.shards.manifest import Piece, Shard
from streamtrain.storage.object_file import SeekableFile
from streamtrain.storage.objects import ObjectPath, ShortObjectError

_FOOTERS = 256  # parsed footers that are kept, of a few kB each


class FetchedShard(SeekableFile):
    """A shard as a file of which one row group is here: the one that was last asked for with `fetch`.

    metadata: what its footer says
    Raises ValueError for bytes that are not those that were written.
    """

    def __init__(self, path: ObjectPath, shard: Shard) -> None:
        super().__init__(shard.bytes)
        self.path, self.shard, self._start, self._data = path, shard, 0, b""
        if shard.footer:
            self.metadata = footer_of(path, shard.footer)
        else:  # as version 1 has it: one digest of the whole shard
            self.fetch_all()
            self.metadata = pq.read_metadata(pa.BufferReader(self._data))

    def fetch(self, group: int) -> None:
        """Fetch a row group, unless all of the shard is here."""
        if len(self._data) < self.shard.bytes:
            piece = self.shard.groups[group]
            self._data = b""  # before the next is in memory
            self._start, self._data = piece.start, _read_piece(self.path, piece)

    def fetch_all(self) -> bytes:
        """Fetch all of the shard, and return it."""
        self._start, self._data = 0, self.path.read_bytes()
        if len(self._data) != self.shard.bytes:
            raise ValueError(f"it has {len(self._data)} bytes, the manifest says {self.shard.bytes}")
        if digest_bytes(self._data) != self.shard.digest:
            raise ValueError("its bytes are not those that were written (digest)")
        return self._data

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes. Raises OSError if they are not of what was fetched."""
        size = self.shard.bytes - self._at if size < 0 else size
        start = self._at - self._start
        data = self._data[start : start + size] if start >= 0 else b""
        if len(data) != size:
            raise OSError(f"bytes {self._at} to {self._at + size} are not of the row group that is read")
        self._at += size
        return data


def _read_piece(path: ObjectPath, piece: Piece) -> bytes:
    """Return a piece of a shard. Raises ValueError if its bytes are not those that were written."""
    try:
        data = path.read_range(piece.start, piece.start + piece.length)
    except ShortObjectError:
        raise ValueError("it is shorter than the manifest says") from None
    if digest_bytes(data) != piece.digest:
        raise ValueError(f"its bytes from {piece.start:,} on are not those that were written (digest)")
    return data


@functools.lru_cache(maxsize=_FOOTERS)
def footer_of(path: ObjectPath, piece: Piece) -> pq.FileMetaData:
    """Return what a footer says: an epoch opens a shard often."""
    return pq.read_metadata(pa.BufferReader(_read_piece(path, piece)))
