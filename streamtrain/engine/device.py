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
from streamtrain.nn.functional import cross_entropy_gradient
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
    """Steps of a model on the device that holds it and what its optimiser keeps."""

    def __init__(self, model: MLP, optimizer: Optimizer, *, scale: tuple[float, float]) -> None:
        self._model, self._optimizer, self._scale = model, optimizer, scale
        self._gradients: Gradients = []

    def prefetch(self, batches: Iterable[Batch]) -> Generator[Batch]:
        """Yield the batches as they are."""
        yield from batches

    def forward_backward(self, batch: Batch) -> tuple[float, int]:
        """Compute the gradients of a batch; return the sum of its losses in nats and how many rows were right."""
        model, (pixels, labels) = self._model, batch
        x = to_tensor(pixels, scale=self._scale, to=model.device)
        y = torch.tensor(labels, device=model.device)
        logits, inputs = model.forward(x)
        losses, dlogits = cross_entropy_gradient(logits, y)
        self._gradients = model.backward(inputs, dlogits)
        return float(losses.sum(dtype=torch.float64)), int(torch.count_nonzero(logits.argmax(1) == y))

    def update(self, lr: float) -> None:
        """Move the parameters against the gradient of the mean loss of the last batch."""
        self._optimizer.step(self._model, self._gradients, lr=lr)

    def write_back(self) -> None:
        """Do nothing: the tensors of model and optimiser are moved in place."""
