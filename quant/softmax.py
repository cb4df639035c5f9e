# SPDX-License-Identifier: Apache-2.0
"""Softmax in integers, less than one output unit from the truth for every input."""

import functools
from dataclasses import dataclass
from fractions import Fraction

import mpmath
import numpy as np
from numpy.typing import ArrayLike

from .approximation import Approximation
from .fitting import approximate
from .format import Format, Ints
from .function import Function

_MP = mpmath.MPContext()
_MP.prec = 200
_MAX_COUNT = 4096
_MAX_INPUT_BITS = 16
_MAX_FRAC = 12


@dataclass(frozen=True, eq=False)
class Softmax:
    """``exp(x - max) / sum(exp(x - max))`` over the last axis, by powers of two.

    With ``d = max - x`` and ``t = d * factor``, a power of two with ``scale`` fraction bits in the
    exponent: its fraction, rounded to ``log2(len(powers))`` bits, is looked up in ``powers`` and
    shifted right by its whole part. The sum of all is normalised to 1 <= m < 2, ``reciprocal``
    gives ``1 / m`` from m's leading fraction bits, and the product is rounded half up.

    Parameters
    ----------
    count : int, numbers on the last axis
    input_format, output_format : Format of x and of y, y unsigned
    factor, scale : ints
    powers : ints, ``2**(-j / len)`` with ``bits`` fraction bits
    bits : int
    reciprocal : Approximation of ``1 / (1 + t)``, t unsigned and below 1

    Source: Softermax (Stevens et al., 2021, https://arxiv.org/abs/2103.09301) for base two; the
    bound is our own.
    """

    count: int
    input_format: Format
    output_format: Format
    factor: int
    scale: int
    powers: Ints
    bits: int
    reciprocal: Approximation

    @classmethod
    def of(cls, count: int, input_format: Format, output_format: Format) -> "Softmax":
        """The smallest integers that guarantee an error below one output unit.

        Raises TypeError, ValueError : a count that is not an int from 1 to 4096, an input of more
            than 16 bits, an output that is signed, has less than 1 or more than 12 fraction bits
            or an integer part; a bound that no integers meet
        """
        _check(count, input_format, output_format)
        frac = output_format.frac
        farthest = input_format.max - input_format.min
        reciprocal = _reciprocal(min(16, frac + 5), frac + 6)
        for more in range(6):
            scale = max(0, (farthest.bit_length() - input_format.frac)) + frac + 3 + more
            factor = int(_MP.nint(_MP.ldexp(1 / _MP.log(2), scale - input_format.frac)))
            size, bits = frac - 1 + more, frac + count.bit_length() + 4 + more
            powers = [
                int(_MP.nint(_MP.ldexp(_MP.power(2, -_MP.mpf(j) / (1 << size)), bits)))
                for j in range(1 << size)
            ]
            spec = cls(
                count,
                input_format,
                output_format,
                factor,
                scale,
                np.array(powers, np.int64),
                bits,
                reciprocal,
            )
            if spec.bound < 1:
                return spec
        raise ValueError(
            "Softmax must have formats with which its error stays below a unit, "
            f"not {input_format} and {output_format}"
        )

    @property
    def _size(self) -> int:
        """Bits of the fraction of an exponent."""
        return len(self.powers).bit_length() - 1

    @property
    def bound(self) -> Fraction:
        """No y is farther from the truth, limited to the output's range, in units of y.

        Exponents are wrong by half of their last bit and by d times what the factor is wrong. If
        every term is wrong by at most a share r, no quotient is wrong by more than
        r / 2 / (1 - r). Terms are then rounded and cut, by less than 1.5 units each, and the
        largest is 1. The reciprocal is cut before and wrong after. At last y is rounded.
        """
        farthest = self.input_format.max - self.input_format.min
        # log2(e) lies within 2**-190 of this; what the factor is wrong is taken a little larger.
        true = _fraction(_MP.ldexp(1 / _MP.log(2), self.scale - self.input_format.frac))
        wrong = abs(self.factor - true) + Fraction(1, 1 << 100)
        exponent = Fraction(1, 2 << self._size) + farthest * wrong / (1 << self.scale)
        share = exponent * Fraction(7, 10)  # above exponent * log(2) ...
        if share > Fraction(1, 4):
            return Fraction(1 << self.output_format.frac)  # anything may come
        share = share / (1 - share)  # ... and this above exp(that) - 1
        quotient = share / 2 / (1 - share)
        cut = Fraction(3 * (1 + self.count), 2 << self.bits)
        inverse, error = self.reciprocal, self.reciprocal.max_error
        assert error is not None  # measured when it was made
        normalised = Fraction(1, 1 << inverse.input_format.frac)
        normalised += 2 * Fraction(error) / (1 << inverse.output_format.frac)
        whole = quotient + cut + normalised
        return whole * (1 << self.output_format.frac) + Fraction(1, 2)

    def reference(self, x: ArrayLike) -> Ints:
        """Integers in, integers out, shape (..., count)."""
        values = self.input_format.check(x, "Softmax input")
        if values.shape[-1:] != (self.count,):
            raise ValueError(
                f"Softmax input must have shape (..., {self.count}), not {values.shape}"
            )
        distance = values.max(axis=-1, keepdims=True) - values
        exponent = distance * self.factor
        drop = self.scale - self._size
        rounded = exponent + (1 << drop >> 1) >> drop
        whole = np.minimum(rounded >> self._size, 63)
        terms = self.powers[rounded & (len(self.powers) - 1)] >> whole
        total = terms.sum(axis=-1, keepdims=True)
        place = _bit_length(total) - 1  # of the leading one
        inverse = self.reciprocal
        leading = inverse.input_format.frac
        above = np.maximum(place - leading, 0)
        mantissa = (total >> above) << np.maximum(leading - place, 0)
        quotient = inverse.reference(mantissa - (1 << leading))
        shift = place + inverse.output_format.frac - self.output_format.frac
        y = terms * quotient + (np.int64(1) << shift - 1) >> shift
        return np.minimum(y, self.output_format.max)


def _bit_length(values: Ints) -> Ints:
    """Of positive numbers below 2**53; exact, for doubles hold them."""
    return np.frexp(values.astype(np.float64))[1].astype(np.int64)


def _inverse(x: Fraction) -> Fraction:
    return 1 / (1 + x)


def _never(mp: object, x: object) -> None:
    raise AssertionError("rational everywhere")


@functools.cache
def _reciprocal(bits: int, frac: int) -> Approximation:
    """``1 / (1 + t)`` from ``bits`` fraction bits of t; 1 itself is in range."""
    function = Function("1 / (1 + t)", _never, _inverse)
    return approximate(function, Format(bits, bits, False), Format(frac + 1, frac, False), 1)


def _fraction(value: object) -> Fraction:
    sign, mantissa, exponent, _ = _MP.mpf(value)._mpf_
    return (-1) ** sign * Fraction(int(mantissa)) * Fraction(2) ** int(exponent)


def _check(count: object, input_format: object, output_format: object) -> None:
    if type(count) is not int:
        raise TypeError(f"Softmax count must be an int, not {count!r}")
    if not 1 <= count <= _MAX_COUNT:
        raise ValueError(f"Softmax count must be between 1 and {_MAX_COUNT}, not {count}")
    for number, name in ((input_format, "input_format"), (output_format, "output_format")):
        if not isinstance(number, Format):
            raise TypeError(f"Softmax {name} must be a Format, not {number!r}")
    assert isinstance(input_format, Format)
    assert isinstance(output_format, Format)
    if input_format.width > _MAX_INPUT_BITS or not 0 <= input_format.frac <= 24:
        raise ValueError(
            "Softmax input_format must have at most 16 bits, 0 to 24 of them behind the point, "
            f"not be {input_format}"
        )
    frac = output_format.frac
    if (
        output_format.signed
        or not 1 <= frac <= _MAX_FRAC
        or output_format.width
        not in (
            frac,
            frac + 1,
        )
    ):
        raise ValueError(
            "Softmax output_format must be unsigned with 1 to 12 fraction bits and at most one "
            f"other, not {output_format}"
        )
