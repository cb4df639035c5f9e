# SPDX-License-Identifier: Apache-2.0
"""TopK: networks that sort, every small vector, ties, plans, and what is refused."""

from itertools import product

import numpy as np
import pytest
from circuit_check import check_circuit
from oracles import exact
from refusal import refused

from blocks import Folded, Lanes, Linear, Network, Node, Tensor, TopK, Unrolled, plan
from hdl import Target
from hdl.sort import batcher
from quant import Format

S2 = Format(2, 0)
ECP5 = Target.named("ecp5")


@pytest.mark.parametrize("count", range(2, 13))
def test_the_network_sorts_every_sequence_of_zeros_and_ones(count):
    """So it sorts whatever can be compared (Knuth, The Art of Computer Programming 3, 5.3.4)."""
    numbers = np.array(list(product((0, 1), repeat=count)))
    for layer in batcher(count):
        assert len({place for pair in layer for place in pair}) == 2 * len(layer)
        for a, b in layer:
            numbers[:, [a, b]] = np.sort(numbers[:, [a, b]])[:, ::-1]
    assert (np.diff(numbers) <= 0).all()


@pytest.mark.parametrize("smallest", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("lanes", [1, 2, 4])
def test_every_vector_of_four_numbers_of_two_bits(lanes, count, smallest):
    every = np.array(list(product(range(-2, 2), repeat=4)))
    block = TopK(Tensor((4,), S2), count, smallest)
    values, indices = block.reference(every)
    for have, wanted in zip((values, indices), exact(block, every), strict=True):
        np.testing.assert_array_equal(have, wanted)
    check_circuit(
        lambda: block.rtl(Lanes(lanes)),
        {"i": every.reshape(-1, lanes).tolist()},
        {"o_values": values.tolist(), "o_indices": indices.tolist()},
        block.timing(Lanes(lanes)),
        len(every),
    )


def test_of_equals_the_first_comes_first():
    x = [[3, 1, 3, 2, 3]]
    tensor = Tensor((5,), Format(4, 0))
    assert [y.tolist() for y in TopK(tensor, 4).reference(x)] == [[[3, 3, 3, 2]], [[0, 2, 4, 3]]]
    assert TopK(tensor, 4, True, "indices").reference(x).tolist() == [[1, 3, 0, 2]]


def test_lanes_are_powers_of_two_or_all_and_keep_up():
    block = TopK(Tensor((2, 12), S2), 3)
    assert [c.plan.lanes for c in block.plans(ECP5)] == [1, 2, 4, 12]
    for candidate in block.plans(ECP5):
        timing = block.timing(candidate.plan)
        outputs = ["o_values", "o_indices"]
        assert timing.schedule(["i"], outputs).interval == candidate.interval
        assert candidate.interval == 24 // candidate.plan.lanes


def test_outputs_may_go_different_ways():
    """In a network, where one of them is summed and the other is not."""
    tensor = Tensor((6,), Format(5, 0))
    block = TopK(tensor, 4)
    best = block.outputs["o_values"]
    total = Linear(best, np.ones((1, 4), int), [0], Format(2, 0), Format(8, 0))
    nodes = (Node("best", block, ("x",)), Node("total", total, ("best.values",)))
    network = Network({"x": tensor}, nodes, {"sum": "total", "where": "best.indices"})
    made = plan(network, ECP5, 6)
    assert isinstance(made.plans["total"], Folded)
    x = np.random.default_rng(3).integers(-16, 16, (30, 6))
    for have, wanted in zip(network.run(x), network.reference(x), strict=True):
        np.testing.assert_array_equal(have, wanted)


X = Tensor((6,), S2)
REFUSALS = {
    "input": (lambda: TopK(3, 1), TypeError, "TopK input must be a Tensor, not 3"),
    "channels": (
        lambda: TopK(Tensor((6, 1), S2), 1),
        ValueError,
        "TopK input must have at least 2 channels, not 1",
    ),
    "count kind": (lambda: TopK(X, 1.0), TypeError, "TopK count must be an int, not 1.0"),
    "count": (lambda: TopK(X, 7), ValueError, "TopK count must be from 1 to 6, not 7"),
    "smallest": (lambda: TopK(X, 2, 1), TypeError, "TopK smallest must be a bool, not 1"),
    "gives": (
        lambda: TopK(X, 2, gives="all"),
        ValueError,
        "TopK gives must be one of both, values, indices, not 'all'",
    ),
    "plan": (
        lambda: TopK(X, 2).rtl(Unrolled()),
        TypeError,
        "TopK plan must be Lanes, not Unrolled(adders_per_stage=1, narrow_stages=2, held=False)",
    ),
    "lanes": (lambda: TopK(X, 2).rtl(Lanes(4)), ValueError, "TopK lanes must divide 6, not be 4"),
    "odd lanes": (
        lambda: TopK(X, 2).rtl(Lanes(3)),
        ValueError,
        "TopK lanes must be one of 1, 2, 6, not 3",
    ),
    "frames": (
        lambda: TopK(X, 2).reference([0.5] * 6),
        TypeError,
        "TopK input must be integers, not float64",
    ),
}


@pytest.mark.parametrize("case", REFUSALS.values(), ids=REFUSALS)
def test_what_cannot_be_sorted_is_refused(case):
    make, kind, text = case
    with refused(kind, text):
        make()
