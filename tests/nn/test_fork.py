"""A process that is forked from one that has trained can train too."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import multiprocessing, sys
import streamtrain as st

def losses(lr):
    model = st.MLP(64, (1200,), 10)  # large enough for the threads of torch
    return [report.train_loss for report in st.fit(model, st.open_shards(sys.argv[1]), epochs=1, lr=lr)]

if __name__ == "__main__":
    expected = losses(0.05)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        found = pool.map(losses, [0.05, 0.1])
    assert found[0] == expected != found[1], (expected, found)
"""


def test_a_forked_process_trains_to_the_same_losses(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    words = [sys.executable, "program.py", str(shards)]
    process = subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its children too, if they hang
