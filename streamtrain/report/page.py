"""The HTML page of one run or several, which needs no other file and no network."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence

import torch

from streamtrain._version import __version__
from streamtrain.errors import UsageError
from streamtrain.report.charts import Chart, curves
from streamtrain.report.run_view import RunView
from streamtrain.text import printable


def render(runs: Sequence[RunView]) -> str:
    """Return the page of one run, or of several side by side. Raises UsageError if jinja2 is not installed."""
    try:
        import jinja2
    except ImportError:
        raise UsageError("A report needs the package jinja2: pip install 'streamtrain[report]'") from None
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("streamtrain.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
    )
    versions = {"streamtrain": __version__, "torch": torch.__version__, "Python": platform.python_version()}
    page = environment.get_template("report.html.j2")
    names = _names(runs)
    compared = list(_compared(runs, names))
    return page.render(runs=runs, names=names, versions=versions, compared=compared, differing=_differing(runs))


def _shown(value: object) -> object:
    """Return what the page shows of a value: text that is not markup without direction marks and the like."""
    return printable(value) if type(value) is str else value


def _names(runs: Sequence[RunView]) -> list[str]:
    """Return the names of the runs: those of their folders, or the whole paths if two are the same."""
    names = [run.folder.absolute().name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.folder) for run in runs]


def _compared(runs: Sequence[RunView], names: Sequence[str]) -> Iterator[Chart]:
    """Yield charts of all runs: one of the train loss, one of the test accuracy."""
    for key, title in (("train_loss", "Train loss"), ("test_accuracy", "Test accuracy")):
        series = {name: [line.get(key) for line in run.epochs] for name, run in zip(names, runs, strict=True)}
        if len(runs) > 1 and any(value is not None for line in series.values() for value in line):
            yield curves(title, series)


def _differing(runs: Sequence[RunView]) -> list[str]:
    """Return the names of the settings that differ between the runs."""
    names = list(dict.fromkeys(name for run in runs for name in run.settings))
    return [name for name in names if len({str(run.settings.get(name)) for run in runs}) > 1]
