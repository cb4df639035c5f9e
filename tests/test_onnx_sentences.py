# SPDX-License-Identifier: Apache-2.0
"""What the importer refuses, by whole sentences: those that no other test has."""

from dataclasses import replace

import numpy as np
import pytest
from onnx import AttributeProto, TensorProto, helper
from onnx_models import model_of, refusal, saved, seeded
from refusal import refused

import bitblocks
from bitblocks import Graph, InputError, evaluate, import_onnx, quantise
from bitblocks.graph import Port
from bitblocks.layers import (
    Arg,
    Attention,
    Concat,
    Convolution,
    Divide,
    Linear,
    MatMul,
    MaxPool,
    Norm,
    PRelu,
    Rearrange,
    Reduce,
    Reshape,
    Scale,
    Softmax,
    TopK,
    TransposedConvolution,
)
from bitblocks.onnx_model import BYTES_LIMIT

node = helper.make_node


def ints(*values):
    return np.array(values, np.int64)


def floats(*values):
    return np.array(values, np.float32)


BATCH = [
    node("Shape", ["x"], ["n"], end=1),
    node("Mul", ["n", "pair"], ["p"]),
]
"""A list of lengths that depends on the batch."""
RESIZE = {"scales": floats(1, 1, 2)}
CASES = {  # nodes, frame, constants, operator set, sentence
    "operator that is not there yet": (
        [node("Mish", ["x"], ["y"])],
        (4,),
        {},
        17,
        "Mish node that gives 'y' is not in operator set 17",
    ),
    "output without a name": (
        [node("Relu", ["x"], ["", "y"])],
        (4,),
        {},
        17,
        "Relu node that gives 'y' must name its output",
    ),
    "Clip between lists": (
        [node("Clip", ["x", "low"], ["y"])],
        (4,),
        {"low": floats(0, 1)},
        17,
        "Clip node that gives 'y' must have one min, not 2",
    ),
    "Constant of nothing": (
        [node("Constant", [], ["c"]), node("Add", ["x", "c"], ["y"])],
        (4,),
        {},
        17,
        "Constant node that gives 'c' must have one value",
    ),
    "Split into more": (
        [node("Split", ["x"], ["y", "z"], axis=1, num_outputs=3)],
        (6,),
        {},
        18,
        "Split node that gives 'y' must make sense to ONNX: it must have 2 parts, not 3",
    ),
    "Split by more": (
        [node("Split", ["x", "s"], ["y", "z"], axis=1)],
        (6,),
        {"s": ints(1, 2, 3)},
        17,
        "Split node that gives 'y' must make sense to ONNX: it must have 2 parts, not 3",
    ),
    "Pad by the batch": (
        [*BATCH, node("Concat", ["p", "zeros"], ["q"], axis=0), node("Pad", ["x", "q"], ["y"])],
        (4,),
        {"pair": ints(0, 1), "zeros": ints(0, 0)},
        17,
        (
            "Pad node that gives 'y' must pad by numbers that do not depend on the length of "
            "the batch"
        ),
    ),
    "Pad with values": (
        [node("Pad", ["x", "p", "v"], ["y"])],
        (4,),
        {"p": ints(0, 1, 0, 1), "v": floats(1, 2)},
        17,
        "Pad node that gives 'y' must pad with one value, not 2",
    ),
    "Concat of other lengths": (
        [node("Concat", ["x", "x", "r"], ["y"], axis=1)],
        (2, 3),
        {"r": seeded(1, 2, 3)},
        17,
        "Concat node that gives 'y' of a constant is not supported",
    ),
    "Concat of other shapes": (
        [node("Flatten", ["x"], ["f"]), node("Concat", ["x", "f"], ["y"], axis=1)],
        (2, 3),
        {},
        17,
        ("Concat node that gives 'y' must join equal shapes, not [2, 3] and [6]"),
    ),
    "RNN of two axes": (
        [
            node("Transpose", ["x"], ["t"], perm=[1, 0]),
            node("RNN", ["t", "W", "R"], ["y"], hidden_size=2),
        ],
        (4,),
        {"W": seeded(1, 2, 4), "R": seeded(1, 2, 2)},
        17,
        "RNN node that gives 'y' must have an input of 3 axes, not 2",
    ),
    "product of constants": (
        [node("MatMul", ["a", "a"], ["c"]), node("Add", ["x", "c"], ["y"])],
        (4,),
        {"a": seeded(4, 4)},
        17,
        "MatMul node that gives 'c' must multiply frames by a constant",
    ),
    "constant of many axes": (
        [node("ConstantOfShape", ["s"], ["c"]), node("Add", ["x", "c"], ["y"])],
        (4,),
        {"s": ints(*[1] * 65)},
        17,
        "ConstantOfShape node that gives 'c' must make sense to ONNX: its size is unknown",
    ),
    "norm by another bias": (
        [node("LayerNormalization", ["x", "a", "b"], ["y"])],
        (2, 4),
        {"a": seeded(4), "b": seeded(3)},
        17,
        "LayerNormalization node that gives 'y' bias must fit shape [4], not have shape [3]",
    ),
    "norm by a frame": (
        [node("BatchNormalization", ["x", "a", "a", "a", "x"], ["y"])],
        (4,),
        {"a": seeded(4)},
        17,
        "BatchNormalization node that gives 'y' parameter 'x' must be constant",
    ),
    "training by a frame": (
        [node("Dropout", ["x", "", "x"], ["y"])],
        (4,),
        {},
        17,
        "Dropout node that gives 'y' input 2 must be constant",
    ),
    "training by a list": (
        [node("Dropout", ["x", "", "t"], ["y"])],
        (4,),
        {"t": np.array([True, False])},
        17,
        "Dropout node that gives 'y' input 2 must be one number",
    ),
    "lengths of floats": (
        [node("Reshape", ["x", "s"], ["y"])],
        (4,),
        {"s": floats(0, 2, 2)},
        17,
        "Reshape node that gives 'y' must have a shape of int64, one per axis",
    ),
    "lengths as many as the batch": (
        [
            node("Shape", ["x"], ["n"], end=1),
            node("ConstantOfShape", ["n"], ["z"]),
            node("Cast", ["z"], ["s"], to=TensorProto.INT64),
            node("Reshape", ["x", "s"], ["y"]),
        ],
        (4,),
        {},
        17,
        "Reshape node that gives 'y' must have a shape of one length, whatever the batch",
    ),
    "Gather by frames": (
        [node("Relu", ["x"], ["r"]), node("Gather", ["x", "r"], ["y"], axis=1)],
        (4,),
        {},
        17,
        ("Gather node that gives 'y' must have constant inputs but for the first, unlike 'r'"),
    ),
    "weights beyond numbers": (
        [node("Div", ["x", "c"], ["y"])],
        (4,),
        {"c": np.float64(1e-310)},
        17,
        "Div node that gives 'y' must give finite weights, not overflow",
    ),
    "truth values for numbers": (
        [node("Add", ["x", "c"], ["y"])],
        (4,),
        {"c": np.array([True])},
        17,
        "constant 'c' must hold numbers, not BOOL",
    ),
    "Resize by another mode": (
        [node("Resize", ["x", "", "scales"], ["y"], mode="best")],
        (2, 2),
        RESIZE,
        17,
        "Resize node that gives 'y' attribute 'mode' must be nearest, linear or cubic, not best",
    ),
    "Resize by another policy": (
        [node("Resize", ["x", "", "scales"], ["y"], keep_aspect_ratio_policy="none")],
        (2, 2),
        RESIZE,
        18,
        (
            "Resize node that gives 'y' attribute 'keep_aspect_ratio_policy' must be stretch, "
            "not_larger or not_smaller, not none"
        ),
    ),
    "Resize by another transform": (
        [node("Resize", ["x", "", "scales"], ["y"], coordinate_transformation_mode="centre")],
        (2, 2),
        RESIZE,
        17,
        (
            "Resize node that gives 'y' attribute 'coordinate_transformation_mode' must be one of "
            "half_pixel, half_pixel_symmetric, pytorch_half_pixel, align_corners, asymmetric, "
            "tf_crop_and_resize, not centre"
        ),
    ),
    "Resize by another rounding": (
        [node("Resize", ["x", "", "scales"], ["y"], nearest_mode="up")],
        (2, 2),
        RESIZE,
        17,
        (
            "Resize node that gives 'y' attribute 'nearest_mode' must be one of floor, ceil, "
            "round_prefer_floor, round_prefer_ceil, not up"
        ),
    ),
    "Resize by nothing": (
        [node("Resize", ["x"], ["y"])],
        (2, 2),
        {},
        17,
        "Resize node that gives 'y' must have scales or sizes",
    ),
    "Resize of nothing": (
        [
            node(
                "Resize",
                ["x", "", "scales"],
                ["y"],
                mode="cubic",
                coordinate_transformation_mode="asymmetric",
                cubic_coeff_a=4.0,
                exclude_outside=1,
            )
        ],
        (2, 1),
        RESIZE,
        17,
        (
            "Resize node that gives 'y' attribute 'exclude_outside' must leave something of each "
            "place"
        ),
    ),
    "Resize of another part": (
        [
            node(
                "Resize",
                ["x", "roi", "scales"],
                ["y"],
                coordinate_transformation_mode="tf_crop_and_resize",
            )
        ],
        (2, 2),
        RESIZE | {"roi": floats(0, 1)},
        17,
        "Resize node that gives 'y' must have a roi of 6 numbers, not 2",
    ),
    "sums along axes that the batch decides": (
        [node("Shape", ["x"], ["axes"], end=1), node("ReduceSum", ["x", "axes"], ["y"])],
        (4,),
        {},
        17,
        "ReduceSum node that gives 'y' must have the same axes, whatever the batch",
    ),
    "a slice of nothing": (
        [node("Slice", ["x", "start", "end", "axis"], ["y"])],
        (4,),
        {"start": ints(2), "end": ints(2), "axis": ints(1)},
        17,
        "Slice node that gives 'y' must leave something of its input, not shape [0]",
    ),
    "a row without a number": (
        [node("Add", ["x", "m"], ["s"]), node("Softmax", ["s"], ["y"])],
        (2, 2),
        {"m": floats((-np.inf, -np.inf), (0, 0))},
        17,
        (
            "Softmax node that gives 'y' must have a finite number along each axis, and only such "
            "of a logarithm; --cut s can end the network before it"
        ),
    ),
    "a past of other heads": (
        [
            node("Slice", ["x", "start", "end", "axis"], ["p"]),
            node("Attention", ["x", "x", "x", "", "p", "p"], ["y"]),
        ],
        (2, 3, 4),
        {"start": ints(0), "end": ints(1), "axis": ints(1)},
        23,
        "Attention node that gives 'y' must have a past like [2, 3, 4], not [1, 3, 4]",
    ),
    "a mask that the batch decides": (
        [
            *BATCH,
            node("Cast", ["p"], ["f"], to=TensorProto.FLOAT),
            node("Attention", ["x", "x", "x", "f"], ["y"]),
        ],
        (2, 3, 4),
        {"pair": ints(1, 1, 1)},
        23,
        "Attention node that gives 'y' must have one mask, whatever the batch",
    ),
    "a mask of few axes from frame to frame": (
        [
            node("ReduceSum", ["x", "axes"], ["m"], keepdims=0),
            node("Attention", ["x", "x", "x", "m"], ["y"]),
        ],
        (2, 3, 3),
        {"axes": ints(1)},
        23,
        (
            "Attention node that gives 'y' must have a mask of 4 axes where it differs from frame "
            "to frame"
        ),
    ),
}


@pytest.mark.parametrize(
    ("nodes", "frame", "constants", "opset", "sentence"), CASES.values(), ids=CASES
)
def test_node_is_refused(tmp_path, nodes, frame, constants, opset, sentence):
    model = model_of(nodes, {"x": frame}, ["y"], constants, opset=opset)
    assert refusal(model, tmp_path) == sentence


def plain():
    return model_of([node("Add", ["x", "c"], ["y"])], {"x": (4,)}, ["y"], {"c": seeded(4)})


def test_file_is_refused(tmp_path):
    twice = plain()
    twice.graph.node[0].CopyFrom(node("Flatten", ["x"], ["y"], axis=1))
    twice.graph.node[0].attribute.append(AttributeProto(name="axis", i=1, type=AttributeProto.INT))
    expected = "Flatten node that gives 'y' must have each attribute once"
    assert refusal(twice, tmp_path) == expected
    sparse = plain()
    sparse.graph.sparse_initializer.add()
    expected = "'FOLDER/model.onnx' holds sparse weights, which are not supported"
    assert refusal(sparse, tmp_path) == expected
    shapeless = plain()
    shapeless.graph.input[0].type.tensor_type.ClearField("shape")
    assert refusal(shapeless, tmp_path) == "input 'x' must have a shape, not none"
    constant = plain()
    del constant.graph.input[:]
    constant.graph.node[0].input[0] = "c"
    expected = "'FOLDER/model.onnx' must have an input that leads to an output"
    assert refusal(constant, tmp_path) == expected
    huge = plain()
    huge.graph.initializer[0].ClearField("raw_data")
    huge.graph.initializer[0].dims[:] = [BYTES_LIMIT]
    huge.graph.initializer[0].data_location = TensorProto.EXTERNAL
    huge.graph.initializer[0].external_data.add(key="location", value="weights")
    expected = "'FOLDER/model.onnx' external data must have at most 256 MiB, not 1024 MiB"
    assert refusal(huge, tmp_path) == expected
    content = plain().SerializeToString().replace(b"\x01c", b"\x01\xff")
    (tmp_path / "bytes.onnx").write_bytes(content)
    with refused(InputError, f"{str(tmp_path / 'bytes.onnx')!r} must have names in UTF-8"):
        import_onnx(tmp_path / "bytes.onnx")


X, Y = Port("x", "x", (2,), (0,)), Port("y", "a", (2,), (0,))
GRAPHS = {
    "Graph node a must come after its source 'b'": ((Reshape("a", ("b",), (2,)),), (Y,)),
    "Graph names must be unique, not 'a' twice": ((Reshape("a", ("x",), (2,)),) * 2, (Y,)),
    "Graph output y must have shape (2,), not (2, 1)": ((Reshape("a", ("x",), (2, 1)),), (Y,)),
    "Graph output y must have shape (2,), not None": ((), (Y,)),
}


@pytest.mark.parametrize("sentence", GRAPHS)
def test_graph_is_refused(sentence):
    with refused(InputError, sentence):
        Graph((X,), *GRAPHS[sentence])


def test_data_of_several_inputs_come_by_name():
    graph = Graph((X, replace(X, name="z", source="z")), (Reshape("a", ("x",), (2,)),), (Y,))
    with refused(InputError, "the network has 2 inputs, so data must come by name: x, z"):
        evaluate(graph, np.zeros((1, 2)))


def test_a_function_of_many_codes_is_refused(tmp_path):
    path = saved(model_of([node("Tanh", ["x"], ["y"])], {"x": (4,)}, ["y"]), tmp_path)
    sentence = "layer tanh1 must read numbers of at most 16 bits, not s17.4"
    with refused(InputError, sentence):
        quantise(import_onnx(path), input_format="s17.4")


def test_a_name_with_a_zero_byte_is_that_of_nothing():
    with refused(InputError, f"{'a' + chr(0)!r} does not exist"):
        import_onnx("a\0")


def test_what_the_package_has_not_is_said():
    with refused(AttributeError, "module 'bitblocks' has no attribute 'imports'"):
        bitblocks.imports  # noqa: B018


LAYERS = {
    "Reshape a input must have 3 elements, not shape (4,)": (Reshape("a", ("x",), (3,)), [(4,)]),
    "Scale a input must have shape (3,), not (4,)": (
        Scale("a", ("x",), seeded(3), seeded(3)),
        [(4,)],
    ),
    "Convolution a input must have 1 spatial axes and 2 channels, not shape (4, 3)": (
        Convolution("a", ("x",), seeded(1, 2, 2), seeded(1), (1,), (1,), ((0, 0),)),
        [(4, 3)],
    ),
    "TransposedConvolution a input must have 1 spatial axes and 2 channels, not shape (4, 3)": (
        TransposedConvolution("a", ("x",), seeded(1, 2, 2), seeded(1), (1,), (1,), ((0, 0),)),
        [(4, 3)],
    ),
    "Arg a input must have 2 numbers or more on its last axis, not shape (3, 1)": (
        Arg("a", ("x",), True),
        [(3, 1)],
    ),
    "MaxPool a input must have 2 spatial axes and channels, not shape (4, 3)": (
        MaxPool("a", ("x",), (2, 2), (1, 1), (1, 1), ((0, 0), (0, 0))),
        [(4, 3)],
    ),
    (
        "Attention a inputs must be tokens of heads that fit, "
        "not of shapes (2, 3, 4), (2, 2, 4) and (2, 2, 4)"
    ): (
        Attention("a", ("q", "k", "v"), 1.0, np.zeros(()), np.ones((), bool)),
        [(2, 3, 4), (2, 2, 4), (2, 2, 4)],
    ),
    "Concat a inputs must have one shape but for axis 0, not (2, 3) and (2, 4)": (
        Concat("a", ("x", "y"), 0),
        [(2, 3), (2, 4)],
    ),
    "Rearrange a index must lie in its input of shape (2,), not reach 2": (
        Rearrange("a", ("x",), ints(2)),
        [(2,)],
    ),
    "Reduce a input must have axes (1,), not shape (4,)": (
        Reduce("a", ("x",), "sum", (1,)),
        [(4,)],
    ),
    "TopK a input must have 3 numbers or more, not shape (2,)": (
        TopK("a", ("x",), 3, False, "both"),
        [(2,)],
    ),
    "Softmax a input must have an axis, not shape ()": (Softmax("a", ("x",)), [()]),
    "Linear a input must have 3 elements on its last axis, not shape (4,)": (
        Linear("a", ("x",), seeded(2, 3), seeded(2)),
        [(4,)],
    ),
    "PRelu a input must have 3 channels, not shape (4,)": (PRelu("a", ("x",), seeded(3)), [(4,)]),
    "Divide a inputs must have one shape, not (3,) and (4,)": (
        Divide("a", ("x", "y")),
        [(3,), (4,)],
    ),
    "MatMul a inputs must be rows of one length, not of shapes (2, 3) and (2, 4)": (
        MatMul("a", ("x", "y")),
        [(2, 3), (2, 4)],
    ),
    "Norm a input must have 3 channels, not shape (4,)": (
        Norm("a", ("x",), seeded(3), seeded(3), 1.0),
        [(4,)],
    ),
}


@pytest.mark.parametrize("sentence", LAYERS)
def test_layer_refuses_shapes(sentence):
    layer, shapes = LAYERS[sentence]
    with refused(InputError, sentence):
        layer.shape(*shapes)
