"""Chunks of all files through worker threads, their results in the order of the source."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from streamtrain.convert.text.chunks import CHUNK_BYTES, Chunk, ChunkBuffer, LinePosition, Reader
from streamtrain.convert.text.text_file import FileFacts, TextFile

T = TypeVar("T")


@dataclass(frozen=True)
class Step(Generic[T]):
    """What came of one chunk.

    source:     which of the files, from 0
    bytes_read: of that file on disk, up to and with this chunk
    facts:      of the file, where this was its last chunk
    """

    result: T
    source: int
    bytes_read: int
    facts: FileFacts | None


def map_chunks(
    paths: Sequence[Path],
    work: Callable[[Chunk, int, ChunkBuffer], T],
    *,
    workers: int,
    chunk_bytes: int = CHUNK_BYTES,
    cancel: Callable[[], None] = lambda: None,
) -> Generator[Step[T], None, None]:
    """Call work(chunk, number, room) in `workers` threads for every chunk; yield the results in order.

    Chunks are numbered from 0 over all files. A plain file is read by the threads, a stream ahead of them by the
    caller's. No more than workers + 2 chunks are under way, whatever the size of the source. Where the pass ends
    early, `cancel` is called: what waits for the work on an earlier chunk, which may not come, has to give up.
    """
    waiting: deque[Future[Step[T]]] = deque()
    with contextlib.ExitStack() as files, ThreadPoolExecutor(workers) as pool:
        try:
            for job in _Jobs(work, files, chunk_bytes).of(paths):
                waiting.append(pool.submit(job))
                while len(waiting) > workers + 1 or (waiting and waiting[0].done()):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BaseException:
            cancel()
            pool.shutdown(cancel_futures=True)
            raise


class _Jobs(Generic[T]):
    """The jobs of one pass: each takes the place where it begins from the one before, and hands on its end."""

    def __init__(
        self, work: Callable[[Chunk, int, ChunkBuffer], T], files: contextlib.ExitStack, chunk_bytes: int
    ) -> None:
        self._work, self._files, self._chunk_bytes = work, files, chunk_bytes
        self._rooms: list[ChunkBuffer] = []  # which no chunk uses just now
        self._number = itertools.count()

    def of(self, paths: Sequence[Path]) -> Iterator[Callable[[], Step[T]]]:
        """A job a chunk, to be started in this order."""
        before: Future[LinePosition] = Future()
        before.set_result(LinePosition(1, 1))
        for source, path in enumerate(paths):
            file = self._files.enter_context(TextFile(path))
            reader = Reader(file, chunk_bytes=self._chunk_bytes)
            more = True
            for index in itertools.count():
                if not more:
                    break
                after: Future[LinePosition] = Future()
                if file.plain:
                    more = (index + 1) * self._chunk_bytes < file.size
                    yield functools.partial(
                        self._read_and_work, reader, index, source, next(self._number), not more, before, after
                    )
                else:
                    room = self._room()
                    more = reader.read(index, room)
                    chunk, facts = _cut(reader, index, room, before.result(), last=not more)
                    after.set_result(chunk.end)
                    yield functools.partial(
                        self._finish, chunk, room, source, next(self._number), file.raw_bytes, facts
                    )
                before = after

    def _read_and_work(
        self,
        reader: Reader,
        index: int,
        source: int,
        number: int,
        last: bool,
        before: Future[LinePosition],
        after: Future[LinePosition],
    ) -> Step[T]:
        room = self._room()
        try:
            reader.read(index, room)
            chunk, facts = _cut(reader, index, room, before.result(), last=last)
        except BaseException as error:
            after.set_exception(error)  # so those that wait for it end too
            raise
        after.set_result(chunk.end)
        bytes_read = reader.file.size if last else (index + 1) * self._chunk_bytes
        return self._finish(chunk, room, source, number, bytes_read, facts)

    def _finish(
        self, chunk: Chunk, room: ChunkBuffer, source: int, number: int, bytes_read: int, facts: FileFacts | None
    ) -> Step[T]:
        result = self._work(chunk, number, room)
        self._rooms.append(room)
        return Step(result, source, bytes_read, facts)

    def _room(self) -> ChunkBuffer:
        try:
            return self._rooms.pop()
        except IndexError:
            return ChunkBuffer()


def _cut(
    reader: Reader, index: int, room: ChunkBuffer, place: LinePosition, *, last: bool
) -> tuple[Chunk, FileFacts | None]:
    chunk = reader.cut(index, room, LinePosition(1, place.line) if index == 0 else place)
    return chunk, reader.file.facts() if last else None
