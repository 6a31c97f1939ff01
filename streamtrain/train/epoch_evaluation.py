"""The evaluation after an epoch, in a thread of its own if the next epoch is trained meanwhile."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import replace
from queue import SimpleQueue
from typing import Any, TypeVar

from streamtrain.errors import RunError
from streamtrain.nn.mlp import MLP
from streamtrain.stream.dataset import Shards
from streamtrain.train.evaluate import iter_evaluate
from streamtrain.train.progress import EpochReport, Evaluating, Progress

R = TypeVar("R")


class EpochEvaluation:
    """The evaluation of a model on each set; loop over it once for its progress, and `close` it.

    model: it must not change until the end of the loop
    sets: by name, None for one that is not given
    trained: the progress at the end of the epoch
    report: of the epoch; has the evaluations and their seconds at the end of the loop
    not_finite: returns the error for a loss that is not finite, from where it is and its value; the loop raises it
    """

    def __init__(
        self,
        model: MLP,
        sets: Mapping[str, Shards | None],
        trained: Progress,
        report: EpochReport,
        *,
        not_finite: Callable[[str], RunError],
        threads: int,
    ) -> None:
        self.trained, self.report = trained, report
        self._events = self._evaluate(model, sets, not_finite, threads)
        self._queue: SimpleQueue[Evaluating | BaseException | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def start(self) -> None:
        """Evaluate in a thread from now on; otherwise the loop does it."""
        self._thread = threading.Thread(target=self._run, name="streamtrain-evaluation", daemon=True)
        self._thread.start()

    @property
    def is_ready(self) -> bool:
        """Return whether a loop would not wait for the thread."""
        return self._thread is not None and not self._thread.is_alive()

    def __iter__(self) -> Iterator[Evaluating]:
        if self._thread is None:
            yield from self._events
            return
        while (event := self._queue.get()) is not None:
            if isinstance(event, BaseException):
                raise event
            yield event

    def close(self) -> None:
        """Stop it and wait for the thread."""
        self._closed.set()
        if self._thread is None:
            self._events.close()
        elif self._thread.ident is not None:  # its start was not interrupted
            self._thread.join()

    def _run(self) -> None:
        try:
            for event in self._events:
                if self._closed.is_set():
                    break
                self._queue.put(event)
            self._queue.put(None)
        except BaseException as error:  # it is raised in the loop
            self._queue.put(error)
        finally:
            self._events.close()

    def _evaluate(
        self,
        model: MLP,
        sets: Mapping[str, Shards | None],
        not_finite: Callable[[str], RunError],
        threads: int,
    ) -> Generator[Evaluating]:
        began, found = time.perf_counter(), {}
        for name, data in sets.items():
            if not data:
                continue
            for evaluation in iter_evaluate(model, data, threads):
                found[name] = evaluation
                yield Evaluating(self.trained, name, evaluation.rows, data.rows)
            if not math.isfinite(evaluation.loss):
                epoch = self.trained.cursor.epoch
                raise not_finite(f"after epoch {epoch} the loss on {data.folder} is {evaluation.loss}")
        results: dict[str, Any] = found
        self.report = replace(self.report, **results, eval_seconds=time.perf_counter() - began)


class Evaluations:
    """The evaluation that runs, if any, among the events of a training.

    judged: returns a report as it is to be yielded
    paused: seconds in which reports were handed over while an epoch was trained
    """

    def __init__(self, judged: Callable[[EpochReport], EpochReport]) -> None:
        self._judged = judged
        self.current: EpochEvaluation | None = None
        self.paused = 0.0

    def begin(self, evaluation: EpochEvaluation, *, in_thread: bool) -> None:
        """Make it the current one; in_thread: and start it."""
        self.current, self.paused = evaluation, 0.0
        if in_thread:
            evaluation.start()

    def reported_during(self, steps: Generator[Progress, None, R]) -> Generator[Progress | EpochReport, None, R]:
        """Yield from `steps`, and the report of the epoch before them as soon as that is evaluated.

        If a step fails, the report comes before the error.
        """
        while True:
            try:
                progress = next(steps)
            except StopIteration as end:
                result: R = end.value
                return result
            except Exception:
                yield from self._report()
                raise
            yield progress
            if self.current and self.current.is_ready:
                began = time.perf_counter()
                yield from self._report()
                self.paused += time.perf_counter() - began

    def _report(self) -> Iterator[EpochReport]:
        return (event for event in self.finish() if isinstance(event, EpochReport))

    def finish(self) -> Generator[Evaluating | EpochReport]:
        """Yield the rest of the evaluation, if there is one, and the report of its epoch."""
        if evaluation := self.current:
            yield from evaluation
            yield self._judged(evaluation.report)
            self.current = None

    def drop(self) -> None:
        """Stop the evaluation, if there is one."""
        if self.current:
            self.current.close()
            self.current = None
