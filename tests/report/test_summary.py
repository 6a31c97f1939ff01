"""The facts of a data set are those of its rows; the warnings come when they should."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import streamtrain as st
from streamtrain.errors import UsageError
from streamtrain.report.summary import DatasetSummary, examples, origin, row_at


def table(path: Path) -> np.ndarray:
    return np.loadtxt(path, delimiter=",", skiprows=1)


def test_the_facts_are_those_of_the_rows(shards: Path, digits_csv: Path) -> None:
    facts, rows = DatasetSummary.of(st.open_shards(shards).manifest), table(digits_csv)
    pixels = rows[:, 1:]
    assert (facts.rows, facts.lines["lines"]) == (600, 601)
    assert facts.classes == {str(k): 60 for k in range(10)}
    assert facts.seen == (pixels.min(), pixels.max())
    assert facts.mean == pytest.approx(pixels.mean() / pixels.max())
    assert facts.deviation == pytest.approx(pixels.std() / pixels.max())
    assert facts.constant_pixels == (np.ptp(pixels, axis=0) == 0).sum()


def test_any_line_gives_its_row_and_its_origin(digits_csv: Path, tmp_path: Path) -> None:
    text = digits_csv.read_text()
    (tmp_path / "a.csv").write_text(text)
    (tmp_path / "b.csv").write_text(text.replace("\n", "\n\n", 1))  # its rows begin in line 3
    st.convert([tmp_path / "a.csv", tmp_path / "b.csv"], tmp_path / "shards")
    shards, rows = st.open_shards(tmp_path / "shards"), table(digits_csv)
    for line, file, file_line in ((2, "a.csv", 2), (601, "a.csv", 601), (604, "b.csv", 3), (1203, "b.csv", 602)):
        row = row_at(shards, line)
        assert origin(shards.manifest.sources, line) == (str(tmp_path / file), file_line)
        wanted = rows[file_line - (2 if file == "a.csv" else 3)]
        assert row.pixels.tolist() == wanted[1:].tolist()
        assert row.label == str(int(wanted[0]))
    for line in (1, 602, 603):  # headers and a blank
        with pytest.raises(UsageError, match="has no row"):
            row_at(shards, line)
    with pytest.raises(UsageError, match=r"1\.\.1203"):
        row_at(shards, 1204)


def test_examples_are_spread_over_the_set(shards: Path, digits_csv: Path) -> None:
    rows = examples(st.open_shards(shards), 4)
    assert [row.line for row in rows] == [2, 201, 401, 601]
    assert rows[3].pixels.tolist() == table(digits_csv)[599, 1:].tolist()
    assert len(examples(st.open_shards(shards), 1000)) == 600


def test_an_order_by_class_a_rare_class_and_an_odd_range_are_warned_of(
    shards: Path, digits_csv: Path, tmp_path: Path
) -> None:
    header, *lines = digits_csv.read_text().splitlines()
    lines = [line for line in sorted(lines) if line[0] != "3"] + ["3" + ",0" * 64]
    (tmp_path / "odd.csv").write_text("\n".join([header, *lines]))
    st.convert(tmp_path / "odd.csv", tmp_path / "odd", pixel_range=(0, 2000))
    warnings = DatasetSummary.of(st.open_shards(tmp_path / "odd").manifest).warnings
    assert [warning.split(" ")[0] for warning in warnings] == ["the", "class", "pixels"]
    assert "sorted by class" in warnings[0]
    assert "class 3 has 1 row," in warnings[1]
    assert "0..2000" in warnings[2]
    manifest = st.open_shards(shards).manifest
    assert (
        "never change"
        in DatasetSummary.of(replace(manifest, pixels=manifest.pixels | {"max": manifest.pixels["min"]})).warnings[
            0
        ]
    )
