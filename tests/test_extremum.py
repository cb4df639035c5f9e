# SPDX-License-Identifier: Apache-2.0
"""ArgMax and ArgMin: ties, every small vector, plans and refusals."""

from itertools import product

import numpy as np
import pytest
from amaranth_bench import run
from circuit_check import check_circuit, plain
from oracles import exact
from refusal import refused

from blocks import ArgMax, ArgMin, Lanes, Tensor
from hdl import Target
from quant import Format, Program, ProgramInput, Step

KINDS = [(kind, last) for kind in (ArgMax, ArgMin) for last in (False, True)]
S2 = Format(2, 0)


@pytest.mark.parametrize(("kind", "last"), KINDS)
@pytest.mark.parametrize("lanes", [1, 2, 4])
def test_every_vector_of_four_numbers_of_two_bits(kind, last, lanes):
    every = np.array(list(product(range(-2, 2), repeat=4)))
    block = kind(Tensor((4,), S2), last)
    y = block.reference(every)
    np.testing.assert_array_equal(y, exact(block, every)[0])
    words = every.reshape(-1, lanes).tolist()
    found = run(block.rtl(Lanes(lanes)), {"i": words}, {"o": len(every)}, offer=0.8, accept=0.8)
    assert [plain(word) for _, word in found["o"]] == y.tolist()


@pytest.mark.parametrize("lanes", [1, 2, 4])
def test_numbers_and_cycles_under_stalls(lanes):
    block, random = ArgMax(Tensor((3, 4), Format(5, 0))), np.random.default_rng(1)
    x = random.integers(-16, 16, (5, 3, 4))
    plan = Lanes(lanes)
    check_circuit(
        lambda: block.rtl(plan),
        {"i": x.reshape(-1, lanes).tolist()},
        {"o": block.reference(x).reshape(-1, 1).tolist()},
        block.timing(plan),
        5,
    )


def test_the_first_of_equals_wins_unless_told_otherwise():
    x = np.array([[3, 5, 5, 3]])
    tensor = Tensor((4,), Format(4, 0))
    assert ArgMax(tensor).reference(x).tolist() == [[1]]
    assert ArgMax(tensor, True).reference(x).tolist() == [[2]]
    assert ArgMin(tensor).reference(x).tolist() == [[0]]
    assert ArgMin(tensor, True).reference(x).tolist() == [[3]]


def test_plans_are_powers_of_two_that_divide_the_channels():
    block = ArgMax(Tensor((2, 12), S2))
    assert [c.plan.lanes for c in block.plans(Target.named("ecp5"))] == [1, 2, 4]
    for candidate in block.plans(Target.named("ecp5")):
        timing = block.timing(candidate.plan)
        assert timing.schedule(["i"], ["o"]).interval == candidate.interval
    assert block.outputs == {"o": Tensor((2, 1), Format(4, 0, False))}


def test_the_kernel_equals_the_reference():
    block, x = ArgMin(Tensor((2, 3), S2), True), np.random.default_rng(2).integers(-2, 2, (40, 6))
    program = Program((ProgramInput("x", 6, S2),), (Step(block.kernel(), (0,)),), (1,))
    wanted = block.reference(x.reshape(40, 2, 3))
    np.testing.assert_array_equal(program(x)[0], wanted.reshape(40, 2))


@pytest.mark.parametrize("kind", [ArgMax, ArgMin])
def test_what_is_wrong_is_refused(kind):
    name, tensor = kind.__name__, Tensor((6,), S2)
    with refused(TypeError, f"{name} input must be a Tensor, not 3"):
        kind(3)
    with refused(ValueError, f"{name} input must have at least 2 channels, not 1"):
        kind(Tensor((6, 1), S2))
    with refused(TypeError, f"{name} select_last_index must be a bool, not 1"):
        kind(tensor, 1)
    with refused(ValueError, f"{name} lanes must divide 6, not be 4"):
        kind(tensor).rtl(Lanes(4))
    with refused(ValueError, f"{name} lanes must be a power of two, not 6"):
        kind(tensor).rtl(Lanes(6))
    with refused(TypeError, f"{name} plan must be Lanes, not 2"):
        kind(tensor).timing(2)
    with refused(ValueError, f"{name} input must be in [-2, 1] for format s2.0, not span [2, 2]"):
        kind(tensor).reference(np.full(6, 2))
