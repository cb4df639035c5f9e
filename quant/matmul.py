# SPDX-License-Identifier: Apache-2.0
"""Exact integer matrix products at the speed of float BLAS."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .bounds import dot_bounds, row_sums, to_ints
from .format import Format, Ints

FLOAT_BITS: dict[np.dtype[Any], int] = {np.dtype(np.float32): 24, np.dtype(np.float64): 53}
"""Integers up to 2**bits are exact in each float type."""


def float_dtype(magnitude: int) -> np.dtype[Any] | None:
    """The smallest float type in which all integers up to ``magnitude`` are exact, if any.

    >>> float_dtype(2**24), float_dtype(2**24 + 1), float_dtype(2**53 + 1)
    (dtype('float32'), dtype('float64'), None)
    """
    return next((dtype for dtype, bits in FLOAT_BITS.items() if magnitude <= 1 << bits), None)


def dot_magnitude(weight: Ints, input_format: Format) -> int:
    """max_j sum_i ``|weight[j, i]| * max|x|``: no sum of products, in any order, is larger."""
    largest = max(-input_format.min, input_format.max)
    positive, negative = row_sums(np.maximum(weight, 0)), row_sums(np.minimum(weight, 0))
    return largest * max(p - n for p, n in zip(positive, negative, strict=True))


class Matmul:
    """``x @ weight.T`` in exact integers; shape (..., inputs) -> (..., outputs).

    The weights themselves certify the float type: where no sum of absolute products exceeds 2**24
    (or 2**53), float32 (or float64) represents every partial sum exactly, whatever the order of
    summation and with or without fused multiply-add. Beyond, the weights are split into two halves
    of their bits, each with its own certificate; failing that, plain int64 does it. Raises
    ValueError where a result can exceed 63 bits, starting with ``name``.

    Parameters
    ----------
    weight : ints, shape (outputs, inputs)
    input_format : Format of x

    >>> Matmul([[3, -1], [0, 2]], Format(4, 0))([[1, 2], [-8, 7]]).tolist()
    [[1, 4], [-31, 14]]
    """

    def __init__(self, weight: ArrayLike, input_format: Format, name: str = "Matmul"):
        self.name = name
        self.input_format = input_format
        self.weight = to_ints(weight, f"{name} weight")
        dot_bounds(self.weight, input_format, name)
        self.parts = _split(self.weight, input_format)
        self.dtype = self.parts[0][1].dtype

    def __call__(self, x: ArrayLike) -> Ints:
        """The product; x of another shape or outside ``input_format`` is refused."""
        x = self.input_format.check(x, f"{self.name} input")
        inputs = self.weight.shape[1]
        if x.ndim == 0 or x.shape[-1] != inputs:
            raise ValueError(f"{self.name} input must have shape (..., {inputs}), not {x.shape}")
        return self.unchecked(x)

    def unchecked(self, x: np.ndarray) -> Ints:
        """The product of an x that is known to be right."""
        shift, matrix = self.parts[0]
        converted = x.astype(self.dtype, copy=False)
        total = (converted @ matrix).astype(np.int64, copy=False)
        for shift, matrix in self.parts[1:]:
            total += (converted @ matrix).astype(np.int64) << shift
        return total


def _split(weight: Ints, input_format: Format) -> list[tuple[int, np.ndarray]]:
    """(shift, matrix) pairs: ``weight.T`` is the sum of ``matrix << shift``; first a shift of 0."""
    dtype = float_dtype(dot_magnitude(weight, input_format))
    if dtype is not None:
        return [(0, _columns(weight, dtype))]
    bits = max(int(weight.max()).bit_length(), int(~weight.min()).bit_length())
    shift = (bits + 1) // 2
    half = 1 << (shift - 1)
    low = ((weight + half) & ((1 << shift) - 1)) - half  # balanced: -half <= low < half
    high = (weight - low) >> shift
    if max(dot_magnitude(part, input_format) for part in (low, high)) <= 1 << 53:
        float64 = np.dtype(np.float64)
        return [(0, _columns(low, float64)), (shift, _columns(high, float64))]
    return [(0, _columns(weight, np.dtype(np.int64)))]


def _columns(weight: Ints, dtype: np.dtype[Any]) -> np.ndarray:
    return np.ascontiguousarray(weight.T, dtype)
