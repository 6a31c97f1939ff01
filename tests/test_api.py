"""The public names are all there, light to import, and typed: mypy finds a misspelled option of a user."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import streamtrain as st
from streamtrain.train.config import FitOptions


def test_every_public_name_is_there_and_dir_lists_it() -> None:
    for name in st.__all__:
        assert getattr(st, name).__name__ == name
    assert {*st.__all__, "__version__"} == {*dir(st)}
    assert {"MLP", "convert", "evaluate", "fit", "load", "open_shards", "predict"} < {*dir(st)}  # since 0.1
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        st.fitt  # noqa: B018  # the attribute is the test


def test_each_lazy_name_is_typed_from_the_module_that_it_is_imported_from() -> None:
    tree = ast.parse(Path(inspect.getfile(st)).read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.col_offset]
    typed = {alias.name: node.module for node in imports for alias in node.names}
    assert typed == st._LAZY


def test_the_import_of_the_package_is_light() -> None:
    code = "import sys, streamtrain; print({'torch', 'numpy', 'pyarrow', 'click'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_fit_spells_every_setting_with_its_default_and_help() -> None:
    for function in (st.fit, st.iter_fit):
        options = [*inspect.signature(function).parameters.values()][2:]
        assert options == [*inspect.signature(FitOptions).parameters.values()]
        assert "\n    batch_size: Rows per step.\n" in str(function.__doc__)
    with pytest.raises(TypeError, match=r"fit\(\) got an unexpected keyword argument 'epochz'"):
        st.fit(None, None, epochz=3)  # type: ignore[call-arg]  # which is what mypy says too


SCRIPT = """
    import streamtrain as st

    done: st.Conversion = st.convert("a.csv", "shards", label="first", seed=1)
    train = st.open_shards("shards")
    model = st.MLP(train.schema.features, (100,), len(train.schema.classes))
    reports: list[st.EpochReport] = st.fit(model, train, test=train, epochs=3, memory_bytes=64_000_000)
    for step in st.iter_fit(model, train, lr=0.1):
        if isinstance(step, st.EpochReport):
            print(step.test_accuracy)
        elif isinstance(step, st.Progress):
            print(step.loss)
    figures: float = st.evaluate(model, "test.csv").accuracy
    for part in st.predict("run", train):
        print(part.labels, len(part))
    st.save(model, "model.safetensors")
"""


FAULTS = {
    "st.fit(model, train, epochz=3)": 'Unexpected keyword argument "epochz" for "fit"',
    "st.fit(model, train, lr='0.1')": 'Argument "lr" to "fit" has incompatible type',
    "st.iter_fit(model, train, batchsize=3)": 'Unexpected keyword argument "batchsize"',
    "st.convert('a.csv', 'b', lable='first')": 'Unexpected keyword argument "lable"',
    "st.shuffle('a', 'b', sead=1)": 'Unexpected keyword argument "sead"',
    "st.evaluate(train, model)": 'Argument 1 to "evaluate" has incompatible type "Shards"',
}


def test_mypy_strict_finds_each_misspelled_option_in_a_users_script_and_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    text = textwrap.dedent(SCRIPT) + "\n".join(FAULTS) + "\n"
    (tmp_path / "script.py").write_text(text)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-pretty", tmp_path / "script.py"]
    root = Path(st.__file__).parents[1]  # whose cache knows torch, which takes minutes to analyse
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    lines = text.splitlines()
    found = [line for line in done.stdout.splitlines() if "error:" in line]
    wrong = {int(line.split("script.py:")[1].split(":")[0]) for line in found}
    assert {lines[number - 1] for number in wrong} == {*FAULTS}
    for code, fault in FAULTS.items():
        assert any(f"script.py:{lines.index(code) + 1}:" in line and fault in line for line in found), code
