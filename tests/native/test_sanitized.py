"""The loops run under AddressSanitizer and UndefinedBehaviorSanitizer on the inputs of the other tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import streamtrain

ROOT = Path(streamtrain.__file__).parents[1]
SANITIZED = "-fsanitize=address,undefined -fno-sanitize-recover=all"
TESTS = (
    "test_parse.py",
    "test_step.py",
    "test_learn.py",
    "test_evaluate.py",
    "test_gather.py",
    "test_statistics.py",
    "test_adam.py",
    "test_warp.py",
)


def output_of(*command: str | Path, cwd: Path, **env: str) -> str:
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    return done.stdout


@pytest.mark.long
def test_no_loop_leaves_its_arrays_or_what_c_defines(tmp_path: Path) -> None:
    if not shutil.which("gcc"):
        pytest.skip("gcc, whose sanitizers can be loaded before Python, is not here")
    shutil.copytree(ROOT / "streamtrain", tmp_path / "streamtrain", ignore=shutil.ignore_patterns("*.so"))
    shutil.copytree(ROOT / "tests" / "native", tmp_path / "tests")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    build = (sys.executable, "setup.py", "-q", "build_ext", "--inplace")
    output_of(*build, cwd=tmp_path, CC="gcc", STREAMTRAIN_CFLAGS=f"{SANITIZED} -g", STREAMTRAIN_LDFLAGS=SANITIZED)
    libraries = [
        output_of("gcc", f"-print-file-name={name}", cwd=tmp_path).strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    found = output_of(
        *(
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-k",
            "not careful_path",
            *(f"tests/{name}" for name in TESTS),
        ),
        cwd=tmp_path,
        LD_PRELOAD=" ".join(libraries),
        ASAN_OPTIONS="detect_leaks=0:allocator_may_return_null=1",
        PYTHONPATH=str(tmp_path),
    )
    assert " passed" in found or "100%" in found
