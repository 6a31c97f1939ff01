"""`train --dry-run`: what training would need and how well its order mixes the classes; nothing is written."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from streamtrain.cli.console import Console, warn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamtrain.memory import Plan
    from streamtrain.nn.mlp import MLP
    from streamtrain.stream.dataset import Shards
    from streamtrain.train.config import TrainConfig

PROBE_SECONDS = 2.0


def dry_run(console: Console, model: MLP, train: Shards, plan: Plan, config: TrainConfig) -> int:
    """Print what a run with these settings would be like. Trains `model` for two seconds to measure the speed."""
    from streamtrain.metrics.label_disorder import LabelDisorder
    from streamtrain.stream.order import Order
    from streamtrain.stream.windows import labels_in_order

    disorder = LabelDisorder()
    for labels in labels_in_order(train.row_groups, Order(config.seed, plan.window_rows), 1):
        disorder.update(labels)
    facts: dict[str, Any] = {
        "rows": train.rows,
        "window_rows": plan.window_rows,
        "predicted_peak_mb": plan.predicted_peak_bytes / 1e6,
        "label_disorder": disorder.value(),
        "effective_batch_size": disorder.effective_batch_size(config.batch_size),
        "steps_per_epoch": math.ceil(train.rows / config.batch_size),
        "rows_per_second": _probe(model, train, plan, config),
    }
    console.result(facts, _table(facts))
    if (facts["label_disorder"] or 0) > 2:
        warn(f"the rows are sorted by class. Shuffle once on disk: streamtrain shuffle {train.folder} DEST")
    return 0


def _probe(model: MLP, train: Shards, plan: Plan, config: TrainConfig) -> float:
    """Return the rows trained per second, measured for two seconds from the second step on."""
    from streamtrain.train.fit import Training
    from streamtrain.train.progress import Progress

    first, rows, began, seconds = 0, 0, math.inf, 0.0
    for step in Training(model, train, replace(config, epochs=1 << 30, eval_train=False), plan=plan):
        if isinstance(step, Progress):
            done, now = (step.cursor.epoch - 1) * train.rows + step.cursor.rows, time.perf_counter()
            first, began = first or done, min(began, now)
            rows, seconds = done - first, now - began
        if seconds >= PROBE_SECONDS:
            break
    return rows / seconds if seconds else math.nan


def _table(facts: Mapping[str, Any]) -> str:
    """Return the facts as text, one on each line."""
    window = "the whole set" if facts["window_rows"] == facts["rows"] else f"{facts['window_rows']:,} rows"
    mixed = "unknown"
    if facts["label_disorder"] is not None:
        effective = f"an effective batch size of {facts['effective_batch_size']:.0f}"
        mixed = f"{facts['label_disorder']:.2f} (1 is random); {effective}"
    lines = {
        "rows": f"{facts['rows']:,}",
        "window": window,
        "predicted peak": f"{facts['predicted_peak_mb']:.1f} MB",
        "label disorder": mixed,
        "steps per epoch": f"{facts['steps_per_epoch']:,}",
        "expected": f"{facts['rows_per_second']:,.0f} rows per second",
    }
    return "\n".join(f"{name:16}{value}" for name, value in lines.items())
