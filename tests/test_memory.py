"""One memory figure decides every size, and a real process keeps to the prediction."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

import streamtrain as st
from streamtrain.engine.sparse import EVALUATION
from streamtrain.errors import UsageError
from streamtrain.memory import Workload, plan
from streamtrain.schema import Schema


def need(*, rows: int = 60_000, features: int = 784, group_rows: int = 1337, batch_size: int = 256) -> Workload:
    schema = Schema((features,), "uint8", (0, 255), tuple("0123456789"))
    group_rows = min(group_rows, rows)
    model = {"parameters": 79_510, "units": 110, "evaluation": EVALUATION}
    return Workload(schema, rows, group_rows, group_rows * features, batch_size, **model)


def test_default_shards_of_mnist_fit_8_mb_and_of_pixels_that_do_not_compress_9_mb() -> None:
    mnist = replace(need(), group_file_bytes=220_000)
    assert plan(8_000_000, mnist, workers=4).window_rows >= 1337
    assert plan(9_000_000, need(), workers=4).window_rows >= 1337


def test_a_batch_is_never_larger_than_the_data_and_a_budget_too_small_for_it_is_refused() -> None:
    few = replace(need(rows=300), batch_size=10**9)
    assert plan(8_000_000, few, workers=4).window_rows == 300
    with pytest.raises(UsageError, match=r"row group of 1337 rows and a batch of 60000\. Pass `memory_bytes=\d+`"):
        plan(40_000_000, replace(need(), batch_size=10**9), workers=4)


@settings(deadline=None)
@given(
    memory_bytes=some.integers(1, 300_000_000),
    rows=some.integers(1, 10**8),
    features=some.integers(1, 2000),
    group_rows=some.integers(1, 5000),
    workers=some.integers(1, 64),
)
def test_no_plan_exceeds_its_budget_and_a_refusal_names_one_that_works(
    memory_bytes: int, rows: int, features: int, group_rows: int, workers: int
) -> None:
    wanted = need(rows=rows, features=features, group_rows=group_rows)
    try:
        made = plan(memory_bytes, wanted, workers=workers)
    except UsageError as error:
        least = int(str(error).split("Pass `memory_bytes=")[1].split("`")[0])
        assert least > memory_bytes
        made, memory_bytes = plan(least, wanted, workers=workers), least
    assert made.predicted_peak_bytes <= memory_bytes
    assert wanted.group_rows <= made.window_rows <= rows
    assert (
        made.window_rows == plan(memory_bytes, wanted, workers=1).window_rows
    )  # the order does not depend on the machine


def test_the_whole_set_is_held_from_the_budget_on_that_has_room_for_it() -> None:
    windows = [plan(mb * 10**6, need(), workers=2).window_rows for mb in range(9, 100)]
    whole = windows.index(60_000)
    assert 40 < 9 + whole < 70  # 47 MB of pixels
    assert set(windows[whole:]) == {60_000}
    assert max(windows[:whole]) < 40_000  # two windows until then


# What the C library's two heaps keep of small pieces that were freed, however much data there is: 1 to 2 MB here,
# all gone after malloc_trim. The matrix library does not count: its code and buffers, 4 MB and 0.7 MB a thread,
# come with the first product and stay.
HEAPS = 3_000_000

GROWTH = """
import gc, json, sys
import streamtrain as st
from streamtrain.process import tune_malloc_for_training

tune_malloc_for_training()  # before Arrow is imported
from streamtrain.engine.sparse import EVALUATION

def status(key):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

def train(folder, memory_bytes):
    tune_malloc_for_training(kept=memory_bytes // 8)
    shards, model = st.open_shards(folder), st.MLP()
    plan = shards.plan(memory_bytes, batch_size=256, parameters=79510, units=110, evaluation=EVALUATION)
    st.fit(model, shards, epochs=2, test=shards, memory_bytes=memory_bytes)
    return plan, shards.resident_rows

tiny, *folders = sys.argv[1:]
train(tiny, 40_000_000)  # what the libraries load at their first use is theirs
gc.collect()
before = status("VmRSS")
for memory_bytes in (9_000_000, 32_000_000):
    for folder in folders:
        open("/proc/self/clear_refs", "w").write("5")  # VmHWM starts again
        plan, rows = train(folder, memory_bytes)
        found = [memory_bytes, plan.predicted_peak_bytes, status("VmHWM") - before, rows, plan.window_rows]
        print(json.dumps(found))
"""


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells resident memory in /proc")
def test_a_process_grows_by_no_more_than_was_predicted_at_1_and_at_6_times_the_rows(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    pixels = random.integers(0, 256, (3000, 784)) * (random.random((3000, 784)) < 0.2)
    np.savetxt(tmp_path / "0.csv", np.c_[np.arange(3000) % 10, pixels], fmt="%d", delimiter=",")
    for copy in range(1, 6):
        os.link(tmp_path / "0.csv", tmp_path / f"{copy}.csv")
    sources = sorted(tmp_path.glob("*.csv"))
    lines = sources[0].read_text().splitlines(keepends=True)
    (tmp_path / "tiny.csv").write_text("".join(lines[:1000]))
    options = {"label": "first", "shape": (28, 28)}
    st.convert(tmp_path / "tiny.csv", tmp_path / "tiny", **options)
    st.convert(sources[0], tmp_path / "once", **options)
    st.convert(sources, tmp_path / "six", **options)
    done = subprocess.run(
        [sys.executable, "-c", GROWTH, "tiny", "once", "six"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    measured = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(measured) == 4
    for memory_bytes, predicted, grown, resident_rows, window_rows in measured:
        assert predicted <= memory_bytes
        assert 0 < grown <= predicted + HEAPS, measured
        assert resident_rows <= 2 * window_rows
