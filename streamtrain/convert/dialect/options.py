"""What a user declares of a CSV: options and presets, which are TOML files."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from streamtrain.errors import UsageError


@dataclass(frozen=True)
class ReadOptions:
    """What was declared; None where it is to be found.

    label: "first", "last", "none", a column's name, its number from 1, or a range of columns as 257-266
    features: pixels in a row, where a model has to read them
    drop: names or numbers of columns that are neither label nor pixels; empty for none
    labels: how the source writes each class, in the order of `classes`
    transposed: whether the source has its images column by column
    of_preset: the fields that a preset declares, and no option
    """

    label: str | None = None
    header: bool | None = None
    shape: tuple[int, ...] | None = None
    pixel_range: tuple[float, float] | None = None
    classes: tuple[str, ...] | None = None
    features: int | None = None
    delimiter: str | None = None
    drop: tuple[str, ...] | None = None
    labels: tuple[str, ...] | None = None
    transposed: bool = False
    preset: str | None = None
    of_preset: frozenset[str] = frozenset()

    @property
    def pixels(self) -> int | None:
        """Pixels in a row where that follows from what is declared."""
        return self.features or (math.prod(self.shape) if self.shape else None)

    def options(self) -> dict[str, Any]:
        """What is declared in all, by option, whoever declares it."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "of_preset"}
        return {"--" + name.replace("_", "-"): value for name, value in own.items()}

    def over(self, preset: ReadOptions) -> ReadOptions:
        """The declarations of a preset, and these where both say something."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "of_preset"}
        own = {name: value for name, value in own.items() if value not in (None, False)}
        return replace(preset, **own, of_preset=frozenset(f.name for f in fields(self)) - own.keys())

    def who(self, field: str, option: str) -> str:
        """Who declares a field, for a reason: the preset, or the option."""
        return "the preset" if field in self.of_preset else option


_SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "space": " "}


def delimiter(text: str) -> str:
    """One of the four delimiters, by itself or its name. Raises UsageError for another."""
    if text in _SEPARATORS.values():
        return text
    if text not in _SEPARATORS:
        raise UsageError(f"--delimiter is {', '.join(_SEPARATORS)}, not {text!r}")
    return _SEPARATORS[text]


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
    "delimiter": ("delimiter", lambda value: delimiter(str(value))),
    "shape": ("shape", _sides),
    "range": ("pixel_range", _range),
    "classes": ("classes", _classes),
    "labels": ("labels", _texts),
    "drop": ("drop", _texts),
    "transposed": ("transposed", _flag),
}


def declared(own: ReadOptions, preset: str | None) -> ReadOptions:
    """What the options declare, over what the preset does."""
    if own.delimiter:
        own = replace(own, delimiter=delimiter(own.delimiter))
    return own.over(read_preset(preset)) if preset else own


def preset_names() -> list[str]:
    """The presets that come with streamtrain."""
    from importlib import resources

    folder = resources.files("streamtrain.convert.dialect") / "presets"
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))


def read_preset(name: str) -> ReadOptions:
    """What a preset declares: one that comes with streamtrain, or a file whose name ends in .toml.

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
            f"--preset {name}: there is none of that name. Near it: {', '.join(near)}. Or name a .toml"
        )
    try:
        keys = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}. Name a preset or its .toml file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{name} is no TOML: {error}. Write lines like label = 'first'") from error
    declared: dict[str, Any] = {}
    for key, value in keys.items():
        if key not in _KEYS:
            raise UsageError(f"{name}: {key!r} is no key of a preset. The keys are {', '.join(_KEYS)}")
        field, read = _KEYS[key]
        try:
            declared[field] = read(value)
        except (ValueError, TypeError) as error:
            raise UsageError(f"{name}: {key} = {value!r} should be {error}") from error
    wanted = ReadOptions(**declared | {"preset": Path(name).stem})
    if wanted.labels and len(wanted.labels) != len(wanted.classes or wanted.labels):
        raise UsageError(
            f"{name}: {len(wanted.labels)} labels for {len(wanted.classes or ())} classes. List as many"
        )
    return wanted
