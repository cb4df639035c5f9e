# SPDX-License-Identifier: Apache-2.0
"""Rescaling: a fixed-point multiplier between scales that are no powers of two apart."""

import numpy as np
from numpy.typing import ArrayLike

from .bounds import accumulator_format, to_ints
from .check import check_shape
from .format import Format, Ints
from .narrow import Overflow, Rounding, _divide, _fit, _Mode, round_shift

LARGEST_SHIFT = 62


class Rule(_Mode):
    """How ``value * multiplier / 2**shift`` becomes an integer: a named rule, or a mode."""

    TFLITE_SINGLE = "tflite_single"
    """One rounding, ties up: TensorFlow Lite with ``TFLITE_SINGLE_ROUNDING``."""
    TFLITE_DOUBLE = "tflite_double"
    """Two roundings: 31 bits with ties up (SaturatingRoundingDoublingHighMul of gemmlowp), the
    others with ties away from zero (RoundingDivideByPOT)."""
    ONNX = "onnx"
    """One rounding, ties to even, the zero point after it: QuantizeLinear."""
    RND = "RND"
    RND_ZERO = "RND_ZERO"
    RND_MIN_INF = "RND_MIN_INF"
    RND_INF = "RND_INF"
    RND_CONV = "RND_CONV"
    TRN = "TRN"
    TRN_ZERO = "TRN_ZERO"

    @property
    def roundings(self) -> tuple[Rounding, ...]:
        """One mode, or two where 31 bits are dropped first."""
        if self is Rule.TFLITE_DOUBLE:
            return Rounding.RND, Rounding.RND_INF
        named = {Rule.TFLITE_SINGLE: Rounding.RND, Rule.ONNX: Rounding.RND_CONV}
        return (named.get(self) or Rounding(self.value),)


def rescale(
    value: ArrayLike,
    source: Format,
    target: Format,
    multiplier: ArrayLike,
    shift: ArrayLike,
    rounding: Rule | str = Rule.TFLITE_SINGLE,
    overflow: Overflow | str = Overflow.SAT,
    zero_point_in: int = 0,
    zero_point_out: int = 0,
) -> Ints:
    """``zero_point_out + round((value - zero_point_in) * multiplier / 2**shift)`` in ``target``.

    Integers in, integers out: the fraction bits of both formats play no part. Exact for every value
    of ``source``; raises ValueError where 63 bits do not suffice, or a rule is not defined.

    Parameters
    ----------
    value : ints in source, shape (...) or (..., channels)
    multiplier, shift : ints, both of shape () or both of shape (channels,); 0 <= shift <= 62
    rounding : a :class:`Rule` or its name; tflite_double takes multipliers of 31 bits and values
        of 32
    zero_point_in, zero_point_out : ints that stand for 0

    Source: B. Jacob et al., Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference, CVPR 2018, section 2.2; fixedpoint.h of gemmlowp.

    >>> rescale([-3, 5, 100], Format(8, 0), Format(8, 0), 3, 1, "onnx", zero_point_out=10).tolist()
    [6, 18, 127]
    """
    rule, overflow = Rule(rounding), Overflow(overflow)
    value = source.check(value, "rescale value")
    multiplier, shift = to_ints(multiplier, "rescale multiplier"), to_ints(shift, "rescale shift")
    rescale_bounds(source, multiplier, shift, rule, zero_point_in, zero_point_out)
    product, drop = (value - zero_point_in) * multiplier, shift
    first, *second = rule.roundings
    if second:
        high = np.minimum(drop, 31)
        product, drop, (first,) = _rounded(product, high, first), drop - high, second
    return _fit(_rounded(product, drop, first) + zero_point_out, 0, target, overflow)


def _rounded(value: Ints, drop: Ints, rounding: Rounding) -> Ints:
    """``value / 2**drop`` rounded to an integer; ``drop`` is one or one a channel."""
    result, drops = value.copy(), np.broadcast_to(drop, value.shape)
    for bits in np.unique(drop).tolist():
        if bits:
            here = drops == bits
            result[here] = _divide(value[here], bits, rounding)
    return result


def rescale_bounds(
    source: Format,
    multiplier: Ints,
    shift: Ints,
    rule: Rule,
    zero_point_in: int,
    zero_point_out: int,
    name: str = "rescale",
) -> tuple[int, int]:
    """Smallest and largest rescaled integer, before it is fitted; refuses what ``rescale`` does."""
    for point, value in (("in", zero_point_in), ("out", zero_point_out)):
        if type(value) is not int:
            raise TypeError(f"{name} zero_point_{point} must be an int, not {value!r}")
    check_shape(shift, multiplier.shape, f"{name} shift")
    if multiplier.ndim > 1:
        raise ValueError(
            f"{name} multiplier must have shape () or (channels,), not {multiplier.shape}"
        )
    if shift.min() < 0 or shift.max() > LARGEST_SHIFT:
        raise ValueError(
            f"{name} shift must be between 0 and {LARGEST_SHIFT}, "
            f"not span [{shift.min()}, {shift.max()}]"
        )
    found: list[int] = []
    for m, s in zip(multiplier.ravel().tolist(), shift.ravel().tolist(), strict=True):
        ends = [source.min - zero_point_in, source.max - zero_point_in]
        accumulator_format(min(m * n for n in ends), max(m * n for n in ends), 0, name)
        first, *second = rule.roundings
        if second:
            if not 0 <= m < 1 << 31:
                raise ValueError(f"{name} multiplier must be in [0, 2**31) for {rule}, not {m}")
            left = max(0, 31 - s)
            if min(ends) << left < -(1 << 31) or max(ends) << left >= 1 << 31:
                raise ValueError(
                    f"{name} value must fit 32 bits for {rule}, not span "
                    f"[{min(ends)}, {max(ends)}] times 2**{left}"
                )
        for n in ends:
            total, drop = n * m, s
            if second:
                total, drop = round_shift(total, min(s, 31), first), max(0, s - 31)
            found.append(round_shift(total, drop, (second or [first])[0]) + zero_point_out)
    accumulator_format(min(found), max(found), 0, name)
    return min(found), max(found)
