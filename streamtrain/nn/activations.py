"""The activations, each described once: all that the net, the fast step and the ONNX export need."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from streamtrain.nn.functional import relu_deriv, sigmoid_deriv, tanh_deriv


class Activation(NamedTuple):
    """An elementwise function a = σ(z) whose derivative follows from a.

    forward: turn z into a, in place
    derivative: return da/dz, given a
    chain: turn da into dz = da · σ'(z), in place, given a: `derivative` without a tensor of its own
    onnx: the name of its operator in ONNX
    """

    forward: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor], Tensor]
    chain: Callable[[Tensor, Tensor], Tensor]
    onnx: str


ACTIVATIONS = {
    "sigmoid": Activation(
        forward=torch.sigmoid_,
        derivative=sigmoid_deriv,
        chain=lambda da, a: da.mul_(a).addcmul_(da, a, value=-1),  # d − d · a, with d = da · a
        onnx="Sigmoid",
    ),
    "tanh": Activation(
        forward=torch.tanh_,
        derivative=tanh_deriv,
        chain=lambda da, a: da.addcmul_(da * a, a, value=-1),
        onnx="Tanh",
    ),
    "relu": Activation(
        forward=torch.relu_,
        derivative=relu_deriv,
        chain=lambda da, a: da.mul_(a > 0),
        onnx="Relu",
    ),
}
