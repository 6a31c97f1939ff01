"""Stochastic gradient descent."""

from __future__ import annotations

from streamtrain.learn.mlp import MLP, Gradients


def sgd_step(model: MLP, gradients: Gradients, *, lr: float) -> None:
    """Move every parameter against its gradient, in place: p ← p − lr · dp."""
    for weight, bias, (dweight, dbias) in zip(model.weights, model.biases, gradients, strict=True):
        weight.add_(dweight, alpha=-lr)
        bias.add_(dbias, alpha=-lr)
