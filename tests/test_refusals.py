# SPDX-License-Identifier: Apache-2.0
"""What is refused: by every block in its own name, and every sentence of the libraries."""

import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from enum import Enum
from fractions import Fraction
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from refusal import refused
from sentences import HOLE, says, sentences, strings

import blocks
from blocks import (
    Add,
    Divide,
    Gate,
    Lanes,
    Network,
    NetworkPlan,
    Node,
    Nonlinearity,
    Recur,
    Reshape,
    SquareRoot,
    Tensor,
    TransposedConvolution,
    activation,
    load,
    save,
    saving,
)
from blocks.catalogue import CATALOGUE
from hdl import Target, legal_name, stream_signature, verilog
from hdl.adder_graph import build_adder_graph
from hdl.axi import AxiStreamPort, AxiTop
from hdl.shift_add import Pipeline
from hdl.stream import Gather, Scatter
from quant import (
    FUNCTIONS,
    DenseKernel,
    Format,
    Rule,
    approximate,
    attaining_inputs,
    celu,
    elu,
    rescale,
    selu,
)
from quant.function import power, reciprocal, scaled_tanh, swish

ROOT = Path(__file__).parents[1]
ROOMS = ("quant", "hdl", "blocks", "sim", "bitblocks")
KINDS = [
    name
    for name, entry in CATALOGUE.items()
    if isinstance(entry.kind, type) and name not in ("Network", "Recur")  # composed by the user
]
COMPOSED = [name for name, entry in CATALOGUE.items() if not isinstance(entry.kind, type)]
PORTS = {"i": "input", "i_a": "input_a", "i_b": "input_b"}
PLANS = {
    "Convolution": "Folded, Columns or Unrolled",
    "TransposedConvolution": "Folded, Columns or Unrolled",
    "Linear": "Folded or Unrolled",
    "Neuron": "Folded or Unrolled",
    "MaxPool": "Pooled or WholeWindows",
    "AveragePool": "Pooled or WholeWindows",
}
Refusal = tuple[type[Exception], str, Callable[[], object]]


def refusals(name: str) -> Iterator[Refusal]:
    """Question 6, as far as all blocks share it: tensors, formats, modes, integers, plans."""
    configuration = CATALOGUE[name].configuration(3)
    block, plan = configuration.block, configuration.plan
    for field in fields(block):
        what, value = f"{name} {field.name}", getattr(block, field.name)
        given = partial(_replaced, block, field.name)
        if isinstance(value, Tensor):
            yield TypeError, f"{what} must be a Tensor, not 3", given(3)
        elif isinstance(value, Format):
            yield TypeError, f"{what} must be a Format, not 3", given(3)
        elif isinstance(value, Enum):
            known = ", ".join(str(mode) for mode in type(value))
            yield ValueError, f"{what} must be one of {known}, not 'up'", given("up")
        elif isinstance(value, np.ndarray):
            yield TypeError, f"{what} must be integers, not float64", given(value + 0.5)
            number = getattr(block, f"{field.name}_format", None)
            if number is not None:
                large = np.full_like(value, number.max + 1)
                yield ValueError, _out_of_range(what, number), given(large)
    frames = [np.zeros(tensor.shape, int) for tensor in block.inputs.values()]
    for n, (port, tensor) in enumerate(block.inputs.items()):
        other = f"input {n if name == 'Concat' else port}"
        what = f"{name} {PORTS.get(port, other)}"
        shape = ", ".join(map(str, tensor.shape))
        for error, message, frame in (
            (TypeError, f"{what} must be integers, not float64", frames[n] + 0.5),
            (ValueError, _out_of_range(what, tensor.format), frames[n] + tensor.format.max + 1),
            (ValueError, f"{what} must have shape (..., {shape}), not (97,)", np.zeros(97, int)),
        ):
            yield error, message, partial(block.reference, *frames[:n], frame, *frames[n + 1 :])
    known = PLANS.get(name, type(plan).__name__)
    for view in (block.lanes, block.rtl, block.timing):
        yield TypeError, f"{name} plan must be {known}, not None", partial(view, None)


def composed_refusals(name: str) -> Iterator[Refusal]:
    """Likewise of a function that composes a block: tensors, formats and modes."""
    make = CATALOGUE[name].kind
    (given, *_) = calls(name)
    parameters = inspect.signature(make).parameters
    for argument, value in ({p: q.default for p, q in parameters.items()} | given).items():
        what, wrong = f"{name} {argument}", partial(make, **{**given, argument: 3})
        if isinstance(value, Tensor):
            yield TypeError, f"{what} must be a Tensor, not 3", wrong
        elif isinstance(value, Format):
            yield TypeError, f"{what} must be a Format, not 3", wrong
        elif isinstance(value, Enum):
            known = ", ".join(str(mode) for mode in type(value))
            yield ValueError, f"{what} must be one of {known}, not 3", wrong


def calls(name: str) -> list[dict[str, object]]:
    """Arguments with which configurations of the catalogue call the function ``name``."""
    make, found = CATALOGUE[name].kind, []
    if make.__module__ == "blocks.softmax":  # whose configurations do not call it by its name
        return [{"input": X, "output_format": S}]

    def told(*arguments, **named):
        bound = inspect.signature(make).bind(*arguments, **named).arguments
        found.append(bound | bound.pop("loop", {}) | bound.pop("options", {}))
        return make(*arguments, **named)

    with patch.object(sys.modules[make.__module__], name, told):
        CATALOGUE[name].configuration(3)
    return found


def _replaced(block: object, field: str, value: object) -> Callable[[], object]:
    return partial(replace, block, **{field: value})


def _out_of_range(what: str, number: Format) -> str:
    span = f"[{number.max + 1}, {number.max + 1}]"
    return f"{what} must be in [{number.min}, {number.max}] for format {number}, not span {span}"


@pytest.mark.parametrize("name", KINDS)
def test_bad_arguments_of_every_block_are_refused_in_its_name(name):
    for error, message, action in refusals(name):
        with refused(error, message):
            action()


@pytest.mark.parametrize("name", COMPOSED)
def test_bad_arguments_of_composed_blocks_are_refused_in_their_name(name):
    for error, message, action in composed_refusals(name):
        with refused(error, message):
            action()


X = Tensor((4,), Format(8, 4))
S, U = Format(8, 4), Format(8, 4, signed=False)
ROWS, PIXELS = Tensor((4, 4), S), Tensor((4, 4, 4), S)
ONES, ZEROS = np.ones(4, int), np.zeros(4, int)
HUGE = np.array([[1 << 63]], np.uint64)


def norm(make, **changes):
    groups = {"groups": 2} if make is blocks.group_norm else {}
    given = {"scale": ONES, "bias": ZEROS, "scale_format": S, "output_format": S}
    return partial(make, **{"input": X, **groups, **given, **changes})


def recurrent(make, gates, **changes):
    """An RNN, LSTM or GRU of 2 inputs and 3 units."""
    arrays = {"weight": np.ones((*gates, 3, 2), int), "recurrent": np.ones((*gates, 3, 3), int)}
    arrays |= {"bias": np.zeros((*gates, 3), int)}
    names = ["weight_format", "recurrent_format", "sum_format", "output_format"]
    names += ["gate_format"] * (make is not blocks.rnn)
    names += ["tanh_format", "cell_format"] * (make is blocks.lstm)
    given = {"input": Tensor((2, 2), S), **arrays, **dict.fromkeys(names, S)}
    return partial(make, **{**given, **changes})


def running_sum(**changes):
    x, total = Tensor((2,), S), Tensor((2,), Format(12, 4))
    nodes = (Node("sum", Add(x, total, total.format), ("x", "total")),)
    outputs = {"total": "sum", **changes.pop("outputs", {})}
    cell = Network({"x": x, "total": total}, nodes, outputs)
    given = {"initial": (np.zeros(2, int),), "sequences": ("total",)}
    return partial(Recur, **{"cell": cell, "steps": 2, **given, **changes})


class Wire(wiring.Component):
    """Two streams of 8 bits."""

    def __init__(self):
        super().__init__({"i": In(stream_signature(S, 1)), "o": Out(stream_signature(S, 1))})


def top(**changes):
    ports = {"i": AxiStreamPort("i", S, 1, 4), "o": AxiStreamPort("o", S, 1, 4)}
    ports |= changes
    return partial(AxiTop, Wire(), {"x": ports["i"]}, {"y": ports["o"]})


PARTS = [blocks.Projection(np.ones((4, 4), int), ZEROS, S, S)] * 4
IDENTITY = Network({"x": X}, (Node("y", blocks.Identity(X, S), ("x",)),), {"y": "y"})
COLUMNS = blocks.Convolution(PIXELS, np.ones((1, 2, 2, 4), int), [0], S, S)
ROM, RAM = "block, logic", "block, distributed, registers"
FOLDED, COLUMN = blocks.Folded(1, 1), blocks.Columns(1)
WRONG_PLANS = {  # plan, field, value -> what the field may be, None for an int
    (Lanes(1), "lanes", 0.5): None,
    (blocks.Prompt(1), "lanes", True): None,
    (FOLDED, "pe", "1"): None,
    (FOLDED, "weight_style", "fast"): ROM,
    (FOLDED, "buffer_style", "logic"): RAM,
    (COLUMN, "pe", None): None,
    (COLUMN, "weight_style", "registers"): ROM,
    (blocks.Unrolled(), "adders_per_stage", "1"): None,
    (blocks.TableLanes(1), "style", "registers"): ROM,
    (blocks.Reads(1), "table_style", 3): ROM,
    (blocks.Pooled(1), "buffer_style", "logic"): RAM,
    (blocks.WholeWindows(), "buffer_style", "logic"): RAM,
    (blocks.Accumulators(1), "buffer_style", "logic"): RAM,
    (blocks.Heads("block"), "style", "logic"): RAM,
}
TABLE = approximate(FUNCTIONS["tanh"], S, S, degree=0)
ACTIONS = {
    "gate": lambda: Gate(ROWS, Tensor((4, 2), S), S),
    "padding pair": lambda: blocks.MaxPool(ROWS, (2,), (2,), padding=("ab",)),
    "output padding": lambda: TransposedConvolution(
        ROWS, np.ones((1, 2, 4), int), np.array([0]), S, S, output_padding=(-1,)
    ),
    "graph order": lambda: build_adder_graph([[1]], [(1, 0)]),
    "graph sums": lambda: build_adder_graph([[1 << 40]], [(0, 1 << 20)]),
    "port format": lambda: AxiStreamPort("i", 8, 1, 1),
    "port name": lambda: AxiStreamPort(1, S, 1, 1),
    "top direction": top(i=AxiStreamPort("o", S, 1, 4)),
    "top bits": top(i=AxiStreamPort("i", S, 2, 4)),
    "divide by 0": lambda: Divide(X, X, S, None).reference(ONES, ZEROS),
    "divide bits": lambda: Divide(X, Tensor((4,), Format(8, 60)), Format(60, 10), 0),
    "root signed": lambda: SquareRoot(X, S),
    "root bits": lambda: SquareRoot(Tensor((4,), Format(60, 0, False)), Format(60, 50)),
    "wrap": lambda: approximate(FUNCTIONS["exp"], Format(16, 2), S, 0, overflow="WRAP"),
    "form": lambda: Nonlinearity(X, "tanh"),
    "form format": lambda: Nonlinearity(Tensor((4,), U), TABLE),
    "form bits": lambda: replace(TABLE, starts=HUGE[0]),
    "kernel bits": lambda: DenseKernel([[1]], HUGE[0], 0, S, S),
    "form range": lambda: replace(TABLE, coefficients=TABLE.coefficients << 40),
    "recur lanes": lambda: running_sum()().lanes(
        NetworkPlan({"sum": Lanes(1)}, {"i_x": 1, "i_total": 2, "o": 1})
    ),
    "recur wires": lambda: running_sum()().rtl(
        NetworkPlan(
            {"sum": Lanes(1)}, {"i_x": 1, "i_total": 1, "o": 1}, {"sum.i_a": 1, "sum.i_b": 0}
        )
    ),
    "unrolled adders": lambda: blocks.Unrolled(0),
    "network inputs": lambda: Network(3, IDENTITY.nodes, {"y": "y"}),
    "network outputs": lambda: Network({"x": X}, IDENTITY.nodes, ("y",)),
    "network nodes": lambda: Network({"x": X}, (3,), {"y": "y"}),
    "network sources": lambda: Network(
        {"x": X}, (Node("y", blocks.Identity(X, S), 3),), {"y": "y"}
    ),
    "network name": lambda: Network({3: X}, IDENTITY.nodes, {"y": "y"}),
    "chain": lambda: Network.chain(3),
    "planned network": lambda: blocks.plan(3, Target.named("ecp5")),
    "planned target": lambda: blocks.plan(IDENTITY, "ecp5"),
    **{
        f"network {view}": partial(getattr(IDENTITY, view), 3, *more)
        for view, more in (("lanes", ()), ("timing", ()), ("cost", (Target.named("ecp5"),)))
    },
    "no network plan": lambda: IDENTITY.rtl(Lanes(1)),
    "plan without plans": lambda: IDENTITY.rtl(NetworkPlan({}, {"i": 1, "o": 1}, {"y.i": 0})),
    "plan without depths": lambda: IDENTITY.rtl(NetworkPlan({"y": Lanes(1)}, {"i": 1, "o": 1})),
    "plan of other lanes": lambda: IDENTITY.rtl(
        NetworkPlan({"y": Lanes(1)}, {"i": 1, "o": 3}, {"y.i": 0})
    ),
    "plan of half a word": lambda: IDENTITY.rtl(
        NetworkPlan({"y": Lanes(1)}, {"i": 1, "o": 1}, {"y.i": 0.5})
    ),
    "plan of another style": lambda: IDENTITY.rtl(
        NetworkPlan({"y": Lanes(1)}, {"i": 1, "o": 1}, {"y.i": 2}, {"y.i": "logic"})
    ),
    "neuron folding": lambda: blocks.Neuron(X, ONES, 0, S, S).lanes(blocks.Folded(1, 3)),
    "folding of 0": lambda: blocks.Linear(X, [ONES], [0], S, S).lanes(blocks.Folded(0, 1)),
    "columns of 0": lambda: COLUMNS.lanes(blocks.Columns(0)),
    **{
        f"{type(plan).__name__} {field}": _replaced(plan, field, value)
        for plan, field, value in WRONG_PLANS
    },
    "unrolled stages": lambda: blocks.Unrolled(1, 3),
    "unrolled held": lambda: blocks.Unrolled(held=1),
    "prompt stages": lambda: blocks.Prompt(1, 2),
    "recur unread": running_sum(outputs={"x_again": "x"}),
    "recur frames": lambda: running_sum()().reference(),
    "rescale shape": lambda: rescale([1], S, S, [[1]], [[1]], Rule.ONNX),
    "reshape": lambda: Reshape(X, "4"),
    "saved": lambda: load([], {}),
    "saved network": lambda: load({"schema": 1, "kind": "Network"}, {}),
    "verilog": lambda: verilog(None, "top"),
    "verilog name": lambda: verilog(Wire(), 3),
    "name": lambda: legal_name(3, set()),
    "depth": lambda: Pipeline(build_adder_graph([[3]], [(0, 7)]), 0),
    "attaining float": lambda: attaining_inputs([[0.5]], S),
    "attaining bits": lambda: attaining_inputs(HUGE, S),
    "attaining shape": lambda: attaining_inputs([1], S),
    "attention shares": lambda: blocks.attention(*[Tensor((1, 1, 4), S)] * 3, S, 3, S),
    "many shares": lambda: blocks.multi_head_attention(ROWS, None, 1, *PARTS, S, S, 3),
    "projection": lambda: blocks.multi_head_attention(ROWS, None, 1, 3, *PARTS[1:], S, S, S),
    "scores": lambda: blocks.content_scores(3, X, X, S),
    "scores format": lambda: blocks.content_scores(ROWS, Tensor((1, 4), S), Tensor((1,), S), 3),
    "read": lambda: blocks.soft_read(3, ROWS, S),
    "read format": lambda: blocks.soft_read(ROWS, ROWS, 3),
    "cut": lambda: blocks.cut(3, ()),
    "depth_to_space": lambda: blocks.depth_to_space(3, 2),
    "space_to_depth": lambda: blocks.space_to_depth(3, 2),
    "expand input": lambda: blocks.expand(3, (4,)),
    "gather": lambda: blocks.gather(3, [0]),
    "pad": lambda: blocks.pad(3, (0,), (0,)),
    "pad widths": lambda: blocks.pad(X, (0.5,), (0,)),
    "upsample input": lambda: blocks.upsample(3, (1,)),
    "table lanes": lambda: Nonlinearity(X, TABLE).lanes(blocks.TableLanes(3)),
    "parted lanes": lambda: blocks.Deinterleave(X, 2).lanes(Lanes(4)),
    "form starts": lambda: replace(TABLE, starts=[0.5]),
    "tanh scale": lambda: scaled_tanh("1", 1),
    "port lanes": lambda: AxiStreamPort("i", S, 1.0, 1),
    "port lane": lambda: AxiStreamPort("i", S, 0, 1),
    "gather ratio": lambda: Gather(S, 1, 1),
    "scatter ratio": lambda: Scatter(S, 1, 1),
    "attention mask": lambda: blocks.attention(*[Tensor((1, 1, 4), S)] * 3, S, S, S, mask=[[[1]]]),
    "gates": lambda: blocks.gate(X, None, S),
    "memory": lambda: blocks.multi_head_attention(ROWS, 3, 1, *[None] * 4, S, S, S),
    "matmul axes": lambda: blocks.matmul(X, X, S),
    "matmul shapes": lambda: blocks.matmul(ROWS, Tensor((3, 4), S), S),
    "expand": lambda: blocks.expand(X, (0.5,)),
    "upsample": lambda: blocks.upsample(X, (0.5,)),
    "depth axes": lambda: blocks.space_to_depth(X, 2),
    "depth mode": lambda: blocks.space_to_depth(PIXELS, 2, "ABC"),
    "depth size": lambda: blocks.space_to_depth(PIXELS, 0),
    "clip low": lambda: activation.clip(X, 0.5, 1, S),
    "clip high": lambda: activation.clip(X, 0, 0.5, S),
    "shrink bias": lambda: activation.shrink(X, 0.5, 1, S),
    "shrink lambd": lambda: activation.shrink(X, 1, 0.5, S),
    **{
        f"{make.__name__} {name} {value}": partial(make, X, S, **{name: value})
        for make in (activation.hardsigmoid, activation.hardswish)
        for name, value in (("alpha", 0.5), ("beta", 0.5), ("alpha", 0))
    },
    "elu": lambda: elu("1"),
    "celu": lambda: celu(-1),
    "selu": lambda: selu("1"),
    "selu below": lambda: selu(alpha=0),
    "swish": lambda: swish("1"),
    "swish below": lambda: swish(0),
    "power": lambda: power("2"),
    "power large": lambda: power(65),
    "power third": lambda: power(Fraction(1, 3)),
    "reciprocal": lambda: reciprocal("1"),
    "reciprocal infinite": lambda: reciprocal(float("inf")),
    **{
        f"rescale {n} {value}": partial(rescale, [1], S, S, *given, Rule.ONNX)
        for n, value, given in (
            (0, "float", (0.5, 1)),
            (0, "huge", (HUGE, 1)),
            (1, "float", (1, 0.5)),
            (1, "huge", (1, HUGE)),
        )
    },
    **{
        f"{make.__name__} {name}": norm(make, **{name: value})
        for make in (blocks.layer_norm, blocks.rms_norm, blocks.group_norm)
        for name, value in (("scale_format", 8), ("epsilon", 0), ("scale", ONES[:3]))
    },
    **{
        f"{make.__name__} error {error}": partial(make, ROWS, S, error=error)
        for make in (blocks.softmax, blocks.softmin, blocks.log_softmax)
        for error in ("1", 0.5, 0.5000000001)
    },
    "glu error": lambda: blocks.glu(X, S, error=0.5000000001),
    "addressing": lambda: blocks.location_addressing(
        *[Tensor((1, 4), U)] * 2, Tensor((1,), U), Tensor((1, 3), U), 8, U
    ),
    "softmin one": lambda: blocks.softmin(ROWS, Format(8, 8, False), sums_to_one=True),
    **{
        f"{make.__name__} {name}": recurrent(make, gates, **{name: value})
        for make, gates in ((blocks.rnn, ()), (blocks.lstm, (4,)), (blocks.gru, (3,)))
        for name, value in (
            ("weight", np.ones((9, 9), int)),
            ("recurrent", np.ones((9, 9), int)),
            ("bias", np.zeros(9, int)),
            ("input", Tensor((2,), S)),
            ("shift", np.zeros(9, int)),
            ("recurrent_shift", np.zeros(9, int)),
        )
    },
    **{
        f"{make.__name__} {name}": recurrent(make, gates, **{name: value})
        for make, gates, name, value in (
            (blocks.rnn, (), "choose", 3),
            (blocks.lstm, (4,), "choose", 3),
            (blocks.gru, (3,), "choose", 3),
            (blocks.gru, (3,), "activations", 3),
            (blocks.lstm, (4,), "activations", ("sine",) * 3),
            (blocks.lstm, (4,), "projection", 3),
        )
    },
    "lstm projection shape": recurrent(
        blocks.lstm, (4,), projection=np.ones((3, 2), int), projection_format=S
    ),
    "lstm projection_shift": recurrent(
        blocks.lstm,
        (4,),
        projection=np.ones((3, 3), int),
        projection_format=S,
        projection_shift=[0],
    ),
    "gru recurrent_bias": recurrent(blocks.gru, (3,), recurrent_bias=np.zeros(9, int)),
    "lstm peephole_format": recurrent(blocks.lstm, (4,), peephole=np.ones((3, 3), int)),
    "lstm projection_format": recurrent(
        blocks.lstm, (4,), projection=np.ones((3, 3), int), recurrent=np.ones((4, 3, 3), int)
    ),
}

MESSAGES = {
    "gate": (
        ValueError,
        "Gate input_b must have shape (4, 4) like input_a, or 1 on its last axes, not (4, 2)",
    ),
    "padding pair": (TypeError, "MaxPool padding of an axis must be a tuple of ints, not 'ab'"),
    "output padding": (
        ValueError,
        "TransposedConvolution output_padding must be 1 ints of at least 0, not (-1,)",
    ),
    "graph order": (ValueError, "AdderGraph inputs must run from low to high, not (1, 0)"),
    "graph sums": (
        ValueError,
        "AdderGraph sums must stay below 2**59, not reach 1152921504606846976",
    ),
    "port format": (TypeError, "AxiStreamPort format must be a Format, not int"),
    "port name": (TypeError, "AxiStreamPort stream_name must be a string, not int"),
    "top direction": (ValueError, "AxiTop input x must be an input of the component"),
    "top bits": (ValueError, "AxiTop input x must have as many bits as the stream, 8, not 16"),
    "divide by 0": (ValueError, "Divide input_b must not be 0, as the block has no pole"),
    "divide bits": (ValueError, "Divide quotient must fit 62 bits, not 76"),
    "root signed": (ValueError, "SquareRoot input must be unsigned, not s8.4"),
    "root bits": (ValueError, "SquareRoot root must fit 63 bits, not 83"),
    "wrap": (ValueError, "Function exp must stay below 2**62 units to wrap"),
    "form": (TypeError, "Nonlinearity form must be an Approximation, not 'tanh'"),
    "form format": (ValueError, "Nonlinearity input must have format s8.4 like its form, not u8.4"),
    "form bits": (
        ValueError,
        "Approximation starts must fit 64 bits signed, not reach 9223372036854775808",
    ),
    "kernel bits": (
        ValueError,
        "DenseKernel bias must fit 64 bits signed, not reach 9223372036854775808",
    ),
    "form range": (
        ValueError,
        "Approximation coefficients must be below 2**44, not reach 17592186044416",
    ),
    "recur lanes": (
        ValueError,
        "Recur state total must enter with as many lanes as it leaves, 1, not 2",
    ),
    "recur wires": (
        ValueError,
        "Recur state total must pass a buffer of a word or more on its way round, not wires alone",
    ),
    "unrolled adders": (ValueError, "Unrolled adders_per_stage must be at least 1, not 0"),
    "network inputs": (TypeError, "Network inputs must be a mapping by name, not 3"),
    "network outputs": (TypeError, "Network outputs must be a mapping by name, not ('y',)"),
    "network nodes": (TypeError, "Network nodes must be a sequence of Nodes, not (3,)"),
    "network sources": (TypeError, "Network node y sources must be a tuple, not 3"),
    "network name": (ValueError, "Network inputs must have identifiers as names, not 3"),
    "chain": (TypeError, "Network chain must be of blocks, not 3"),
    "planned network": (TypeError, "plan network must be a Network, not 3"),
    "planned target": (TypeError, "plan target must be a Target, not 'ecp5'"),
    "network lanes": (TypeError, "Network plan must be a NetworkPlan, not 3"),
    "network timing": (TypeError, "Network plan must be a NetworkPlan, not 3"),
    "network cost": (TypeError, "Network plan must be a NetworkPlan, not 3"),
    "no network plan": (TypeError, "Network plan must be a NetworkPlan, not Lanes(lanes=1)"),
    "plan without plans": (ValueError, "Network plan must have plans of 'y', not none"),
    "plan without depths": (ValueError, "Network plan must have depths of 'y.i', not none"),
    "plan of other lanes": (ValueError, "Network port o lanes must divide 4, not be 3"),
    "plan of half a word": (
        ValueError,
        "Network buffer y.i must have 0 words or more, not 0.5",
    ),
    "plan of another style": (
        ValueError,
        "Network buffer y.i must have a style of block, distributed, registers, not 'logic'",
    ),
    "neuron folding": (
        ValueError,
        "Neuron pe and simd must divide 1 outputs and 4 inputs, not be 1 and 3",
    ),
    "folding of 0": (
        ValueError,
        "Linear pe and simd must divide 1 outputs and 4 inputs, not be 0 and 1",
    ),
    "columns of 0": (ValueError, "Convolution pe must divide 1 outputs, not be 0"),
    **{
        (what := f"{type(plan).__name__} {field}"): (
            (TypeError, f"{what} must be an int, not {value!r}")
            if known is None
            else (ValueError, f"{what} must be one of {known}, not {value!r}")
        )
        for (plan, field, value), known in WRONG_PLANS.items()
    },
    "unrolled stages": (ValueError, "Unrolled narrow_stages must be 0, 1 or 2, not 3"),
    "unrolled held": (TypeError, "Unrolled held must be a bool, not 1"),
    "prompt stages": (ValueError, "Prompt stages must be 0 or 1, not 2"),
    "recur unread": (
        ValueError,
        "Recur cell output x_again must be a state, a sequence or a final, not unread",
    ),
    "recur frames": (ValueError, "Recur inputs must be 1 arrays, not 0"),
    "rescale shape": (
        ValueError,
        "rescale multiplier must have shape () or (channels,), not (1, 1)",
    ),
    "reshape": (TypeError, "Reshape shape must be a tuple of ints, not '4'"),
    "saved": (ValueError, "Saved block must be a mapping, not a list"),
    "saved network": (ValueError, "Saved network must have inputs with a mapping"),
    "verilog": (TypeError, "Verilog component must be an Amaranth component, not NoneType"),
    "verilog name": (TypeError, "Verilog name must be a string, not int"),
    "name": (TypeError, "Name must be a string, not int"),
    "depth": (ValueError, "Pipeline adders_per_stage must be at least 1, not 0"),
    "attaining float": (TypeError, "attaining_inputs weight must be integers, not float64"),
    "attaining bits": (
        ValueError,
        "attaining_inputs weight must fit 64 bits signed, not reach 9223372036854775808",
    ),
    "attaining shape": (
        ValueError,
        "attaining_inputs weight must have shape (outputs, inputs), not (1,)",
    ),
    "attention shares": (TypeError, "attention share_format must be a Format, not 3"),
    "many shares": (TypeError, "multi_head_attention share_format must be a Format, not 3"),
    "projection": (TypeError, "multi_head_attention query must be a Projection, not 3"),
    "scores": (TypeError, "content_scores memory must be a Tensor, not 3"),
    "scores format": (TypeError, "content_scores output_format must be a Format, not 3"),
    "read": (TypeError, "soft_read weighting must be a Tensor, not 3"),
    "read format": (TypeError, "soft_read output_format must be a Format, not 3"),
    "cut": (TypeError, "cut input must be a Tensor, not 3"),
    "depth_to_space": (TypeError, "depth_to_space input must be a Tensor, not 3"),
    "space_to_depth": (TypeError, "space_to_depth input must be a Tensor, not 3"),
    "expand input": (TypeError, "expand input must be a Tensor, not 3"),
    "gather": (TypeError, "gather input must be a Tensor, not 3"),
    "pad": (TypeError, "pad input must be a Tensor, not 3"),
    "pad widths": (TypeError, "pad before must be ints, not (0.5,)"),
    "upsample input": (TypeError, "upsample input must be a Tensor, not 3"),
    "table lanes": (ValueError, "Nonlinearity lanes must divide 4, not be 3"),
    "parted lanes": (ValueError, "Deinterleave lanes must divide 2, not be 4"),
    "form starts": (TypeError, "Approximation starts must be integers, not float64"),
    "tanh scale": (TypeError, "scaled_tanh alpha must be a number, not '1'"),
    "port lanes": (TypeError, "AxiStreamPort lanes must be an integer, not float"),
    "port lane": (ValueError, "AxiStreamPort lanes must be at least 1, not 0"),
    "gather ratio": (ValueError, "Gather ratio must be at least 2, not 1"),
    "scatter ratio": (ValueError, "Scatter ratio must be at least 2, not 1"),
    "attention mask": (TypeError, "attention mask must be bools, not int64"),
    "gates": (TypeError, "gate gates must be a Tensor, not None"),
    "memory": (TypeError, "multi_head_attention memory must be a Tensor, not 3"),
    "matmul axes": (ValueError, "matmul input_a must have 2 axes or more, not shape (4,)"),
    "matmul shapes": (
        ValueError,
        "matmul input_b must match input_a of shape (4, 4), not have shape (3, 4)",
    ),
    "expand": (TypeError, "expand shape must be ints, not (0.5,)"),
    "upsample": (TypeError, "upsample factors must be ints, not (0.5,)"),
    "depth axes": (ValueError, "space_to_depth input must have 3 axes, not 1"),
    "depth mode": (ValueError, "space_to_depth mode must be DCR or CRD, not 'ABC'"),
    "depth size": (ValueError, "space_to_depth size must be an int from 1, not 0"),
    "clip low": (TypeError, "clip low must be an int or a Fraction, not 0.5"),
    "clip high": (TypeError, "clip high must be an int or a Fraction, not 0.5"),
    "shrink bias": (TypeError, "shrink bias must be an int or a Fraction, not 0.5"),
    "shrink lambd": (TypeError, "shrink lambd must be an int or a Fraction, not 0.5"),
    "hardsigmoid alpha 0.5": (TypeError, "hardsigmoid alpha must be an int or a Fraction, not 0.5"),
    "hardsigmoid beta 0.5": (TypeError, "hardsigmoid beta must be an int or a Fraction, not 0.5"),
    "hardsigmoid alpha 0": (ValueError, "hardsigmoid alpha must be above 0, not 0"),
    "hardswish alpha 0.5": (TypeError, "hardswish alpha must be an int or a Fraction, not 0.5"),
    "hardswish beta 0.5": (TypeError, "hardswish beta must be an int or a Fraction, not 0.5"),
    "hardswish alpha 0": (ValueError, "hardswish alpha must be above 0, not 0"),
    "elu": (TypeError, "elu alpha must be a number, not '1'"),
    "celu": (ValueError, "celu alpha must be above 0, not -1"),
    "selu": (TypeError, "selu alpha must be a number, not '1'"),
    "selu below": (ValueError, "selu alpha must be above 0, not 0"),
    "swish": (TypeError, "swish alpha must be a number, not '1'"),
    "swish below": (ValueError, "swish alpha must be above 0, not 0"),
    "power": (TypeError, "power exponent must be a number, not '2'"),
    "power large": (ValueError, "power exponent must be from -64 to 64, not 65"),
    "power third": (ValueError, "power exponent must have a power of two below it, not 1/3"),
    "reciprocal": (TypeError, "reciprocal dividend must be a number, not '1'"),
    "reciprocal infinite": (ValueError, "reciprocal dividend must be finite, not inf"),
    "rescale 0 float": (TypeError, "rescale multiplier must be integers, not float64"),
    "rescale 0 huge": (
        ValueError,
        "rescale multiplier must fit 64 bits signed, not reach 9223372036854775808",
    ),
    "rescale 1 float": (TypeError, "rescale shift must be integers, not float64"),
    "rescale 1 huge": (
        ValueError,
        "rescale shift must fit 64 bits signed, not reach 9223372036854775808",
    ),
    "layer_norm scale_format": (TypeError, "layer_norm scale_format must be a Format, not 8"),
    "layer_norm epsilon": (ValueError, "layer_norm epsilon must be a number above 0, not 0"),
    "layer_norm scale": (ValueError, "layer_norm scale must have shape (4,), not (3,)"),
    "rms_norm scale_format": (TypeError, "rms_norm scale_format must be a Format, not 8"),
    "rms_norm epsilon": (ValueError, "rms_norm epsilon must be a number above 0, not 0"),
    "rms_norm scale": (ValueError, "rms_norm scale must have shape (4,), not (3,)"),
    "group_norm scale_format": (TypeError, "group_norm scale_format must be a Format, not 8"),
    "group_norm epsilon": (ValueError, "group_norm epsilon must be a number above 0, not 0"),
    "group_norm scale": (ValueError, "group_norm scale must have shape (4,), not (3,)"),
    "softmax error 1": (TypeError, "softmax error must be a number, not '1'"),
    "softmax error 0.5": (ValueError, "softmax error must be above 1/2, not 0.5"),
    "softmax error 0.5000000001": (
        ValueError,
        "softmax error must be one that 30 bits can meet, not 0.5000000001",
    ),
    "softmin error 1": (TypeError, "softmin error must be a number, not '1'"),
    "softmin error 0.5": (ValueError, "softmin error must be above 1/2, not 0.5"),
    "softmin error 0.5000000001": (
        ValueError,
        "softmin error must be one that 30 bits can meet, not 0.5000000001",
    ),
    "log_softmax error 1": (TypeError, "log_softmax error must be a number, not '1'"),
    "log_softmax error 0.5": (ValueError, "log_softmax error must be above 1/2, not 0.5"),
    "log_softmax error 0.5000000001": (
        ValueError,
        "log_softmax error must be one that its formats can meet, above 0.627, not 0.5000000001",
    ),
    "glu error": (ValueError, "glu error must be one that 30 bits can meet, not 0.5000000001"),
    "addressing": (TypeError, "location_addressing mixed_format must be a Format, not 8"),
    "softmin one": (ValueError, "softmin output_format must hold 1 to sum to one, not u8.8"),
    "rnn weight": (ValueError, "rnn weight must have shape (units, 2), not (9, 9)"),
    "rnn recurrent": (ValueError, "rnn recurrent must have shape (3, 3), not (9, 9)"),
    "rnn bias": (ValueError, "rnn bias must have shape (3,), not (9,)"),
    "rnn input": (ValueError, "rnn input must have 2 or 3 axes, not 1"),
    "rnn shift": (ValueError, "rnn shift must have shape (3,), not (9,)"),
    "rnn recurrent_shift": (ValueError, "rnn recurrent_shift must have shape (3,), not (9,)"),
    "lstm weight": (ValueError, "lstm weight must have shape (4, units, 2), not (9, 9)"),
    "lstm recurrent": (ValueError, "lstm recurrent must have shape (4, 3, 3), not (9, 9)"),
    "lstm bias": (ValueError, "lstm bias must have shape (4, 3), not (9,)"),
    "lstm input": (ValueError, "lstm input must have 2 or 3 axes, not 1"),
    "lstm shift": (ValueError, "lstm shift must have shape (4, 3), not (9,)"),
    "lstm recurrent_shift": (ValueError, "lstm recurrent_shift must have shape (4, 3), not (9,)"),
    "gru weight": (ValueError, "gru weight must have shape (3, units, 2), not (9, 9)"),
    "gru recurrent": (ValueError, "gru recurrent must have shape (3, 3, 3), not (9, 9)"),
    "gru bias": (ValueError, "gru bias must have shape (3, 3), not (9,)"),
    "gru input": (ValueError, "gru input must have 2 or 3 axes, not 1"),
    "gru shift": (ValueError, "gru shift must have shape (3, 3), not (9,)"),
    "gru recurrent_shift": (ValueError, "gru recurrent_shift must have shape (3, 3), not (9,)"),
    "rnn choose": (TypeError, "rnn choose must be a function, not 3"),
    "lstm choose": (TypeError, "lstm choose must be a function, not 3"),
    "gru choose": (TypeError, "gru choose must be a function, not 3"),
    "gru activations": (ValueError, "gru activations must be a tuple of 2, not 3"),
    "lstm activations": (
        ValueError,
        "lstm activation must be a function, a name of one or relu of rnn, not 'sine'",
    ),
    "lstm projection": (ValueError, "lstm projection must have shape (outputs, units), not ()"),
    "lstm projection shape": (ValueError, "lstm projection must have shape (3, 3), not (3, 2)"),
    "lstm projection_shift": (ValueError, "lstm projection_shift must have shape (3,), not (1,)"),
    "gru recurrent_bias": (ValueError, "gru recurrent_bias must have shape (3,), not (9,)"),
    "lstm peephole_format": (TypeError, "lstm peephole_format must be a Format, not None"),
    "lstm projection_format": (TypeError, "lstm projection_format must be a Format, not None"),
}


@pytest.mark.parametrize("name", ACTIONS)
def test_what_is_wrong_is_refused_in_one_sentence(name):
    with refused(*MESSAGES[name]):
        ACTIONS[name]()


def test_only_blocks_and_their_parts_are_saved():
    known = ", ".join(sorted((*saving.KINDS, "Network", "NetworkPlan")))
    with refused(TypeError, f"Saved block must be one of {known}, not set()"):
        save(set())


@pytest.mark.parametrize("name", KINDS)
def test_no_block_is_priced_but_on_a_target(name):
    made = CATALOGUE[name].configuration(3)
    with refused(TypeError, "cost target must be a Target, not 'ecp5'"):
        made.block.cost(made.plan, "ecp5")
    with refused(TypeError, "cost target must be a Target, not 'ecp5'"):
        [candidate.cost for candidate in made.block.plans("ecp5")]


UNREACHED = {
    # said of foreign circuits, of which test_verilog.py has some, and where a tool fails
    "Placement of {} must have one clock port, not {}",
    "Placement of {} on {} must end within {} seconds, not run on",
    "Placement of {} on {} must succeed, not end with: {}",
    "Verilog ${} must shift by an unsigned amount, not a signed one",
    "Verilog memory {} must start at word 0",
    "Verilog port {} must be an input or output, not inout",
    # said to whoever breaks what holds inside: the arguments were checked before
    "AdderGraph weight must have at most {} bits, not {}",
    "Function {} must be told from a tie at {}, not be closer than {} bits show",
    "Concat accumulator must fit 63 bits, not {}",
    "Linear weight must fit 64 bits signed, not reach {}",
    "Piecewise accumulator must fit 63 bits, not {}",
    "Pieces accumulator must fit 63 bits, not {}",
    "Quotient accumulator must fit 63 bits, not {}",
    "Rescale multiplier must have shape () or (channels,), not {}",
    "rnn activations must be a tuple of {}, not {}",
    "a network must have a plan for an interval of 4096 cycles",
    "exact where it is defined",
    "key_square accumulator must fit 63 bits, not {}",
    "norm accumulator must fit 63 bits, not {}",
    "power accumulator must fit 63 bits, not {}",
    "row_square accumulator must fit 63 bits, not {}",
    "softmin mask must be bools, not {}",
    "softmin mask must be broadcast to {}, not have {}",
    "softmin mask must show a number along each last axis, not hide all",
    *(
        f"{part} {rule}, not {{}}"
        for part in ("Mac", "Scale")
        for rule in (
            "accumulator must fit 63 bits",
            "weight must be integers",
            "weight must have shape {}",
        )
    ),
    *(f"{part} weight must fit 64 bits signed, not reach {{}}" for part in ("Mac", "Scale")),
}


def test_every_sentence_is_tested():
    """By its whole text in some test or by those above; this file's list of others is exact."""
    stated = {message for name in KINDS for _, message, _ in refusals(name)}
    stated |= {message for name in COMPOSED for _, message, _ in composed_refusals(name)}
    stated |= strings(str(ROOT / "tests")) - UNREACHED
    texts = {text.partition("; --cut ")[0] for text in stated if "{}" not in text}
    unstated = {
        sentence.text.replace(HOLE, "{}")
        for sentence in sentences(str(ROOT / room) for room in ROOMS)
        if not says(sentence.text, texts)
    }
    assert unstated == UNREACHED
