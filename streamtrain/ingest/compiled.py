"""Python functions over arrays as machine code: compiled by Numba once, then loaded from a file without it.

Importing Numba takes longer than converting MNIST, and as much memory. So the machine code of a function is kept,
under a digest of all that it follows from: the sources, the compiler, the processor. It is kept beside this
module, where that is read-only in the user's cache folder, and where nothing can be written it is compiled anew
in every process. What is kept is loaded by LLVM, which is a part of Numba that imports fast.
"""

from __future__ import annotations

import ctypes
import functools
import inspect
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numpy as np

from streamtrain.files import write_file
from streamtrain.shards.manifest import digest_bytes

_SCALARS = {"int64": ctypes.c_int64, "void": None}
_LOCK = threading.Lock()
_ENGINES: list[Any] = []


class Compiled:
    """A compiled function; called like the Python one, and lets go of the GIL.

    arguments: what it takes, as "int64", or "uint8[:, :]" for an array that has to be C-contiguous
    returns:   "int64" or "void"
    py_func:   the Python function
    """

    def __init__(self, py_func: Callable[..., Any], arguments: Sequence[str], returns: str = "void") -> None:
        self.py_func, self.arguments, self.returns = py_func, tuple(arguments), returns
        self._kinds = [_kind(argument) for argument in arguments]
        self._code: Callable[..., Any] | None = None

    @property
    def kept(self) -> bool:
        """Whether its machine code is at hand; else the first call takes seconds."""
        return bool(self._code) or any(_unpacked(folder / _name(self)) for folder in _folders())

    def __call__(self, *arguments: Any) -> Any:
        """What the function returns. Raises TypeError for an array of another type, or not contiguous."""
        flat: list[int] = []
        for value, (dtype, dimensions), said in zip(arguments, self._kinds, self.arguments, strict=True):
            if not dimensions:
                flat.append(value)
            elif value.dtype == dtype and value.ndim == dimensions and value.flags.c_contiguous:
                flat += [value.ctypes.data, *value.shape]
            else:
                raise TypeError(f"{self.py_func.__name__} takes {said}, not {value.dtype} {value.shape}")
        return (self._code or self._loaded())(*flat)

    def _loaded(self) -> Callable[..., Any]:
        """The machine code as a function of flat arguments; the first thread to ask loads or builds it."""
        with _LOCK:
            if not self._code:
                types: list[Any] = []
                for _, dimensions in self._kinds:
                    types += [ctypes.c_void_p, *[ctypes.c_int64] * dimensions] if dimensions else [ctypes.c_int64]
                self._code = ctypes.CFUNCTYPE(_SCALARS[self.returns], *types)(_address(*_kept_or_built(self)))
            return self._code


def _address(entry: str, unresolved: Sequence[str], code: bytes) -> int:
    """Load machine code; the address of its entry."""
    for name in unresolved:  # what only the raising of exceptions calls, and these functions raise none
        if not llvm.address_of_symbol(name):
            # Those of Python by their address: Numba finds them here, and sets only its own when it is loaded.
            function = getattr(ctypes.pythonapi, name, ctypes.CDLL(None).abort)
            llvm.add_symbol(name, ctypes.cast(function, ctypes.c_void_p).value)
    engine = _engine()
    _ENGINES.append(engine)  # which owns the memory that the code lies in
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return int(engine.get_function_address(entry))


def _kind(argument: str) -> tuple[str, int]:
    """The dtype and the number of dimensions that are meant; 0 of a number."""
    dtype, bracket, rest = argument.partition("[")
    return dtype, rest.count(":") if bracket else 0


def _engine() -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(opt=3)
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)


def _kept_or_built(function: Compiled) -> tuple[str, list[str], bytes]:
    """The name of the entry, the symbols that it leaves open, and the machine code."""
    name = _name(function)
    for folder in _folders():
        kept = _unpacked(folder / name)
        if kept:
            return kept
    from streamtrain.ingest.build import build

    entry, unresolved, code = build(function)
    head = json.dumps([entry, unresolved]).encode() + b"\n"
    data = digest_bytes(head + code).encode() + b"\n" + head + code
    for folder in _folders():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_file(folder / name, data)
            break
        except OSError:  # read-only, full, or no folder at all: then the next, or none
            continue
    return entry, unresolved, code


def _unpacked(path: Path) -> tuple[str, list[str], bytes] | None:
    """What was kept in a file; None where there is none, or a byte of it has changed."""
    try:
        digest, _, rest = path.read_bytes().partition(b"\n")
    except OSError:
        return None
    if digest != digest_bytes(rest).encode():
        return None
    head, _, code = rest.partition(b"\n")
    entry, unresolved = json.loads(head)
    return entry, unresolved, code


def _folders() -> Iterator[Path]:
    """Where machine code may be kept, the best place first."""
    yield Path(__file__).parent / "__pycache__"
    if cache := os.environ.get("XDG_CACHE_HOME"):
        yield Path(cache) / "streamtrain"
    elif "~" not in (home := os.path.expanduser("~")):  # noqa: PTH111  # Path.home raises where there is none
        yield Path(home) / ".cache" / "streamtrain"


def _name(function: Compiled) -> str:
    """A file's name with a digest of all that the machine code follows from."""
    sources = {inspect.getsourcefile(function.py_func), __file__, str(Path(__file__).with_name("build.py"))}
    parts = [Path(source).read_bytes() for source in sorted(map(str, sources))]
    facts = (
        function.arguments,
        function.returns,
        llvmlite.__version__,  # whose minor version stands for Numba's: each has one of its own
        np.__version__,
        sys.version,
        *_processor(),
    )
    digest = digest_bytes(b"\0".join([*parts, repr(facts).encode()])).rpartition(":")[2]
    return f"{function.py_func.__name__.strip('_')}-{digest}.code"


@functools.cache
def _processor() -> tuple[str, str]:
    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
