# SPDX-License-Identifier: Apache-2.0
"""Attention from ONNX: the operator, and what exporters write in its place."""

import warnings

import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper
from onnx_models import assert_equals_onnx, model_of, refusal, saved, seeded
from refusal import refused

from bitblocks import InputError, import_onnx, quantise
from bitblocks.graph import evaluate
from bitblocks.layers import Attention, Mask, MatMul, Rearrange, Scale, Softmax
from blocks import Network
from examples.networks import NETWORKS as DIGITS
from quant import from_float


def published():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        return [
            case
            for case in collect_testcases(None)
            if [node.op_type for node in case.model.graph.node] == ["Attention"]
        ]


def as_network(case):
    """The case with what has as many frames as the query as frames, the rest as constants."""
    model = ModelProto()
    model.CopyFrom(case.model)
    inputs, outputs = case.data_sets[0]
    ports, frames = list(model.graph.input), {}
    for port, value in zip(ports, inputs, strict=True):
        array = np.asarray(value)
        if array.ndim > 2 and array.shape[0] == len(inputs[0]) and array.dtype != bool:
            frames[port.name] = array
        else:
            if array.shape[:1] == (len(inputs[0]),) and array.ndim == 4:
                array = array[:1] if (array == array[:1]).all() else array
            model.graph.initializer.append(numpy_helper.from_array(array, port.name))
    return model, frames, dict(zip((o.name for o in model.graph.output), outputs, strict=True))


def outcome(case, folder):
    """What was refused, or None where all that is given equals what is published."""
    model, frames, wanted = as_network(case)
    try:
        graph = import_onnx(saved(model, folder))
    except InputError as error:
        return str(error)
    tensors = evaluate(graph, {name: x.astype(float) for name, x in frames.items()})
    assert len(graph.outputs) == len(wanted)
    for port, want in zip(graph.outputs, wanted.values(), strict=True):
        back = (0, *(1 + port.axes.index(axis) for axis in range(len(port.axes))))
        have = tensors[port.source].transpose(back)
        rtol = 1e-4 if want.dtype == np.float32 else 1e-2
        np.testing.assert_allclose(have, want, rtol=rtol, atol=rtol, err_msg=f"{case.name} {port}")
    return None


NO_HEADS = (
    "must have 4 axes, or 3 and attribute 'q_num_heads' that divides the last, not 3 for [3, 8]"
)
REASONS = (
    "input 'nonpad_kv_seqlen' is not supported",
    "attribute 'qk_matmul_output_mode' must not be 2 where a mask hides keys",
    "must leave each query a key to see",
)


def test_published_cases_give_what_is_published_or_are_refused_by_name(tmp_path):
    """Lengths that differ from frame to frame, infinite scores, and queries that see nothing."""
    found = {case.name: outcome(case, tmp_path) for case in published()}
    refused = {name: reason for name, reason in found.items() if reason}
    assert len(refused) == 21
    assert len(found) >= 93
    for reason in refused.values():
        assert reason.startswith("Attention node that gives 'Y' ")
        assert reason.endswith(REASONS), reason


def attention_of(shapes, constants=None, inputs=(), **attributes):
    given = [*shapes, *(constants or {}), *inputs]
    node = helper.make_node("Attention", given, ["y"], **attributes)
    return model_of([node], shapes, ["y"], constants, opset=23)


QKV = {"q": (2, 3, 4), "k": (2, 5, 4), "v": (2, 5, 6)}


def test_attention_becomes_one_layer(tmp_path):
    mask = np.where(seeded(3, 5) > 0.7, -np.inf, seeded(3, 5, seed=1)).astype(np.float32)
    model = attention_of(QKV, {"mask": mask}, is_causal=1)
    graph = assert_equals_onnx(model, tmp_path, QKV)
    kinds = [type(node) for node in graph.nodes]
    assert kinds.count(Attention) == 1
    assert not {Softmax, MatMul, Scale} & set(kinds)


def test_attention_may_follow_attention(tmp_path):
    """Of one the queries are what the other gives, as it is, and its keys as well."""
    nodes = [
        helper.make_node("Attention", ["q", "k", "v"], ["a"]),
        helper.make_node("Attention", ["a", "a", "a"], ["y"], is_causal=1),
    ]
    shapes = QKV | {"v": (2, 5, 4)}
    graph = assert_equals_onnx(model_of(nodes, shapes, ["y"], opset=23), tmp_path, shapes)
    assert [type(node) for node in graph.nodes].count(Attention) == 2


def test_scores_that_something_else_reads_stay_apart(tmp_path):
    node = helper.make_node("Attention", ["q", "k", "v"], ["y", "", "", "s"])
    graph = assert_equals_onnx(model_of([node], QKV, ["y", "s"], opset=23), tmp_path, QKV)
    assert Attention not in [type(node) for node in graph.nodes]


@pytest.mark.parametrize(
    ("shapes", "constants", "attributes", "rule"),
    [
        (
            {"q": (3, 8), "k": (5, 8), "v": (5, 8)},
            {},
            {"q_num_heads": 3, "kv_num_heads": 2},
            NO_HEADS,
        ),
        (
            QKV | {"k": (2, 5, 3)},
            {},
            {},
            "must have heads that fit, not [2, 3, 4], [2, 5, 3] and [2, 5, 6]",
        ),
        (
            QKV,
            {"mask": np.zeros((3, 4), np.float32)},
            {},
            "must have a mask for [2, 3, 5], not [3, 4]",
        ),
        (
            QKV,
            {"mask": np.full((3, 5), np.inf, np.float32)},
            {},
            "must have a mask of numbers, or of -inf where nothing is to be seen",
        ),
        (
            QKV,
            {},
            {"qk_matmul_output_mode": 4},
            "attribute 'qk_matmul_output_mode' must be from 0 to 3, not 4",
        ),
    ],
)
def test_what_is_wrong_with_attention_is_refused(tmp_path, shapes, constants, attributes, rule):
    message = refusal(attention_of(shapes, constants, **attributes), tmp_path)
    assert message == f"Attention node that gives 'y' {rule}"


def multi_head(heads, tokens, channels, mask=None):
    """What torch.onnx.export has written of nn.MultiheadAttention for years: heads in the batch."""
    depth = channels // heads
    constants = {
        "w": seeded(channels, 3 * channels, seed=5),
        "b": seeded(3 * channels, seed=6),
        "out.w": seeded(channels, channels, seed=7),
        "out.b": seeded(channels, seed=8),
        "root": np.array(depth**0.5, np.float32),
        "split": np.array([tokens, -1, depth], np.int64),
        "rows": np.array([-1, channels], np.int64),
        "back": np.array([tokens, -1, channels], np.int64),
    }
    constants |= {} if mask is None else {"mask": mask}
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        helper.make_node("MatMul", ["t", "w"], ["m"]),
        helper.make_node("Add", ["b", "m"], ["qkv"]),
        helper.make_node("Split", ["qkv"], ["q0", "k0", "v0"], axis=2, num_outputs=3),
    ]
    for name, axes in (("q", [1, 0, 2]), ("k", [1, 2, 0]), ("v", [1, 0, 2])):
        nodes.append(helper.make_node("Reshape", [f"{name}0", "split"], [f"{name}1"]))
        nodes.append(helper.make_node("Transpose", [f"{name}1"], [f"{name}2"], perm=axes))
    nodes += [
        helper.make_node("Div", ["q2", "root"], ["q3"]),
        helper.make_node("MatMul", ["q3", "k2"], ["s0"]),
        *([] if mask is None else [helper.make_node("Add", ["s0", "mask"], ["s"])]),
        helper.make_node("Softmax", ["s0" if mask is None else "s"], ["p"], axis=-1),
        helper.make_node("MatMul", ["p", "v2"], ["o0"]),
        helper.make_node("Transpose", ["o0"], ["o1"], perm=[1, 0, 2]),
        helper.make_node("Reshape", ["o1", "rows"], ["o2"]),
        helper.make_node("Gemm", ["o2", "out.w", "out.b"], ["o3"], transB=1),
        helper.make_node("Reshape", ["o3", "back"], ["o4"]),
        helper.make_node("Transpose", ["o4"], ["y"], perm=[1, 0, 2]),
    ]
    shapes = {"x": (tokens, channels)}
    return model_of(nodes, shapes, ["y"], constants, opset=18), shapes


FINITE = np.triu(np.full((5, 5), -2e4, np.float32), 1)
ENDLESS = np.where(np.tri(5) > 0, np.float32(0.5), np.float32(-np.inf)).astype(np.float32)


@pytest.mark.parametrize("masked", [None, FINITE, ENDLESS], ids=["none", "finite", "endless"])
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_heads_inside_the_batch_become_attention(tmp_path, heads, masked):
    model, shapes = multi_head(heads, 5, 8, masked)
    graph = assert_equals_onnx(model, tmp_path, shapes)
    (layer,) = (node for node in graph.nodes if isinstance(node, Attention))
    assert graph.shapes[layer.name] == (5, heads, 8 // heads)
    assert layer.mask.sum() == heads * (25 if masked is None else 15)
    assert not {Softmax, MatMul, Scale} & {type(node) for node in graph.nodes}


def test_what_shares_its_axis_with_the_batch_is_no_output_and_no_sum(tmp_path):
    model, _ = multi_head(2, 5, 8)
    path = saved(model, tmp_path)
    assert refusal(path, tmp_path, "q1") == "output 'q1' must have the batch on axis 0, not 1"
    assert refusal(path, tmp_path, "q2") == "output 'q2' must have the batch alone on axis 0"


def test_the_network_of_integers_is_near(tmp_path):
    model, shapes = multi_head(2, 5, 8, ENDLESS)
    graph = import_onnx(saved(model, tmp_path))
    x = seeded(200, *shapes["x"])
    network, report = quantise(graph, x, activation_bits=10)
    assert [layer.signal_to_noise for layer in report.layers][-1] > 30
    assert sum(isinstance(node.block, Network) for node in network.nodes) == 1


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("axis", [1, 2])
def test_what_is_minus_infinite_before_a_softmax_does_not_count(tmp_path, first, axis):
    shown = np.arange(12).reshape(3, 4) % 5 != 2
    parts = ["x", "endless"] if first else ["endless", "x"]
    nodes = [
        helper.make_node("Where", ["shown", *parts], ["w"]),
        helper.make_node("Softmax", ["w"], ["y"], axis=axis),
    ]
    constants = {
        "shown": shown if first else ~shown,
        "endless": np.array(-np.inf, np.float32),
    }
    model = model_of(nodes, {"x": (3, 4)}, ["y"], constants)
    graph = assert_equals_onnx(model, tmp_path, {"x": (3, 4)})
    assert not any(isinstance(layer, Mask) for layer in graph.nodes)
    network, _ = quantise(graph, seeded(50, 3, 4))
    y = network.reference(np.zeros(graph.inputs[0].stream_shape, int)).reshape(
        graph.outputs[0].stream_shape
    )
    hidden = ~shown.transpose(graph.outputs[0].axes)
    assert not y[hidden].any()
    assert y[~hidden].all()


def test_what_is_minus_infinite_elsewhere_is_refused(tmp_path):
    endless = np.array([0, -np.inf, 1], np.float32)
    model = model_of(
        [helper.make_node("Add", ["x", "e"], ["y"])], {"x": (3,)}, ["y"], {"e": endless}
    )
    graph = import_onnx(saved(model, tmp_path))
    with refused(InputError, "layer add2 must give numbers below 2**400, not inf"):
        quantise(graph, seeded(9, 3))


def test_the_transformer_of_the_digits_decides_in_integers_as_in_floats():
    pytest.importorskip("sklearn", reason="the digits are inside scikit-learn")
    example = DIGITS["digits_transformer"]
    graph, data = import_onnx(example.model), example.data()
    kinds = [type(layer) for layer in graph.nodes]
    assert kinds.count(Attention) == 2
    assert kinds.count(Rearrange) == 6  # q, k and v of each
    (port,) = graph.outputs
    float_figure = example.metric.of(evaluate(graph, data.x)[port.source], data.x, data.target)
    network, report = quantise(graph, data.calibration)
    format = report.precision["image"].output_format
    y = network.run(from_float(graph.frames(data.x)["image"], format))
    assert example.metric.of(y, data.x, data.target) >= float_figure - example.metric.loss
    few = from_float(graph.frames(data.x[:3])["image"], format)
    np.testing.assert_array_equal(network.reference(few), y[:3])
