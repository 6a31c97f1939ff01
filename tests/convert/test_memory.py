"""The memory of `convert` does not depend on the size of its source, in a real process."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from conftest import RunCli


def digits_text() -> bytes:
    """2,000 rows as wide as MNIST's, most of their pixels 0."""
    random = np.random.default_rng(2)
    rows = np.where(random.random((2000, 785)) < 0.8, 0, random.integers(0, 256, (2000, 785)))
    rows[:, 0] = random.permutation(2000) % 10
    return "".join(",".join(map(str, row)) + "\n" for row in rows.tolist()).encode()


@pytest.mark.long  # the allocator and the load of the machine matter too
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="VmHWM is Linux's")
def test_four_times_the_rows_take_the_same_memory(run_cli: RunCli, tmp_path: Path) -> None:
    text = digits_text()
    (tmp_path / "few.csv").write_bytes(text * 12)
    (tmp_path / "many.csv").write_bytes(text * 48)
    with gzip.open(tmp_path / "many.csv.gz", "wb", compresslevel=1) as file:
        file.write(text * 12)

    def peak(name: str) -> float:
        done = run_cli("convert", name, f"{name}.shards", "--label", "first", "--workers", "2", "--json", "-q")
        assert done.returncode == 0, done.stderr
        (tmp_path / name).unlink()
        return float(json.loads(done.stdout)["peak_rss_mb"])

    (tmp_path / "warm.csv").write_bytes(text)
    peak("warm.csv")  # the first run of all, so that nothing is made for the first time below
    few, many, packed = peak("few.csv"), peak("many.csv"), peak("many.csv.gz")
    assert many < few * 1.05
    assert many < 300
    assert packed < 300
