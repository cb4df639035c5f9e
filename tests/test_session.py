# SPDX-License-Identifier: Apache-2.0
"""State that lives on: millions of steps, and marks before which it becomes the initial one."""

import json
import re
import shutil
import subprocess
import sys

import conformance as ask
import numpy as np
import pytest
from amaranth import Signal
from refusal import refused
from simulators import icarus_needed

import bitblocks
import hdl
from bitblocks.project import Project
from bitblocks.verification import design_of
from blocks import Add, Network, Node, Recur, ReLU, Tensor, lstm, plan
from blocks.configurations import Configuration
from blocks.recurrent import smallest
from hdl import Target
from quant import Format, Program, ProgramInput, Step
from sim import from_bytes, simulate, simulate_bulk, to_bytes

TARGET = Target.named("ecp5")

# An LSTM in plain integers: its formats, then its steps, all sequences side by side.

X, SUM, GATE, CELL, H = Format(6, 4), Format(7, 4), Format(6, 6, False), Format(9, 5), Format(7, 6)
W, R, UNITS, INPUTS = Format(5, 3), Format(5, 4), 3, 4
TABLES = {
    name: smallest(*kind).reference(np.arange(kind[1].min, kind[1].max + 1))
    for name, kind in {
        "sigmoid": ("sigmoid", SUM, GATE),
        "tanh": ("tanh", SUM, H),
        "of_cell": ("tanh", CELL, H),
    }.items()
}
FIRST = np.array([5, -7, 60]), np.array([30, -200, 9])


def arrays():
    random = np.random.default_rng(9)
    shapes = (4, UNITS, INPUTS), (4, UNITS, UNITS), (4, UNITS)
    return [random.integers(-16, 16, shape) for shape in shapes]


def alive():
    """An LSTM of one step a frame whose state lives on."""
    formats = W, R, SUM, GATE, H, CELL, H
    loop = {"initial": FIRST, "finals": ("c",), "kept": True}
    return lstm(Tensor((1, INPUTS), X), *arrays(), *formats, **loop)


def narrowed(sums, drop, number):
    return np.clip((sums + (1 << drop >> 1)) >> drop, number.min, number.max)


def lstm_step(x, h, c):
    """Of many sequences at once: shapes (sequences, elements)."""
    weight, recurrent, bias = arrays()
    of_x = np.einsum("gui,ni->gnu", weight, x) << (R.frac + H.frac - W.frac - X.frac)
    of_h = np.einsum("guk,nk->gnu", recurrent, h)
    sums = of_x + of_h + (bias[:, None] << (R.frac + H.frac - W.frac - X.frac))
    gates = narrowed(sums, R.frac + H.frac - SUM.frac, SUM) - SUM.min
    i, f, o = (TABLES["sigmoid"][gates[n]] for n in (0, 1, 3))
    g = TABLES["tanh"][gates[2]]
    both = (f * c << (H.frac - CELL.frac)) + i * g
    c = narrowed(both, GATE.frac + H.frac - CELL.frac, CELL)
    return narrowed(o * TABLES["of_cell"][c - CELL.min], GATE.frac, H), c


def integers_of(x, resets):
    """h and c after every step: what lies between two resets is a sequence of its own."""
    starts = np.union1d([0], np.flatnonzero(resets))
    lengths = np.diff([*starts, len(x)])
    h, c = (np.tile(first, (len(starts), 1)) for first in FIRST)
    seen = np.empty((len(x), UNITS), np.int64), np.empty((len(x), UNITS), np.int64)
    for step in range(lengths.max()):
        running = lengths > step
        places = starts[running] + step
        h[running], c[running] = lstm_step(x[places], h[running], c[running])
        seen[0][places], seen[1][places] = h[running], c[running]
    return seen


@pytest.mark.parametrize(
    ("steps", "between"), [(20_000, 300), pytest.param(2_000_000, 5_000, marks=pytest.mark.full)]
)
def test_every_step_of_a_session_is_that_of_plain_integers(steps, between):
    """Resets at random places, by the session and by marks; no step that is not compared."""
    random = np.random.default_rng(4)
    x = random.integers(X.min, X.max + 1, (steps, INPUTS))
    resets = random.integers(between, size=steps) == 0
    h, c = integers_of(x, resets)
    session = alive().session()
    one, zero = np.array([1]), np.array([0])
    for number, (frame, reset) in enumerate(zip(x[:, None], resets.tolist(), strict=True)):
        marks = (one if reset else zero,) if number % 2 else ()
        if reset and not marks:
            session.reset()
        found = session.step(frame, *marks)
        assert found[0][0].tolist() == h[number].tolist(), number
        assert found[1].tolist() == c[number].tolist(), number


def test_a_batch_goes_on_where_the_last_one_ended():
    layer, random = alive(), np.random.default_rng(5)
    x = random.integers(X.min, X.max + 1, (60, 1, INPUTS))
    marks = random.integers(0, 2, (60, 1))
    session = layer.session()
    rest = x[7:].reshape(1, 53, 1, INPUTS), marks[None, 7:]
    parts = [session.run(x[:7], marks[:7]), session.run(*rest)]
    whole, direct = layer.reference(x, marks), layer.run(x, marks)
    wanted = integers_of(x[:, 0], marks[:, 0])
    for found in (
        (parts[0][0], parts[1][0][0], whole[0], direct[0], wanted[0]),
        (parts[0][1], parts[1][1][0], whole[1], direct[1], wanted[1]),
    ):
        joined = np.concatenate(found[:2])
        for other in found[2:]:
            np.testing.assert_array_equal(joined, other.reshape(joined.shape))


def test_steps_leave_nothing_behind():
    session, x = alive().session(), np.zeros((1, INPUTS), np.int64)
    counts = []
    for _ in range(3):
        for number in range(1000):
            session.step(x)
            if number % 100 == 0:
                session.reset()
        counts.append(sys.getallocatedblocks())
    assert counts[2] - counts[1] < 100


# Circuits: two sums over all frames, one behind the other, among other blocks.

NUMBER, TOTAL = Tensor((2,), Format(5, 0)), Tensor((2,), Format(9, 0))
TOTALS = Tensor((3, 2), TOTAL.format)
STEPS, INITIAL = 3, (np.array([7, -100]), np.array([-1, 200]))


def total(source, initial, steps=STEPS):
    """A loop that adds what it is given to its state, in wrapping numbers of 9 bits."""
    add = Add(source, TOTAL, TOTAL.format, overflow="WRAP")
    node = Node("add", add, ("x", "total"))
    cell = Network({"x": source, "total": TOTAL}, (node,), {"total": "add"})
    return Recur(cell, steps, (initial,), ("total",), kept=True)


def sums():
    """x + 1 -> a sum -> its sum, nested in a network of their own, minus x."""
    first, second = total(NUMBER, INITIAL[0]), total(TOTAL, INITIAL[1])
    nodes = Node("first", first, ("x",)), Node("second", second, ("first",))
    inner = Network({"x": first.inputs["i_x"]}, nodes, {"y": "second"})
    x, y = first.inputs["i_x"], second.outputs["o"]
    join = Node("join", Add(y, x, Format(10, 0)), ("inner", "x"))
    return Network({"x": x}, (Node("inner", inner, ("x",)), join), {"y": "join", "sums": "inner"})


def wrapped(value):
    return (value + 256) % 512 - 256


def sums_of(x, marks):
    """The same number by number."""
    first, second = (state.copy() for state in INITIAL)
    joined, seen = [], []
    for frame, (mark,) in zip(x, marks, strict=True):
        if mark:
            first, second = (state.copy() for state in INITIAL)
        for step in frame:
            first = wrapped(first + step)
            second = wrapped(second + first)
            joined.append(second + step)
            seen.append(second)
    shape = len(x), STEPS, 2
    return np.reshape(joined, shape), np.reshape(seen, shape)


def frames(count, seed=1):
    random = np.random.default_rng(seed)
    return random.integers(-16, 16, (count, STEPS, 2)), random.integers(0, 2, (count, 1))


def subject(network=None, name="sums"):
    network = network or sums()
    return ask.Subject(name, Configuration(network, plan(network, TARGET, 60)))


def test_marks_reach_every_loop_of_a_network():
    x, marks = frames(40)
    network = sums()
    assert network.marked
    assert list(network.inputs) == ["i_x", "i_reset"]
    assert network.kept == ["inner.first", "inner.second"]
    for way in (network.reference, network.run, network.session().run):
        for found, wanted in zip(way(x, marks), sums_of(x, marks), strict=True):
            np.testing.assert_array_equal(found, wanted)
    for found, wanted in zip(network.run(x), sums_of(x, 0 * marks), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_the_circuit_resets_at_random_places():
    """Values under all stalls, every cycle, the words in every buffer, lint, flip-flops."""
    under_test = subject()
    x, marks = under_test.frames
    for found, wanted in zip(under_test.expected.values(), sums_of(x, marks), strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert 0 < marks.sum() < len(marks)
    ask.verilog_equals_reference([under_test])
    ask.verilog_is_clean([under_test])
    ask.synthesis_equals_cost([under_test], TARGET)
    ask.saved_equals_original(under_test)


def test_no_unknown_values_in_icarus():
    icarus_needed()
    ask.verilog_equals_reference([subject()], "icarus")


def test_a_mark_enters_with_the_first_word():
    """So late marks hold the frame back, and a frame its mark; neither is lost."""
    under_test = subject()
    jobs = [
        under_test.job(f"{port} waits", patterns={port: "1" + 40 * "0"})
        for port in ("i_x", "i_reset")
    ]
    for result in simulate(under_test.design, jobs):
        ask._compare(under_test, result)
        words = under_test.block.inputs["i_x"].size // under_test.lanes["i_x"]
        first = result.ports["i_x"].cycles[::words]
        np.testing.assert_array_equal(first, result.ports["i_reset"].cycles)


def test_a_mark_stands_beside_the_first_of_several_inputs():
    """The second alone feeds a loop, which has frames of its own under way."""
    loop = total(NUMBER, INITIAL[0])
    b = loop.inputs["i_x"]
    a = Tensor((STEPS, 2), Format(4, 0))
    nodes = Node("sum", loop, ("b",)), Node("join", Add(a, TOTALS, Format(10, 0)), ("a", "sum"))
    network = Network({"a": a, "b": b}, nodes, {"y": "join"})
    assert list(network.inputs) == ["i_a", "i_b", "i_reset"]
    under_test = subject(network, "joined")
    first, second, marks = under_test.frames
    state, wanted = INITIAL[0], []
    for left, right, (mark,) in zip(first, second, marks, strict=True):
        state = INITIAL[0] if mark else state
        for x, step in zip(left, right, strict=True):
            state = wrapped(state + step)
            wanted.append(state + x)
    np.testing.assert_array_equal(under_test.expected["o"].reshape(-1, 2), wanted)
    ask.verilog_equals_reference([under_test])
    built = bitblocks.build(network, interval=60).project
    assert "s_axis_a_tuser" in built.verilog
    assert "s_axis_b_tuser" not in built.verilog


# Faults, put into what hands marks on: the values tell them.


def never(m, start, number, o):
    m.d.comb += o.payload.eq(0)


def late(m, start, number, o):
    """Each frame gets the mark of the one before."""
    held = Signal(1, name=f"held_{number}")
    with m.If(o.valid):
        m.d.sync += held.eq(start.mark.payload[0])
    m.d.comb += o.payload.eq(held)


def one_of_two(m, start, number, o):
    if start.followers == 2 and number == 1:
        m.d.comb += o.payload.eq(0)


@pytest.mark.parametrize("fault", [never, late, one_of_two])
def test_a_fault_of_the_marks_is_caught_by_the_values(fault, monkeypatch):
    original = hdl.Start.elaborate

    def elaborate(self, platform):
        m = original(self, platform)
        for number in range(self.followers):
            fault(m, self, number, getattr(self, f"start_{number}"))
        return m

    monkeypatch.setattr(hdl.Start, "elaborate", elaborate)
    with pytest.raises(AssertionError, match="stalls"):
        ask.verilog_equals_reference([subject()])


# The AXI4-Stream top: the mark is tuser on the first transfer of a frame.


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("session") / "sums"
    bitblocks.build(sums(), folder, interval=60)
    return folder


def test_verify_resets_at_random_places(built):
    outcome = bitblocks.verify(built, frames=60)
    assert outcome.passed, outcome.problems
    assert outcome.words == (60 + 8) * 2 * STEPS * 2 // Project.open(built).outputs[0].lanes


def test_verify_finds_a_state_that_is_not_reset(built, tmp_path):
    folder = tmp_path / "sums"
    shutil.copytree(built, folder)
    file = folder / "rtl" / "network.v"
    text = file.read_text()
    changed = re.sub(r"s_axis_tuser\)", "1'b0)", text)
    assert changed != text
    file.write_text(changed)
    outcome = bitblocks.verify(folder, frames=60)
    assert outcome.problems[0].startswith("frame ")
    assert not outcome.passed


def test_the_travelling_bench_resets_too(built, tmp_path):
    icarus_needed()
    folder = tmp_path / "sums"
    shutil.copytree(built, folder)
    call = re.search("iverilog .*", (folder / "tb" / "README").read_text()).group()
    run = {"shell": True, "cwd": folder / "tb", "capture_output": True, "text": True}
    told = subprocess.run(call, check=True, **run)
    assert told.stdout.startswith("PASS"), told.stdout
    file = folder / "tb" / "s_axis.hex"
    mask = (1 << design_of(Project.open(folder)).port("s_axis").user_bit) - 1
    words = [int(line, 16) for line in file.read_text().split()]
    file.write_text("".join(f"{word & mask:x}\n" for word in words))
    assert "FAIL" in subprocess.run(call, check=True, **run).stdout


def test_network_json_tells_the_reset(built):
    assert json.loads((built / "network.json").read_text())["reset"] == "s_axis_tuser"
    without = bitblocks.build(Network.chain(ReLU(NUMBER, NUMBER.format))).project
    assert b"reset" not in without.contents()["network.json"]
    assert "tuser" not in without.verilog


def test_thousands_of_frames_in_bulk(built):
    """What is beside the other transfers of a frame does not matter."""
    project = Project.open(built)
    count = 4000
    x, marks = frames(count, 8)
    port = project.inputs[0]
    beside = np.random.default_rng(3).integers(0, 2, (count, port.transfers)).astype(bool)
    beside[:, 0] = marks[:, 0]
    outputs = {o.port: count * o.transfers for o in project.outputs}
    for stalls in ((1.0, 1.0), (0.4, 0.3)):
        result = simulate_bulk(
            design_of(project),
            {port.port: to_bytes(x, port.format, port.lanes, whole_bytes=True)},
            outputs,
            frames=count,
            user={port.port: beside.ravel()},
            stalls=stalls,
        )
        for o, wanted in zip(project.outputs, sums_of(x, marks), strict=True):
            size = wanted[0].size
            got = from_bytes(result.words[o.port], o.format, size, o.lanes, whole_bytes=True)
            np.testing.assert_array_equal(got, wanted.reshape(count, size))
        if stalls == (1.0, 1.0):
            assert result.latency == project.latency
            ends = result.frame_cycles[project.outputs[0].port]
            assert (ends[-1] - ends[count // 2]) / (count - 1 - count // 2) == project.interval


# Refusals.

RESET = Tensor((1,), Format(1, 0, False))


def kept(names, sources=("x",)):
    tensors = {"x": total(NUMBER, INITIAL[0]).inputs["i_x"], "reset": RESET}
    inputs = {name: tensors[name] for name in names}
    return Network(inputs, (Node("sum", total(NUMBER, INITIAL[0]), sources),), {"y": "sum"})


def loop_in_loop():
    inner = kept(("x",), ("x",))
    x, state = inner.inputs["i_x"], inner.outputs["o"]
    add = Add(state, state, state.format)
    nodes = Node("inner", inner, ("x",)), Node("add", add, ("inner", "state"))
    cell = Network({"x": x, "state": state}, nodes, {"state": "add"})
    return Recur(cell, 2, (np.zeros(state.shape, int),), ("state",))


REFUSALS = {
    "order": (
        lambda: kept(("reset", "x")),
        ValueError,
        "Network input reset must be the last of several where a state is kept, not reset, x",
    ),
    "nested": (
        loop_in_loop,
        ValueError,
        "Recur cell must not keep a state of its own, as inner.sum does",
    ),
    "batch": (
        lambda: Program(
            (ProgramInput("x", 6, NUMBER.format), ProgramInput("reset", 1, RESET.format)),
            (Step(total(NUMBER, INITIAL[0]).kernel(), (0, 1)),),
            (2,),
        )(np.zeros((2, 6), int), np.zeros((2, 1), int)),
        ValueError,
        "LoopKernel states must be those of a Session where they are kept",
    ),
    "mark": (
        lambda: sums().session().step(np.zeros((STEPS, 2), int), [2]),
        ValueError,
        "reset must be in [0, 1] for format u1.0, not span [2, 2]",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusal(name):
    make, error, message = REFUSALS[name]
    with refused(error, message):
        make()


def test_marks_may_come_from_elsewhere():
    """A loop's last input is a stream like others: then nothing is beside the transfers."""
    x, own = total(NUMBER, INITIAL[0]).inputs["i_x"], Tensor((1,), Format(1, 0, False))
    node = Node("sum", total(NUMBER, INITIAL[0]), ("x", "begins"))
    network = Network({"x": x, "begins": own}, (node,), {"y": "sum"})
    assert not network.marked
    values, marks = frames(12)
    state, wanted = INITIAL[0], []
    for frame, (mark,) in zip(values, marks, strict=True):
        state = INITIAL[0] if mark else state
        for step in frame:
            state = wrapped(state + step)
            wanted.append(state)
    for way in (network.reference, network.run):
        np.testing.assert_array_equal(way(values, marks).reshape(-1, 2), wanted)
    ask.verilog_equals_reference([subject(network, "elsewhere")])
