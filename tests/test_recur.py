# SPDX-License-Identifier: Apache-2.0
"""The loop over a cell, and the layers that close it: exact steps, proofs, times, refusals."""

from dataclasses import replace
from fractions import Fraction

import conformance as ask
import numpy as np
import pytest
from conformance import alone, no_buffer_has_a_word_too_many, schedule
from oracle_numbers import fit, number, rounded
from refusal import refused

from blocks import (
    Add,
    Deinterleave,
    Lanes,
    Linear,
    Mul,
    Network,
    NetworkPlan,
    Node,
    Nonlinearity,
    Prompt,
    Recur,
    TableLanes,
    Tensor,
    Unrolled,
    bidirectional,
    gru,
    lstm,
    plan,
    rnn,
)
from blocks.configurations import Configuration
from blocks.planner import choices, chosen_candidates, mapped
from blocks.recurrent import smallest
from hdl import Deadlock, Target
from quant import FUNCTIONS, Format, candidates

TARGET = Target.named("ecp5")
X, W, R = Format(6, 4), Format(5, 3), Format(5, 4)
SUM, GATE, TANH = Format(7, 4), Format(6, 6, False), Format(6, 5)
CELL, H = Format(9, 5), Format(7, 6)


def draw(seed, gates, units=3, inputs=4, outputs=None):
    random = np.random.default_rng(seed)
    shapes = (*gates, units, inputs), (*gates, units, outputs or units), (*gates, units)
    return [random.integers(-16, 16, shape) for shape in shapes]


# The mathematics once more, a number at a time, with nothing of the blocks but tables.


def fitted(value, form):
    """Round half up, then saturate."""
    return fit(rounded(value * Fraction(2) ** form.frac, "RND"), form, "SAT")


def dot(weights, numbers, weight_format, form):
    return sum(
        (
            number(w, weight_format) * number(n, form)
            for w, n in zip(weights.tolist(), numbers, strict=True)
        ),
        Fraction(0),
    )


def value_of(name, code, source, target):
    return int(smallest(name, source, target).reference(np.array([code]))[0])


def lstm_step(x, h, c, arrays, x_format=X, recurrent=R, peephole=None, projection=None):
    weight, recurrent_weight, bias = arrays
    h_next, c_next = [], []
    for unit in range(weight.shape[1]):
        sums = [
            dot(weight[gate, unit], x, W, x_format)
            + dot(recurrent_weight[gate, unit], h, recurrent, H)
            + Fraction(int(bias[gate, unit])) / 2 ** (W.frac + x_format.frac)
            for gate in range(4)
        ]
        if peephole is not None:
            for place, gate in enumerate((0, 1)):
                sums[gate] += number(peephole[place][unit], R) * number(c[unit], CELL)
        i, f = (value_of("sigmoid", fitted(s, SUM), SUM, GATE) for s in sums[:2])
        g = value_of("tanh", fitted(sums[2], SUM), SUM, TANH)
        kept = number(f, GATE) * number(c[unit], CELL)
        c_next.append(fitted(kept + number(i, GATE) * number(g, TANH), CELL))
        if peephole is not None:
            sums[3] += number(peephole[2][unit], R) * number(c_next[-1], CELL)
        o = value_of("sigmoid", fitted(sums[3], SUM), SUM, GATE)
        squashed = value_of("tanh", c_next[-1], CELL, TANH)
        mixed = H if projection is None else TANH
        h_next.append(fitted(number(o, GATE) * number(squashed, TANH), mixed))
    if projection is not None:
        h_next = [fitted(dot(row, h_next, R, TANH), H) for row in projection]
    return h_next, c_next


def gru_step(x, h, arrays, own, reset_after, opened=("sigmoid", GATE)):
    weight, recurrent, bias = arrays
    parts = [
        [
            dot(weight[gate, unit], x, W, X)
            + Fraction(int(bias[gate, unit])) / 2 ** (W.frac + X.frac)
            for unit in range(3)
        ]
        for gate in range(3)
    ]
    shares = []
    for gate in range(2):
        sums = [parts[gate][n] + dot(recurrent[gate, n], h, R, H) for n in range(3)]
        shares.append([value_of(opened[0], fitted(s, SUM), SUM, opened[1]) for s in sums])
    z, r = shares
    constant = [Fraction(int(d)) / 2 ** (R.frac + H.frac) for d in own]
    left = [fitted(number(a, opened[1]) * number(b, H), H) for a, b in zip(r, h, strict=True)]
    y = []
    for unit in range(3):
        if reset_after:
            seen = dot(recurrent[2, unit], h, R, H) + constant[unit]
            seen *= number(r[unit], opened[1])
        else:
            seen = dot(recurrent[2, unit], left, R, H) + constant[unit]
        n = value_of("tanh", fitted(parts[2][unit] + seen, SUM), SUM, H)
        share = number(z[unit], opened[1])
        y.append(fitted((1 - share) * number(n, H) + share * number(h[unit], H), H))
    return y


def frames(network, count=6, seed=0):
    random = np.random.default_rng(seed)
    return [
        random.integers(t.format.min, t.format.max + 1, (count, *t.shape))
        for t in network.inputs.values()
    ]


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("kind", ["plain", "peephole", "projection"])
def test_lstm_equals_its_definition(kind, joined):
    random = np.random.default_rng(3)
    peephole = random.integers(-16, 16, (3, 3)) if kind == "peephole" else None
    projection = random.integers(-16, 16, (2, 3)) if kind == "projection" else None
    arrays = draw(1, (4,), outputs=2 if kind == "projection" else None)
    x, recurrent = (H, W) if joined else (X, R)
    first = np.array([5, -7, 60])[: len(arrays[1][0, 0])], np.array([30, -200, 9])
    layer = lstm(
        *(Tensor((4, 4), x), *arrays, W, recurrent, SUM, GATE, TANH, CELL, H),
        peephole=peephole,
        peephole_format=R,
        projection=projection,
        projection_format=R,
        initial=first,
        finals=("c",),
    )
    (given,) = frames(layer)
    sequence, last = layer.reference(given)
    for frame, y, end in zip(given.tolist(), sequence.tolist(), last.tolist(), strict=True):
        h, c = first[0].tolist(), first[1].tolist()
        for step, wanted in zip(frame, y, strict=True):
            h, c = lstm_step(step, h, c, arrays, x, recurrent, peephole, projection)
            assert h == wanted
        assert c == end
    for fast, plain in zip(layer.run(given), (sequence, last), strict=True):
        np.testing.assert_array_equal(fast, plain)


@pytest.mark.parametrize("gate", [("sigmoid", GATE), ("exp", Format(8, 6, False))])
@pytest.mark.parametrize("reset_after", [True, False])
def test_gru_equals_its_definition(reset_after, gate):
    """With gates above 1 too, where the state may saturate."""
    arrays, own = draw(2, (3,)), np.array([40, -90, 7])
    layer = gru(
        *(Tensor((4, 4), X), *arrays, W, R, SUM, gate[1], H, own, reset_after),
        activations=(gate[0], "tanh"),
        initial=(np.array([-64, 63, 5]),),
    )
    (given,) = frames(layer)
    for frame, y in zip(given.tolist(), layer.reference(given).tolist(), strict=True):
        h = [-64, 63, 5]
        for step, wanted in zip(frame, y, strict=True):
            h = gru_step(step, h, arrays, own, reset_after, gate)
            assert h == wanted
    np.testing.assert_array_equal(layer.run(given), layer.reference(given))


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_rnn_equals_its_definition(activation):
    weight, recurrent, bias = draw(4, ())
    target = H if activation == "tanh" else Format(7, 4, False)
    layer = rnn(Tensor((4, 4), X), weight, recurrent, bias, W, R, SUM, target, activation)
    (given,) = frames(layer)
    for frame, y in zip(given.tolist(), layer.reference(given).tolist(), strict=True):
        h = [0, 0, 0]
        for step, wanted in zip(frame, y, strict=True):
            sums = [
                dot(weight[n], step, W, X)
                + dot(recurrent[n], h, R, target)
                + Fraction(int(bias[n])) / 2 ** (W.frac + X.frac)
                for n in range(3)
            ]
            if activation == "tanh":
                h = [value_of("tanh", fitted(s, SUM), SUM, H) for s in sums]
            else:
                h = [fitted(max(s, Fraction(0)), target) for s in sums]
            assert h == wanted


@pytest.mark.parametrize("bits", range(1, 7))
def test_the_state_of_a_gru_cannot_overflow(bits):
    """Every n and h of 5 bits and every share of so many, 1 itself among them."""
    n, h, z = np.meshgrid(np.arange(-16, 16), np.arange(-16, 16), np.arange((1 << bits) + 1))
    y = (n * (1 << bits) + z * (h - n) + (1 << bits >> 1)) >> bits
    assert (np.minimum(n, h) <= y).all()
    assert (y <= np.maximum(n, h)).all()


def layers(steps, sequences=("h",), finals=(), seed=5):
    settings = {"sequences": sequences, "finals": finals}
    return gru(Tensor((steps, 4), X), *draw(seed, (3,)), W, R, SUM, GATE, H, **settings)


def test_bidirectional_reads_the_frame_from_both_ends():
    forward, backward = layers(5, finals=("h",)), layers(5, finals=("h",), seed=6)
    both = bidirectional(forward, backward)
    (x,) = frames(both)
    y, last = both.reference(x)
    there, there_last = forward.reference(x)
    back, back_last = backward.reference(x[:, ::-1])
    np.testing.assert_array_equal(y, np.concatenate([there, back[:, ::-1]], axis=-1))
    np.testing.assert_array_equal(last, np.concatenate([there_last, back_last], axis=-1))
    np.testing.assert_array_equal(both.run(x)[0], y)


def test_streams_are_independent_sequences():
    one = layers(4)
    three = gru(Tensor((4, 3, 4), X), *draw(5, (3,)), W, R, SUM, GATE, H)
    (x,) = frames(three)
    y = three.reference(x)
    for stream in range(3):
        np.testing.assert_array_equal(y[:, :, stream], one.reference(x[:, :, stream]))
    np.testing.assert_array_equal(three.run(x), y)


def test_the_last_state_of_one_frame_may_be_the_first_of_another():
    whole, start = layers(6), layers(2)
    rest = gru(Tensor((4, 4), X), *draw(5, (3,)), W, R, SUM, GATE, H, initial=(None,))
    (x,) = frames(whole)
    first = start.reference(x[:, :2])
    np.testing.assert_array_equal(rest.reference(x[:, 2:], first[:, -1]), whole.reference(x)[:, 2:])


def test_layers_follow_each_other():
    first = layers(3)
    second = rnn(first.outputs["o"], *draw(7, (), inputs=3), W, R, SUM, H, finals=("h",))
    both = Network(
        {"x": first.inputs["i"]},
        (Node("first", first, ("x",)), Node("second", second, ("first",))),
        {"h": "second.h", "end": "second.h_last"},
    )
    (x,) = frames(both)
    y, end = both.reference(x)
    np.testing.assert_array_equal(y[:, -1], end)
    np.testing.assert_array_equal(second.reference(first.reference(x))[0], y)
    planned = plan(both, TARGET, 600)
    assert schedule(both, planned).interval <= 600
    names = {"first.loop.i", "second.loop.i"}
    assert names < set(both.buffers(planned))
    assert set(planned.depths) == names


def test_states_may_change_places():
    """What the next step takes is an input of this one, which others overwrite."""
    x, state = Tensor((2,), Format(4, 0)), Tensor((2,), Format(6, 0))
    node = Node("add", Add(x, state, state.format), ("x", "a"))
    outputs = {"a": "b", "b": "a", "y": "add"}
    cell = Network({"x": x, "a": state, "b": state}, (node,), outputs)
    network = alone(Recur(cell, 5, (np.array([1, 2]), np.array([20, -20])), ("y", "a"), ("b",)))
    (given,) = frames(network)
    for fast, plain in zip(network.run(given), network.reference(given), strict=True):
        np.testing.assert_array_equal(fast, plain)


def alive(steps=1, **settings):
    """An LSTM whose state lives on."""
    shape, arrays = Tensor((steps, 4), X), draw(9, (4,))
    formats = W, R, SUM, GATE, TANH, CELL, H
    return lstm(shape, *arrays, *formats, finals=("c",), kept=True, **settings)


def test_a_session_goes_on_where_it_was():
    first = np.array([5, -7, 60]), np.array([30, -200, 9])
    layer = alive(initial=first)
    x, _ = frames(layer, 40)
    session = layer.session()
    h, c = (state.tolist() for state in first)
    for given in x:
        y, last = session.step(given)
        h, c = lstm_step(given[0].tolist(), h, c, draw(9, (4,)))
        assert y.tolist() == [h]
        assert last.tolist() == c
    session.reset()
    again = session.step(x[0])
    for found, wanted in zip(again, layer.reference(x[:1]), strict=True):
        np.testing.assert_array_equal(found, wanted[0])


def test_frames_of_a_kept_state_follow_each_other_in_time():
    layer = alive(2)
    x, _ = frames(layer, 12)
    whole = lstm(Tensor((24, 4), X), *draw(9, (4,)), W, R, SUM, GATE, TANH, CELL, H)
    y, last = layer.reference(x)
    np.testing.assert_array_equal(y.reshape(24, 3), whole.reference(x.reshape(24, 4)))
    for found, wanted in zip(layer.run(x), (y, last), strict=True):
        np.testing.assert_array_equal(found, wanted)
    shaped = layer.reference(x.reshape(3, 4, 2, 4))
    np.testing.assert_array_equal(shaped[0], y.reshape(3, 4, 2, 3))
    assert layer.reference(x[:0])[1].shape == (0, 3)


def test_two_sessions_live_apart():
    layer = alive()
    x, _ = frames(layer, 4)
    one, other = layer.session(), layer.session()
    one.step(x[0])
    for found, wanted in zip(other.step(x[1]), layer.reference(x[1:2]), strict=True):
        np.testing.assert_array_equal(found, wanted[0])


# Time.


def delay_line(steps, streams=1):
    """A cell that adds x and its state."""
    x = Tensor((1,), Format(4, 0))
    add = Add(x, x, x.format)
    cell = Network({"x": x, "h": x}, (Node("add", add, ("x", "h")),), {"h": "add"})
    return alone(Recur(cell, steps, (np.array([1]),), ("h",), (), streams))


@pytest.mark.parametrize(("steps", "streams", "interval"), [(10, 1, 30), (10, 3, 30), (1, 1, 1)])
def test_a_step_takes_the_latency_of_its_loop(steps, streams, interval):
    """Two stages and a buffer: three cycles, in which other streams move."""
    network = delay_line(steps, streams)
    found = schedule(network, plan(network, TARGET, interval)).interval
    assert found == pytest.approx(interval, abs=3)


@pytest.mark.parametrize(("stages", "depth", "step"), [(1, 1, 2), (1, 2, 2), (0, 2, 1)])
def test_a_loop_of_wires_takes_its_registers_alone(stages, depth, step):
    network = delay_line(10)
    depths = {"add.i_a": 2, "add.i_b": depth}  # a state is given when x has been taken
    inner = NetworkPlan(
        {"add": Prompt(1, stages)},
        {"i_x": 1, "i_h": 1, "o": 1},
        depths,
        dict.fromkeys(depths, "registers"),
    )
    made = NetworkPlan({"block": inner}, {"i": 1, "o": 1}, {"block.i": 0}, {})
    timing = network.timing(made)
    assert np.diff(timing.times(1)[timing.port("o")][0]).tolist() == [step] * 9
    ask.verilog_equals_reference(ask.subjects("wires", [Configuration(network, made)]))


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("adders", [2, 3])
def test_a_step_of_an_lstm_takes_its_registers_alone(adders, held):
    """Sums of x ahead; a buffer, sums of h, gates, products, cell and its tanh are in the loop."""
    units, steps = 3, 4
    parts = draw(5, (4,))
    network = lstm(
        Tensor((steps, 4), X), *parts, W, R, SUM, GATE, TANH, CELL, H, choose=plain_table
    )
    loop = network.nodes[0].block
    plans = {}
    for node in loop.cell.nodes:
        size = next(iter(node.block.outputs.values())).size
        if isinstance(node.block, Linear):
            plans[node.name] = Unrolled(adders, 0, held)
        elif isinstance(node.block, Add | Mul):
            plans[node.name] = Prompt(size, 0 if node.name == "h_next" else 1)
        else:
            kind = TableLanes if isinstance(node.block, Nonlinearity) else Lanes
            plans[node.name] = kind(units)
    depths = {route.name: 0 for route in loop.cell.routes if loop.cell.buffered(route)}
    depths |= {"kept.i_b": 2} if held else {"h_sums.i": 1, "kept.i_b": 2, "sums.i_a": 2}
    lanes = {"i_x": 4, "i_h": units, "i_c": units, "o_h": units, "o_c": units}
    styles = dict.fromkeys(depths, "registers")
    inner = NetworkPlan(plans, lanes, depths, styles)
    made = NetworkPlan({"loop": inner}, {"i": 4, "o": units}, {"loop.i": 0}, {})
    sums, _ = loop.cell.node("h_sums").block.design(plans["h_sums"])
    step = 1 + sums.stages + 5
    times = network.timing(made).times(1)
    assert np.diff(times[network.timing(made).port("o")][0]).tolist() == [step] * (steps - 1)
    subject = ask.subjects("short", [Configuration(network, made)])
    ask.verilog_equals_reference(subject)
    ask.verilog_is_clean(subject)


def test_a_loop_whose_only_word_waits_for_itself_hangs():
    """A full buffer of one word takes no other in the cycle in which it gives its own."""
    network = delay_line(10)
    depths = {"add.i_a": 2, "add.i_b": 1}
    inner = NetworkPlan({"add": Prompt(1, 0)}, {"i_x": 1, "i_h": 1, "o": 1}, depths, {})
    with pytest.raises(Deadlock):
        schedule(network, NetworkPlan({"block": inner}, {"i": 1, "o": 1}, {"block.i": 0}, {}))


def plain_table(name, source, target):
    """A look-up of every code, a stage."""
    return next(
        form
        for form in candidates(FUNCTIONS[name], source, target, degrees=(0,))
        if form.symmetry is None
    )


def test_no_buffer_of_a_loop_has_a_word_too_many():
    network = layers(3)
    planned = plan(network, TARGET, 250)
    best = schedule(network, planned).interval
    assert best <= 250
    no_buffer_has_a_word_too_many(network, planned)
    inner = planned.plans["loop"]
    for name, depth in inner.depths.items():
        if depth > 1:
            less = replace(inner, depths={**inner.depths, name: depth - 1})
            shorter = replace(planned, plans={"loop": less})
            try:
                found = schedule(network, shorter).interval
            except Deadlock:
                continue
            assert found > best, name


def busy(network, haste, **folded):
    """Share of the cycles in which the multipliers of matrices work, once steady."""
    loop = network.nodes[0].block
    cell = loop.cell
    known = choices(cell, TARGET)
    chosen = chosen_candidates(cell, known, TARGET, 10**6)
    for name, own in known.items():
        if name in folded:
            pe, simd = folded[name]
            chosen[name] = next(
                c
                for c in own
                if (getattr(c.plan, "pe", 0), getattr(c.plan, "simd", 0)) == (pe, simd)
            )
        elif not any(c.unrolled for c in own):
            units = cell.outputs[loop._exit("h")].size
            turns = units // haste
            chosen[name] = next((c for c in own if c.interval == turns), chosen[name])
    inner = loop.with_lanes(mapped(cell, chosen))
    graph = loop._candidate(inner, TARGET)
    work = sum(n.block.weight.size for n in cell.nodes if isinstance(n.block, Linear))
    multipliers = sum(pe * simd for pe, simd in folded.values())
    return loop.rounds * work / multipliers / graph.interval


def large(kind, units, inputs, streams=1):
    shape = (12, inputs) if streams == 1 else (12, streams, inputs)
    number, sums, gate, h = Format(8, 7), Format(8, 5), Format(8, 8, False), Format(8, 7)

    def table(name, source, target):
        forms = candidates(FUNCTIONS[name], source, target, degrees=(0,))
        return next(form for form in forms if form.symmetry is None)  # one stage

    if kind == "lstm":
        arrays = draw(8, (4,), units, inputs)
        formats = number, number, sums, gate, h, Format(10, 6), h
        return lstm(Tensor(shape, h), *arrays, *formats, choose=table)
    arrays = draw(8, (3,), units, inputs)
    return gru(Tensor(shape, h), *arrays, number, number, sums, gate, h, choose=table)


@pytest.mark.parametrize(
    ("kind", "units", "haste", "folded"),
    [
        ("lstm", 32, 1, {"sums": (64, 1)}),
        ("lstm", 32, 1, {"sums": (128, 1)}),
        ("lstm", 64, 2, {"sums": (64, 2)}),
        ("gru", 32, 4, {"x_sums": (32, 1), "h_sums": (32, 1)}),
        ("gru", 64, 2, {"x_sums": (48, 1), "h_sums": (48, 1)}),
    ],
)
def test_multipliers_are_busy_nine_cycles_of_ten(kind, units, haste, folded):
    assert busy(large(kind, units, units), haste, **folded) >= 0.9


def test_with_two_streams_multipliers_are_always_busy():
    assert busy(large("lstm", 32, 32, 2), 1, sums=(32, 2)) >= 0.97
    assert busy(large("gru", 32, 32, 2), 1, x_sums=(24, 1), h_sums=(24, 1)) >= 0.97


# Refusals.

NUMBER = Tensor((2,), Format(4, 0))
ADD = Add(NUMBER, NUMBER, NUMBER.format)
ADDING = Network({"x": NUMBER, "h": NUMBER}, (Node("add", ADD, ("x", "h")),), {"h": "add"})
ZERO = np.zeros(2, np.int64)


def loop(cell=ADDING, steps=2, initial=(ZERO,), sequences=("h",), **settings):
    return Recur(cell, steps, initial, sequences, **settings)


def renamed(output):
    return Network({"x": NUMBER, "h": NUMBER}, (Node("add", ADD, ("x", "h")),), {output: "add"})


def wider():
    add = Add(NUMBER, NUMBER, Format(5, 0))
    return Network({"x": NUMBER, "h": NUMBER}, (Node("add", add, ("x", "h")),), {"h": "add"})


GRU = (Tensor((2, 4), X), *draw(0, (3,)), W, R, SUM, GATE, H)
LSTM = (Tensor((2, 4), X), *draw(0, (4,)), W, R, SUM, GATE, TANH, CELL, H)

REFUSALS = {
    "cell": (lambda: loop(3), TypeError, "Recur cell must be a Network, not 3"),
    "steps": (lambda: loop(steps=0), ValueError, "Recur steps must be an int from 1, not 0"),
    "streams": (
        lambda: loop(streams=1.5),
        ValueError,
        "Recur streams must be an int from 1, not 1.5",
    ),
    "stateless": (
        lambda: loop(Network.chain(Linear(NUMBER, np.eye(2, dtype=int), ZERO, W, X))),
        ValueError,
        "Recur cell must have a state besides x, not one input",
    ),
    "initial": (
        lambda: loop(initial=()),
        ValueError,
        "Recur initial must be a tuple of one for each state of h, not ()",
    ),
    "initial shape": (
        lambda: loop(initial=(np.zeros(3, int),)),
        ValueError,
        "Recur initial h must have shape (2,), not (3,)",
    ),
    "initial range": (
        lambda: loop(initial=(np.array([0, 8]),)),
        ValueError,
        "Recur initial h must be in [-8, 7] for format s4.0, not span [0, 8]",
    ),
    "no output": (
        lambda: loop(renamed("y")),
        ValueError,
        "Recur cell must have an output for its state h, not none",
    ),
    "other tensor": (
        lambda: loop(wider()),
        ValueError,
        "Recur cell output h must be 2 s4.0 like the state, not 2 s5.0",
    ),
    "kept": (
        lambda: loop(kept=1),
        TypeError,
        "Recur kept must be a bool, not 1",
    ),
    "kept from outside": (
        lambda: loop(initial=(None,), kept=True),
        ValueError,
        "Recur initial must be constant where the state is kept, not an input",
    ),
    "kept both ways": (
        lambda: bidirectional(alive(), alive()),
        ValueError,
        "bidirectional layers must see whole frames, not keep a state from frame to frame",
    ),
    "session": (
        lambda: layers(2).session(),
        ValueError,
        "Network session must have a block that keeps its state, not none",
    ),
    "step": (
        lambda: alive().session().step(np.zeros((2, 4), int)),
        ValueError,
        "Network input x must have shape (1, 4), not (2, 4)",
    ),
    "unknown": (
        lambda: loop(sequences=("y",)),
        ValueError,
        "Recur sequences must be outputs of the cell, h, not 'y'",
    ),
    "twice": (
        lambda: loop(finals=("h", "h")),
        ValueError,
        "Recur finals must be a tuple of names, each once, not ('h', 'h')",
    ),
    "nothing": (
        lambda: loop(sequences=()),
        ValueError,
        "Recur must give a sequence or a final, not nothing",
    ),
    "plan": (
        lambda: loop().lanes(Lanes(1)),
        TypeError,
        "Recur plan must be NetworkPlan, not Lanes(lanes=1)",
    ),
    "parts": (
        lambda: Deinterleave(NUMBER, 3),
        ValueError,
        "Deinterleave parts must be an int from 2 that divides 2, not 3",
    ),
    "activation": (
        lambda: rnn(Tensor((2, 4), X), *draw(0, ()), W, R, SUM, H, "sine"),
        ValueError,
        "rnn activation must be a function, a name of one or relu of rnn, not 'sine'",
    ),
    "axes": (
        lambda: rnn(Tensor((4,), X), *draw(0, ()), W, R, SUM, H),
        ValueError,
        "rnn input must have 2 or 3 axes, not 1",
    ),
    "reset": (
        lambda: gru(*GRU, reset_after=2),
        TypeError,
        "gru reset_after must be a bool, not 2",
    ),
    "activations": (
        lambda: lstm(*LSTM, activations=("sigmoid", "tanh")),
        ValueError,
        "lstm activations must be a tuple of 3, not ('sigmoid', 'tanh')",
    ),
    "relu": (
        lambda: gru(*GRU, activations=("sigmoid", "relu")),
        ValueError,
        "gru activation must be a function, a name of one or relu of rnn, not 'relu'",
    ),
    "peephole": (
        lambda: lstm(*LSTM, peephole=np.zeros((3, 2), int), peephole_format=R),
        ValueError,
        "lstm peephole must have shape (3, 3), not (3, 2)",
    ),
    "one way": (
        lambda: bidirectional(layers(2), 3),
        ValueError,
        "bidirectional backward must be a recurrent layer with x alone, not 3",
    ),
    "other outputs": (
        lambda: bidirectional(layers(2), layers(2, (), ("h",))),
        ValueError,
        "bidirectional backward must give h like forward, not h_last",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusal(name):
    make, error, message = REFUSALS[name]
    with refused(error, message):
        make()
