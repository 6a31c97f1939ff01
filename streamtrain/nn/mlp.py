"""The network: linear layers with an activation between them, forward and backward by hand.

Layer i computes z = a W^T + b, with W (out, in) as in torch.nn.Linear; all but the last apply σ(z), where σ
is the sigmoid, tanh or max(z, 0). With dz the gradient by z, the chain rule gives dW = dz^T a, db = Σ_rows dz and
da = dz W, and through the activation dz = da · σ'(z), which is computed from a = σ(z): a (1 − a) for the sigmoid.

This is the plain version, one expression per formula. Training runs the fast steps of `engine`, which tests
compare with it.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from streamtrain.nn.activations import ACTIVATIONS

Gradients = list[tuple[Tensor, Tensor]]


class MLP:
    """Weights and biases of a multilayer perceptron that maps pixels to logits.

    weights: (out, in) float32 of each layer; biases: (out,) float32 of each layer
    activation: sigmoid, tanh or relu, after every layer but the last
    schema: what the pixels and classes of the training data mean; None until `fit` sets it
    trained_on: statistics of the training data; None until `fit` sets it
    Weights start as randn(in, out) · sqrt(2 / (in + out)), transposed, layer by layer from one generator seeded
    with `seed` (Glorot and Bengio 2010, eq. 12); biases start as zeros.
    Raises ValueError for a layer without units or an unknown activation.
    """

    schema: object | None = None
    trained_on: object | None = None

    def __init__(
        self,
        features: int = 784,
        hidden: int | Sequence[int] = (100,),
        classes: int = 10,
        *,
        seed: int = 0,
        activation: str = "sigmoid",
    ) -> None:
        sizes = [features, *([hidden] if isinstance(hidden, int) else hidden), classes]
        if min(sizes) < 1:
            raise ValueError(f"every layer has at least one unit, not {sizes}")
        self.activation = _known(activation)
        self.weights: list[Tensor] = []
        self.biases: list[Tensor] = []
        generator = torch.Generator().manual_seed(operator.index(seed))
        with torch.inference_mode(False):  # a tensor made in inference mode could not be trained outside it
            for fan_in, fan_out in itertools.pairwise(sizes):
                drawn = torch.randn(fan_in, fan_out, generator=generator, dtype=torch.float32)
                drawn *= math.sqrt(2 / (fan_in + fan_out))
                self.weights.append(drawn.T.contiguous())
                self.biases.append(torch.zeros(fan_out, dtype=torch.float32))

    def __repr__(self) -> str:
        layers = " → ".join(map(str, (self.features, *self.hidden, self.classes)))
        trained = "" if self.schema else ", untrained"
        return f"MLP({layers}, {self.activation}{trained})"

    def __call__(self, x: Tensor) -> Tensor:
        """Return the logits (rows, classes) of x (rows, features), normalised pixels."""
        return self.forward(x)[0]

    @property
    def features(self) -> int:
        """Return how many pixels it reads."""
        return self.weights[0].shape[1]

    @property
    def device(self) -> torch.device:
        """Return the device of its tensors."""
        return self.weights[0].device

    @property
    def hidden(self) -> tuple[int, ...]:
        """Return the units of each hidden layer."""
        return tuple(len(bias) for bias in self.biases[:-1])

    @property
    def classes(self) -> int:
        """Return how many logits it computes."""
        return len(self.biases[-1])

    def forward(self, x: Tensor, masks: Sequence[Tensor] = ()) -> tuple[Tensor, list[Tensor]]:
        """Return the logits (rows, classes) of x (rows, features), and the input of each layer for `backward`.

        masks: (rows, units) of each hidden layer, by which its activations are multiplied; see `nn.dropout`
        """
        inputs = []
        activate = ACTIVATIONS[self.activation].forward
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            inputs.append(x)  # (rows, in)
            x = torch.addmm(bias, x, weight.T)  # (rows, out)
            if layer < last:
                x = activate(x)
                x = x * masks[layer] if masks else x
        return x, inputs

    def backward(self, inputs: Sequence[Tensor], dlogits: Tensor, masks: Sequence[Tensor] = ()) -> Gradients:
        """Return (dweight, dbias) of each layer, in the order of the layers, from the gradient by the logits.

        inputs: as `forward` returned them; dlogits: (rows, classes); masks: as `forward` got them
        """
        gradients: Gradients = []
        derivative = ACTIVATIONS[self.activation].derivative
        dz = dlogits  # (rows, out)
        for layer in reversed(range(len(self.weights))):
            a = inputs[layer]  # (rows, in)
            gradients.append((dz.T @ a, dz.sum(0)))
            if layer:
                da = dz @ self.weights[layer]  # (rows, in)
                if masks:
                    mask = masks[layer - 1]
                    da, a = da * mask, torch.where(mask > 0, a / mask, 0)  # the activation before its mask
                dz = da.mul_(derivative(a))
        return gradients[::-1]

    def state_dict(self) -> dict[str, Tensor]:
        """Return the tensors themselves under the names of nn.Sequential(Linear, Sigmoid, Linear, …)."""
        state = {}
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            state[f"{2 * layer}.weight"], state[f"{2 * layer}.bias"] = weight, bias
        return state

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor], *, activation: str) -> MLP:
        """Return the network with these tensors; `activation` is not among them, so it has no default.

        Raises ValueError if the names or shapes are not those of an MLP.
        """
        layers = len(state) // 2
        names = {f"{2 * layer}.{kind}" for layer in range(layers) for kind in ("weight", "bias")}
        if not layers or set(state) != names:
            raise ValueError(f"these tensors are not an MLP: {', '.join(sorted(state))[:80]}")
        model = cls.__new__(cls)
        model.activation = _known(activation)
        model.weights = [state[f"{2 * layer}.weight"].contiguous() for layer in range(layers)]
        model.biases = [state[f"{2 * layer}.bias"].contiguous() for layer in range(layers)]
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
        """Return a copy in another dtype, such as float64 for a check of the gradients, or on another device."""
        copies = {name: tensor.to(target, copy=True) for name, tensor in self.state_dict().items()}
        model = MLP.from_state_dict(copies, activation=self.activation)
        model.schema, model.trained_on = self.schema, self.trained_on
        return model


def _known(activation: str) -> str:
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation is {activation!r}, but must be one of {', '.join(ACTIVATIONS)}")
    return activation
