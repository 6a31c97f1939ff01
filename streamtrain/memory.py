"""One memory figure in, every size out, the peak predicted."""

from __future__ import annotations

from dataclasses import dataclass

from streamtrain.errors import UsageError, argument
from streamtrain.schema import Schema

# Bytes for everything small: file footers, the state of zstd, counted labels, the rest of malloc.
OVERHEAD_BYTES = 5 << 18
# Bytes of a row in addition to its pixels: the label, and in two orders its place and the keys that are sorted.
ROW_OVERHEAD_BYTES = 8 + 2 * (8 + 24)
COPIES = 3  # of the parameters: themselves, and a checkpoint's as tensors and as bytes
EVAL_THREADS = 2  # threads that evaluate, where there is room to decode ahead at all
EVAL_BATCH_ROWS = 512  # that each of them scores at a time
SPARSE_ROWS = 2048  # the same, where it multiplies the pixels that are not zero alone
MAX_PREFETCH_THREADS = 4  # threads that decode at most: more than a model can keep up with
DECODERS_SHARE = 4  # they may take a 4th of the budget
AHEAD_SHARE = 16  # a batch that is read ahead may take a 16th


@dataclass(frozen=True)
class Plan:
    """Sizes that keep within a budget.

    window_rows: shuffled together
    prefetch_threads: threads that load the next window while one is visited, 0 where there
    is only room for one; ahead: whether one more may read the next batch while one is learned
    predicted_peak_bytes: what all will take at most
    """

    window_rows: int
    prefetch_threads: int
    ahead: bool
    predicted_peak_bytes: int


@dataclass(frozen=True)
class Workload:
    """What decides how much memory a pass needs, the window aside.

    rows: in all; group_rows, group_bytes: rows of the largest row group and its bytes on disk
    parameters: numbers that a checkpoint holds; units: activations of a row, over all layers
    """

    schema: Schema
    rows: int
    group_rows: int
    group_bytes: int
    batch_size: int
    parameters: int = 0
    units: int = 0

    def fixed(self, prefetch_threads: int) -> int:
        """Bytes whatever the window, with so many decoders and an evaluation, which decodes too.

        With decoders at all, it decodes a row group while it scores another.
        """
        trained = self.batch_rows * (self.schema.row_bytes + 12 * self.units) + self.read
        dense = min(EVAL_BATCH_ROWS, self.group_rows) * (self.schema.features + 2 * self.units)
        sparse = min(SPARSE_ROWS, self.group_rows) * 2 * self.units
        evaluated = 4 * max(dense, sparse) * (EVAL_THREADS if prefetch_threads else 1)
        scored = self.group_rows * self.schema.row_bytes if prefetch_threads else 0
        decoded = (prefetch_threads + 1) * self.decoding + scored
        return OVERHEAD_BYTES + max(trained, evaluated) + 4 * COPIES * self.parameters + decoded

    @property
    def read(self) -> int:
        """Bytes of a batch as the step reads it: its pixels as float32, or listed by row and by place."""
        return 6 * self.batch_rows * self.schema.features

    @property
    def batch_rows(self) -> int:
        """Rows of the largest batch."""
        return min(self.batch_size, self.rows)

    @property
    def decoding(self) -> int:
        """Bytes of a row group while it is decoded: as it lies in the file, as pages, as columns."""
        return 2 * self.group_rows * self.schema.row_bytes + self.group_bytes

    @property
    def row(self) -> int:
        """Bytes of a decoded row in a window."""
        return self.schema.row_bytes + ROW_OVERHEAD_BYTES


def plan(memory_bytes: int, need: Workload, *, workers: int) -> Plan:
    """The largest windows that `memory_bytes` allows, or one of all rows where it holds them all.

    workers: threads at hand. They lower the peak but decide no window, so the order is the same on any machine.
    Raises UsageError, with the smallest budget that works, where a row group and a batch do not fit.
    """
    most = min(MAX_PREFETCH_THREADS, memory_bytes // (DECODERS_SHARE * need.decoding))
    ways = [(1, need.rows, prefetch_threads) for prefetch_threads in range(most, -1, -1)]
    ways += [(2, need.group_rows, prefetch_threads) for prefetch_threads in range(most, 0, -1)]
    for windows, rows, prefetch_threads in (*ways, (1, need.group_rows, 0)):
        ahead = prefetch_threads > 0 and need.read <= memory_bytes // AHEAD_SHARE
        beside = need.read * ahead
        room = memory_bytes - need.fixed(prefetch_threads) - beside
        if room >= windows * rows * need.row:
            window_rows = min(need.rows, room // (windows * need.row))
            held = window_rows == need.rows and windows == 1
            taken_up = bool(need.parameters) and not held  # a thread, by the model
            used = min(prefetch_threads, max(1, workers - taken_up))
            taken = need.fixed(used) + beside + windows * window_rows * need.row
            return Plan(window_rows, used, ahead and (held or workers > 2), taken)
    least = -(-(need.fixed(0) + need.group_rows * need.row) // 10**6)
    raise UsageError(
        f"{argument('memory_bytes', memory_bytes)} is too small for one row group of {need.group_rows} rows and "
        f"a batch of {need.batch_rows}. Pass {argument('memory_bytes', least * 10**6)} or more",
        option="memory_bytes",
    )
