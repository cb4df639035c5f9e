# SPDX-License-Identifier: Apache-2.0
"""Independent statement of functions of one variable: bounds around fresh evaluations."""

from fractions import Fraction
from math import ceil, floor

import mpmath
import numpy as np
from oracle_numbers import Within, number, statement
from test_function import DEFINITIONS, FRESH

from blocks import Nonlinearity
from quant import Ints

MORE = {"exp(-x)": lambda x: 1 / FRESH.exp(x)}
"""Functions that other blocks are composed of."""


@statement(Nonlinearity)
def _nonlinearity(block: Nonlinearity, x: Ints) -> Within:
    """Every y is less than one unit from the function, limited to the output's range."""
    form = block.form.output_format
    bounds = {}
    for code in np.unique(x).tolist():
        value = (DEFINITIONS | MORE)[block.form.name](
            mpmath.mpf(Fraction(number(code, block.input.format)))
        )
        scaled = mpmath.mpf(value) * mpmath.mpf(2) ** form.frac
        limited = min(max(scaled, form.min), form.max)
        bounds[code] = ceil(limited - 1 + mpmath.mpf(2) ** -40), floor(limited + 1)
    low, high = (np.vectorize(lambda code, n=n: bounds[code][n])(x) for n in (0, 1))
    return Within(low, high)
