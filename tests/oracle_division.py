# SPDX-License-Identifier: Apache-2.0
"""Independent statements of division and square root."""

from fractions import Fraction
from math import isqrt

import numpy as np
from oracle_numbers import fit, narrowed, number, rounded, statement

from blocks import Divide, SquareRoot
from quant import Ints


@statement(Divide)
def _divide(block: Divide, a: Ints, b: Ints) -> Ints:
    results = [
        block.pole
        if y == 0
        else narrowed(number(x, block.input_a.format) / number(y, block.input_b.format), block)
        for x, y in zip(a.ravel().tolist(), b.ravel().tolist(), strict=True)
    ]
    return np.array(results, np.int64).reshape(a.shape)


@statement(SquareRoot)
def _square_root(block: SquareRoot, x: Ints) -> Ints:
    """Floor of the root, exactly, and which side of a half the root lies on, by squaring."""
    results = []
    for code in x.ravel().tolist():
        square = number(code, block.input.format) * Fraction(4) ** block.output_format.frac
        floor = isqrt(square.numerator // square.denominator)
        half = Fraction(2 * floor + 1, 2)
        if floor * floor == square:
            stand_in = Fraction(floor)
        elif half * half == square:
            stand_in = half
        else:  # any number between rounds as the root does
            stand_in = floor + Fraction(1 if square < half * half else 3, 4)
        form = block.output_format
        results.append(fit(rounded(stand_in, block.rounding.value), form, block.overflow.value))
    return np.array(results, np.int64).reshape(x.shape)
