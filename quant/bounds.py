# SPDX-License-Identifier: Apache-2.0
"""Exact bounds of sums, products and narrowed values, from integer interval arithmetic."""

import numpy as np
from numpy.typing import ArrayLike

from .check import check_shape
from .format import Format, Ints
from .narrow import Overflow, Rounding, round_shift, saturation_range


def dot_bounds(
    weight: ArrayLike, input_format: Format, name: str = "dot_bounds"
) -> tuple[Ints, Ints]:
    """Smallest and largest ``weight @ x`` over every x of ``input_format``, for each row.

    Both are attained, by :func:`attaining_inputs`. No sum of some of the products, in any order,
    leaves them, because 0 is an x of every format. Raises ValueError beyond 63 bits, starting
    with ``name``.

    Parameters
    ----------
    weight : ints, shape (outputs, inputs)

    >>> dot_bounds([[3, -1], [0, 2]], Format(4, 0))
    (array([-31, -16]), array([29, 14]))
    """
    weight = to_ints(weight, f"{name} weight")
    check_shape(weight, ("outputs", "inputs"), f"{name} weight")
    positive, negative = row_sums(np.maximum(weight, 0)), row_sums(np.minimum(weight, 0))
    least, most = input_format.min, input_format.max
    low = [p * least + n * most for p, n in zip(positive, negative, strict=True)]
    high = [p * most + n * least for p, n in zip(positive, negative, strict=True)]
    accumulator_format(min(low), max(high), 0, name)
    return np.array(low, np.int64), np.array(high, np.int64)


def attaining_inputs(weight: ArrayLike, input_format: Format) -> tuple[Ints, Ints]:
    """Vectors that attain the bounds of :func:`dot_bounds`, each of shape (outputs, inputs).

    Row j of the first makes ``weight[j] @ x`` smallest, row j of the second makes it largest.

    >>> [x.tolist() for x in attaining_inputs([[3, -1]], Format(4, 0))]
    [[[-8, 7]], [[7, -8]]]
    """
    weight = to_ints(weight, "attaining_inputs weight")
    check_shape(weight, ("outputs", "inputs"), "attaining_inputs weight")
    least, most = np.int64(input_format.min), np.int64(input_format.max)
    return np.where(weight < 0, most, least), np.where(weight < 0, least, most)


def accumulator_format(
    low: ArrayLike | int, high: ArrayLike | int, frac: int, name: str = "accumulator_format"
) -> Format:
    """The narrowest format that holds every integer from min(low) to max(high).

    Raises ValueError where 63 bits do not suffice, starting with ``name``.

    >>> str(accumulator_format([-31, -16], [29, 14], 4))
    's6.4'
    """
    least = int(np.min(np.asarray(low, object)))
    most = int(np.max(np.asarray(high, object)))
    signed = least < 0
    bits = signed + max((~n if n < 0 else n).bit_length() for n in (least, most))
    if bits > 63:
        raise ValueError(f"{name} accumulator must fit 63 bits, not {bits}")
    return Format.containing(least, most, frac)


def sum_format(*formats: Format, name: str = "sum_format") -> Format:
    """The narrowest format of the exact sum of one number in each of ``formats``.

    It has the most fraction bits of any of them. Raises ValueError beyond 63 bits.

    >>> str(sum_format(Format(8, 4), Format(8, 2)))
    's11.4'
    """
    frac = max(format.frac for format in formats)
    low = sum(format.min << (frac - format.frac) for format in formats)
    high = sum(format.max << (frac - format.frac) for format in formats)
    return accumulator_format(low, high, frac, name)


def product_format(a: Format, b: Format, name: str = "product_format") -> Format:
    """The narrowest format of the exact product of a number in ``a`` and one in ``b``.

    Raises ValueError beyond 63 bits.

    >>> str(product_format(Format(8, 4), Format(8, 4, signed=False)))
    's16.8'
    """
    corners = [x * y for x in (a.min, a.max) for y in (b.min, b.max)]
    return accumulator_format(min(corners), max(corners), a.frac + b.frac, name)


def narrow_bounds(
    low: ArrayLike | int,
    high: ArrayLike | int,
    source: Format,
    target: Format,
    rounding: Rounding | str = Rounding.RND,
    overflow: Overflow | str = Overflow.SAT,
) -> tuple[Ints, Ints]:
    """Smallest and largest ``narrow(n, source, target, rounding, overflow)``, low <= n <= high.

    Exact in every mode: both are attained. Works element by element on arrays of one shape.

    >>> narrow_bounds(-9, 40, Format(8, 2), Format(4, 0))
    (array(-2), array(7))
    """
    rounding, overflow = Rounding(rounding), Overflow(overflow)
    low, high = source.check(low, "narrow_bounds low"), source.check(high, "narrow_bounds high")
    if low.shape != high.shape:
        raise ValueError(f"narrow_bounds high must have shape {low.shape}, not {high.shape}")
    if np.any(low > high):
        raise ValueError(f"narrow_bounds high must be at least low, not {(low - high).max()} below")
    drop = source.frac - target.frac
    pairs = [
        _narrow_interval(least, most, drop, target, rounding, overflow)
        for least, most in zip(low.ravel().tolist(), high.ravel().tolist(), strict=True)
    ]
    both = np.array(pairs, np.int64).reshape(*low.shape, 2)
    return both[..., 0], both[..., 1]


def _narrow_interval(
    low: int, high: int, drop: int, target: Format, rounding: Rounding, overflow: Overflow
) -> tuple[int, int]:
    """:func:`narrow_bounds` of one interval, in Python's integers."""
    low, high = round_shift(low, drop, rounding), round_shift(high, drop, rounding)
    step = 1 << max(-drop, 0)  # every rounded value between low and high that is a multiple of this
    least, most = saturation_range(target, overflow)
    if least <= low and high <= most:
        return low, high
    if overflow is Overflow.WRAP:
        count = 1 << target.width
        if step >= count:
            return 0, 0
        if (low - least) // count == (high - least) // count:
            return (low - least) % count + least, (high - least) % count + least
        return least, most + 1 - step
    if overflow is Overflow.SAT_ZERO:
        low, high = max(low, -(-least // step) * step), min(high, most // step * step)
        return (min(low, 0), max(high, 0)) if low <= high else (0, 0)
    return min(max(low, least), most), min(max(high, least), most)


def to_ints(values: ArrayLike, name: str) -> Ints:
    """``values`` as int64, refusing what is not an integer of 64 bits, signed."""
    array = np.asarray(values)
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"{name} must be integers, not {array.dtype}")
    if array.dtype == np.uint64 and array.size and array.max() >= 1 << 63:
        raise ValueError(f"{name} must fit 64 bits signed, not reach {array.max()}")
    return array.astype(np.int64)


def row_sums(array: Ints) -> list[int]:
    """Exact sum of each row, in Python's integers; halves of 32 bits cannot overflow int64."""
    upper, lower = (array >> 32).sum(axis=1), (array & 0xFFFFFFFF).sum(axis=1)
    return [(u << 32) + v for u, v in zip(upper.tolist(), lower.tolist(), strict=True)]
