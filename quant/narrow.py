# SPDX-License-Identifier: Apache-2.0
"""Narrowing: the one operation that loses bits."""

from enum import StrEnum
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from .format import Format, Ints


class _Mode(StrEnum):
    """A mode that may be written as its name, refused in the words of the project."""

    @classmethod
    def _missing_(cls, value: object) -> Self:
        error = ValueError if isinstance(value, str) else TypeError
        raise error(f"{cls.__name__} must be one of {', '.join(cls)}, not {value!r}")


class Rounding(_Mode):
    """What happens to fraction bits that the target does not have; names and bits of ap_fixed."""

    RND = "RND"
    """To nearest, ties up to plus infinity (ap_fixed: AP_RND)."""
    RND_ZERO = "RND_ZERO"
    """To nearest, ties towards zero (ap_fixed: AP_RND_ZERO)."""
    RND_MIN_INF = "RND_MIN_INF"
    """To nearest, ties down to minus infinity (ap_fixed: AP_RND_MIN_INF)."""
    RND_INF = "RND_INF"
    """To nearest, ties away from zero (ap_fixed: AP_RND_INF)."""
    RND_CONV = "RND_CONV"
    """To nearest, ties to the even neighbour (ap_fixed: AP_RND_CONV)."""
    TRN = "TRN"
    """Down to minus infinity: the bits are cut off (ap_fixed: AP_TRN)."""
    TRN_ZERO = "TRN_ZERO"
    """Towards zero (ap_fixed: AP_TRN_ZERO)."""


class Overflow(_Mode):
    """What happens to values that the target cannot hold; names and bits of ap_fixed."""

    SAT = "SAT"
    """The nearest value of the target (ap_fixed: AP_SAT)."""
    SAT_ZERO = "SAT_ZERO"
    """Zero (ap_fixed: AP_SAT_ZERO)."""
    SAT_SYM = "SAT_SYM"
    """The nearest value of [-max, max] if signed wider than 1 bit, else SAT (ap_fixed: AP_SAT_SYM).
    """
    WRAP = "WRAP"
    """The low bits (ap_fixed: AP_WRAP)."""


def narrow(
    value: ArrayLike,
    source: Format,
    target: Format,
    rounding: Rounding | str = Rounding.RND,
    overflow: Overflow | str = Overflow.SAT,
) -> Ints:
    """Round to ``target.frac`` fraction bits, then fit ``target.width`` bits; shape is kept.

    Exact for every pair of formats: nothing wraps on the way. Hardware twin: ``hdl.narrow``.

    Parameters
    ----------
    value : ints in source, any shape
    rounding, overflow : the modes, or their names

    >>> narrow([5, 6, -6, 400], Format(16, 2), Format(6, 0)).tolist()
    [1, 2, -1, 31]
    >>> narrow([5, 6, -6, 400], Format(16, 2), Format(6, 0), "RND_CONV", "WRAP").tolist()
    [1, 2, -2, -28]
    """
    value = source.check(value, "narrow value")
    return shift_narrow(
        value, source.frac - target.frac, target, Rounding(rounding), Overflow(overflow)
    )


def shift_narrow(
    value: Ints, drop: int, target: Format, rounding: Rounding, overflow: Overflow
) -> Ints:
    """Narrow ``value / 2**drop`` to ``target``; ``drop`` is any int, ``value`` above ``-2**63``."""
    if drop > 0:
        return _fit(_divide(value, drop, rounding), 0, target, overflow)
    return _fit(value, -drop, target, overflow)


def round_shift(value: int, drop: int, rounding: Rounding) -> int:
    """``value / 2**drop`` rounded to an integer, for Python's integers of any size."""
    if drop <= 0:
        return value << -drop
    floor, rest = value >> drop, value & ((1 << drop) - 1)
    half = 1 << (drop - 1)
    match rounding:
        case Rounding.RND:
            up = rest >= half
        case Rounding.RND_ZERO:
            up = rest > half or (rest == half and value < 0)
        case Rounding.RND_MIN_INF:
            up = rest > half
        case Rounding.RND_INF:
            up = rest > half or (rest == half and value >= 0)
        case Rounding.RND_CONV:
            up = rest > half or (rest == half and floor % 2 == 1)
        case Rounding.TRN:
            up = False
        case Rounding.TRN_ZERO:
            up = rest > 0 and value < 0
    return floor + up


def saturation_range(target: Format, overflow: Overflow) -> tuple[int, int]:
    """Smallest and largest integer that ``target`` takes unchanged under ``overflow``.

    One bit, signed, holds -1 and 0 under every mode, SAT_SYM included, as in ap_fixed.
    """
    symmetric = overflow is Overflow.SAT_SYM and target.signed and target.width > 1
    return (-target.max if symmetric else target.min), target.max


def _divide(value: Ints, drop: int, rounding: Rounding) -> Ints:
    """``value / 2**drop`` rounded to an integer; ``drop`` is above 0."""
    drop = min(drop, 64)  # below half a unit from here on, whatever the value
    floor = value >> min(drop, 63)
    if rounding is Rounding.TRN:
        return floor
    half = (value >> (drop - 1)) & 1 != 0  # the remainder is half a unit or more ...
    rest = value & ((1 << (drop - 1)) - 1) != 0  # ... and is not 0 or exactly half
    match rounding:
        case Rounding.RND:
            up = half
        case Rounding.RND_ZERO:
            up = half & (rest | (value < 0))
        case Rounding.RND_MIN_INF:
            up = half & rest
        case Rounding.RND_INF:
            up = half & (rest | (value >= 0))
        case Rounding.RND_CONV:
            up = half & (rest | (floor & 1 != 0))
        case Rounding.TRN_ZERO:
            up = (half | rest) & (value < 0)
    return floor + up


def _fit(value: Ints, shift: int, target: Format, overflow: Overflow) -> Ints:
    """``value * 2**shift`` in ``target``; ``shift`` is 0 or more."""
    if overflow is Overflow.WRAP:
        low_bits = value << shift if shift < 64 else np.zeros_like(value)
        if not target.signed:
            return low_bits & target.max
        unused = 64 - target.width
        return low_bits << unused >> unused
    low, high = saturation_range(target, overflow)
    inside = np.clip(value, -(-low >> shift), high >> shift)  # what stays in range when shifted
    fitted = inside << min(shift, 63)
    if overflow is Overflow.SAT_ZERO:
        return np.where(value == inside, fitted, 0)
    return np.where(value == inside, fitted, np.where(value < inside, low, high))
