"""Threads that share out a computation cut into fixed pieces, so that their number changes nothing but time.

A matrix product that its library splits among threads sums in another order, so the last bits of the weights
would depend on the number of cores. Here one thread computes a piece, and sizes of the data say what a piece is.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import Any

import torch


class Team:
    """The calling thread and `threads` − 1 more, each of which computes alone; made by `team`."""

    def __init__(self, threads: int) -> None:
        self._todo: SimpleQueue[tuple[Callable[[Any], object], Any] | None] = SimpleQueue()
        self._done: SimpleQueue[BaseException | None] = SimpleQueue()
        self._threads = [threading.Thread(target=self._help, daemon=True) for _ in range(threads - 1)]
        for thread in self._threads:
            thread.start()

    def each(self, work: Callable[[Any], object], pieces: Sequence[Any]) -> None:
        """Call `work` with every piece, in any order and at once: no two may write the same place.

        Raises what a piece raised, once all have ended.
        """
        for piece in pieces:
            self._todo.put((work, piece))
        with contextlib.suppress(Empty):
            while task := self._todo.get_nowait():
                self._do(*task)
        for error in [self._done.get() for _ in pieces]:
            if error:
                raise error

    def _do(self, work: Callable[[Any], object], piece: Any) -> None:
        try:
            work(piece)
        except BaseException as error:  # the caller of `each` raises it
            self._done.put(error)
        else:
            self._done.put(None)

    def _help(self) -> None:
        torch.set_num_threads(1)
        while task := self._todo.get():
            self._do(*task)

    def close(self) -> None:
        """End the threads."""
        for _ in self._threads:
            self._todo.put(None)
        for thread in self._threads:
            thread.join()


@contextlib.contextmanager
def team() -> Iterator[Team]:
    """A team of `torch.get_num_threads()` threads inside a `with`, each product being computed by one of them."""
    threads = torch.get_num_threads()
    with one_thread():
        crew = Team(threads)
        try:
            yield crew
        finally:
            crew.close()


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let the calling thread compute alone inside a `with`."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def pieces(length: int, size: int) -> list[slice]:
    """0 … length − 1 in as few nearly equal runs as have at most `size`.

    >>> pieces(100, 64)
    [slice(0, 50, None), slice(50, 100, None)]
    """
    count = -(-length // size)
    return [slice(length * k // count, length * (k + 1) // count) for k in range(count)]
