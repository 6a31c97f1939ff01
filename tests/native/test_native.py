"""The module of C is the one of these sources, takes the best instruction set or one named, and checks arrays."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from streamtrain import native
from streamtrain.native import gather, parse

FOLDER = Path(native.__file__).parent
ISAS = native.core.isas() if native.core else []


def started(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **env}, capture_output=True, text=True, check=False
    )


def test_the_module_was_built_from_the_sources_next_to_it() -> None:
    assert native.core, "the loops are not built: python setup.py build_ext --inplace"
    sources = sorted(path for kind in ("c", "h", "inc") for path in FOLDER.glob(f"*.{kind}"))
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()
    assert digest[:16] == native.core.SOURCES, "built from other sources: python setup.py build_ext --inplace"


def test_the_best_instruction_set_is_taken_unless_one_is_named() -> None:
    program = "from streamtrain.native import core; print(core.isa())"
    assert started(program, STREAMTRAIN_ISA="").stdout.strip() == ISAS[0]
    for name in ISAS:
        assert started(program, STREAMTRAIN_ISA=name).stdout.strip() == name


def test_an_instruction_set_that_there_is_not_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("1,2\n")
    code = "from streamtrain.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "convert", "d.csv", "out"],
        env={**os.environ, "STREAMTRAIN_ISA": "v9"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: STREAMTRAIN_ISA: this processor does not run the instruction set v9.")


def test_an_array_of_another_type_size_or_layout_is_refused_and_not_misread() -> None:
    pixels, order, out = np.zeros((4, 6), np.uint8), np.arange(4), np.zeros((2, 6), np.float32)
    gather.gather_scaled(pixels, order, 0, 1, 2, out)
    with pytest.raises(TypeError, match="argument 2 has format i and 1 dimensions, not q and 1"):
        gather.gather_scaled(pixels, order.astype(np.int32), 0, 1, 0, out)
    with pytest.raises(TypeError, match="argument 1 has format B and 1 dimensions, not B and 2"):
        gather.gather_scaled(pixels[0], order, 0, 1, 0, out)
    with pytest.raises(TypeError, match="does not take 2 arguments"):
        gather.gather_scaled(pixels, order)  # type: ignore[call-arg]  # which mypy finds too
    with pytest.raises(ValueError, match="not C-contiguous"):
        gather.gather_scaled(pixels[:, ::2], order, 0, 1, 0, out)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        gather.gather_scaled(pixels, order, 0, 1, 0, out)


@pytest.mark.parametrize(("at", "row"), [(3, 0), (5, 0), (-1, 0), (0, 4), (0, -1)])
def test_rows_that_there_are_not_are_refused(at: int, row: int) -> None:
    pixels, order, out = np.zeros((4, 6), np.uint8), np.full(4, row), np.zeros((2, 6), np.float32)
    with pytest.raises(ValueError, match="do not fit each other"):
        gather.gather_scaled(pixels, order, 0, 1, at, out)


def test_a_text_without_its_padding_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit each other"):
        parse.count_lines(np.zeros(5, np.uint8), 6)


def weights_of(tmp_path: Path, data: Path, name: str, *options: str, **env: str) -> str:
    """The digest of the weights that a training in a process of its own comes to."""
    command = [sys.executable, "-m", "streamtrain", "train", str(data), "--test", str(data)]
    command += ["--out", str(tmp_path / name), "--json", "-q", *options]
    done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    digest: str = json.loads(done.stdout.splitlines()[-1])["weights_sha256"]
    return digest


@pytest.mark.parametrize("options", [(), ("--hidden", "40,130", "--momentum", "0.9", "--weight-decay", "0.001")])
def test_weights_are_the_same_to_the_bit_with_every_instruction_set(
    options: tuple[str, ...], digits_csv: Path, tmp_path: Path
) -> None:
    for name in ISAS:
        convert = [
            sys.executable,
            "-m",
            "streamtrain",
            "convert",
            str(digits_csv),
            str(tmp_path / f"d{name}"),
            "-q",
        ]
        subprocess.run(convert, env={**os.environ, "STREAMTRAIN_ISA": name}, check=True, stdout=subprocess.DEVNULL)
    found = {
        weights_of(tmp_path, tmp_path / f"d{name}", name, "--epochs", "3", *options, STREAMTRAIN_ISA=name)
        for name in ISAS
    }
    assert len(ISAS) > 1 or native.core.isa() == "arm64"  # type: ignore[union-attr]  # or the test says nothing
    assert len(found) == 1


def test_without_the_module_the_command_line_says_so_once_and_works(
    digits_csv: Path, tmp_path: Path, on_each_isa: Callable[[], Iterator[str]]
) -> None:
    code = "import sys; sys.modules['streamtrain.native._core'] = None\nfrom streamtrain.cli import main; main()"
    outputs = []
    for name, run in (("plain", [sys.executable, "-c", code]), ("c", [sys.executable, "-m", "streamtrain"])):
        convert = [*run, "convert", str(digits_csv), str(tmp_path / name), "-q"]
        train = [*run, "train", str(tmp_path / name), "--test", str(tmp_path / name), "--epochs", "2", "--json"]
        train += ["--out", str(tmp_path / f"{name}-run")]
        for command in (convert, train):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            assert done.stderr.count(native.NOT_BUILT) == (name == "plain")
        outputs.append([json.loads(line) for line in done.stdout.splitlines()[:2]])
    for plain, built in zip(*outputs, strict=True):
        assert plain["test_accuracy"] == pytest.approx(built["test_accuracy"], abs=0.002)
        assert plain["train_loss"] == pytest.approx(built["train_loss"], rel=1e-4)
    shards = [sorted(path.read_bytes() for path in (tmp_path / n).glob("*.parquet")) for n in ("plain", "c")]
    assert shards[0] == shards[1]
