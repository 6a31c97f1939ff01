"""Buffers that threads fill ahead of the consumer; each has one owner at a time."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from streamtrain.process import closed_at_exit

Job = TypeVar("Job")
Slot = TypeVar("Slot")
Task = Callable[[], object]


@closed_at_exit
def prefetch(
    jobs: Iterable[Job], slots: Sequence[Slot], *, tasks: Callable[[Job, Slot], Iterable[Task]], workers: int
) -> Generator[tuple[Job, Slot]]:
    """Yield each job with a slot that was filled for it, in order, while `workers` threads fill the other slots.

    tasks: returns the tasks that fill a slot for a job; they may run at the same time, and an error of one is
           raised here
    A slot belongs to the consumer until it asks for the next one. Tasks that write to it start only then, and only
    here. Closing the generator waits for the tasks that run, drops the others and leaves no thread.
    """
    left = iter(jobs)
    filling: deque[tuple[Job, Slot, list[Future[object]]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="streamtrain")
    running, closed = threading.Semaphore(workers), threading.Event()

    def run(task: Task) -> None:
        with running:
            if not closed.is_set():
                task()

    def submit(slot: Slot) -> None:
        for job in itertools.islice(left, 1):
            filling.append((job, slot, [pool.submit(run, task) for task in tasks(job, slot)]))

    try:
        for slot in slots:
            submit(slot)
        while filling:
            job, slot, futures = filling.popleft()
            for future in futures:
                future.result()
            yield job, slot
            submit(slot)
    finally:
        closed.set()
        pool.shutdown(cancel_futures=True)
        for _ in range(workers):  # the pool does not wait for a thread whose start was interrupted
            running.acquire()
        running.release(workers)
