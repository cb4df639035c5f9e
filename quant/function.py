# SPDX-License-Identifier: Apache-2.0
"""Functions of one variable, evaluated so that every rounding of them is certain."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np

from .format import Format, Ints
from .narrow import Overflow, Rounding, round_shift, saturation_range, shift_narrow

GUARD = 24
"""Fraction bits, below one output unit, to which exact values are kept."""

_LARGE = 1 << 62  # stands for every value beyond: saturates in any format
_PRECISIONS = (96, 192, 384, 768, 1536, 3072, 6144)
_MP = mpmath.MPContext()  # of our own: the precision of anybody else's stays as it is

Open = tuple[Fraction | None, Fraction | None]
Real = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Symmetry:
    """``f(-x) = constant + sign * f(x)``; odd functions have sign -1 and constant 0."""

    sign: int
    constant: int = 0

    def __post_init__(self) -> None:
        if type(self.sign) is not int or type(self.constant) is not int:
            raise TypeError(f"Symmetry must have ints, not {self.sign!r} and {self.constant!r}")
        if self.sign not in (-1, 1) or (self.sign == 1 and self.constant):
            raise ValueError(
                "Symmetry must be even, or odd about a constant, "
                f"not have sign {self.sign} and constant {self.constant}"
            )


ODD, EVEN = Symmetry(-1), Symmetry(1)


def _nothing(x: Fraction) -> None:
    return None


def _anything(x: Fraction) -> Open:
    return None, None


def _everywhere(x: Fraction) -> bool:
    return True


@dataclass(frozen=True, eq=False)
class Function:
    """A real function of one variable, as precise as anybody asks.

    Parameters
    ----------
    name : what it is called in messages, files and Verilog
    real : (mpmath context, x) -> f(x), wrong by less than 2**(24 - precision) * max(1, |x|, |f|)
    exact : the value at a rational x where it is rational, else None: only there can a rounding be
        a tie
    between : open interval that holds f(x) at x where it is irrational; None where there is no
        bound. It decides roundings close to an asymptote.
    defined : whether there is a value at x
    symmetry : Symmetry, or None
    """

    name: str
    real: Real
    exact: Callable[[Fraction], Fraction | None] = _nothing
    between: Callable[[Fraction], Open] = _anything
    defined: Callable[[Fraction], bool] = _everywhere
    symmetry: Symmetry | None = None

    def at(self, x: Fraction, frac: int, rounding: Rounding) -> tuple[int, int] | None:
        """``f(x) * 2**frac``, with GUARD more bits to nearest, and rounded; None if undefined.

        Both certain: precision grows until no number at which a rounding changes is as near as the
        error, and rational values are computed as such. Raises ArithmeticError where 6144 bits do
        not suffice.
        """
        if not self.defined(x):
            return None
        value = self.exact(x)
        if value is not None:
            scaled = value * Fraction(2) ** frac
            return _rational(scaled * 2**GUARD, Rounding.RND), _rational(scaled, rounding)
        least, most = self.between(x)
        for precision in _PRECISIONS:
            low, high, scale = self._enclosure(x, frac, precision)
            if min(abs(low), abs(high)) >> scale >= _LARGE:
                large = _LARGE if low > 0 else -_LARGE
                return large, large
            if least is not None:
                low = max(low, math.floor(least * Fraction(2) ** (frac + scale)))
            if most is not None:
                high = min(high, math.ceil(most * Fraction(2) ** (frac + scale)))
            rounded = _settled(low, high, scale, rounding)
            near = _settled(low, high, scale - GUARD, Rounding.RND)
            if rounded is not None and near is not None:
                return _limited(near), _limited(rounded)
        raise ArithmeticError(
            f"Function {self.name} must be told from a tie at {x}, not be closer than "
            f"{_PRECISIONS[-1]} bits show"
        )

    def _enclosure(self, x: Fraction, frac: int, precision: int) -> tuple[int, int, int]:
        """Integers below and above ``f(x) * 2**(frac + scale)``, and scale."""
        _MP.prec = precision
        value = self.real(_MP, _MP.mpf(x.numerator) / x.denominator)
        largest = max(0, _MP.mag(value), math.ceil(abs(x)).bit_length())
        if value and _MP.mag(value) + frac > 64:
            low = _LARGE if value > 0 else -_LARGE
            return low, low, 0
        scale = precision
        middle = int(_MP.floor(_MP.ldexp(value, frac + scale)))
        error = 1 + (1 << max(0, largest + frac + 24))
        return middle - error, middle + 1 + error, scale

    @classmethod
    def of(
        cls, function: Callable[[float], float], name: str, symmetry: Symmetry | None = None
    ) -> "Function":
        """Any Python function of a float; its doubles are taken as the exact values.

        Undefined is where it is infinite or raises an ArithmeticError or a ValueError. NaN is
        refused, as is anything that is not a number.
        """

        def value(x: Fraction) -> Fraction | None:
            try:
                y = function(float(x))
            except (ArithmeticError, ValueError):
                return None
            if isinstance(y, bool) or not isinstance(y, int | float | np.floating | np.integer):
                raise TypeError(f"Function {name} must give a float, not {y!r}")
            if math.isnan(y):
                raise ValueError(f"Function {name} must give a number, not NaN at {float(x)}")
            return (
                Fraction(y.item() if isinstance(y, np.generic) else y)
                if abs(y) < math.inf
                else None
            )

        def defined(x: Fraction) -> bool:
            return value(x) is not None

        return cls(name, _never, value, defined=defined, symmetry=symmetry)


def _never(mp: Any, x: Any) -> Any:
    raise AssertionError("exact where it is defined")


def _rational(value: Fraction, rounding: Rounding) -> int:
    """An exact rational rounded to an integer, limited to what stands for the rest."""
    doubled, rest = divmod(2 * value.numerator, value.denominator)
    return _limited(round_shift(2 * doubled + (rest > 0), 2, rounding))


def _limited(value: int) -> int:
    return min(max(value, -_LARGE), _LARGE)


def _settled(low: int, high: int, scale: int, rounding: Rounding) -> int | None:
    """What every number of the open interval ``(low, high) / 2**scale`` is rounded to, or None."""
    half = low >> (scale - 1)  # roundings change at multiples of one half
    if -(-high >> (scale - 1)) - 1 != half:
        return None
    return round_shift(2 * half + 1, 2, rounding)


@dataclass(frozen=True, eq=False)
class Samples:
    """A function at every code of an input format, ascending from the smallest.

    Members
    -------
    values : ints, ``f * 2**(output_format.frac + GUARD)`` to nearest
    rounded : ints of the output format, rounded and fitted
    low, high : smallest and largest integer of the output
    """

    values: Ints
    rounded: Ints
    low: int
    high: int

    @property
    def exact(self) -> Ints:
        """The values, limited to the range of the output."""
        return np.clip(self.values, self.low << GUARD, self.high << GUARD)


def sample(
    function: Function,
    input_format: Format,
    output_format: Format,
    rounding: Rounding,
    overflow: Overflow,
    undefined: float | None = None,
) -> Samples:
    """``function`` at every code; ``undefined`` is its value where it has none (may be infinite).

    Raises ValueError for a function without a value somewhere if ``undefined`` is None.
    """
    exact, rounded = [], []
    filler: tuple[int, int] | None = None
    if undefined is not None:
        if math.isnan(undefined):
            raise ValueError(f"Function {function.name} undefined must be a number, not NaN")
        if math.isinf(undefined):
            filler = (_LARGE, _LARGE) if undefined > 0 else (-_LARGE, -_LARGE)
        else:
            value = Fraction(undefined) * Fraction(2) ** output_format.frac
            filler = _rational(value * 2**GUARD, Rounding.RND), _rational(value, rounding)
    unit = Fraction(2) ** -input_format.frac
    for code in range(input_format.min, input_format.max + 1):
        found = function.at(code * unit, output_format.frac, rounding)
        if found is None:
            found = filler
        if found is None:
            raise ValueError(
                f"Function {function.name} must be given a value (undefined) for where it has "
                f"none, as at {float(code * unit)}"
            )
        exact.append(found[0])
        rounded.append(found[1])
    low, high = saturation_range(output_format, overflow)
    if overflow is Overflow.WRAP and max(map(abs, rounded)) >= _LARGE:
        raise ValueError(f"Function {function.name} must stay below 2**62 units to wrap")
    fitted = shift_narrow(np.array(rounded, np.int64), 0, output_format, rounding, overflow)
    return Samples(np.array(exact, np.int64), fitted, low, high)


# The functions of neural networks.


def _at_zero(value: Fraction | int) -> Callable[[Fraction], Fraction | None]:
    """Rational at 0 only: elsewhere exp(x) of a rational x is transcendental (Lindemann)."""
    return lambda x: Fraction(value) if x == 0 else None


def _at_one(value: int) -> Callable[[Fraction], Fraction | None]:
    """Rational at 1 only: elsewhere log(x) of a rational x is transcendental."""
    return lambda x: Fraction(value) if x == 1 else None


def _within(low: int | Fraction | None, high: int | Fraction | None) -> Callable[[Fraction], Open]:
    ends = tuple(None if end is None else Fraction(end) for end in (low, high))
    return lambda x: (ends[0], ends[1])


def _odd_within(high: int | Fraction) -> Callable[[Fraction], Open]:
    return lambda x: (Fraction(0), Fraction(high)) if x > 0 else (Fraction(-high), Fraction(0))


def _gated(x: Fraction) -> Open:
    """Of x times a factor between 0 and 1."""
    return (Fraction(0), x) if x > 0 else (x, Fraction(0))


def _shrunk(x: Fraction) -> Open:
    return (max(x - 1, Fraction(0)), x) if x > 0 else (x, min(x + 1, Fraction(0)))


def _softplus_between(x: Fraction) -> Open:
    return max(x, Fraction(0)), None


def _log_sigmoid_between(x: Fraction) -> Open:
    return None, min(x, Fraction(0))


def _softsign(x: Fraction) -> Fraction:
    return x / (1 + abs(x))


def _rational_root(x: Fraction) -> Fraction | None:
    root = Fraction(math.isqrt(x.numerator), math.isqrt(x.denominator))
    return root if root * root == x else None


def _rational_reciprocal_root(x: Fraction) -> Fraction | None:
    root = _rational_root(x)
    return None if root is None else 1 / root


def _rational_power(x: Fraction) -> Fraction | None:
    """2**x at integers; rational nowhere else. Beyond 4096 it stands for what saturates."""
    if x.denominator > 1:
        return None
    return Fraction(2) ** max(-4096, min(4096, int(x)))


def _rational_logarithm(x: Fraction) -> Fraction | None:
    """log2(x) at powers of two; irrational at any other rational."""
    power = x.numerator.bit_length() - x.denominator.bit_length()
    return Fraction(power) if Fraction(2) ** power == x else None


def _log_sigmoid(mp: Any, x: Any) -> Any:
    return -mp.log1p(mp.exp(-x)) if x > 0 else x - mp.log1p(mp.exp(x))


def _softplus(mp: Any, x: Any) -> Any:
    return mp.log1p(mp.exp(x)) if x < 0 else x + mp.log1p(mp.exp(-x))


def _mish(mp: Any, x: Any) -> Any:
    if x > 0:
        small = mp.exp(-x)
        return x * (1 + 2 * small) / (1 + 2 * small + 2 * small**2)
    small = mp.exp(x)
    return x * small * (small + 2) / (small * (small + 2) + 2)


def _sigmoid(mp: Any, x: Any) -> Any:
    return 1 / (1 + mp.exp(-x)) if x > 0 else mp.exp(x) / (1 + mp.exp(x))


def _silu(mp: Any, x: Any) -> Any:
    return x * _sigmoid(mp, x)


def _gelu(mp: Any, x: Any) -> Any:
    return x * mp.erfc(-x / mp.sqrt(2)) / 2


def _gelu_tanh(mp: Any, x: Any) -> Any:
    inner = mp.sqrt(2 / mp.pi) * (x + mp.mpf(44715) / 10**6 * x**3)
    return x * _sigmoid(mp, 2 * inner)


def _parameter(alpha: float | Fraction, name: str, parameter: str = "alpha") -> Fraction:
    if isinstance(alpha, bool) or not isinstance(alpha, int | float | Fraction):
        raise TypeError(f"{name} {parameter} must be a number, not {alpha!r}")
    if not 0 < alpha < math.inf:
        raise ValueError(f"{name} {parameter} must be above 0, not {alpha}")
    return Fraction(alpha)


def _exponential(name: str, scale: Fraction, alpha: Fraction, width: Fraction) -> Function:
    """``scale * x``, below 0 ``scale * alpha * (exp(x / width) - 1)``."""

    def real(mp: Any, x: Any) -> Any:
        factor = scale * alpha
        inner = x * width.denominator / width.numerator
        return mp.expm1(inner) * factor.numerator / factor.denominator

    def exact(x: Fraction) -> Fraction | None:
        return scale * x if x >= 0 else None

    return Function(name, real, exact, _within(-scale * alpha, 0))


def elu(alpha: float = 1.0) -> Function:
    """``x``, below 0 ``alpha * (exp(x) - 1)``.

    Source: Clevert, Unterthiner, Hochreiter, Fast and Accurate Deep Network Learning by
    Exponential Linear Units, 2016 (https://arxiv.org/abs/1511.07289).
    """
    return _exponential("elu", Fraction(1), _parameter(alpha, "elu"), Fraction(1))


def celu(alpha: float = 1.0) -> Function:
    """``x``, below 0 ``alpha * (exp(x / alpha) - 1)``.

    Source: Barron, Continuously Differentiable Exponential Linear Units, 2017
    (https://arxiv.org/abs/1704.07483).
    """
    value = _parameter(alpha, "celu")
    return _exponential("celu", Fraction(1), value, value)


LARGEST_EXPONENT = 64
"""Largest magnitude of the exponent of a power."""


def power(exponent: float | Fraction) -> Function:
    """``x ** exponent``: of all x but 0 for whole exponents, of x > 0 for others (0 if above 0)."""
    if isinstance(exponent, bool) or not isinstance(exponent, int | float | Fraction):
        raise TypeError(f"power exponent must be a number, not {exponent!r}")
    if not -LARGEST_EXPONENT <= exponent <= LARGEST_EXPONENT:
        raise ValueError(
            f"power exponent must be from -{LARGEST_EXPONENT} to {LARGEST_EXPONENT}, not {exponent}"
        )
    value = Fraction(exponent)
    roots = value.denominator.bit_length() - 1
    if value.denominator != 1 << roots:
        raise ValueError(f"power exponent must have a power of two below it, not {exponent}")

    def real(mp: Any, x: Any) -> Any:
        return mp.power(x, mp.mpf(value.numerator) / value.denominator)

    def exact(x: Fraction) -> Fraction | None:
        """Rational where x is a perfect power of the denominator, being prime to the numerator."""
        root: Fraction | None = x
        for _ in range(roots if x else 0):
            if root is None or root == 1:
                break
            root = _rational_root(root)
        return None if root is None else Fraction(root**value.numerator)

    def defined(x: Fraction) -> bool:
        return (x > 0 or roots == 0 or x == 0) and (x != 0 or value >= 0)

    symmetry = None if roots else Symmetry(1 - 2 * (value.numerator % 2))
    return Function("power", real, exact, _within(0, None), defined, symmetry)


def reciprocal(dividend: float | Fraction = 1) -> Function:
    """``dividend / x``, of all x but 0."""
    if isinstance(dividend, bool) or not isinstance(dividend, int | float | Fraction):
        raise TypeError(f"reciprocal dividend must be a number, not {dividend!r}")
    if not -math.inf < dividend < math.inf:
        raise ValueError(f"reciprocal dividend must be finite, not {dividend}")
    value = Fraction(dividend)
    return Function(
        "reciprocal", _never, lambda x: value / x, defined=lambda x: x != 0, symmetry=ODD
    )


def swish(alpha: float | Fraction = 1.0) -> Function:
    """``x / (1 + exp(-alpha * x))``; silu for an alpha of 1.

    Source: Ramachandran, Zoph, Le, Searching for Activation Functions, 2017
    (https://arxiv.org/abs/1710.05941).
    """
    value = _parameter(alpha, "swish")

    def real(mp: Any, x: Any) -> Any:
        return x * _sigmoid(mp, x * value.numerator / value.denominator)

    return Function("swish", real, _at_zero(0), _gated)


def scaled_tanh(alpha: float | Fraction, beta: float | Fraction) -> Function:
    """``alpha * tanh(beta * x)``."""
    scale, slope = _parameter(alpha, "scaled_tanh"), _parameter(beta, "scaled_tanh", "beta")

    def real(mp: Any, x: Any) -> Any:
        inner = mp.tanh(x * slope.numerator / slope.denominator)
        return inner * scale.numerator / scale.denominator

    return Function("scaled_tanh", real, _at_zero(0), _odd_within(scale), symmetry=ODD)


_SELU_ALPHA = Fraction("1.6732632423543772848170429916717")
_SELU_SCALE = Fraction("1.0507009873554804934193349852946")


def selu(alpha: float | Fraction = _SELU_ALPHA, scale: float | Fraction = _SELU_SCALE) -> Function:
    """``scale * x``, below 0 ``scale * alpha * (exp(x) - 1)``.

    Source: Klambauer, Unterthiner, Mayr, Hochreiter, Self-Normalizing Neural Networks, 2017
    (https://arxiv.org/abs/1706.02515), and of both numbers.
    """
    return _exponential("selu", _parameter(scale, "selu"), _parameter(alpha, "selu"), Fraction(1))


_FUNCTIONS = (
    Function(
        "sigmoid", _sigmoid, _at_zero(Fraction(1, 2)), _within(0, 1), symmetry=Symmetry(-1, 1)
    ),
    Function("tanh", lambda mp, x: mp.tanh(x), _at_zero(0), _odd_within(1), symmetry=ODD),
    Function("log_sigmoid", _log_sigmoid, between=_log_sigmoid_between),
    Function("softplus", _softplus, between=_softplus_between),
    Function("softsign", _never, _softsign, symmetry=ODD),
    Function("tanhshrink", lambda mp, x: x - mp.tanh(x), _at_zero(0), _shrunk, symmetry=ODD),
    elu(),
    selu(),
    celu(),
    Function("gelu", _gelu, _at_zero(0), _gated),
    Function("gelu_tanh", _gelu_tanh, _at_zero(0), _gated),
    Function("silu", _silu, _at_zero(0), _gated),
    Function("mish", _mish, _at_zero(0), _gated),
    Function("exp", lambda mp, x: mp.exp(x), _at_zero(1), _within(0, None)),
    Function("exp2", lambda mp, x: mp.power(2, x), _rational_power, _within(0, None)),
    Function("log", lambda mp, x: mp.log(x), _at_one(0), defined=lambda x: x > 0),
    Function(
        "log2", lambda mp, x: mp.log(x) / mp.log(2), _rational_logarithm, defined=lambda x: x > 0
    ),
    reciprocal(),
    Function("sqrt", lambda mp, x: mp.sqrt(x), _rational_root, defined=lambda x: x >= 0),
    Function(
        "rsqrt", lambda mp, x: 1 / mp.sqrt(x), _rational_reciprocal_root, defined=lambda x: x > 0
    ),
    Function("sin", lambda mp, x: mp.sin(x), _at_zero(0), _within(-1, 1), symmetry=ODD),
    Function("cos", lambda mp, x: mp.cos(x), _at_zero(1), _within(-1, 1), symmetry=EVEN),
    Function("erf", lambda mp, x: mp.erf(x), _at_zero(0), _odd_within(1), symmetry=ODD),
    Function("atan", lambda mp, x: mp.atan(x), _at_zero(0), symmetry=ODD),
    Function("tan", lambda mp, x: mp.tan(x), _at_zero(0), symmetry=ODD),
    Function(
        "asin", lambda mp, x: mp.asin(x), _at_zero(0), defined=lambda x: abs(x) <= 1, symmetry=ODD
    ),
    Function("acos", lambda mp, x: mp.acos(x), _at_one(0), defined=lambda x: abs(x) <= 1),
    Function("sinh", lambda mp, x: mp.sinh(x), _at_zero(0), symmetry=ODD),
    Function("cosh", lambda mp, x: mp.cosh(x), _at_zero(1), _within(1, None), symmetry=EVEN),
    Function("asinh", lambda mp, x: mp.asinh(x), _at_zero(0), symmetry=ODD),
    Function("acosh", lambda mp, x: mp.acosh(x), _at_one(0), defined=lambda x: x >= 1),
    Function(
        "atanh", lambda mp, x: mp.atanh(x), _at_zero(0), defined=lambda x: abs(x) < 1, symmetry=ODD
    ),
)
FUNCTIONS: dict[str, Function] = {function.name: function for function in _FUNCTIONS}
"""Functions by name; those with a parameter have their usual one."""
