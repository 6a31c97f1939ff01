"""CSV → zstd Parquet as whole processes, in turn: streamtrain, Polars, DuckDB, pyarrow and pandas."""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from _bench import Measured, machine, measured, peak_rss_mb, table, versions, write_digits
from _peers import PEERS, Text

TEXT = Text(("uint8",) * 785)


def run(name: str, source: Path, folder: Path) -> tuple[Measured, float]:
    """Convert with one of them; return how it went and the MB it wrote, which are checked and removed."""
    dest = folder / name
    if name == "streamtrain":
        done = measured([sys.executable, "-m", "streamtrain", "convert", source, dest, "--json", "-q"])
        size = sum(file.stat().st_size for file in dest.glob("*.parquet"))
        shutil.rmtree(dest)
    else:
        done = measured([sys.executable, __file__, "--peer", name, source, dest])
        size = dest.stat().st_size
        dest.unlink()
    return done, size / 1e6


def peer(name: str, source: str, dest: str) -> None:
    """Convert with a peer and print what it took; runs in a process of its own."""
    PEERS[name](TEXT, source, dest)
    peak = peak_rss_mb()
    from pyarrow import parquet  # after the peak was read: some peers do not import it

    print(json.dumps({"rows_kept": parquet.read_metadata(dest).num_rows, "peak_rss_mb": peak}))


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench convert", description=__doc__)
    parser.add_argument("--rows", type=int, default=600_000, help="of the CSV; 600,000 are 1.1 GB")
    parser.add_argument("--repeats", type=int, default=5, help="of each; the table has the medians")
    parser.add_argument("--only", metavar="A,B", help=f"some of streamtrain,{','.join(PEERS)}")
    parser.add_argument(
        "--folder", type=Path, help="for the CSV and what is made of it; the system's for temporary files"
    )
    parser.add_argument("--peer", nargs=3, metavar=("NAME", "CSV", "DEST"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        peer(*options.peer)
        return
    names = options.only.split(",") if options.only else ["streamtrain", *PEERS]
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder) as made:
        folder = Path(made)
        csv = folder / "digits.csv"
        digits = write_digits(csv, rows=options.rows)
        megabytes = csv.stat().st_size / 1e6
        runs: dict[str, list[tuple[Measured, float]]] = {name: [] for name in names}
        for repeat in range(options.repeats):
            for name in names:
                done = run(name, csv, folder)
                if done[0].result["rows_kept"] != options.rows:
                    sys.exit(f"{name} wrote {done[0].result['rows_kept']} rows of {options.rows}")
                runs[name].append(done)
                print(f"{repeat + 1}/{options.repeats} {name}: {done[0].seconds:.2f} s", file=sys.stderr)
    seconds = {name: statistics.median(done.seconds for done, _ in runs[name]) for name in names}
    print(f"CSV → zstd Parquet, {options.rows:,} rows of {digits}, {megabytes:,.0f} MB, whole process,", end=" ")
    print(f"median of {options.repeats}\n")
    rows = [
        (
            name,
            f"{seconds[name]:.2f}",
            f"{megabytes / seconds[name]:.0f}",
            f"{seconds[name] / seconds[names[0]]:.1f}",
            f"{statistics.median(done.cpu_seconds for done, _ in runs[name]):.1f}",
            f"{statistics.median(done.result['peak_rss_mb'] for done, _ in runs[name]):.0f}",
            f"{runs[name][0][1]:.0f}",
        )
        for name in names
    ]
    print(table(["", "seconds", "MB/s", f"times {names[0]}", "CPU seconds", "peak RSS, MB", "Parquet, MB"], rows))
    print(f"\n{machine()}; {versions(dict.fromkeys([*names, 'pyarrow']))}.")


if __name__ == "__main__":
    main()
