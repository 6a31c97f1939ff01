"""Many times the rows that fit in memory against 60,000: rows per second of training and peak memory, in turn.

Deformed digits go from scripts/make_digits straight into convert, so no CSV of them is ever on the disk; 8,100,000
rows take 1.9 GB as shards, 25 GB as float32. The system holds every process of ours to 1 GB of data
(RLIMIT_DATA). The first epoch of the smaller set, which fills its windows with nothing done yet, is left out.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from _bench import machine, table, versions, write_digits

import streamtrain as st

LIMIT, SMALL, SMALL_EPOCHS = 10**9, 60_000, 4
PROGRAM = [sys.executable, "-m", "streamtrain"]


def limited() -> None:
    """Limit the memory of this process."""
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))


def lines_of(words: list[str | Path], **options: Any) -> list[dict[str, Any]]:
    """Run one of our commands within the limit and return its JSON lines; exit if it fails."""
    command = [*PROGRAM, *map(str, words), "--json", "-q"]
    done = subprocess.run(command, stdout=subprocess.PIPE, preexec_fn=limited, check=False, text=True, **options)
    if done.returncode:
        sys.exit(f"{' '.join(command)} left {done.returncode}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def make(folder: Path, *, rows: int, digits: Path) -> dict[str, Any]:
    """Convert `rows` deformed digits while they are written; return the result of convert."""
    maker = [sys.executable, Path(__file__).with_name("make_digits.py"), "--rows", str(rows), "--digits", digits]
    with subprocess.Popen(maker, stdout=subprocess.PIPE) as writing:
        options = ["--label", "first", "--shape", "28x28", "--range", "0..255"]
        [result] = lines_of(["convert", "-", folder, *options], stdin=writing.stdout)
    return result


def train(folder: Path, run: Path, *, memory: str, epochs: int) -> list[dict[str, Any]]:
    """Train and return the line of each epoch."""
    sizes = ["--memory", memory, "--epochs", str(epochs), "--no-eval-train"]
    return lines_of(["train", folder, *sizes, "--out", run, "--overwrite"])[:-1]


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench large", description=__doc__)
    parser.add_argument("--rows", type=int, default=8_100_000, help=f"measured against {SMALL:,}")
    parser.add_argument("--memory", default="32MB", help="the budget of training")
    parser.add_argument("--repeats", type=int, default=2, help="of both in turn; the table has the medians")
    parser.add_argument("--folder", type=Path, help="for shards and runs, instead of the temporary folder")
    arguments = parser.parse_args()
    epochs = {arguments.rows: 1, SMALL: SMALL_EPOCHS}
    rates: dict[int, list[float]] = {rows: [] for rows in epochs}
    peaks: dict[int, list[float]] = {rows: [] for rows in epochs}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
        csv, digits = Path(scratch, "digits.csv"), Path(scratch, "digits")
        source = write_digits(csv, rows=5000)
        st.convert(csv, digits)
        made = {rows: make(Path(scratch, f"{rows}"), rows=rows, digits=digits) for rows in epochs}
        for _ in range(arguments.repeats):
            for rows, count in epochs.items():
                result = train(
                    Path(scratch, f"{rows}"), Path(scratch, "run"), memory=arguments.memory, epochs=count
                )
                rates[rows] += [epoch["rows_per_second"] for epoch in result[1 if count > 1 else 0 :]]
                peaks[rows].append(result[-1]["peak_rss_mb"])
    print(f"{machine()}\n{versions(['torch', 'streamtrain'])}, --memory {arguments.memory}, digits of {source}")
    print(f"{arguments.repeats} repeats, medians; every process held to {LIMIT / 1e9:g} GB of data\n")
    head = ("rows", "trained rows a second", "peak MB", "converted MB a second", "converting: peak MB")
    print(
        table(
            head,
            [
                (
                    f"{rows:,}",
                    f"{statistics.median(rates[rows]):,.0f}",
                    f"{statistics.median(peaks[rows]):.1f}",
                    f"{result['bytes_in'] / result['seconds'] / 1e6:.0f}",
                    f"{result['peak_rss_mb']:.1f}",
                )
                for rows, result in made.items()
            ],
        )
    )


if __name__ == "__main__":
    main()
