"""Options: derived from the settings of the library, or shared by several commands; each has one help text."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable, Collection, Mapping
from typing import Any

import click

from streamtrain.settings import Integer, Number, OneOf, Setting, negated, settings, words, written

Decorator = Callable[[Any], Any]  # of a function or a command


def size(text: Any) -> int:
    """Return the bytes of a text such as 256MB, 1.5GB or 800000."""
    number = str(text).upper().removesuffix("B")
    factor = {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}.get(number[-1:], 1)
    try:
        return int(float(number.rstrip("KMGT")) * factor)
    except (ValueError, OverflowError):
        raise click.BadParameter(f"{text!r} is not a size such as 256MB") from None


def layers(text: Any) -> tuple[int, ...]:
    """Return the units of the hidden layers from a text such as 100 or 256,128, or none."""
    if text == "none":
        return ()
    units = [int(part) for part in str(text).split(",") if part.strip().isdecimal()]
    if len(units) != str(text).count(",") + 1 or min(units) < 1:
        raise click.BadParameter(f"{text!r} is not a list of layer sizes such as 100 or 256,128, or none")
    return tuple(units)


def interval(text: Any) -> tuple[int, str]:
    """Return the count and the unit of a text such as 60s or 500steps."""
    for unit in ("steps", "s"):
        count = str(text).removesuffix(unit)
        if str(text).endswith(unit) and count.isdecimal() and int(count):
            return int(count), unit
    raise click.BadParameter(f"{text!r} is neither seconds such as 60s nor steps such as 500steps")


def shape(text: Any) -> tuple[int, ...]:
    """Return the sides of an image from a text such as 28x28."""
    try:
        return tuple(int(side) for side in str(text).split("x"))
    except ValueError:
        raise click.BadParameter(f"{text!r} is not of the form 28x28") from None


def pixel_range(text: Any) -> tuple[float, float]:
    """Return the two numbers of a text such as 0..255."""
    try:
        low, high = (float(number) for number in str(text).split(".."))
    except ValueError:
        raise click.BadParameter(f"{text!r} is not of the form 0..255") from None
    return low, high


def classes(text: Any) -> int | tuple[str, ...]:
    """Return a number of classes, or their names from a text such as a,b,c."""
    return int(text) if str(text).isdecimal() else tuple(name.strip() for name in str(text).split(","))


def names(text: Any) -> tuple[str, ...]:
    """Return the names or numbers of columns from a text such as id,3."""
    return tuple(str(text).split(","))


def shares(text: Any, *, like: str = "train=0.9,val=0.1") -> dict[str, float]:
    """Return a number by name from a text such as train=0.9,val=0.1."""
    try:
        pairs = [(name, float(share)) for name, share in (part.split("=") for part in str(text).split(","))]
        if len(dict(pairs)) < len(pairs):
            raise click.BadParameter(f"{text!r} has a name twice. Name each once")
        return dict(pairs)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not of the form {like}") from None


def weights(text: Any) -> str | dict[str, float]:
    """Return what a text such as equal, balanced or 7=2,9=1.5 says of the classes."""
    return text if text in ("equal", "balanced") else shares(text, like="equal, balanced or 7=2,9=1.5")


# How a value is read that is written as text, by the metavar of its setting.
_READERS: Mapping[str, Callable[[Any], Any]] = {
    "SIZE": size,
    "UNITS,...|none": layers,
    "balanced|NAME=W,...": weights,
    "HxW": shape,
    "LO..HI": pixel_range,
    "N|A,B,...": classes,
    "NAME|INDEX,...": names,
    "NAME=SHARE,...": shares,
    "N|SHARE": float,
}
_MOST = 2**63  # a greater limit is one of the type, which nobody needs to read


def options_of(config: type, *, only: Collection[str] = (), but: Collection[str] = ()) -> Decorator:
    """Return the options of the settings of a dataclass: all, those named in `only`, or all `but` some."""
    chosen = [each for each in settings(config) if each.name not in but and (not only or each.name in only)]
    return bundle(*(_option(each) for each in chosen))


def _option(each: Setting) -> Decorator:
    flag, kind = each.flag, _type(each)
    if each.default is True:
        flag += f"/{negated(flag)}"
    return click.option(
        flag,
        each.name,
        type=kind,
        is_flag=isinstance(each.default, bool) or "/" in flag,
        default=written(each.default, each.metavar),
        show_default=each.default_text or True,
        metavar=each.metavar or {click.IntRange: "N", click.FloatRange: "NUMBER"}.get(type(kind)),
        help=each.help,
    )


def _type(each: Setting) -> Any:
    """Return the click type of a setting, None if it follows from the default."""
    check = each.check
    if each.metavar:
        return _READERS.get(each.metavar, str)
    if isinstance(check, Integer):
        return click.IntRange(check.least, check.most if (check.most or _MOST) < _MOST else None)
    if isinstance(check, Number):
        most = check.most if check.most < _MOST else None
        return click.FloatRange(check.least, most, min_open=check.above_least, max_open=check.below_most)
    return click.Choice(check.values) if isinstance(check, OneOf) else None


def bundle(*options: Decorator) -> Decorator:
    """Return one decorator that adds all of `options` in their order."""

    def add(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def dialect() -> Decorator:
    """Return the options that say how to read a CSV."""
    from streamtrain.convert.options import ConvertOptions

    return options_of(ConvertOptions, only=("preset", "label", "header"))


def workers() -> Decorator:
    """Return the option --workers."""
    from streamtrain.train.config import TrainConfig

    return options_of(TrainConfig, only=("workers",))


def overwrite(what: str) -> Decorator:
    """Return the option --overwrite of a command that writes `what`, the metavar of its destination."""
    return click.option("--overwrite", is_flag=True, help=f"Replace {what} if streamtrain wrote it.")


def out_file(default: str) -> Decorator:
    """Return the options --out FILE, whose help says where the result goes by default, and --overwrite."""
    return bundle(
        click.option("--out", metavar="FILE", help=f"Write the result to this file, not to {default}."),
        overwrite("FILE"),
    )


@functools.cache
def _settings() -> dict[str, Setting]:
    """Return all settings of the library by name."""
    from streamtrain.convert.options import ConvertOptions
    from streamtrain.train.config import TrainConfig

    return {each.name: each for config in (ConvertOptions, TrainConfig) for each in settings(config)}


def flag(name: str, *value: Any) -> str:
    """Return a parameter of the library, or one with the value to pass, as the command line spells it.

    >>> flag("memory_bytes", 9_000_000), flag("header", False), flag("shape", (28, 28)), flag("hidden", (30, 20))
    ('--memory 9MB', '--no-header', '--shape 28x28', '--hidden 30,20')
    """
    setting = _settings().get(name)
    spelled = setting.flag.partition("/")[0] if setting else f"--{name.replace('_', '-')}"
    metavar = setting.metavar if setting else None
    return shlex.join([word for each in value for word in words(spelled, each, metavar)] or [spelled])
