# SPDX-License-Identifier: Apache-2.0
"""Small networks and models that build in seconds."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from blocks import Add, Linear, Network, Neuron, Node, ReLU, Reshape, Tensor, Weight
from quant import Format


def linear(tensor: Tensor, outputs: int, output_format: Format, seed: int = 0) -> Linear:
    """Random weights of 5 bits on a tensor."""
    random = np.random.default_rng(seed)
    weight = random.integers(-16, 16, (outputs, tensor.shape[-1]))
    bias, shift = random.integers(-40, 40, outputs), random.integers(0, 3, outputs)
    return Linear(tensor, weight, bias, Format(5, 4), output_format, shift)


def residual_network(fc1: str = "fc1", skip: str = "skip") -> Network:
    """A linear layer, a residual module inside a network of its own, a neuron."""
    first = linear(Tensor((6,), Format(4, 2)), 4, Format(5, 2, False))
    hidden = first.outputs["o"]
    branch = linear(hidden, 4, Format(6, 2), seed=1)
    add = Add(hidden, branch.outputs["o"], Format(5, 2, False))
    inner = Network(
        {"x": hidden},
        (Node("branch", branch, ("x",)), Node(skip, add, ("x", "branch"))),
        {"y": skip},
    )
    neuron = Neuron(add.outputs["o"], np.array([1, -2, 3, 7]), -5, Format(5, 3), Format(9, 4))
    nodes = (Node(fc1, first, ("image",)), Node("inner", inner, (fc1,)))
    return Network(
        {"image": first.input}, (*nodes, Node("neuron", neuron, ("inner",))), {"logits": "neuron"}
    )


def two_sided_network() -> Network:
    """Two inputs and two outputs."""
    a, b = Tensor((2, 3), Format(4, 1)), Tensor((6,), Format(3, 1, False))
    flat = Reshape(a, (6,))
    add = Add(flat.outputs["o"], b, Format(6, 1))
    scale = Weight(add.outputs["o"], np.arange(-3, 3), Format(4, 2), Format(9, 2))
    rectify = ReLU(scale.outputs["o"], Format(4, 0, False))
    nodes = (
        Node("flat", flat, ("a",)),
        Node("add", add, ("flat", "b")),
        Node("scale", scale, ("add",)),
        Node("rectify", rectify, ("scale",)),
    )
    return Network({"a": a, "b": b}, nodes, {"sum": "add", "rectified": "rectify"})


def model(
    path: Path,
    layer: str = "fc1",
    weight: object = None,
    shape: tuple = ("N", 4),
    tensors: tuple[str, str] = ("image", "logits"),
) -> Path:
    """An ONNX file with one Gemm, 4 numbers in and 3 out."""
    if weight is None:
        weight = np.linspace(-1, 1, 12).reshape(3, 4)
    constant = numpy_helper.from_array(np.asarray(weight, np.float32), "weight")
    node = helper.make_node("Gemm", [tensors[0], "weight"], [tensors[1]], name=layer, transB=1)
    graph = helper.make_graph(
        [node],
        "tiny",
        [helper.make_tensor_value_info(tensors[0], TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(tensors[1], TensorProto.FLOAT, None)],
        [constant],
    )
    opsets = [helper.make_opsetid("", 17)]
    content = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    path.write_bytes(content)
    return path


def loaded(path: Path) -> onnx.ModelProto:
    """The model in a file, to be changed."""
    return onnx.load(path)
