"""The functions of the notebook, written by hand: activations, losses, their derivatives.

Scores are (rows, classes) float tensors; labels are (rows,) int64 class indices. A target is either labels or
probabilities (rows, classes), such as one-hot rows. Nothing here uses autograd.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

CLAMP = 1e-12  # the least probability whose logarithm is taken


def sigmoid(z: Tensor) -> Tensor:
    """1 / (1 + e^−z), elementwise, finite for every z.

    >>> sigmoid(torch.tensor([-1e4, 0.0, 1e4]))
    tensor([0.0000, 0.5000, 1.0000])
    """
    return torch.sigmoid(z)


def sigmoid_deriv(a: Tensor) -> Tensor:
    """dσ/dz = a · (1 − a), elementwise, of the activation a = σ(z).

    >>> sigmoid_deriv(torch.tensor([0.5]))
    tensor([0.2500])
    """
    return a * (1 - a)


def tanh_deriv(a: Tensor) -> Tensor:
    """dtanh/dz = 1 − a², elementwise, of the activation a = tanh(z).

    >>> tanh_deriv(torch.tensor([0.5]))
    tensor([0.7500])
    """
    return 1 - a * a


def relu_deriv(a: Tensor) -> Tensor:
    """dmax(z, 0)/dz = 1 where a > 0, else 0, elementwise, of the activation a = max(z, 0).

    >>> relu_deriv(torch.tensor([0.0, 2.0]))
    tensor([0., 1.])
    """
    return (a > 0).to(a.dtype)


def logsumexp(logits: Tensor, dim: int = 1) -> Tensor:
    """log Σ_k e^logits_k along `dim`, that dimension gone; the maximum is taken out so that nothing overflows.

    >>> logsumexp(torch.tensor([[1e4, 1e4]]))
    tensor([10000.6934])
    """
    top = logits.amax(dim, keepdim=True)
    return (top + (logits - top).exp().sum(dim, keepdim=True).log()).squeeze(dim)


def softmax(logits: Tensor, dim: int = 1) -> Tensor:
    """e^logits_k / Σ_j e^logits_j along `dim`: the shape of `logits`, sums of 1.

    >>> softmax(torch.tensor([[0.0, 0.0], [1e4, -1e4]]))
    tensor([[0.5000, 0.5000],
            [1.0000, 0.0000]])
    """
    weights = (logits - logits.amax(dim, keepdim=True)).exp()
    return weights / weights.sum(dim, keepdim=True)


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Rows of zeros with a one at the label: (rows, classes) float32.

    Raises ValueError for a label outside 0 … classes − 1.

    >>> one_hot(torch.tensor([2, 0]), 3)
    tensor([[0., 0., 1.],
            [1., 0., 0.]])
    """
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(f"labels lie in 0..{classes - 1}, not {int(labels.min())}..{int(labels.max())}")
    return torch.zeros(len(labels), classes).scatter_(1, labels.long().unsqueeze(1), 1.0)


def cross_entropy_from_probs(probs: Tensor, targets: Tensor) -> Tensor:
    """Mean over rows of −Σ_k t_k log p_k in nats, a scalar; p is clamped from below at 1e-12.

    >>> cross_entropy_from_probs(torch.tensor([[1.0, 0.0]]), torch.tensor([1]))
    tensor(27.6310)
    """
    logs = probs.clamp_min(CLAMP).log()
    return -_picked(logs, targets).mean()


def cross_entropy_from_logits(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over rows of −Σ_k t_k log softmax(logits)_k in nats, a scalar, exact for extreme logits.

    >>> cross_entropy_from_logits(torch.tensor([[1e4, 0.0]]), torch.tensor([1]))
    tensor(10000.)
    """
    shifted = logits - logits.amax(1, keepdim=True)  # else a large logit rounds the logarithm away
    return -_picked(shifted - logsumexp(shifted).unsqueeze(1), targets).mean()


def cross_entropy_gradient(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Each row's cross-entropy (rows,), and the gradient of their mean by the logits (rows, classes).

    d/dlogits = (softmax(logits) − one_hot(labels)) / rows: of L = logsumexp(z) − z_y the first term has the
    derivative softmax(z), the second one_hot(y). Both results share one exponential.
    """
    top = logits.amax(1, keepdim=True)  # (rows, 1)
    right = logits.gather(1, labels.unsqueeze(1))  # (rows, 1)
    dlogits = (logits - top).exp_()  # (rows, classes)
    total = dlogits.sum(1, keepdim=True)  # (rows, 1)
    losses = (total.log() + (top - right)).squeeze(1)  # (rows,)
    dlogits.div_(total)
    dlogits.scatter_add_(1, labels.unsqueeze(1), torch.full_like(right, -1.0))
    return losses, dlogits.div_(len(logits))


def accuracy(scores: Tensor, labels: Tensor) -> float:
    """Return the share of rows whose largest score, logit or probability, is the label's; NaN without rows.

    >>> accuracy(torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1]))
    0.5
    """
    _check_rows(scores, labels)
    return int((scores.argmax(1) == labels).sum()) / len(labels) if len(labels) else math.nan


def iterate_minibatches(
    x: Tensor, y: Tensor, batch_size: int = 256, *, shuffle: bool = True, generator: torch.Generator | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of arrays in memory, each row once, the last one short.

    x: (rows, …); y: (rows,); generator: draws the order, by default one seeded with 0
    Raises ValueError, at the call, for a batch size below 1 or x and y of different lengths.
    """
    if batch_size < 1:
        raise ValueError(f"a batch has at least 1 row, not {batch_size}")
    if len(x) != len(y):
        raise ValueError(f"x has {len(x)} rows, y {len(y)}")
    if shuffle:
        order = torch.randperm(len(x), generator=generator or torch.Generator().manual_seed(0))
    else:
        order = torch.arange(len(x))
    return ((x[index], y[index]) for index in torch.split(order, batch_size) if len(index))


def _picked(logs: Tensor, targets: Tensor) -> Tensor:
    """Σ_k t_k logs_k of each row (rows,), for targets as labels or as probabilities."""
    _check_rows(logs, targets)
    if targets.ndim == 1:
        return logs.gather(1, targets.long().unsqueeze(1)).squeeze(1)
    return torch.where(targets > 0, logs * targets, 0.0).sum(1)  # 0 · −inf is 0 here


def _check_rows(scores: Tensor, targets: Tensor) -> None:
    if len(scores) != len(targets):
        raise ValueError(f"{len(scores)} rows of scores, {len(targets)} targets")
