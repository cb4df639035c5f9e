# SPDX-License-Identifier: Apache-2.0
"""Conversion between floats and fixed point, rounded once."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .format import Format, Ints
from .narrow import Overflow, Rounding, shift_narrow


def from_float(
    values: ArrayLike,
    format: Format,
    rounding: Rounding | str = Rounding.RND,
    overflow: Overflow | str = Overflow.SAT,
) -> Ints:
    """``values * 2**format.frac`` as integers of ``format``: :func:`narrow` from exact doubles.

    Correct for every double, subnormals included: the one rounding is done in integers. Raises
    ValueError where a value is NaN or infinite.

    >>> from_float([0.5, -0.3, 100.0], Format(4, 2)).tolist()
    [2, -1, 7]
    """
    array = np.asarray(values)
    if array.dtype not in (np.float64, np.float32, np.float16):
        raise TypeError(f"from_float values must be floats of at most 64 bits, not {array.dtype}")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        infinite = array[~np.isfinite(array)].flat[0]
        raise ValueError(f"from_float values must be finite, not {infinite}")
    fraction, exponent = np.frexp(array)
    mantissa = np.ldexp(fraction, 53).astype(np.int64)  # value = mantissa * 2**(exponent - 53)
    result = np.zeros(array.shape, np.int64)
    rounding, overflow = Rounding(rounding), Overflow(overflow)
    for power in np.unique(exponent).tolist():
        here = exponent == power
        drop = 53 - power - format.frac
        result[here] = shift_narrow(mantissa[here], drop, format, rounding, overflow)
    return result


def to_float(ints: ArrayLike, format: Format) -> NDArray[np.float64]:
    """``ints / 2**format.frac``: exact up to 53 bits, beyond that the nearest double, ties to even.

    Raises ValueError where that exceeds the largest double.

    >>> to_float([2, -1, 7], Format(4, 2)).tolist()
    [0.5, -0.25, 1.75]
    """
    array = format.check(ints, "to_float ints")
    with np.errstate(over="ignore"):
        result = np.ldexp(array.astype(np.float64), -format.frac)
    if not np.isfinite(result).all():
        raise ValueError(f"to_float values must be below 2**1024, not integers of format {format}")
    return np.asarray(result)
