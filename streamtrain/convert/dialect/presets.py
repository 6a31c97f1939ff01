"""Presets: TOML files that declare what a known data set looks like."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct

from streamtrain.convert.dialect.delimiters import delimiter_of
from streamtrain.convert.dialect.options import ReadOptions
from streamtrain.decode import convert, parse
from streamtrain.errors import UsageError, argument
from streamtrain.shards import declare


class _Preset(Struct, forbid_unknown_fields=True):
    """What a preset may say."""

    description: str = ""
    label: str | int | None = None
    header: bool | None = None
    delimiter: str | None = None
    shape: list[int] | None = None
    range: tuple[float, float] | None = None
    classes: list[str | int] | int | None = None
    labels: list[str | int] | None = None
    drop: list[str | int] | None = None
    transposed: bool | None = None


# The declaration that a key makes, if it has another name, and how its value is checked.
_NAMES = {"range": "pixel_range"}
_CHECKS: dict[str, Callable[[Any], Any]] = {
    "label": str,
    "delimiter": delimiter_of,
    "shape": declare.image_shape,
    "range": declare.pixel_range,
    "classes": declare.class_names,
    "labels": declare.class_names,
    "drop": lambda names: tuple(map(str, names)),
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
        values = dict(_values(convert(parse(tomllib.loads, file.read_text(encoding="utf-8")), _Preset)))
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}. Name a preset or its .toml file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{name} is not valid TOML: {error}. Write lines like label = 'first'") from error
    except (ValueError, UsageError) as error:
        keys = ", ".join(_Preset.__struct_fields__)
        raise UsageError(f"{name}: {error}. The keys of a preset are {keys}") from error
    options = ReadOptions(**values | {"preset": Path(name).stem})
    if options.labels and len(options.labels) != len(options.classes or options.labels):
        raise UsageError(
            f"{name}: {len(options.labels)} labels for {len(options.classes or ())} classes. List as many"
        )
    return options


def _values(preset: _Preset) -> Iterator[tuple[str, Any]]:
    """Yield the declarations of a preset. Raises ValueError or UsageError for a value that is not valid."""
    for key in preset.__struct_fields__:
        value = getattr(preset, key)
        if value is None or key == "description":
            continue
        try:
            yield _NAMES.get(key, key), _CHECKS.get(key, lambda value: value)(value)
        except ValueError as error:
            raise ValueError(f"{key} should be {error}") from None
