"""The settings of a training, each declared once; the command line, the recipe and `fit` derive from them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamtrain.errors import UsageError
from streamtrain.settings import (
    LARGEST_FLOAT32,
    Integer,
    Number,
    OneOf,
    boolean,
    check_settings,
    integers,
    setting,
    settings,
)

if TYPE_CHECKING:
    from streamtrain.stream.batches import Transform
    from streamtrain.train.inputs import Data
    from streamtrain.train.progress import EpochReport

ACTIVATION_NAMES = ("sigmoid", "tanh", "relu")  # the keys of nn.mlp.ACTIVATIONS, which would import torch
DEVICES = ("auto", "cpu", "cuda")
RATES = {"sgd": 0.05, "adam": 0.001}  # the learning rate of each optimiser, unless one is given
AMOUNTS = {"shift": 2.0, "rotate": 10.0, "scale": 0.1, "shear": 0.1, "elastic": 3.0}  # of an augmentation
_MOST = {"shift": 100.0, "rotate": 180.0, "scale": 0.9, "shear": 2.0, "elastic": 100.0}
SCHEDULES = ("constant", "cosine", "step")


def path_or_none(value: Any) -> str | None:
    """Return the absolute path, or None. Raises ValueError for what is not a path."""
    try:
        return None if value is None else str(Path(value).absolute())
    except TypeError:
        raise ValueError("the path of a run") from None


def class_weights(value: Any) -> str | dict[str, float]:
    """Return equal, balanced, or a positive weight by class. Raises ValueError for anything else."""
    if value in ("equal", "balanced"):
        return str(value)
    if not isinstance(value, Mapping) or not value:
        raise ValueError("equal, balanced, or a weight for each of some classes")
    check = Number(0, LARGEST_FLOAT32, above_least=True)
    return {str(name): check(weight) for name, weight in value.items()}


def augmentation(value: Any) -> str | dict[str, float]:
    """Return none, or the amount of each kind, of a mapping or of a text such as shift,rotate=15.

    Raises ValueError for another kind, or an amount out of range.
    """
    if value == "none":
        return "none"
    kinds = f"none, or some of {', '.join(f'{name}={amount:g}' for name, amount in AMOUNTS.items())}"
    if isinstance(value, str):
        pairs = [part.partition("=") for part in value.split(",")]
        value = {name: amount or AMOUNTS.get(name) for name, _, amount in pairs}
    if not isinstance(value, Mapping) or not value or not value.keys() <= AMOUNTS.keys():
        raise ValueError(kinds)
    try:
        return {name: Number(0, _MOST[name], above_least=True)(float(amount)) for name, amount in value.items()}
    except (TypeError, ValueError):
        most = ", ".join(f"{name} {amount:g}" for name, amount in _MOST.items())
        raise ValueError(f"{kinds}, each above 0 and at most {most}") from None


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How a model is trained."""

    epochs: int = setting(20, help="Passes over the training data.", check=Integer(1))
    batch_size: int = setting(256, help="Rows per step.", check=Integer(1))
    optimizer: str = setting(
        "sgd", help="sgd, or adam with decoupled weight decay (AdamW).", check=OneOf(tuple(RATES)), added=True
    )
    lr: float = setting(
        None,
        help="Learning rate.",
        check=Number(0, LARGEST_FLOAT32, above_least=True),
        default_text=", ".join(f"{rate:g} for {name}" for name, rate in RATES.items()),
    )
    schedule: str = setting(
        "constant",
        help="How the rate changes: not at all, along a cosine to 0, or in steps.",
        check=OneOf(SCHEDULES),
        added=True,
    )
    warmup: float = setting(
        0.0, help="Epochs over which the rate rises from near 0, before the schedule.", check=Number(0), added=True
    )
    step_epochs: int = setting(
        10, help="Epochs between two drops of the step schedule.", check=Integer(1), added=True
    )
    step_factor: float = setting(
        0.1,
        help="What the step schedule multiplies the rate by.",
        check=Number(0, 1, above_least=True),
        added=True,
    )
    momentum: float = setting(
        0.0, help="Share of the last step of sgd that the next one keeps.", check=Number(0, 1, below_most=True)
    )
    weight_decay: float = setting(
        0.0,
        help="Share of a parameter that sgd adds to its gradient, and that adam takes off, times the rate.",
        check=Number(0, LARGEST_FLOAT32),
    )
    dropout: float = setting(
        0.0,
        help="Share of each hidden layer's activations that a step leaves out.",
        check=Number(0, 1, below_most=True),
        added=True,
    )
    label_smoothing: float = setting(
        0.0,
        help="Share of each label that is spread over all classes.",
        check=Number(0, 1, below_most=True),
        added=True,
    )
    class_weights: str | Mapping[str, float] = setting(
        "equal",
        help="What the rows of a class count: equal, balanced (all classes the same), or a weight each.",
        check=class_weights,
        metavar="balanced|NAME=W,...",
        added=True,
    )
    augment: str | Mapping[str, float] = setting(
        "none",
        help=f"Deform each image at random before it is learned: {', '.join(AMOUNTS)}; =X is the most of it.",
        check=augmentation,
        metavar="NAME[=X],...",
        added=True,
    )
    patience: int = setting(
        0,
        help="Stop after this many epochs without a better accuracy on the validation data; 0 is never.",
        check=Integer(0),
        added=True,
    )
    seed: int = setting(0, help="Seed of the weights and of the order of rows.", check=Integer(0, 2**64 - 1))
    memory_bytes: int = setting(
        256_000_000,
        help="Memory that training may use on top of the imported libraries.",
        check=Integer(1),
        flag="--memory",
        metavar="SIZE",
    )
    eval_train: bool = setting(True, help="Evaluate the whole training set after each epoch.", check=boolean)

    def __post_init__(self) -> None:
        if vars(self)["lr"] is None:  # not given
            object.__setattr__(self, "lr", RATES.get(str(self.optimizer)))
        check_settings(self)
        if self.lr * self.weight_decay >= 1:
            raise UsageError(
                f"`lr` · `weight_decay` is {self.lr:g} · {self.weight_decay:g}, but must be below 1",
                option="weight_decay",
            )
        if self.momentum and self.optimizer != "sgd":
            raise UsageError(
                f"`momentum` is of sgd, and {self.optimizer} has its own. Leave `momentum` out", option="momentum"
            )
        for name in ("step_epochs", "step_factor"):
            if self.schedule != "step" and getattr(self, name) != getattr(FitConfig, name):
                raise UsageError(
                    f"`{name}` is of the step schedule, not of {self.schedule}. Leave `{name}` out, or pass "
                    "`schedule='step'`",
                    option=name,
                )
        if self.warmup >= self.epochs:
            raise UsageError(
                f"`warmup` is {self.warmup:g} epochs, but must be less than `epochs`, which is {self.epochs}",
                option="warmup",
            )


@dataclass(frozen=True, kw_only=True)
class FitOptions(FitConfig):
    """The options of `fit`: the settings, the data to evaluate after each epoch, and functions of the caller.

    transform: of raw rows and their place, before each step; see `Shards.minibatches`
    callback: of the report of each epoch; training ends if it returns True
    """

    test: Data | None = None
    val: Data | None = None
    transform: Transform | None = None
    callback: Callable[[EpochReport], object] | None = None


@dataclass(frozen=True, kw_only=True)
class TrainConfig(FitConfig):
    """How a model is made and trained: the settings of `streamtrain train`.

    What changes no weight is not recorded, so a resume may change it.
    """

    hidden: tuple[int, ...] = setting(
        (100,),
        help="Units of the hidden layers; none is softmax regression.",
        check=partial(integers, least=1),
        metavar="UNITS,...|none",
    )
    activation: str = setting("sigmoid", help="Follows every layer but the last.", check=OneOf(ACTIVATION_NAMES))
    init: str | None = setting(
        None,
        help="Start from the weights of this run, whose hidden layers and activation the new one has.",
        check=path_or_none,
        metavar="RUN",
        added=True,
    )
    device: str = setting(
        "auto", help="Where to compute; auto is a GPU if there is one.", check=OneOf(DEVICES), recorded=False
    )
    workers: int = setting(
        os.cpu_count() or 1,
        help="Threads that read the data.",
        check=Integer(1),
        recorded=False,
        default_text="the number of processors",
    )

    def to_recipe(self) -> dict[str, Any]:
        """Return the recorded settings as JSON values under their keys."""
        values = {each.key: getattr(self, each.name) for each in settings(self) if each.recorded}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any]) -> TrainConfig:
        """Return the settings that a recipe records, the rest by default.

        Raises UsageError if the recipe lacks one or holds a value that is not valid. One that was added since the
        first version may be missing: earlier versions trained with its default.
        """
        values = {}
        for each in settings(cls):
            if each.recorded and each.key in recipe:
                values[each.name] = recipe[each.key]
            elif each.recorded and not each.added:
                raise UsageError(f"the recipe lacks {each.key!r}", option=each.name)
        return cls(**values)
