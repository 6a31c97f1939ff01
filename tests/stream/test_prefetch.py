"""A slot is never written to while the consumer has it, and no thread is left behind."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from streamtrain.block import Array
from streamtrain.stream.prefetch import prefetch


def write(job: int, slot: Array) -> Iterator[Callable[[], None]]:
    """Four tasks that each write the job's number to a quarter of the slot, slowly."""

    def quarter(part: Array) -> None:
        for at in range(len(part)):
            part[at] = job
            time.sleep(random.random() * 1e-5)

    for part in np.split(slot, 4):
        yield lambda part=part: quarter(part)


def corrupted(slots: Sequence[Array], *, jobs: int, workers: int) -> int:
    """How many jobs the consumer saw mixed with another one, now or after it had kept the slot for a while."""
    seen = 0
    for job, slot in prefetch(range(jobs), slots, tasks=write, workers=workers):
        before = (slot != job).any()
        time.sleep(random.random() * 2e-3)
        seen += bool(before or (slot != job).any())
    return seen


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("workers", [1, 4])
def test_every_job_arrives_whole_and_stays_so_while_the_consumer_keeps_it(count: int, workers: int) -> None:
    slots = [np.full(64, -1) for _ in range(count)]
    assert corrupted(slots, jobs=150, workers=workers) == 0


def test_this_very_test_notices_a_slot_that_is_refilled_too_early() -> None:
    slot = np.full(64, -1)
    assert corrupted([slot, slot], jobs=50, workers=4) > 10  # the same memory twice: filled while it is looked at


def test_jobs_come_in_order_and_the_next_is_ready_while_one_is_used() -> None:
    begun = [threading.Event() for _ in range(5)]

    def note(job: int, slot: int) -> Iterator[Callable[[], None]]:
        yield begun[job].set

    order = []
    for job, _ in prefetch(range(5), (0, 1), tasks=note, workers=1):
        order.append(job)
        assert job == 4 or begun[job + 1].wait(5)
        assert not any(event.is_set() for event in begun[job + 2 :])  # bounded: no slot, no work
    assert order == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("how", ["break", "error of a task", "error of the consumer", "to the end"])
def test_no_thread_is_left_behind(how: str) -> None:
    before = threading.active_count()

    def tasks(job: int, slot: int) -> Iterator[Callable[[], object]]:
        for _ in range(10):
            yield lambda: 1 // (0 if how == "error of a task" and job == 3 else 1)

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
    assert threading.active_count() == before
