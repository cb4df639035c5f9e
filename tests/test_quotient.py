# SPDX-License-Identifier: Apache-2.0
"""Quotients against exact fractions, and reciprocals over every value of their ranges."""

from fractions import Fraction

import numpy as np
import pytest
from oracle_numbers import fit, rounded

from quant import Format, Overflow, Rounding, narrow
from quant.quotient import Reciprocals, narrow_quotient

DIVISORS = (1, 2, 3, 4, 5, 6, 7, 9, 12, 25, 49, 64)
RANGES = ((-300, 300), (0, 700), (-500, -1), (-1024, 1023))


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("gain", [-3, -1, 0, 1, 2, 5])
def test_quotients_are_exact(rounding, gain):
    frac = 3
    target = Format(40, frac + gain - 1)
    for divisor in DIVISORS:
        values = np.arange(-300, 301)
        found = narrow_quotient(values, np.array(divisor), frac, target, rounding, Overflow.SAT)
        for value, y in zip(values.tolist(), found.tolist(), strict=True):
            exact = Fraction(value, divisor) * Fraction(2) ** (target.frac - frac)
            assert y == fit(rounded(exact, rounding.value), target, "SAT")


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("gain", [-3, -1, 0, 1, 2, 5])
def test_reciprocals_cannot_be_told_from_the_division(rounding, gain):
    """Over every value of the range, in every mode of rounding, as the circuit computes it."""
    frac = 3
    target = Format(40, frac + gain - 1)
    for low, high in RANGES:
        values = np.arange(low, high + 1)
        found = Reciprocals.of(DIVISORS, [(low, high)] * len(DIVISORS), gain)
        for divisor, factor in zip(DIVISORS, found.factors, strict=True):
            cut = (values * factor + found.offset) >> found.cut
            source = Format(62, frac + found.shift - found.cut)
            y = narrow(cut, source, target, rounding)
            wanted = narrow_quotient(values, np.array(divisor), frac, target, rounding)
            np.testing.assert_array_equal(y, wanted, err_msg=f"{divisor} in {low}..{high}")


def test_powers_of_two_are_shifts():
    assert Reciprocals.of((1, 4, 16), [(-100, 100)] * 3, 2) == Reciprocals((16, 4, 1), 0, 0, 4)


def test_a_factor_one_bit_shorter_would_be_wrong():
    """The search stops at the first shift that can be proved, not long after it is enough."""
    low, high, divisor = 0, 1 << 12, 7
    found = Reciprocals.of((divisor,), [(low, high)], 1)
    values = np.arange(low, high + 1)

    def wrong(shift):
        factor = -(-(1 << shift) // divisor)
        return ((values * factor >> shift) != values // divisor).any()

    assert not wrong(found.shift)
    assert any(wrong(shift) for shift in range(found.shift - 4, found.shift))
