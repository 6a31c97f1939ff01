"""The inner loops in C, each beside the Python function that specifies it and runs if the module was not built.

`streamtrain.native._core` is one optional extension module. It has every loop for several instruction sets and
takes the best that the processor runs, or the one that STREAMTRAIN_ISA names (v2, v3 or v4 of x86-64); all give
the same bits. The functions of the modules here are those of C, and without it the references beside them, which
compute the same to rounding.
"""

from __future__ import annotations

from streamtrain.errors import UsageError

NOT_BUILT = (
    "this installation has not built its loops in C, so those of Python run, which are several times slower. "
    "Install a C compiler (gcc or clang), then install streamtrain again"
)


try:
    from streamtrain.native import _core as core
except ImportError:  # not built, or not for this processor
    core = None  # type: ignore[assignment]  # which mypy takes for a module, always there
except ValueError as error:
    raise UsageError(f"STREAMTRAIN_ISA: {error}. Unset it, and the best that it runs is taken") from None


def available() -> bool:
    """Return whether the loops are those of C."""
    return core is not None
