# SPDX-License-Identifier: Apache-2.0
"""Quotients by small constants: narrowed exactly, and by a multiplication that cannot be told from
the division.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from .format import Format, Ints
from .narrow import Overflow, Rounding, shift_narrow


def narrow_quotient(
    value: Ints,
    divisor: Ints,
    frac: int,
    target: Format,
    rounding: Rounding = Rounding.RND,
    overflow: Overflow = Overflow.SAT,
) -> Ints:
    """``value / divisor`` rounded once to ``target.frac`` fraction bits, then fitted.

    The quotient is cut to half units of y and one bit that says whether anything was cut off: no
    mode of rounding tells that from the quotient itself.

    Parameters
    ----------
    value : ints with ``frac`` fraction bits
    divisor : ints above 0, in a shape that broadcasts against value
    """
    gain = target.frac + 1 - frac
    scaled, divisor = value << max(gain, 0), np.asarray(divisor) << max(-gain, 0)
    halves = scaled // divisor
    rest = (halves * divisor != scaled).astype(np.int64)
    return shift_narrow(2 * halves + rest, 2, target, rounding, overflow)


@dataclass(frozen=True)
class Reciprocals:
    """``value / divisor`` as ``(value * factor + offset) >> shift``, for several divisors.

    ``(value * factor + offset) >> cut`` is the quotient with ``shift - cut`` more fraction bits,
    rounded down, such that no two quotients on different sides of a multiple of half a unit of y,
    or one on it and one not, become the same, nor an exact one anything but itself. So it may stand
    for the quotient before any rounding.

    Parameters
    ----------
    factors : ints, one for each divisor
    offset, cut, shift : ints
    """

    factors: tuple[int, ...]
    offset: int
    cut: int
    shift: int

    @classmethod
    def of(
        cls, divisors: Sequence[int], bounds: Sequence[tuple[int, int]], gain: int
    ) -> "Reciprocals":
        """For values between ``bounds``, a pair for each divisor.

        ``gain``: fraction bits that half a unit of y has more than the values.

        With a factor of ``2**shift / divisor + error``, 0 <= error < 1, an offset that covers
        ``-low * error`` makes every result too large by less than ``2**cut``; the smallest distance
        of a quotient from the multiple of half a unit below it, and above it, is
        ``1 / (divisor * 2**max(gain, 0))``: it must be ``2**cut / 2**shift`` at least.

        Source: T. Granlund, P. L. Montgomery, Division by invariant integers using multiplication,
        1994, theorem 4.2, for values of both signs and any rounding.
        """
        shift = 0
        while True:
            factors = tuple(-(-(1 << shift) // d) for d in divisors)
            errors = [f - Fraction(1 << shift, d) for f, d in zip(factors, divisors, strict=True)]
            pairs = list(zip(errors, bounds, strict=True))
            offset = max(0, *(-(low * error // 1) for error, (low, _) in pairs))
            most = max(high * error + offset for error, (_, high) in pairs)
            cut = max(0, int(most).bit_length())
            if all(d << (max(gain, 0) + cut) <= 1 << shift for d in divisors) or not any(errors):
                return cls(factors, int(offset), cut if any(errors) else 0, shift)
            shift += 1
