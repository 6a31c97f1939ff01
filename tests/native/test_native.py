"""Machine code is built once, kept where it can be, and never trusted when it is damaged."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import streamtrain
from streamtrain import native as compiled
from streamtrain.native import Compiled

PACKAGE = Path(streamtrain.__file__).parent


def _double(values: np.ndarray, times: int) -> int:
    for i in range(len(values)):
        values[i] *= 2
    return len(values) * times


def doubled() -> tuple[Compiled, list[int]]:
    """The function, loaded anew, and what it made of 1, 2, 3."""
    function = Compiled(_double, ("int64[:]", "int64"), "int64")
    values = np.array([1, 2, 3])
    assert function(values, 7) == 21
    return function, values.tolist()


def test_code_is_built_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_folders", lambda: [tmp_path / "a", tmp_path / "b"])
    assert doubled()[1] == [2, 4, 6]
    [kept] = tmp_path.rglob("*.code")
    assert Compiled(_double, ("int64[:]", "int64"), "int64").kept
    assert not Compiled(_double, ("int64[:]", "int64"), "void").kept
    assert kept.parent == tmp_path / "a"
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "streamtrain.native.build", None)  # importing it is an ImportError
        assert doubled()[1] == [2, 4, 6]
    damaged = bytearray(kept.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    kept.write_bytes(damaged)
    assert doubled()[1] == [2, 4, 6]
    assert kept.read_bytes() != damaged


def test_code_that_can_be_kept_nowhere_is_built_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(compiled, "_folders", lambda: [tmp_path / "file" / "below", Path("/proc/none")])
    assert doubled()[1] == [2, 4, 6]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def _summed(values: np.ndarray, factor: float, sums: np.ndarray) -> None:
    total = sums[0]
    for i in range(len(values)):
        total = total + factor * values[i]
    sums[0] = total


@pytest.mark.parametrize("lanes", [8, 24, 104])
def test_runs_of_numbers_are_worked_with_as_in_python(lanes: int) -> None:
    values, sums = _aligned(5, lanes), _aligned(1, lanes)
    values[:] = np.arange(5 * lanes).reshape(5, lanes)
    sums[:] = 1
    expected = sums + 0.5 * values.sum(axis=0)
    function = Compiled(_summed, (f"float32x{lanes}[:]", "float32", f"float32x{lanes}[:]"))
    call = function.bound(values, 0.5, sums)
    call()
    np.testing.assert_array_equal(sums, expected)
    call()
    np.testing.assert_array_equal(sums, expected + 0.5 * values.sum(axis=0))
    call = function.bound(values)  # the rest at each call
    call(-0.5, sums)
    np.testing.assert_array_equal(sums, expected)
    with pytest.raises(ValueError, match="argument"):
        call(0.5)
    with pytest.raises(TypeError, match="_summed takes"):
        call(0.5, values[:, :4].copy())
    call(0.5, sums)
    _summed(values, np.float32(-1), sums)
    np.testing.assert_array_equal(sums, expected - 0.5 * values.sum(axis=0))
    with pytest.raises(TypeError, match=rf"_summed takes float32x{lanes}\[:\], not float32 \(5, 4\)"):
        function(values[:, :4].copy(), 0.5, sums)
    with pytest.raises(TypeError, match="_summed takes"):
        function(np.empty(5 * lanes + 1, np.float32)[1:].reshape(5, lanes), 0.5, sums)


def _aligned(rows: int, lanes: int) -> np.ndarray:
    """Room that begins where a run may: as a tensor's does."""
    made: np.ndarray = torch.zeros(rows, lanes).numpy()
    return made


def test_code_that_is_compiled_apart_leaves_the_compiler_out_of_this_process(tmp_path: Path) -> None:
    (tmp_path / "tripled.py").write_text("def tripled(values):\n    return 3 * len(values)\n")
    code = (
        "import sys, numpy, pathlib, streamtrain.native as c, tripled\n"
        f"c._folders = lambda: [pathlib.Path({str(tmp_path)!r})]\n"
        "function = c.Compiled(tripled.tripled, ['uint8[:]'], 'int64', apart=True)\n"
        "print(function.kept, function(numpy.zeros(5, numpy.uint8)), function.kept, 'numba' in sys.modules)"
    )
    path = os.pathsep.join([str(tmp_path), str(PACKAGE.parent)])
    told = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == "False 15 True False\n"


@pytest.mark.parametrize("executable", ["/nowhere/python", "/bin/echo", "/bin/false", None])
def test_where_no_other_process_compiles_this_one_does(
    executable: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "_folders", lambda: [tmp_path])
    monkeypatch.setattr(sys, "executable", executable)
    values = np.array([1, 2, 3])
    assert Compiled(_double, ("int64[:]", "int64"), "int64", apart=True)(values, 7) == 21
    assert values.tolist() == [2, 4, 6]


def test_an_array_of_another_type_or_layout_is_refused_and_not_misread() -> None:
    function, _ = doubled()
    with pytest.raises(TypeError, match=r"_double takes int64\[:\], not int32 \(3,\)"):
        function(np.arange(3, dtype=np.int32), 1)
    with pytest.raises(TypeError, match="_double takes"):
        function(np.arange(6)[::2], 1)
    with pytest.raises(ValueError, match="argument"):
        function(np.arange(3))


def test_an_installation_that_is_read_only_keeps_code_in_the_users_cache(digits_csv: Path, tmp_path: Path) -> None:
    site, cache = tmp_path / "site", tmp_path / "cache"
    shutil.copytree(PACKAGE, site / "streamtrain", ignore=shutil.ignore_patterns("__pycache__"))
    (site / "streamtrain" / "native" / "__pycache__").touch()  # a file: nothing can be written below it
    code = (
        "import sys; from streamtrain.convert import convert; "
        f"convert({str(digits_csv)!r}, sys.argv[1]); print('numba' in sys.modules)"
    )

    def run(dest: str, home: Path) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code, dest],
            env={**os.environ, "PYTHONPATH": str(site), "XDG_CACHE_HOME": str(home)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.strip()

    assert run("first", cache) == "True"
    assert list((cache / "streamtrain").glob("parse-*.code"))
    assert run("second", cache) == "False"


def test_numba_works_in_a_process_that_loaded_what_was_kept(digits_csv: Path, tmp_path: Path) -> None:
    """Numba's own code finds the symbols that were defined for the kept code, and calls those of Python."""
    script = f"""
import streamtrain
streamtrain.convert({str(digits_csv)!r}, {str(tmp_path / "out")!r})
import sys
assert "numba" not in sys.modules, "the code was not kept"
import numba, numpy
@numba.njit
def filled(count):
    made = numpy.empty(count)
    made[:] = 2
    if count > 3:
        raise ValueError("many")
    return made
print(filled(3).sum())
try:
    filled(4)
except ValueError as error:
    print(error)
"""
    subprocess.run([sys.executable, "-c", "import streamtrain.native.parse as k; k.parse._loaded()"], check=True)
    warm = [sys.executable, "-m", "streamtrain", "convert", str(digits_csv), str(tmp_path / "warm"), "-q"]
    subprocess.run(warm, check=True, stdout=subprocess.DEVNULL)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "6.0\nmany\n"), done.stderr
