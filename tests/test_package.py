"""The package as it is built, installed and started, and what its source must never contain."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import streamtrain

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "streamtrain"
SOURCES = sorted(PACKAGE.rglob("*.py"))
PRESETS = sorted(PACKAGE.glob("convert/dialect/presets/*.toml"))


def run(*command: str | Path, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{command} left {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def test_the_built_package_is_complete_and_runs_where_its_sources_are_not(tmp_path: Path) -> None:
    dist, target, elsewhere = tmp_path / "dist", tmp_path / "target", tmp_path / "elsewhere"
    elsewhere.mkdir()

    # Builds the sdist from the sources and the wheel from the sdist, so a gap in either shows.
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, ROOT, cwd=elsewhere)
    [wheel], [sdist] = dist.glob("*.whl"), dist.glob("*.tar.gz")
    stem = f"streamtrain-{streamtrain.__version__}"
    assert wheel.name.startswith(f"{stem}-cp311-abi3-")
    assert sdist.name == f"{stem}.tar.gz"

    modules = {path.relative_to(ROOT).as_posix() for path in SOURCES}
    presets = {path.relative_to(ROOT).as_posix() for path in PRESETS}
    assert presets
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = set(archive.namelist())
    assert modules | presets | {"streamtrain/py.typed", "streamtrain/native/_core.abi3.so"} <= in_wheel
    assert f"{stem}.dist-info/licenses/LICENSE" in in_wheel
    assert {name.split("/")[0] for name in in_wheel} == {"streamtrain", f"{stem}.dist-info"}

    with tarfile.open(sdist) as archive:
        in_sdist = {name.removeprefix(f"{stem}/") for name in archive.getnames()}
    here = Path(__file__).relative_to(ROOT).as_posix()
    assert {here, "README.md", "CHANGELOG.md", "LICENSE", "constraints.txt"} <= in_sdist
    scripts = {path.relative_to(ROOT).as_posix() for path in (ROOT / "scripts").iterdir() if path.is_file()}
    assert scripts <= in_sdist
    assert {path.relative_to(ROOT).as_posix() for path in (PACKAGE / "native").glob("*.[chi]*")} <= in_sdist

    # The dependencies are the environment's; the package itself is the wheel's, and nothing else's.
    run(
        *(sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"),
        *("--target", target, wheel),
        cwd=elsewhere,
    )
    installed = {"PYTHONPATH": str(target)}
    where = run(
        sys.executable, "-c", "import streamtrain; print(streamtrain.__file__)", cwd=elsewhere, **installed
    )
    assert Path(where.stdout.strip()).is_relative_to(target)
    shown = run(sys.executable, "-m", "streamtrain", "--help", cwd=elsewhere, **installed)
    assert "convert" in shown.stdout
    version = run(sys.executable, "-m", "streamtrain", "--version", cwd=elsewhere, **installed)
    assert streamtrain.__version__ in version.stdout
    built = "from streamtrain import native; assert native.available()"
    run(sys.executable, "-c", built, cwd=elsewhere, **installed)


def test_without_a_compiler_the_package_installs_without_its_loops_in_c(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "streamtrain").parent.mkdir()
    ignored = shutil.ignore_patterns("__pycache__", "*.so")
    shutil.copytree(PACKAGE, source / "streamtrain", ignore=ignored)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    install = [
        "-m",
        "pip",
        "install",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        target,
        source,
    ]
    run(sys.executable, *install, cwd=tmp_path, CC="false")
    found = "from streamtrain import native; print(native.available(), native.__file__)"
    said = run(sys.executable, "-c", found, cwd=tmp_path, PYTHONPATH=str(target)).stdout.split()
    assert said[0] == "False"
    assert Path(said[1]).is_relative_to(target)


def test_help_imports_neither_torch_nor_pandas_nor_pyarrow(tmp_path: Path) -> None:
    shown = run(sys.executable, "-X", "importtime", "-m", "streamtrain", "--help", cwd=tmp_path)

    # Each line is "import time: self [us] | cumulative | name", the name indented by depth.
    lines = [line for line in shown.stderr.splitlines() if line.startswith("import time:")]
    roots = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}
    assert "streamtrain" in roots  # or the measuring itself is broken
    assert roots.isdisjoint({"torch", "pandas", "pyarrow"})


# The gradients are written by hand, all of them. These tests read the syntax tree, so prose may say autograd.

AUTOGRAD_NAMES = {"requires_grad", "requires_grad_", "autograd", "enable_grad", "grad_fn"}
OWN_BACKWARD = {"model", "self"}


def autograd_uses(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, what) of each use of torch's automatic differentiation."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name) | ast.Name(id=name) if name in AUTOGRAD_NAMES:
                yield node.lineno, name
            case ast.keyword(arg=str(name)) if name in AUTOGRAD_NAMES:
                yield node.value.lineno, f"{name}="
            case ast.Import(names=names):
                yield from ((node.lineno, n.name) for n in names if AUTOGRAD_NAMES & set(n.name.split(".")))
            case ast.ImportFrom(module=module, names=names):
                parts = {*(module or "").split("."), *(n.name for n in names)}
                yield from ((node.lineno, part) for part in sorted(AUTOGRAD_NAMES & parts))
            case ast.Call(func=ast.Attribute(attr="backward", value=owner)):
                if not (isinstance(owner, ast.Name) and owner.id in OWN_BACKWARD):
                    yield node.lineno, f"{ast.unparse(owner)}.backward()"


def test_no_module_of_the_package_uses_autograd() -> None:
    assert SOURCES
    uses = [
        f"{path.relative_to(ROOT)}:{line}: {what}"
        for path in SOURCES
        for line, what in autograd_uses(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert uses == []


@pytest.mark.parametrize(
    "code",
    [
        "w = torch.zeros(3, requires_grad=True)",
        "w.requires_grad = True",
        "w.requires_grad_()",
        "loss.backward()",
        "criterion(x, y).backward()",
        "self.loss.backward()",
        "import torch.autograd as ag",
        "import torch.autograd.functional",
        "from torch import autograd",
        "from torch.autograd import grad",
        "from torch import enable_grad",
        "g = torch.autograd.grad(loss, w)",
        "with torch.enable_grad(): pass",
        "w.grad_fn",
    ],
)
def test_a_use_of_autograd_is_found(code: str) -> None:
    assert list(autograd_uses(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "gradients = model.backward(saved, dlogits)",
        "d = self.backward(saved, d)",
        "dW = backward(layer, saved, d)",
        "'autograd is not used here: requires_grad, loss.backward()'  # nor torch.autograd",
        "with torch.inference_mode(): pass",
    ],
)
def test_handwritten_gradients_and_prose_are_not_a_use_of_autograd(code: str) -> None:
    assert list(autograd_uses(ast.parse(code))) == []
