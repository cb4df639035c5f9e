# SPDX-License-Identifier: Apache-2.0
"""Reductions: as ONNX has them, in whatever order a frame travels, and as integers."""

import numpy as np
import pytest
from onnx import helper
from onnx_models import assert_equals_onnx, model_of, outputs_of, refusal, saved, seeded

from bitblocks import import_onnx, layers, quantise
from quant import from_float, to_float

OPERATORS = ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin"]
AXES = [(1,), (2,), (3,), (-1,), (2, 3), (1, 2), (1, 3), (3, 2), (1, 2, 3)]


def axes_of(*axes):
    return np.array(axes, np.int64)


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", AXES, ids=str)
@pytest.mark.parametrize("operator", OPERATORS)
def test_axes_as_input_and_as_attribute(tmp_path, operator, axes, keepdims):
    if len(axes) == 3 and not keepdims:
        return
    inputs = {"x": (3, 4, 5)}
    node = helper.make_node(operator, ["x", "a"], ["y"], keepdims=keepdims)
    assert_equals_onnx(model_of([node], inputs, ["y"], {"a": axes_of(*axes)}, 18), tmp_path, inputs)
    if operator != "ReduceSum":
        node = helper.make_node(operator, ["x"], ["y"], keepdims=keepdims, axes=axes)
        assert_equals_onnx(model_of([node], inputs, ["y"], {}, 12), tmp_path, inputs)


@pytest.mark.parametrize("shape", [(1, 4, 5), (3, 1, 5), (3, 4, 1), (3, 1, 1)], ids=str)
def test_axes_of_one_number_travel_where_they_like(tmp_path, shape):
    for axes in ((1, 2), (1, 3), (2, 3)):
        node = helper.make_node("ReduceMean", ["x", "a"], ["y"])
        model = model_of([node], {"x": shape}, ["y"], {"a": axes_of(*axes)}, 18)
        graph = assert_equals_onnx(model, tmp_path, {"x": shape})
        assert not any(isinstance(layer, layers.Rearrange) for layer in graph.nodes)


def test_the_batch_may_travel_on_another_axis(tmp_path):
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2, 3]),
        helper.make_node("ReduceMax", ["t", "a"], ["y"], keepdims=0),
    ]
    inputs = {"x": (3, 4, 5)}
    assert_equals_onnx(model_of(nodes, inputs, ["y"], {"a": axes_of(0, 2)}, 18), tmp_path, inputs)


def test_no_axes_mean_nothing_where_the_node_says_so(tmp_path):
    nodes = [
        helper.make_node("ReduceSum", ["x", "a"], ["r"], noop_with_empty_axes=1),
        helper.make_node("Relu", ["r"], ["y"]),
    ]
    inputs = {"x": (3, 4)}
    graph = assert_equals_onnx(model_of(nodes, inputs, ["y"], {"a": axes_of()}), tmp_path, inputs)
    assert [type(layer) for layer in graph.nodes] == [layers.Relu]


def test_a_global_mean_needs_no_reordering(tmp_path):
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("ReduceMean", ["c"], ["y"], axes=[2, 3], keepdims=0),
    ]
    inputs, weight = {"x": (2, 5, 5)}, {"w": seeded(4, 2, 3, 3)}
    graph = assert_equals_onnx(model_of(nodes, inputs, ["y"], weight), tmp_path, inputs)
    assert [type(layer).__name__ for layer in graph.nodes] == ["Convolution", "Reduce", "Reshape"]


@pytest.mark.parametrize("rectified", [False, True])
@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("calibrated", [False, True])
def test_integers_are_near_the_floats(tmp_path, operator, rectified, calibrated):
    nodes = [
        helper.make_node(operator, ["x", "a"], ["r"]),
        helper.make_node("Relu" if rectified else "Identity", ["r"], ["y"]),
    ]
    model = model_of(nodes, {"x": (3, 4, 5)}, ["y"], {"a": axes_of(2, 3)}, 18)
    graph = import_onnx(saved(model, tmp_path))
    x = seeded(80, 3, 4, 5)
    network, _ = quantise(graph, x if calibrated else None, 12, 12, input_format="s12.9")
    ((_, tensor),) = network.inputs.items()
    codes = from_float(graph.frames(x)["x"], tensor.format)
    (format,) = (tensor.format for tensor in network.outputs.values())
    have = to_float(network.reference(codes), format)
    (port,) = graph.outputs
    want = outputs_of(graph, x)[port.name].transpose(0, *(axis + 1 for axis in port.axes))
    noise = np.square(have - want).sum() / max(np.square(want).sum(), 1e-9)
    assert noise < 1e-4
    assert len(network.nodes) == 1  # the Relu went into it


REFUSED = {
    "batch": ((0, 2), {}, "attribute 'axes' must leave the batch alone, not be 0"),
    "beyond": ((4,), {}, "attribute 'axes' must be in [-4, 3], not 4"),
    "all": ((), {}, "must leave the batch alone, not reduce all axes"),
    "whole frame": (
        (1, 2, 3),
        {"keepdims": 0},
        "attribute 'keepdims' must be 1 where all axes of a frame are reduced",
    ),
}


@pytest.mark.parametrize(("axes", "attributes", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_wrong_is_refused(tmp_path, axes, attributes, message):
    node = helper.make_node("ReduceMean", ["x", "a"], ["y"], **attributes)
    model = model_of([node], {"x": (3, 4, 5)}, ["y"], {"a": axes_of(*axes)}, 18)
    assert refusal(model, tmp_path) == f"ReduceMean node that gives 'y' {message}"


def test_axes_that_depend_on_a_frame_are_refused(tmp_path):
    node = helper.make_node("ReduceMean", ["x", "z"], ["y"])
    model = model_of([node], {"x": (3, 4), "z": (1,)}, ["y"], {}, 18)
    assert refusal(model, tmp_path) == (
        "ReduceMean node that gives 'y' must have a constant list of axes"
    )


TOPK = {  # shape, axis, K, largest
    "last axis": ((3, 7), -1, 3, 1),
    "channels of an image": ((4, 3, 5), 1, 2, 1),
    "rows of an image, smallest": ((4, 3, 5), 2, 3, 0),
    "all": ((6,), 1, 6, 1),
}


def top_k(shape, axis, count, largest, outputs=("v", "i")):
    node = helper.make_node("TopK", ["x", "k"], [*outputs], axis=axis, largest=largest)
    return model_of([node], {"x": shape}, [n for n in outputs if n], {"k": axes_of(count)})


@pytest.mark.parametrize("case", TOPK.values(), ids=TOPK)
def test_the_best_and_where_they_are(tmp_path, case):
    assert_equals_onnx(top_k(*case), tmp_path, {"x": case[0]})


@pytest.mark.parametrize("outputs", [("v", "i"), ("v", ""), ("", "i")], ids=str)
def test_integers_of_a_sort(tmp_path, outputs):
    """What nobody reads is not made."""
    model = top_k((3, 7), -1, 3, 1, outputs) if outputs[0] else only_indices()
    graph = import_onnx(saved(model, tmp_path))
    x = seeded(40, 3, 7)
    network, _ = quantise(graph, x, 8, 8, input_format="s8.5")
    (node,) = network.nodes
    assert node.block.gives == {"v": "values", "i": "indices"}.get("".join(outputs), "both")
    codes = from_float(x, network.inputs["i"].format)
    found = network.reference(codes)
    order = np.argsort(-codes, axis=-1, kind="stable")[..., :3]
    wanted = {"v": np.take_along_axis(codes, order, -1), "i": order}
    for name, y in zip(
        filter(None, outputs), found if isinstance(found, tuple) else (found,), strict=True
    ):
        np.testing.assert_array_equal(y, wanted[name])


def only_indices():
    node = helper.make_node("TopK", ["x", "k"], ["unread", "i"])
    return model_of([node], {"x": (3, 7)}, ["i"], {"k": axes_of(3)})


REFUSED_TOPK = {
    "batch": (((3, 7), 0, 3, 1), "attribute 'axis' must leave the batch alone, not be 0"),
    "one": (((3, 1), -1, 1, 1), "must choose among at least 2 numbers, not 1"),
    "many": (((3, 7), -1, 8, 1), "must have a K from 1 to 7, not 8"),
    "none": (((3, 7), -1, 0, 1), "must have a K from 1 to 7, not 0"),
}


@pytest.mark.parametrize(("case", "message"), REFUSED_TOPK.values(), ids=REFUSED_TOPK)
def test_what_cannot_be_sorted_is_refused(tmp_path, case, message):
    assert refusal(top_k(*case), tmp_path) == f"TopK node that gives 'v' {message}"


def test_a_count_that_is_no_constant_is_refused(tmp_path):
    node = helper.make_node("TopK", ["x", "z"], ["y", "i"])
    model = model_of([node], {"x": (3, 4), "z": (1,)}, ["y"])
    assert refusal(model, tmp_path) == "TopK node that gives 'y' must have a constant K"


def test_two_counts_are_refused(tmp_path):
    node = helper.make_node("TopK", ["x", "k"], ["y", "i"])
    model = model_of([node], {"x": (3, 4)}, ["y"], {"k": axes_of(1, 2)})
    assert refusal(model, tmp_path) == (
        "TopK node that gives 'y' must have one K, whatever the batch"
    )
