# SPDX-License-Identifier: Apache-2.0
"""Functions of one variable in the float graph: against mathematics, ONNX, and their integers."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator
from onnx_models import assert_equals_onnx, model_of, outputs_of, refusal, saved
from refusal import refused

import quant
from bitblocks import InputError, evaluate, import_onnx, quantise
from bitblocks.graph import Graph, Port
from bitblocks.layers import Activation, Arg, Divide, PartialActivation, PRelu, Rounded
from bitblocks.layers.activation import KINDS, erf, exp, log1p, power
from bitblocks.operators.activation import PLAIN
from quant import Format, Function, Rounding, from_float, to_float

PARAMETERS = {
    "leaky_relu": (0.125,),
    "thresholded_relu": (0.75,),
    "clip": (-1.5, 2.25),
    "hardsigmoid": (0.25, 0.5),
    "elu": (0.75,),
    "celu": (1.5,),
    "selu": (1.5, 0.875),
    "scaled_tanh": (1.5, 0.75),
    "affine": (-0.75, 0.125),
    "shrink": (0.25, 0.75),
    "swish": (1.25,),
    "reciprocal": (-1.5,),
    "power": (1.5,),
}
WITHOUT_VALUE = {"asin": 1.5, "acos": 1.5, "acosh": 0.5, "atanh": 1.0, "log": 0.0, "sqrt": -0.25}
WITHOUT_VALUE |= {"reciprocal": 0.0, "power": -0.5}


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
    assert_floats(KINDS[name].real(x, *parameters), x, function)
    assert np.isnan(KINDS[name].real(x, *parameters)).any() == KINDS[name].partial


def assert_floats(have, x, function):
    for at, y in zip(x, have, strict=True):
        found = function.at(Fraction(at), 20, Rounding.RND)
        if found is None:
            assert np.isnan(y)
        else:
            assert y == pytest.approx(found[0] / 2**44, abs=1e-12, rel=1e-12)


@pytest.mark.parametrize("exponent", [-2.0, -1.0, -0.75, 0.0, 0.5, 1.25, 3.0, 7.0])
def test_powers_are_those_of_the_function(exponent):
    x = np.linspace(-3, 3, 97)
    assert_floats(power(x, exponent), x, quant.power(exponent))


def test_waves_of_large_numbers_are_right():
    x = np.array([1e5, -3e5, 8.3e5, 1e6, -4e9, 1.5e15, 2.0**70])
    for name in ("sin", "cos", "tan"):
        assert_floats(KINDS[name].real(x, *()), x, quant.FUNCTIONS[name])


@pytest.mark.parametrize("operator", [*PLAIN, "Gelu", "gelu by tanh"])
@pytest.mark.parametrize("default", [True, False])
def test_operator_equals_onnx(tmp_path, operator, default):
    attributes = {}
    if operator == "gelu by tanh":
        operator, attributes = "Gelu", {"approximate": "tanh"}
    elif not default and operator != "Gelu":
        names = PLAIN[operator][1]
        attributes = dict(zip(names, (0.375, 0.625), strict=False))
    opset = {"Mish": 22, "Gelu": 22, "Swish": 24}.get(operator, 17)
    nodes = [helper.make_node(operator, ["x"], ["y"], **attributes)]
    model = model_of(nodes, {"x": (3, 4)}, ["y"], opset=opset)
    if operator in PLAIN and KINDS[PLAIN[operator][0]].partial:
        graph = import_onnx(saved(model, tmp_path))
        x = np.random.default_rng(0).uniform(*((1, 9) if operator == "Acosh" else (0.01, 0.99)))
        x = np.full((2, 3, 4), x, np.float32)
        (want,) = ReferenceEvaluator(model).run(None, {"x": x})
        np.testing.assert_allclose(outputs_of(graph, x)["y"], want, rtol=1e-5, atol=1e-5)
        assert [type(layer) for layer in graph.nodes] == [PartialActivation]
        return
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


def model_with(name, pole=0.625):
    if KINDS[name].partial:
        layer = PartialActivation("f", ("x",), name, PARAMETERS.get(name, ()), pole)
    else:
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
    want = model.nodes[0].evaluate(codes / 32)
    format = network.outputs["o"].format
    have = to_float(block.reference(codes), format)
    inside = np.clip(want, *to_float([format.min, format.max], format))
    assert np.abs(have - inside).max() < 1.001 * 2.0**-format.frac
    if not calibrated:  # nothing saturates by more than rounding does
        assert np.abs(inside - want).max() <= 2.0**-format.frac
    assert format.width <= 16
    assert report.layers[-1].kind == type(block).__name__


@pytest.mark.parametrize("name", WITHOUT_VALUE)
def test_number_without_a_value_is_refused_or_given_one(name):
    """In the data, or only in the format; a Clip before it may keep it away."""
    at = WITHOUT_VALUE[name]
    model, data = model_with(name, None), np.full((2, 6), at)
    rest = f"where {name} has no value; a Clip before it can keep that away, or the field 'pole'"
    message = f"layer f must not read {at:.6g}, {rest} of its precision says what to give"
    with refused(InputError, message):
        quantise(model, data)
    with refused(InputError, message):
        evaluate(model, data)
    fine, least = (
        np.full((2, 6), 2.0 if name == "acosh" else 0.5),
        0 if name == "reciprocal" else -4,
    )
    with refused(InputError, message.replace(f"{at:.6g}", f"{least}", 1)):
        quantise(model, fine, input_format="s8.5")
    network, report = quantise(
        model, data, precision={"f": {"pole": -1.5}, "x": {"output_format": "s8.5"}}
    )
    y = network.reference(np.full((1, 6), round(at * 32)))
    assert to_float(y, network.outputs["o"].format).tolist() == [[-1.5] * 6]
    assert report.precision["f"].to_json()["pole"] == -1.5
    again, _ = quantise(model, data, precision=report.precision)
    assert again.reference(np.full((1, 6), round(at * 32))).tolist() == y.tolist()
    clip = Activation("c", ("x",), "clip", (1.0, 2.0) if name == "acosh" else (0.125, 0.875))
    (layer,), (port,) = model.nodes, model.outputs
    kept_away = Graph(model.inputs, (clip, replace(layer, sources=("c",))), (port,))
    network, _ = quantise(kept_away, input_format="s8.5")
    codes = np.arange(-128, 124).reshape(-1, 6)
    want = layer.evaluate(clip.evaluate(codes / 32))
    format = network.outputs["o"].format
    assert np.abs(to_float(network.reference(codes), format) - want).max() < 2.0**-format.frac


def test_pole_has_no_meaning_for_functions_with_values_everywhere():
    message = "precision of 'f' field 'pole' has no meaning there; it takes "
    with refused(InputError, f"{message}output_format, rounding, overflow"):
        quantise(model_with("exp"), input_format="s8.5", precision={"f": {"pole": 1.0}})


@pytest.mark.parametrize("function", ["floor", "ceil", "round"])
@pytest.mark.parametrize("format", ["s8.5", "u8.1", "s6.0", "s8.8", "s5.-2"])
def test_whole_numbers_are_exact(function, format):
    port, number = Port("x", "x", (4,), (0,)), Format.parse(format)
    layer = Rounded("f", ("x",), function)
    network, _ = quantise(
        Graph((port,), (layer,), (replace(port, source="f"),)), None, 8, 2, format
    )
    codes = np.arange(number.min, number.max + 1).reshape(-1, 4)
    have = to_float(network.reference(codes), network.outputs["o"].format)
    assert network.outputs["o"].format.width <= number.width
    exact = {"floor": math.floor, "ceil": math.ceil, "round": round}[function]
    want = [exact(Fraction(code) / Fraction(2) ** number.frac) for code in codes.ravel().tolist()]
    assert have.ravel().tolist() == want


def test_root_of_many_bits_is_exact():
    port, layer = Port("x", "x", (4,), (0,)), PartialActivation("f", ("x",), "sqrt")
    graph = Graph((port,), (layer,), (replace(port, source="f"),))
    x = np.random.default_rng(0).integers(0, 2**24, (20, 4)) / 2**12
    network, _ = quantise(graph, x, 16, 16, "u24.12")
    have = to_float(
        network.reference(from_float(x, Format(24, 12, False))), network.outputs["o"].format
    )
    assert [type(node.block).__name__ for node in network.nodes] == ["SquareRoot"]
    unit = 2.0 ** -network.outputs["o"].format.frac
    assert np.abs(have - np.sqrt(x)).max() <= 0.5 * unit


@pytest.mark.parametrize("slope", [[0.25] * 3, [0.1, -0.5, 2.0]], ids=["one", "several"])
@pytest.mark.parametrize("calibrated", [True, False])
def test_slopes_are_right_to_the_bits_of_the_weights(slope, calibrated):
    port, layer = Port("x", "x", (2, 3), (0, 1)), PRelu("f", ("x",), np.array(slope))
    graph = Graph((port,), (layer,), (replace(port, source="f"),))
    codes = np.random.default_rng(0).integers(-128, 128, (40, 2, 3))
    x = codes / 32
    network, report = quantise(graph, x if calibrated else None, 12, 12, "s8.5")
    kind = "Piecewise" if slope == [0.25] * 3 else "PReLU"
    assert [type(node.block).__name__ for node in network.nodes] == [kind]
    format = network.outputs["o"].format
    have = to_float(network.reference(codes), format)
    slack = 0.5 * 2.0**-format.frac + np.abs(x) * 2.0 ** -(11 if max(slope) < 1 else 9) / 2
    assert (np.abs(have - layer.evaluate(x)) <= slack).all()
    if kind == "PReLU":
        again, _ = quantise(graph, x if calibrated else None, precision=report.precision)
        assert again.reference(codes).tolist() == network.reference(codes).tolist()


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("largest", [True, False])
def test_index_of_the_extreme_number_is_exact(largest, last):
    port, layer = Port("x", "x", (2, 5), (0, 1)), Arg("f", ("x",), largest, last)
    graph = Graph((port,), (layer,), (Port("y", "f", (2, 1), (0, 1)),))
    codes = np.random.default_rng(0).integers(-2, 3, (40, 2, 5))  # many are equal
    network, _ = quantise(graph, codes / 32, input_format="s8.5")
    have = network.reference(codes)
    assert have.tolist() == layer.evaluate(codes / 32).tolist()
    for row, (index,) in zip(codes.reshape(-1, 5).tolist(), have.reshape(-1, 1), strict=True):
        extreme = max(row) if largest else min(row)
        places = [n for n, x in enumerate(row) if x == extreme]
        assert index == places[-1 if last else 0]


@pytest.mark.parametrize("calibrated", [True, False])
@pytest.mark.parametrize("pole", [None, 0.75])
def test_quotient_is_rounded_once(calibrated, pole):
    ports = tuple(Port(name, name, (4,), (0,)) for name in "ab")
    layer = Divide("f", ("a", "b"))
    graph = Graph(ports, (layer,), (Port("y", "f", (4,), (0,)),))
    random = np.random.default_rng(0)
    codes = random.integers(-128, 128, (60, 4)), random.integers(0 if pole else 1, 128, (60, 4))
    data = {"a": codes[0] / 32, "b": codes[1] / 16} if calibrated else None
    formats = {"a": "s8.5", "b": "u7.4"}
    message = (
        "layer f must not read 0, where a quotient has no value; a Clip before it can keep that "
        "away, or the field 'pole' of its precision says what to give"
    )
    with refused(InputError, message):
        quantise(graph, data, 8, 16, formats)
    where = {"f": {"pole": 0.0 if pole is None else pole}}
    network, _ = quantise(graph, data, 8, 16, formats, precision=where)
    format = network.outputs["o"].format
    have = to_float(network.reference(*codes), format)
    a, b = codes[0] / 32, codes[1] / 16
    want = np.where(b == 0, pole, a / np.where(b == 0, 1, b))
    inside = np.clip(want.astype(float), *to_float([format.min, format.max], format))
    assert np.abs(have - inside).max() <= 0.5 * 2.0**-format.frac
    assert np.abs(inside - want).max() <= 2.0 * 2.0**-format.frac


@pytest.mark.parametrize("name", ["sigmoid", "clip", "silu"])
def test_precision_file_given_back_gives_the_same_integers(name):
    model = model_with(name)
    x = np.random.default_rng(1).normal(size=(50, 6))
    network, report = quantise(model, x, 8, 7)
    again, second = quantise(model, x, precision=report.precision)
    assert second == report
    codes = from_float(x, report.precision["x"].output_format)
    np.testing.assert_array_equal(again.reference(codes), network.reference(codes))
