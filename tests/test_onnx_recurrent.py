# SPDX-License-Identifier: Apache-2.0
"""RNN, LSTM and GRU from ONNX: every attribute, and what exporters write around them."""

import itertools

import numpy as np
import pytest
import recurrent_oracle
from onnx import helper
from onnx_models import assert_equals_onnx, model_of, outputs_of, refusal, saved, seeded

import bitblocks
from bitblocks import import_onnx
from bitblocks.layers import Concat, Gru, Linear, Lstm, Rearrange, Rnn

STEPS, INPUTS, UNITS = 4, 3, 2
GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}
KINDS = {"RNN": Rnn, "LSTM": Lstm, "GRU": Gru}
WAYS = {"forward": 1, "reverse": 1, "bidirectional": 2}
TO_STEPS, TO_FRAMES = [1, 0, 2], [2, 0, 1, 3]


def arrays(kind, direction="forward", inputs=INPUTS, prefix=""):
    rows, ways = GATES[kind] * UNITS, WAYS[direction]
    shapes = {"W": (ways, rows, inputs), "R": (ways, rows, UNITS), "B": (ways, 2 * rows)}
    if kind == "LSTM":
        shapes["P"] = (ways, 3 * UNITS)
    return {
        f"{prefix}{name}": seeded(*shape, seed=n) for n, (name, shape) in enumerate(shapes.items())
    }


def model(
    kind, given=("B",), outputs=("Y", "Y_h", "Y_c"), constants=None, frames=None, **attributes
):
    """Frames (steps, inputs) through one node; what it gives has frames first."""
    opset = attributes.pop("opset", 22)
    known = arrays(kind, attributes.get("direction", "forward")) | (constants or {})
    names = ["B", "lens", "h0", "c0", "P"][: 5 if kind == "LSTM" else 3]
    given = [name if name in given else "" for name in names]
    layout = attributes.get("layout", 0)
    outputs = outputs[: 3 if kind == "LSTM" else 2]
    nodes = [] if layout else [helper.make_node("Transpose", ["x"], ["x steps"], perm=TO_STEPS)]
    frames = {"x": (STEPS, INPUTS)} | (frames or {})
    turned = {name: f"{name} states" for name in frames if name != "x" and not layout}
    nodes += [helper.make_node("Transpose", [a], [b], perm=TO_STEPS) for a, b in turned.items()]
    inputs = ["x" if layout else "x steps", "W", "R", *(turned.get(name, name) for name in given)]
    raw = [f"{name} of it" if name else "" for name in outputs]
    attributes.setdefault("hidden_size", UNITS)
    nodes.append(helper.make_node(kind, inputs, raw, **attributes))
    for name, own in zip(outputs, raw, strict=True):
        perm = [0, 1, 2] if name != "Y" else [0, 1, 2, 3]
        if not layout:
            perm = TO_FRAMES if name == "Y" else TO_STEPS
        if name:
            nodes.append(helper.make_node("Transpose", [own], [name], perm=perm))
    known = {name: value for name, value in known.items() if name in ("W", "R", *given)}
    return model_of(nodes, frames, [*filter(None, outputs)], known, opset=opset)


@pytest.mark.parametrize("direction", WAYS)
@pytest.mark.parametrize("kind", GATES)
def test_node_gives_what_the_reference_evaluator_gives(kind, direction, tmp_path):
    """All that it may have: biases, peepholes, states of every frame, all outputs."""
    states = {"h0": (WAYS[direction], UNITS)}
    if kind == "LSTM":
        states["c0"] = (WAYS[direction], UNITS)
    node = model(kind, ("B", "h0", "c0", "P"), frames=states, direction=direction)
    graph = assert_equals_onnx(node, tmp_path, {"x": (STEPS, INPUTS)} | states)
    assert [type(n) for n in graph.nodes].count(KINDS[kind]) == WAYS[direction]


@pytest.mark.parametrize("kind", GATES)
def test_frames_may_come_first(kind, tmp_path):
    node = model(kind, direction="bidirectional", layout=1)
    assert_equals_onnx(node, tmp_path, {"x": (STEPS, INPUTS)})


@pytest.mark.parametrize("reset_after", [0, 1])
def test_reset_gate_acts_before_or_after_the_product(reset_after, tmp_path):
    node = model("GRU", linear_before_reset=reset_after)
    graph = assert_equals_onnx(node, tmp_path, {"x": (STEPS, INPUTS)})
    (layer,) = (n for n in graph.nodes if isinstance(n, Gru))
    assert layer.reset_after == bool(reset_after)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_outputs_that_nobody_reads_are_left_out(count, tmp_path):
    for chosen in itertools.combinations(("Y", "Y_h", "Y_c"), count):
        outputs = tuple(name if name in chosen else "" for name in ("Y", "Y_h", "Y_c"))
        graph = assert_equals_onnx(model("LSTM", outputs=outputs), tmp_path, {"x": (STEPS, INPUTS)})
        (layer,) = (n for n in graph.nodes if isinstance(n, Lstm))
        names = dict(zip(("Y", "Y_h", "Y_c"), ("h", "h_last", "c_last"), strict=True))
        assert layer.outputs == tuple(names[name] for name in chosen)


STANDARD = {
    "Affine": ("affine", (1.5, -0.25)),
    "Elu": ("elu", (0.75, None)),
    "HardSigmoid": ("hardsigmoid", (0.3, 0.4)),
    "LeakyRelu": ("leaky_relu", (0.1, None)),
    "Relu": ("relu", (None, None)),
    "ScaledTanh": ("scaled_tanh", (1.25, 0.5)),
    "Sigmoid": ("sigmoid", (None, None)),
    "Softplus": ("softplus", (None, None)),
    "Softsign": ("softsign", (None, None)),
    "Tanh": ("tanh", (None, None)),
    "ThresholdedRelu": ("thresholded_relu", (0.2, None)),
}
USUAL = {
    "Affine": (1, 0),
    "Elu": (1,),
    "HardSigmoid": (0.2, 0.5),
    "LeakyRelu": (0.01,),
    "ScaledTanh": (1, 1),
    "ThresholdedRelu": (1,),
}


def assert_is_oracle(node, layer, folder, clip=np.inf):
    graph = import_onnx(saved(node, folder))
    x = seeded(5, STEPS, INPUTS, seed=8).astype(float)
    want = recurrent_oracle.run(layer, x)["h"].value
    have = outputs_of(graph, {"x": x})["Y"]
    np.testing.assert_allclose(have.reshape(want.shape), want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", STANDARD)
def test_every_activation_is_honoured(name, tmp_path):
    function, (alpha, beta) = STANDARD[name]
    known = {n: x.astype(float) for n, x in arrays("RNN").items()}
    bias = known["B"].reshape(2, UNITS).sum(0)
    given = {"activation_alpha": [alpha]} if alpha else {}
    given |= {"activation_beta": [beta]} if beta else {}
    parameters = tuple(float(np.float32(n)) for n in (alpha, beta) if n is not None)
    for values, more in ((parameters, given), (USUAL.get(name, ()), {})):
        functions = ((function, values),)
        layer = Rnn("r", ("x",), known["W"][0], known["R"][0], bias, functions=functions)
        for written in (name, name.lower()):
            node = model("RNN", outputs=("Y",), activations=[written], **more)
            assert_is_oracle(node, layer, tmp_path)


def test_parameters_are_taken_in_order_by_the_functions_that_have_some(tmp_path):
    """And sums are clipped, but no state."""
    known = {n: x.astype(float) for n, x in arrays("LSTM").items()}
    i, o, f, c = known["W"][0].reshape(4, UNITS, INPUTS)
    ri, ro, rf, rc = known["R"][0].reshape(4, UNITS, UNITS)
    bi, bo, bf, bc = known["B"][0].reshape(2, 4, UNITS).sum(0)
    functions = ("hardsigmoid", (0.25, 0.5)), ("tanh", ()), ("affine", (0.5, 0.125))
    layer = Lstm(
        *("r", ("x",), np.stack([i, f, c, o]), np.stack([ri, rf, rc, ro])),
        np.stack([bi, bf, bc, bo]),
        functions=functions,
        clip=0.75,
    )
    node = model(
        "LSTM",
        outputs=("Y",),
        activations=["HardSigmoid", "Tanh", "Affine"],
        activation_alpha=[0.25, 0.5],
        activation_beta=[0.5, 0.125],
        clip=0.75,
    )
    assert_is_oracle(node, layer, tmp_path)


def test_each_direction_has_functions_of_its_own(tmp_path):
    names = ["Sigmoid", "Relu", "HardSigmoid", "LeakyRelu"]
    node = model("GRU", direction="bidirectional", activations=names, activation_alpha=[0.3, 0.1])
    graph = import_onnx(saved(node, tmp_path))
    functions = [n.functions for n in graph.nodes if isinstance(n, Gru)]
    short = [float(np.float32(n)) for n in (0.3, 0.1)]
    assert functions == [
        (("sigmoid", ()), ("relu", ())),
        (("hardsigmoid", (short[0], 0.5)), ("leaky_relu", (short[1],))),
    ]


@pytest.mark.parametrize("opset", [7, 14, 17, 22, 24])
@pytest.mark.parametrize("kind", GATES)
def test_operator_sets(kind, opset, tmp_path):
    node = model(kind, opset=opset)
    assert_equals_onnx(node, tmp_path, {"x": (STEPS, INPUTS)})


def test_whole_sequences_and_states_of_all_frames_may_be_constant(tmp_path):
    constants = {
        "lens": np.full(3, STEPS, np.int32),
        "h0": np.repeat(seeded(1, 1, UNITS), 3, 1),
        "c0": seeded(1, 1, UNITS, seed=5).repeat(3, 1),
    }
    node = model("LSTM", ("B", "lens", "h0", "c0"), constants=constants)
    graph = assert_equals_onnx(node, tmp_path, {"x": (STEPS, INPUTS)})
    assert [type(n) for n in graph.nodes].count(Lstm) == 1


SAID = "{} node that gives 'Y of it' "
REFUSED = {
    "lengths": (
        lambda: model("GRU", ("B", "lens"), constants={"lens": np.array([4, 3, 4], np.int32)}),
        "GRU",
        "input 'sequence_lens' must be 4 throughout, the whole sequence",
    ),
    "states that differ": (
        lambda: model("GRU", ("B", "h0"), constants={"h0": seeded(1, 3, UNITS)}),
        "GRU",
        "must have one initial_h for all frames, or an input",
    ),
    "shape of states": (
        lambda: model("LSTM", ("B", "c0"), constants={"c0": seeded(1, 3, 5)}),
        "LSTM",
        "must have an initial_c of [1, 2] for a frame",
    ),
    "shape of given states": (
        lambda: model("LSTM", ("B", "h0"), frames={"h0": (1, 5)}),
        "LSTM",
        "must have an initial_h of [1, 2] for a frame, not [1, 5]",
    ),
    "coupled": (
        lambda: model("LSTM", input_forget=1),
        "LSTM",
        "attribute 'input_forget' must be 0",
    ),
    "direction": (
        lambda: _with(model("RNN"), direction="sideways"),
        "RNN",
        "attribute 'direction' must be forward, reverse, bidirectional, not sideways",
    ),
    "units": (
        lambda: model("RNN", hidden_size=5),
        "RNN",
        "must have a W of shape [1, 5, 3], not [1, 2, 3]",
    ),
    "biases": (
        lambda: model("RNN", constants={"B": seeded(1, 5)}),
        "RNN",
        "must have a B of shape [1, 4], not [1, 5]",
    ),
    "layout": (
        lambda: _with(model("RNN"), layout=2),
        "RNN",
        "attribute 'layout' must be 0 or 1, not 2",
    ),
    "batch": (
        lambda: _with(model("RNN"), layout=1),
        "RNN",
        "must have the batch on axis 0, not 1",
    ),
    "clip": (
        lambda: model("RNN", clip=0.0),
        "RNN",
        "attribute 'clip' must be above 0, not 0",
    ),
    "too few functions": (
        lambda: model("GRU", activations=["Tanh"]),
        "GRU",
        "attribute 'activations' must name 2, not 1",
    ),
    "unknown function": (
        lambda: model("GRU", activations=["Tanh", "Gelu"]),
        "GRU",
        "attribute 'activations' must not name 'Gelu'",
    ),
    "parameters left over": (
        lambda: model("GRU", activation_beta=[1.0]),
        "GRU",
        "attribute 'activation_beta' must have a number for each function it is of",
    ),
    "parameter": (
        lambda: model("RNN", activations=["Elu"], activation_alpha=[-1.0]),
        "RNN",
        "attribute 'activation_alpha' must be above 0 for Elu, not -1",
    ),
    "weights": (
        lambda: _reading_itself(model("RNN")),
        "RNN",
        "must have a constant R",
    ),
}


def _with(proto, **attributes):
    (node,) = (n for n in proto.graph.node if n.op_type in GATES)
    kept = [a for a in node.attribute if a.name not in attributes]
    del node.attribute[:]
    node.attribute.extend([*kept, *(helper.make_attribute(n, v) for n, v in attributes.items())])
    return proto


def _reading_itself(proto):
    (node,) = (n for n in proto.graph.node if n.op_type in GATES)
    node.input[2] = node.input[0]
    return proto


@pytest.mark.parametrize("name", REFUSED)
def test_refusal(name, tmp_path):
    make, kind, rule = REFUSED[name]
    assert refusal(make(), tmp_path) == SAID.format(kind) + rule


# What PyTorch 2.13 writes for nn.RNN, nn.LSTM and nn.GRU.


def zeros_of_script(states, source="x"):
    """The initial state of all layers, as the TorchScript exporter makes it."""
    constants = {
        **{"zero": np.array(0), "axis 0": np.array([0]), "axis 1": np.array([1])},
        **{"states": np.array([states]), "units": np.array([UNITS])},
    }
    nodes = [
        helper.make_node("Shape", [source], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["batch"], axis=0),
        helper.make_node("Unsqueeze", ["batch", "axis 0"], ["batches"]),
        helper.make_node("Concat", ["states", "batches", "units"], ["lengths"], axis=0),
        helper.make_node("ConstantOfShape", ["lengths"], ["zeros"]),
        helper.make_node("Transpose", [source], ["x0"], perm=TO_STEPS),
    ]
    return nodes, constants


def zeros_of_program(states):
    """The same by the newer exporter."""
    constants = {
        **{"nothing": np.array(0, np.float32), "axis 0": np.array([0]), "axis 1": np.array([1])},
        **{"states": np.array([states]), "units": np.array([UNITS])},
    }
    nodes = [
        helper.make_node("Shape", ["x"], ["batch"], start=0, end=1),
        helper.make_node("Concat", ["states", "batch", "units"], ["lengths"], axis=0),
        helper.make_node("Expand", ["nothing", "lengths"], ["zeros"]),
        helper.make_node("Transpose", ["x"], ["x0"], perm=TO_STEPS),
    ]
    return nodes, constants


def joined_by_script(source, target, ways, tag):
    """Y with both directions on one axis."""
    if ways == 1:
        return [helper.make_node("Squeeze", [source, "axis 1"], [target])], {}
    return [
        helper.make_node("Transpose", [source], [f"turned {tag}"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", [f"turned {tag}", "both"], [target], allowzero=0),
    ], {"both": np.array([0, 0, -1])}


def joined_by_program(source, target, ways, tag):
    """By arithmetic on lengths, also of one direction."""
    turned, shape = f"turned {tag}", f"shape {tag}"
    parts = [f"length {n} {tag}" for n in range(4)]
    ends = {f"end {n}": np.array([n]) for n in range(5)}
    return [
        helper.make_node("Transpose", [source], [turned], perm=[0, 2, 1, 3]),
        helper.make_node("Shape", [turned], [shape], start=0),
        *(
            helper.make_node("Slice", [shape, f"end {n}", f"end {n + 1}"], [part])
            for n, part in enumerate(parts)
        ),
        helper.make_node("Mul", parts[2:], [f"width {tag}"]),
        helper.make_node("Reshape", [f"width {tag}", "rest"], [f"list {tag}"], allowzero=0),
        helper.make_node("Concat", [*parts[:2], f"list {tag}"], [f"joined {tag}"], axis=0),
        helper.make_node("Reshape", [turned, f"joined {tag}"], [target], allowzero=0),
    ], ends | {"rest": np.array([-1])}


EXPORTERS = {
    "script": (zeros_of_script, joined_by_script),
    "program": (zeros_of_program, joined_by_program),
}


def stacked(kind, exporter, direction, count=2):
    """``count`` layers, frames first; ends before what the module gives is picked from it."""
    zeros, joined = EXPORTERS[exporter]
    ways = WAYS[direction]
    nodes, constants = zeros(count * ways)
    given = {"linear_before_reset": 1} if kind == "GRU" else {}
    for n in range(count):
        inputs = INPUTS if n == 0 else ways * UNITS
        constants |= arrays(kind, direction, inputs, prefix=f"{n}")
        constants |= {f"from {n}": np.array([n * ways]), f"to {n}": np.array([(n + 1) * ways])}
        first = [f"h{n}"] * (2 if kind == "LSTM" else 1)
        nodes += [
            helper.make_node("Slice", ["zeros", f"from {n}", f"to {n}", "axis 0"], [f"h{n}"]),
            helper.make_node(
                *(kind, [f"x{n}", f"{n}W", f"{n}R", f"{n}B", "", *first]),
                [f"y{n}", f"last {n}"],
                hidden_size=UNITS,
                direction=direction,
                **given,
            ),
        ]
        more, known = joined(f"y{n}", f"x{n + 1}", ways, n)
        nodes, constants = nodes + more, constants | known
    constants = {name: x for name, x in constants.items() if not name.endswith("P")}
    return nodes, constants


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("kind", GATES)
def test_layers_of_pytorch_one_above_the_other(kind, exporter, direction, tmp_path):
    nodes, constants = stacked(kind, exporter, direction)
    nodes.append(helper.make_node("Transpose", ["x2"], ["y"], perm=TO_STEPS))
    proto = model_of(nodes, {"x": (STEPS, INPUTS)}, ["y"], constants, opset=18)
    graph = assert_equals_onnx(proto, tmp_path, {"x": (STEPS, INPUTS)})
    both = [KINDS[kind], Rearrange, KINDS[kind], Rearrange, Concat]
    expected = 2 * ([KINDS[kind]] if direction == "forward" else both)
    assert [type(node) for node in graph.nodes] == expected


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_last_output_of_pytorch_goes_into_a_linear_layer(exporter, tmp_path):
    """``fc(lstm(x)[0][:, -1])``."""
    nodes, constants = stacked("LSTM", exporter, "forward", count=1)
    nodes += [
        helper.make_node("Transpose", ["x1"], ["sequence"], perm=TO_STEPS),
        helper.make_node("Gather", ["sequence", "place"], ["last"], axis=1),
        helper.make_node("Gemm", ["last", "fc", "offset"], ["y"], transB=1),
    ]
    constants |= {"place": np.array(-1), "fc": seeded(3, UNITS), "offset": seeded(3)}
    proto = model_of(nodes, {"x": (STEPS, INPUTS)}, ["y"], constants, opset=18)
    graph = assert_equals_onnx(proto, tmp_path, {"x": (STEPS, INPUTS)})
    assert [type(node) for node in graph.nodes] == [Lstm, Rearrange, Linear]


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_last_states_of_pytorch_are_joined_along_the_layers(exporter, tmp_path):
    """``gru(x)[1][-1]``: states of two layers, of which the last is picked."""
    nodes, constants = stacked("GRU", exporter, "forward")
    nodes += [
        helper.make_node("Concat", ["last 0", "last 1"], ["states of all"], axis=0),
        helper.make_node("Gather", ["states of all", "place"], ["y"], axis=0),
    ]
    constants["place"] = np.array(-1)
    proto = model_of(nodes, {"x": (STEPS, INPUTS)}, ["y"], constants, opset=18)
    assert_equals_onnx(proto, tmp_path, {"x": (STEPS, INPUTS)})


def test_rnn_of_pytorch_step_by_step(tmp_path):
    """The newer exporter writes every step of nn.RNN, the first from zeros times a matrix."""
    zeros, constants = zeros_of_program(1)
    known = arrays("RNN")
    constants |= {"W": known["W"][0].T, "R": known["R"][0].T}
    constants |= {"b": known["B"][0, :UNITS], "d": known["B"][0, UNITS:]}
    nodes = [
        *zeros,
        helper.make_node("Squeeze", ["zeros", "axis 0"], ["first"]),
        helper.make_node("MatMul", ["x0", "W"], ["products"]),
        helper.make_node("Add", ["products", "b"], ["of x"]),
        helper.make_node("Unsqueeze", ["first", "axis 0"], ["h0"]),
    ]
    for n in range(STEPS):
        constants |= {f"at {n}": np.array([n]), f"behind {n}": np.array([n + 1])}
        slice_ = [f"at {n}", f"behind {n}", "axis 0"]
        nodes += [
            helper.make_node("Slice", ["of x", *slice_], [f"part {n}"]),
            helper.make_node("Squeeze", [f"part {n}", "axis 0"], [f"of x {n}"]),
            helper.make_node("MatMul", [f"h{n}", "R"], [f"product {n}"]),
            helper.make_node("Add", [f"product {n}", "d"], [f"of h {n}"]),
            helper.make_node("Add", [f"of x {n}", f"of h {n}"], [f"sum {n}"]),
            helper.make_node("Tanh", [f"sum {n}"], [f"h{n + 1}"]),
        ]
    steps = [f"h{n + 1}" for n in range(STEPS)]
    nodes.append(helper.make_node("Concat", steps, ["sequence"], axis=0))
    nodes.append(helper.make_node("Transpose", ["sequence"], ["y"], perm=TO_STEPS))
    proto = model_of(nodes, {"x": (STEPS, INPUTS)}, ["y"], constants, opset=18)
    assert_equals_onnx(proto, tmp_path, {"x": (STEPS, INPUTS)})


BUILT = {
    "rnn, both ways": lambda: model("RNN", direction="bidirectional", outputs=("Y",), clip=0.75),
    "lstm": lambda: model("LSTM", ("B", "P"), outputs=("Y", "", "Y_c")),
    "gru": lambda: model(
        "GRU",
        ("B", "h0"),
        outputs=("Y",),
        frames={"h0": (1, UNITS)},
        activations=["HardSigmoid", "Tanh"],
    ),
}


@pytest.mark.parametrize("name", BUILT)
def test_verilog_equals_the_model(name, tmp_path):
    proto = BUILT[name]()
    data = {
        port.name: seeded(32, *(n.dim_value for n in port.type.tensor_type.shape.dim[1:]))
        for port in proto.graph.input
    }
    bitblocks.build(saved(proto, tmp_path), tmp_path / "build", calibration=data)
    found = bitblocks.verify(tmp_path / "build", frames=12)
    assert found.problems == ()
    assert found.frames == 12
    assert found.interval_measured == found.interval_predicted
