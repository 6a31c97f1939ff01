"""Float pixels that are all n / d are stored as n in a byte: nothing is lost, and it is proved or undone."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import streamtrain as st
from streamtrain.block import Array, Block, joined
from streamtrain.convert import convert, pipeline
from streamtrain.convert.dialect import files, pixels
from streamtrain.convert.options import ConvertOptions
from streamtrain.convert.pipeline import iter_convert
from streamtrain.convert.write.parallel import map_chunks
from streamtrain.engine import sparse
from streamtrain.schema import Schema
from streamtrain.shards.builder import ShardBuilder
from streamtrain.shards.fractions import denominator_of, numerators, quotients
from streamtrain.shards.manifest import Manifest
from streamtrain.shards.verify import verify
from streamtrain.stream.dataset import open_shards

SHORTEST = [str(np.float32(n / 255)) for n in range(256)]
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write rows of numerators as a CSV, the label first, then any lines."""

    def write(name: str, found: Array, texts: list[str] = SHORTEST, *more: str) -> Path:
        rows = [",".join([str(i % 3), *(texts[n] for n in row)]) for i, row in enumerate(found.tolist())]
        (tmp_path / name).write_text("\n".join([*rows, *more]) + "\n")
        return tmp_path / name

    return write


@pytest.fixture
def found() -> Array:
    """(600, 16) numerators, every one of 0..255 among them, most of them not 0."""
    rows = np.random.default_rng(0).integers(0, 256, (600, 16))
    rows[:16] = np.arange(256).reshape(16, 16)
    return rows


@pytest.fixture
def as_floats(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Convert without looking for fractions, as earlier versions did."""

    def converted(source: Path, dest: Path, **options: object) -> Path:
        with monkeypatch.context() as patch:
            patch.setattr(pixels, "denominator_of", lambda _: 1)
            convert(source, dest, **options)  # type: ignore[arg-type]
        return dest

    return converted


def block_of(folder: Path) -> Block:
    return joined(list(open_shards(folder).blocks()))


def batches_of(folder: Path) -> list[Array]:
    return [x.numpy() for x, _ in open_shards(folder).minibatches(epoch=1, seed=0, batch_size=64)]


@pytest.mark.parametrize(
    "texts",
    [SHORTEST, [repr(n / 255) for n in range(256)], [f"{np.float32(n / 255):.9g}" for n in range(256)],
     [f"{n / 255:.18e}" for n in range(256)]],
    ids=["float32", "float64", "9 digits", "savetxt"],
)  # fmt: skip
def test_every_way_to_write_n_of_255_is_stored_in_a_byte(
    tmp_path: Path, write: Write, found: Array, texts: list[str]
) -> None:
    convert(write("d.csv", found, texts), tmp_path / "out")
    schema = Manifest.load(tmp_path / "out").schema
    assert (schema.dtype, schema.denominator, schema.pixel_range) == ("uint8", 255, (0, 255))
    np.testing.assert_array_equal(block_of(tmp_path / "out").pixels, found)
    assert verify(tmp_path / "out").ok


def test_each_value_read_back_is_the_float32_of_the_text(tmp_path: Path, write: Write, found: Array) -> None:
    source = write("d.csv", found)
    convert(source, tmp_path / "out")
    pixels = block_of(tmp_path / "out").pixels
    meant = np.loadtxt(source, delimiter=",", dtype=np.float32)[:, 1:]
    assert quotients(pixels, 255).tobytes() == meant.tobytes()


@pytest.mark.parametrize("text", ["0.0039", "0.5", "-0.003921569", "1.003921569", "0.003921566"])
def test_one_row_that_is_not_such_a_fraction_makes_all_shards_floats(
    tmp_path: Path,
    write: Write,
    found: Array,
    as_floats: Callable[..., Path],
    text: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pipeline, "map_chunks", functools.partial(map_chunks, chunk_bytes=10_000))
    monkeypatch.setattr(files, "SAMPLE_BYTES", 20_000)
    odd = ",".join(["2", text, *["0"] * 15])
    source = write("d.csv", found, SHORTEST, odd)
    convert(source, tmp_path / "out")
    direct = as_floats(source, tmp_path / "direct")
    ours, theirs = Manifest.load(tmp_path / "out"), Manifest.load(direct)
    assert ours.content_digest == theirs.content_digest
    assert ours.schema.denominator == 1
    assert verify(tmp_path / "out").ok
    np.testing.assert_allclose(ours.pixels["sum"], theirs.pixels["sum"], rtol=1e-12)
    assert ours.pixels["min"] == theirs.pixels["min"]


def test_the_part_of_a_row_does_not_depend_on_how_it_is_stored(
    tmp_path: Path, write: Write, found: Array, as_floats: Callable[..., Path]
) -> None:
    source, split = write("d.csv", found), {"train": 0.7, "val": 0.3}
    convert(source, tmp_path / "out", split=split)
    direct = as_floats(source, tmp_path / "direct", split=split)
    for part in split:
        np.testing.assert_array_equal(block_of(tmp_path / "out" / part).lines, block_of(direct / part).lines)
        assert Manifest.load(tmp_path / "out" / part).schema.denominator == 255


def test_a_resume_continues_to_the_same_shards(
    tmp_path: Path, write: Write, found: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "map_chunks", functools.partial(map_chunks, chunk_bytes=10_000))
    for name, more in (("d.csv", ()), ("odd.csv", ("1," + "0.1234," * 15 + "1",))):
        source = write(name, found, SHORTEST, *more)
        convert(source, tmp_path / f"{name}.whole", workers=1)
        steps: Iterator[object] = iter_convert(source, tmp_path / name[:-4], ConvertOptions(workers=1))
        for _ in range(4):
            next(steps)
        steps.close()  # type: ignore[attr-defined]  # a generator
        convert(source, tmp_path / name[:-4], resume=True, workers=1)
        whole, resumed = (Manifest.load(tmp_path / each) for each in (f"{name}.whole", name[:-4]))
        assert resumed.to_json() == whole.to_json()


def test_batches_have_the_same_bits_as_from_floats(
    tmp_path: Path, write: Write, found: Array, as_floats: Callable[..., Path]
) -> None:
    source = write("d.csv", found)
    convert(source, tmp_path / "out")
    ours, theirs = batches_of(tmp_path / "out"), batches_of(as_floats(source, tmp_path / "direct"))
    assert sum(map(len, ours)) == len(found)
    assert [x.tobytes() for x in ours] == [x.tobytes() for x in theirs]


def trained(folder: Path) -> st.MLP:
    shards = open_shards(folder)
    model = st.MLP(16, [20], 3, seed=0)
    st.fit(model, shards, epochs=3, lr=0.5, batch_size=50)
    return model


@pytest.mark.parametrize("zeros", [0.0, 0.85])
def test_a_training_differs_by_rounding_alone_from_one_on_floats(
    tmp_path: Path, write: Write, found: Array, as_floats: Callable[..., Path], zeros: float
) -> None:
    found[np.random.default_rng(1).random(found.shape) < zeros] = 0
    found[0, 0] = 255
    source = write("d.csv", found)
    convert(source, tmp_path / "out")
    model = st.MLP(16, [20], 3, seed=0)
    layer = sparse.first_layer_for(open_shards(tmp_path / "out"), model, 50, threads=1)
    assert isinstance(layer, sparse.Sparse) == bool(zeros)
    models = [trained(tmp_path / "out"), trained(as_floats(source, tmp_path / "direct"))]
    ours, theirs = (model.state_dict() for model in models)
    for name in theirs:
        np.testing.assert_allclose(ours[name].numpy(), theirs[name].numpy(), atol=1e-5)


def test_a_model_reads_fractions_floats_and_csv_alike_whichever_it_learned_from(
    tmp_path: Path, write: Write, found: Array, as_floats: Callable[..., Path]
) -> None:
    source = write("d.csv", found)
    convert(source, tmp_path / "out")
    direct = as_floats(source, tmp_path / "direct")
    meant = quotients(found, 255)
    given = [Block(meant, np.zeros(len(meant), np.int64), np.arange(1, len(meant) + 1))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for model in (trained(tmp_path / "out"), trained(direct)):
            first, *others = (
                np.concatenate([part.probs for part in st.predict(model, data)])
                for data in (tmp_path / "out", direct, source, given)
            )
            for other in others:
                np.testing.assert_allclose(other, first, atol=1e-6)
            results = [st.evaluate(model, data) for data in (tmp_path / "out", direct, source)]
            assert len({result.accuracy for result in results}) == 1


def test_pixels_of_another_scale_are_refused_in_the_units_of_the_source(
    tmp_path: Path, write: Write, found: Array
) -> None:
    convert(write("d.csv", found), tmp_path / "out")
    model = trained(tmp_path / "out")
    bytes_csv = write("b.csv", found, list(map(str, range(256))))
    with pytest.raises(st.DataError, match=r"its values lie in 0..255, but the model learned 0..1"):
        list(st.predict(model, bytes_csv))


def test_a_range_is_declared_and_warned_of_in_the_units_of_the_source(
    tmp_path: Path, write: Write, found: Array
) -> None:
    found = np.minimum(found, 100)
    conversion = convert(write("d.csv", found), tmp_path / "out", pixel_range=(0, 1))
    assert (conversion.schema.pixel_range, conversion.schema.of_source.pixel_range) == ((0, 255), (0, 1))
    found[7, 3] = 255
    warned = convert(write("lonely.csv", found), tmp_path / "lonely").warnings
    assert len(warned) == 1
    assert "line 8 alone has a pixel of 1, all other rows lie in 0..0.392157" in warned[0]


def test_a_range_that_rounds_away_from_a_fraction_is_not_taken_for_damage(
    tmp_path: Path, write: Write, found: Array
) -> None:
    highest = "0.980392156862"  # a little below 250/255
    texts = [*SHORTEST[:250], highest, *SHORTEST[251:]]
    convert(write("d.csv", np.minimum(found, 250), texts), tmp_path / "out", pixel_range=(0, float(highest)))
    assert Manifest.load(tmp_path / "out").schema.denominator == 255
    assert verify(tmp_path / "out").ok


def test_the_denominator_is_255_or_the_least() -> None:
    for denominator in (2, 4, 10, 15, 16, 100, 254, 255):
        values = np.arange(256)[None] / denominator
        expected = 255 if denominator == 255 else denominator
        assert denominator_of(values) == expected
    assert denominator_of(np.array([[0, 1 / 3, 2 / 3, 1]])) == 255
    assert denominator_of(np.random.default_rng(0).random((20, 20))) == 1
    assert denominator_of(np.array([[-1 / 255, 0.0]])) == 1


def test_numerators_are_those_of_every_fraction_and_of_no_neighbour() -> None:
    for denominator in range(1, 256):
        exact = np.arange(256, dtype=np.float32)[None] / np.float32(denominator)
        assert numerators(exact, denominator).tolist() == [list(range(256))]  # type: ignore[union-attr]
        for side in (-1, 1):
            assert numerators(np.nextafter(exact[:, 1:2], np.float32(side * 9)), denominator) is None
    assert numerators(np.array([[256 / 255]], np.float32), 255) is None
    assert numerators(np.array([[3.4e38]], np.float32), 255) is None


def test_a_schema_says_how_fractions_are_stored() -> None:
    schema = Schema((2, 2), "uint8", (0, 255), ("a",), denominator=255)
    assert schema.of_source == Schema((2, 2), "float32", (0, 1), ("a",))
    assert schema.of_source.stored_as("uint8", 255) == schema
    assert "denominator" not in schema.of_source.to_json()
    for dtype, denominator in (("float32", 255), ("uint8", 0), ("uint8", 256)):
        with pytest.raises(ValueError, match="`denominator` must be 1 or, of uint8, in 1"):
            Schema((2, 2), dtype, (0, 1), (), denominator=denominator)


def test_without_a_denominator_no_pixels_are_looked_at(tmp_path: Path) -> None:
    block = Block(np.full((2, 4), 0.2, np.float32), np.array([0, 1]), np.array([1, 2]))
    builder = ShardBuilder(tmp_path, Schema((4,), "float32", (0, 1), ("0", "1")), {"": 1.0}, declared_range=True)
    assert builder.write(block, 0, ("0", "1")).parts[""].denominator == 1
