"""Functions compiled by Numba for one signature, from a cache on disk where there is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F, signature: str) -> F:
    """The function as machine code that lets go of the GIL; `.py_func` is the Python one.

    The code is kept beside the module, where that is read-only in the user's cache folder, and where neither can
    be written, or holds what cannot be read, it is compiled anew in every process.
    """
    try:
        code: Any = numba.njit(signature, nogil=True, cache=True)(function)
    except (
        Exception
    ):  # of any kind: a cache can fail in many ways. A fault of the function's own comes again below
        code = numba.njit(signature, nogil=True)(function)
    return cast(F, code)
