"""A trained model as a file that other tools open. It takes raw pixels: the normalisation is part of it."""

from __future__ import annotations

import io
import json
import zipfile
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from streamtrain._version import __version__
from streamtrain.errors import UsageError
from streamtrain.nn.activations import ACTIVATIONS
from streamtrain.storage.ownership import TORCH_MARK
from streamtrain.train.checkpoint import Checkpoint

if TYPE_CHECKING:
    import onnx

_OPSET = 17  # read by onnxruntime since 1.12, of 2022


def torch_state(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Return the state of an nn.Sequential(Linear, activation, Linear, …) that maps raw pixels to logits.

    The normalisation is folded into the first layer: W (x − lo) / span + b = (W / span) x + (b − W·lo / span).
    """
    low, span = checkpoint.schema.of_source.scale
    state = checkpoint.model.to(torch.float64).state_dict()
    state["0.bias"] = state["0.bias"] - state["0.weight"].sum(1) * (low / span)
    state["0.weight"] = state["0.weight"] / span
    return {name: tensor.float() for name, tensor in state.items()}


def torch_bytes(checkpoint: Checkpoint) -> bytes:
    """Return that state as torch.save writes it; torch.load(FILE, weights_only=True) reads it."""
    buffer = io.BytesIO()
    torch.save(torch_state(checkpoint), buffer)
    with zipfile.ZipFile(buffer, "a") as archive:  # which torch.load does not look at
        archive.writestr(zipfile.ZipInfo(TORCH_MARK), __version__)
    return buffer.getvalue()


def onnx_bytes(checkpoint: Checkpoint) -> bytes:
    """Return an ONNX model: `pixels` (rows, features) as in the source → `logits` and `probabilities`.

    Both are (rows, classes) float32; its metadata hold the class names, image shape and pixel range.
    Raises UsageError if onnx is not installed.
    """
    try:
        import onnx
    except ImportError:
        raise UsageError("Export to ONNX needs the package onnx: pip install 'streamtrain[onnx]'") from None
    model, schema = checkpoint.model, checkpoint.schema.of_source
    kind = getattr(onnx.TensorProto, {"float32": "FLOAT"}.get(schema.dtype, schema.dtype.upper()))
    outputs = ("logits", "probabilities")
    graph = onnx.helper.make_graph(
        _nodes(checkpoint),
        "streamtrain",
        [onnx.helper.make_tensor_value_info("pixels", kind, ["rows", model.features])],
        [
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["rows", model.classes])
            for name in outputs
        ],
        _weights(checkpoint),
    )
    opset = onnx.helper.make_opsetid("", _OPSET)
    made = onnx.helper.make_model_gen_version(
        graph, opset_imports=[opset], producer_name="streamtrain", producer_version=__version__
    )
    facts = {name: json.dumps(value) for name, value in schema.to_json().items()}
    onnx.helper.set_model_props(made, facts)
    onnx.checker.check_model(made, full_check=True)
    return bytes(made.SerializeToString())


def _nodes(checkpoint: Checkpoint) -> list[onnx.NodeProto]:
    """Cast, (x − low) / span, then Gemm and the activation by turns, Softmax at the end."""
    import onnx

    make = onnx.helper.make_node
    nodes = [
        make("Cast", ["pixels"], ["x"], to=onnx.TensorProto.FLOAT),
        make("Sub", ["x", "low"], ["shifted"]),
        make("Div", ["shifted", "span"], ["a0"]),
    ]
    last = len(checkpoint.model.weights) - 1
    for layer in range(last + 1):
        z = "logits" if layer == last else f"z{layer}"
        nodes.append(make("Gemm", [f"a{layer}", f"{2 * layer}.weight", f"{2 * layer}.bias"], [z], transB=1))
        if layer < last:
            nodes.append(make(ACTIVATIONS[checkpoint.model.activation].onnx, [z], [f"a{layer + 1}"]))
    return [*nodes, make("Softmax", ["logits"], ["probabilities"], axis=1)]


def _weights(checkpoint: Checkpoint) -> list[onnx.TensorProto]:
    import onnx

    low, span = checkpoint.schema.of_source.scale
    constants = {"low": torch.tensor(low, dtype=torch.float32), "span": torch.tensor(span, dtype=torch.float32)}
    state = constants | checkpoint.model.to(torch.float32).state_dict()
    return [onnx.numpy_helper.from_array(tensor.numpy(), name) for name, tensor in state.items()]
