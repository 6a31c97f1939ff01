"""The loss that is minimised: cross-entropy with smoothed labels and a weight for each class."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from streamtrain.nn.functional import logsumexp, one_hot


class CrossEntropy(NamedTuple):
    """The mean over rows of −Σ_k w_k t_k log softmax(z)_k, with t = (1 − ε) one_hot(y) + ε / K for K classes.

    smoothing: ε (Szegedy et al. 2016, Rethinking the Inception Architecture, section 7)
    weights: w_k of each class; empty for ones
    It is `torch.nn.CrossEntropyLoss(weight, label_smoothing)`, except that the mean is over the rows, not over
    their weights, so that the loss of a part of a batch does not depend on the rest.
    """

    smoothing: float = 0.0
    weights: tuple[float, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Return whether it is the cross-entropy alone."""
        return not self.smoothing and not self.weights

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of each row (rows,); logits: (rows, classes), labels: (rows,)."""
        classes = logits.shape[1]
        targets = one_hot(labels, classes).to(logits) * (1 - self.smoothing) + self.smoothing / classes
        return ((logsumexp(logits)[:, None] - logits) * targets * self._weights(logits)).sum(1)

    def correct_(self, dlogits: Tensor, labels: Tensor, *, scale: float = 1.0) -> Tensor:
        """Turn the gradient of plain cross-entropy into that of this loss, in place, and return it.

        dlogits: (rows, classes), scale · (softmax(z) − one_hot(y)); labels: (rows,)
        With p = softmax(z) and W = Σ_k w_k, the gradient is c p_k − (1 − ε) w_y [k = y] − ε w_k / K, where
        c = Σ_k w_k t_k = (1 − ε) w_y + ε W / K. So of q = p − one_hot(y) it is c q + ε / K · (W [k = y] − w_k).
        """
        if self.is_plain:
            return dlogits
        w, share = self._weights(dlogits), self.smoothing / dlogits.shape[1]
        c = (1 - self.smoothing) * w + share * w.sum()
        dlogits.mul_(c[labels].unsqueeze(1)).sub_(w, alpha=scale * share)
        return dlogits.scatter_add_(1, labels.unsqueeze(1), (scale * share * w.sum()).expand(len(labels), 1))

    def _weights(self, like: Tensor) -> Tensor:
        return like.new_tensor(self.weights) if self.weights else like.new_ones(like.shape[1])


class Objective(NamedTuple):
    """What a training step minimises.

    loss: of a row; the steps report the plain cross-entropy all the same
    dropout: the share of each hidden layer's activations that a step leaves out, drawn from `seed`
    """

    loss: CrossEntropy = CrossEntropy()
    dropout: float = 0.0
    seed: int = 0


PLAIN = Objective()


def balanced_weights(counts: list[int]) -> tuple[float, ...]:
    """Return a weight for each class, so that all classes weigh the same in a sum over the rows.

    counts: rows of each class
    w_k = rows / (classes · rows of class k), as scikit-learn's "balanced"; 1 for a class without rows.

    >>> balanced_weights([1, 3])
    (2.0, 0.6666666666666666)
    """
    present = sum(count > 0 for count in counts)
    return tuple(sum(counts) / (present * count) if count else 1.0 for count in counts)
