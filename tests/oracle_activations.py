# SPDX-License-Identifier: Apache-2.0
"""Independent statements of the activations."""

from fractions import Fraction

import numpy as np
from oracle_numbers import fit, narrowed, number, rounded, statement

from blocks import ArgMax, ArgMin, Piecewise, PReLU, Rescale, TopK
from quant import Ints


@statement(Piecewise)
def _piecewise(block: Piecewise, x: Ints) -> Ints:
    results = []
    for code in x.ravel().tolist():
        piece = sum(code >= place for place in block.breaks)
        p = sum(c * code**degree for degree, c in enumerate(block.polynomials[piece]))
        results.append(narrowed(Fraction(p, block.divisor) / Fraction(2) ** block.frac, block))
    return np.array(results, np.int64).reshape(x.shape)


@statement(PReLU)
def _prelu(block: PReLU, x: Ints) -> Ints:
    slopes = np.broadcast_to(block.slope, x.shape)
    results = []
    for code, slope in zip(x.ravel().tolist(), slopes.ravel().tolist(), strict=True):
        value = number(code, block.input.format)
        results.append(
            narrowed(max(value, 0) + number(slope, block.slope_format) * min(value, 0), block)
        )
    return np.array(results, np.int64).reshape(x.shape)


def rescaled(value: int, multiplier: int, shift: int, rule: str) -> int:
    """``value * multiplier / 2**shift`` as each rule is defined, word for word."""
    if rule != "tflite_double":
        mode = {"tflite_single": "RND", "onnx": "RND_CONV"}.get(rule, rule)
        return rounded(Fraction(value * multiplier, 2**shift), mode)
    left, right = max(0, 31 - shift), max(0, shift - 31)
    return rounding_divide_by_power(doubling_high_product(value << left, multiplier), right)


def doubling_high_product(a: int, b: int) -> int:
    """SaturatingRoundingDoublingHighMul, in the steps of gemmlowp; division is that of C."""
    product = a * b
    nudged = product + (1 << 30 if product >= 0 else 1 - (1 << 30))
    return nudged >> 31 if nudged >= 0 else -(-nudged >> 31)


def rounding_divide_by_power(x: int, exponent: int) -> int:
    """RoundingDivideByPOT, in the steps of gemmlowp."""
    mask = (1 << exponent) - 1
    return (x >> exponent) + ((x & mask) > (mask >> 1) + (x < 0))


@statement(Rescale)
def _rescale(block: Rescale, x: Ints) -> Ints:
    multipliers, shifts = (np.broadcast_to(n, x.shape) for n in (block.multiplier, block.shift))
    rows = zip(
        x.ravel().tolist(), multipliers.ravel().tolist(), shifts.ravel().tolist(), strict=True
    )
    results = [
        rescaled(code - block.zero_point_in, m, s, block.rounding.value) + block.zero_point_out
        for code, m, s in rows
    ]
    fitted = [fit(n, block.output_format, block.overflow.value) for n in results]
    return np.array(fitted, np.int64).reshape(x.shape)


@statement(ArgMax)
@statement(ArgMin)
def _arg(block: ArgMax | ArgMin, x: Ints) -> Ints:
    found = []
    for row in x.reshape(-1, x.shape[-1]).tolist():
        wanted = max(row) if isinstance(block, ArgMax) else min(row)
        places = [n for n, value in enumerate(row) if value == wanted]
        found.append(places[-1] if block.select_last_index else places[0])
    return np.array(found, np.int64).reshape(*x.shape[:-1], 1)


@statement(TopK)
def _top_k(block: TopK, x: Ints) -> Ints | tuple[Ints, Ints]:
    values, indices = [], []
    for row in x.reshape(-1, x.shape[-1]).tolist():
        left = list(enumerate(row))
        best = min if block.smallest else max
        for _ in range(block.count):
            index, value = best(left, key=lambda pair: pair[1])  # the first of equals
            left.remove((index, value))
            indices.append(index)
            values.append(value)
    shape = (*x.shape[:-1], block.count)
    both = np.array(values).reshape(shape), np.array(indices).reshape(shape)
    return {"both": both, "values": both[0], "indices": both[1]}[block.gives]
