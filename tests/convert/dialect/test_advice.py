"""Public dialects are read as they are meant, and following an error's advice never gives wrong data."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest

from streamtrain.convert import convert
from streamtrain.convert.dialect.detect import detect
from streamtrain.convert.dialect.options import ReadOptions
from streamtrain.convert.options import ConvertOptions
from streamtrain.errors import DataError, StreamtrainError

if TYPE_CHECKING:
    from conftest import Digits, Way, Written

ADVICE = re.compile(r"`(\w+)=([^`]+)`")
FLAGS = re.compile(r"--(on-bad-row) (reject)")
COMMAND = re.compile(r": ((?:sed|tr|iconv) .*)$")  # what may stand at the end of an error
DEEP = 3


class Outcome(NamedTuple):
    """The result of a conversion with these options: right, wrong, or the message of a refusal."""

    options: dict[str, Any]
    found: str


def read(folder: Path) -> tuple[list[str] | None, np.ndarray]:
    """Return the class names and the pixels in a folder of shards, read by pyarrow alone."""
    schema = json.loads((folder / "manifest.json").read_text())["schema"]
    table = pq.read_table(sorted(folder.glob("*.parquet")))
    pixels = np.array([np.frombuffer(image, dtype=schema["dtype"]) for image in table["image"].to_pylist()])
    labels = [schema["classes"][k] for k in table["label"].to_pylist()] if schema["classes"] else None
    return labels, pixels


def judge(written: Written, folder: Path) -> str:
    """Return whether each row is there with its pixels, and with its label or without any."""
    labels, pixels = read(folder)
    truths = [written.pixels, *(also for also in written.also if isinstance(also, np.ndarray))]
    names = [written.labels, None, *(also for also in written.also if not isinstance(also, np.ndarray))]
    same = any(pixels.shape == truth.shape and np.allclose(pixels, truth, atol=1e-6) for truth in truths)
    return "right" if same and labels in names else f"wrong: {pixels.shape}, labels {labels and labels[:5]}"


def advised(message: str) -> Iterator[dict[str, Any]]:
    """Return each option that a message names with a value."""
    for name, value in ADVICE.findall(message):
        yield {name: ast.literal_eval(value)}
    for name, value in FLAGS.findall(message):
        yield {name.replace("-", "_"): value}


def follow(written: Written, folder: Path) -> list[Outcome]:
    """Convert, and convert again with every option that a refusal names, up to three times."""
    source, out = folder / "d.csv", folder / "out"
    source.write_bytes(written.data)
    outcomes: dict[str, Outcome] = {}

    def attempt(options: Mapping[str, Any], depth: int) -> None:
        key = repr(sorted(options.items(), key=repr))
        if key in outcomes:
            return
        try:
            convert(source, out, workers=1, **options)
            outcomes[key] = Outcome(dict(options), judge(written, out))
        except StreamtrainError as error:
            outcomes[key] = Outcome(dict(options), str(error))
            for more in advised(str(error)) if depth else ():
                attempt({**options, **more}, depth - 1)
        finally:
            shutil.rmtree(out, ignore_errors=True)

    attempt(written.options, DEEP)
    return [*outcomes.values()]


def test_fifty_public_dialects_are_read_or_refused_with_advice_that_works(
    public_way: Way, digits: Callable[..., Digits], tmp_path: Path
) -> None:
    outcomes = follow(public_way(digits()), tmp_path)
    assert any(outcome.found == "right" for outcome in outcomes), outcomes
    assert not [outcome for outcome in outcomes if outcome.found.startswith("wrong")]


def test_neither_the_number_of_rows_nor_their_order_changes_a_verdict(
    public_way: Way, digits: Callable[..., Digits]
) -> None:
    verdicts = set()
    for rows in (40, 150, 600):
        written = public_way(digits(rows))
        lines = written.data.splitlines(keepends=True)
        start = len(lines) - rows
        lines[start:] = np.random.default_rng(rows).permutation(lines[start:]).tolist()
        for data in (written.data, b"".join(lines)):
            try:
                dialect = detect(data, path="d.csv", whole=True, options=ReadOptions(**written.options)).dialect
            except DataError as error:
                verdicts.add(re.sub(r":\d+: |is \"[^\"]+\"", "", str(error)))
            else:
                verdicts.add(repr(replace(dialect, skipped=())))
    assert len(verdicts) == 1


def test_advice_followed_to_the_letter_never_leads_to_wrong_data(
    troubled_way: Way, digits: Callable[..., Digits], tmp_path: Path
) -> None:
    outcomes = follow(troubled_way(digits()), tmp_path)
    assert not [outcome for outcome in outcomes if outcome.found.startswith("wrong")]
    for outcome in outcomes:
        assert outcome.found == "right" or len(outcome.found.replace(str(tmp_path), "")) < 300


# The pixels that a file has when the commands that its refusals name have been run on it.
FIXED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "decimal commas": lambda pixels: (pixels / 255).round(3),
    "decimal commas between semicolons": lambda pixels: (pixels / 255).round(3),
    "TRUE and FALSE": lambda pixels: (pixels > 0).astype(int),
    "each line quoted": lambda pixels: pixels,
    "each line in brackets": lambda pixels: pixels,
    "an array in a cell": lambda pixels: pixels,
    "an array in a cell, with a header": lambda pixels: pixels,
    "an array that NumPy printed": lambda pixels: pixels,
    "pixels in one cell": lambda pixels: pixels,
    "FER2013": lambda pixels: pixels,
    "an id, a label, pixels in one cell": lambda pixels: pixels,
    "Latin-1": lambda pixels: pixels,
    "ARFF": lambda pixels: pixels,
}


@pytest.mark.parametrize("name", FIXED)
def test_the_commands_that_an_error_names_fix_the_file(
    name: str, troubled_ways: Mapping[str, Way], digits: Callable[..., Digits], tmp_path: Path
) -> None:
    written = troubled_ways[name](digits())
    source, commands = tmp_path / "d.csv", 0
    source.write_bytes(written.data)
    while command := command_for(source):
        with source.open("rb") as before:
            data = subprocess.run(["bash", "-c", command], stdin=before, capture_output=True, check=True).stdout
        source.write_bytes(data)
        commands += 1
    assert 0 < commands < DEEP
    fixed = replace(written, data=source.read_bytes(), pixels=FIXED[name](written.pixels))
    outcomes = follow(fixed, tmp_path)
    assert "right" in {outcome.found for outcome in outcomes}
    assert not [outcome for outcome in outcomes if outcome.found.startswith("wrong")]


def command_for(source: Path) -> str | None:
    """The command that the refusal of a file names, if it is refused with one."""
    try:
        shutil.rmtree(convert(source, source.with_name("out")).folders[""])
    except StreamtrainError as error:
        command = COMMAND.search(str(error))
        return command[1] if command else None
    return None


def test_every_command_that_an_error_of_a_troubled_file_names_is_tried(
    troubled_ways: Mapping[str, Way], digits: Callable[..., Digits], tmp_path: Path
) -> None:
    named = set()
    for name, way in troubled_ways.items():
        outcomes = follow(way(digits()), tmp_path)
        named |= {name for outcome in outcomes if COMMAND.search(outcome.found)}
    assert named == set(FIXED)


@pytest.fixture(autouse=True)
def in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for the disk: the conversions are many and small."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.mark.long
@pytest.mark.parametrize(("rows", "side"), [(20, 8), (30, 8), (60, 8), (400, 8), (3000, 8), (150, 16), (150, 28)])
def test_nor_does_it_for_files_of_other_sizes(
    any_way: Way, digits: Callable[..., Digits], tmp_path: Path, rows: int, side: int
) -> None:
    outcomes = follow(any_way(digits(rows, side, seed=rows)), tmp_path)
    assert not [outcome for outcome in outcomes if outcome.found.startswith("wrong")]


def test_every_parameter_that_an_error_names_is_one_of_convert() -> None:
    package = Path(convert.__code__.co_filename).parent / "dialect"
    named = {
        name for file in package.glob("*.py") for name in re.findall(r"argument\(\"(\w+)\"", file.read_text())
    }
    assert named
    assert named <= set(ConvertOptions.__dataclass_fields__)
