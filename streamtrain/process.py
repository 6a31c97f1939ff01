"""The process itself: the memory it used, how malloc and OpenMP behave in it, and what it closes at its exit."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import os
import resource
import sys
import weakref
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h


def peak_rss_mb() -> float:
    """Return the high-water mark of this process's resident memory, in MB of 10^6 bytes.

    On Linux it is VmHWM of /proc/self/status, because `ru_maxrss` of a child starts at its parent's.
    """
    status = Path("/proc/self/status")
    if status.exists():
        kib = next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return kib * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def machine_memory() -> int:
    """Return the bytes of memory that this machine has, or this container may use."""
    size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # the file is missing, or says "max"
            size = min(size, int(Path(limit).read_text()))
    return size


def tune_malloc_for_training(*, kept: int = 0) -> None:
    """Return freed memory to the system from now on, as a memory budget assumes.

    Otherwise 10 MB and more stay with the process. Call it before Arrow is imported, which reads at that moment
    whether to keep a memory pool of its own. The C library (glibc) then maps every block of 4 MiB or more
    separately, and takes smaller ones from two heaps instead of one for each thread: a heap keeps what is freed
    below its top (mallopt(3)).

    kept: bytes that each heap may keep at its top, between 128 KiB and 8 MiB. With 4 MB a row group is decoded in
    memory that was used before, in two thirds of the time.
    """
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    trim = min(max(kept, 128 << 10), 8 << 20)
    _mallopt({_M_MMAP_THRESHOLD: 4 << 20, _M_TRIM_THRESHOLD: trim, _M_ARENA_MAX: 2})


def tune_malloc_for_conversion() -> None:
    """Keep freed memory for reuse from now on, as suits a loop over chunks of one size.

    Otherwise a tenth of a conversion's time goes into returning pages to the system and getting them again. Call
    it before Arrow is imported, which would keep a pool of its own next to that of the C library (glibc, see
    mallopt(3)).
    """
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    _mallopt({_M_MMAP_THRESHOLD: 32 << 20, _M_TRIM_THRESHOLD: 1 << 30})


def _mallopt(options: Mapping[int, int]) -> None:
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # another C library
            for option, value in options.items():
                ctypes.CDLL(None).mallopt(option, value)


def shorten_openmp_spin() -> None:
    """Let the threads of a matrix product sleep soon when they wait for each other.

    By default those of libgomp, which comes with torch, spin for a millisecond and more (GOMP_SPINCOUNT in its
    manual). On a busy machine a product then waits for a thread whose core another thread spins on. Call it before
    torch is imported.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")


_open_generators: weakref.WeakSet[Generator[Any, Any, Any]] = weakref.WeakSet()
os.register_at_fork(after_in_child=_open_generators.clear)  # their threads are not in the child


def closed_at_exit(make: Callable[P, Generator[T]]) -> Callable[P, Generator[T]]:
    """Decorate a generator function whose generators must not be left to the end of the interpreter.

    A loop that a script left early is closed at its exit, when threads can still be joined and modules are whole.
    """

    @functools.wraps(make)
    def made(*args: P.args, **kwargs: P.kwargs) -> Generator[T]:
        generator = make(*args, **kwargs)
        _open_generators.add(generator)
        return generator

    return made


@atexit.register
def _close_generators() -> None:
    for generator in list(_open_generators):
        with contextlib.suppress(ValueError):  # another thread is in it
            generator.close()
