# SPDX-License-Identifier: Apache-2.0
"""The ONNX importer against onnx's own reference evaluator, and its refusals."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from material import NETWORKS
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx_models import assert_equals_onnx, model_of, norm, outputs_of, refusal, saved, seeded

from bitblocks import InputError, build, evaluate, import_onnx, run
from bitblocks.layers import Arg, Identity, Linear, PartialActivation, PRelu, Reshape, Scale

DIGITS = Path(__file__).parents[1] / "examples" / "digits" / "digits.onnx"


GEMM = {
    "plain": {},
    "alpha": {"alpha": 0.5},
    "beta": {"beta": -2.0},
    "transB": {"transB": 1},
    "all": {"alpha": -1.5, "beta": 0.25, "transB": 1, "transA": 0},
}


@pytest.mark.parametrize("attributes", GEMM.values(), ids=GEMM)
@pytest.mark.parametrize("c", [None, (), (1,), (5,), (1, 5), (1, 1)], ids=str)
def test_gemm_equals_onnx(tmp_path, attributes, c):
    shape = (5, 4) if attributes.get("transB") else (4, 5)
    constants = {"w": seeded(*shape, seed=5)}
    if c is not None:
        constants["c"] = np.asarray(seeded(*c, seed=6))
    nodes = [helper.make_node("Gemm", ["x", *constants], ["y"], name="fc", **attributes)]
    graph = assert_equals_onnx(
        model_of(nodes, {"x": (4,)}, ["y"], constants), tmp_path, {"x": (4,)}
    )
    assert [type(node) for node in graph.nodes] == [Linear]


@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_gemm_with_a_residual_as_c_equals_onnx(tmp_path, beta):
    nodes = [helper.make_node("Gemm", ["x", "w", "x"], ["y"], beta=beta)]
    model = model_of(nodes, {"x": (4,)}, ["y"], {"w": seeded(4, 4)})
    assert_equals_onnx(model, tmp_path, {"x": (4,)})


MATMUL = {  # frame shape, constant, constant on the left, output frame shape
    "right": ((4,), (4, 5), False),
    "right, one output": ((4,), (4, 1), False),
    "positions": ((3, 4), (4, 5), False),
    "planes": ((2, 3, 4), (4, 5), False),
    "batched constant of one": ((3, 4), (1, 4, 5), False),
    "vector": ((3, 4), (4,), False),
    "left": ((4, 3), (5, 4), True),
    "left of one column": ((4, 1), (5, 4), True),
    "left vector": ((4, 3), (4,), True),
}


@pytest.mark.parametrize(("frame", "constant", "left"), MATMUL.values(), ids=MATMUL)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_matmul_equals_onnx(tmp_path, frame, constant, left, dtype):
    weight = seeded(*constant, seed=7).astype(dtype)
    nodes = [helper.make_node("MatMul", ["w", "x"] if left else ["x", "w"], ["y"])]
    graph = import_onnx(saved(model_of(nodes, {"x": frame}, ["y"], {"w": weight}), tmp_path))
    x = seeded(2, *frame)
    want = np.matmul(weight.astype(float), x) if left else np.matmul(x, weight.astype(float))
    np.testing.assert_allclose(outputs_of(graph, x)["y"], want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(), (1,), (4,), (1, 4), (3, 1), (3, 4), (1, 3, 4)], ids=str)
@pytest.mark.parametrize("swap", [False, True])
def test_added_constant_equals_onnx(tmp_path, shape, swap):
    sources = ["b", "x"] if swap else ["x", "b"]
    constants = {"b": np.asarray(seeded(*shape, seed=8))}
    model = model_of([helper.make_node("Add", sources, ["y"])], {"x": (3, 4)}, ["y"], constants)
    graph = assert_equals_onnx(model, tmp_path, {"x": (3, 4)})
    assert [type(node) for node in graph.nodes] == [Scale]


@pytest.mark.parametrize("shape", [(), (4,), (3, 1), (1, 3, 4)], ids=str)
@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("kind", ["Sub", "Mul", "Div"])
def test_arithmetic_with_a_constant_equals_onnx(tmp_path, kind, swap, shape):
    constants = {"c": np.asarray(seeded(*shape, seed=8)) + np.float32(3)}
    node = helper.make_node(kind, ["c", "x"] if swap else ["x", "c"], ["y"])
    model = model_of([node], {"x": (3, 4)}, ["y"], constants)
    graph = assert_equals_onnx(model, tmp_path, {"x": (3, 4)})
    kinds = [Scale]
    if kind == "Div" and swap:
        kinds = [PartialActivation] if shape == () else [PartialActivation, Scale]
    assert [type(node) for node in graph.nodes] == kinds


PAIRS = {  # shapes of a and of b
    "equal": ((3, 4, 2), (3, 4, 2)),
    "a gate for each channel": ((3, 4, 2), (3, 1, 1)),
    "both repeated": ((3, 1, 2), (1, 4, 1)),
    "vectors": ((5,), (1,)),
}


@pytest.mark.parametrize(("a", "b"), PAIRS.values(), ids=PAIRS)
@pytest.mark.parametrize("kind", ["Add", "Sub", "Mul", "Div", "Max", "Min"])
def test_arithmetic_of_two_frames_equals_onnx(tmp_path, kind, a, b):
    nodes = [helper.make_node(kind, ["a", "b"], ["z"]), helper.make_node("Relu", ["z"], ["y"])]
    model = model_of(nodes, {"a": a, "b": b}, ["y", "z"])
    assert_equals_onnx(model, tmp_path, {"a": a, "b": b})


@pytest.mark.parametrize("constant", [(), (4,), (3, 1), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("kind", ["Max", "Min", "Add", "Mul", "Sum"])
def test_frames_beside_constants_equal_onnx(tmp_path, kind, constant):
    """A constant that is longer than the frame repeats it."""
    nodes = [helper.make_node(kind, ["x", "c"], ["y"])]
    model = model_of(nodes, {"x": (3, 1)}, ["y"], {"c": np.asarray(seeded(*constant))})
    if constant == (2, 3, 4):
        expected = (
            f"{kind} node that gives 'y' constant 'c' must fit one frame of shape [3, 1], "
            "not have shape [2, 3, 4]"
        )
        assert refusal(model, tmp_path) == expected
    else:
        assert_equals_onnx(model, tmp_path, {"x": (3, 1)})


EXPONENTS = {
    "root": np.float32(0.5),
    "itself": np.array([1], np.int64),
    "square": np.int32(2),
    "cube": np.float64(3),
    "inverse": np.float32(-1),
    "each its own": np.array([[1, 2, 0.5], [2, 2, -1], [3, 1, 0]], np.float32),
    "by channel": np.array([[2], [1.5], [2]], np.float32),
}


@pytest.mark.parametrize("exponent", EXPONENTS.values(), ids=EXPONENTS)
def test_pow_equals_onnx(tmp_path, exponent):
    nodes = [node("Abs", ["x"], ["a"]), node("Pow", ["a", "p"], ["y"])]
    model = model_of(nodes, {"x": (3, 3)}, ["y"], {"p": exponent})
    assert_equals_onnx(model, tmp_path, {"x": (3, 3)})


SLOPES = {  # frame, slope, slopes of the layer
    "one": ((3, 4, 2), (), 4),
    "by channel": ((3, 4, 2), (3, 1, 1), 3),
    "by row": ((3, 4, 2), (4, 1), 4),
    "along the last axis": ((3, 4, 2), (2,), 2),
    "each its own": ((3, 4, 2), (3, 4, 2), 24),
    "vector": ((5,), (5,), 5),
}


@pytest.mark.parametrize(("frame", "slope", "count"), SLOPES.values(), ids=SLOPES)
def test_prelu_equals_onnx(tmp_path, frame, slope, count):
    nodes = [node("PRelu", ["x", "s"], ["y"])]
    model = model_of(nodes, {"x": frame}, ["y"], {"s": np.asarray(seeded(*slope))})
    graph = assert_equals_onnx(model, tmp_path, {"x": frame})
    (layer,) = (layer for layer in graph.nodes if isinstance(layer, PRelu))
    assert slope == () or len(layer.slope) == count


@pytest.mark.parametrize("kind", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize(("frame", "axis"), [((5,), 1), ((3, 4), -2), ((2, 3, 4), 3)], ids=str)
def test_index_of_the_extreme_equals_onnx(tmp_path, kind, frame, axis, keep, last):
    attributes = {"axis": axis, "keepdims": keep, "select_last_index": last}
    nodes = [node("Floor", ["x"], ["f"]), node(kind, ["f"], ["y"], **attributes)]
    graph = import_onnx(saved(model := model_of(nodes, {"x": frame}, ["y"]), tmp_path))
    if keep == 0 and frame == (5,):
        assert outputs_of(graph, seeded(3, 5))["y"].shape == (3,)
    x = seeded(40, *frame)
    (want,) = ReferenceEvaluator(model).run(None, {"x": x})
    np.testing.assert_array_equal(outputs_of(graph, x)["y"], want)
    assert [layer for layer in graph.nodes if isinstance(layer, Arg)]


CHOICES = {  # what is x, what is y, the condition
    "two frames": (None, None, (3, 1)),
    "a frame and a constant": (None, (3, 4), (4,)),
    "a constant and a frame": ((), None, (3, 4)),
    "a long condition": (None, None, (3, 4)),
}


@pytest.mark.parametrize(("x", "y", "shape"), CHOICES.values(), ids=CHOICES)
def test_where_equals_onnx(tmp_path, x, y, shape):
    constants = {"c": seeded(*shape, seed=4) > 0}
    constants |= (
        {"k": np.asarray(seeded(*(x or y or ())))}
        if None in (x, y) and (x, y) != (None, None)
        else {}
    )
    sources = ["c", "a" if x is None else "k", "b" if y is None else "k"]
    inputs = {name: (3, 4) if name == "a" else (3, 1) for name in sources if name in "ab"}
    model = model_of([node("Where", sources, ["y"])], inputs, ["y"], constants)
    assert_equals_onnx(model, tmp_path, inputs)


def test_inputs_of_which_only_the_shape_is_used_are_left_out(tmp_path):
    nodes = [node("Shape", ["a"], ["n"]), node("Reshape", ["x", "n"], ["y"])]
    graph = import_onnx(saved(model_of(nodes, {"a": (2, 6), "x": (3, 4)}, ["y"]), tmp_path))
    assert [port.name for port in graph.inputs] == ["x"]


def test_class_of_each_frame_is_a_number_without_axes(tmp_path):
    """From the file to the build directory and back."""
    nodes = [node("ArgMax", ["x"], ["y"], axis=1, keepdims=0)]
    graph = import_onnx(saved(model_of(nodes, {"x": (4,)}, ["y"]), tmp_path))
    x = np.random.default_rng(0).integers(-128, 128, (20, 4)) / 32
    built = build(graph, tmp_path / "built", input_format="s8.5")
    assert built.project.outputs[0].shape == ()
    assert run(tmp_path / "built", x).tolist() == x.argmax(1).tolist()
    assert run(built.project, x).tolist() == x.argmax(1).tolist()


def test_outputs_that_nothing_uses_are_left_out(tmp_path):
    nodes = [node("LayerNormalization", ["x", "s"], ["y", "m", "d"])]
    model = model_of(nodes, {"x": (3, 4)}, ["y"], {"s": seeded(4)})
    assert_equals_onnx(model, tmp_path, {"x": (3, 4)})


def test_arithmetic_of_several_frames_equals_onnx(tmp_path):
    nodes = [
        helper.make_node("Max", ["a", "b", "a"], ["c"]),
        helper.make_node("Min", ["c", "a"], ["d"]),
        helper.make_node("Mean", ["d", "b"], ["e"]),
        helper.make_node("Sum", ["d", "e", "c"], ["y"]),
    ]
    inputs = {"a": (3, 4), "b": (3, 4)}
    assert_equals_onnx(model_of(nodes, inputs, ["y"]), tmp_path, inputs)


def test_frames_that_would_meet_frames_of_others_are_refused(tmp_path):
    nodes = [helper.make_node("Add", ["a", "b"], ["y"])]
    model = model_of(nodes, {"a": (3, 4), "b": (4,)}, ["y"])
    expected = "Add node that gives 'y' must add equal shapes, not [3, 4] and [4]"
    assert refusal(model, tmp_path) == expected


AXES = [
    (frame, axis)
    for frame in ((5,), (3, 4), (2, 3, 4))
    for axis in (None, 1, 2, -1)
    if axis is None or axis <= len(frame)
]


@pytest.mark.parametrize("opset", [12, 17])
@pytest.mark.parametrize("kind", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize(("frame", "axis"), AXES, ids=str)
def test_softmax_equals_onnx(tmp_path, kind, axis, frame, opset):
    attributes = {} if axis is None else {"axis": axis}
    nodes = [helper.make_node(kind, ["x"], ["y"], **attributes)]
    model = model_of(nodes, {"x": frame}, ["y"], opset=opset)
    graph = import_onnx(saved(model, tmp_path))
    x = seeded(3, *frame).astype(float)
    first = (1 if opset == 12 else -1) if axis is None else axis
    first %= x.ndim
    along = tuple(range(first, x.ndim)) if opset == 12 else (first,)
    shares = np.exp(x) / np.exp(x).sum(axis=along, keepdims=True)
    want = np.log(shares) if kind == "LogSoftmax" else shares
    np.testing.assert_allclose(outputs_of(graph, x)["y"], want, rtol=1e-12)


def test_division_by_zero_is_refused(tmp_path):
    node = helper.make_node("Div", ["x", "c"], ["y"])
    model = model_of([node], {"x": (3,)}, ["y"], {"c": np.array([1, 0, 1], np.float32)})
    expected = "Div node that gives 'y' must divide by numbers other than 0"
    assert refusal(model, tmp_path) == expected


def test_norm_written_out_goes_into_the_linear_before_it(tmp_path):
    """As Brevitas exports it: (z - mean) / (variance + epsilon) ** 0.5 * scale + offset."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"], name="fc"),
        helper.make_node("Sub", ["z", "mean"], ["a"]),
        helper.make_node("Add", ["variance", "epsilon"], ["v"]),
        helper.make_node("Pow", ["v", "half"], ["deviation"]),
        helper.make_node("Div", ["a", "deviation"], ["b"]),
        helper.make_node("Mul", ["b", "scale"], ["c"]),
        helper.make_node("Neg", ["c"], ["d"]),
        helper.make_node("Sum", ["offset", "d"], ["y"]),
    ]
    names = ("mean", "variance", "scale", "offset")
    constants = {name: seeded(5, seed=seed) for seed, name in enumerate(names)}
    constants["variance"] = constants["variance"] ** 2
    constants |= {"w": seeded(4, 5), "epsilon": np.float32(1e-3), "half": np.float32(0.5)}
    model = model_of(nodes, {"x": (4,)}, ["y"], constants)
    graph = assert_equals_onnx(model, tmp_path, {"x": (4,)})
    assert [layer.name for layer in graph.nodes] == ["fc"]


def test_added_constant_goes_into_the_linear_before_it(tmp_path):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"], name="fc"),
        helper.make_node("Add", ["b", "z"], ["y"]),
    ]
    constants = {"w": seeded(4, 5), "b": seeded(5)}
    graph = assert_equals_onnx(
        model_of(nodes, {"x": (4,)}, ["y"], constants), tmp_path, {"x": (4,)}
    )
    assert [(type(node), node.name) for node in graph.nodes] == [(Linear, "fc")]


@pytest.mark.parametrize("frame", [(4,), (4, 3), (3, 2, 2)], ids=str)
@pytest.mark.parametrize("epsilon", [None, 1e-5, 0.5])
def test_batch_normalization_equals_onnx(tmp_path, frame, epsilon):
    attributes = {} if epsilon is None else {"epsilon": epsilon, "momentum": 0.3}
    node, constants = norm("x", "y", frame[0], **attributes)
    model = model_of([node], {"x": frame}, ["y"], constants)
    graph = assert_equals_onnx(model, tmp_path, {"x": frame})
    assert [type(node) for node in graph.nodes] == [Scale]


def test_batch_normalizations_go_into_the_linears_around_them(tmp_path):
    before, constants = norm("x", "a", 3, seed=10)
    behind, more = norm("z", "b", 5, seed=20)
    nodes = [
        before,
        helper.make_node("Flatten", ["a"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w"], ["z"], name="fc1"),
        behind,
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Gemm", ["c", "v"], ["y"], name="fc2"),
    ]
    constants |= more | {"w": seeded(12, 5), "v": seeded(5, 2)}
    model = model_of(nodes, {"x": (3, 2, 2)}, ["y"], constants)
    graph = assert_equals_onnx(model, tmp_path, {"x": (3, 2, 2)})
    assert [type(n).__name__ for n in graph.nodes] == ["Reshape", "Linear", "Relu", "Linear"]


def test_batch_normalization_behind_a_tensor_read_twice_stays(tmp_path):
    node, constants = norm("z", "n", 4)
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["z"]),
        node,
        helper.make_node("Add", ["z", "n"], ["y"]),
    ]
    model = model_of(nodes, {"x": (4,)}, ["y"], constants | {"w": seeded(4, 4)})
    graph = assert_equals_onnx(model, tmp_path, {"x": (4,)})
    assert [type(node).__name__ for node in graph.nodes] == ["Linear", "Scale", "Add"]


def test_batch_normalization_before_two_linears_goes_into_both(tmp_path):
    node, constants = norm("x", "n", 4)
    nodes = [
        node,
        helper.make_node("Gemm", ["n", "w"], ["a"]),
        helper.make_node("Gemm", ["n", "v"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    constants |= {"w": seeded(4, 4), "v": seeded(4, 4, seed=3)}
    graph = assert_equals_onnx(
        model_of(nodes, {"x": (4,)}, ["y"], constants), tmp_path, {"x": (4,)}
    )
    assert [type(node).__name__ for node in graph.nodes] == ["Linear", "Linear", "Add"]


FLATTEN = {  # axis, batch, frame
    "default": (None, "N", (2, 3, 4)),
    "one": (1, "N", (2, 3, 4)),
    "negative": (-3, "N", (2, 3, 4)),
    "axis 2 behind one channel": (2, "N", (1, 3, 4)),
    "axis 0 of a batch of one": (0, 1, (2, 3, 4)),
    "fixed batch of another length": (1, 789444, (2, 3, 4)),
    "last axis of ones": (3, "N", (1, 1, 4)),
}


@pytest.mark.parametrize(("axis", "batch", "frame"), FLATTEN.values(), ids=FLATTEN)
def test_flatten_equals_onnx(tmp_path, axis, batch, frame):
    attributes = {} if axis is None else {"axis": axis}
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"], **attributes),
        helper.make_node("Gemm", ["flat", "w"], ["y"]),
    ]
    constants = {"w": seeded(int(np.prod(frame)), 5)}
    model = model_of(nodes, {"x": frame}, ["y"], constants, batch=batch)
    frames = 1 if batch == 1 else 3
    graph = assert_equals_onnx(model, tmp_path, {"x": frame}, frames)
    assert graph.inputs[0].shape == frame
    assert graph.inputs[0].axes == (1, 2, 0)  # channels last on the stream


RESHAPE = {  # target, allowzero, batch
    "minus one": ([-1, 24], 0, "N"),
    "zero": ([0, 24], 0, "N"),
    "zero and minus one": ([0, -1], 0, "N"),
    "through two axes": ([0, 4, -1], 0, "N"),
    "two zeros": ([0, 0, 12], 0, "N"),
    "batch of one": ([1, -1], 0, 1),
    "batch of one written out": ([1, 24], 0, 1),
    "no zero allowed": ([-1, 24], 1, "N"),
}


@pytest.mark.parametrize(("target", "allowzero", "batch"), RESHAPE.values(), ids=RESHAPE)
def test_reshape_equals_onnx(tmp_path, target, allowzero, batch):
    nodes = [
        helper.make_node("Reshape", ["x", "s"], ["r"], allowzero=allowzero),
        helper.make_node("Relu", ["r"], ["y"]),
    ]
    constants = {"s": np.array(target, np.int64)}
    model = model_of(nodes, {"x": (2, 3, 4)}, ["y"], constants, batch=batch)
    assert_equals_onnx(model, tmp_path, {"x": (2, 3, 4)}, 1 if batch == 1 else 3)


def test_reshape_into_positions_and_back_equals_onnx(tmp_path):
    nodes = [
        helper.make_node("Reshape", ["x", "s"], ["r"]),
        helper.make_node("MatMul", ["r", "w"], ["z"]),
        helper.make_node("Flatten", ["z"], ["f"]),
        helper.make_node("Gemm", ["f", "v"], ["y"]),
    ]
    constants = {"s": np.array([0, 6, 4]), "w": seeded(4, 5), "v": seeded(30, 2)}
    model = model_of(nodes, {"x": (2, 3, 4)}, ["y"], constants)
    graph = assert_equals_onnx(model, tmp_path, {"x": (2, 3, 4)})
    assert graph.inputs[0].axes == (0, 1, 2)  # the positions decide the order


def test_flattened_image_as_an_output_keeps_its_order(tmp_path):
    nodes = [helper.make_node("Flatten", ["x"], ["y"])]
    graph = assert_equals_onnx(model_of(nodes, {"x": (2, 3, 4)}, ["y"]), tmp_path, {"x": (2, 3, 4)})
    assert graph.inputs[0].axes == (0, 1, 2)
    assert [type(node) for node in graph.nodes] == [Reshape]


def test_two_images_flattened_and_added_equal_onnx(tmp_path):
    inputs = {"a": (2, 3, 3), "b": (18,)}
    nodes = [
        helper.make_node("Flatten", ["a"], ["f"]),
        helper.make_node("Add", ["f", "b"], ["s"]),
        helper.make_node("Relu", ["s"], ["y"]),
    ]
    assert_equals_onnx(model_of(nodes, inputs, ["y", "s"]), tmp_path, inputs)


def test_identity_dropout_and_constants_equal_onnx(tmp_path):
    nodes = [
        helper.make_node("Constant", [], ["w0"], value=numpy_helper.from_array(seeded(5, 4))),
        helper.make_node("Transpose", ["w0"], ["w1"], perm=[1, 0]),
        helper.make_node("Identity", ["w1"], ["w"]),
        helper.make_node("Constant", [], ["shape"], value_ints=[-1, 5]),
        helper.make_node("Constant", [], ["b"], value_floats=[1.0, 2.0, 3.0, 4.0, 5.0]),
        helper.make_node("Constant", [], ["c"], value_float=0.5),
        helper.make_node("Identity", ["x"], ["x1"]),
        helper.make_node("Dropout", ["x1"], ["x2"], seed=1),
        helper.make_node("Gemm", ["x2", "w"], ["z"]),
        helper.make_node("Reshape", ["z", "shape"], ["z1"]),
        helper.make_node("Add", ["z1", "b"], ["z2"]),
        helper.make_node("Add", ["c", "z2"], ["y"]),
    ]
    graph = assert_equals_onnx(model_of(nodes, {"x": (4,)}, ["y"]), tmp_path, {"x": (4,)})
    assert [type(node) for node in graph.nodes] == [Linear]


@pytest.mark.parametrize("flag", [False, True])
def test_dropout_in_training_mode_is_refused(tmp_path, flag):
    nodes = [helper.make_node("Dropout", ["x", "r", "t"], ["y"], name="drop")]
    constants = {"r": np.float32(0.5), "t": np.array(flag)}
    model = model_of(nodes, {"x": (4,)}, ["y"], constants)
    if not flag:
        assert_equals_onnx(model, tmp_path, {"x": (4,)})
    else:
        expected = "Dropout node 'drop' must be in inference mode, not training_mode"
        assert refusal(model, tmp_path) == expected


def test_input_that_is_an_output_passes_an_identity(tmp_path):
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    graph = assert_equals_onnx(model_of(nodes, {"x": (4,)}, ["y"]), tmp_path, {"x": (4,)})
    assert [type(node) for node in graph.nodes] == [Identity]


@pytest.mark.parametrize("batch", ["N", 1, 789444, None, 0])
def test_axis_0_is_the_batch_whatever_its_length(tmp_path, batch):
    nodes = [helper.make_node("Gemm", ["x", "w"], ["y"])]
    model = model_of(nodes, {"x": (4,)}, ["y"], {"w": seeded(4, 5)}, batch=batch)
    graph = import_onnx(saved(model, tmp_path))
    x = seeded(3, 4)
    want = x @ seeded(4, 5)
    np.testing.assert_allclose(outputs_of(graph, x)["y"], want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]
)
def test_integer_weights_are_taken(tmp_path, dtype):
    weight = np.arange(20).reshape(4, 5).astype(dtype)
    nodes = [helper.make_node("Gemm", ["x", "w"], ["y"])]
    graph = import_onnx(saved(model_of(nodes, {"x": (4,)}, ["y"], {"w": weight}), tmp_path))
    np.testing.assert_array_equal(graph.nodes[0].weight, weight.T)


@pytest.mark.parametrize("kind", ["BFLOAT16", "FLOAT16", "INT4", "UINT4"])
def test_small_number_types_are_taken(tmp_path, kind):
    values = [0, 1, 2, 3, 4, 5, 6, 7]
    model = model_of([helper.make_node("Gemm", ["x", "w"], ["y"])], {"x": (4,)}, ["y"])
    tensor = helper.make_tensor("w", getattr(TensorProto, kind), [4, 2], values)
    model.graph.initializer.append(tensor)
    graph = import_onnx(saved(model, tmp_path))
    np.testing.assert_array_equal(graph.nodes[0].weight, np.reshape(values, (4, 2)).T)


@pytest.mark.parametrize(
    ("name", "cut", "shape"),
    [
        ("two_layer_pytorch", "7", (10,)),
        ("three_layer_pytorch", "15", (16,)),
        ("three_layer_keras", "biased_tensor_name3", (16,)),
    ],
)
def test_published_network_equals_onnx(name, cut, shape):
    path = NETWORKS / f"{name}.onnx"
    if not path.exists():
        pytest.skip("the published networks are not beside this checkout")
    graph = import_onnx(path, cut)
    x = seeded(50, *shape)
    model = onnx.load(path)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info(cut, TensorProto.FLOAT, None))
    del model.graph.node[-1]
    (want,) = ReferenceEvaluator(model).run(None, {model.graph.input[0].name: x})
    np.testing.assert_allclose(
        outputs_of(graph, x)[graph.outputs[0].name], want, rtol=1e-5, atol=1e-5
    )


def test_digits_equal_onnx():
    graph = import_onnx(DIGITS)
    x = np.random.default_rng(0).integers(0, 17, (50, 1, 8, 8)).astype(np.float32)
    (want,) = ReferenceEvaluator(str(DIGITS)).run(None, {"image": x})
    np.testing.assert_allclose(outputs_of(graph, x)["logits"], want, rtol=1e-5, atol=1e-5)
    names = [node.name for node in graph.nodes if isinstance(node, Linear)]
    assert names == ["fc1", "residual_fc1", "residual_fc2", "fc2"]


def random_network(generator):
    """A random residual network over one image, with every operator in it now and then."""
    frame = tuple(int(n) for n in generator.integers(1, 4, 3))
    width = int(np.prod(frame))
    nodes, constants, tensors, count = [], {}, {}, 0

    def constant(*shape):
        name = f"c{len(constants)}"
        constants[name] = generator.normal(size=shape).astype(np.float32)
        return name

    if generator.random() < 0.5:
        node, more = norm("x", "x.norm", frame[0], seed=int(generator.integers(1000)))
        nodes.append(node)
        constants |= more
    nodes.append(helper.make_node("Flatten", [nodes[-1].output[0] if nodes else "x"], ["flat"]))
    tensors["flat"] = width
    for count in range(int(generator.integers(1, 9))):
        source = str(generator.choice(list(tensors)))
        size, target = tensors[source], f"t{count}"
        kind = generator.choice(["Gemm", "MatMul", "Add", "Relu", "Norm", "Bias"])
        if kind == "Gemm":
            new = int(generator.integers(1, 6))
            nodes.append(
                helper.make_node(
                    "Gemm", [source, constant(new, size), constant(new)], [target], transB=1
                )
            )
            size = new
        elif kind == "MatMul":
            nodes.append(helper.make_node("MatMul", [source, constant(size, size)], [target]))
        elif kind == "Add":
            other = str(generator.choice([name for name in tensors if tensors[name] == size]))
            nodes.append(helper.make_node("Add", [source, other], [target]))
        elif kind == "Bias":
            nodes.append(helper.make_node("Add", [source, constant(size)], [target]))
        elif kind == "Relu":
            nodes.append(helper.make_node("Relu", [source], [target]))
        else:
            node, more = norm(source, target, size, seed=int(generator.integers(1000)))
            nodes.append(node)
            constants |= more
        tensors[target] = size
    return model_of(nodes, {"x": frame}, [f"t{count}"], constants), {"x": frame}


@pytest.mark.parametrize("seed", range(60))
def test_random_network_equals_onnx(tmp_path, seed):
    model, inputs = random_network(np.random.default_rng(seed))
    assert_equals_onnx(model, tmp_path, inputs)


def test_unneeded_nodes_and_inputs_are_left_out(tmp_path):
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["y"]),
        helper.make_node("Sin", ["unused"], ["z"]),
    ]
    model = model_of(nodes, {"x": (4,), "unused": (3,)}, ["y"], {"w": seeded(4, 5)})
    graph = import_onnx(saved(model, tmp_path))
    assert [port.name for port in graph.inputs] == ["x"]


def test_names_become_unique_plain_words(tmp_path):
    names = ["/block/fc/Gemm", "block/fc", "a'b\n..", "BLOCK.FC", ""]
    nodes = [
        helper.make_node("Gemm", [f"t{i}", "w"], [f"t{i + 1}"], name=name)
        for i, name in enumerate(names)
    ]
    model = model_of(nodes, {"t0": (4,)}, ["t5"], {"w": seeded(4, 4)})
    graph = import_onnx(saved(model, tmp_path))
    assert [node.name for node in graph.nodes] == [
        "block_fc",
        "block_fc_2",
        "a_b",
        "BLOCK_FC_3",
        "linear1",
    ]


# -- refusals ----------------------------------------------------------------------------------


def chain(*nodes, frame=(4,), opset=17, **constants):
    return model_of(list(nodes), {"x": frame}, ["y"], constants, opset=opset)


node = helper.make_node
FC = node("Gemm", ["x", "w"], ["t"], name="fc")
W = seeded(4, 4)
NORM = {name: seeded(4) for name in "abcd"}
NAN = np.array([[np.nan] * 4] * 4, np.float32)
REFUSED = {
    "operator": (
        chain(node("Hardmax", ["x"], ["y"], name="act")),
        "Hardmax node 'act' is not supported",
    ),
    "operator behind a tensor": (
        chain(FC, node("Hardmax", ["t"], ["y"], name="act"), w=W),
        "Hardmax node 'act' is not supported; --cut t can end the network before it",
    ),
    "operator of another domain": (
        chain(FC, node("Relu", ["t"], ["y"], domain="com.example"), w=W),
        (
            "com.example.Relu node that gives 'y' is not supported; "
            "--cut t can end the network before it"
        ),
    ),
    "nested graphs": (
        chain(
            FC,
            node(
                "If",
                ["t"],
                ["y"],
                then_branch=helper.make_graph([], "a", [], []),
                else_branch=helper.make_graph([], "b", [], []),
            ),
            w=W,
        ),
        "If node that gives 'y' is not supported; --cut t can end the network before it",
    ),
    "transA": (
        chain(node("Gemm", ["x", "w"], ["y"], transA=1), w=W),
        "Gemm node that gives 'y' attribute 'transA' must be 0, or it would mix the frames",
    ),
    "unknown attribute": (
        chain(node("Gemm", ["x", "w"], ["y"], broadcast=1), w=W),
        "Gemm node that gives 'y' attribute 'broadcast' is not supported",
    ),
    "attribute of the wrong type": (
        chain(node("Gemm", ["x", "w"], ["y"], alpha="big"), w=W),
        "Gemm node that gives 'y' attribute 'alpha' has no sensible value",
    ),
    "infinite attribute": (
        chain(node("Gemm", ["x", "w"], ["y"], alpha=float("inf")), w=W),
        "Gemm node that gives 'y' attribute 'alpha' has no sensible value",
    ),
    "constant A": (
        chain(node("Gemm", ["w", "x"], ["y"]), w=W),
        "Gemm node that gives 'y' must multiply frames by a constant B",
    ),
    "Gemm of an image": (
        chain(node("Gemm", ["x", "w"], ["y"]), frame=(2, 4), w=W),
        "Gemm node that gives 'y' must multiply matrices, not [2, 4] by [4, 4]",
    ),
    "Gemm of wrong size": (
        chain(node("Gemm", ["x", "w"], ["y"]), frame=(3,), w=W),
        "Gemm node that gives 'y' must have 3 inputs to its weights, not 4",
    ),
    "C with a row per frame": (
        chain(node("Gemm", ["x", "w", "c"], ["y"]), w=W, c=seeded(2, 4)),
        (
            "Gemm node that gives 'y' constant 'c' must fit one frame of shape [4], "
            "not have shape [2, 4]"
        ),
    ),
    "matrix on the left": (
        chain(node("MatMul", ["w", "x"], ["y"]), w=W),
        (
            "MatMul node that gives 'y' must not mix the frames, "
            "as a constant on the left of them would"
        ),
    ),
    "matrices per frame": (
        chain(node("MatMul", ["x", "w"], ["y"]), frame=(2, 4), w=seeded(2, 4, 4)),
        "MatMul node that gives 'y' must multiply by one matrix, the same for all frames",
    ),
    "product of frames": (
        chain(node("MatMul", ["x", "x"], ["y"])),
        "MatMul node that gives 'y' must multiply matrices, not [4] by [4]",
    ),
    "product with a vector": (
        chain(node("MatMul", ["x", "w"], ["y"]), w=seeded(4)),
        "MatMul node that gives 'y' must leave an axis beside the batch, not multiply by a vector",
    ),
    "unequal addends": (
        chain(FC, node("Add", ["t", "x"], ["y"]), w=seeded(4, 3)),
        (
            "Add node that gives 'y' must add equal shapes, not [3] and [4]; "
            "--cut t can end the network before it"
        ),
    ),
    "constant that does not fit": (
        chain(node("Add", ["x", "b"], ["y"]), b=seeded(5)),
        "Add node that gives 'y' constant 'b' must fit one frame of shape [4], not have shape [5]",
    ),
    "PRelu of frames": (
        chain(node("PRelu", ["x", "x"], ["y"])),
        "PRelu node that gives 'y' must have constant slopes",
    ),
    "PRelu of many slopes": (
        chain(node("PRelu", ["x", "s"], ["y"]), frame=(35, 30), s=seeded(35, 30)),
        "PRelu node that gives 'y' must have at most 1024 slopes that no axis shares, not 1050",
    ),
    "Pow of frames": (
        chain(node("Pow", ["x", "x"], ["y"])),
        "Pow node that gives 'y' must have constant exponents",
    ),
    "Pow of many exponents": (
        chain(node("Pow", ["x", "p"], ["y"]), frame=(17,), p=seeded(17)),
        "Pow node that gives 'y' must have at most 16 exponents, not 17",
    ),
    "Pow of a large exponent": (
        chain(node("Pow", ["x", "p"], ["y"]), p=np.float32(65)),
        "Pow node that gives 'y' must have exponents from -64 to 64, not 65",
    ),
    "Where of frames": (
        chain(node("Cast", ["x"], ["c"], to=9), node("Where", ["c", "x", "x"], ["y"])),
        "Cast node that gives 'c' is not supported",
    ),
    "Where of numbers": (
        chain(node("Where", ["c", "x", "x"], ["y"]), c=seeded(4)),
        "Where node that gives 'y' constant 'c' must be of truth values",
    ),
    "Where by frames": (
        chain(node("Where", ["x", "x", "x"], ["y"])),
        "Where node that gives 'y' must have a constant condition",
    ),
    "ArgMax of the batch": (
        chain(node("ArgMax", ["x"], ["y"], axis=0)),
        "ArgMax node that gives 'y' attribute 'axis' must leave the batch alone, not be 0",
    ),
    "ArgMax of one number": (
        chain(node("ArgMax", ["x"], ["y"], axis=1), frame=(1,)),
        "ArgMax node that gives 'y' must choose among 2 numbers or more, not 1",
    ),
    "Mean of constants": (
        chain(node("Mean", ["b", "b"], ["m"]), node("Add", ["x", "m"], ["y"]), b=seeded(4)),
        "Mean node that gives 'm' of a constant is not supported",
    ),
    "used mean": (
        chain(
            node("LayerNormalization", ["x", "s"], ["n", "m"]),
            node("Add", ["n", "m"], ["y"]),
            s=seeded(4),
        ),
        "LayerNormalization node that gives 'n' output 'Mean' must not be used",
    ),
    "Pad of other axes": (
        chain(node("Pad", ["x", "p"], ["y"]), p=np.array([0, 1], np.int64)),
        "Pad node that gives 'y' must have 4 pads, not 2",
    ),
    "used indices": (
        chain(
            node("MaxPool", ["x"], ["m", "i"], kernel_shape=[1]),
            node("Add", ["m", "i"], ["y"]),
            frame=(2, 4),
        ),
        "MaxPool node that gives 'm' output 'Indices' must not be used",
    ),
    "used mask": (
        chain(node("Dropout", ["x"], ["d", "m"]), node("Where", ["m", "d", "d"], ["y"])),
        "Dropout node that gives 'd' output 'mask' must not be used",
    ),
    "batch normalisation that trains": (
        chain(node("BatchNormalization", ["x", *"abcd"], ["y", "m"]), opset=9, **NORM),
        "BatchNormalization node that gives 'y' must be in inference mode, which has one output",
    ),
    "Flatten of the batch": (
        chain(node("Flatten", ["x"], ["y"], axis=0)),
        "Flatten node that gives 'y' attribute 'axis' must leave axis 0 the batch, not be 0",
    ),
    "Flatten of channels into the batch": (
        chain(node("Flatten", ["x"], ["y"], axis=2), frame=(3, 4)),
        "Flatten node that gives 'y' attribute 'axis' must leave axis 0 the batch, not be 2",
    ),
    "Flatten beyond the axes": (
        chain(node("Flatten", ["x"], ["y"], axis=3)),
        "Flatten node that gives 'y' attribute 'axis' must be in [-2, 2], not 3",
    ),
    "Reshape that fixes the batch": (
        chain(node("Reshape", ["x", "s"], ["y"]), s=np.array([1, 4])),
        "Reshape node that gives 'y' must leave axis 0 the batch, not reshape [batch, 4] to [1, 4]",
    ),
    "Reshape that splits frames": (
        chain(node("Reshape", ["x", "s"], ["y"]), s=np.array([-1, 2])),
        "output 'y' must have the batch alone on axis 0",
    ),
    "Reshape without a batch": (
        chain(node("Reshape", ["x", "s"], ["y"]), s=np.array([-1])),
        "output 'y' must have the batch alone on axis 0",
    ),
    "Reshape by a computed shape": (
        chain(node("Reshape", ["x", "x"], ["y"])),
        "Reshape node that gives 'y' must have a constant shape",
    ),
    "Reshape with zero allowed": (
        chain(node("Reshape", ["x", "s"], ["y"], allowzero=1), s=np.array([0, 4])),
        "Reshape node that gives 'y' must have a shape of at most one -1 and no 0, not [0, 4]",
    ),
    "Reshape from a missing axis": (
        chain(node("Reshape", ["x", "s"], ["y"]), s=np.array([-1, 4, 0])),
        (
            "Reshape node that gives 'y' must take a 0 in its shape from an axis of the input: "
            "[-1, 4, 0]"
        ),
    ),
    "norm in training": (
        chain(
            node("BatchNormalization", ["x", "w", "w", "w", "v"], ["y"], training_mode=1),
            w=seeded(4),
            v=np.ones(4, np.float32),
        ),
        "BatchNormalization node that gives 'y' must be in inference mode, not training_mode",
    ),
    "norm of negative variance": (
        chain(
            node("BatchNormalization", ["x", "w", "w", "w", "v"], ["y"]),
            w=seeded(4),
            v=-np.ones(4, np.float32),
        ),
        "BatchNormalization node that gives 'y' variance and epsilon must sum to more than 0",
    ),
    "norm of wrong length": (
        chain(node("BatchNormalization", ["x", "w", "w", "w", "w"], ["y"]), w=seeded(3)),
        "BatchNormalization node that gives 'y' parameter 'w' must have shape [4], not [3]",
    ),
    "transposed frames": (
        chain(node("Transpose", ["x"], ["y"], perm=[1, 0])),
        "output 'y' must have the batch on axis 0, not 1",
    ),
    "NaN weight": (
        chain(node("Gemm", ["x", "w"], ["y"]), w=NAN),
        "constant 'w' must be finite, not NaN or infinite",
    ),
    "infinite weight": (
        chain(node("Gemm", ["x", "w"], ["y"]), w=np.full((4, 4), np.inf, np.float32)),
        "constant 'w' must be finite, not NaN or infinite",
    ),
    "weights of text": (
        chain(node("Gemm", ["x", "w"], ["y"]), w=np.array([["a"]])),
        "constant 'w' must hold numbers, not STRING",
    ),
    "complex weights": (
        chain(node("Gemm", ["x", "w"], ["y"]), w=W.astype(np.complex64)),
        "constant 'w' must hold numbers, not COMPLEX64",
    ),
    "zero-sized layer": (
        chain(node("Gemm", ["x", "w"], ["y"]), w=np.zeros((4, 0), np.float32)),
        "constant 'w' must have elements, not shape [4, 0]",
    ),
    "weights beyond 2**53": (
        chain(node("Gemm", ["x", "w"], ["y"]), w=np.full((4, 4), 2**60)),
        "constant 'w' must be below 2**53 to be exact, not 1152921504606846976",
    ),
    "unsorted nodes": (
        chain(node("Relu", ["t"], ["y"], name="act"), FC, w=W),
        (
            "Relu node 'act' reads tensor 't', "
            "which no earlier node gives: nodes must be sorted and free of cycles"
        ),
    ),
    "cycle": (
        chain(node("Add", ["x", "y"], ["y"], name="loop")),
        (
            "Add node 'loop' reads tensor 'y', "
            "which no earlier node gives: nodes must be sorted and free of cycles"
        ),
    ),
    "tensor from nowhere": (
        chain(node("Relu", ["t"], ["y"])),
        "Relu node that gives 'y' reads tensor 't', which nothing in the file gives",
    ),
    "tensor given twice": (
        chain(FC, node("Relu", ["x"], ["t"]), node("Relu", ["t"], ["y"]), w=W),
        "'FOLDER/model.onnx' must name each tensor once, not 't'",
    ),
    "output from nowhere": (
        model_of([FC], {"x": (4,)}, ["y"], {"w": W}),
        "'FOLDER/model.onnx' has no tensor 'y' for its output; nearest: 'x', 't'",
    ),
    "constant output": (
        model_of(
            [node("Relu", ["x"], ["r"]), node("Identity", ["w"], ["y"])],
            {"x": (4,)},
            ["y", "r"],
            {"w": W},
        ),
        "output 'y' must depend on an input, not be constant",
    ),
    "no outputs": (
        model_of([FC], {"x": (4,)}, [], {"w": W}),
        "'FOLDER/model.onnx' must have outputs, each of them once",
    ),
    "dynamic length": (
        chain(node("Relu", ["x"], ["y"]), frame=("height", 4)),
        "input 'x' must have fixed lengths but for axis 0, not [?, ?, 4]",
    ),
    "zero length": (
        chain(node("Relu", ["x"], ["y"]), frame=(0, 4)),
        "input 'x' must have 1 to 1048576 elements, not [?, 0, 4]",
    ),
    "endless length": (
        chain(node("Relu", ["x"], ["y"]), frame=(2**40,)),
        "input 'x' must have 1 to 1048576 elements, not [?, 1099511627776]",
    ),
    "no axis but the batch": (
        chain(node("Relu", ["x"], ["y"]), frame=()),
        "input 'x' must have a batch axis and at least one more, not [?]",
    ),
    "old operator set": (
        model_of([node("Relu", ["x"], ["y"])], {"x": (4,)}, ["y"], opset=6),
        "'FOLDER/model.onnx' must use one ONNX operator set from 7 to 28, not 6",
    ),
    "too few inputs": (
        chain(node("Gemm", ["x"], ["y"])),
        "Gemm node that gives 'y' must have 2 to 3 inputs, not 1",
    ),
}


@pytest.mark.parametrize(("model", "message"), REFUSED.values(), ids=REFUSED)
def test_model_is_refused_by_name(tmp_path, model, message):
    assert refusal(model, tmp_path) == message


def test_batch_of_two_lengths_is_refused(tmp_path):
    model = model_of([node("Add", ["a", "b"], ["y"])], {"a": (4,), "b": (4,)}, ["y"], batch=3)
    model.graph.input[1].type.tensor_type.shape.dim[0].dim_value = 4
    expected = "'FOLDER/model.onnx' inputs must agree on axis 0, the batch, not have 3 and 4"
    assert refusal(model, tmp_path) == expected


def test_input_of_integers_is_refused(tmp_path):
    model = chain(node("Relu", ["x"], ["y"]))
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT32
    assert refusal(model, tmp_path) == "input 'x' must be a tensor of floats, not INT32"


def test_cut_names_its_neighbours(tmp_path):
    model = chain(FC, node("Softmax", ["t"], ["y"]), w=W)
    expected = "'FOLDER/model.onnx' has no tensor 'tt' for its cut; nearest: 't'"
    assert refusal(model, tmp_path, "tt") == expected
    graph = import_onnx(tmp_path / "model.onnx", "t")
    assert [port.name for port in graph.outputs] == ["t"]
    assert refusal(tmp_path / "model.onnx", tmp_path, "w").startswith(
        "'FOLDER/model.onnx' has no tensor 'w' for its cut"
    )


def test_missing_empty_foreign_and_truncated_files_are_refused(tmp_path):
    content = DIGITS.read_bytes()
    cases = {
        "empty": (b"", "is empty"),
        "text": (b"hello, this is no model", "is not an ONNX model, or is cut off"),
        "zip": (b"PK\x03\x04" + bytes(100), "is not an ONNX model, or is cut off"),
        "cut": (content[: len(content) // 2], "is not an ONNX model, or is cut off"),
        "zeros": (bytes(1000), "is not an ONNX model, or is cut off"),
    }
    for name, (text, rule) in cases.items():
        (tmp_path / name).write_bytes(text)
        assert refusal(tmp_path / name, tmp_path) == f"'FOLDER/{name}' {rule}"
    assert refusal(tmp_path / "missing", tmp_path) == "'FOLDER/missing' does not exist"
    expected = "'FOLDER' must be a file, not a folder or a device"
    assert refusal(tmp_path, tmp_path) == expected


def test_file_of_a_gigabyte_is_refused_without_reading_it(tmp_path):
    path = tmp_path / "huge.onnx"
    with path.open("wb") as file:
        file.truncate(2**30)  # a hole: it takes no space
    expected = "'FOLDER/huge.onnx' must have at most 256 MiB, not 1024 MiB"
    assert refusal(path, tmp_path) == expected


@pytest.mark.parametrize("depth", [3, 2000])
def test_graphs_within_graphs_are_refused(tmp_path, depth):
    def field(number, content):
        """A protobuf field of bytes; writing nested messages through protobuf is too slow."""
        size, head = len(content), bytearray([number << 3 | 2])
        while size > 127:
            head.append(size & 127 | 128)
            size >>= 7
        return bytes([*head, size]) + content

    inner = field(2, b"inner")
    for _ in range(depth):  # graph { node { op_type: "If", attribute { g: graph } } }
        branch = field(1, b"then_branch") + field(6, inner)
        node_text = field(1, b"t") + field(2, b"y") + field(4, b"If") + field(5, branch)
        inner = field(1, node_text)
    model = chain(FC, node("Relu", ["t"], ["z"]), w=W)
    path = tmp_path / "nested.onnx"
    path.write_bytes(model.SerializeToString() + field(7, inner))
    if depth < 100:
        expected = "If node that gives 'y' is not supported; --cut t can end the network before it"
        assert refusal(path, tmp_path) == expected
    else:  # deeper than protobuf follows
        assert refusal(path, tmp_path) == "'FOLDER/nested.onnx' is not an ONNX model, or is cut off"


def with_external(folder, location, weight=W, **entries):
    model = chain(FC, node("Relu", ["t"], ["y"]))
    tensor = TensorProto(dims=weight.shape, data_type=TensorProto.FLOAT, name="w")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    model.graph.initializer.append(tensor)
    return saved(model, folder)


def test_external_data_beside_the_model_is_read(tmp_path):
    (tmp_path / "weights.bin").write_bytes(bytes(16) + W.tobytes())
    graph = import_onnx(with_external(tmp_path, "weights.bin", offset=16, length=64))
    np.testing.assert_array_equal(graph.nodes[0].weight, W.T)


def test_external_data_elsewhere_is_refused(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    outside = tmp_path / "weights.bin"
    outside.write_bytes(W.tobytes())
    (folder / "link.bin").symlink_to(outside)
    (folder / "linked").symlink_to(tmp_path)
    (folder / "loop").symlink_to(folder / "loop")
    rule = "constant 'w' external data must lie in the folder of the model, not at "
    for location in ("../weights.bin", str(outside), "link.bin", "linked/weights.bin", ""):
        shown = repr(location.replace(str(tmp_path), "FOLDER"))
        assert refusal(with_external(folder, location), tmp_path) == rule + shown
    assert refusal(with_external(folder, "missing.bin"), tmp_path).endswith("does not exist")
    (folder / "short.bin").write_bytes(bytes(60))
    expected = "'FOLDER/model/short.bin' must have 64 bytes, not 60"
    assert refusal(with_external(folder, "short.bin"), tmp_path) == expected
    expected = "constant 'w' external data must have 64 bytes from a valid offset"
    for entries in ({"offset": -1}, {"length": 10}, {"length": "ten"}):
        assert refusal(with_external(folder, "short.bin", **entries), tmp_path) == expected
    for entries in ({"offset": "ten"},):
        assert refusal(with_external(folder, "short.bin", **entries), tmp_path) == (
            "constant 'w' must name its external data rightly"
        )
    for location in ("loop", "nul\0byte"):
        assert refusal(with_external(folder, location), tmp_path) == (
            "constant 'w' must name its external data rightly"
        )


def test_data_shorter_than_its_shape_is_refused(tmp_path):
    model = chain(FC, node("Relu", ["t"], ["y"]), w=W)
    model.graph.initializer[0].dims[0] = 2**40
    expected = f"constant 'w' must hold {2**42} numbers of FLOAT, not other data"
    assert refusal(model, tmp_path) == expected


@pytest.mark.parametrize("seed", range(300))
def test_damaged_file_is_refused_or_read(tmp_path, seed):
    generator = np.random.default_rng(seed)
    content = bytearray(DIGITS.read_bytes())
    heads = [match.start() for match in re.finditer(rb"[a-z]{3,}", bytes(content))]
    for _ in range(int(generator.integers(1, 4))):
        near = int(generator.choice(heads)) + int(generator.integers(-8, 12))
        content[near % len(content)] = int(generator.integers(256))
    path = tmp_path / "damaged.onnx"
    path.write_bytes(bytes(content))
    try:
        graph = import_onnx(path)
    except InputError as error:
        message = str(error)
    else:
        message = "read"
        evaluate(graph, np.zeros((1, *graph.inputs[0].shape)))
    assert "\n" not in message
    assert len(message) < 400


def test_long_chain_imports(tmp_path):
    count = 5000
    nodes = [node("Relu", [f"t{i}"], [f"t{i + 1}"]) for i in range(count)]
    model = model_of(nodes, {"t0": (2,)}, [f"t{count}"])
    assert len(import_onnx(saved(model, tmp_path)).nodes) == count
