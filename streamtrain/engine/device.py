"""Training and evaluation on a GPU: pixels are copied as stored and normalised there, by the plain formulas.

The kernels of a GPU are large and their launches few, so nothing is cut or cached here. Its sums round differently
from those of the processor.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable

import torch
from torch import Tensor

from streamtrain.block import Array
from streamtrain.errors import UsageError
from streamtrain.nn.dropout import draw_mask
from streamtrain.nn.functional import cross_entropy_gradient
from streamtrain.nn.loss import PLAIN, Objective
from streamtrain.nn.mlp import MLP, Gradients
from streamtrain.nn.optimizer import Optimizer
from streamtrain.stream.batches import Batch


def device(name: str) -> torch.device:
    """Return the device called auto, cpu or cuda; auto is cuda if torch finds a GPU.

    Raises UsageError if cuda is asked for and torch finds none.
    """
    found = torch.cuda.is_available()
    if name == "cuda" and not found:
        raise UsageError(
            "`device` is 'cuda', but torch found no GPU. Install a CUDA build of torch, or leave `device` out",
            option="device",
        )
    return torch.device("cuda" if name == "cuda" or (name == "auto" and found) else "cpu")


def to_tensor(pixels: Array, *, scale: tuple[float, float], to: torch.device) -> Tensor:
    """Return x (rows, features) float32 on a device: (pixels − lo) / span, with `scale` = (lo, span)."""
    low, span = scale
    return torch.tensor(pixels, device=to).float().sub_(low).div_(span)  # of a copy: pixels may be read-only


class DeviceStep:
    """Steps of a model on the device that holds it and what its optimiser keeps; arguments as for `CpuStep`."""

    def __init__(
        self,
        model: MLP,
        optimizer: Optimizer,
        *,
        scale: tuple[float, float],
        objective: Objective = PLAIN,
    ) -> None:
        self._model, self._optimizer, self._scale = model, optimizer, scale
        self._loss, self._dropout, self._seed = objective
        self._gradients: Gradients = []

    def prefetch(self, batches: Iterable[Batch]) -> Generator[Batch]:
        """Yield the batches as they are."""
        yield from batches

    def forward_backward(self, batch: Batch) -> tuple[float, int]:
        """Compute the gradients of a batch; return the sum of its losses in nats and how many rows were right."""
        model, (pixels, labels) = self._model, batch
        x = to_tensor(pixels, scale=self._scale, to=model.device)
        y = torch.tensor(labels, device=model.device)
        masks = self._masks(len(labels)) if self._dropout else []
        logits, inputs = model.forward(x, masks)
        losses, dlogits = cross_entropy_gradient(logits, y)
        self._loss.correct_(dlogits, y, scale=1 / len(labels))
        self._gradients = model.backward(inputs, dlogits, masks)
        return float(losses.sum(dtype=torch.float64)), int(torch.count_nonzero(logits.argmax(1) == y))

    def _masks(self, rows: int) -> list[Tensor]:
        """Return the masks of a step, which are drawn as on the processor."""
        key = self._seed, self._optimizer.steps
        drawn = (torch.empty(rows, units) for units in self._model.hidden)
        return [
            draw_mask(mask, self._dropout, *key, layer).to(self._model.device) for layer, mask in enumerate(drawn)
        ]

    def update(self, lr: float) -> None:
        """Move the parameters against the gradient of the mean loss of the last batch."""
        self._optimizer.step(self._model, self._gradients, lr=lr)

    def write_back(self) -> None:
        """Do nothing: the tensors of model and optimiser are moved in place."""
