"""What a run left of each epoch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from streamtrain.learn.run import METRICS


def history(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl; none of a run before its first epoch. A line cut short is left out."""
    path = run / METRICS
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
