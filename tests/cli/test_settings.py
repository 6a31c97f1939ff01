"""The options of `train` and `convert` are the settings of the library: same defaults, and each one arrives."""

from __future__ import annotations

from typing import Any

import click
import pytest

from streamtrain.cli import group
from streamtrain.cli.options import flag
from streamtrain.convert.options import ConvertOptions
from streamtrain.settings import settings
from streamtrain.train.config import TrainConfig

ARGUMENTS = {"train": (TrainConfig, ["data"]), "convert": (ConvertOptions, ["source", "dest"])}
# What a user writes for each setting, and the value that the library gets.
GIVEN: dict[str, dict[str, tuple[str, Any]]] = {
    "train": {
        "epochs": ("3", 3),
        "batch_size": ("7", 7),
        "optimizer": ("adam", "adam"),
        "lr": ("0.5", 0.5),
        "schedule": ("cosine", "cosine"),
        "warmup": ("0.5", 0.5),
        "step_epochs": ("3", 3),
        "step_factor": ("0.5", 0.5),
        "dropout": ("0.5", 0.5),
        "label_smoothing": ("0.1", 0.1),
        "class_weights": ("7=2,9=1.5", {"7": 2.0, "9": 1.5}),
        "augment": ("shift,rotate=15", {"shift": 2.0, "rotate": 15.0}),
        "patience": ("3", 3),
        "init": ("/a/run", "/a/run"),
        "momentum": ("0.9", 0.9),
        "weight_decay": ("0.01", 0.01),
        "seed": (str(2**64 - 1), 2**64 - 1),
        "memory_bytes": ("1.5GB", 1_500_000_000),
        "eval_train": ("no", False),
        "hidden": ("30,20", (30, 20)),
        "activation": ("relu", "relu"),
        "device": ("cpu", "cpu"),
        "workers": ("1000", 1000),
    },
    "convert": {
        "label": ("257-266", "257-266"),
        "labels": ("l.csv", "l.csv"),
        "header": ("no", False),
        "shape": ("4x6", (4, 6)),
        "pixel_range": ("-1..2.5", (-1.0, 2.5)),
        "classes": ("a, b", ("a", "b")),
        "preset": ("mnist", "mnist"),
        "delimiter": ("semicolon", "semicolon"),
        "drop": ("id,3", ("id", "3")),
        "split": ("train=0.75,val=0.25", {"train": 0.75, "val": 0.25}),
        "compression": ("lz4", "lz4"),
        "on_bad_row": ("reject", "reject"),
        "shuffle": ("yes", True),
        "seed": ("4", 4),
        "memory_bytes": ("64MB", 64_000_000),
        "resume": ("yes", True),
        "max_rejected": ("0.01", 0.01),
        "overwrite": ("yes", True),
        "workers": ("1000", 1000),
    },
}


def parsed(name: str, *words: str) -> Any:
    """Return the settings of a command line."""
    command = group.get_command(click.Context(group), name)
    assert command
    config, arguments = ARGUMENTS[name]
    context = command.make_context(name, [*arguments, *words])
    return config(**{each.name: context.params[each.name] for each in settings(config)})


@pytest.mark.parametrize("name", GIVEN)
def test_without_options_the_settings_are_those_of_the_library(name: str) -> None:
    config, _ = ARGUMENTS[name]
    assert parsed(name) == config()


# Settings that are refused without another one.
TOGETHER = {
    "max_rejected": {"on_bad_row": "reject"},
    "step_epochs": {"schedule": "step"},
    "step_factor": {"schedule": "step"},
}


@pytest.mark.parametrize(("name", "setting"), [(name, each) for name in GIVEN for each in GIVEN[name]])
def test_each_option_gives_its_setting_and_no_other(name: str, setting: str) -> None:
    config, _ = ARGUMENTS[name]
    text, value = GIVEN[name][setting]
    words = [flag(setting, text == "yes")] if text in ("yes", "no") else [flag(setting), text]
    together = TOGETHER.get(setting, {})
    options = parsed(name, *words, *(word for other, given in together.items() for word in (flag(other), given)))
    assert options == config(**{setting: value}, **together) != config(**together)


@pytest.mark.parametrize("name", GIVEN)
def test_no_setting_is_missing_here(name: str) -> None:
    config, _ = ARGUMENTS[name]
    assert {each.name for each in settings(config)} == GIVEN[name].keys()
