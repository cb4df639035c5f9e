# SPDX-License-Identifier: Apache-2.0
"""Norms, matrix products of two frames and SELU: as ONNX has them, and as integers."""

import numpy as np
import pytest
from onnx import helper
from onnx_models import assert_equals_onnx, model_of, outputs_of, refusal, saved, seeded

from bitblocks import import_onnx, quantise
from quant import from_float, to_float


def norm(operator, shape, parameters, **attributes):
    scale = seeded(*parameters, seed=5) / 4 + 1
    constants = {"g": scale.astype(np.float32), "b": seeded(*parameters, seed=6)}
    node = helper.make_node(operator, ["x", "g", "b"], ["y"], **attributes)
    return [node], {"x": shape}, constants


def attention():
    """x makes queries, keys and values alike."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["x", "t"], ["s"]),
        helper.make_node("Softmax", ["s"], ["p"], axis=-1),
        helper.make_node("MatMul", ["p", "x"], ["y"]),
    ]
    return nodes, {"x": (4, 6)}, {}


CASES = {
    "layer norm": norm("LayerNormalization", (3, 12), (12,)),
    "layer norm of two axes": norm("LayerNormalization", (3, 4), (3, 4), axis=1, epsilon=0.1),
    "layer norm of channels first": norm("LayerNormalization", (2, 3, 5), (5,)),
    "rms norm": (*norm("RMSNormalization", (3, 12), (12,))[:2], {"g": seeded(12, seed=5)}),
    "instance norm": norm("InstanceNormalization", (4, 3, 5), (4,), epsilon=0.01),
    "group norm": norm("GroupNormalization", (4, 3, 2), (4,), num_groups=2),
    "self-attention": attention(),
    "two frames": (
        [helper.make_node("MatMul", ["x", "z"], ["y"])],
        {"x": (2, 3, 4), "z": (2, 4, 5)},
        {},
    ),
    "selu": ([helper.make_node("Selu", ["x"], ["y"], alpha=1.5, gamma=0.9)], {"x": (7,)}, {}),
}
CASES["rms norm"][0][0].input.pop()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_layers_give_what_onnx_gives(tmp_path, case):
    nodes, inputs, constants = case
    assert_equals_onnx(model_of(nodes, inputs, ["y"], constants, opset=23), tmp_path, inputs)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_integers_are_near_the_floats(tmp_path, case):
    nodes, inputs, constants = case
    graph = import_onnx(saved(model_of(nodes, inputs, ["y"], constants, opset=23), tmp_path))
    x = {n: seeded(80, *shape, seed=k) for k, (n, shape) in enumerate(inputs.items())}
    network, _ = quantise(graph, x, 12, 12)
    codes = [
        from_float(graph.frames(x)[port.name], tensor.format)
        for port, tensor in zip(graph.inputs, network.inputs.values(), strict=True)
    ]
    (format,) = (tensor.format for tensor in network.outputs.values())
    have = to_float(network.reference(*codes), format)
    (port,) = graph.outputs
    want = outputs_of(graph, x)[port.name].transpose(0, *(axis + 1 for axis in port.axes))
    noise = np.square(have - want).sum() / np.square(want).sum()
    assert 10 * np.log10(noise) < -45


def refused(nodes, inputs, constants, tmp_path):
    return refusal(model_of(nodes, inputs, ["y"], constants, opset=23), tmp_path)


def test_what_is_wrong_is_refused(tmp_path):
    assert refused(*norm("LayerNormalization", (3, 12), (5,)), tmp_path) == (
        "LayerNormalization node that gives 'y' scale must fit shape [12], not have shape [5]"
    )
    assert refused(*norm("GroupNormalization", (4, 3), (4,), num_groups=3), tmp_path) == (
        "GroupNormalization node that gives 'y' must have groups that divide 4 channels, not 3"
    )
    assert refused(*norm("InstanceNormalization", (4, 3), (3,)), tmp_path) == (
        "InstanceNormalization node that gives 'y' scale must have shape [4], not [3]"
    )
    nodes = [helper.make_node("MatMul", ["x", "z"], ["y"])]
    assert refused(nodes, {"x": (2, 3), "z": (2, 4)}, {}, tmp_path) == (
        "MatMul node that gives 'y' must multiply matrices, not [2, 3] by [2, 4]"
    )
