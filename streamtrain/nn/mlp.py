"""The network: linear layers with an activation between them, forward and backward by hand.

Layer i computes z = a W^T + b, with W (out, in) as in torch.nn.Linear; all but the last go on with σ(z), where σ
is the sigmoid, tanh or max(z, 0). With dz the gradient by z, the chain rule gives dW = dz^T a, db = Σ_rows dz and
da = dz W, and through the activation dz = da · σ'(z), which is computed from a = σ(z): a (1 − a) for the sigmoid.

This is the plain version, an expression a formula. Training takes the steps of `step.py`, which are held to it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from streamtrain.nn.functional import relu_deriv, sigmoid_deriv, tanh_deriv

Gradients = list[tuple[Tensor, Tensor]]

# Each as what makes a of z in place, and what makes da/dz of a.
ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "sigmoid": (torch.sigmoid_, sigmoid_deriv),
    "tanh": (torch.tanh_, tanh_deriv),
    "relu": (torch.relu_, relu_deriv),
}


class MLP:
    """Weights and biases of a multilayer perceptron that maps pixels to logits.

    weights: a layer's (out, in); biases: a layer's (out,)
    activation: sigmoid, tanh or relu, after every layer but the last
    They start as randn(in, out) · sqrt(2 / (in + out)), transposed, layer by layer from one generator seeded with
    `seed` (Glorot and Bengio 2010, eq. 12), and zero.
    """

    def __init__(
        self,
        features: int = 784,
        hidden: Sequence[int] = (100,),
        classes: int = 10,
        *,
        seed: int = 0,
        activation: str = "sigmoid",
    ) -> None:
        sizes = [features, *hidden, classes]
        if min(sizes) < 1:
            raise ValueError(f"every layer has at least one unit, not {sizes}")
        self.activation = _known(activation)
        generator = torch.Generator().manual_seed(seed)
        self.weights: list[Tensor] = []
        self.biases: list[Tensor] = []
        for fan_in, fan_out in itertools.pairwise(sizes):
            drawn = torch.randn(fan_in, fan_out, generator=generator) * math.sqrt(2 / (fan_in + fan_out))
            self.weights.append(drawn.T.contiguous())
            self.biases.append(torch.zeros(fan_out))

    @property
    def features(self) -> int:
        """Pixels that it reads."""
        return self.weights[0].shape[1]

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        return self.weights[0].device

    @property
    def hidden(self) -> tuple[int, ...]:
        """Units of each hidden layer."""
        return tuple(len(bias) for bias in self.biases[:-1])

    @property
    def classes(self) -> int:
        """Logits that it gives."""
        return len(self.biases[-1])

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits (rows, classes) of x (rows, features), and each layer's input, which `backward` needs."""
        inputs = []
        activate, _ = ACTIVATIONS[self.activation]
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            inputs.append(x)  # (rows, in)
            x = torch.addmm(bias, x, weight.T)  # (rows, out)
            if layer < last:
                x = activate(x)
        return x, inputs

    def backward(self, inputs: Sequence[Tensor], dlogits: Tensor) -> Gradients:
        """(dweight, dbias) of each layer, in the order of the layers, from the gradient by the logits.

        inputs: as `forward` returned them; dlogits: (rows, classes)
        """
        gradients: Gradients = []
        _, derivative = ACTIVATIONS[self.activation]
        dz = dlogits  # (rows, out)
        for layer in reversed(range(len(self.weights))):
            a = inputs[layer]  # (rows, in)
            gradients.append((dz.T @ a, dz.sum(0)))
            if layer:
                dz = (dz @ self.weights[layer]).mul_(derivative(a))  # (rows, in)
        return gradients[::-1]

    def state_dict(self) -> dict[str, Tensor]:
        """The tensors under the names that nn.Sequential(Linear, Sigmoid, Linear, …) gives them."""
        state = {}
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            state[f"{2 * layer}.weight"], state[f"{2 * layer}.bias"] = weight, bias
        return state

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor], *, activation: str = "sigmoid") -> MLP:
        """The network whose `state_dict` this is; raises ValueError where it is none."""
        layers = len(state) // 2
        names = {f"{2 * layer}.{kind}" for layer in range(layers) for kind in ("weight", "bias")}
        if not layers or set(state) != names:
            raise ValueError(f"these tensors are no MLP: {', '.join(sorted(state))[:80]}")
        model = cls.__new__(cls)
        model.activation = _known(activation)
        model.weights = [state[f"{2 * layer}.weight"] for layer in range(layers)]
        model.biases = [state[f"{2 * layer}.bias"] for layer in range(layers)]
        width, dtype = None, model.biases[0].dtype
        for weight, bias in zip(model.weights, model.biases, strict=True):
            fits = weight.ndim == 2 and bias.shape == weight.shape[:1] and width in (None, weight.shape[1])
            if (
                not fits
                or not weight.numel()
                or not dtype.is_floating_point
                or {weight.dtype, bias.dtype} != {dtype}
            ):
                raise ValueError(f"a layer of shape {tuple(weight.shape)} and {tuple(bias.shape)} does not fit")
            width = weight.shape[0]
        return model

    def to(self, target: torch.dtype | torch.device) -> MLP:
        """A copy with its tensors cast, as float64 for a check of the gradients, or on another device."""
        dense, state = torch.contiguous_format, self.state_dict()
        copies = {name: tensor.to(target, copy=True, memory_format=dense) for name, tensor in state.items()}
        return MLP.from_state_dict(copies, activation=self.activation)


def _known(activation: str) -> str:
    if activation not in ACTIVATIONS:
        raise ValueError(f"an activation is one of {', '.join(ACTIVATIONS)}, not {activation!r}")
    return activation
