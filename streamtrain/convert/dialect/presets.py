"""Presets: TOML files that declare what a known data set looks like."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from streamtrain.convert.dialect.delimiters import delimiter_of
from streamtrain.convert.dialect.options import ReadOptions
from streamtrain.errors import UsageError, argument


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError("a list, as [0, 1, 2]")
    return tuple(map(str, value))


def _classes(value: Any) -> tuple[str, ...]:
    return tuple(map(str, range(value))) if isinstance(value, int) else _texts(value)


def _sides(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(v, int) and v > 0 for v in value):
        raise ValueError("a list of positive integers, as [28, 28]")
    return tuple(value)


def _range(value: Any) -> tuple[float, float]:
    if not isinstance(value, list) or len(value) != 2 or not value[0] < value[1]:
        raise ValueError("two numbers, as [0, 255]")
    return float(value[0]), float(value[1])


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


# What a preset may say: the key, the declaration that it makes, and how its value is read.
_KEYS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "description": ("preset", str),
    "label": ("label", str),
    "header": ("header", _flag),
    "delimiter": ("delimiter", lambda value: delimiter_of(str(value))),
    "shape": ("shape", _sides),
    "range": ("pixel_range", _range),
    "classes": ("classes", _classes),
    "labels": ("labels", _texts),
    "drop": ("drop", _texts),
    "transposed": ("transposed", _flag),
}


def preset_names() -> list[str]:
    """Return the names of the presets that come with streamtrain."""
    from importlib import resources

    folder = resources.files("streamtrain.convert.dialect") / "presets"
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))


def read_preset(name: str) -> ReadOptions:
    """Return what a preset declares: one that comes with streamtrain, or a file whose name ends in .toml.

    Raises UsageError for an unknown name, with those like it, and for an unknown key, with those known.
    """
    import tomllib  # with importlib.resources, ten milliseconds that most conversions do not need
    from importlib import resources

    if name.endswith(".toml"):
        file: Any = Path(name)
    elif name in preset_names():
        file = resources.files("streamtrain.convert.dialect") / "presets" / f"{name}.toml"
    else:
        near = difflib.get_close_matches(name, preset_names(), n=3, cutoff=0.0)
        raise UsageError(
            f"{argument('preset', name)}: no preset has that name. Similar: {', '.join(near)}; or a .toml file",
            option="preset",
        )
    try:
        keys = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}. Name a preset or its .toml file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{name} is not valid TOML: {error}. Write lines like label = 'first'") from error
    values: dict[str, Any] = {}
    for key, value in keys.items():
        if key not in _KEYS:
            raise UsageError(f"{name}: {key!r} is not a key of a preset. The keys are {', '.join(_KEYS)}")
        field, read = _KEYS[key]
        try:
            values[field] = read(value)
        except (ValueError, TypeError) as error:
            raise UsageError(f"{name}: {key} = {value!r} should be {error}") from error
    options = ReadOptions(**values | {"preset": Path(name).stem})
    if options.labels and len(options.labels) != len(options.classes or options.labels):
        raise UsageError(
            f"{name}: {len(options.labels)} labels for {len(options.classes or ())} classes. List as many"
        )
    return options
