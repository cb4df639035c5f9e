# SPDX-License-Identifier: Apache-2.0
"""Recurrent layers: the float mathematics, and integers within what their formats allow."""

from dataclasses import replace

import numpy as np
import pytest
import recurrent_oracle
from refusal import refused

from bitblocks import InputError, evaluate, quantisation, quantise
from bitblocks.graph import Graph, Port
from bitblocks.layers import Gru, Lstm, Rnn
from blocks import Recur
from quant import from_float, to_float

STEPS, INPUTS, UNITS = 4, 3, 3
NOISE = 10 ** (-34 / 20)
"""Of 8 bits, against the signal: most of what is off is far less than it could be."""
HARD = ("hardsigmoid", (0.25, 0.5))


def drawn(*shape, seed=0, size=0.8):
    return np.random.default_rng(seed + sum(shape)).uniform(-size, size, shape)


def layer_of(kind, rows=None, sources=("x",), **options):
    gates = {Rnn: (), Lstm: (4,), Gru: (3,)}[kind]
    shapes = (*gates, UNITS, INPUTS), (*gates, UNITS, rows or UNITS), (*gates, UNITS)
    return kind("r", sources, *(drawn(*shape) for shape in shapes), **options)


def of_sizes(layer, *sizes):
    """The layer with the weights of each unit multiplied."""
    factors = np.array(sizes)[:, np.newaxis]
    return replace(layer, weight=layer.weight * factors, recurrent=layer.recurrent * factors)


LAYERS = {
    "rnn": lambda: layer_of(Rnn),
    "rnn relu": lambda: layer_of(Rnn, functions=(("relu", ()),), outputs=("h", "h_last")),
    "rnn affine": lambda: layer_of(Rnn, functions=(("affine", (0.5, 0.25)),)),
    "rnn leaky, thresholded": lambda: layer_of(Rnn, functions=(("leaky_relu", (0.25,)),), clip=1.5),
    "rnn softsign": lambda: layer_of(Rnn, functions=(("softsign", ()),), outputs=("h_last",)),
    "lstm": lambda: layer_of(Lstm, outputs=("h", "h_last", "c_last")),
    "lstm, all of it": lambda: layer_of(
        Lstm,
        rows=2,
        peephole=drawn(3, UNITS),
        projection=drawn(2, UNITS),
        initial=(drawn(2, seed=3), drawn(UNITS, seed=4)),
    ),
    "lstm of others": lambda: layer_of(
        Lstm,
        functions=(HARD, ("scaled_tanh", (1.5, 0.75)), ("elu", (0.5,))),
        clip=0.75,
        outputs=("c_last",),
    ),
    "gru": lambda: layer_of(Gru, recurrent_bias=drawn(UNITS)),
    "gru, reset before": lambda: layer_of(
        Gru, recurrent_bias=drawn(UNITS), reset_after=False, functions=(HARD, ("softplus", ()))
    ),
    "gru of others": lambda: layer_of(Gru, functions=(("tanh", ()), ("thresholded_relu", (0.25,)))),
    "gru of large and small rows": lambda: of_sizes(layer_of(Gru), 1.5, 0.5, 0.06),
    "gru, kept": lambda: layer_of(Gru, functions=(HARD, ("tanh", ())), kept=True),
}


def graph_of(layer):
    shapes = {"x": (STEPS, INPUTS), "h0": (UNITS,), "c0": (UNITS,)}
    inputs = [
        Port(name, name, shapes[name], (*range(len(shapes[name])),)) for name in layer.sources
    ]
    given = layer.shape(*(shapes[name] for name in layer.sources))
    given = given if len(layer.tensors) > 1 else (given,)
    outputs = [
        Port(f"y{n}", tensor, shape, (*range(len(shape)),))
        for n, (tensor, shape) in enumerate(zip(layer.tensors, given, strict=True))
    ]
    return Graph((*inputs,), (layer,), (*outputs,))


def frames(count=6, size=2.0):
    return np.random.default_rng(9).uniform(-size, size, (count, STEPS, INPUTS))


def results(network, report, graph, x):
    """Outputs in floats, by output of the layer."""
    x = x if isinstance(x, dict) else {"x": x}
    formats = {port.name: report.precision[port.name].output_format for port in graph.inputs}
    codes = [from_float(x[name], formats[name]) for name in formats]
    y = network.reference(*codes)
    tensors = network.outputs.values()
    values = [
        to_float(n, t.format) for n, t in zip(y if len(tensors) > 1 else [y], tensors, strict=True)
    ]
    return dict(zip(graph.nodes[0].outputs, values, strict=True))


@pytest.mark.parametrize("name", LAYERS)
def test_layer_is_what_the_standard_says_and_integers_are_near(name):
    layer, x = LAYERS[name](), frames()
    graph = graph_of(layer)
    long = x.reshape(1, -1, INPUTS) if layer.kept else x
    want = recurrent_oracle.run(layer, long)
    tensors = evaluate(graph, x)
    for output, tensor in zip(layer.outputs, layer.tensors, strict=True):
        wanted = want[output].value.reshape(tensors[tensor].shape)
        np.testing.assert_allclose(tensors[tensor], wanted, rtol=1e-12, atol=1e-12)
    network, report = quantise(graph, x, weight_bits=14)
    error = 0.5 ** (1 + report.precision["x"].output_format.frac)
    limits = recurrent_oracle.run(layer, long, report.precision["r"], error)
    for output, y in results(network, report, graph, x).items():
        limit, wanted = (
            part.reshape(y.shape) for part in (limits[output].error, want[output].value)
        )
        assert (np.abs(y - wanted) <= limit).all(), output
        assert np.linalg.norm(y - wanted) < NOISE * np.linalg.norm(wanted)
    assert report.precision["r"].output_format.width <= 16


def test_kept_state_lives_on_from_frame_to_frame():
    layer, x = LAYERS["gru, kept"](), frames()
    graph = graph_of(layer)
    (y,) = (evaluate(graph, x)[name] for name in layer.tensors)
    long = replace(layer, kept=False).evaluate(x.reshape(1, -1, INPUTS))
    np.testing.assert_array_equal(y.reshape(long.shape), long)
    network, report = quantise(graph, x)
    assert network.kept == ["r.loop"]
    given = results(network, report, graph, x)["h"]
    session = network.session()
    format = report.precision["x"].output_format
    for frame, wanted in zip(from_float(x, format), given, strict=True):
        have = to_float(session.step(frame), network.outputs["o"].format)
        np.testing.assert_array_equal(have, wanted)


def test_first_frames_calibrate_a_kept_state(monkeypatch):
    """They follow each other in time."""
    monkeypatch.setattr(quantisation, "FRAMES_LIMIT", 8)
    x = np.concatenate([frames(8, size=0.4), frames(8, size=30)])
    kept, other = (graph_of(layer_of(Gru, functions=(HARD, HARD), kept=k)) for k in (True, False))
    decided = [quantise(g, f)[1].precision["x"] for g, f in ((kept, x), (kept, x[:8]), (other, x))]
    assert decided[0] == decided[1] != decided[2]


def test_initial_states_come_from_other_inputs_in_formats_of_their_own():
    layer = layer_of(Lstm, sources=("x", "h0", "c0"), initial=(None, None), outputs=("h", "c_last"))
    graph, x = graph_of(layer), frames()
    given = drawn(6, UNITS, seed=7), drawn(6, UNITS, seed=8)
    inputs = {"x": x, "h0": given[0], "c0": given[1]}
    want = recurrent_oracle.run(layer, x, given=given)
    np.testing.assert_allclose(evaluate(graph, inputs)["r.h"], want["h"].value, atol=1e-12)
    network, report = quantise(graph, inputs, input_format={"h0": "s5.3"}, weight_bits=14)
    assert [node.name for node in network.nodes] == ["r_input_1", "r_input_2", "r"]
    error = 0.5 ** (1 + report.precision["x"].output_format.frac)
    limits = recurrent_oracle.run(layer, x, report.precision["r"], error, given, 0.5**4)
    for output, y in results(network, report, graph, inputs).items():
        assert (np.abs(y - want[output].value) <= limits[output].error).all()


def test_decisions_given_back_make_the_same_integers():
    graph, x = graph_of(LAYERS["lstm, all of it"]()), frames()
    network, report = quantise(graph, x, weight_bits=6)
    decided = report.precision["r"].to_json()
    assert [*decided] == [
        *("output_format", "weight_format", "recurrent_format", "peephole_format"),
        *("projection_format", "sum_format", "gate_format", "tanh_format", "cell_format"),
    ]
    again, _ = quantise(graph, x, precision=report.precision)
    codes = from_float(x, report.precision["x"].output_format)
    np.testing.assert_array_equal(again.reference(codes), network.reference(codes))
    other = decided | {"cell_format": "s9.7"}
    changed, _ = quantise(graph, x, weight_bits=6, precision={"r": other})
    (loop,) = (node.block for node in changed.flat.nodes if isinstance(node.block, Recur))
    assert str(loop.tensor("c").format) == "s9.7"


@pytest.mark.parametrize("name", ["rnn", "rnn relu", "lstm, all of it", "gru", "gru of others"])
def test_nothing_saturates_without_data(name):
    """Not even where all inputs lie at their ends."""
    layer = LAYERS[name]()
    graph = graph_of(layer)
    random = np.random.default_rng(2)
    x = random.choice([-8.0, 7.9375], (40, STEPS, INPUTS))
    rows = layer.weight.reshape(-1, INPUTS)[:4]
    x[: len(rows)] = np.where(rows > 0, 7.9375, -8.0)[:, np.newaxis]
    network, report = quantise(graph, input_format="s8.4", weight_bits=14)
    assert not report.calibrated
    want = recurrent_oracle.run(layer, x)
    limits = recurrent_oracle.run(layer, x, Endless(report.precision["r"]))
    for output, y in results(network, report, graph, x).items():
        wanted, limit = want[output].value, limits[output].error
        assert (np.abs(y - wanted) <= limit + 2.0**-7).all()


class Endless:
    """Formats with units of those chosen, that hold whatever comes."""

    def __init__(self, precision):
        wide = {n: replace(f, width=60, signed=True) for n, f in precision.formats.items()}
        self.output_format = replace(precision.output_format, width=60, signed=True)
        self.formats = wide


def test_biases_take_up_what_weights_lose_in_the_mean():
    """With 3 bits a weight is off by up to an eighth, and inputs are around 3."""
    layer = replace(layer_of(Rnn, functions=(("affine", (1.0, 0.0)),)), recurrent=np.eye(UNITS) / 8)
    graph, x = graph_of(layer), 3 + frames(40, size=0.25)
    network, report = quantise(graph, x, weight_bits=3)
    y, want = results(network, report, graph, x)["h"], evaluate(graph, x)["r"]
    assert np.abs((y - want).mean(axis=(0, 1))).max() < 0.01


@pytest.mark.parametrize("name", ["rnn", "rnn relu", "lstm", "gru", "gru of others"])
def test_bounds_hold_whatever_comes(name, monkeypatch):
    """The next layer's formats stand on them."""
    found, layer = [], LAYERS[name]()
    quantised = type(layer).quantise

    def noted(self, stage):
        found.append(quantised(self, stage))
        return found[-1]

    monkeypatch.setattr(type(layer), "quantise", noted)
    network, report = quantise(graph_of(layer), frames())
    (decision,), format = found, report.precision["x"].output_format
    random = np.random.default_rng(5)
    y = network.reference(random.choice([format.min, format.max], (40, STEPS, INPUTS)))
    y = y if isinstance(y, tuple) else (y,)
    for values, (low, high) in zip(y, decision.bounds, strict=True):
        assert (low <= values).all()
        assert (values <= high).all()


REFUSED = {
    "weights": (
        lambda: layer_of(Rnn, rows=2),
        "Rnn r recurrent must have shape (3, 3), not (3, 2)",
    ),
    "input": (
        lambda: Rnn("r", ("x",), *(np.zeros(n) for n in ((3, 4), (3, 3), (3,)))),
        "Rnn r input must have steps of 4 numbers, not shape (4, 3)",
    ),
    "states of a kept state": (
        lambda: layer_of(Gru, sources=("x", "h0"), initial=(None,), kept=True),
        "Gru r must have a constant initial state where it is kept",
    ),
    "initial": (
        lambda: layer_of(Lstm, initial=(np.zeros(3), np.zeros(2))),
        "Lstm r initial c must have shape (3,), not (2,)",
    ),
    "sources": (
        lambda: layer_of(Gru, initial=(None,)),
        "Gru r sources must be 2, x and initial states that are not constant, not 1",
    ),
    "outputs": (
        lambda: layer_of(Gru, outputs=("h", "c_last")),
        "Gru r outputs must be some of h, h_last, c_last in that order, not ('h', 'c_last')",
    ),
    "peephole": (
        lambda: layer_of(Lstm, peephole=np.zeros((2, 3))),
        "Lstm r peephole must have shape (3, 3), not (2, 3)",
    ),
    "projection": (
        lambda: layer_of(Lstm, rows=2, projection=np.zeros((2, 2))),
        "Lstm r projection must have shape (2, 3), not (2, 2)",
    ),
    "recurrent_bias": (
        lambda: layer_of(Gru, recurrent_bias=np.zeros(2)),
        "Gru r recurrent_bias must have shape (3,), not (2,)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusal(name):
    make, message = REFUSED[name]
    with refused(InputError, message):
        graph_of(make())
