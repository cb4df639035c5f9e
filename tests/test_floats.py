# SPDX-License-Identifier: Apache-2.0
"""Floats to fixed point and back, against exact fractions."""

from fractions import Fraction

import numpy as np
import pytest
from narrow_oracle import OVERFLOWS, ROUNDINGS, exact_fit, exact_round
from refusal import refused

from quant import Format, from_float, to_float

FORMATS = [
    Format(8, 4),
    Format(1, 0),
    Format(5, -3),
    Format(7, 12, signed=False),
    Format(63, 60),
    Format(63, 1000, signed=False),
    Format(40, -1000),
]


def exact_from_float(value, format, rounding, overflow):
    scaled = Fraction(value) * Fraction(2) ** format.frac
    return exact_fit(exact_round(scaled, rounding), format.width, format.signed, overflow)


def doubles():
    """Special values, ties around every format's unit, and random bit patterns."""
    generator = np.random.default_rng(1)
    tiny, least, huge = 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308
    special = [0.0, -0.0, tiny, least, least - tiny, huge, 0.1, 1 / 3, 2.0**53 + 2, 1 - 2.0**-53]
    ties = [
        (n + half) * 2.0**-format.frac
        for format in FORMATS
        if abs(format.frac) < 1000
        for n in (0, 1, 2, 3, 7, 100)
        for half in (0.5, 0.5 - 2.0**-40, 0.5 + 2.0**-40)
    ]
    patterns = generator.integers(0, 2**63, 200).view(np.float64)
    ordinary = generator.normal(0, 8, 100)
    values = np.concatenate([special, ties, patterns[np.isfinite(patterns)], ordinary])
    return np.concatenate([values, -values])


@pytest.mark.parametrize("format", FORMATS, ids=str)
def test_from_float_equals_exact_fractions(format):
    values = doubles()
    for rounding in ROUNDINGS:
        for overflow in OVERFLOWS:
            wanted = [exact_from_float(v, format, rounding, overflow) for v in values.tolist()]
            found = from_float(values, format, rounding, overflow)
            assert found.dtype == np.int64
            assert found.tolist() == wanted, (rounding, overflow)


def test_from_float_takes_narrower_floats_and_keeps_the_shape():
    values = np.array([[0.5, -1.25], [3, 100]])
    for dtype in (np.float16, np.float32, np.float64):
        found = from_float(values.astype(dtype), Format(6, 2))
        assert found.tolist() == [[2, -5], [12, 31]]
    assert int(from_float(0.5, Format(6, 2))) == 2
    assert from_float(np.zeros((0, 2)), Format(6, 2)).shape == (0, 2)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused(bad):
    with refused(ValueError, f"from_float values must be finite, not {bad}"):
        from_float([0.0, bad], Format(8, 4))


@pytest.mark.parametrize("dtype", [np.int64, np.bool_, np.complex128, object, np.longdouble])
def test_other_types_are_refused(dtype):
    name = np.dtype(dtype)
    message = f"from_float values must be floats of at most 64 bits, not {name}"
    with refused(TypeError, message):
        from_float(np.zeros(2, dtype), Format(8, 4))


@pytest.mark.parametrize(
    "format", [*FORMATS[:-1], Format(23, -1000), Format(63, 0), Format(63, -900)], ids=str
)
def test_to_float_is_the_nearest_double(format):
    generator = np.random.default_rng(2)
    ints = generator.integers(format.min, format.max, 200, endpoint=True)
    ints = np.concatenate([ints, [format.min, format.max, 0]])
    wanted = [float(Fraction(n) / Fraction(2) ** format.frac) for n in ints.tolist()]
    found = to_float(ints, format)
    assert found.dtype == np.float64
    assert found.tolist() == wanted


def test_to_float_and_back_is_the_identity():
    format = Format(54, 20)
    ints = np.array([format.min, -1, 0, 1, format.max])
    assert from_float(to_float(ints, format), format).tolist() == ints.tolist()


def test_values_beyond_the_largest_double_are_refused():
    message = "to_float values must be below 2**1024, not integers of format s63.-1000"
    with refused(ValueError, message):
        to_float([2**40], Format(63, -1000))


def test_to_float_refuses_integers_outside_the_format():
    with refused(ValueError, "to_float ints must be in [-8, 7] for format s4.0, not span [8, 8]"):
        to_float([8], Format(4, 0))
