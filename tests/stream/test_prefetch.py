"""A slot is never written to while the consumer has it, and no thread is left behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from streamtrain.block import Array
from streamtrain.stream.prefetch import prefetch

Tasks = list[Callable[[], object]]


def write(job: int, slot: Array) -> Iterator[Callable[[], None]]:
    """Return four tasks that each write the job's number to a quarter of the slot."""
    for part in np.split(slot, 4):
        yield lambda part=part: part.fill(job)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("workers", [1, 4])
def test_every_job_arrives_whole_and_in_order(count: int, workers: int) -> None:
    slots = [np.full(64, -1) for _ in range(count)]
    jobs = []
    for job, slot in prefetch(range(150), slots, tasks=write, workers=workers):
        jobs.append(job)
        assert (slot == job).all()
    assert jobs == list(range(150))


def overwritten(slots: Sequence[Array]) -> int:
    """Return how many slots were written to while the consumer had them, after every task that may run has run."""
    finished: dict[int, threading.Event] = {job: threading.Event() for job in range(20)}

    def tasks(job: int, slot: Array) -> Tasks:
        return [lambda: slot.fill(job), finished[job].set]  # in turn: one worker

    seen = 0
    for job, slot in prefetch(range(20), slots, tasks=tasks, workers=1):
        ahead = min(job + len(slots) - 1, 19)
        assert finished[ahead].wait()  # the other slots have been filled by now
        seen += bool((slot != job).any())
    return seen


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_slot_stays_as_it_is_while_the_consumer_keeps_it(count: int) -> None:
    assert overwritten([np.full(64, -1) for _ in range(count)]) == 0


def test_the_check_of_a_slot_notices_one_that_is_refilled_too_early() -> None:
    slot = np.full(64, -1)
    assert overwritten([slot, slot]) == 19  # the same memory twice: all but the last are overwritten


def test_the_next_is_filled_while_one_is_used_and_no_more_than_there_are_slots() -> None:
    begun = [threading.Event() for _ in range(5)]

    def note(job: int, slot: int) -> Tasks:
        return [begun[job].set]

    order = []
    for job, _ in prefetch(range(5), (0, 1), tasks=note, workers=1):
        order.append(job)
        assert job == 4 or begun[job + 1].wait()
        assert not any(event.is_set() for event in begun[job + 2 :])  # bounded: without a slot there is no work
    assert order == [0, 1, 2, 3, 4]


def test_tasks_of_a_job_run_at_the_same_time() -> None:
    together = threading.Barrier(4)  # which four threads must reach before one goes on
    jobs = prefetch(range(3), (0,), tasks=lambda job, slot: [together.wait] * 4, workers=4)
    assert [job for job, _ in jobs] == [0, 1, 2]


def test_a_thread_whose_start_is_interrupted_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    start, shutdown = threading.Thread.start, ThreadPoolExecutor.shutdown
    working, closing, ended = threading.Event(), threading.Event(), threading.Event()

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        working.wait()
        raise KeyboardInterrupt

    def then_close(pool: ThreadPoolExecutor, **options: bool) -> None:
        shutdown(pool, **options)  # does not wait: the pool does not know the thread
        closing.set()

    def work() -> None:
        working.set()
        closing.wait()
        sum(range(1_000_000))
        ended.set()

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", then_close)
    with pytest.raises(KeyboardInterrupt):
        list(prefetch(range(3), (0,), tasks=lambda job, slot: [work], workers=2))
    assert ended.is_set()


@pytest.mark.parametrize("how", ["break", "error of a task", "error of the consumer", "to the end"])
def test_no_thread_is_left_behind(how: str) -> None:
    threads: set[threading.Thread] = set()

    def tasks(job: int, slot: int) -> Iterator[Callable[[], object]]:
        def work() -> float:
            threads.add(threading.current_thread())
            return 1 / (0 if how == "error of a task" and job == 3 else 1)

        for _ in range(10):
            yield work

    def consume() -> None:
        for job, _ in prefetch(range(6), (0, 1), tasks=tasks, workers=4):
            if job == 2 and how == "break":
                break
            if job == 2 and how == "error of the consumer":
                raise ZeroDivisionError

    if "error" in how:
        with pytest.raises(ZeroDivisionError):
            consume()
    else:
        consume()
    assert threads
    assert not any(thread.is_alive() for thread in threads)
