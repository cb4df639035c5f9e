# SPDX-License-Identifier: Apache-2.0
"""One model with nearly every operator: right, and refused or read however it is damaged."""

import re

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx_models import assert_equals_onnx, model_of, norm, seeded

from bitblocks import InputError, evaluate, import_onnx

node = helper.make_node


def ints(*values):
    return np.array(values, np.int64)


def everything():
    """A network of an image that visits the operators one after the other."""
    normed, constants = norm("c", "n", 4)
    nodes = [
        node("Conv", ["x", "w"], ["c"], pads=[1, 0, 1, 2], strides=[1, 2], dilations=[1, 1]),
        normed,
        node("Relu", ["n"], ["r"]),
        node("MaxPool", ["r"], ["m"], kernel_shape=[2, 2], strides=[2, 1], ceil_mode=1),
        node("ConvTranspose", ["m", "v"], ["t"], strides=[2, 1], output_padding=[1, 0]),
        node("AveragePool", ["t"], ["a"], kernel_shape=[2, 2], pads=[1, 0, 0, 1]),
        node("Pad", ["a", "pads", "half"], ["p"], mode="constant"),
        node("Split", ["p", "parts"], ["s1", "s2"], axis=1),
        node("Concat", ["s2", "s1"], ["j"], axis=1),
        node("Slice", ["j", "from", "to", "along"], ["l"]),
        node("Resize", ["l", "", "twice"], ["z"], mode="nearest"),
        node("SpaceToDepth", ["z"], ["d"], blocksize=2),
        node("Transpose", ["d"], ["h"], perm=[0, 2, 3, 1]),
        node("Gather", ["h", "picked"], ["g"], axis=1),
        node("Shape", ["g"], ["shape"]),
        node("Slice", ["shape", "none", "one"], ["batch"]),
        node("Constant", [], ["rest"], value_ints=[-1, 24]),
        node("Concat", ["batch", "rest"], ["target"], axis=0),
        node("Reshape", ["g", "target"], ["rows"]),
        node("MatMul", ["rows", "matrix"], ["u"]),
        node("Unsqueeze", ["u", "last"], ["k1"]),
        node("Squeeze", ["k1", "last"], ["k2"]),
        node("Expand", ["k2", "same"], ["k3"]),
        node("Tile", ["k3", "times"], ["k4"]),
        node("Flatten", ["k4"], ["f"]),
        node("Gemm", ["f", "dense", "offset"], ["y1"], transB=1, alpha=0.5),
        node("Sub", ["y1", "offset"], ["y2"]),
        node("Mul", ["offset", "y2"], ["y3"]),
        node("Div", ["y3", "four"], ["y4"]),
        node("Dropout", ["y4"], ["y5"]),
        node("Sum", ["y5", "y1", "offset"], ["y6"]),
        node("Unsqueeze", ["y6", "last"], ["q1"]),
        node("LSTM", ["q1", "lw", "lr", "lb"], ["", "q2"], hidden_size=2, layout=1),
        node("Flatten", ["q2"], ["q3"]),
        node("Identity", ["q3"], ["y"]),
    ]
    constants |= {
        "w": seeded(4, 2, 3, 3),
        "v": seeded(4, 2, 2, 2, seed=1),
        "pads": ints(0, 0, 1, 0, 0, 0, 0, 2),
        "half": np.float32(0.5),
        "parts": ints(1, 1),
        "from": ints(1, 0),
        "to": ints(5, 6),
        "along": ints(2, 3),
        "twice": np.array([1, 1, 2, 2], np.float32),
        "picked": ints(2, 0, 0),
        "none": ints(0),
        "one": ints(1),
        "matrix": seeded(24, 3),
        "last": ints(-1),
        "dense": seeded(5, 36, seed=3),
        "same": ints(1, 1, 3),
        "times": ints(1, 2, 1),
        "offset": seeded(5, seed=2) + np.float32(2),
        "four": np.float32(4),
        "lw": seeded(1, 8, 1) / np.float32(4),
        "lr": seeded(1, 8, 2) / np.float32(4),
        "lb": seeded(1, 16) / np.float32(4),
    }
    return nodes, constants


def test_every_operator_in_turn_equals_onnx(tmp_path):
    nodes, constants = everything()
    model = model_of(nodes, {"x": (2, 8, 12)}, ["y"], constants, opset=18)
    graph = assert_equals_onnx(model, tmp_path, {"x": (2, 8, 12)})
    assert graph.inputs[0].axes == (1, 2, 0)


@pytest.fixture(scope="module")
def content():
    nodes, constants = everything()
    return model_of(nodes, {"x": (2, 8, 12)}, ["y"], constants, opset=18).SerializeToString()


def read(path, content):
    """What becomes of a file: the refusal, on one line, or nothing where it is read and runs."""
    path.write_bytes(content)
    try:
        graph = import_onnx(path)
    except InputError as error:
        return str(error)
    evaluate(graph, np.zeros((1, *graph.inputs[0].shape)))
    return "read"


@pytest.mark.parametrize("seed", range(300))
def test_damaged_bytes_are_refused_or_read(tmp_path, content, seed):
    generator, damaged = np.random.default_rng(seed), bytearray(content)
    heads = [match.start() for match in re.finditer(rb"[A-Za-z]{2,}", content)]
    for _ in range(int(generator.integers(1, 4))):
        near = int(generator.choice(heads)) + int(generator.integers(-10, 14))
        damaged[near % len(damaged)] = int(generator.integers(256))
    message = read(tmp_path / "damaged.onnx", bytes(damaged))
    assert "\n" not in message
    assert len(message) < 500


NUMBERS = [-(2**63), -(2**40), -5, -1, 0, 1, 2, 3, 7, 11, 2**31, 2**40, 2**63 - 1]


@pytest.mark.parametrize("seed", range(300))
def test_damaged_numbers_are_refused_or_read(tmp_path, content, seed):
    """Attributes, shapes and lists of lengths that no exporter writes, in a well-formed file."""
    generator, model = np.random.default_rng(seed), ModelProto.FromString(content)
    kind = generator.choice(["ints", "int", "list", "inputs", "drop", "swap"])
    nodes = model.graph.node
    attributes = [a for n in nodes for a in n.attribute]
    if kind == "ints":
        chosen = generator.choice([a for a in attributes if len(a.ints)])
        chosen.ints[int(generator.integers(len(chosen.ints)))] = int(generator.choice(NUMBERS))
    elif kind == "int":
        chosen = generator.choice([a for a in attributes if a.type == a.INT])
        chosen.i = int(generator.choice(NUMBERS))
    elif kind == "list":
        lists = [t for t in model.graph.initializer if t.data_type == TensorProto.INT64]
        chosen = lists[int(generator.integers(len(lists)))]
        values = numpy_helper.to_array(chosen).copy()
        values.flat[int(generator.integers(values.size))] = generator.choice(NUMBERS)
        chosen.CopyFrom(numpy_helper.from_array(values, chosen.name))
    elif kind == "inputs":
        first, second = generator.choice(len(nodes), 2)
        if len(nodes[first].input) and len(nodes[second].input):
            nodes[first].input[0] = nodes[second].input[-1]
    elif kind == "drop":
        chosen = nodes[int(generator.integers(len(nodes)))]
        del chosen.input[int(generator.integers(3)) :]
    else:
        first, second = (nodes[int(n)] for n in generator.choice(len(nodes), 2))
        first.op_type, second.op_type = second.op_type, first.op_type
    message = read(tmp_path / "damaged.onnx", model.SerializeToString())
    assert "\n" not in message
    assert len(message) < 500
