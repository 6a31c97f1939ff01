"""What the process itself used."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import sys
from collections.abc import Mapping
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h


def peak_rss_mb() -> float:
    """The process's own high-water mark of resident memory, in MB of 10^6 bytes.

    On Linux VmHWM of /proc/self/status: `ru_maxrss` of a child inherits its parent's.
    """
    status = Path("/proc/self/status")
    if status.exists():
        kib = next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return kib * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def tune_malloc_for_training(*, kept: int = 0) -> None:
    """From now on, give memory back to the system when it is freed, as a memory budget supposes.

    Else 10 MB and more stay with the process. Call it before Arrow is imported: it reads then whether it keeps a
    pool of its own. The C library (glibc) is told to map every piece of 4 MiB or more by itself and to cut the
    others from two heaps, not from one a thread, each of which keeps what is freed below its top (mallopt(3)).

    kept: bytes at the top that each may keep as well. With 4 MB of them a row group is decoded in memory that was
    used before, in two thirds of the time.
    """
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    trim = min(max(kept, 128 << 10), 8 << 20)
    _tell_malloc({_M_MMAP_THRESHOLD: 4 << 20, _M_TRIM_THRESHOLD: trim, _M_ARENA_MAX: 2})


def tune_malloc_for_conversion() -> None:
    """From now on, keep what is freed for the next who asks, as suits a loop over pieces of one size.

    Else a tenth of a conversion's time goes into giving pages back and getting them anew. Call it before Arrow is
    imported, which would keep a pool of its own beside that of the C library (glibc, mallopt(3)).
    """
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    _tell_malloc({_M_MMAP_THRESHOLD: 32 << 20, _M_TRIM_THRESHOLD: 1 << 30})


def _tell_malloc(options: Mapping[int, int]) -> None:
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # another C library
            for option, value in options.items():
                ctypes.CDLL(None).mallopt(option, value)


def shorten_openmp_spin() -> None:
    """From now on, let the threads of a matrix product sleep soon when they wait for each other.

    By default those of libgomp, which torch brings, spin for a millisecond and more (GOMP_SPINCOUNT, its manual),
    and on a busy machine a product waits for a thread whose core another one spins on. Call it before torch is
    imported.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")
