# SPDX-License-Identifier: Apache-2.0
"""The planner: intervals that are met, buffers without a word too many, numbers that stay."""

from dataclasses import replace
from math import gcd

import conformance as ask
import numpy as np
import pytest
from amaranth_bench import run
from oracles import exact
from refusal import refused

from blocks import Add, Folded, Linear, Network, Node, Recur, ReLU, Tensor, Unrolled, plan
from blocks.catalogue import random_network
from blocks.planner import worthwhile_intervals
from hdl import Target
from quant import Format

S8, U6 = Format(8, 4), Format(6, 2, False)
TARGET = Target.named("ecp5")


def linear(tensor, outputs, number=U6, seed=0):
    random = np.random.default_rng([seed, outputs])
    weight = random.integers(-8, 8, (outputs, tensor.shape[-1]))
    return Linear(tensor, weight, random.integers(-50, 50, outputs), Format(4, 3), number)


def residual():
    """12 to 8, two layers of 8 with a way around them, 8 to 5."""
    x, hidden = Tensor((12,), S8), Tensor((8,), U6)
    second = linear(hidden, 8, S8, 2)
    return Network(
        {"x": x},
        (
            Node("fc1", linear(x, 8), ("x",)),
            Node("a", linear(hidden, 8, U6, 1), ("fc1",)),
            Node("b", second, ("a",)),
            Node("add", Add(hidden, second.outputs["o"], U6), ("fc1", "b")),
            Node("fc2", linear(hidden, 5, S8), ("add",)),
        ),
        {"y": "fc2"},
    )


def straight():
    x = Tensor((2, 6), S8)
    first = linear(x, 4)
    return Network.chain(first, linear(first.outputs["o"], 6, S8), ReLU(Tensor((2, 6), S8), U6))


NETWORKS = {
    "residual": residual(),
    "straight": straight(),
    **{f"random {n}": random_network(np.random.default_rng(n), 4) for n in range(4)},
}
every_network = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)


def conversion(network, made):
    """Transfers of a frame where lanes are converted: no plan is faster than these."""
    return max(
        network.flat.tensors[route.source].size
        // gcd(
            network.flat.source_lanes(route.source, made), network.flat.consumer_lanes(route, made)
        )
        for route in network.routes
    )


@every_network
def test_the_interval_asked_for_is_met(network):
    fastest = worthwhile_intervals(network, TARGET)[-1]
    for interval in (fastest, fastest + 1, 2 * fastest, 50, 1000):
        if interval >= fastest:
            made = plan(network, TARGET, interval)
            assert ask.schedule(network, made).interval <= max(interval, conversion(network, made))


@every_network
def test_no_interval_is_a_cycle_for_each_number_of_the_largest_tensor(network):
    largest = max(tensor.size for tensor in network.flat.tensors.values())
    fastest = worthwhile_intervals(network, TARGET)[-1]
    if largest >= fastest:
        assert plan(network, TARGET) == plan(network, TARGET, largest)
    else:  # as fast as it can be
        made = plan(network, TARGET)
        assert ask.schedule(network, made).interval <= max(fastest, conversion(network, made))


def test_a_tensor_inside_a_loop_counts_in_every_step():
    x, state = Tensor((4,), S8), Tensor((4,), S8)
    wide = linear(x, 16)
    narrow = linear(wide.outputs["o"], 4, S8, 1)
    nodes = (
        Node("wide", wide, ("x",)),
        Node("narrow", narrow, ("wide",)),
        Node("sum", Add(narrow.outputs["o"], state, S8), ("narrow", "state")),
    )
    cell = Network({"x": x, "state": state}, nodes, {"state": "sum"})
    loop = Recur(cell, 6, (np.zeros(4, int),), ("state",))
    network = Network(loop.inputs, (Node("loop", loop, ("i",)),), {"y": "loop"})
    assert plan(network, TARGET) == plan(network, TARGET, 6 * 16)


@every_network
@pytest.mark.parametrize("share", [1, 4])
def test_no_buffer_has_a_word_too_many(network, share):
    interval = worthwhile_intervals(network, TARGET)[-1] * share
    ask.no_buffer_has_a_word_too_many(network, plan(network, TARGET, interval))


@every_network
def test_larger_buffers_gain_nothing(network):
    made = plan(network, TARGET, 64)
    larger = replace(made, depths={name: 4 * d + 8 for name, d in made.depths.items()})
    assert ask.schedule(network, larger).interval == ask.schedule(network, made).interval


@pytest.mark.parametrize("interval", [8, 12, 24, 96])
def test_cheaper_plans_have_fewer_multipliers_the_longer_the_interval(interval):
    network = residual()
    made = plan(network, TARGET, interval)
    for node in network.nodes:
        mapped = made.plans[node.name]
        if isinstance(mapped, Folded):
            cycles = node.block.weight.size // (mapped.pe * mapped.simd)
            slower = [c.interval for c in node.block.plans(TARGET) if c.interval <= interval]
            assert cycles == max(slower)


@pytest.mark.parametrize(
    ("mapping", "arguments"),
    [("folded", (24,)), ("slow", (96,)), ("fast", (4,)), ("unrolled", (None, True))],
)
def test_every_plan_gives_the_same_numbers(mapping, arguments):
    network = residual()
    made = plan(network, TARGET, *arguments)
    if mapping == "unrolled":
        kinds = {type(p) for n, p in made.plans.items() if n != "add"}
        assert kinds == {Unrolled}
        assert ask.schedule(network, made).interval == 1
    x = np.random.default_rng(5).integers(S8.min, S8.max + 1, (4, 12))
    (wanted,) = exact(network, x)
    lanes = made.lanes
    given = x.reshape(-1, lanes["i"]).tolist()
    count = wanted.size // lanes["o"]
    times = network.timing(made)
    for stalls in ((1.0, 1.0), (0.5, 0.4)):
        found = run(
            network.rtl(made), {"i": given}, {"o": count}, offer=stalls[0], accept=stalls[1]
        )
        got = np.array([[int(n) for n in word] for _, word in found["o"]])
        np.testing.assert_array_equal(got.reshape(wanted.shape), wanted)
        if stalls == (1.0, 1.0):
            for port in ("i", "o"):
                cycles = [cycle for cycle, _ in found[port]]
                expected = times.times(4)[times.port(port)].ravel().tolist()
                assert cycles == expected[: len(cycles)]


def test_an_interval_that_no_plan_meets_is_refused():
    network = straight()
    with refused(ValueError, "plan interval of linear_1 must be at least 2, not 1"):
        plan(network, TARGET, 1)


@pytest.mark.parametrize("interval", [0, -3, 2.5, True, "8"], ids=str)
def test_an_interval_of_no_whole_number_is_refused(interval):
    with refused(
        ValueError, f"plan interval must be a whole number of cycles above 0, not {interval}"
    ):
        plan(straight(), TARGET, interval)


def test_worthwhile_intervals_are_those_of_some_block():
    intervals = worthwhile_intervals(residual(), TARGET)
    assert intervals == sorted(set(intervals), reverse=True)
    assert (intervals[0], intervals[-1]) == (96, 1)
    network = straight()
    candidates = list(network.plans(TARGET))
    assert [c.interval for c in candidates] == worthwhile_intervals(network, TARGET)
