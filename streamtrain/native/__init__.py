"""Python functions over arrays as machine code: compiled by Numba once, then loaded from a file without it.

Importing Numba takes longer than converting MNIST, and as much memory. So the machine code of a function is kept,
under a digest of all that it follows from: the sources, the compiler, the processor. It is kept beside this
module, where that is read-only in the user's cache folder, and where nothing can be written it is compiled anew
for every process. What is kept is loaded by LLVM, which is a part of Numba that imports fast.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import importlib
import inspect
import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import llvmlite
import numpy as np

from streamtrain.import_path import python_command
from streamtrain.native.trust import read_trusted, trusted_folder
from streamtrain.storage.publish import write_file

_NUMBERS = {"int64": ctypes.c_int64, "float32": ctypes.c_float, "void": None}
_ALIGNED = 32  # bytes, at a multiple of which runs of numbers begin
_NOTHING = ctypes.c_char * 0
_LOCK = threading.Lock()
_ENGINES: list[Any] = []


class Argument(NamedTuple):
    """What an argument is, as it is written.

    >>> Argument.of("int64"), Argument.of("float32x16[:, :]")
    (Argument(dtype='int64', dimensions=0, lanes=0), Argument(dtype='float32', dimensions=2, lanes=16))
    """

    dtype: str
    dimensions: int
    lanes: int

    @classmethod
    def of(cls, written: str) -> Argument:
        """From a dtype, a dtype and dimensions, or one and lanes and dimensions."""
        element, _, dimensions = written.partition("[")
        dtype, _, lanes = element.partition("x")
        return cls(dtype, dimensions.count(":"), int(lanes or 0))


class Compiled:
    """A compiled function; called like the Python one, and lets go of the GIL.

    arguments: what it takes: "int64" or "float32"; "uint8[:, :]" for an array, which has to be C-contiguous;
               "float32x16[:]" for one of runs of 16, that registers hold as one value: in Python a dimension more
    returns:   "int64" or "void"
    apart:     compiled in a process of its own, which takes a second more but none of this one's memory
    py_func:   the Python function
    """

    def __init__(
        self, py_func: Callable[..., Any], arguments: Sequence[str], returns: str = "void", *, apart: bool = False
    ) -> None:
        self.py_func, self.arguments, self.returns, self.apart = py_func, tuple(arguments), returns, apart
        self._kinds = [Argument.of(argument) for argument in arguments]
        dtypes = [np.dtype(kind.dtype) for kind in self._kinds]  # which compare faster than their names
        self._expected = self.arguments, self._kinds, dtypes
        self._code: Callable[..., Any] | None = None
        self._lock = threading.Lock()

    @property
    def kept(self) -> bool:
        """Whether its machine code is at hand; else the first call takes seconds."""
        return bool(self._code) or any(_unpacked(folder / _name(self)) for folder in _folders())

    def __call__(self, *arguments: Any) -> Any:
        """What the function returns. Raises TypeError for an array of another type, or not contiguous."""
        return (self._code or self._loaded())(*self._flat(arguments, *self._expected))

    def bound(self, *arguments: Any) -> Callable[..., Any]:
        """The call with these first arguments, which are looked at once, and arrays may only change in place.

        What follows them is given at each call.
        """
        code, given = self._code or self._loaded(), len(arguments)
        flat = self._flat(arguments, *(expected[:given] for expected in self._expected))
        expected = [expected[given:] for expected in self._expected]

        def call(*rest: Any, _: object = arguments) -> Any:  # which stay alive with it
            return code(*flat, *self._flat(rest, *expected))

        return call

    def _flat(self, arguments: Sequence[Any], *expected: Sequence[Any]) -> list[Any]:
        """Numbers as they are, arrays as an address and lengths."""
        flat: list[Any] = []
        for value, written, (_, dimensions, lanes), dtype in zip(arguments, *expected, strict=True):
            if not dimensions:
                flat.append(value)
                continue
            shape, start = value.shape, _start(value)
            fits = value.dtype == dtype and len(shape) == dimensions + bool(lanes) and value.flags.c_contiguous
            if not fits or (lanes and (shape[-1] != lanes or start % _ALIGNED)):
                raise TypeError(f"{self.py_func.__name__} takes {written}, not {value.dtype} {shape}")
            flat += [start, *shape[:dimensions]]
        return flat

    def _loaded(self) -> Callable[..., Any]:
        """The machine code as a function of flat arguments; the first thread to ask loads or builds it."""
        with self._lock:
            if not self._code:
                types: list[Any] = []
                for dtype, dimensions, _ in self._kinds:
                    types += [ctypes.c_void_p, *[ctypes.c_int64] * dimensions] if dimensions else [_NUMBERS[dtype]]
                made = _kept_or_built(self)
                with _LOCK:
                    self._code = ctypes.CFUNCTYPE(_NUMBERS[self.returns], *types)(_address(*made))
            return self._code


def _start(array: Any) -> int:
    """Where an array's memory begins; its `__array_interface__` takes five times as long to say it."""
    if array.flags.writeable and array.flags.c_contiguous:
        return ctypes.addressof(_NOTHING.from_buffer(array))
    start: int = array.__array_interface__["data"][0]
    return start


def load(functions: Sequence[Compiled]) -> None:
    """Have the machine code of all of them at hand; what has to be compiled is at the same time."""
    with ThreadPoolExecutor(len(functions)) as pool:
        deque(pool.map(Compiled._loaded, functions), maxlen=0)


def _address(entry: str, unresolved: Sequence[str], code: bytes) -> int:
    """Load machine code; the address of its entry. Raises RuntimeError where it calls what this process lacks."""
    llvm = _llvm()
    for name in unresolved:  # what only the raising of exceptions calls, and these functions raise none
        if not llvm.address_of_symbol(name):
            # Those of Python by their address: Numba finds them here, and sets only its own when it is loaded.
            nothing = ctypes.CDLL(None).abort if name.startswith(("numba_", "NRT_")) else None
            function = getattr(ctypes.pythonapi, name, nothing)
            if not function:
                raise RuntimeError(f"compiled code calls {name}, which this process has not")
            llvm.add_symbol(name, ctypes.cast(function, ctypes.c_void_p).value)
    engine = _engine()
    _ENGINES.append(engine)  # which owns the memory that the code lies in
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return int(engine.get_function_address(entry))


@functools.cache
def _llvm() -> Any:
    """What loads machine code; imported when it is needed, which takes 38 MB and a tenth of a second."""
    return importlib.import_module("llvmlite.binding")


def _engine() -> Any:
    llvm = _llvm()
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
    entry, unresolved, code = _built(function)
    head = json.dumps([entry, unresolved]).encode() + b"\n"
    data = _digest(head + code).encode() + b"\n" + head + code
    for folder in filter(trusted_folder, _folders()):
        try:
            write_file(folder / name, data, mode=0o644)
            break
        except OSError:  # read-only or full: then the next, or none
            continue
    return entry, unresolved, code


def _built(function: Compiled) -> tuple[str, list[str], bytes]:
    """The same, compiled."""
    if function.apart:
        # Where there can be no such process, or its words are not ours, then in this one.
        with contextlib.suppress(OSError, ValueError):
            return _built_apart(function)
    from streamtrain.native.build import build

    return build(function)


def _built_apart(function: Compiled) -> tuple[str, list[str], bytes]:
    """The same, by another process; ValueError where that fails."""
    what = (function.py_func.__module__, function.py_func.__name__, function.arguments, function.returns)
    command, environment = python_command(f"from streamtrain.native.build import main; main(*{what})")
    environment["NUMBA_DISABLE_INTEL_SVML"] = "1"  # a library that only Numba would find again
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    if done.returncode:
        raise ValueError(done.stderr.decode(errors="replace"))
    head, _, code = done.stdout.partition(b"\n")
    entry, unresolved = json.loads(head)
    return entry, unresolved, code


def _unpacked(path: Path) -> tuple[str, list[str], bytes] | None:
    """What was kept in a file; None if there is none, another user can write it, or a byte of it has changed."""
    try:
        digest, _, rest = read_trusted(path).partition(b"\n")
    except OSError:
        return None
    if digest != _digest(rest).encode():
        return None
    head, _, code = rest.partition(b"\n")
    entry, unresolved = json.loads(head)
    return entry, unresolved, code


def _folders() -> Iterator[Path]:
    """Where machine code may be kept, the best place first."""
    yield Path(__file__).parent / "__pycache__"
    home = os.path.expanduser("~")  # noqa: PTH111  # Path.home raises if there is none
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path(home) / ".cache")
    if cache.is_absolute():
        yield cache / "streamtrain"


def _name(function: Compiled) -> str:
    """A file's name with a digest of all that the machine code follows from."""
    sources = {Path(inspect.getfile(function.py_func)), *Path(__file__).parent.glob("*.py")}
    parts = [source.read_bytes() for source in sorted(sources)]
    facts = (
        function.arguments,
        function.returns,
        llvmlite.__version__,  # whose minor version stands for Numba's: each has one of its own
        np.__version__,
        sys.version,
        *_processor(),
    )
    digest = _digest(b"\0".join([*parts, repr(facts).encode()]))
    return f"{function.py_func.__name__.strip('_')}-{digest}.code"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


@functools.cache
def _processor() -> tuple[str, str]:
    llvm = _llvm()
    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
