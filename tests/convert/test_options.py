"""Every option of a conversion reaches the shards, is the same in `convert`, and is checked at the call."""

from __future__ import annotations

import inspect
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamtrain.convert import convert, pipeline
from streamtrain.convert.options import ConvertOptions
from streamtrain.convert.pipeline import iter_convert
from streamtrain.errors import DataError, UsageError
from streamtrain.settings import settings

# By field: other options that are needed, and a value that changes the shards or their manifest.
CHANGES: dict[str, tuple[dict[str, Any], Any]] = {
    "label": ({}, "last"),
    "labels": ({"label": "none"}, "labels.txt"),
    "header": ({}, True),
    "shape": ({}, (2, 8)),
    "pixel_range": ({}, (0, 300)),
    "classes": ({}, 4),
    "preset": ({}, "turned.toml"),
    "delimiter": ({}, "semicolon"),
    "drop": ({"shape": None}, ("3",)),
    "split": ({}, {"train": 0.5, "val": 0.5}),
    "compression": ({}, "lz4"),
    "on_bad_row": ({"sources": "bad.csv"}, "reject"),
    "shuffle": ({}, True),
    "seed": ({"shuffle": True}, 1),
    "max_rejected": ({"sources": "bad.csv", "on_bad_row": "reject"}, 0),
}
# The other fields, each with a value that must not change the shards, and why.
SAME: dict[str, tuple[dict[str, Any], Any, str]] = {
    "memory_bytes": ({"shuffle": True}, 200_000_000, "an order depends on the seed alone"),
    "resume": ({}, True, "a conversion that was interrupted goes on to the same bytes"),
    "overwrite": ({}, True, "it decides what may be replaced, not what is written"),
    "workers": ({}, 3, "shards are fixed ranges of the source"),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make 40 rows of a class and 16 pixels, the last with few values; a bad row, a preset, and labels."""
    random = np.random.default_rng(0)
    table = random.integers(0, 256, (40, 17))
    table[:, 0], table[:, 16] = np.arange(40) % 3 * 100, np.arange(40) * 7 % 5 * 50
    lines = [",".join(map(str, row)) for row in table.tolist()]
    (tmp_path / "d.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "bad.csv").write_text("\n".join([*lines, "1,2"]) + "\n")
    (tmp_path / "labels.txt").write_text("\n".join("abcd"[i % 4] for i in range(40)) + "\n")
    (tmp_path / "turned.toml").write_text("transposed = true\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def outcome(dest: str, **options: Any) -> str | dict[str, Any]:
    """Return all that a conversion leaves, the shards as decoded rows, or the message of its refusal."""
    given = {"sources": "d.csv", "label": "first", "workers": 1, **options}
    try:
        convert(given.pop("sources"), dest, **given)
    except DataError as error:
        return str(error)
    files: dict[str, Any] = {p.relative_to(dest).as_posix(): p for p in Path(dest).rglob("*") if p.is_file()}
    return {n: json.loads(p.read_text()) if p.suffix == ".json" else p.read_bytes() for n, p in files.items()}


def test_each_option_is_known_to_change_the_shards_or_not() -> None:
    assert sorted([*CHANGES, *SAME]) == sorted(field.name for field in fields(ConvertOptions))


@pytest.mark.parametrize("name", CHANGES)
def test_an_option_changes_the_shards(folder: Path, name: str) -> None:
    others, value = CHANGES[name]
    assert outcome("before", **others) != outcome("after", **{**others, name: value})


@pytest.mark.parametrize("name", SAME)
def test_an_option_that_must_not_change_the_shards_does_not(folder: Path, name: str) -> None:
    others, value, why = SAME[name]
    assert outcome("before", **others) == outcome("after", **{**others, name: value}), why


@pytest.mark.parametrize("name", [each.name for each in settings(ConvertOptions) if each.recorded])
def test_an_interrupted_conversion_is_not_resumed_with_another_option(folder: Path, name: str) -> None:
    others, value = CHANGES[name]
    given = {"label": "first", "on_bad_row": "error", **others}
    given.pop("sources", None)
    steps = iter_convert("d.csv", "out", ConvertOptions(**given))
    next(steps)
    steps.close()  # type: ignore[attr-defined]  # a generator
    with pytest.raises(UsageError, match=r"was .* when the conversion was interrupted, now it is"):
        convert("d.csv", "out", resume=True, **{**given, name: value})


def test_the_function_has_the_options_in_their_order_with_their_types_and_defaults() -> None:
    _, _, *parameters = inspect.signature(convert).parameters.values()
    assert [(p.name, p.default, p.annotation) for p in parameters] == [
        (field.name, field.default, field.type) for field in fields(ConvertOptions)
    ]
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters)
    assert all(
        f"\n    {p.name}: " in str(convert.__doc__) for p in parameters if p.name not in ("seed", "memory_bytes")
    )


@pytest.mark.parametrize("name", [*CHANGES, *SAME])
def test_the_function_hands_every_option_on(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    handed: list[ConvertOptions] = []

    def refuse(sources: Any, dest: Any, options: ConvertOptions) -> None:
        handed.append(options)
        raise UsageError("enough")

    others, value = CHANGES.get(name) or SAME[name][:2]
    options = {**others, name: value}
    options.pop("sources", None)
    monkeypatch.setattr(pipeline, "iter_convert", refuse)
    with pytest.raises(UsageError, match="enough"):
        convert("d.csv", "out", **options)
    assert handed == [ConvertOptions(**options)]
    assert getattr(handed[0], name) != getattr(ConvertOptions(), name)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"label": 0}, "`label` is 0, but must be an integer of at least 1"),
        ({"label": 1.5}, "`label` is 1.5, but must be"),
        ({"labels": 3}, "`labels` is 3, but must be a path"),
        ({"header": "yes"}, "`header` is 'yes', but must be True or False"),
        ({"shape": "8x8"}, r"`shape` is '8x8', but must be the sides of an image, as \(28, 28\)"),
        ({"shape": (0, 8)}, "integers of at least 1"),
        ({"pixel_range": (255, 0)}, "two numbers, the smaller first"),
        ({"pixel_range": "0..255"}, "two numbers, the smaller first"),
        ({"pixel_range": (0, float("nan"))}, "two numbers, the smaller first"),
        ({"pixel_range": (0, 1e100)}, "two numbers that float32 holds"),
        ({"pixel_range": (-3e38, 3e38)}, "two numbers that float32 holds"),
        ({"split": {"manifest.json": 0.5, "b": 0.5}}, "parts that are names of folders"),
        ({"classes": "abc"}, "a list of names, or how many classes there are"),
        ({"classes": ["a", "a"]}, "names that differ"),
        ({"classes": 0}, r"an integer in 1\.\.65536"),
        ({"preset": 5}, "`preset` is 5, but must be a path"),
        ({"drop": (0,)}, "an integer of at least 1"),
        ({"split": "train=1"}, "a share for each part"),
        ({"split": {"a": 1.5, "b": -0.5}}, "a number above 0"),
        ({"on_bad_row": "skip"}, "one of error, reject"),
        ({"seed": -1}, "an integer in 0.."),
        ({"memory_bytes": "64MB"}, "`memory_bytes` is '64MB', but must be an integer of at least 1"),
        ({"max_rejected": -1, "on_bad_row": "reject"}, "a number of at least 0"),
        ({"max_rejected": 5}, "Pass `on_bad_row='reject'` too"),
        ({"workers": True}, "`workers` is True, but must be an integer"),
    ],
)
def test_an_option_that_is_not_valid_is_refused_by_name(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said) as error:
        ConvertOptions(**options)
    assert error.value.option == next(iter(options))


def test_numbers_of_numpy_and_any_sequence_are_taken() -> None:
    given = ConvertOptions(
        label=np.int64(3), shape=[np.int32(2), 8], pixel_range=np.array([0, 9]), classes=["x", "y"], drop="id",
        memory_bytes=np.int64(10), labels=Path("l.csv"), split={"a": np.float64(1)},
    )  # fmt: skip
    assert (given.label, given.shape, given.pixel_range) == ("3", (2, 8), (0.0, 9.0))
    assert (given.classes, given.drop, given.labels, given.split) == (("x", "y"), ("id",), "l.csv", {"a": 1.0})
    assert type(given.memory_bytes) is int
