"""The optional module of C: the loops of streamtrain/native, built where there is a compiler."""

from __future__ import annotations

import hashlib
import os
import sysconfig
from pathlib import Path

from setuptools import Extension, setup

NATIVE = Path("streamtrain/native")
COMPILED = ["_core.c", "loops_v2.c", "loops_v3.c", "loops_v4.c"]
SOURCES = sorted(path for kind in ("c", "h", "inc") for path in NATIVE.glob(f"*.{kind}"))

digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in SOURCES)).hexdigest()[:16]
macros = [("SOURCES", f'"{digest}"')]
options = {}
if not sysconfig.get_config_var("Py_GIL_DISABLED"):  # such a Python has no limited API
    macros.append(("Py_LIMITED_API", "0x030B0000"))
    options = {"bdist_wheel": {"py_limited_api": "cp311"}}
core = Extension(
    "streamtrain.native._core",
    sources=[str(NATIVE / name) for name in COMPILED],
    depends=[str(path) for path in SOURCES],
    define_macros=macros,
    # No product may be fused with a sum but where the source says so, or bits would depend on the processor.
    extra_compile_args=[
        "-std=c11",
        "-O3",
        "-ffp-contract=off",
        "-fno-trapping-math",
        *os.environ.get("STREAMTRAIN_CFLAGS", "").split(),
    ],
    extra_link_args=os.environ.get("STREAMTRAIN_LDFLAGS", "").split(),
    py_limited_api="Py_LIMITED_API" in dict(macros),
    optional=True,  # without it the functions of Python run
)
setup(ext_modules=[core], options=options)
