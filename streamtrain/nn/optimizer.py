"""The optimisers by name."""

from __future__ import annotations

from collections.abc import Mapping

from streamtrain.nn.adam import Adam
from streamtrain.nn.mlp import MLP, Gradients
from streamtrain.nn.sgd import SGD, zeros_like

Optimizer = SGD | Adam
BUFFERS = ("velocity", "first_moment", "second_moment")  # the names of what they keep


def optimizer_for(
    model: MLP,
    name: str,
    *,
    momentum: float,
    weight_decay: float,
    buffers: Mapping[str, Gradients] | None = None,
    steps: int = 0,
) -> Optimizer:
    """Return the optimiser called sgd or adam.

    momentum: of sgd; buffers, steps: its state after earlier steps, by default that before the first
    Raises ValueError if the buffers are not those of this optimiser.
    """
    names = {"sgd": BUFFERS[:1] if momentum else (), "adam": BUFFERS[1:]}[name]
    if buffers is not None and sorted(buffers) != sorted(names):
        raise ValueError(f"{name} keeps {', '.join(names) or 'nothing'}, not {', '.join(buffers) or 'nothing'}")
    kept = {each: zeros_like(model) if buffers is None else buffers[each] for each in names}
    if name == "adam":
        return Adam(weight_decay, kept["first_moment"], kept["second_moment"], steps)
    return SGD(momentum, weight_decay, kept.get("velocity", []), steps)
