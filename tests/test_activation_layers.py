# SPDX-License-Identifier: Apache-2.0
"""Functions of one variable in the float graph: against mathematics, ONNX, and their integers."""

import math
from fractions import Fraction

import numpy as np
import pytest
from onnx import helper
from onnx_models import assert_equals_onnx, model_of, refusal

from bitblocks import quantise
from bitblocks.graph import Graph, Port
from bitblocks.layers import Activation
from bitblocks.layers.activation import KINDS, erf, exp, log1p
from bitblocks.operators.activation import PLAIN
from quant import Function, Rounding, from_float, to_float

PARAMETERS = {
    "leaky_relu": (0.125,),
    "thresholded_relu": (0.75,),
    "clip": (-1.5, 2.25),
    "hardsigmoid": (0.25, 0.5),
    "elu": (0.75,),
    "celu": (1.5,),
    "selu": (1.5, 0.875),
}


def test_exponential_and_error_function_are_right_to_the_last_bits():
    x = np.concatenate([np.linspace(-40, 40, 4001), [-745.0, -0.0, 1e-300, 700.0]])
    for have, at in zip(exp(x), x, strict=True):
        assert have == pytest.approx(math.exp(at), rel=5e-16, abs=1e-323)
    for have, at in zip(erf(x), x, strict=True):
        assert have == pytest.approx(math.erf(at), rel=2e-15)
    x = np.linspace(0, 1, 1001)
    for have, at in zip(log1p(x), x, strict=True):
        assert have == pytest.approx(math.log1p(at), rel=5e-16)


@pytest.mark.parametrize("name", [name for name in KINDS if KINDS[name].function])
def test_floats_equal_the_function_that_is_approximated(name):
    parameters = PARAMETERS.get(name, ())
    function = KINDS[name].function(*parameters)
    assert isinstance(function, Function)
    x = np.linspace(-9, 9, 289)
    have = KINDS[name].real(x, *parameters)
    for at, y in zip(x, have, strict=True):
        near, _ = function.at(Fraction(at), 20, Rounding.RND)
        assert y == pytest.approx(near / 2**44, abs=1e-12, rel=1e-12)


@pytest.mark.parametrize("operator", [*PLAIN, "Gelu", "gelu by tanh"])
@pytest.mark.parametrize("default", [True, False])
def test_operator_equals_onnx(tmp_path, operator, default):
    attributes = {}
    if operator == "gelu by tanh":
        operator, attributes = "Gelu", {"approximate": "tanh"}
    elif not default and operator != "Gelu":
        names = PLAIN[operator][1]
        attributes = dict(zip(names, (0.375, 0.625), strict=False))
    opset = 22 if operator in ("Mish", "Gelu") else 17
    nodes = [helper.make_node(operator, ["x"], ["y"], **attributes)]
    model = model_of(nodes, {"x": (3, 4)}, ["y"], opset=opset)
    graph = assert_equals_onnx(model, tmp_path, {"x": (3, 4)}, 20)
    assert [type(layer) for layer in graph.nodes] == [Activation]


CLIPS = {
    "both ends": (["low", "high"], {}, 17, "Activation"),
    "lower end": (["low"], {}, 17, "Activation"),
    "upper end": (["", "high"], {}, 17, "Activation"),
    "no end": ([], {}, 17, "Identity"),
    "ReLU": (["zero"], {}, 17, "Relu"),
    "of old": ([], {"min": -0.5, "max": 0.25}, 10, "Activation"),
}


@pytest.mark.parametrize(("names", "attributes", "opset", "kind"), CLIPS.values(), ids=CLIPS)
def test_clip_equals_onnx(tmp_path, names, attributes, opset, kind):
    constants = {"low": -0.5, "high": 0.25, "zero": 0.0}
    constants = {name: np.float32(constants[name]) for name in names if name}
    nodes = [helper.make_node("Clip", ["x", *names], ["y"], **attributes)]
    model = model_of(nodes, {"x": (3, 4)}, ["y"], constants, opset=opset)
    graph = assert_equals_onnx(model, tmp_path, {"x": (3, 4)})
    assert [type(layer).__name__ for layer in graph.nodes] == [kind]


def test_unknown_approximation_is_refused(tmp_path):
    nodes = [helper.make_node("Gelu", ["x"], ["y"], approximate="fast")]
    model = model_of(nodes, {"x": (4,)}, ["y"], opset=20)
    expected = "Gelu node that gives 'y' attribute 'approximate' must be none or tanh, not fast"
    assert refusal(model, tmp_path) == expected


def model_with(name):
    layer = Activation("f", ("x",), name, PARAMETERS.get(name, ()))
    port = Port("x", "x", (6,), (0,))
    return Graph((port,), (layer,), (Port("y", "f", (6,), (0,)),))


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("calibrated", [True, False])
def test_integers_are_within_a_unit_of_the_function(name, calibrated):
    model = model_with(name)
    x = np.random.default_rng(1).integers(-128, 128, (100, 6)) / 32
    network, report = quantise(model, x if calibrated else None, input_format="s8.5")
    (block,) = (node.block for node in network.nodes)
    codes = np.arange(-128, 126).repeat(6).reshape(-1, 6)
    want = KINDS[name].real(codes / 32, *PARAMETERS.get(name, ()))
    format = network.outputs["o"].format
    have = to_float(block.reference(codes), format)
    inside = np.clip(want, *to_float([format.min, format.max], format))
    assert np.abs(have - inside).max() < 1.001 * 2.0**-format.frac
    if not calibrated:  # nothing saturates by more than rounding does
        assert np.abs(inside - want).max() <= 2.0**-format.frac
    assert format.width <= 16
    assert report.layers[-1].kind == type(block).__name__


@pytest.mark.parametrize("name", ["sigmoid", "clip", "silu"])
def test_precision_file_given_back_gives_the_same_integers(name):
    model = model_with(name)
    x = np.random.default_rng(1).normal(size=(50, 6))
    network, report = quantise(model, x, 8, 7)
    again, second = quantise(model, x, precision=report.precision)
    assert second == report
    codes = from_float(x, report.precision["x"].output_format)
    np.testing.assert_array_equal(again.reference(codes), network.reference(codes))
