"""Every setting reaches the weights, the recipe and the command line, or the reason why not is written here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import streamtrain as st
from streamtrain.errors import UsageError
from streamtrain.nn.activations import ACTIVATIONS
from streamtrain.settings import settings
from streamtrain.train.checkpoint import load_checkpoint, weights_sha256
from streamtrain.train.config import ACTIVATION_NAMES, FitConfig, TrainConfig
from streamtrain.train.fit import Training
from streamtrain.train.resume import build_model

if TYPE_CHECKING:
    from conftest import RunCli

# For each setting that decides the weights: another value, on a base in which it matters.
BASE = {"epochs": 2, "batch_size": 50, "hidden": (8,), "memory_bytes": 8_000_000}
OTHER: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 60,
    "optimizer": "adam",
    "lr": 0.1,
    "schedule": "cosine",
    "warmup": 1.5,
    "step_epochs": 2,
    "step_factor": 0.5,
    "dropout": 0.3,
    "label_smoothing": 0.1,
    "patience": 1,
    "init": "a run",  # the path of one that was trained
    "augment": {"shift": 1.0, "elastic": 2.0},
    "class_weights": {"3": 2.0},
    "momentum": 0.5,
    "weight_decay": 0.1,
    "seed": 1,
    "hidden": (9,),
    "activation": "tanh",
}
# What must be set for a setting to matter.
TOGETHER: dict[str, dict[str, Any]] = {
    "step_epochs": {"schedule": "step", "step_epochs": 1},
    "step_factor": {"schedule": "step", "step_epochs": 1},
    "patience": {"lr": 1e-7, "epochs": 4},  # too slow for the accuracy to change
}
# The other settings, and why they must not change a weight.
SAME: dict[str, tuple[Any, str]] = {
    "memory_bytes": (16_000_000, "it decides the window, and here either window holds all rows"),
    "eval_train": (False, "an evaluation only reads the weights"),
    "device": ("cpu", "this is what auto is without a GPU"),
    "workers": (1, "threads change nothing but time"),
}


def written(value: Any) -> str:
    """A setting as users write it on the command line."""
    if isinstance(value, dict):
        return ",".join(f"{name}={number}" for name, number in value.items())
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def digest(shards: Path, **changes: Any) -> str:
    config = TrainConfig(**BASE | changes)
    data = st.open_shards(shards, workers=config.workers)
    model = build_model(data, config)
    list(Training(model, data, config, val=data))
    return weights_sha256(model.state_dict())


@pytest.fixture(scope="session")
def trained(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The checkpoint of a net that another seed began."""
    model, path = st.MLP(64, BASE["hidden"], 10, seed=9), tmp_path_factory.mktemp("run") / "net.safetensors"
    st.fit(model, st.open_shards(shards), epochs=1)
    st.save(model, path)
    return str(path)


def test_the_tables_of_this_page_name_every_setting() -> None:
    assert sorted([*OTHER, *SAME]) == sorted(each.name for each in settings(TrainConfig))


@pytest.mark.parametrize("name", OTHER)
def test_a_setting_reaches_the_weights(shards: Path, trained: str, name: str) -> None:
    base = TOGETHER.get(name, {})
    value = trained if name == "init" else OTHER[name]
    assert digest(shards, **base | {name: value}) != digest(shards, **base)


@pytest.mark.parametrize("name", SAME)
def test_a_setting_that_must_not_change_the_weights_does_not(shards: Path, name: str) -> None:
    assert digest(shards, **{name: SAME[name][0]}) == digest(shards)


@pytest.mark.parametrize("name", [*OTHER, *SAME])
def test_an_option_of_the_command_line_reaches_what_the_setting_of_that_name_reaches(
    call_cli: RunCli, shards: Path, trained: str, tmp_path: Path, name: str
) -> None:
    value = trained if name == "init" else OTHER[name] if name in OTHER else SAME[name][0]
    together = TOGETHER.get(name, {})
    chosen = BASE | together | {name: value}
    words: list[str] = []
    for each in settings(TrainConfig):
        if each.name in chosen and isinstance(chosen[each.name], bool):
            words.append(each.flag if chosen[each.name] else f"--no-{each.flag[2:]}")
        elif each.name in chosen:
            given = chosen[each.name]
            words += [each.flag, written(given)]
    done = call_cli("train", shards, "--val", shards, "--out", "run", "--json", *words)
    assert done.returncode == 0, done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["weights_sha256"] == digest(shards, **together | {name: value})
    recorded = load_checkpoint(tmp_path / "run" / "last.safetensors").recipe
    for each in settings(TrainConfig):
        assert (each.key in recorded) == each.recorded
    if any(each.name == name and each.recorded for each in settings(TrainConfig)):
        assert getattr(TrainConfig.from_recipe(recorded), name) == value


def test_a_recipe_comes_back_and_one_that_lacks_a_setting_is_refused() -> None:
    config = TrainConfig(
        **BASE | OTHER | {"momentum": 0.0, "init": "/a/run", "schedule": "step"}, eval_train=False
    )
    recipe = json.loads(json.dumps(config.to_recipe()))
    assert TrainConfig.from_recipe(recipe) == config
    for each in settings(TrainConfig):
        if each.recorded and not each.added:
            with pytest.raises(UsageError, match=f"lacks '{each.key}'"):
                TrainConfig.from_recipe({other: value for other, value in recipe.items() if other != each.key})


def test_a_recipe_of_the_first_version_has_the_defaults_of_what_was_added_since() -> None:
    first = {"epochs": 3, "batch_size": 50, "lr": 0.1, "momentum": 0.0, "weight_decay": 0.0, "seed": 0}
    first |= {"memory": 8_000_000, "eval_train": True, "hidden": [8], "activation": "sigmoid"}
    assert TrainConfig.from_recipe(first) == TrainConfig(
        epochs=3, batch_size=50, lr=0.1, memory_bytes=8_000_000, hidden=(8,)
    )


def test_numpy_numbers_become_those_of_python() -> None:
    config = FitConfig(epochs=np.int64(3), lr=np.float32(0.5), seed=np.uint8(7), eval_train=np.bool_(False))
    assert [type(getattr(config, each)) for each in ("epochs", "lr", "seed", "eval_train")] == [
        int,
        float,
        int,
        bool,
    ]
    assert (config.epochs, config.lr, config.seed, config.eval_train) == (3, 0.5, 7, False)


def test_the_activations_that_may_be_named_are_those_that_there_are() -> None:
    assert tuple(ACTIVATIONS) == ACTIVATION_NAMES
