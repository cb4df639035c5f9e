# SPDX-License-Identifier: Apache-2.0
"""Faults are injected into every block of the catalogue; the question named for each catches it.

A fault changes the circuit (or what is said of it) while the reference stays as it is. It is put
into the specification that the circuit is made from, into a primitive, or into the Verilog text.
"""

import dataclasses
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import conformance as ask
import numpy as np
import pytest
from amaranth import Cat, Module, Signal
from amaranth.lib import wiring
from test_turing import rewired

import blocks.convolution
import blocks.network
import blocks.pooling
import blocks.reduce
import blocks.topk
import hdl
import hdl.extremum
import hdl.lookup
import hdl.mac
import hdl.merge
import hdl.parallel
import hdl.rearrange
import hdl.sort
import hdl.stream
import hdl.tree
from blocks import (
    Accumulators,
    Add,
    ArgMax,
    ArgMin,
    AveragePool,
    Concat,
    Convolution,
    Deinterleave,
    Divide,
    Embedding,
    Folded,
    Gate,
    Heads,
    Identity,
    Lanes,
    Linear,
    Maximum,
    MaxPool,
    Memory,
    Minimum,
    Moves,
    Mul,
    Network,
    NetworkPlan,
    Neuron,
    Node,
    Nonlinearity,
    Pooled,
    PReLU,
    Reads,
    Rearrange,
    Recur,
    Reduce,
    ReLU,
    Rescale,
    Reshape,
    SquareRoot,
    Sub,
    TableLanes,
    Tensor,
    TopK,
    TransposedConvolution,
    Unrolled,
    Weight,
    WholeWindows,
    activation,
)
from blocks.catalogue import CATALOGUE
from blocks.configurations import Configuration
from hdl import Events, Fifo
from quant import FUNCTIONS, Format, Overflow, Rounding, Rule, approximate
from sim import has_icarus

X = Tensor((4,), Format(6, 3))
NARROW = Format(3, 1)
MODES = (Rounding.RND, Overflow.SAT)
W = np.array([[3, -5, 7, 2], [-6, 1, 4, -7], [5, 5, -3, 1], [-1, 6, 2, -4]])
BIAS = np.array([9, -14, 3, 21])
CODES = Tensor((4,), Format(2, 0, False))


FACTORS, SHIFTS = np.array([1 << 30, 3 << 29, 1 << 30, 5 << 28]), np.array([32, 33, 33, 34])
PIECES: list[activation.Piece] = [
    (None, True, (0, Fraction(2, 3), Fraction(-1, 8))),
    (Fraction(1, 2), True, (0, 1, 0)),
]
IMAGE = Tensor((3, 4, 2), Format(6, 3))
ROOTED = Tensor((4,), Format(6, 3, False))
TANH = approximate(FUNCTIONS["tanh"], X.format, Format(6, 5), degree=1)


def _network(y: Format) -> tuple[Network, NetworkPlan]:
    tensor = Tensor((4,), y)
    nodes = (
        Node("a", Linear(X, W, BIAS, Format(4, 2), y, None, *MODES), ("x",)),
        Node("b", Linear(tensor, W, np.zeros(4, int), Format(4, 2), y), ("a",)),
        Node("add", Add(tensor, tensor, y), ("a", "b")),
    )
    plans = {"a": Folded(2, 2), "b": Folded(1, 2), "add": Lanes(1)}
    depths = {"a.i": 3, "b.i": 3, "add.i_a": 6, "add.i_b": 3}
    styles = dict.fromkeys(depths, "registers")
    network = Network({"x": X}, nodes, {"y": "add"})
    return network, NetworkPlan(plans, {"i": 2, "o": 1}, depths, styles)


def _loop(y: Format, initial: tuple[int, ...] = (5, -9, 0, 30)) -> tuple[Recur, NetworkPlan]:
    state = Tensor((4,), Format(7, 3))
    linear = Linear(X, W, BIAS, Format(4, 2), Format(9, 3))
    nodes = (
        Node("linear", linear, ("x",)),
        Node("sum", Add(linear.outputs["o"], state, state.format), ("linear", "h")),
        Node("y", Identity(state, y, *MODES), ("sum",)),
    )
    cell = Network({"x": X, "h": state}, nodes, {"h": "sum", "y": "y"})
    plans = {"linear": Folded(2, 2), "sum": Lanes(2), "y": Lanes(2)}
    lanes = {"i_x": 2, "i_h": 2, "o_h": 2, "o_y": 2}
    depths = dict.fromkeys(("linear.i", "sum.i_a", "sum.i_b", "y.i"), 3)
    plan = NetworkPlan(plans, lanes, depths, dict.fromkeys(depths, "registers"))
    return Recur(cell, 3, (np.array(initial),), ("y",)), plan


def examples(y: Format) -> dict[str, tuple[Any, Any]]:
    """A block of every kind and a plan for it; ``y`` is the format of what most of them give."""
    linear = Linear(X, W, BIAS, Format(4, 2), y, None, *MODES)
    kernel = W.reshape(2, 2, 2, 2), BIAS[:2], Format(4, 2), y
    convolution = Convolution(IMAGE, *kernel, padding=((1, 0), (0, 1)))
    return {
        "Identity": (Identity(X, y, *MODES), Lanes(2)),
        "ReLU": (ReLU(X, Format(2, 1, False), *MODES), Lanes(2)),
        "Add": (Add(X, Tensor((4,), Format(5, 2)), y, *MODES), Lanes(2)),
        "Sub": (Sub(X, Tensor((4,), Format(5, 2)), y, *MODES), Lanes(2)),
        "Mul": (Mul(X, Tensor((4,), Format(5, 2)), y, *MODES), Lanes(2)),
        "Minimum": (Minimum(X, Tensor((4,), Format(5, 2)), y, *MODES), Lanes(2)),
        "Maximum": (Maximum(X, Tensor((4,), Format(5, 2)), y, *MODES), Lanes(2)),
        "Gate": (Gate(X, Tensor((1,), Format(2, 1)), y, *MODES), Lanes(2)),
        "Piecewise": (activation.from_pieces(X, PIECES, y, *MODES), Lanes(2)),
        "Divide": (Divide(X, Tensor((4,), Format(5, 2)), y, 1, *MODES), Lanes(2)),
        "SquareRoot": (SquareRoot(ROOTED, y, *MODES), Lanes(2)),
        "Nonlinearity": (Nonlinearity(X, TANH), TableLanes(2)),
        "PReLU": (PReLU(X, W[0] * 2, Format(5, 2), y, *MODES), Lanes(4)),
        "PReLU in turn": (PReLU(X, W[0] * 2, Format(5, 2), y, *MODES), Lanes(2)),
        "Reshape": (Reshape(X, (2, 2)), Lanes(2)),
        "Rearrange": (Rearrange(X, np.array([2, 3, -1, -1, 0, 1]), 5), Moves(2)),
        "Concat": (Concat((X, X)), Lanes(2)),
        "Embedding": (Embedding(CODES, W, Format(4, 2)), Reads(2)),
        "Memory": (Memory((2, 2), 1, Format(4, 0), 5, 2, 2, W[:2, :2, None]), Heads("registers")),
        "Weight": (Weight(X, W[0], Format(4, 2), y, *MODES, BIAS), TableLanes(2)),
        "ArgMax": (ArgMax(X), Lanes(2)),
        "ArgMin": (ArgMin(X, True), Lanes(1)),
        "MaxPool tree": (MaxPool(IMAGE, (2, 3), padding=((0, 1), (1, 1))), WholeWindows()),
        "AveragePool tree": (AveragePool(IMAGE, (2, 3), y), WholeWindows("registers")),
        "TopK": (TopK(X, 3), Lanes(2)),
        "Rescale": (Rescale(X, FACTORS, SHIFTS, y, 3, 1, "tflite_double"), Lanes(2)),
        "Neuron": (Neuron(X, W[0], 9, Format(4, 2), y, *MODES), Folded(1, 2)),
        "Linear folded": (linear, Folded(2, 2)),
        "Linear unrolled": (linear, Unrolled()),
        "Linear held": (linear, Unrolled(2, 1, True)),
        "Convolution folded": (convolution, Folded(1, 2)),
        "Convolution unrolled": (convolution, Unrolled()),
        "TransposedConvolution": (
            TransposedConvolution(IMAGE, *kernel, stride=(2, 1)),
            Folded(2, 2),
        ),
        "MaxPool": (MaxPool(IMAGE, (2, 3), padding=((0, 1), (1, 1))), Pooled(2)),
        "AveragePool": (AveragePool(IMAGE, (2, 3), y, padding=((0, 0), (1, 0))), Pooled(2)),
        "Reduce tree": (Reduce(IMAGE, "sum", (0, 1), y, *MODES), Accumulators(6)),
        "Reduce ring": (Reduce(IMAGE, "mean", (1,), y, *MODES), Accumulators(1, "distributed")),
        "Deinterleave": (Deinterleave(X, 2), Lanes(2)),
        "Recur": _loop(y),
        "Network": _network(y),
    }


BLOCKS = examples(NARROW)
WIDE = examples(Format(14, 5))  # where saturation would hide what a fault changes
COMPOSED = {name for name, entry in CATALOGUE.items() if not isinstance(entry.kind, type)}
assert {name.split()[0] for name in BLOCKS} == set(CATALOGUE) - COMPOSED
SEARCHING = ["ArgMax", "ArgMin", "TopK"]
MOVING = ["Reshape", "Rearrange", "Concat", "Deinterleave", "Embedding", "Memory", "Nonlinearity"]
UNNARROWED = (*MOVING, *SEARCHING, "MaxPool", "Recur")
NARROWING = [name for name in BLOCKS if name.split()[0] not in UNNARROWED]
BINARY = ["Add", "Sub", "Mul", "Minimum", "Maximum", "Gate", "Divide"]
PORTS = dict.fromkeys(BINARY, "i_a") | {
    "Concat": "i_0",
    "Memory": "i_write",
}  # of the first input; the others have i
LINEAR = ["Linear folded", "Linear unrolled", "Linear held"]
CONVOLUTIONS = ["Convolution folded", "Convolution unrolled", "TransposedConvolution"]
BIASED = ["Weight", "Neuron", *LINEAR, *CONVOLUTIONS, "Network"]
WEIGHTED = BIASED
FOLDED = ["Neuron", "Linear folded", "Convolution folded", "TransposedConvolution", "Network"]
WINDOWS = ["Convolution folded", "TransposedConvolution", "MaxPool", "AveragePool"]


SIMULATOR = "icarus" if has_icarus() else "verilator"  # Icarus compiles small designs at once


class Faulty(ask.Subject):
    """A subject whose circuit comes from another specification than its reference."""

    spec: Callable[[Any], Any] = staticmethod(lambda block: block)
    wrap: Callable[[Any], Any] = staticmethod(lambda circuit: circuit)
    text: Callable[[str], str] = staticmethod(lambda text: text)
    graph: Callable[[Events], Events] = staticmethod(lambda graph: graph)

    @property
    def circuit(self) -> Any:
        return self.spec(self.block).rtl(self.plan)

    @property
    def verilog(self) -> str:
        return self.text(hdl.verilog(self.wrap(self.circuit), self.name))

    @property
    def timing(self) -> Events:
        return self.graph(self.block.timing(self.plan))

    @property
    def monitors(self) -> dict[str, str]:
        return {} if self.wrap is not Faulty.wrap else super().monitors


def subject(name: str, blocks: Any = BLOCKS, **faults: Any) -> Faulty:
    kind = type("Injected", (Faulty,), {k: staticmethod(v) for k, v in faults.items()})
    return kind("case_" + name.lower().replace(" ", "_"), Configuration(*blocks[name]))


def caught(name: str, blocks: Any = BLOCKS, **faults: Any) -> None:
    """The questions of values and of time find the fault."""
    with pytest.raises(AssertionError):
        ask.verilog_equals_reference([subject(name, blocks, **faults)], SIMULATOR)


def in_each_node(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The change made to a block, or to the first node of a network that it alters."""

    def changed(block: Any) -> Any:
        if not isinstance(block, Network):
            return change(block)
        nodes = [Node(n.name, change(n.block), n.sources) for n in block.nodes]
        outputs = {name: block.source_of(name) for name in block.output_names}
        return Network(
            dict(zip(block.input_names, block.inputs.values(), strict=True)), nodes, outputs
        )

    return changed


def replacing(**fields: Any) -> Callable[[Any], Any]:
    """Other values in those fields that a block has; a callable makes one from the old value."""

    def change(block: Any) -> Any:
        names = {field.name for field in dataclasses.fields(block)} & set(fields)
        new = {n: fields[n](getattr(block, n)) if callable(fields[n]) else fields[n] for n in names}
        return dataclasses.replace(block, **new)

    return in_each_node(change)


@contextmanager
def patched(module: Any, name: str, value: Any) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, name, value)
        yield


@pytest.mark.parametrize("name", BLOCKS)
def test_without_a_fault_all_is_well(name):
    ask.verilog_equals_reference([subject(name)], SIMULATOR)


@pytest.mark.parametrize("name", NARROWING)
def test_wrong_rounding_is_caught_by_the_values(name):
    caught(name, spec=replacing(rounding=Rounding.TRN))


@pytest.mark.parametrize("name", NARROWING)
def test_wrong_overflow_is_caught_by_the_values(name):
    caught(name, spec=replacing(overflow=Overflow.WRAP))


@pytest.mark.parametrize("name", [n for n in NARROWING if n not in ("ReLU", "SquareRoot")])
def test_saturation_off_by_one_is_caught_by_the_values(name):
    caught(name, spec=replacing(overflow=Overflow.SAT_SYM))


@pytest.mark.parametrize("name", BIASED)
def test_a_lost_bias_is_caught_by_the_values(name):
    caught(name, spec=replacing(bias=lambda bias: bias * 0))


@pytest.mark.parametrize("name", WEIGHTED)
def test_a_flipped_weight_bit_is_caught_by_the_values(name):
    def flip(weight: Any) -> Any:
        other = np.array(weight)
        other.flat[1] ^= 1
        return other

    caught(name, spec=replacing(weight=flip))


@pytest.mark.parametrize("name", [n for n in WEIGHTED if n != "Neuron"])
def test_swapped_rows_are_caught_by_the_values(name):
    def swap(weight: Any) -> Any:
        return np.array(weight)[::-1].copy()

    caught(name, spec=replacing(weight=swap))


@pytest.mark.parametrize(
    "index", [[2, 3, -1, -1, 2, 3], [0, 1, -1, -1, 2, 3], [2, 3, 0, 1, -1, -1]]
)
def test_a_wrong_order_is_caught_by_the_values(index):
    caught("Rearrange", spec=replacing(index=np.array(index)))


def test_a_wrong_row_is_caught_by_the_values():
    caught("Embedding", spec=replacing(table=W[[0, 2, 1, 3]]))


def test_a_wrong_initial_word_is_caught_by_the_values():
    caught("Memory", spec=replacing(initial=W[:2, 1:3, None]))


def test_words_of_the_frame_before_are_caught_by_the_values():
    caught("Memory", spec=replacing(steps=10))  # it forgets them after every second frame


def test_reading_a_word_before_it_is_written_is_caught_by_the_values():
    caught("Memory", text=lambda text: re.sub(r"passed_0 \?", "1'b0 ?", text))


def test_a_wrong_constant_is_caught_by_the_values():
    caught("Rearrange", spec=replacing(fill=4))


def test_a_break_in_the_wrong_place_is_caught_by_the_values():
    caught("Piecewise", WIDE, spec=replacing(breaks=lambda breaks: (breaks[0] + 8,)))


@pytest.mark.parametrize("degree", range(3))
def test_a_flipped_factor_bit_is_caught_by_the_values(degree):
    def flip(polynomials: Any) -> Any:
        factors = list(polynomials[0])
        factors[degree] ^= 16
        return (tuple(factors), *polynomials[1:])

    caught("Piecewise", WIDE, spec=replacing(polynomials=flip))


def test_a_quotient_by_another_number_is_caught_by_the_values():
    caught("Piecewise", WIDE, spec=replacing(divisor=lambda divisor: divisor + 2))


@pytest.mark.parametrize("rule", [rule for rule in Rule if rule != "tflite_double"])
def test_another_rule_is_caught_by_the_values(rule):
    caught("Rescale", WIDE, spec=replacing(rounding=rule))


@pytest.mark.parametrize("change", [lambda slope: slope[::-1], lambda slope: slope ^ [0, 1, 0, 0]])
def test_wrong_slopes_are_caught_by_the_values(change):
    caught("PReLU", WIDE, spec=replacing(slope=change))
    caught("PReLU in turn", WIDE, spec=replacing(slope=change))


@pytest.mark.parametrize("field", ["zero_point_in", "zero_point_out"])
def test_a_lost_zero_point_is_caught_by_the_values(field):
    caught("Rescale", WIDE, spec=replacing(**{field: 0}))


@pytest.mark.parametrize("name", ["ArgMax", "ArgMin"])
def test_the_wrong_winner_of_equals_is_caught_by_the_values(name):
    caught(name, spec=replacing(select_last_index=lambda last: not last))


def test_a_search_for_the_other_extreme_is_caught_by_the_values():
    caught("ArgMax", spec=lambda block: ArgMin(block.input))


@pytest.mark.parametrize("field", ["multiplier", "shift"])
def test_swapped_channels_of_a_scale_are_caught_by_the_values(field):
    caught("Rescale", WIDE, spec=replacing(**{field: lambda values: values[::-1]}))


class SwappedLanes(wiring.Component):
    """A circuit whose words of the first input reach it with their halves swapped."""

    def __init__(self, circuit: Any, port: str):
        self.circuit, self.port = circuit, port
        super().__init__(circuit.signature)

    def elaborate(self, platform):
        m = Module()
        m.submodules.circuit = circuit = self.circuit
        for name, member in circuit.signature.members.items():
            inner, outer = getattr(circuit, name), getattr(self, name)
            ends = (outer, inner) if member.flow == wiring.In else (inner, outer)
            word = ends[0].payload.as_value()
            half = len(word) // 2
            if name == self.port:
                word = Cat(word[half:], word[:half])
            m.d.comb += [
                ends[1].payload.as_value().eq(word),
                ends[1].valid.eq(ends[0].valid),
                ends[0].ready.eq(ends[1].ready),
            ]
        return m


@pytest.mark.parametrize("name", BLOCKS)
def test_swapped_lanes_are_caught_by_the_values(name):
    caught(name, wrap=lambda circuit: SwappedLanes(circuit, PORTS.get(name, "i")))


SIGNED = [n for n in NARROWING if n not in ("Network", "SquareRoot")]


@pytest.mark.parametrize("name", [*SIGNED, *SEARCHING])
def test_a_wrong_sign_extension_is_caught_by_the_values(name):
    def unsigned(tensor: Tensor) -> Tensor:
        return Tensor(tensor.shape, Format(tensor.format.width, tensor.format.frac, False))

    caught(name, spec=replacing(input=unsigned, input_a=unsigned))


def test_the_wrong_end_of_a_sort_is_caught_by_the_values():
    caught("TopK", spec=replacing(smallest=True))


@pytest.mark.parametrize(
    ("there", "instead"),
    [
        (r"(before_\d_\d) = empty \| ", r"\1 = "),
        (r"(before_1_\d) = empty \| (\w+);", r"\1 = empty | ~\2;"),
        (r"(o_0_valid) = i_valid & .*;", r"\1 = i_valid;"),
        (r"empty <= 1'b1;", "empty <= 1'b0;"),
    ],
    ids=["full cells", "another order", "a word twice", "reset"],
)
def test_a_sort_gone_wrong_is_caught_by_the_values(there, instead):
    def wrong(text: str) -> str:
        changed, count = re.subn(there, instead, text)
        assert count
        return changed

    caught("TopK", text=wrong)


def test_of_equals_the_last_is_caught_by_the_values():
    class Last(hdl.Sort):
        def better(self, a, b):
            return ~super().better(b, a)

    with patched(blocks.topk, "Sort", Last):
        caught("TopK")


@pytest.mark.parametrize("change", [Mul, Maximum])
def test_another_gate_is_caught_by_the_values(change):
    def changed(block: Gate) -> Any:
        return change(block.input_a, block.input_a, block.output_format, *MODES)

    pair = Gate(X, X, Format(14, 5), *MODES), Lanes(2)
    caught("Gate", {"Gate": pair}, spec=changed)


def test_another_number_outside_the_frame_is_caught_by_the_values():
    """Zeros are larger than what is below zero."""

    def zeros(axes, channels, number, fill, styles, largest):
        return hdl.Raster(axes, channels, number, 0, styles, largest=largest)

    blocks.pooling._largest.cache_clear()
    with patched(blocks.pooling, "Raster", zeros):
        caught("MaxPool tree")
    blocks.pooling._largest.cache_clear()


@pytest.mark.parametrize("function", ["mean", "maximum"])
def test_another_reduction_is_caught_by_the_values(function):
    caught("Reduce tree", WIDE, spec=replacing(function=function))


@pytest.mark.parametrize("name", ["Reduce tree", "Reduce ring"])
def test_an_accumulator_that_goes_on_after_reset_is_caught_by_the_values(name):
    def lost(text: str) -> str:
        changed = re.sub(r"if \(rst\)\s*row <= 2'd0;\s*else ", "", text)
        assert changed != text
        return changed

    caught(name, WIDE, text=lost)


@pytest.mark.parametrize("name", ["Reduce tree", "Reduce ring"])
def test_a_result_that_does_not_wait_is_caught_by_the_values(name):
    class Hasty(hdl.TreeArray):
        def _accumulate(self, m, numbers, valid, ready):
            super()._accumulate(m, numbers, valid, Signal(name="unheard"))
            m.d.comb += ready.eq(1)

    with patched(blocks.reduce, "_CIRCUITS", blocks.reduce._CIRCUITS | {hdl.Tree: ("tree", Hasty)}):
        caught(name)


def broken_elastic(m: Any, valid: Any, stages: int, ready: Any, name: str = "stage") -> Any:
    """Stages that move on although the next one waits."""
    valids, enables = Signal(stages, name=f"{name}_valid"), Signal(stages, name=f"{name}_enable")
    for s in range(stages):
        m.d.comb += enables[s].eq(1)
        m.d.sync += valids[s].eq(valids[s - 1] if s else valid)
    return enables, valids


@pytest.mark.parametrize(
    "name", [n for n in BLOCKS if n not in ("Reshape", "ArgMin", "Deinterleave")]
)
def test_a_stall_that_loses_a_word_is_caught_by_the_values(name):
    with pytest.MonkeyPatch.context() as patch:
        for module in (
            hdl.stream,
            hdl.mac,
            hdl.parallel,
            hdl.rearrange,
            hdl.merge,
            hdl.lookup,
            hdl.extremum,
            hdl.sort,
            hdl.tree,
        ):
            patch.setattr(module, "elastic", broken_elastic)
        caught(name)


@pytest.mark.parametrize("name", FOLDED)
def test_a_stale_accumulator_after_reset_is_caught_by_the_values(name):
    """``begin`` survives the reset, so the first step after one adds to what was there."""

    def stale(text: str) -> str:
        changed = re.sub(r"if \(rst\)\s*n_begin <= 1'b1;\s*else ", "", text)
        assert changed != text
        return changed

    caught(name, WIDE, text=stale)


def test_a_state_that_survives_reset_is_caught_by_the_values():
    """The feed goes on with what came back, in the middle of the frame that is gone."""

    def stale(text: str) -> str:
        changed = re.sub(r"if \(rst\)\s*round <= 2'd0;\s*else ", "", text)
        assert changed != text
        return changed

    caught("Recur", WIDE, text=stale)


def test_the_state_of_the_frame_before_is_caught_by_the_values():
    """Two frames are taken for one of twice as many steps."""

    def twice(block: Recur) -> Recur:
        class Long(Recur):
            def feed(self, name, plan):
                return dataclasses.replace(super().feed(name, plan), rounds=2 * self.steps)

            def deal(self, name, plan):
                deal, ports = super().deal(name, plan)
                return dataclasses.replace(deal, rounds=2 * self.steps), ports

        fields = (getattr(block, field.name) for field in dataclasses.fields(block))
        return Long(*fields)

    caught("Recur", WIDE, spec=twice)


@pytest.mark.parametrize("initial", [(0, 0, 0, 0), (-9, 5, 0, 30), (5, -9, 0, 31)])
def test_a_wrong_initial_state_is_caught_by_the_values(initial):
    caught("Recur", WIDE, spec=replacing(initial=(np.array(initial),)))


def test_a_missing_step_is_caught_by_the_values():
    caught("Recur", WIDE, spec=replacing(steps=2))


def test_another_result_than_the_last_is_caught_by_the_values():
    block, plan = _loop(Format(14, 5))
    final = {"Recur": (dataclasses.replace(block, sequences=(), finals=("y",)), plan)}
    original = hdl.DealArray.elaborate

    def early(self, platform):
        wants = tuple("others" if want == "last" else want for want in self.design.wants)
        self.design = dataclasses.replace(self.design, wants=wants)
        return original(self, platform)

    with patched(hdl.DealArray, "elaborate", early):
        caught("Recur", final)


@pytest.mark.parametrize("order", [(1, 0, 2, 3), (0, 1, 3, 2), (3, 1, 2, 0)])
def test_swapped_gates_are_caught_by_the_values(order):
    random = np.random.default_rng(5)
    arrays = [random.integers(-16, 16, shape) for shape in ((4, 2, 2), (4, 2, 2), (4, 2))]
    formats = Format(5, 3), Format(5, 4), Format(7, 4), Format(6, 6, False), Format(6, 5)

    def layer(gates: Any) -> Network:
        chosen = [array[list(gates)] for array in arrays]
        x = Tensor((3, 2), Format(6, 4))
        return blocks.lstm(x, *chosen, *formats, Format(9, 5), Format(7, 6))

    network = layer(range(4))
    mapped = {"lstm": (network, blocks.plan(network, hdl.Target.named("ecp5"), 300))}
    caught("lstm", mapped, spec=lambda _: layer(order))


def test_reading_a_soft_memory_after_writing_it_is_caught_by_the_values():
    """The question of values, and not because what waits for what has changed."""
    made = CATALOGUE["neural_turing_machine"].configuration(0)
    pairs = {"machine": (made.block, made.plan)}
    sources = {"read_rows": ("reading", "memory_0")}
    faulty = subject("machine", pairs, spec=lambda block: rewired(block, sources))
    with pytest.raises(AssertionError, match=r"Arrays are not equal\n\S+ stalls"):
        ask.verilog_equals_reference([faulty], SIMULATOR)


@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize("fault", ["need", "release"])
def test_a_window_that_does_not_wait_is_caught_by_the_values(name, fault):
    """It begins before its last word is there, or lets go of its first word too early."""

    class Hasty(hdl.Window):
        def _nest(self) -> None:
            if fault == "need":
                self.need = np.maximum(self.need - self.words, 0)
            else:
                self.release = self.release + 1
            super()._nest()

    made = blocks.convolution._design, blocks.pooling._largest, blocks.pooling._mean
    for designs in made:
        designs.cache_clear()
    with patched(blocks.convolution, "Window", Hasty), patched(blocks.pooling, "Window", Hasty):
        caught(name)
    for designs in made:
        designs.cache_clear()


def test_a_fifo_one_word_short_is_caught_by_the_times():
    class Short(Fifo):
        def __init__(self, payload, depth, style="block"):
            super().__init__(payload, max(1, depth - 1), style)

    with patched(blocks.network, "Fifo", Short):
        caught("Network")


@pytest.mark.parametrize("name", BLOCKS)
def test_latency_off_by_one_is_caught_by_the_times(name):
    block = BLOCKS[name][0]

    def late(graph: Events) -> Events:
        result = Events(dict(graph.firings), list(graph.edges), dict(graph.ports))
        start, end = graph.port(PORTS.get(name, "i")), graph.port(next(iter(block.outputs)))
        if start == end:
            raise ValueError("wires have no latency")
        waits = [e for e in graph.edges if e.target == end and e.source != end]
        result.edges += [dataclasses.replace(e, delay=e.delay + 1) for e in waits]
        return result

    caught(name, graph=late)
