"""Settings that are declared once, as dataclass fields with type, default, check and help.

The command line's options, the recipe of a run, what a resume compares and the signature of a public function are
derived from the fields.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, TypeVar

from streamtrain.errors import UsageError

Check = Callable[[Any], Any]  # returns the value in its own type, or raises ValueError with what it must be

LARGEST_FLOAT32 = (2 - 2**-23) * 2.0**127  # as NumPy has it, which is not imported for that
LEAST_FLOAT32 = 2.0**-126  # above 0 whose reciprocal is finite
_KEY = "setting"
P = ParamSpec("P")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
R = TypeVar("R")


@dataclass(frozen=True)
class Setting:
    """The description of a setting, kept in its dataclass field.

    name: of the field and of the parameter; default: its value unless given
    help: one line for `--help` and `help()`
    check: `Integer`, `Number`, `OneOf` or a function; returns the value in its own type or raises ValueError
    flag: of the command line, such as "--memory"; by default the name with dashes
    metavar: of the command line's help, for a value that is written as text, such as "64MB"
    recorded: whether a recipe keeps it and a resume compares it; False for what changes no result
    added: whether recipes of earlier versions lack it; those versions trained with its default
    default_text: of the command line's help, if the default depends on something
    """

    name: str
    type: str
    default: Any
    help: str
    check: Check | None
    flag: str
    metavar: str | None
    recorded: bool
    added: bool
    default_text: str | None

    @property
    def key(self) -> str:
        """The name in a recipe: the flag without dashes."""
        return self.flag.lstrip("-").replace("-", "_")


def setting(
    default: Any,
    *,
    help: str,
    check: Check | None = None,
    flag: str | None = None,
    metavar: str | None = None,
    recorded: bool = True,
    added: bool = False,
    default_text: str | None = None,
) -> Any:
    """Return the `dataclasses.field` of a setting; the arguments are those of `Setting`.

    >>> @dataclass(frozen=True, kw_only=True)
    ... class Options:
    ...     memory_bytes: int = setting(8_000_000, help="Memory for data.", check=Integer(1), flag="--memory")
    ...     def __post_init__(self) -> None:
    ...         check_settings(self)
    >>> Options(memory_bytes=0)
    Traceback (most recent call last):
    streamtrain.errors.UsageError: `memory_bytes` is 0, but must be an integer of at least 1
    """
    facts = {"help": help, "check": check, "flag": flag, "metavar": metavar, "recorded": recorded}
    facts |= {"added": added, "default_text": default_text}
    return dataclasses.field(default=default, metadata={_KEY: facts})


def settings(config: Any) -> Iterator[Setting]:
    """Yield the settings of a dataclass, or of an instance of one, in the order of its fields."""
    for field in dataclasses.fields(config):
        if _KEY in field.metadata:
            facts = dict(field.metadata[_KEY])
            facts["flag"] = facts["flag"] or f"--{field.name.replace('_', '-')}"
            yield Setting(name=field.name, type=str(field.type), default=field.default, **facts)


def written(value: Any, metavar: str | None) -> Any:
    """Return a value as users write it on the command line; `metavar` as in `Setting`."""
    if isinstance(value, Mapping):
        return ",".join(f"{name}={share:g}" for name, share in value.items())
    if value in ((), []):
        return "none"
    if isinstance(value, tuple | list):
        between = {"HxW": "x", "LO..HI": ".."}.get(metavar or "", ",")
        return between.join(f"{each:g}" if isinstance(each, float) else str(each) for each in value)
    return f"{value / 1e6:g}MB" if metavar == "SIZE" else value


def negated(flag: str) -> str:
    """Return the flag that switches a setting off.

    >>> negated("--eval-train")
    '--no-eval-train'
    """
    return f"{flag[:2]}no-{flag[2:]}"


def words(flag: str, value: Any, metavar: str | None = None) -> list[str]:
    """Return the words of the command line that give a value.

    >>> words("--memory", 9_000_000, "SIZE"), words("--eval-train", False)
    (['--memory', '9MB'], ['--no-eval-train'])
    """
    if isinstance(value, bool):
        return [flag if value else negated(flag)]
    return [flag, str(written(value, metavar))]


def check_settings(config: Any) -> None:
    """Check every setting of a frozen dataclass instance; NumPy numbers become Python's.

    Raises UsageError, with the setting's name as `option`, for a value that is not valid.
    """
    for each in settings(config):
        if each.check is not None:
            object.__setattr__(config, each.name, checked(each.name, getattr(config, each.name), each.check))


def checked(name: str, value: Any, check: Check) -> Any:
    """Return a parameter's value as `check` returns it. Raises UsageError, with `name` as `option`, if not valid.

    >>> checked("epoch", 0, Integer(1))
    Traceback (most recent call last):
    streamtrain.errors.UsageError: `epoch` is 0, but must be an integer of at least 1
    """
    try:
        return check(value)
    except ValueError as error:
        raise UsageError(f"`{name}` is {repr(value)[:80]}, but must be {error}", option=name) from None


@dataclass(frozen=True)
class Integer:
    """Check for an integer in `least`..`most`, of Python or NumPy."""

    least: int
    most: int | None = None

    def __call__(self, value: Any) -> int:
        """Return the value as an int. Raises ValueError if it is not one, or out of range."""
        try:
            number = operator.index(value)
        except TypeError:
            raise ValueError(str(self)) from None
        if isinstance(value, bool) or number < self.least or (self.most is not None and number > self.most):
            raise ValueError(str(self))
        return number

    def __str__(self) -> str:
        if self.most is None:
            return f"an integer of at least {self.least}"
        return f"an integer in {self.least}..{self.most}"


@dataclass(frozen=True)
class Number:
    """Check for a finite number from `least` to `most`, each of which may itself be excluded."""

    least: float
    most: float = math.inf
    above_least: bool = False
    below_most: bool = False

    def __call__(self, value: Any) -> float:
        """Return the value as a float. Raises ValueError if it is not a number, or out of range."""
        try:
            number = math.nan if isinstance(value, str | bool) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        low = number > self.least if self.above_least else number >= self.least
        high = number < self.most if self.below_most else number <= self.most
        if not (low and high and math.isfinite(number)):
            raise ValueError(str(self))
        return number

    def __str__(self) -> str:
        low = f"{'above' if self.above_least else 'of at least'} {self.least:g}"
        if math.isinf(self.most):
            return f"a number {low}"
        return f"a number {low} and {'below' if self.below_most else 'at most'} {self.most:g}"


@dataclass(frozen=True)
class OneOf:
    """Check for one of several values."""

    values: tuple[str, ...]

    def __call__(self, value: Any) -> str:
        """Return the value. Raises ValueError if it is not among `values`."""
        if value not in self.values:
            raise ValueError(str(self))
        return str(value)

    def __str__(self) -> str:
        return f"one of {', '.join(self.values)}"


def boolean(value: Any) -> bool:
    """Return True or False, of Python or NumPy. Raises ValueError for another value.

    >>> boolean(True)
    True
    """
    if type(value).__name__ not in ("bool", "bool_"):
        raise ValueError("True or False")
    return bool(value)


def integers(value: Any, *, least: int) -> tuple[int, ...]:
    """Return integers, of Python or NumPy, as a tuple; an integer alone is one of them.

    Raises ValueError if one of them is below `least`, from 2^31 on, or not an integer.

    >>> integers([30, 20], least=1)
    (30, 20)
    """
    check = Integer(least, 2**31 - 1)
    try:
        return tuple(map(check, value)) if isinstance(value, Iterable) else (check(value),)
    except ValueError:
        raise ValueError(f"integers of at least {least}, and below 2^31") from None


def spelled_out(
    config: Callable[P, C],
) -> Callable[[Callable[[A, B, C], R]], Callable[Concatenate[A, B, P], R]]:
    """Decorate a function of two arguments and a `config`, so that callers spell out the fields of the config.

    Its signature, for type checkers and `help()` alike, has each field as a keyword with its default, and its
    docstring gets a line for each.
    Raises TypeError, at the call, for a keyword that is not a field.
    """
    fields = inspect.signature(config).parameters.values()
    lines = [f"    {each.name}: {each.help}{_default_in_words(each)}" for each in settings(config)]

    def decorate(function: Callable[[A, B, C], R]) -> Callable[Concatenate[A, B, P], R]:
        own = inspect.signature(function)
        first = [each.replace(kind=each.POSITIONAL_ONLY) for each in own.parameters.values()][:2]
        signature = own.replace(parameters=[*first, *fields])
        call: Callable[..., R] = function
        make: Callable[..., C] = config

        @functools.wraps(function)
        def spelled(*args: Any, **kwargs: Any) -> R:
            try:
                bound = signature.bind(*args, **kwargs).arguments
            except TypeError as error:
                raise TypeError(f"{function.__name__}() {error}") from None
            given = [bound.pop(each.name) for each in first]
            return call(*given, make(**bound))

        spelled.__signature__ = signature  # type: ignore[attr-defined]  # inspect and help() read it
        spelled.__doc__ = "\n".join([(function.__doc__ or "").rstrip(), "", *lines, "    "])
        return spelled

    return decorate


def _default_in_words(each: Setting) -> str:
    return f" By default {each.default_text}." if each.default_text else ""
