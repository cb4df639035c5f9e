# SPDX-License-Identifier: Apache-2.0
"""Networks: what wiring they refuse, and that nesting changes names alone."""

import numpy as np
import pytest
from oracles import exact
from refusal import refused

from blocks import Add, Folded, Identity, Lanes, Linear, Network, Node, ReLU, Reshape, Tensor, plan
from hdl import Target, verilog
from quant import Format
from sim import STALLS, Design, Job, StreamPort, from_words, simulate, to_words

S8, U6 = Format(8, 4), Format(6, 2, False)
X = Tensor((4,), S8)
TARGET = Target.named("ecp5")


def linear(tensor, outputs, number=U6, seed=0):
    random = np.random.default_rng([seed, outputs])
    weight = random.integers(-8, 8, (outputs, tensor.shape[-1]))
    return Linear(tensor, weight, random.integers(-50, 50, outputs), Format(4, 3), number)


def residual_blocks():
    """Two layers, and their join with what they were fed."""
    first = linear(Tensor((4,), U6), 4, U6, 1)
    second = linear(first.outputs["o"], 4, S8, 2)
    return first, second, Add(Tensor((4,), U6), second.outputs["o"], U6)


def nested():
    first, second, join = residual_blocks()
    inner = Network(
        {"x": Tensor((4,), U6)},
        (Node("a", first, ("x",)), Node("b", second, ("a",)), Node("add", join, ("x", "b"))),
        {"y": "add"},
    )
    return Network(
        {"image": X},
        (
            Node("begin", linear(X, 4), ("image",)),
            Node("module", inner, ("begin",)),
            Node("end", linear(Tensor((4,), U6), 3, S8, 3), ("module",)),
        ),
        {"logits": "end"},
    )


def flattened():
    """The same by hand."""
    first, second, join = residual_blocks()
    return Network(
        {"image": X},
        (
            Node("begin", linear(X, 4), ("image",)),
            Node("module_a", first, ("begin",)),
            Node("module_b", second, ("module_a",)),
            Node("module_add", join, ("begin", "module_b")),
            Node("end", linear(Tensor((4,), U6), 3, S8, 3), ("module_add",)),
        ),
        {"logits": "end"},
    )


def many_ends():
    """Two inputs; an input, a node with other consumers and a nested output leave it."""
    relu = ReLU(X, U6)
    parts = Network(
        {"p": X, "q": X},
        (Node("sum", Add(X, X, S8), ("p", "q")), Node("positive", relu, ("q",))),
        {"s": "sum", "r": "positive"},
    )
    return Network(
        {"a": X, "b": X},
        (
            Node("pair", parts, ("a", "b")),
            Node("half", Identity(X, Format(7, 3)), ("pair.s",)),
            Node("flat", Reshape(Tensor((4,), U6), (2, 2)), ("pair.r",)),
        ),
        {"sum": "pair.s", "half": "half", "flat": "flat", "copy": "a"},
    )


def frames(network, count=5):
    random = np.random.default_rng(0)
    return [
        random.integers(t.format.min, t.format.max + 1, (count, *t.shape))
        for t in network.inputs.values()
    ]


def design_of(network, mapped, name):
    lanes = network.lanes(mapped)
    ports = [
        StreamPort.plain(port, direction, tensor.format.width * lanes[port])
        for direction, tensors in (("in", network.inputs), ("out", network.outputs))
        for port, tensor in tensors.items()
    ]
    return Design(verilog(network.rtl(mapped), name), name, tuple(ports))


def check_verilog(networks, stalls):
    """The Verilog of each (network, plan) equals exact fractions under each stall pattern."""
    designs, jobs, wanted = [], [], []
    for n, (network, mapped) in enumerate(networks):
        design = design_of(network, mapped, f"network_{n}")
        lanes, x = network.lanes(mapped), frames(network)
        y = dict(zip(network.outputs, exact(network, *x), strict=True))
        inputs = {
            port: to_words(frame, tensor.format, lanes[port])
            for (port, tensor), frame in zip(network.inputs.items(), x, strict=True)
        }
        outputs = {p: 5 * t.size // lanes[p] for p, t in network.outputs.items()}
        designs.append(design)
        for chances in stalls:
            jobs.append(Job(inputs, outputs, design.top, stalls=chances))
            wanted.append((network, lanes, y))
    for result, (network, lanes, y) in zip(simulate(designs, jobs), wanted, strict=True):
        for port, tensor in network.outputs.items():
            words = result.ports[port].words
            found = from_words(words, tensor.format, tensor.size, lanes[port])
            np.testing.assert_array_equal(found.ravel(), y[port].ravel())


def test_nested_networks_have_dotted_names():
    network = nested()
    names = ["begin", "module.a", "module.b", "module.add", "end"]
    assert [node.name for node in network.flat.nodes] == names
    assert list(network.trace(*frames(network))) == ["image", *names]
    routes = [
        "begin.i",
        "module.a.i",
        "module.b.i",
        "module.add.i_a",
        "module.add.i_b",
        "end.i",
        "o",
    ]
    assert [route.name for route in network.routes] == routes
    assert [route.source for route in network.routes][3:5] == ["begin", "module.b"]
    assert network.flat.flat is network.flat


def test_networks_within_networks_within_networks():
    network = nested()
    outer = Network({"x": X}, (Node("deep", network, ("x",)),), {"y": "deep"})
    outermost = Network({"x": X}, (Node("more", outer, ("x",)),), {"y": "more"})
    names = [node.name for node in outermost.flat.nodes]
    assert names == [f"more.deep.{node.name}" for node in network.flat.nodes]
    x = frames(network)
    np.testing.assert_array_equal(outermost.reference(*x), network.reference(*x))


def test_nesting_does_not_change_the_numbers():
    x = frames(nested())
    (wanted,) = exact(nested(), *x)
    np.testing.assert_array_equal(nested().reference(*x), wanted)
    np.testing.assert_array_equal(flattened().reference(*x), wanted)


def test_nesting_does_not_change_the_verilog():
    """Dots become underscores, so both are one text."""
    deep, flat = nested(), flattened()
    texts = [verilog(n.rtl(plan(n, TARGET, 8)), "network") for n in (deep, flat)]
    assert texts[0] == texts[1]
    plans = [plan(n, TARGET, 8) for n in (deep, flat)]
    schedules = [n.timing(p).times(5) for n, p in zip((deep, flat), plans, strict=True)]
    for own, other in zip(schedules[0].values(), schedules[1].values(), strict=True):
        assert own.tolist() == other.tolist()


def test_verilog_of_nested_networks_and_of_several_ends_equals_exact_fractions():
    both = nested(), many_ends()
    check_verilog([(network, plan(network, TARGET, 8)) for network in both], STALLS[:4])


def test_several_inputs_and_outputs_have_ports_of_their_names():
    network = many_ends()
    assert list(network.inputs) == ["i_a", "i_b"]
    assert list(network.outputs) == ["o_sum", "o_half", "o_flat", "o_copy"]
    assert network.outputs["o_flat"] == Tensor((2, 2), U6)
    x = frames(network)
    y = network.reference(*x)
    assert isinstance(y, tuple)
    for found, wanted in zip(y, exact(network, *x), strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert network.source_of("copy") == "a"
    assert network.flat.source_of("sum") == "pair.sum"


def test_a_trace_has_every_tensor_for_any_batch():
    network = many_ends()
    for batch in ((), (3,), (2, 2), (0,)):
        trace = network.trace(*[np.zeros((*batch, 4), int)] * 2)
        assert list(trace) == ["a", "b", "pair.sum", "pair.positive", "half", "flat"]
        assert trace["flat"].shape == (*batch, 2, 2)


def test_a_chain_names_blocks_by_kind_and_place():
    network = Network.chain(ReLU(X, U6), linear(Tensor((4,), U6), 3))
    assert [node.name for node in network.nodes] == ["relu_1", "linear_2"]
    assert (network.input_names, network.output_names) == (("x",), ("y",))
    x = frames(network)
    np.testing.assert_array_equal(network.reference(*x), exact(network, *x)[0])


def test_inputs_of_another_number_or_shape_are_refused():
    network = many_ends()
    with refused(ValueError, "Network inputs must be 2 arrays, not 1"):
        network.reference(np.zeros((1, 4), int))
    with refused(ValueError, "Network input b must have shape (..., 4), not (1, 5)"):
        network.reference(np.zeros((1, 4), int), np.zeros((1, 5), int))


RELU = ReLU(X, U6)
REFUSALS = {
    "no inputs": (
        lambda: Network({}, (), {}),
        ValueError,
        "Network inputs must be at least one, not none",
    ),
    "no outputs": (
        lambda: Network({"x": X}, (), {}),
        ValueError,
        "Network outputs must be at least one, not none",
    ),
    "input name": (
        lambda: Network({"x-1": X}, (), {"y": "x-1"}),
        ValueError,
        "Network inputs must have identifiers as names, not 'x-1'",
    ),
    "output name": (
        lambda: Network({"x": X}, (), {"1y": "x"}),
        ValueError,
        "Network outputs must have identifiers as names, not '1y'",
    ),
    "input kind": (
        lambda: Network({"x": 3}, (), {"y": "x"}),
        TypeError,
        "Network input x must be a Tensor, not 3",
    ),
    "unknown output": (
        lambda: Network({"x": X}, (Node("a", RELU, ("x",)),), {"y": "b"}),
        ValueError,
        "Network output y must come from an input or an earlier node, not 'b'",
    ),
    "unknown source": (
        lambda: Network({"x": X}, (Node("a", RELU, ("z",)),), {"y": "a"}),
        ValueError,
        "Network node a input i must come from an input or an earlier node, not 'z'",
    ),
    "later source": (
        lambda: Network({"x": X}, (Node("a", RELU, ("b",)), Node("b", RELU, ("x",))), {"y": "a"}),
        ValueError,
        "Network node a input i must come from an input or an earlier node, not 'b'",
    ),
    "own source": (
        lambda: Network({"x": X}, (Node("a", Identity(X, S8), ("a",)),), {"y": "a"}),
        ValueError,
        "Network node a input i must come from an input or an earlier node, not 'a'",
    ),
    "dotted name": (
        lambda: Network({"x": X}, (Node("a.b", RELU, ("x",)),), {"y": "a.b"}),
        ValueError,
        "Network node must have a name without dots, not 'a.b'",
    ),
    "no name": (
        lambda: Network({"x": X}, (Node("", RELU, ("x",)),), {"y": "x"}),
        ValueError,
        "Network node must have a name without dots, not ''",
    ),
    "name twice": (
        lambda: Network({"x": X}, (Node("a", RELU, ("x",)), Node("a", RELU, ("x",))), {"y": "a"}),
        ValueError,
        "Network node must have a name of its own, not 'a'",
    ),
    "name of an input": (
        lambda: Network({"x": X}, (Node("x", RELU, ("x",)),), {"y": "x"}),
        ValueError,
        "Network node must have a name of its own, not 'x'",
    ),
    "no block": (
        lambda: Network({"x": X}, (Node("a", 3, ("x",)),), {"y": "a"}),
        TypeError,
        "Network node a must be a block, not 3",
    ),
    "sources missing": (
        lambda: Network({"x": X}, (Node("a", Add(X, X, S8), ("x",)),), {"y": "a"}),
        ValueError,
        "Network node a must have 2 sources, not ('x',)",
    ),
    "another shape": (
        lambda: Network({"x": Tensor((5,), S8)}, (Node("a", RELU, ("x",)),), {"y": "a"}),
        ValueError,
        "Network node a input i must be 4 s8.4, not 5 s8.4 from x",
    ),
    "other ends": (
        lambda: Network.chain(
            ReLU(X, S8), linear(Tensor((4,), S8, ((0, 127), (-1, 1), (0, 0), (-128, 127))), 2)
        ),
        ValueError,
        (
            "Network node linear_2 input i must have channels that end at "
            "((0, 127), (-1, 1), (0, 0), (-128, 127)), "
            "not at ((-128, 127), (-128, 127), (-128, 127), (-128, 127)) from relu_1"
        ),
    ),
    "another format": (
        lambda: Network({"x": Tensor((4,), U6)}, (Node("a", RELU, ("x",)),), {"y": "a"}),
        ValueError,
        "Network node a input i must be 4 s8.4, not 4 u6.2 from x",
    ),
    "unread node": (
        lambda: Network({"x": X}, (Node("a", RELU, ("x",)), Node("b", RELU, ("x",))), {"y": "a"}),
        ValueError,
        "Network tensor b must be read by a node or be an output",
    ),
    "unread input": (
        lambda: Network({"x": X, "z": X}, (Node("a", RELU, ("x",)),), {"y": "a"}),
        ValueError,
        "Network tensor z must be read by a node or be an output",
    ),
    "empty chain": (
        lambda: Network.chain(),
        ValueError,
        "Network chain must have at least one block, not none",
    ),
}


@pytest.mark.parametrize(("make", "error", "message"), REFUSALS.values(), ids=REFUSALS)
def test_wrong_wiring_is_refused(make, error, message):
    with refused(error, message):
        make()


def test_a_nested_network_of_several_outputs_is_no_source_without_a_name():
    parts = many_ends()
    with refused(
        ValueError, "Network output y must come from an input or an earlier node, not 'm'"
    ):
        Network({"a": X, "b": X}, (Node("m", parts, ("a", "b")),), {"y": "m"})
    outputs = {name: f"m.{name}" for name in parts.output_names}
    network = Network({"a": X, "b": X}, (Node("m", parts, ("a", "b")),), outputs)
    assert network.outputs["o_half"].format == Format(7, 3)


def test_plans_may_be_of_any_lanes_between_blocks():
    """Converters down to what both ends divide by, and up again."""
    first, second = linear(X, 6), linear(Tensor((6,), U6), 4)
    network = Network.chain(first, second)
    made = plan(network, TARGET, 24)
    changed = type(made)(
        {"linear_1": Folded(6, 2), "linear_2": Folded(4, 1)},
        {"i": 1, "o": 4},
        {"linear_1.i": 2, "linear_2.i": 3},
        {"linear_1.i": "registers", "linear_2.i": "registers"},
    )
    kinds = [[e[:2] for e in network.elements(r, changed)] for r in network.routes]
    assert kinds == [[("gather", 2), ("fifo", 2)], [("scatter", 6), ("fifo", 3)], []]
    mixed = type(made)(
        {"relu_1": Lanes(4), "linear_2": Folded(2, 1)},
        {"i": 2, "o": 4},
        {"relu_1.i": 1, "linear_2.i": 1},
        {"relu_1.i": "registers", "linear_2.i": "registers"},
    )
    with_relu = Network.chain(RELU, linear(Tensor((4,), U6), 4))
    check_verilog([(network, changed), (with_relu, mixed)], STALLS[:2])


def test_the_timing_of_a_plan_does_not_depend_on_what_was_asked_before():
    """Timings of blocks are kept from one plan to the next."""
    made = [plan(nested(), TARGET, interval) for interval in (8, 64)]
    network = nested()
    for one in (*made, *made):
        fresh = nested().timing(one).times(2)
        for event, times in network.timing(one).times(2).items():
            np.testing.assert_array_equal(times, fresh[event])
