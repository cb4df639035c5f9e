# SPDX-License-Identifier: Apache-2.0
"""narrow: golden casts of ap_fixed, exhaustive over small formats, exact at the extremes."""

import numpy as np
import pytest
from golden_casts import compare_golden
from material import GOLDEN_CASTS
from narrow_oracle import OVERFLOWS, ROUNDINGS, compare, exact_narrow
from numpy.testing import assert_array_equal
from refusal import refused

from quant import Format, Overflow, Rounding, narrow

MODES = [(rounding, overflow) for rounding in ROUNDINGS for overflow in OVERFLOWS]


def test_the_modes_are_those_of_ap_fixed():
    assert tuple(Rounding) == ROUNDINGS
    assert tuple(Overflow) == OVERFLOWS


@pytest.mark.skipif(not GOLDEN_CASTS.exists(), reason="golden casts of ap_fixed are absent")
def test_all_golden_casts_of_ap_fixed():
    assert compare_golden() == (67200, 0)


def test_every_input_of_formats_up_to_3_bits():
    casts, differences = compare(3)
    assert casts == 28 * 42 * sum(2 * (w + 5) * 2**w for w in (1, 2, 3))
    assert differences == 0


def test_a_slice_of_formats_up_to_6_bits():
    casts, differences = compare(6, every=29)  # no divisor of 28 or 102: all modes, all formats
    assert casts > 240_000
    assert differences == 0


@pytest.mark.full
def test_every_input_of_formats_up_to_6_bits():
    casts, differences = compare(6)
    assert casts == 28 * 102 * sum(2 * (w + 5) * 2**w for w in range(1, 7)) == 7_265_664
    assert differences == 0


def test_one_bit_symmetric_saturation_keeps_minus_one_as_ap_fixed_does():
    inputs = np.arange(-32, 32)  # ap_fixed<6, 3> to ap_fixed<1, 1>, from AMD's headers
    wanted = np.where(inputs < -4, -1, 0)
    assert_array_equal(narrow(inputs, Format(6, 3), Format(1, 0), "RND", "SAT_SYM"), wanted)


EXTREME_FORMATS = [
    Format(width, frac, signed)
    for width in (1, 2, 31, 32, 33, 62, 63)
    for frac in (-1000, -64, -63, -2, -1, 0, 1, 2, 31, 61, 62, 63, 64, 65, 1000)
    for signed in (False, True)
]


@pytest.mark.parametrize("source", EXTREME_FORMATS, ids=str)
def test_extreme_formats_equal_exact_fractions(source):
    generator = np.random.default_rng(source.width + source.frac % 997)
    edges = {source.min, source.min + 1, -1, 0, 1, 2, 3, source.max - 1, source.max}
    edges |= {(1 << bit) + near for bit in (1, 30, 31, 32, 60, 61, 62) for near in (-1, 0, 1)}
    edges |= {-edge for edge in edges}
    inputs = np.array(sorted(n for n in edges if source.min <= n <= source.max))
    for target in generator.choice(np.array(EXTREME_FORMATS, object), 4, replace=False):
        for rounding, overflow in MODES:
            found = narrow(inputs, source, target, rounding, overflow)
            wanted = [exact_narrow(n, source, target, rounding, overflow) for n in inputs.tolist()]
            assert found.dtype == np.int64
            assert found.tolist() == wanted, (str(target), rounding, overflow)


def test_shape_is_kept_and_any_integer_type_is_taken():
    value = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    result = narrow(value, Format(8, 2), Format(8, 0))
    assert result.shape == (2, 3, 4)
    assert result.dtype == np.int64
    assert_array_equal(result, (value.astype(int) + 2) // 4)
    assert int(narrow(5, Format(8, 2), Format(8, 0))) == 1
    assert narrow(np.zeros((0, 3), int), Format(8, 2), Format(8, 0)).shape == (0, 3)


def test_the_argument_is_not_changed():
    value = np.arange(-8, 8)
    for rounding, overflow in MODES:
        for target in (Format(3, 0), Format(3, 4, signed=False)):
            narrow(value, Format(4, 2), target, rounding, overflow)
    assert_array_equal(value, np.arange(-8, 8))


def test_an_unknown_mode_is_refused():
    message = (
        "Rounding must be one of RND, RND_ZERO, RND_MIN_INF, RND_INF, RND_CONV, TRN, TRN_ZERO, "
        "not 'rnd'"
    )
    with refused(ValueError, message):
        narrow([1], Format(8, 2), Format(8, 0), "rnd")
    message = "Overflow must be one of SAT, SAT_ZERO, SAT_SYM, WRAP, not 3"
    with refused(TypeError, message):
        narrow([1], Format(8, 2), Format(8, 0), "RND", 3)


def test_values_outside_the_source_are_refused():
    message = "narrow value must be in [-8, 7] for format s4.0, not span [0, 8]"
    with refused(ValueError, message):
        narrow([0, 8], Format(4, 0), Format(4, 0))


def test_floats_are_refused():
    with refused(TypeError, "narrow value must be integers, not float64"):
        narrow([0.5], Format(4, 0), Format(4, 0))
