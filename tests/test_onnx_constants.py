# SPDX-License-Identifier: Apache-2.0
"""What exporters compute from constants and lengths: folded, whatever the batch."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import assert_equals_onnx, model_of, outputs_of, refusal, saved, seeded

from bitblocks import import_onnx
from bitblocks.layers import Linear, Reshape
from bitblocks.operators.evaluation import FOLDED
from bitblocks.operators.registry import standard

node = helper.make_node
LONG = np.int64


def ints(*values):
    return np.array(values, LONG)


FLATTENED = {  # nodes that flatten x of shape (2, 3, 4), and their constants
    "PyTorch's view(x.size(0), -1)": (
        [
            node("Shape", ["x"], ["s"]),
            node("Gather", ["s", "zero"], ["n"], axis=0),
            node("Unsqueeze", ["n", "axis"], ["n1"]),
            node("Concat", ["n1", "rest"], ["t"], axis=0),
            node("Reshape", ["x", "t"], ["f"]),
        ],
        {"zero": np.array(0, LONG), "axis": ints(0), "rest": ints(-1)},
    ),
    "a length computed": (
        [
            node("Shape", ["x"], ["s"]),
            node("Slice", ["s", "one", "four"], ["inner"]),
            node("ReduceProd", ["inner"], ["size"], keepdims=1),
            node("Slice", ["s", "none", "one"], ["n"]),
            node("Concat", ["n", "size"], ["t"], axis=0),
            node("Reshape", ["x", "t"], ["f"]),
        ],
        {"one": ints(1), "four": ints(4), "none": ints(0)},
    ),
    "the size divided by the batch": (
        [
            node("Size", ["x"], ["all"]),
            node("Shape", ["x"], ["n"], start=0, end=1),
            node("Div", ["all", "n"], ["each"]),
            node("Concat", ["n", "each"], ["t"], axis=0),
            node("Reshape", ["x", "t"], ["f"]),
        ],
        {},
    ),
    "minus one where a length is unknown": (
        [
            node("Shape", ["x"], ["n"], end=1),
            node("Concat", ["n", "size"], ["t0"], axis=0),
            node("Cast", ["t0"], ["t1"], to=TensorProto.FLOAT),
            node("Cast", ["t1"], ["t2"], to=TensorProto.INT64),
            node("ConstantOfShape", ["two"], ["m"], value=numpy_helper.from_array(ints(-1))),
            node("Equal", ["t2", "m"], ["e"]),
            node("Where", ["e", "m", "t2"], ["t"]),
            node("Reshape", ["x", "t"], ["f"]),
        ],
        {"size": ints(24), "two": ints(2)},
    ),
}


@pytest.mark.parametrize(("nodes", "constants"), FLATTENED.values(), ids=FLATTENED)
@pytest.mark.parametrize("batch", ["N", 1, 3])
def test_arithmetic_on_lengths_equals_onnx(tmp_path, nodes, constants, batch):
    nodes = [*nodes, node("Gemm", ["f", "w"], ["y"])]
    constants = constants | {"w": seeded(24, 5)}
    model = model_of(nodes, {"x": (2, 3, 4)}, ["y"], constants, opset=18, batch=batch)
    graph = assert_equals_onnx(model, tmp_path, {"x": (2, 3, 4)}, 1 if batch == 1 else 3)
    assert [type(layer) for layer in graph.nodes] == [Reshape, Linear]


def test_shape_of_a_frame_is_not_the_batch_of_the_file(tmp_path):
    """A file that fixes the batch to 1 is still a network for any number of frames."""
    nodes, constants = FLATTENED["PyTorch's view(x.size(0), -1)"]
    nodes = [*nodes, node("Relu", ["f"], ["y"])]
    path = saved(model_of(nodes, {"x": (2, 3, 4)}, ["y"], constants, opset=18, batch=1), tmp_path)
    x = seeded(5, 2, 3, 4)
    np.testing.assert_array_equal(
        outputs_of(import_onnx(path), x)["y"], np.maximum(x.reshape(5, 24), 0)
    )


MIXED = {  # what would mix frames, or is nothing at all
    "the batch times a length": (
        [
            node("Shape", ["x"], ["n"], end=1),
            node("Mul", ["n", "two"], ["m"]),
            node("Concat", ["m", "twelve"], ["t"], axis=0),
            node("Reshape", ["x", "t"], ["y"]),
        ],
        "output 'y' must have the batch alone on axis 0",
    ),
    "the batch behind another axis": (
        [node("Reshape", ["x", "turned"], ["y"])],
        (
            "Reshape node that gives 'y' must leave axis 0 the batch, "
            "not reshape [batch, 2, 3, 4] to [2, -1, 12]"
        ),
    ),
    "weights as long as the batch": (
        [
            node("Shape", ["x"], ["n"], end=1),
            node("ConstantOfShape", ["n"], ["b"]),
            node("Add", ["x", "b"], ["y"]),
        ],
        "constant 'b' must not depend on the length of the batch",
    ),
    "an endless constant": (
        [
            node("ConstantOfShape", ["huge"], ["b"]),
            node("Add", ["x", "b"], ["y"]),
        ],
        (
            "ConstantOfShape node that gives 'b' must make sense to ONNX: "
            "it has more than 16777216 elements"
        ),
    ),
    "a gather beyond the end": (
        [
            node("Gather", ["two", "huge"], ["b"]),
            node("Add", ["x", "b"], ["y"]),
        ],
        None,
    ),
    "an axis beyond the end": (
        [
            node("Concat", ["two", "huge"], ["b"], axis=3),
            node("Add", ["x", "b"], ["y"]),
        ],
        None,
    ),
    "an unknown attribute": (
        [
            node("Concat", ["two", "huge"], ["b"], axis=0, axes=[1]),
            node("Add", ["x", "b"], ["y"]),
        ],
        "Concat node that gives 'b' attribute 'axes' is not supported",
    ),
    "a missing attribute": (
        [
            node("Concat", ["two", "huge"], ["b"]),
            node("Add", ["x", "b"], ["y"]),
        ],
        "Concat node that gives 'b' must have attribute 'axis'",
    ),
    "an operator that the operator set does not have": (
        [
            node("BitCast", ["two"], ["b"], to=TensorProto.FLOAT),
            node("Add", ["x", "b"], ["y"]),
        ],
        "BitCast node that gives 'b' is not supported",
    ),
    "a sum of floats, which has an order": (
        [
            node("ReduceSum", ["halves"], ["b"]),
            node("Add", ["x", "b"], ["y"]),
        ],
        "ReduceSum node that gives 'b' of a constant is not supported",
    ),
}


@pytest.mark.parametrize(("nodes", "message"), MIXED.values(), ids=MIXED)
def test_constants_without_sense_are_refused(tmp_path, nodes, message):
    constants = {
        "two": ints(2),
        "turned": ints(2, -1, 12),
        "twelve": ints(12),
        "huge": ints(2**40),
        "halves": np.full(3, 0.5, np.float32),
    }
    have = refusal(model_of(nodes, {"x": (2, 3, 4)}, ["y"], constants, opset=18), tmp_path)
    if message is None:
        message = f"{nodes[0].op_type} node that gives 'b' must make sense to ONNX: "
        assert have.startswith(message)
        assert len(have) < 400
        assert "\n" not in have
    else:
        assert have == message


def test_every_folded_operator_is_one_of_the_standard():
    assert all(standard(name, 28) or standard(name, 7) for name in FOLDED)


def test_weights_made_of_pieces_equal_onnx(tmp_path):
    """Slices, a concatenation, a broadcast and a cast, as they come before a product."""
    nodes = [
        node("Split", ["w"], ["w1", "w2"], axis=1, num_outputs=2),
        node("Neg", ["w2"], ["w3"]),
        node("Concat", ["w3", "w1"], ["w4"], axis=1),
        node("Transpose", ["w4"], ["w5"], perm=[1, 0]),
        node("Cast", ["scale"], ["s1"], to=TensorProto.FLOAT),
        node("Mul", ["w5", "s1"], ["w6"]),
        node("Expand", ["half", "shape"], ["half2"]),
        node("Where", ["mask", "w6", "half2"], ["w7"]),
        node("Sum", ["w7", "half", "half"], ["w8"]),
        node("MatMul", ["x", "w8"], ["y"]),
    ]
    constants = {
        "w": seeded(5, 4),
        "scale": np.arange(1, 6),
        "half": np.array([[0.5]], np.float32),
        "shape": ints(4, 5),
        "mask": np.arange(20).reshape(4, 5) % 3 > 0,
    }
    model = model_of(nodes, {"x": (4,)}, ["y"], constants, opset=18)
    assert_equals_onnx(model, tmp_path, {"x": (4,)})
