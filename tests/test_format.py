# SPDX-License-Identifier: Apache-2.0
"""Format: exhaustive over small integers; every refusal by its text."""

from itertools import combinations_with_replacement, product

import numpy as np
import pytest
from refusal import refused

from quant import Format, check_shape


def test_containing_is_the_narrowest_format():
    for low, high in combinations_with_replacement(range(-20, 21), 2):
        fitting = [
            (width, signed)
            for width, signed in product(range(1, 9), (False, True))
            if (-(2 ** (width - 1)) <= low and high < 2 ** (width - 1) and signed)
            or (0 <= low and high < 2**width and not signed)
        ]
        found = Format.containing(low, high, 3)
        assert (found.width, found.signed, found.frac) == (*min(fitting), 3), (low, high)


def test_containing_reaches_63_bits():
    assert Format.containing(-(2**62), 2**62 - 1, 0) == Format(63, 0)
    assert Format.containing(0, 2**63 - 1, 0) == Format(63, 0, signed=False)
    with refused(ValueError, "Format width must be between 1 and 63 bits, not 64"):
        Format.containing(-(2**62) - 1, 0, 0)
    with refused(ValueError, "Format width must be between 1 and 63 bits, not 64"):
        Format.containing(0, 2**63, 0)


def test_containing_takes_numpy_integers():
    assert Format.containing(np.int64(-3), np.int64(4), 0) == Format(4, 0, True)


@pytest.mark.parametrize("width", [1, 2, 8, 62, 63])
def test_range_is_that_of_the_bits(width):
    assert (Format(width, 0).min, Format(width, 0).max) == (
        -(2 ** (width - 1)),
        2 ** (width - 1) - 1,
    )
    unsigned = Format(width, 0, signed=False)
    assert (unsigned.min, unsigned.max) == (0, 2**width - 1)


def test_parse_reads_what_str_writes():
    for width, frac, signed in product((1, 9, 63), (-1000, -1, 0, 7, 1000), (False, True)):
        format = Format(width, frac, signed)
        assert str(format) == f"{'us'[signed]}{width}.{frac}"
        assert Format.parse(str(format)) == format


@pytest.mark.parametrize("text", ["", "8.4", "s8", "s8.4 ", "S8.4", "s-8.4", "s8.+4", "s8.4.2"])
def test_other_text_is_refused(text):
    with refused(ValueError, f"Format must be written like s8.4 or u5.-1, not {text!r}"):
        Format.parse(text)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, 0), ValueError, "Format width must be between 1 and 63 bits, not 0"),
        ((64, 0), ValueError, "Format width must be between 1 and 63 bits, not 64"),
        ((8, 1001), ValueError, "Format frac must be between -1000 and 1000 bits, not 1001"),
        ((8, -1001), ValueError, "Format frac must be between -1000 and 1000 bits, not -1001"),
        ((8.0, 0), TypeError, "Format width must be an int, not 8.0"),
        ((True, 0), TypeError, "Format width must be an int, not True"),
        ((8, "4"), TypeError, "Format frac must be an int, not '4'"),
        ((8, 4, 1), TypeError, "Format signed must be a bool, not 1"),
    ],
)
def test_bad_arguments_are_refused(arguments, error, message):
    with refused(error, message):
        Format(*arguments)


def test_reversed_bounds_are_refused():
    with refused(ValueError, "Format low must not exceed high, not 5 and 4"):
        Format.containing(5, 4, 0)


def test_check_returns_int64_and_keeps_the_shape():
    values = np.array([[0, 255]], np.uint8)
    checked = Format(8, 0, signed=False).check(values, "x")
    assert checked.dtype == np.int64
    assert checked.tolist() == [[0, 255]]
    assert Format(8, 0).check(np.zeros((0, 3), np.int8), "x").shape == (0, 3)


@pytest.mark.parametrize("dtype", [np.float64, np.bool_, object, np.complex64])
def test_check_refuses_other_types(dtype):
    with refused(TypeError, f"x must be integers, not {np.dtype(dtype)}"):
        Format(8, 0).check(np.zeros(2, dtype), "x")


@pytest.mark.parametrize("value", [-9, 8, 2**63 - 1, 2**64 - 1])
def test_check_refuses_values_outside(value):
    values = np.array([value])
    message = f"x must be in [-8, 7] for format s4.1, not span [{value}, {value}]"
    with refused(ValueError, message):
        Format(4, 1).check(values, "x")


def test_check_shape_refuses_in_one_wording():
    check_shape(np.zeros((3, 4)), ("outputs", 4), "Linear weight")
    with refused(ValueError, "Linear weight must have shape (outputs, 4), not (3, 5)"):
        check_shape(np.zeros((3, 5)), ("outputs", 4), "Linear weight")
    with refused(ValueError, "Linear bias must have shape (3,), not (2,)"):
        check_shape(np.zeros(2), (3,), "Linear bias")
    with refused(ValueError, "Linear weight must have shape (outputs, inputs), not (0, 5)"):
        check_shape(np.zeros((0, 5)), ("outputs", "inputs"), "Linear weight")
    with refused(ValueError, "Linear weight must have shape (outputs, inputs), not ()"):
        check_shape(3, ("outputs", "inputs"), "Linear weight")
