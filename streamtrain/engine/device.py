"""Training and evaluation on a GPU: raw pixels go over and are normalised there, by the plain formulas.

Kernels of a GPU are large and their launches few, so nothing is cut or kept here; and its sums end in other bits
than the processor's.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable

import torch
from torch import Tensor

from streamtrain.block import Array
from streamtrain.errors import UsageError
from streamtrain.nn.functional import cross_entropy_gradient
from streamtrain.nn.mlp import MLP, Gradients
from streamtrain.nn.sgd import SGDConfig, sgd_step
from streamtrain.stream.batches import Batch


def device(name: str) -> torch.device:
    """The device of auto, cpu or cuda; auto is cuda where torch finds one.

    Raises UsageError where cuda is asked for in vain.
    """
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise UsageError("--device cuda: torch finds no GPU. Install torch for CUDA, or leave the option out")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and there) else "cpu")


def moved(velocity: Gradients, to: torch.device) -> Gradients:
    """The velocity on another device."""
    return [(weight.to(to), bias.to(to)) for weight, bias in velocity]


def read(pixels: Array, *, scale: tuple[float, float], to: torch.device) -> Tensor:
    """x (rows, features) float32 on a device: (pixels − lo) / span, of the scale (lo, span)."""
    low, span = scale
    return torch.tensor(pixels, device=to).float().sub_(low).div_(span)  # of a copy, for pixels may be read-only


class DeviceStep:
    """Steps of a model on the device that holds it; used like `Step`, and computes what that does."""

    def __init__(self, model: MLP, sgd: SGDConfig, velocity: Gradients, *, scale: tuple[float, float]) -> None:
        self.sgd = sgd
        self._model, self._velocity, self._scale = model, velocity, scale
        self._gradients: Gradients = []

    def reading(self, minibatches: Iterable[Batch]) -> Generator[Batch]:
        """The minibatches as they are."""
        yield from minibatches

    def score(self, batch: Batch) -> tuple[float, int]:
        """The sum of the rows' losses in nats and how many were right, before they are learned."""
        model, (pixels, labels) = self._model, batch
        x, y = read(pixels, scale=self._scale, to=model.device), torch.tensor(labels, device=model.device)
        logits, inputs = model.forward(x)
        losses, dlogits = cross_entropy_gradient(logits, y)
        self._gradients = model.backward(inputs, dlogits)
        return float(losses.sum(dtype=torch.float64)), int(torch.count_nonzero(logits.argmax(1) == y))

    def learn(self) -> None:
        """Move the parameters against the gradient of the mean loss of the batch that was scored."""
        sgd_step(self._model, self._gradients, **self.sgd._asdict(), velocity=self._velocity or None)
