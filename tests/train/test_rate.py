"""The rate that is named after a loss that is not finite trains the same net to its end."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

import streamtrain as st
from streamtrain.errors import RunError


@pytest.mark.parametrize("lr", [1e3, 1e9, 1e30])
@pytest.mark.parametrize(
    ("activation", "options"),
    [("relu", {}), ("relu", {"momentum": 0.9}), ("tanh", {"optimizer": "adam"}), ("sigmoid", {"batch_size": 7})],
)
def test_the_rate_that_is_named_works_at_once(
    shards: Path, lr: float, activation: str, options: dict[str, object]
) -> None:
    settings = {"epochs": 3, "lr": lr, "eval_train": False, **options}
    try:
        st.fit(st.MLP(64, (30, 20), activation=activation), st.open_shards(shards), **settings)
    except RunError as error:
        named = float(re.search(r"such as `lr=(\S+)`", str(error))[1])  # type: ignore[index]  # it is there
        assert 1e-5 < named < 10
        settings["lr"] = named
    else:
        return  # the loss stays finite at this rate
    reports = st.fit(st.MLP(64, (30, 20), activation=activation), st.open_shards(shards), **settings)
    assert all(math.isfinite(report.train_loss) for report in reports)
    assert reports[-1].train_loss < math.log(10)
