# SPDX-License-Identifier: Apache-2.0
"""Activations: every code of small formats against their definitions; how they are built."""

from fractions import Fraction

import numpy as np
import pytest
from amaranth_bench import run
from narrow_oracle import ROUNDINGS, exact_fit, exact_round
from oracles import exact
from refusal import refused

from blocks import Lanes, Piecewise, PReLU, Tensor
from blocks import activation as make
from hdl import ONE, ZERO, Inventory, Quotient, Step, Target, bit_sources
from quant import Format, Program, ProgramInput
from quant import Step as KernelStep
from quant.piecewise import piecewise, piecewise_bounds, quotient

THIRD, TENTH = Fraction(1, 3), Fraction(1, 10)
FORMATS = [
    Format(6, 3),
    Format(5, 0),
    Format(6, 2, False),
    Format(5, -1),
    Format(4, 6),
    Format(1, 0),
]
TARGETS = [Format(8, 4), Format(5, 1, False), Format(3, 0)]


def between(value, low, high):
    return min(max(value, low), high)


FUNCTIONS = {
    "leaky": (
        lambda *a: make.leaky_relu(a[0], TENTH, *a[1:]),
        lambda x: x if x >= 0 else x / 10,
    ),
    "leaky growing": (
        lambda *a: make.leaky_relu(a[0], -2, *a[1:]),
        lambda x: x if x >= 0 else -2 * x,
    ),
    "threshold": (
        lambda *a: make.threshold(a[0], THIRD, Fraction(5, 4), *a[1:]),
        lambda x: x if x > THIRD else Fraction(5, 4),
    ),
    "threshold at a code": (
        lambda *a: make.threshold(a[0], 1, -7, *a[1:]),
        lambda x: x if x > 1 else Fraction(-7),
    ),
    "clip": (
        lambda *a: make.clip(a[0], -THIRD, Fraction(3, 2), *a[1:]),
        lambda x: between(x, -THIRD, Fraction(3, 2)),
    ),
    "clip beyond": (
        lambda *a: make.clip(a[0], -1000, 1000, *a[1:]),
        lambda x: x,
    ),
    "clip above": (lambda *a: make.clip(a[0], 900, 1000, *a[1:]), lambda x: Fraction(900)),
    "relu6": (make.relu6, lambda x: between(x, 0, 6)),
    "hardshrink": (
        lambda *a: make.hardshrink(a[0], Fraction(1, 2), *a[1:]),
        lambda x: x if abs(x) > Fraction(1, 2) else Fraction(0),
    ),
    "softshrink": (
        lambda *a: make.softshrink(a[0], Fraction(1, 2), *a[1:]),
        lambda x: max(abs(x) - Fraction(1, 2), 0) * (1 if x > 0 else -1),
    ),
    "shrink": (
        lambda *a: make.shrink(a[0], TENTH, 1, *a[1:]),
        lambda x: x + TENTH if x < -1 else x - TENTH if x > 1 else Fraction(0),
    ),
    "shrink at 0": (
        lambda *a: make.shrink(a[0], 1, 0, *a[1:]),
        lambda x: x + 1 if x < 0 else x - 1 if x > 0 else Fraction(0),
    ),
    "hardsigmoid": (make.hardsigmoid, lambda x: between(x / 6 + Fraction(1, 2), 0, 1)),
    "hardsigmoid of ONNX": (
        lambda *a: make.hardsigmoid(*a, alpha=Fraction(1, 5)),
        lambda x: between(x / 5 + Fraction(1, 2), 0, 1),
    ),
    "hardswish": (make.hardswish, lambda x: x * between(x + 3, 0, 6) / 6),
    "sign": (make.sign, lambda x: Fraction((x > 0) - (x < 0))),
    "step": (make.step, lambda x: Fraction(int(x >= 0))),
    "step with a half": (
        lambda *a: make.step(*a, at_zero=Fraction(1, 2)),
        lambda x: Fraction(1 + (x > 0) - (x < 0), 2),
    ),
    "absolute": (make.absolute, abs),
    "negate": (make.negate, lambda x: -x),
    "thresholded relu": (
        lambda *a: make.thresholded_relu(a[0], 1, *a[1:]),
        lambda x: x if x > 1 else Fraction(0),
    ),
}


def codes(number):
    return np.arange(number.min, number.max + 1)


def wanted(function, number, target, rounding, overflow):
    """The function of every code, from its definition."""
    unit = Fraction(1, 2) ** number.frac
    units = (function(n * unit) * Fraction(2) ** target.frac for n in codes(number).tolist())
    return [
        exact_fit(exact_round(n, rounding), target.width, target.signed, overflow) for n in units
    ]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_code_in_every_mode_equals_the_definition(name):
    made, function = FUNCTIONS[name]
    for number in FORMATS:
        for target in TARGETS:
            for rounding in ROUNDINGS:
                for overflow in ("SAT", "WRAP"):
                    tensor = Tensor((1 << number.width,), number)
                    block = made(tensor, target, rounding, overflow)
                    found = block.reference(codes(number)).tolist()
                    assert found == wanted(function, number, target, rounding, overflow), block


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_code_through_the_circuit(name):
    made, function = FUNCTIONS[name]
    number = Format(6, 3)
    for n, target in enumerate(TARGETS):
        rounding = ROUNDINGS[(len(name) + n) % len(ROUNDINGS)]
        block = made(Tensor((64,), number), target, rounding)
        words = [[code] for code in codes(number).tolist()]
        if block.circuit(1).stages:
            found = run(block.rtl(Lanes(1)), {"i": words}, {"o": 64})["o"]
            assert [int(word[0]) for _, word in found] == wanted(
                function, number, target, rounding, "SAT"
            ), block


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_kernel_equals_the_reference(name):
    number = Format(6, 3)
    block = FUNCTIONS[name][0](Tensor((4,), number), Format(7, 3))
    x = np.random.default_rng(1).integers(-32, 32, (50, 4))
    program = Program((ProgramInput("x", 4, number),), (KernelStep(block.kernel(), (0,)),), (1,))
    np.testing.assert_array_equal(program(x)[0], block.reference(x))


def test_one_slope_for_all_channels_is_a_leaky_relu():
    x = np.random.default_rng(1).integers(-32, 32, (50, 2, 3))
    tensor, slopes = Tensor((2, 3), Format(6, 3)), Format(5, 3)
    one = make.leaky_relu(tensor, Fraction(-3, 8), Format(7, 4))
    many = PReLU(tensor, np.full(3, -3), slopes, Format(7, 4))
    np.testing.assert_array_equal(one.reference(x), many.reference(x))
    assert [c.plan.lanes for c in many.plans(Target.named("ecp5"))] == [1, 2, 3, 6]
    program = Program(
        (ProgramInput("x", 6, tensor.format),), (KernelStep(many.kernel(), (0,)),), (1,)
    )
    np.testing.assert_array_equal(program(x.reshape(50, 6))[0], many.reference(x).reshape(50, 6))


@pytest.mark.parametrize("frac", [-1, 3])
def test_slopes_take_turns_where_lanes_are_no_multiple_of_the_channels(frac):
    slopes = np.array([-3, 4, 0, 3])
    block = PReLU(Tensor((3, 4), Format(5, 2)), slopes, Format(4, frac), Format(6, 1), "RND_ZERO")
    x = np.random.default_rng(1).integers(-16, 16, (6, 3, 4))
    (wanted,) = exact(block, x)
    for lanes in (1, 2, 3, 6):
        words = x.reshape(-1, lanes).tolist()
        found = run(block.rtl(Lanes(lanes)), {"i": words}, {"o": len(words)})["o"]
        assert [list(map(int, word)) for _, word in found] == wanted.reshape(-1, lanes).tolist()


def test_wide_inputs_are_exact():
    number = Format(24, 16)
    random = np.random.default_rng(2)
    x = random.integers(number.min, number.max + 1, 200)
    x[:4] = number.min, number.max, 0, -1
    block = make.hardswish(Tensor((200,), number), Format(20, 14), "RND_CONV")
    (y,) = exact(block, x[None])
    np.testing.assert_array_equal(block.reference(x), y[0])
    words = [[int(n)] for n in x]
    found = run(block.rtl(Lanes(1)), {"i": words}, {"o": 200})["o"]
    assert [int(word[0]) for _, word in found] == y[0].tolist()


@pytest.mark.parametrize("divisor", [3, 5, 7, 9, 11, 83, 255, 999])
def test_a_quotient_narrows_like_the_exact_one_in_every_mode(divisor):
    for low, high in ((-200, 300), (-300, -100), (5, 500), (0, 700), (-1, 1)):
        circuit = Quotient(low, high, divisor)
        values = np.arange(low, high + 1)
        odd = quotient(values, divisor)
        for n, whole, rest in zip(
            values.tolist(), (values // divisor).tolist(), (values % divisor).tolist(), strict=True
        ):
            found = circuit.of(n)
            assert found >> circuit.more == whole
            assert (found % (1 << circuit.more) != 0) == (rest != 0)
        for rounding in ROUNDINGS:
            for drop in (1, 2, 4):
                exact_ = [exact_round(Fraction(n, divisor << drop), rounding) for n in values]
                mine = [exact_round(Fraction(n, 2 << drop), rounding) for n in odd.tolist()]
                theirs = [
                    exact_round(Fraction(circuit.of(n), 1 << (drop + circuit.more)), rounding)
                    for n in values.tolist()
                ]
                assert exact_ == mine == theirs


def test_bounds_of_pieces_are_attained():
    random = np.random.default_rng(3)
    for _ in range(300):
        number = Format(int(random.integers(1, 6)), 0, bool(random.integers(2)))
        inside = codes(number)[1:]
        count = int(random.integers(0, min(3, len(inside)) + 1))
        breaks = tuple(sorted(random.choice(inside, count, replace=False).tolist()))
        shape = (count + 1, 3)
        polynomials = tuple(map(tuple, random.integers(-9, 10, shape).tolist()))
        values = piecewise(codes(number), breaks, polynomials)
        low, high = piecewise_bounds(number, breaks, polynomials)
        assert (low, high) == (values.min(), values.max())


def test_sources_of_bits():
    assert bit_sources(np.array([0b01100, 0b01111]), 5) == (0, 0, ONE, ONE, ZERO)
    assert bit_sources(np.array([-1, 0, 1]), 4) == (0, 1, 1, 1)
    step = Step(None, Format(5, 0), sources=(0, 0, ONE, ONE, ZERO))
    assert step.stored(0b11111) == [0]
    assert step.stored(0b11110) == [0]
    assert step.stored(0b11100) == []
    assert Step(None, Format(3, 0)).stored(0b101) == [0, 2]


SIMPLE = {"elastic", "register", "logic", "compare_place", "increment", "saturate"}


def test_simple_functions_take_one_stage_and_no_adder():
    x, target = Tensor((8,), Format(8, 4)), Target.named("ecp5")
    for block in (
        make.clip(x, -1, 1, Format(8, 4)),
        make.relu6(x, Format(8, 4, False)),
        make.leaky_relu(x, Fraction(1, 8), Format(8, 7)),
        make.hardshrink(x, 1, Format(8, 4)),
        make.sign(x, Format(2, 0)),
        make.step(x, Format(1, 0, False)),
    ):
        circuit = block.circuit(1)
        assert circuit.stages == 1
        made = circuit.inventory().operators
        assert {operator.kind for operator, _ in made} <= SIMPLE
        rest = Inventory(tuple(pair for pair in made if pair[0].kind != "compare_place"))
        assert rest.cost(target).carry == 0
    swish = make.hardswish(x, Format(8, 4))
    assert swish.circuit(1).stages == 3
    assert swish.cost(Lanes(1), Target.named("gowin")).dsp <= 1


def test_equal_functions_are_equal_blocks():
    x = Tensor((8,), Format(8, 4))
    assert make.relu6(x, Format(8, 4)) == make.clip(x, 0, 6, Format(8, 4))
    assert make.clip(x, -9, 9, Format(8, 4)) == Piecewise(x, (), ((0, 1, 0),), 1, 4, Format(8, 4))
    half = make.leaky_relu(x, Fraction(1, 2), Format(8, 4))
    assert half == Piecewise(x, (0,), ((0, 1, 0), (0, 2, 0)), 1, 5, Format(8, 4))


X, S8 = Tensor((2,), Format(4, 0)), Format(8, 4)


def spec(**fields):
    parts = {"input": X, "breaks": (0,), "polynomials": ((0, 1, 0),) * 2, "divisor": 1, "frac": 0}
    return Piecewise(**{**parts, "output_format": S8, **fields})


REFUSALS = {
    "input": (lambda: spec(input=3), TypeError, "Piecewise input must be a Tensor, not 3"),
    "format": (
        lambda: spec(output_format=8),
        TypeError,
        "Piecewise output_format must be a Format, not 8",
    ),
    "mode": (
        lambda: spec(overflow="CUT"),
        ValueError,
        "Piecewise overflow must be one of SAT, SAT_ZERO, SAT_SYM, WRAP, not 'CUT'",
    ),
    "breaks list": (
        lambda: spec(breaks=[0]),
        TypeError,
        "Piecewise breaks must be a tuple of ints, not [0]",
    ),
    "breaks first": (
        lambda: spec(breaks=(-8,)),
        ValueError,
        "Piecewise breaks must ascend above -8 up to 7, not be (-8,)",
    ),
    "breaks beyond": (
        lambda: spec(breaks=(8,)),
        ValueError,
        "Piecewise breaks must ascend above -8 up to 7, not be (8,)",
    ),
    "breaks equal": (
        lambda: spec(breaks=(2, 2)),
        ValueError,
        "Piecewise breaks must ascend above -8 up to 7, not be (2, 2)",
    ),
    "polynomials kind": (
        lambda: spec(polynomials=((0, 1.0, 0), (0, 1, 0))),
        TypeError,
        "Piecewise polynomials must be a tuple of tuples of 3 ints, not ((0, 1.0, 0), (0, 1, 0))",
    ),
    "polynomials short": (
        lambda: spec(polynomials=((0, 1),) * 2),
        TypeError,
        "Piecewise polynomials must be a tuple of tuples of 3 ints, not ((0, 1), (0, 1))",
    ),
    "polynomials count": (
        lambda: spec(breaks=()),
        ValueError,
        "Piecewise polynomials must be 1, one for each piece, not 2",
    ),
    "divisor kind": (
        lambda: spec(divisor=3.0),
        TypeError,
        "Piecewise divisor must be an int, not 3.0",
    ),
    "frac kind": (lambda: spec(frac=True), TypeError, "Piecewise frac must be an int, not True"),
    "divisor even": (
        lambda: spec(divisor=6),
        ValueError,
        "Piecewise divisor must be odd and above 0, not 6",
    ),
    "divisor negative": (
        lambda: spec(divisor=-3),
        ValueError,
        "Piecewise divisor must be odd and above 0, not -3",
    ),
    "bits": (
        lambda: spec(polynomials=((0, 1, 0), (0, 1 << 56, 0))),
        ValueError,
        "Piecewise polynomials must fit 59 bits, not take 60",
    ),
    "reference": (
        lambda: spec().reference([8, 0]),
        ValueError,
        "Piecewise input must be in [-8, 7] for format s4.0, not span [0, 8]",
    ),
    "slope": (
        lambda: make.leaky_relu(X, 0.1, S8),
        TypeError,
        "leaky_relu slope must be an int or a Fraction, not 0.1",
    ),
    "threshold": (
        lambda: make.threshold(X, None, 0, S8),
        TypeError,
        "threshold threshold must be an int or a Fraction, not None",
    ),
    "value": (
        lambda: make.threshold(X, 0, "1", S8),
        TypeError,
        "threshold value must be an int or a Fraction, not '1'",
    ),
    "alpha": (
        lambda: make.thresholded_relu(X, 1.0, S8),
        TypeError,
        "thresholded_relu alpha must be an int or a Fraction, not 1.0",
    ),
    "clip order": (
        lambda: make.clip(X, 2, 1, S8),
        ValueError,
        "clip low must not exceed high, not be 2 above 1",
    ),
    "lambd": (
        lambda: make.softshrink(X, -1, S8),
        ValueError,
        "shrink lambd must be at least 0, not -1",
    ),
    "ramp": (
        lambda: make.hardsigmoid(X, S8, alpha=0),
        ValueError,
        "hardsigmoid alpha must be above 0, not 0",
    ),
    "at_zero": (
        lambda: make.step(X, S8, at_zero=0.5),
        TypeError,
        "step at_zero must be an int or a Fraction, not 0.5",
    ),
    "prelu slope": (
        lambda: PReLU(X, np.ones(3, int), S8, S8),
        ValueError,
        "PReLU slope must have shape (2,), not (3,)",
    ),
    "prelu range": (
        lambda: PReLU(X, np.array([1, 8]), X.format, S8),
        ValueError,
        "PReLU slope must be in [-8, 7] for format s4.0, not span [1, 8]",
    ),
    "prelu format": (
        lambda: PReLU(X, np.ones(2, int), None, S8),
        TypeError,
        "PReLU slope_format must be a Format, not None",
    ),
    "prelu input": (
        lambda: PReLU(None, np.ones(2, int), S8, S8),
        TypeError,
        "PReLU input must be a Tensor, not None",
    ),
    "prelu mode": (
        lambda: PReLU(X, np.ones(2, int), S8, S8, "RND", "CUT"),
        ValueError,
        "PReLU overflow must be one of SAT, SAT_ZERO, SAT_SYM, WRAP, not 'CUT'",
    ),
    "prelu lanes": (
        lambda: PReLU(X, np.ones(2, int), S8, S8).rtl(Lanes(3)),
        ValueError,
        "PReLU lanes must divide 2, not be 3",
    ),
    "prelu values": (
        lambda: PReLU(X, np.ones(2, int), S8, S8).reference([8, 0]),
        ValueError,
        "PReLU input must be in [-8, 7] for format s4.0, not span [0, 8]",
    ),
    "tensor": (
        lambda: make.sign(8, S8),
        TypeError,
        "Piecewise input must be a Tensor, not 8",
    ),
}


@pytest.mark.parametrize(("made", "error", "message"), REFUSALS.values(), ids=REFUSALS)
def test_what_is_wrong_is_refused(made, error, message):
    with refused(error, message):
        made()
