# SPDX-License-Identifier: Apache-2.0
"""Convolutions and pooling against their definition, place by place, and onnx's evaluator."""

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator
from onnx_models import assert_equals_onnx, model_of, norm, outputs_of, refusal, saved, seeded

from bitblocks import evaluate, import_onnx
from bitblocks.layers import Convolution, Reduce, Scale

node = helper.make_node
DATA = Path(__file__).parents[2] / "shared" / "data"


def pads_of(auto, sizes, reaches, strides, pads):
    """Padding before and after each axis, as the standard's text says."""
    if auto == "NOTSET":
        return list(zip(pads[: len(sizes)], pads[len(sizes) :], strict=True))
    if auto == "VALID":
        return [(0, 0)] * len(sizes)
    result = []
    for size, reach, stride in zip(sizes, reaches, strides, strict=True):
        total = max((-(-size // stride) - 1) * stride + reach - size, 0)
        half = (total // 2, total - total // 2)
        result.append(half if auto == "SAME_UPPER" else half[::-1])
    return result


def windows(shape, kernel, attributes, ceil=False):
    """Every output place, with the (tap, place) pairs that its window has, padding included."""
    count = len(kernel)
    strides = attributes.get("strides", [1] * count)
    dilations = attributes.get("dilations", [1] * count)
    reaches = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    auto = attributes.get("auto_pad", "NOTSET")
    pads = pads_of(auto, shape, reaches, strides, attributes.get("pads", [0] * 2 * count))
    lengths = []
    for size, reach, stride, (before, after) in zip(shape, reaches, strides, pads, strict=True):
        length = 1
        while length * stride + reach <= size + before + after:
            length += 1
        over = (length - 1) * stride + reach < size + before + after
        length += ceil and over
        while ceil and (length - 1) * stride >= size + before:
            length -= 1
        lengths.append(length)
    for place in itertools.product(*map(range, lengths)):
        taps = []
        for tap in itertools.product(*map(range, kernel)):
            at = [
                o * s + k * d - before
                for o, s, k, d, (before, _) in zip(
                    place, strides, tap, dilations, pads, strict=True
                )
            ]
            padded = all(
                -before <= a < n + after
                for a, n, (before, after) in zip(at, shape, pads, strict=True)
            )
            inside = all(0 <= a < n for a, n in zip(at, shape, strict=True))
            taps.append((tap, tuple(at), inside, padded))
        yield tuple(lengths), place, taps


def convolved(x, weight, bias, attributes):
    groups = attributes.get("group", 1)
    outputs, inputs = weight.shape[:2]
    y = None
    for lengths, place, taps in windows(x.shape[2:], weight.shape[2:], attributes):
        if y is None:
            y = np.zeros((len(x), outputs, *lengths))
        for o in range(outputs):
            first = o // (outputs // groups) * inputs
            total = np.zeros(len(x)) + bias[o]
            for tap, at, inside, _ in taps:
                if inside:
                    for c in range(inputs):
                        total += weight[(o, c, *tap)] * x[(slice(None), first + c, *at)]
            y[(slice(None), o, *place)] = total
    return y


def transposed(x, weight, bias, groups, strides, dilations, before, lengths):
    inputs, outputs = weight.shape[:2]
    y = np.zeros((len(x), outputs * groups, *lengths)) + bias.reshape(1, -1, *[1] * len(lengths))
    for c in range(inputs):
        for at in np.ndindex(*x.shape[2:]):
            for tap in np.ndindex(*weight.shape[2:]):
                to = [
                    a * s + k * d - b
                    for a, s, k, d, b in zip(at, strides, tap, dilations, before, strict=True)
                ]
                if all(0 <= n < length for n, length in zip(to, lengths, strict=True)):
                    for o in range(outputs):
                        channel = c // (inputs // groups) * outputs + o
                        product = weight[(c, o, *tap)] * x[(slice(None), c, *at)]
                        y[(slice(None), channel, *to)] += product
    return y


def result_of(folder, model, x):
    return outputs_of(import_onnx(saved(model, folder)), x)["y"]


CONV = {  # frame, weight, attributes
    "1x1": ((2, 3, 4), (3, 2, 1, 1), {}),
    "plain": ((2, 5, 6), (3, 2, 3, 2), {}),
    "strides": ((2, 7, 6), (3, 2, 3, 2), {"strides": [2, 3]}),
    "dilations": ((2, 7, 8), (3, 2, 3, 2), {"dilations": [2, 3]}),
    "asymmetric pads": ((2, 5, 6), (3, 2, 3, 2), {"pads": [0, 1, 2, 3]}),
    "all of them": (
        (2, 7, 8),
        (3, 2, 3, 2),
        {"pads": [1, 0, 2, 1], "strides": [2, 3], "dilations": [3, 2]},
    ),
    "padding beyond the window": ((1, 3, 3), (2, 1, 2, 2), {"pads": [3, 3, 3, 3]}),
    "groups": ((4, 4, 4), (6, 2, 3, 3), {"group": 2, "pads": [1, 1, 1, 1]}),
    "depthwise": ((4, 4, 4), (4, 1, 3, 3), {"group": 4, "auto_pad": "SAME_UPPER"}),
    "depthwise with a multiplier": ((3, 4, 4), (6, 1, 2, 2), {"group": 3}),
    "same upper": ((2, 5, 6), (3, 2, 4, 2), {"auto_pad": "SAME_UPPER"}),
    "same lower": ((2, 5, 6), (3, 2, 4, 2), {"auto_pad": "SAME_LOWER"}),
    "same with strides": ((2, 7, 6), (3, 2, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 3]}),
    "same lower with strides": (
        (2, 7, 6),
        (3, 2, 4, 3),
        {"auto_pad": "SAME_LOWER", "strides": [3, 2]},
    ),
    "valid": ((2, 5, 6), (3, 2, 3, 2), {"auto_pad": "VALID", "strides": [2, 1]}),
    "kernel shape": ((2, 5, 6), (3, 2, 3, 2), {"kernel_shape": [3, 2], "auto_pad": "NOTSET"}),
    "1D": ((2, 9), (3, 2, 4), {"pads": [1, 2], "strides": [2]}),
    "3D": ((2, 3, 4, 3), (3, 2, 2, 3, 2), {"pads": [1, 0, 1, 0, 1, 0], "strides": [1, 2, 2]}),
}


@pytest.mark.parametrize(("frame", "weight", "attributes"), CONV.values(), ids=CONV)
@pytest.mark.parametrize("biased", [False, True])
def test_conv_equals_its_definition(tmp_path, frame, weight, attributes, biased):
    constants = {"w": seeded(*weight, seed=1)}
    if biased:
        constants["b"] = seeded(weight[0], seed=2)
    model = model_of(
        [node("Conv", ["x", *constants], ["y"], **attributes)], {"x": frame}, ["y"], constants
    )
    x = seeded(2, *frame, seed=3).astype(float)
    bias = constants["b"].astype(float) if biased else np.zeros(weight[0])
    want = convolved(x, constants["w"].astype(float), bias, attributes)
    have = result_of(tmp_path, model, x)
    np.testing.assert_allclose(have, want, rtol=1e-12, atol=1e-12)
    if "SAME" not in attributes.get("auto_pad", "") or "strides" not in attributes:
        assert_equals_onnx(model, tmp_path, {"x": frame}, 2)  # which pads SAME by its own rule


POOL = {  # frame, attributes; with the kernel
    "plain": ((2, 4, 6), {"kernel_shape": [2, 3]}),
    "strides": ((2, 7, 6), {"kernel_shape": [3, 2], "strides": [2, 2]}),
    "asymmetric pads": ((2, 5, 6), {"kernel_shape": [3, 3], "pads": [0, 1, 2, 2]}),
    "dilations": ((2, 7, 8), {"kernel_shape": [3, 2], "dilations": [2, 3]}),
    "ceil mode": ((2, 6, 7), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    "ceil mode that adds nothing": (
        (2, 5, 7),
        {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
    ),
    "ceil mode with pads": (
        (2, 6, 8),
        {"kernel_shape": [3, 3], "strides": [2, 3], "pads": [1, 0, 1, 1], "ceil_mode": 1},
    ),
    "ceil mode, last window begins in the padding": (
        (1, 4, 4),
        {"kernel_shape": [1, 1], "strides": [2, 2], "pads": [0, 0, 1, 1], "ceil_mode": 1},
    ),
    "same upper": ((2, 5, 6), {"kernel_shape": [2, 4], "auto_pad": "SAME_UPPER"}),
    "same lower": (
        (2, 5, 6),
        {"kernel_shape": [2, 4], "auto_pad": "SAME_LOWER", "strides": [2, 1]},
    ),
    "valid": ((2, 5, 6), {"kernel_shape": [2, 4], "auto_pad": "VALID", "strides": [2, 1]}),
    "1D": ((3, 9), {"kernel_shape": [4], "strides": [3], "pads": [1, 2]}),
    "3D": (
        (2, 3, 4, 5),
        {"kernel_shape": [2, 2, 3], "strides": [1, 2, 2], "pads": [0, 1, 0, 1, 0, 2]},
    ),
}


@pytest.mark.parametrize(("frame", "attributes"), POOL.values(), ids=POOL)
@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool", "counting"])
def test_pooling_equals_its_definition(tmp_path, kind, frame, attributes):
    counting = {"count_include_pad": 1} if kind == "counting" else {}
    operator = "MaxPool" if kind == "MaxPool" else "AveragePool"
    model = model_of(
        [node(operator, ["x"], ["y"], **attributes, **counting)], {"x": frame}, ["y"], opset=19
    )
    x = seeded(2, *frame, seed=3).astype(float)
    want = None
    ceil = bool(attributes.get("ceil_mode"))
    for lengths, place, taps in windows(frame[1:], attributes["kernel_shape"], attributes, ceil):
        if want is None:
            want = np.zeros((2, frame[0], *lengths))
        met = np.array([x[(slice(None), slice(None), *at)] for _, at, inside, _ in taps if inside])
        counted = sum(padded for *_, padded in taps) if counting else len(met)
        mean = met.sum(0) / counted
        want[(slice(None), slice(None), *place)] = met.max(0) if kind == "MaxPool" else mean
    np.testing.assert_allclose(result_of(tmp_path, model, x), want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("frame", [(3, 5), (3, 4, 5), (2, 3, 2, 4)], ids=str)
@pytest.mark.parametrize("kind", ["GlobalMaxPool", "GlobalAveragePool"])
def test_global_pooling_equals_its_definition(tmp_path, kind, frame):
    """Beside onnx's evaluator, which knows GlobalMaxPool of images alone."""
    model = model_of([node(kind, ["x"], ["y"])], {"x": frame}, ["y"])
    graph = import_onnx(saved(model, tmp_path))
    x = seeded(2, *frame).astype(float)
    pooled = np.max if "Max" in kind else np.mean
    want = pooled(x, axis=tuple(range(2, x.ndim)), keepdims=True)
    np.testing.assert_allclose(outputs_of(graph, x)["y"], want, rtol=1e-12)
    assert [type(layer) for layer in graph.nodes] == [Reduce]


TRANSPOSED = {  # frame, weight (inputs, outputs / groups, kernel), attributes, padding before, size
    "plain": ((2, 3, 4), (2, 3, 3, 2), {}, (0, 0), (5, 5)),
    "strides": ((2, 3, 4), (2, 3, 3, 2), {"strides": [2, 3]}, (0, 0), (7, 11)),
    "dilations": ((2, 3, 4), (2, 3, 3, 2), {"dilations": [2, 3]}, (0, 0), (7, 7)),
    "pads": ((2, 3, 4), (2, 3, 3, 2), {"pads": [0, 1, 2, 0]}, (0, 1), (3, 4)),
    "output padding": (
        (2, 3, 4),
        (2, 3, 3, 2),
        {"strides": [3, 2], "output_padding": [2, 1]},
        (0, 0),
        (11, 9),
    ),
    "output shape": (
        (2, 3, 4),
        (2, 3, 3, 3),
        {"strides": [3, 2], "output_shape": [8, 8]},
        (1, 1),
        (8, 8),
    ),
    "output shape with a place more": (
        (2, 3, 4),
        (2, 3, 3, 3),
        {"strides": [3, 2], "output_shape": [10, 10]},
        (0, 0),
        (10, 10),
    ),
    "output shape, odd padding before": (
        (2, 3, 4),
        (2, 3, 3, 3),
        {"strides": [3, 2], "output_shape": [8, 8]},
        (1, 1),
        (8, 8),
    ),
    "output shape, odd padding behind": (
        (2, 3, 4),
        (2, 3, 3, 3),
        {"strides": [3, 2], "output_shape": [8, 8], "auto_pad": "SAME_UPPER"},
        (0, 0),
        (8, 8),
    ),
    "same upper": (
        (2, 3, 4),
        (2, 3, 3, 3),
        {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
        (0, 0),
        (6, 8),
    ),
    "same lower": (
        (2, 3, 4),
        (2, 3, 3, 3),
        {"strides": [2, 2], "auto_pad": "SAME_LOWER"},
        (1, 1),
        (6, 8),
    ),
    "valid": ((2, 3, 4), (2, 3, 3, 2), {"auto_pad": "VALID"}, (0, 0), (5, 5)),
    "groups": ((4, 3, 3), (4, 2, 2, 2), {"group": 2, "strides": [2, 2]}, (0, 0), (6, 6)),
    "1D": ((2, 4), (2, 3, 3), {"strides": [2], "pads": [1, 1]}, (1,), (7,)),
    "3D": ((2, 2, 3, 2), (2, 1, 2, 2, 2), {"strides": [2, 1, 2]}, (0, 0, 0), (4, 4, 4)),
}


@pytest.mark.parametrize(
    ("frame", "weight", "attributes", "before", "size"), TRANSPOSED.values(), ids=TRANSPOSED
)
def test_conv_transpose_equals_its_definition(tmp_path, frame, weight, attributes, before, size):
    groups, count = attributes.get("group", 1), len(size)
    constants = {"w": seeded(*weight, seed=1), "b": seeded(weight[1] * groups, seed=2)}
    nodes = [node("ConvTranspose", ["x", "w", "b"], ["y"], **attributes)]
    model = model_of(nodes, {"x": frame}, ["y"], constants)
    x = seeded(2, *frame, seed=3).astype(float)
    want = transposed(
        x,
        constants["w"].astype(float),
        constants["b"].astype(float),
        groups,
        attributes.get("strides", [1] * count),
        attributes.get("dilations", [1] * count),
        before,
        size,
    )
    np.testing.assert_allclose(result_of(tmp_path, model, x), want, rtol=1e-12, atol=1e-12)


def test_norm_goes_into_the_convolution_before_it(tmp_path):
    behind, constants = norm("c", "n", 4)
    nodes = [
        node("Conv", ["x", "w"], ["c"], name="conv", pads=[1, 1, 1, 1], group=2),
        behind,
        node("Relu", ["n"], ["y"]),
    ]
    model = model_of(nodes, {"x": (2, 5, 5)}, ["y"], constants | {"w": seeded(4, 1, 3, 3)})
    graph = assert_equals_onnx(model, tmp_path, {"x": (2, 5, 5)})
    assert [layer.name for layer in graph.nodes] == ["conv", "relu1"]


@pytest.mark.parametrize("padded", [False, True])
def test_norm_goes_into_the_convolution_behind_it_unless_its_offset_meets_padding(tmp_path, padded):
    before, constants = norm("x", "n", 4)
    pads = [1, 0, 0, 0] if padded else [0] * 4
    nodes = [before, node("Conv", ["n", "w"], ["y"], pads=pads, group=2)]
    model = model_of(nodes, {"x": (4, 5, 5)}, ["y"], constants | {"w": seeded(6, 2, 3, 3)})
    graph = assert_equals_onnx(model, tmp_path, {"x": (4, 5, 5)})
    assert any(isinstance(layer, Scale) for layer in graph.nodes) == padded


def test_transposed_convolution_takes_the_norm_behind_it(tmp_path):
    behind, constants = norm("c", "y", 3)  # onnx's evaluator knows no such groups
    nodes = [node("ConvTranspose", ["x", "w"], ["c"], strides=[2, 2]), behind]
    model = model_of(nodes, {"x": (4, 3, 3)}, ["y"], constants | {"w": seeded(4, 3, 2, 2)})
    graph = assert_equals_onnx(model, tmp_path, {"x": (4, 3, 3)})
    assert len(graph.nodes) == 1


W = seeded(3, 2, 3, 3)
REFUSED = {
    "channels": (
        (node("Conv", ["x", "w"], ["y"]), (3, 5, 5)),
        "must have weights for 3 channels in 1 groups, not of shape [3, 2, 3, 3]",
    ),
    "groups": (
        (node("Conv", ["x", "w"], ["y"], group=2), (4, 5, 5)),
        "must have weights for 4 channels in 2 groups, not of shape [3, 2, 3, 3]",
    ),
    "no groups": (
        (node("Conv", ["x", "w"], ["y"], group=0), (2, 5, 5)),
        "attribute 'group' must be at least 1, not 0",
    ),
    "axes": (
        (node("Conv", ["x", "w"], ["y"]), (2, 5)),
        (
            "must have frames of channels and 1 to 3 spatial axes, and weights of one axis more, "
            "not [2, 5] and [3, 2, 3, 3]"
        ),
    ),
    "kernel shape": (
        (node("Conv", ["x", "w"], ["y"], kernel_shape=[3, 2]), (2, 5, 5)),
        "attribute 'kernel_shape' must be [3, 3], not [3, 2]",
    ),
    "strides": (
        (node("Conv", ["x", "w"], ["y"], strides=[0, 1]), (2, 5, 5)),
        "attribute 'strides' must be 2 numbers of at least 1, not [0, 1]",
    ),
    "dilations": (
        (node("Conv", ["x", "w"], ["y"], dilations=[1]), (2, 5, 5)),
        "attribute 'dilations' must be 2 numbers of at least 1, not [1]",
    ),
    "negative pads": (
        (node("Conv", ["x", "w"], ["y"], pads=[0, 0, -1, 0]), (2, 5, 5)),
        "attribute 'pads' must be 4 numbers of at least 0, not [0, 0, -1, 0]",
    ),
    "endless strides": (
        (node("Conv", ["x", "w"], ["y"], strides=[1, 2**40]), (2, 5, 5)),
        "attribute 'strides' must be numbers of at most 65536, not 1099511627776",
    ),
    "pads given twice": (
        (node("Conv", ["x", "w"], ["y"], pads=[0, 0, 1, 0], auto_pad="VALID"), (2, 5, 5)),
        "attribute 'pads' must not be given beside an auto_pad of VALID",
    ),
    "auto_pad": (
        (node("Conv", ["x", "w"], ["y"], auto_pad="SAME"), (2, 5, 5)),
        "attribute 'auto_pad' must be one of NOTSET, SAME_UPPER, SAME_LOWER, VALID, not SAME",
    ),
    "bias": (
        (node("Conv", ["x", "w", "b"], ["y"]), (2, 5, 5)),
        "must have a bias of shape [3], not [4]",
    ),
    "weights that are no constant": (
        (node("Conv", ["x", "x"], ["y"]), (2, 5, 5)),
        "must have a constant weight",
    ),
    "storage order": (
        (node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], storage_order=1), (2, 5, 5)),
        "attribute 'storage_order' must be 0",
    ),
    "no kernel": (
        (node("MaxPool", ["x"], ["y"]), (2, 5, 5)),
        "must have attribute 'kernel_shape'",
    ),
    "output padding": (
        (node("ConvTranspose", ["x", "w"], ["y"], output_padding=[1, 0]), (3, 5, 5)),
        "attribute 'output_padding' must be less than the stride or dilation, not [1, 0]",
    ),
    "output shape": (
        (node("ConvTranspose", ["x", "w"], ["y"], output_shape=[9, 7]), (3, 5, 5)),
        "must give at most 8 places on an axis, not 9",
    ),
    "pooling of a vector": (
        (node("GlobalAveragePool", ["x"], ["y"]), (5,)),
        "must have frames of channels and 1 to 3 spatial axes, not [5]",
    ),
}


@pytest.mark.parametrize(("case", "message"), REFUSED.values(), ids=REFUSED)
def test_wrong_windows_are_refused(tmp_path, case, message):
    what, frame = case
    model = model_of([what], {"x": frame}, ["y"], {"w": W, "b": seeded(4)})
    assert refusal(model, tmp_path) == f"{what.op_type} node that gives 'y' {message}"


LAYERS = {
    "endless result": (
        node("Conv", ["x", "w"], ["y"], pads=[60000] * 4),
        (2, 2, 5),
        "layer conv1 must give at most 16777216 numbers, not 43201080000",
    ),
    "endless pooling": (
        node("MaxPool", ["x"], ["y"], kernel_shape=[1, 1], pads=[60000] * 4),
        (2, 2, 5),
        "layer maxpool1 must give at most 16777216 numbers, not 28801680020",
    ),
    "window beyond the frame": (
        node("Conv", ["x", "w"], ["y"]),
        (2, 2, 5),
        "Convolution conv1 window must fit into its padded input of shape (2, 5, 2)",
    ),
    "window in the padding": (
        node("MaxPool", ["x"], ["y"], kernel_shape=[1, 1], pads=[1, 0, 0, 0]),
        (2, 2, 5),
        "MaxPool maxpool1 windows must each meet something of their input",
    ),
    "mean of padding": (
        node("AveragePool", ["x"], ["y"], kernel_shape=[1, 1], pads=[1, 0, 0, 0]),
        (2, 2, 5),
        "AveragePool averagepool1 windows must each meet something of their input",
    ),
    "nothing left": (
        node("ConvTranspose", ["x", "w"], ["y"], pads=[4, 0, 3, 0]),
        (3, 5, 5),
        "TransposedConvolution convtranspose1 must leave something of shape (5, 5, 3)",
    ),
}


@pytest.mark.parametrize(("what", "frame", "message"), LAYERS.values(), ids=LAYERS)
def test_windows_without_places_are_refused(tmp_path, what, frame, message):
    model = model_of([what], {"x": frame}, ["y"], {"w": W})
    assert refusal(model, tmp_path) == message


def test_odd_transposed_padding_is_refused_where_the_standard_contradicts_itself(tmp_path):
    what = node("ConvTranspose", ["x", "w"], ["y"], output_shape=[6, 6])
    expected = (
        "ConvTranspose node that gives 'y' must not split odd padding, "
        "on which operator sets before 11 disagree"
    )
    model = model_of([what], {"x": (3, 5, 5)}, ["y"], {"w": W}, opset=10)
    assert refusal(model, tmp_path) == expected


NETWORKS = [
    "onnx_mnist_cnn/mnist-conv",
    *(f"hls4ml_example_models/onnx/{name}_small_keras" for name in ("conv1d", "conv2d")),
]


@pytest.mark.parametrize("name", NETWORKS)
def test_published_convolutions_equal_onnx(tmp_path, name):
    path = DATA / f"{name}.onnx"
    if not path.exists():
        pytest.skip("the published networks are not beside this checkout")
    model = onnx.load(path)
    last = model.graph.node[-1]
    cut = last.input[0] if last.op_type == "Softmax" else last.output[0]
    graph = import_onnx(path, cut)
    x = seeded(3, *graph.inputs[0].shape)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info(cut, onnx.TensorProto.FLOAT, None))
    session = ReferenceEvaluator(model)
    rows = [session.run(None, {model.graph.input[0].name: frame[None]})[0] for frame in x]
    have = evaluate(graph, x)[graph.outputs[0].source]
    np.testing.assert_allclose(have, np.concatenate(rows), rtol=1e-4, atol=1e-3)
    assert any(isinstance(layer, Convolution) for layer in graph.nodes)
