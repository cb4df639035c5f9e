# SPDX-License-Identifier: Apache-2.0
"""Bounds: equal to the extremes over every input, and attained."""

from itertools import combinations_with_replacement, permutations, product

import numpy as np
import pytest
from narrow_oracle import OVERFLOWS, ROUNDINGS, exact_narrow
from refusal import refused

from quant import (
    Format,
    accumulator_format,
    attaining_inputs,
    dot_bounds,
    narrow_bounds,
    product_format,
    sum_format,
)

SMALL = [Format(1, 0), Format(1, 0, signed=False), Format(3, 1), Format(3, -1, signed=False)]


@pytest.mark.parametrize("input_format", SMALL, ids=str)
def test_dot_bounds_are_the_extremes_over_every_input(input_format):
    weight = np.random.default_rng(1).integers(-5, 6, (6, 3))
    weight[0] = 0
    every = np.array(list(product(range(input_format.min, input_format.max + 1), repeat=3)))
    sums = every @ weight.T
    low, high = dot_bounds(weight, input_format)
    assert low.dtype == high.dtype == np.int64
    assert low.tolist() == sums.min(axis=0).tolist()
    assert high.tolist() == sums.max(axis=0).tolist()


@pytest.mark.parametrize("input_format", [*SMALL, Format(40, 0), Format(16, 3, False)], ids=str)
def test_attaining_inputs_attain_the_bounds(input_format):
    weight = np.random.default_rng(2).integers(-(2**18), 2**18, (5, 7))
    weight[0] = 0
    low, high = dot_bounds(weight, input_format)
    at_low, at_high = attaining_inputs(weight, input_format)
    for vectors, bound in ((at_low, low), (at_high, high)):
        input_format.check(vectors, "attaining input")
        sums = [
            sum(a * b for a, b in zip(*rows, strict=True))
            for rows in zip(weight.tolist(), vectors.tolist(), strict=True)
        ]
        assert sums == bound.tolist()


def test_no_partial_sum_leaves_the_bounds():
    weight, input_format = np.array([[3, -2, 5]]), Format(3, 0)
    (low,), (high,) = dot_bounds(weight, input_format)
    for x in product(range(input_format.min, input_format.max + 1), repeat=3):
        for terms in permutations([w * n for w, n in zip(weight[0].tolist(), x, strict=True)]):
            for count in range(4):
                assert low <= sum(terms[:count]) <= high


def test_dot_bounds_are_exact_up_to_63_bits():
    weight = [[2**62 - 1, 0], [0, -(2**61)]]
    low, high = dot_bounds(weight, Format(1, 0))
    assert (low.tolist(), high.tolist()) == ([-(2**62) + 1, 0], [0, 2**61])
    low, high = dot_bounds([[2**31] * 4], Format(30, 0, signed=False))
    assert (low.tolist(), high.tolist()) == ([0], [2**33 * (2**30 - 1)])
    assert dot_bounds([[2**62]], Format(1, 0))[0].tolist() == [-(2**62)]
    assert dot_bounds([[2**63 - 1]], Format(1, 0, signed=False))[1].tolist() == [2**63 - 1]


@pytest.mark.parametrize(
    ("weight", "input_format", "bits"),
    [
        ([[2**62 + 1]], Format(1, 0), 64),
        ([[2**62, 1]], Format(1, 0), 64),
        ([[2**62, 2**62]], Format(1, 0, signed=False), 64),
        ([[2**63 - 1] * 4], Format(63, 0), 128),
        ([[-(2**63)] * 4], Format(63, 0, signed=False), 129),
        ([[2**62], [-1]], Format(1, 0, signed=False), 64),
    ],
)
def test_accumulators_beyond_63_bits_are_refused(weight, input_format, bits):
    with refused(ValueError, f"Linear accumulator must fit 63 bits, not {bits}"):
        dot_bounds(weight, input_format, "Linear")


def test_bad_weights_are_refused():
    with refused(TypeError, "dot_bounds weight must be integers, not float64"):
        dot_bounds([[0.5]], Format(8, 0))
    with refused(ValueError, "dot_bounds weight must have shape (outputs, inputs), not (2,)"):
        dot_bounds([1, 2], Format(8, 0))
    message = f"dot_bounds weight must fit 64 bits signed, not reach {2**63}"
    with refused(ValueError, message):
        dot_bounds(np.array([[2**63]], np.uint64), Format(8, 0))


def test_accumulator_format_is_the_narrowest_for_all_rows():
    assert accumulator_format([-4, 0], [3, 2], 5) == Format(3, 5)
    assert accumulator_format([-4, 0], [3, 4], 5) == Format(4, 5)
    assert accumulator_format([0, 1], [3, 4], 5) == Format(3, 5, signed=False)
    assert accumulator_format(-(2**62), 2**62 - 1, 0) == Format(63, 0)
    with refused(ValueError, "Add accumulator must fit 63 bits, not 64"):
        accumulator_format(-1, 2**62, 0, "Add")


PAIRS = list(product([*SMALL, Format(2, 3), Format(4, 0, signed=False)], repeat=2))


def exact_format(values, frac):
    """The narrowest format of these multiples of 2**-frac, by trial."""
    for width in range(1, 30):
        for signed in (False, True):
            format = Format(width, frac, signed)
            if format.min <= min(values) and max(values) <= format.max:
                return format
    raise AssertionError("no format found")


@pytest.mark.parametrize(("a", "b"), PAIRS, ids=str)
def test_sum_and_product_formats_are_the_narrowest(a, b):
    numbers = list(product(range(a.min, a.max + 1), range(b.min, b.max + 1)))
    frac = max(a.frac, b.frac)
    sums = [x * 2 ** (frac - a.frac) + y * 2 ** (frac - b.frac) for x, y in numbers]
    assert sum_format(a, b) == exact_format(sums, frac)
    assert product_format(a, b) == exact_format([x * y for x, y in numbers], a.frac + b.frac)


def test_sum_and_product_beyond_63_bits_are_refused():
    with refused(ValueError, "Add accumulator must fit 63 bits, not 64"):
        sum_format(Format(63, 0), Format(1, 0), name="Add")
    with refused(ValueError, "Add accumulator must fit 63 bits, not 1009"):
        sum_format(Format(8, 0), Format(8, 1000), name="Add")
    with refused(ValueError, "product_format accumulator must fit 63 bits, not 64"):
        product_format(Format(32, 0), Format(32, 0))


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("overflow", OVERFLOWS)
def test_narrow_bounds_are_the_extremes_over_every_input(rounding, overflow):
    sources = [Format(4, 0), Format(4, 0, signed=False), Format(1, 0)]
    targets = [
        Format(width, frac, signed)
        for width in (1, 2, 3)
        for frac in (-3, -1, 0, 1, 2, 3, 4)
        for signed in (False, True)
    ]
    for source, target in product(sources, targets):
        every = range(source.min, source.max + 1)
        results = {n: exact_narrow(n, source, target, rounding, overflow) for n in every}
        ends = list(combinations_with_replacement(every, 2))
        low, high = narrow_bounds(*zip(*ends, strict=True), source, target, rounding, overflow)
        spans = [[results[n] for n in range(a, b + 1)] for a, b in ends]
        assert low.tolist() == [min(span) for span in spans], (str(source), str(target))
        assert high.tolist() == [max(span) for span in spans], (str(source), str(target))


def test_narrow_bounds_refuses_reversed_and_unequal_bounds():
    with refused(ValueError, "narrow_bounds high must be at least low, not 2 below"):
        narrow_bounds([1, 3], [2, 1], Format(8, 0), Format(4, 0))
    with refused(ValueError, "narrow_bounds high must have shape (2,), not (1,)"):
        narrow_bounds([1, 3], [2], Format(8, 0), Format(4, 0))
