"""A memory budget → every size that follows from it, and the predicted peak."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from streamtrain.errors import UsageError, argument
from streamtrain.schema import Schema

# Bytes for everything small: file footers, the state of zstd, label counts, the rest of malloc.
OVERHEAD_BYTES = 5 << 18
# Bytes of a row in addition to its pixels: its label and, in two buffers, its place and the keys that are sorted.
ROW_OVERHEAD_BYTES = 8 + 2 * (8 + 24)
AUGMENTATION_BYTES = 4096  # of a row: what is drawn for it, four times 8 bytes for each of 103 numbers
PARAMETER_COPIES = 3  # the model's parameters, a step's, and their gradient
MAX_PREFETCH_THREADS = 4  # more decode faster than a model learns
PAIR_BYTES = 4 * 16  # of a true and a predicted class, as counted for the sets that are evaluated and when added
PREFETCH_SHARE = 4  # row groups that are being decoded may take 1/4 of the budget
PREFETCH_BATCH_SHARE = 16  # a batch that is read ahead may take 1/16


@dataclass(frozen=True)
class Plan:
    """Sizes that keep within a budget.

    window_rows:          how many rows are shuffled together
    prefetch_threads:     how many threads load the next window while one is consumed; 0 if there is memory for one
                          window only
    prefetch_batch:       whether another thread may read the next batch while one is learned
    predicted_peak_bytes: the most that all of it takes
    """

    window_rows: int
    prefetch_threads: int
    prefetch_batch: bool
    predicted_peak_bytes: int


class EvaluationSizes(NamedTuple):
    """The sizes of an evaluation.

    threads:     how many threads score row groups
    dense_rows:  rows that each scores at once if it multiplies all pixels
    sparse_rows: the same if it multiplies only the pixels that are not zero
    """

    threads: int
    dense_rows: int
    sparse_rows: int


@dataclass(frozen=True)
class Workload:
    """The sizes that decide how much memory a pass over the data needs, in addition to the window.

    rows:             rows in all
    group_rows:       rows of the largest row group
    group_file_bytes: its bytes on disk
    parameters:       numbers that a checkpoint holds
    units:            activations of one row, over all layers
    evaluation:       the sizes of an evaluation between the epochs, if there is one
    augmented:        whether the images of a batch are deformed
    """

    schema: Schema
    rows: int
    group_rows: int
    group_file_bytes: int
    batch_size: int
    parameters: int = 0
    units: int = 0
    evaluation: EvaluationSizes | None = None
    augmented: bool = False

    def fixed_bytes(self, prefetch_threads: int) -> int:
        """Return the bytes that do not depend on the window, with `prefetch_threads` threads.

        Without a thread, a batch is trained or an evaluation runs, and a checkpoint is written when no row group
        is decoded; with threads, all of it at a time.
        """
        deformed = self.schema.row_bytes + AUGMENTATION_BYTES if self.augmented else 0
        trained = self.batch_rows * (self.schema.row_bytes + 12 * self.units + deformed) + self.batch_bytes
        evaluated, scored = self._evaluation_bytes(concurrent=prefetch_threads > 0)
        decoded = (prefetch_threads + 1) * self.row_group_bytes + scored
        copy = 4 * self.parameters
        evaluated += copy
        saved = 2 * copy  # as tensors and as bytes
        most = (
            trained + evaluated + decoded + saved
            if prefetch_threads
            else max(trained, evaluated) + max(decoded, saved)
        )
        return OVERHEAD_BYTES + PARAMETER_COPIES * copy + most + self._confusion_bytes

    def _evaluation_bytes(self, *, concurrent: bool) -> tuple[int, int]:
        """Return the bytes of an evaluation's products, and of a row group that is scored while one is decoded.

        concurrent: whether there is memory for threads at all; otherwise one thread decodes, then scores
        """
        if self.evaluation is None:
            return 0, 0
        threads, dense_rows, sparse_rows = self.evaluation
        dense = min(dense_rows, self.group_rows) * (self.schema.features + 2 * self.units)
        sparse = min(sparse_rows, self.group_rows) * 2 * self.units
        products = 4 * max(dense, sparse)
        return (threads * products, self.group_rows * self.schema.row_bytes) if concurrent else (products, 0)

    @property
    def _confusion_bytes(self) -> int:
        """Bytes of the pairs of true and predicted classes that evaluations count: of all, or one for each row."""
        return PAIR_BYTES * min(len(self.schema.classes) ** 2, self.rows) if self.evaluation else 0

    @property
    def batch_rows(self) -> int:
        """Rows of the largest batch."""
        return min(self.batch_size, self.rows)

    @property
    def batch_bytes(self) -> int:
        """Bytes of a batch as a training step reads it: its pixels as float32, or listed by row and by place."""
        return 6 * self.batch_rows * self.schema.features

    @property
    def row_group_bytes(self) -> int:
        """Bytes of a row group while it is decoded: as it lies in the file, as pages, as columns."""
        return 2 * self.group_rows * self.schema.row_bytes + self.group_file_bytes

    @property
    def row_bytes(self) -> int:
        """Bytes of a decoded row in a window."""
        return self.schema.row_bytes + ROW_OVERHEAD_BYTES


class _Candidate(NamedTuple):
    """A way to use the memory: `windows` buffers of `least_rows` rows or more, and the threads that fill them."""

    windows: int
    least_rows: int
    prefetch_threads: int


def _candidates(memory_bytes: int, work: Workload) -> Iterator[_Candidate]:
    """Yield the ways to use the memory, the best first."""
    most = min(MAX_PREFETCH_THREADS, memory_bytes // (PREFETCH_SHARE * work.row_group_bytes))
    for threads in range(most, -1, -1):  # the whole set, resident
        yield _Candidate(1, work.rows, threads)
    for threads in range(most, 0, -1):  # one window is consumed while the next is loaded
        yield _Candidate(2, work.group_rows, threads)
    yield _Candidate(1, work.group_rows, 0)  # one window, loaded when it is needed


def plan(memory_bytes: int, work: Workload, *, workers: int) -> Plan:
    """Return the largest windows that `memory_bytes` allows; one window of all rows if it can hold them.

    workers: available threads; fewer lower the peak but keep the windows, so the order is the same on any machine.
    Raises UsageError, with the smallest budget that works, if a row group and a batch do not fit.
    """
    for windows, least_rows, threads in _candidates(memory_bytes, work):
        prefetch_batch = threads > 0 and work.batch_bytes <= memory_bytes // PREFETCH_BATCH_SHARE
        fixed = prefetch_batch * work.batch_bytes
        free = memory_bytes - fixed - work.fixed_bytes(threads)
        if free >= windows * least_rows * work.row_bytes:
            window_rows = min(work.rows, free // (windows * work.row_bytes))
            resident = window_rows == work.rows and windows == 1
            training = bool(work.parameters) and not resident  # the model takes one of the workers
            threads = min(threads, max(1, workers - training))
            peak = fixed + work.fixed_bytes(threads) + windows * window_rows * work.row_bytes
            return Plan(window_rows, threads, prefetch_batch and (resident or workers > 2), peak)
    least = -(-(work.fixed_bytes(0) + work.group_rows * work.row_bytes) // 10**6)
    raise UsageError(
        f"{argument('memory_bytes', memory_bytes)} is too small for one row group of {work.group_rows} rows and "
        f"a batch of {work.batch_rows}. Pass {argument('memory_bytes', least * 10**6)} or more",
        option="memory_bytes",
    )
