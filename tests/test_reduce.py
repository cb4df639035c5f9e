# SPDX-License-Identifier: Apache-2.0
"""Reduce: plain cases written out, every small vector, plans, and what is refused."""

from itertools import product

import numpy as np
import pytest
from amaranth_bench import run
from circuit_check import check_circuit, plain
from oracles import exact
from refusal import refused

from blocks import Accumulators, Lanes, Reduce, Tensor
from blocks.reduce import FUNCTIONS
from hdl import Target
from quant import Format, Rounding

S2, S8 = Format(2, 0), Format(8, 0)
FRAME = Tensor((3, 4, 6), S8)
ECP5 = Target.named("ecp5")


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("lanes", [1, 2, 4])
def test_every_vector_of_four_numbers_of_two_bits(function, lanes):
    every = np.array(list(product(range(-2, 2), repeat=4)))
    block = Reduce(Tensor((4,), S2), function, (0,), Format(4, 1))
    y = block.reference(every)
    np.testing.assert_array_equal(y, exact(block, every)[0])
    circuit, words = block.rtl(Accumulators(lanes)), every.reshape(-1, lanes).tolist()
    found = run(circuit, {"i": words}, {"o": len(every)}, offer=0.8, accept=0.8)
    assert [plain(word) for _, word in found["o"]] == y.tolist()


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1), (1, 2)], ids=str)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_numbers_and_cycles_under_stalls(function, axes):
    block, random = Reduce(FRAME, function, axes, S8), np.random.default_rng(1)
    x = random.integers(-128, 128, (3, *FRAME.shape))
    for candidate in block.plans(ECP5):
        plan, lanes = candidate.plan, block.lanes(candidate.plan)
        for style in ("registers", "block") if plan.lanes in (1, 3, 6, 12, 24) else ():
            plan = Accumulators(plan.lanes, style)
            check_circuit(
                lambda plan=plan: block.rtl(plan),
                {"i": x.reshape(-1, lanes["i"]).tolist()},
                {"o": block.reference(x).reshape(-1, lanes["o"]).tolist()},
                block.timing(plan),
                3,
            )


def test_means_are_rounded_once():
    for mode, wanted in ((Rounding.RND, 1), (Rounding.TRN, 0), (Rounding.RND_CONV, 0)):
        block = Reduce(Tensor((2,), S8), "mean", (0,), S8, mode)
        assert block.reference([1, 0]).tolist() == [wanted]
    block = Reduce(Tensor((3,), S8), "mean", (0,), Format(10, 2))
    assert block.reference([1, 1, 0]).tolist() == [3]  # 8 / 3 quarters


def test_axes_become_one():
    x = np.arange(72).reshape(3, 4, 6)
    block = Reduce(FRAME, "maximum", (1,), S8)
    assert block.outputs["o"] == Tensor((3, 1, 6), S8)
    assert block.reference(x)[:, 0].tolist() == x[:, -1].tolist()


def test_plans_keep_up_with_their_lanes_and_store_no_frame():
    block = Reduce(FRAME, "sum", (1,), Format(12, 0))
    candidates = list(block.plans(ECP5))
    assert [c.plan.lanes for c in candidates] == [1, 2, 3, 6, 12, 24]
    for candidate in candidates:
        assert candidate.interval == FRAME.size // candidate.plan.lanes
        graph = block.timing(candidate.plan)
        assert graph.schedule(["i"], ["o"]).interval == candidate.interval
    assert block.design(Accumulators(2))[0].words == 3  # not 12, the numbers of a place


REFUSALS = {
    "input": (
        lambda: Reduce(3, "sum", (0,), S8),
        TypeError,
        "Reduce input must be a Tensor, not 3",
    ),
    "function": (
        lambda: Reduce(FRAME, "median", (0,), S8),
        ValueError,
        "Reduce function must be one of sum, mean, maximum, minimum, not 'median'",
    ),
    "axes": (
        lambda: Reduce(FRAME, "sum", 1, S8),
        TypeError,
        "Reduce axes must be a tuple of ints, not 1",
    ),
    "apart": (
        lambda: Reduce(FRAME, "sum", (0, 2), S8),
        ValueError,
        "Reduce axes must follow each other from 0 to 2, not (0, 2)",
    ),
    "none": (
        lambda: Reduce(FRAME, "sum", (), S8),
        ValueError,
        "Reduce axes must follow each other from 0 to 2, not ()",
    ),
    "one number": (
        lambda: Reduce(Tensor((4, 1), S8), "sum", (1,), S8),
        ValueError,
        "Reduce axes must have at least 2 numbers, not 1 of shape (4, 1)",
    ),
    "format": (
        lambda: Reduce(FRAME, "sum", (0,), 8),
        TypeError,
        "Reduce output_format must be a Format, not 8",
    ),
    "rounding": (
        lambda: Reduce(FRAME, "sum", (0,), S8, "up"),
        ValueError,
        (
            "Reduce rounding must be one of RND, RND_ZERO, RND_MIN_INF, RND_INF, RND_CONV, TRN, "
            "TRN_ZERO, not 'up'"
        ),
    ),
    "quotient": (
        lambda: Reduce(FRAME, "mean", (0,), Format(60, 58)),
        ValueError,
        "Reduce quotient must fit 60 bits, not 68",
    ),
    "wide": (
        lambda: Reduce(Tensor((4,), Format(62, 0)), "sum", (0,), S8),
        ValueError,
        "Reduce accumulator must fit 63 bits, not 64",
    ),
    "plan": (
        lambda: Reduce(FRAME, "sum", (0,), S8).rtl(Lanes(1)),
        TypeError,
        "Reduce plan must be Accumulators, not Lanes(lanes=1)",
    ),
    "lanes": (
        lambda: Reduce(FRAME, "sum", (1,), S8).rtl(Accumulators(4)),
        ValueError,
        "Reduce lanes must be one of 1, 2, 3, 6, 12, 24, not 4",
    ),
    "frames": (
        lambda: Reduce(FRAME, "sum", (1,), S8).reference(np.zeros(FRAME.shape)),
        TypeError,
        "Reduce input must be integers, not float64",
    ),
}


@pytest.mark.parametrize("case", REFUSALS.values(), ids=REFUSALS)
def test_what_is_no_reduction_is_refused(case):
    make, kind, text = case
    with refused(kind, text):
        make()
