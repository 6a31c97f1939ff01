"""`streamtrain convert` as a process: the JSON result that tools rely on, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import streamtrain as st

if TYPE_CHECKING:
    from conftest import RunCli


def test_the_json_result_has_the_keys_that_tools_rely_on(
    run_cli: RunCli, digits_csv: Path, tmp_path: Path
) -> None:
    done = run_cli("convert", digits_csv, "out", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    schema = result.pop("schema")
    seconds, peak, disorder = (result.pop(key) for key in ("seconds", "peak_rss_mb", "label_disorder"))
    assert result == {
        "rows_read": 600,
        "rows_kept": 600,
        "rows_rejected": 0,
        "lines": 601,
        "shards": 1,
        "bytes_in": digits_csv.stat().st_size,
        "bytes_out": (tmp_path / "out" / "shard-00000.parquet").stat().st_size,
        "manifest": "out/manifest.json",
    }
    assert schema == {
        "label": 1,
        "header": True,
        "delimiter": ",",
        "image_shape": [8, 8],
        "classes": list("0123456789"),
        "pixel_range": [0, 239],  # the largest there is
    }
    assert seconds > 0
    assert 20 < peak < 1000
    assert 0.2 < disorder < 3
    assert "the header calls it label" in done.stderr


def test_rows_rejected_are_kept_in_a_file_and_the_exit_code_says_so(
    call_cli: RunCli, digits_csv: Path, tmp_path: Path
) -> None:
    lines = digits_csv.read_text().splitlines()
    lines[300] = lines[300].replace(",", ",x", 1)
    (tmp_path / "bad.csv").write_text("\n".join(lines) + "\n")
    done = call_cli("convert", "bad.csv", "out", "--on-bad-row", "reject", "--json")
    assert done.returncode == 3
    result = json.loads(done.stdout)
    assert (result["rows_read"], result["rows_kept"], result["rows_rejected"]) == (600, 599, 1)
    [rejected] = map(json.loads, (tmp_path / "out" / "rejected.jsonl").read_text().splitlines())
    assert (rejected["file_line"], rejected["column"], rejected["raw"]) == (301, 2, lines[300])
    assert st.open_shards(tmp_path / "out").rows == 599


def test_each_part_of_a_split_has_a_manifest_of_its_own(
    call_cli: RunCli, digits_csv: Path, tmp_path: Path
) -> None:
    done = call_cli("convert", digits_csv, "out", "--split", "train=0.9,val=0.1", "--json")
    result = json.loads(done.stdout)
    assert result["manifest"] == {"train": "out/train/manifest.json", "val": "out/val/manifest.json"}
    parts = [st.open_shards(tmp_path / path).rows for path in ("out/train", "out/val")]
    assert sum(parts) == result["rows_kept"] == 600
    assert 500 < parts[0] < 580
    mixed = call_cli("convert", digits_csv, "mixed", "--split", "train=0.9,held=0.1", "--shuffle", "-q")
    assert [line.split(":")[0] for line in mixed.stdout.splitlines()] == ["mixed/train", "mixed/held"]


def test_quiet_prints_only_the_result_and_otherwise_the_range_that_was_found_is_printed(
    call_cli: RunCli, digits_csv: Path
) -> None:
    quiet, loud = call_cli("convert", digits_csv, "one", "-q"), call_cli("convert", digits_csv, "two")
    assert quiet.stderr == ""
    assert quiet.stdout.startswith("one: 600 rows")
    assert "pixels are 0..239, found by the full pass" in loud.stderr


def test_a_part_that_is_named_twice_is_refused(call_cli: RunCli, digits_csv: Path) -> None:
    done = call_cli("convert", digits_csv, "out", "--split", "a=1,a=1")
    assert done.returncode == 2
    assert "has a name twice" in done.stderr
