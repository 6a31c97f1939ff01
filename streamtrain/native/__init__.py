"""The inner loops in C, each with a Python function that specifies it and runs if the extension was not built.

`streamtrain.native._core` is one optional extension module. It has every loop for several instruction sets and
uses the best one that the processor runs, or the one that STREAMTRAIN_ISA names (v2, v3 or v4 of x86-64); all give
the same bits. The modules of this folder export the functions in C or, if there is no extension, the Python
references (`NAME_reference`), whose results are the same up to rounding.
"""

from __future__ import annotations

from streamtrain.errors import UsageError

NOT_BUILT = (
    "this installation has no compiled loops in C, so loops in Python run, which are several times slower. "
    "Install a C compiler (gcc or clang), then install streamtrain again"
)


try:
    from streamtrain.native import _core as core
except ImportError:  # not built, or not for this processor
    core = None  # type: ignore[assignment]  # mypy assumes that the module always exists
except ValueError as error:
    raise UsageError(f"STREAMTRAIN_ISA: {error}. Unset it to use the best one that it runs") from None


def available() -> bool:
    """Return whether the loops in C were built."""
    return core is not None
