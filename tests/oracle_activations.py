# SPDX-License-Identifier: Apache-2.0
"""Independent statements of the activations."""

from fractions import Fraction

import numpy as np
from oracle_numbers import narrowed, statement

from blocks import Piecewise
from quant import Ints


@statement(Piecewise)
def _piecewise(block: Piecewise, x: Ints) -> Ints:
    results = []
    for code in x.ravel().tolist():
        piece = sum(code >= place for place in block.breaks)
        p = sum(c * code**degree for degree, c in enumerate(block.polynomials[piece]))
        results.append(narrowed(Fraction(p, block.divisor) / Fraction(2) ** block.frac, block))
    return np.array(results, np.int64).reshape(x.shape)
