"""`train --dry-run`: what training would take and how well its order mixes, nothing trained or written."""

from __future__ import annotations

import json
import math
import time
from typing import TYPE_CHECKING, Any

import click

from streamtrain.cli import say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamtrain.memory import Plan
    from streamtrain.nn.mlp import MLP
    from streamtrain.stream.dataset import Shards

PROBE_SECONDS = 2.0


def dry_run(model: MLP, train: Shards, plan: Plan, options: Mapping[str, Any], *, as_json: bool) -> int:
    """Print what a run with these options would be like; `model` is trained for two seconds, to be thrown away."""
    from streamtrain.metrics.label_disorder import LabelDisorder
    from streamtrain.stream.order import Order
    from streamtrain.stream.windows import labels_in_order

    batch_size, seed = options["batch_size"], options["seed"]
    disorder = LabelDisorder()
    for labels in labels_in_order(train.row_groups, Order(seed, plan.window_rows), 1):
        disorder.update(labels)
    facts: dict[str, Any] = {
        "rows": train.rows,
        "window_rows": plan.window_rows,
        "predicted_peak_mb": plan.predicted_peak_bytes / 1e6,
        "label_disorder": disorder.value(),
        "effective_batch_size": disorder.effective_batch_size(batch_size),
        "steps_per_epoch": math.ceil(train.rows / batch_size),
        "rows_per_second": _probe(model, train, plan, options),
    }
    click.echo(json.dumps(facts) if as_json else _table(facts))
    if (facts["label_disorder"] or 0) > 2:
        say(f"warning: rows are sorted by class. Shuffle once on disk: streamtrain shuffle {train.folder} DEST")
    return 0


def _probe(model: MLP, train: Shards, plan: Plan, options: Mapping[str, Any]) -> float:
    """Rows a second of two seconds of training, from the second step on."""
    from streamtrain.train.config import FitConfig
    from streamtrain.train.fit import Training
    from streamtrain.train.progress import Progress

    names = ("batch_size", "lr", "momentum", "weight_decay", "seed")
    config = FitConfig(epochs=1 << 30, eval_train=False, **{name: options[name] for name in names})
    first, rows, began, seconds = 0, 0, math.inf, 0.0
    for step in Training(model, train, config, plan=plan):
        if isinstance(step, Progress):
            done = (step.cursor.epoch - 1) * train.rows + step.cursor.rows
            first = first or done
            rows = done - first
            began = min(began, time.perf_counter())
            seconds = time.perf_counter() - began
        if seconds >= PROBE_SECONDS:
            break
    return rows / seconds if seconds else math.nan


def _table(facts: Mapping[str, Any]) -> str:
    """The facts, a line each."""
    window = "the whole set" if facts["window_rows"] == facts["rows"] else f"{facts['window_rows']:,} rows"
    mixed = "unknown"
    if facts["label_disorder"] is not None:
        effective = f"an effective batch size of {facts['effective_batch_size']:.0f}"
        mixed = f"{facts['label_disorder']:.2f}, where 1 is random; {effective}"
    lines = {
        "rows": f"{facts['rows']:,}",
        "window": window,
        "predicted peak": f"{facts['predicted_peak_mb']:.1f} MB",
        "label disorder": mixed,
        "steps an epoch": f"{facts['steps_per_epoch']:,}",
        "expected": f"{facts['rows_per_second']:,.0f} rows a second",
    }
    return "\n".join(f"{name:16}{value}" for name, value in lines.items())
