"""One memory figure in, every size out, the peak predicted."""

from __future__ import annotations

from dataclasses import dataclass

from streamtrain.errors import UsageError
from streamtrain.schema import Schema

ROW_OVERHEAD = 8 + 8 + 16  # bytes a row of a window: its label, its place in the order, the keys it is sorted by
GROUP_COPIES = 4  # a row group while it is decoded: compressed, decompressed page, column, combined
FIXED = 1 << 20  # bytes for what is small: file footers, the state of zstd


@dataclass(frozen=True)
class Plan:
    """Sizes that keep within a budget: rows of a window, and the bytes that all will take at most."""

    window_rows: int
    predicted_peak_bytes: int


def plan(
    memory_bytes: int,
    schema: Schema,
    *,
    rows: int,
    group_rows: int,
    batch_size: int,
    parameters: int,
    units: int,
    workers: int,
) -> Plan:
    """The largest window of `rows` rows in all that `memory_bytes` allows.

    group_rows: rows of the largest row group, the least window; parameters: weights and biases of the model;
    units: activations of a row, over all layers; workers: threads that decode a row group each
    Raises UsageError, with the smallest budget that works, where a row group does not fit.
    """
    batch = max(batch_size, group_rows)  # evaluation takes a row group at a time
    working = 4 * batch * (2 * schema.features + 3 * units) + 4 * 3 * parameters
    fixed = FIXED + working + workers * GROUP_COPIES * group_rows * schema.row_bytes
    each = schema.row_bytes + ROW_OVERHEAD
    if memory_bytes < fixed + group_rows * each:
        least = -(-(fixed + group_rows * each) // 10**6)
        raise UsageError(
            f"--memory {memory_bytes / 1e6:g}MB is too small for one row group. Use {least}MB or more"
        )
    window = min(rows, (memory_bytes - fixed) // each)
    return Plan(window, fixed + window * each)
