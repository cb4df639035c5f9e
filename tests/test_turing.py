# SPDX-License-Identifier: Apache-2.0
"""Soft memories: exact but for scores and shares, whose errors are bounded; the whole machine."""

from dataclasses import replace
from fractions import Fraction
from math import floor, sqrt

import conformance as ask
import mpmath
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from oracle_turing import Machine
from refusal import refused

from blocks import (
    Recur,
    Tensor,
    content_addressing,
    content_scores,
    location_addressing,
    neural_turing_machine,
    quick_plan,
    soft_read,
    soft_write,
)
from blocks.composition import Composition
from blocks.configurations import Configuration, draw_frames
from blocks.movement import cut
from blocks.network import Network, Node
from blocks.turing import machine_arguments
from examples.copy_ntm.network import mapping, network
from hdl import Target
from quant import Format, from_float

MP = mpmath.MPContext()
MP.prec = 120
ECP5 = Target.named("ecp5")
MEMORY, KEY, STRENGTH = Format(6, 4), Format(5, 3), Format(5, 2, False)
SCORE, SHARE = Format(8, 4), Format(8, 8, False)
WEIGHTING = Format(10, 10, False)


def draw(random, *tensors):
    """Frames, of which the second is all smallest, the third all largest, the fourth all 0."""
    made = [random.integers(t.format.min, t.format.max + 1, (9, *t.shape)) for t in tensors]
    for values, tensor in zip(made, tensors, strict=True):
        values[1], values[2], values[3] = tensor.format.min, tensor.format.max, 0
    return made


def number(code, source):
    return Fraction(int(code)) / Fraction(2) ** source.frac


def narrowed(value, target):
    """Nearest number of a format, ties up."""
    code = floor(value * Fraction(2) ** target.frac + Fraction(1, 2))
    return min(max(code, target.min), target.max)


SCORED = Tensor((5, 3), MEMORY), Tensor((2, 3), KEY), Tensor((2,), STRENGTH)


@pytest.mark.parametrize("score", [SCORE, Format(9, 7), Format(4, 0)])
@pytest.mark.parametrize("epsilon", [1e-3, 0.3, 0.99, 2.0**-20])
def test_scores_are_less_than_their_bound_off(epsilon, score):
    block = content_scores(*SCORED, score, epsilon)
    frames = draw(np.random.default_rng(1), *SCORED)
    for memory, keys, strengths, y in zip(*frames, block.reference(*frames), strict=True):
        for head, row in np.ndindex(y.shape):
            m = [number(n, MEMORY) for n in memory[row]]
            k = [number(n, KEY) for n in keys[head]]
            dot = sum(a * b for a, b in zip(m, k, strict=True))
            squares = sum(a * a for a in m) * sum(b * b for b in k)
            length = MP.sqrt(MP.mpf(squares.numerator) / squares.denominator) + MP.mpf(epsilon)
            strength = number(strengths[head], STRENGTH)
            exact = MP.mpf((strength * dot).numerator) / (strength * dot).denominator / length
            wanted = min(max(MP.ldexp(exact, score.frac), score.min), score.max)
            assert abs(int(y[head, row]) - wanted) < 0.5 + float(strength) / 4 + 1e-9


def test_hard_addressing_means_the_first_of_the_most_alike_rows():
    block = content_addressing(*SCORED, SCORE, SHARE, hard=True)
    frames = draw(np.random.default_rng(2), *SCORED)
    frames[0][4, 3] = frames[0][4, 1]
    scores = content_scores(*SCORED, SCORE).reference(*frames)
    for found, wanted in zip(
        block.reference(*frames).reshape(-1, 5).tolist(),
        scores.reshape(-1, 5).tolist(),
        strict=True,
    ):
        place = wanted.index(max(wanted))
        assert found == [255 if n == place else 0 for n in range(5)]


@pytest.mark.parametrize("places", [3, 5])
@pytest.mark.parametrize("exponent", [1, 2])
def test_location_addressing_equals_fractions(exponent, places):
    gate, mixed = Format(4, 4, False), Format(9, 9, False)
    tensors = (
        Tensor((2, 4), SHARE),
        Tensor((2, 4), WEIGHTING),
        Tensor((2,), gate),
        Tensor((2, places), SHARE),
    )
    block = location_addressing(*tensors, mixed, WEIGHTING, exponent)
    frames = draw(np.random.default_rng(3), *tensors)
    y = block.reference(*frames)
    for place in np.ndindex(9, 2):
        content, former, by, shares = (values[place] for values in frames)
        g, moved = number(by, gate), [Fraction(0)] * 4
        for row in range(4):
            old = number(former[row], WEIGHTING)
            new = old + g * (number(content[row], SHARE) - old)
            for move in range(places):
                goes = (row + move - places // 2) % 4
                moved[goes] += number(narrowed(new, mixed), mixed) * number(shares[move], SHARE)
        powers = [number(narrowed(m, mixed), mixed) ** exponent for m in moved]
        total = sum(powers)
        wanted = [narrowed(p / total, WEIGHTING) if total else 0 for p in powers]
        assert y[place].tolist() == wanted


def test_reading_and_writing_equal_fractions():
    vectors = Tensor((4,), WEIGHTING), Tensor((3,), SHARE), Tensor((3,), KEY)
    memory = Tensor((4, 3), MEMORY)
    target = Format(7, 4)
    frames = draw(np.random.default_rng(4), memory, *vectors, Tensor((2, 4), WEIGHTING))
    written = soft_write(memory, *vectors).reference(*frames[:4])
    read = soft_read(Tensor((2, 4), WEIGHTING), memory, target).reference(frames[4], frames[0])
    for place in np.ndindex(9, 4, 3):
        frame, row, column = place
        w = number(frames[1][frame, row], WEIGHTING)
        e, a = number(frames[2][frame, column], SHARE), number(frames[3][frame, column], KEY)
        assert written[place] == narrowed(
            number(frames[0][place], MEMORY) * (1 - w * e) + w * a, MEMORY
        )
    for place in np.ndindex(9, 2, 3):
        frame, head, column = place
        total = sum(
            number(frames[4][frame, head, row], WEIGHTING)
            * number(frames[0][frame, row, column], MEMORY)
            for row in range(4)
        )
        assert read[place] == narrowed(total, target)


# The whole machine

FORMATS = {
    "controller_format": Format(8, 6),
    "head_format": Format(8, 5),
    "output_weight_format": Format(8, 6),
    "sum_format": Format(9, 5),
    "hidden_format": Format(9, 8),
    "key_format": Format(9, 8),
    "strength_format": Format(9, 6, False),
    "gate_format": Format(9, 9, False),
    "shift_format": Format(9, 9, False),
    "score_format": Format(8, 5),
    "weighting_format": Format(12, 12, False),
    "memory_format": Format(10, 7),
    "read_format": Format(10, 8),
    "output_format": Format(10, 7),
}


def machine(seed, rows=4, columns=3, reads=1, writes=1, steps=3, streams=(), **options):
    """A machine of random weights, and these by name."""
    random = np.random.default_rng(seed)
    inputs, units, outputs = 2, 3, 2
    shapes = {
        "controller": (units, inputs + reads * columns),
        "reader": (reads, columns + 5, units),
        "writer": (writes, 3 * columns + 5, units),
        "output": (outputs, units + reads * columns),
    }
    formats = FORMATS["controller_format"], *2 * (FORMATS["head_format"],)
    formats = *formats, FORMATS["output_weight_format"]
    seen = FORMATS["read_format"], *3 * (FORMATS["hidden_format"],)
    arrays, values = {}, {}
    for (name, shape), weight, source in zip(shapes.items(), formats, seen, strict=True):
        frac = weight.frac + source.frac
        arrays[name] = from_float(random.normal(size=shape), weight)
        arrays[f"{name}_bias"] = from_float(random.normal(size=shape[:-1]), Format(20, frac))
        values[name] = arrays[name] / 2.0**weight.frac
        values[f"{name}_bias"] = arrays[f"{name}_bias"] / 2.0**frac
    x = Tensor((steps, *streams, inputs), Format(6, 4))
    return neural_turing_machine(x, rows, **{**arrays, **FORMATS, **options}), values


def in_floats(values, x, rows, exponent=2, epsilon=1e-3):
    """One sequence through the machine of sections 3.1 to 3.4 in floats."""
    reads, writes = len(values["reader"]), len(values["writer"])
    columns = (values["writer"].shape[1] - values["reader"].shape[1]) // 2
    memory, vectors = np.zeros((rows, columns)), np.zeros(reads * columns)
    heads = np.eye(1, rows).repeat(reads + writes, 0)
    outputs = []
    for now in x:
        hidden = np.tanh(values["controller"] @ [*now, *vectors] + values["controller_bias"])
        wanted = [
            values[kind][n] @ hidden + values[f"{kind}_bias"][n]
            for kind, count in (("reader", reads), ("writer", writes))
            for n in range(count)
        ]
        for n, raw in enumerate(wanted):
            key, strength = np.tanh(raw[:columns]), np.log1p(np.exp(raw[columns]))
            gate = 1 / (1 + np.exp(-raw[columns + 1]))
            lengths = [sqrt(row @ row) * sqrt(key @ key) + epsilon for row in memory]
            likeness = np.exp(strength * (memory @ key) / lengths)
            head = gate * likeness / likeness.sum() + (1 - gate) * heads[n]
            shares = np.exp(raw[columns + 2 : columns + 5])
            shares /= shares.sum()
            head = sum(share * np.roll(head, n - 1) for n, share in enumerate(shares)) ** exponent
            heads[n] = head / head.sum()
        vectors = (heads[:reads] @ memory).ravel()
        for n in range(writes):
            rest = wanted[reads + n][columns + 5 :]
            erase, add = 1 / (1 + np.exp(-rest[:columns])), np.tanh(rest[columns:])
            share = heads[reads + n][:, None]
            memory = memory * (1 - share * erase) + share * add
        outputs.append(values["output"] @ [*hidden, *vectors] + values["output_bias"])
    return np.array(outputs)


@pytest.mark.parametrize(
    ("sizes", "options"),
    [
        ({}, {}),
        ({"rows": 5, "reads": 2}, {"exponent": 1}),
        ({"rows": 3, "columns": 2, "writes": 2, "steps": 4}, {"epsilon": 0.1}),
    ],
    ids=["one of each", "two readers", "two writers"],
)
def test_the_machine_is_near_that_in_floats(sizes, options):
    """y is up to 4, in units of 1/128; of the weights the floats have the integers' own."""
    layer, values = machine(5, **sizes, **options)
    x = np.random.default_rng(6).integers(-32, 32, (12, layer.inputs["i"].shape[0], 2))
    y = layer.reference(x)
    assert_array_equal(layer.run(x), y)
    wanted = [in_floats(values, frame / 16, sizes.get("rows", 4), **options) for frame in x]
    error = np.abs(y / 128 - np.clip(wanted, -4, 511 / 128))
    assert error.max() < 0.06
    assert error.mean() < 0.012


def equals_its_equations(layer, arguments):
    """Every output of every stream and frame, by the equations of the machine."""
    random, equations = np.random.default_rng(10), Machine(arguments)
    frames = [draw_frames(random, tensor, 5) for tensor in layer.inputs.values()]
    results = layer.reference(*frames)
    results = results if isinstance(results, tuple) else (results,)
    values = dict(zip(layer.input_names, frames, strict=True))
    values |= zip(layer.output_names, results, strict=True)
    steps = values["x"].shape[1]
    x, y = (v.reshape(5, steps, -1, v.shape[-1]) for v in (values["x"], values["y"]))
    memory, last = (
        values[n].reshape(5, -1, *values[n].shape[-2:]) if n in values else None
        for n in ("memory", "memory_last")
    )
    for stream in range(x.shape[2]):
        state = equations.start()
        for frame in range(5):
            if "reset" not in values or values["reset"][frame]:
                state = equations.start()
            if memory is not None:
                state = (memory[frame, stream].tolist(), *state[1:])
            wanted, state = equations.sequence(x[frame, :, stream], state)
            assert y[frame, :, stream].tolist() == wanted
            if last is not None:
                assert last[frame, stream].tolist() == state[0]


@pytest.mark.parametrize("index", range(20))
def test_the_machine_equals_its_equations(index):
    arguments = machine_arguments(np.random.default_rng(index), index)
    equals_its_equations(neural_turing_machine(**arguments), arguments)


def rewired(network, sources):
    """The machine, some nodes of its cell with other sources."""
    (loop,) = network.nodes
    cell = loop.block.cell
    waiting = [replace(n, sources=sources.get(n.name, n.sources)) for n in cell.nodes]
    known, nodes = {*cell.input_names}, []
    while waiting:
        ready = next(node for node in waiting if known.issuperset(node.sources))
        waiting.remove(ready)
        nodes.append(ready)
        known.update(ready.tensors)

    def again(old, nodes):
        inputs = dict(zip(old.input_names, old.inputs.values(), strict=True))
        return Network(inputs, nodes, {name: old.source_of(name) for name in old.output_names})

    return again(network, [replace(loop, block=replace(loop.block, cell=again(cell, nodes)))])


OF_WRITES = [("moved_0", "erase_0", "add_0"), ("moved_1", "erase_1", "add_1")]
FAULTS = {
    "reading after writing": {"read_rows": ("reading", "memory_1")},
    "reading between two writes": {"read_rows": ("reading", "memory_0")},
    "showing what was read last": {"read_outputs": ("read",)},
    "writing in another order": {
        "memory_0": ("memory", *OF_WRITES[1]),
        "memory_1": ("memory_0", *OF_WRITES[0]),
    },
    "writing where another head is": {
        "memory_0": ("memory", "moved_1", "erase_0", "add_0"),
        "memory_1": ("memory_0", "moved_0", "erase_1", "add_1"),
    },
}


@pytest.mark.parametrize("sources", FAULTS.values(), ids=FAULTS)
def test_a_machine_in_another_order_does_not_equal_its_equations(sources):
    arguments = machine_arguments(np.random.default_rng(5), 5)
    machine = neural_turing_machine(**arguments)
    equals_its_equations(rewired(machine, {}), arguments)
    with pytest.raises(AssertionError):
        equals_its_equations(rewired(machine, sources), arguments)


def test_streams_of_the_machine_do_not_see_each_other():
    both, _ = machine(7, streams=(2,))
    alone, _ = machine(7)
    x = np.random.default_rng(8).integers(-32, 32, (4, 3, 2, 2))
    y = both.reference(x)
    for stream in range(2):
        assert_array_equal(y[:, :, stream], alone.reference(x[:, :, stream]))


def subject(block, interval):
    return ask.subjects("turing", [Configuration(block, quick_plan(block, ECP5, interval))])


def test_verilog_of_the_machine_equals_reference_cycle_for_cycle():
    ask.verilog_equals_reference(subject(machine(9, steps=2)[0], 30))


def soft_memory(rows, columns, steps, kept=False):
    """A loop that holds a memory alone; x says what is written, and what was there comes out."""
    share, memory = Format(4, 4, False), Tensor((rows, columns), Format(6, 4))
    net = Composition(x=Tensor((rows + 2 * columns,), share), memory=memory)
    ends = 0, rows, rows + columns, rows + 2 * columns
    parts = [
        net.add(name, lambda x, a=a, b=b: cut(x, (slice(a, b),)), "x")
        for name, a, b in zip(("weighting", "erase", "add"), ends[:-1], ends[1:], strict=True)
    ]
    net.add("written", soft_write, "memory", *parts)
    zeros = (np.zeros(memory.shape, np.int64),)
    loop = Recur(net.network(memory="written"), steps, zeros, (), ("memory",), kept=kept)
    node = Node("loop", loop, ("x",))
    return Network({"x": next(iter(loop.inputs.values()))}, (node,), {"y": "loop"})


def test_a_memory_that_is_kept_lasts_from_mark_to_mark():
    kept, random = soft_memory(4, 3, 2, kept=True), np.random.default_rng(12)
    x = random.integers(0, 16, (9, 2, 10))
    marks = np.array([0, 0, 0, 1, 0, 1, 1, 0, 0])
    found = kept.reference(x, marks[:, None])
    for start, end in ((0, 3), (3, 5), (5, 6), (6, 9)):
        for frame in range(start, end):
            steps = 2 * (frame + 1 - start)
            whole = soft_memory(4, 3, steps).reference(x[start : frame + 1].reshape(steps, 10))
            assert_array_equal(found[frame], whole)
    assert_array_equal(kept.run(x, marks[:, None]), found)
    ask.verilog_equals_reference(subject(kept, 60))


def test_a_machine_may_keep_its_memory():
    kept, whole = machine(7, steps=2, kept=True)[0], machine(7, steps=6)[0]
    x = np.random.default_rng(8).integers(-32, 32, (6, 2))
    assert_array_equal(kept.run(x.reshape(3, 2, 2)).reshape(6, 2), whole.reference(x))


def test_a_large_memory_is_block_ram():
    block = soft_memory(128, 8, 2)
    plan = quick_plan(block, ECP5, 1024)
    inner = plan.plans["loop"]
    assert inner.styles["written.y.i_a"] == "block"
    assert inner.depths["written.y.i_a"] > 1000
    found = ask.subjects("soft", [Configuration(block, plan)])
    ask.synthesis_equals_cost(found, ECP5, composed=True)
    assert block.cost(plan, ECP5).bram >= 2
    ask.verilog_equals_reference(found)


def test_the_memory_of_the_copying_machine_is_block_ram():
    copying = network(steps=2)
    styles = mapping(copying).plans["loop"].styles
    for name in ("read_rows.product.i_a", "memory_0.erased.i_a", "memory_0.y.i_a"):
        assert styles[name] == "block"


def test_a_quick_plan_is_as_fast_as_with_more_room():
    block = machine(9, steps=4)[0]
    plan = quick_plan(block, ECP5, 30)
    inner = plan.plans["loop"]
    roomy = {name: 4 * depth + 4 for name, depth in inner.depths.items()}
    large = block.loops["loop"].cell.with_buffers(inner, roomy, inner.styles)

    def interval(mapped):
        graph = block.timing(type(plan)({"loop": mapped}, plan.lanes, plan.depths, plan.styles))
        return graph.schedule([graph.port("i")], [graph.port("o")]).interval

    assert interval(inner) == interval(large)


def tensors(*shapes):
    return [Tensor(shape, SHARE) for shape in shapes]


M, K, S = (4, 3), (2, 3), (2,)
REFUSALS = {
    "axes": (
        lambda: content_scores(*tensors(S, K, S), SCORE),
        "content_scores memory must have 2 axes, not 1",
    ),
    "key": (
        lambda: content_scores(*tensors(M, (2, 4), S), SCORE),
        "content_scores key must have 3 columns like memory, not 4",
    ),
    "strength": (
        lambda: content_scores(*tensors(M, K, (3,)), SCORE),
        "content_scores strength must be one for each of 2 heads, not (3,)",
    ),
    "epsilon": (
        lambda: content_scores(*tensors(M, K, S), SCORE, 0),
        "content_scores epsilon must be a number above 0, less than 1, not 0",
    ),
    "nothing to choose": (
        lambda: content_addressing(*tensors((1, 3), K, S), SCORE, SHARE, hard=True),
        "content_addressing memory must have at least 2 rows to choose from, not 1",
    ),
    "former": (
        lambda: location_addressing(*tensors((2, 4), (2, 5), S, (2, 3)), SHARE, SHARE),
        "location_addressing former must have shape (2, 4), not (2, 5)",
    ),
    "shift": (
        lambda: location_addressing(*tensors((2, 4), (2, 4), S, (2, 4)), SHARE, SHARE),
        "location_addressing shift must have 3 places or an odd number more, not 4",
    ),
    "mixed_format": (
        lambda: location_addressing(*tensors((2, 4), (2, 4), S, (2, 3)), SCORE, SHARE),
        "location_addressing mixed_format must be unsigned, not s8.4",
    ),
    "exponent": (
        lambda: location_addressing(*tensors((2, 4), (2, 4), S, (2, 3)), SHARE, SHARE, 3),
        "location_addressing exponent must be 1 or 2, not 3",
    ),
    "weighting": (
        lambda: soft_read(*tensors((2, 5), M), SHARE),
        "soft_read weighting must have 4 rows like memory, not 5",
    ),
    "erase": (
        lambda: soft_write(*tensors(M, (4,), (4,), (3,))),
        "soft_write erase must have shape (3,) for memory of (4, 3), not (4,)",
    ),
    "rows": (
        lambda: machine(1, rows=0),
        "neural_turing_machine rows must be an int from 1, not 0",
    ),
    "interval": (
        lambda: quick_plan(machine(1)[0], ECP5, 0),
        "quick_plan interval must be a whole number of cycles above 0, not 0",
    ),
}


@pytest.mark.parametrize(("make", "message"), REFUSALS.values(), ids=REFUSALS)
def test_what_is_wrong_is_refused(make, message):
    with refused(ValueError, message):
        make()


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        (
            "controller",
            np.ones((9, 9), int),
            ValueError,
            "neural_turing_machine controller must have shape (3, 5), not (9, 9)",
        ),
        (
            "reader",
            np.ones((1, 8), int),
            ValueError,
            "neural_turing_machine reader must have shape (1, 8, 3), not (1, 8)",
        ),
        (
            "reader_bias",
            np.ones(9, int),
            ValueError,
            "neural_turing_machine reader_bias must have shape (1, 8), not (9,)",
        ),
        (
            "writer",
            np.ones((1, 14), int),
            ValueError,
            "neural_turing_machine writer must have shape (1, 14, 3), not (1, 14)",
        ),
        (
            "writer_bias",
            np.ones(9, int),
            ValueError,
            "neural_turing_machine writer_bias must have shape (1, 14), not (9,)",
        ),
        (
            "output",
            np.ones((9, 9), int),
            ValueError,
            "neural_turing_machine output must have shape (outputs, 6), not (9, 9)",
        ),
        (
            "output_bias",
            np.ones(9, int),
            ValueError,
            "neural_turing_machine output_bias must have shape (2,), not (9,)",
        ),
        (
            "weighting_format",
            8,
            TypeError,
            "neural_turing_machine weighting_format must be a Format, not 8",
        ),
    ],
)
def test_a_machine_of_the_wrong_shape_is_refused(name, value, error, message):
    with refused(error, message):
        machine(1, **{name: value})
