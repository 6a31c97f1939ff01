"""Chunks of all files through worker threads; results in the order of the source."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from streamtrain.convert.text.chunks import CHUNK_BYTES, Chunk, ChunkBuffer, LinePosition, Reader
from streamtrain.convert.text.text_file import FileFacts, TextFile
from streamtrain.storage.objects import Location

T = TypeVar("T")
_USEFUL_THREADS = 8  # on a small machine: each holds a chunk, so a hundred thousand would hold the whole source


@dataclass(frozen=True)
class Step(Generic[T]):
    """The result for one chunk.

    source:     number of the file, from 0
    bytes_read: of that file on disk, up to the end of this chunk
    facts:      of the file, if this was its last chunk, else None
    """

    result: T
    source: int
    bytes_read: int
    facts: FileFacts | None


def map_chunks(
    paths: Sequence[Location],
    work: Callable[[Chunk, int, ChunkBuffer], T],
    *,
    workers: int,
    chunk_bytes: int = CHUNK_BYTES,
    cancel: Callable[[], None] = lambda: None,
) -> Generator[Step[T], None, None]:
    """Call work(chunk, number, buffer) in `workers` threads for every chunk; yield the results in order.

    No more threads are started than the machine has processors, or 8.
    Chunks are numbered from 0 over all files. The threads read plain files; the caller's thread reads streams,
    ahead of them. At most `workers` + 2 chunks are in memory, whatever the size of the source. If the pass stops
    early, `cancel()` is called so that workers waiting for an earlier chunk do not wait forever.
    """
    waiting: deque[Future[Step[T]]] = deque()
    jobs = _Jobs(work, chunk_bytes)
    workers = min(workers, max(_USEFUL_THREADS, os.cpu_count() or 1))
    with contextlib.closing(jobs), ThreadPoolExecutor(workers) as pool:
        try:
            for job in jobs.of(paths):
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
    """The jobs of one pass. Each gets the position where it begins from the previous one and passes on its end."""

    def __init__(self, work: Callable[[Chunk, int, ChunkBuffer], T], chunk_bytes: int) -> None:
        self._work, self._chunk_bytes = work, chunk_bytes
        self._open: set[TextFile] = set()  # files of which there is more to read: few, however many sources
        self._free: list[ChunkBuffer] = []  # buffers that no chunk uses now
        self._number = itertools.count()

    def of(self, paths: Sequence[Location]) -> Iterator[Callable[[], Step[T]]]:
        """Yield a job for each chunk, to be started in this order; a file's last chunk closes it."""
        before: Future[LinePosition] = Future()
        before.set_result(LinePosition(1, 1))
        for source, path in enumerate(paths):
            file = TextFile(path)
            self._open.add(file)
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
                    buffer = self._free_buffer()
                    more = reader.read(index, buffer)
                    chunk, facts = self._take_lines(reader, index, buffer, before.result(), last=not more)
                    after.set_result(chunk.end)
                    read = facts.size if facts else file.raw_bytes
                    yield functools.partial(self._finish, chunk, buffer, source, next(self._number), read, facts)
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
        buffer = self._free_buffer()
        try:
            reader.read(index, buffer)
            chunk, facts = self._take_lines(reader, index, buffer, before.result(), last=last)
        except BaseException as error:
            after.set_exception(error)  # so that the jobs waiting for it end too
            raise
        after.set_result(chunk.end)
        bytes_read = reader.file.size if last else (index + 1) * self._chunk_bytes
        return self._finish(chunk, buffer, source, number, bytes_read, facts)

    def _finish(
        self, chunk: Chunk, buffer: ChunkBuffer, source: int, number: int, bytes_read: int, facts: FileFacts | None
    ) -> Step[T]:
        result = self._work(chunk, number, buffer)
        self._free.append(buffer)
        return Step(result, source, bytes_read, facts)

    def _free_buffer(self) -> ChunkBuffer:
        try:
            return self._free.pop()
        except IndexError:
            return ChunkBuffer()

    def _take_lines(
        self, reader: Reader, index: int, buffer: ChunkBuffer, position: LinePosition, *, last: bool
    ) -> tuple[Chunk, FileFacts | None]:
        """Return the chunk and, with the last one of a file, which is then closed, its facts."""
        chunk = reader.take_lines(index, buffer, LinePosition(1, position.line) if index == 0 else position)
        if not last:
            return chunk, None
        facts = reader.file.facts()
        self._open.remove(reader.file)
        reader.file.close()
        return chunk, facts

    def close(self) -> None:
        """Close the files that are still open, if the pass stops early."""
        for file in self._open:
            file.close()
