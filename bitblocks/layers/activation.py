# SPDX-License-Identifier: Apache-2.0
"""Functions of one variable: a line for each in KINDS.

Floats go through arithmetic that IEEE 754 leaves no choice about, so that every machine finds the
same; numpy's own exponential is another one on other processors.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, NamedTuple

import mpmath
import numpy as np

import blocks
import quant
from bitblocks.errors import InputError
from bitblocks.graph import Floats, Layer, Shape
from bitblocks.quantisation import NARROWED, WEIGHTED, Decision, Stage, frac_for
from blocks import activation
from hdl import Target
from hdl.function import cheapest
from quant import (
    FUNCTIONS,
    Format,
    Ints,
    Overflow,
    Rounding,
    accumulator_format,
    from_float,
)

PRICED = "ecp5"
"""The target whose prices choose among forms of one function; the integers depend on it."""


def exp(x: Floats) -> Floats:
    """e**x within 2 units in the last place."""
    x = np.clip(x, -745.0, 709.0)
    power = np.rint(x * 1.4426950408889634)
    rest = (x - power * 0.693147180369123816490) - power * 1.90821492927058770002e-10
    result = np.zeros_like(x)
    for factorial in FACTORIALS:
        result = result * rest + 1 / factorial
    return np.ldexp(result, power.astype(np.int32))


FACTORIALS = [float(math.factorial(n)) for n in range(17, -1, -1)]


def log1p(x: Floats) -> Floats:
    """log(1 + x) for x from 0 to 1, by the series of the inverse hyperbolic tangent."""
    ratio = x / (2.0 + x)
    square, result = ratio * ratio, np.zeros_like(x)
    for n in range(41, -1, -2):
        result = result * square + 1 / n
    return 2.0 * ratio * result


def erf(x: Floats) -> Floats:
    """The error function, by a series without cancellation; 1 beyond 6.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 1964, 7.1.6.
    """
    x = np.clip(x, -6.0, 6.0)
    result = np.zeros_like(x)
    for n in range(241, 0, -2):
        result = 1.0 + result * (2.0 * x * x / (n + 2))
    return 1.1283791670955126 * x * exp(-x * x) * result


def log(x: Floats) -> Floats:
    """log(x), NaN below and at 0."""
    fraction, power = np.frexp(np.where(x > 0, x, 1.0))
    low = fraction < SQRT_HALF
    fraction, power = np.where(low, 2.0 * fraction, fraction), power - low
    ratio = (fraction - 1.0) / (fraction + 1.0)
    square, result = ratio * ratio, np.zeros_like(fraction)
    for n in range(25, -1, -2):
        result = result * square + 1 / n
    result = power * LN2[0] + (2.0 * ratio * result + power * LN2[1])
    return np.where(x > 0, result, np.nan)


SQRT_HALF = 0.7071067811865476
LN2 = 0.693147180369123816490, 1.90821492927058770002e-10
"""A short number and the rest; so are the others."""
QUARTER_TURN = 1.57079632673412561417, 6.07710050630396597660e-11, 2.02226624879595063154e-21
"""Source: Sun Microsystems, fdlibm, 1993, e_rem_pio2.c."""
HALF_PI = 1.5707963267948966


def _turned(x: Floats) -> tuple[Floats, Floats]:
    """Quarter turns in x, to nearest, and what is left of it."""
    turns = np.rint(x * (1 / HALF_PI))
    rest = x - turns * QUARTER_TURN[0] - turns * QUARTER_TURN[1] - turns * QUARTER_TURN[2]
    far = np.abs(turns) > 2.0**19  # products with the short numbers are no longer exact
    for place in zip(*np.nonzero(far), strict=True):
        with mpmath.workprec(1200):
            count = mpmath.nint(mpmath.mpf(float(x[place])) * 2 / mpmath.pi)
            rest[place] = float(mpmath.mpf(float(x[place])) - count * mpmath.pi / 2)
            turns[place] = float(count % 4)
    return turns, rest


def sin(x: Floats) -> Floats:
    return _wave(*_turned(x))


def cos(x: Floats) -> Floats:
    turns, rest = _turned(x)
    return _wave(turns + 1.0, rest)


def tan(x: Floats) -> Floats:
    turns, rest = _turned(x)
    return _wave(turns, rest) / _wave(turns + 1.0, rest)


def _wave(turns: Floats, rest: Floats) -> Floats:
    """sin of so many quarter turns and a rest of at most an eighth of a turn, by its series."""
    square, sine, cosine = rest * rest, np.zeros_like(rest), np.zeros_like(rest)
    for n in range(20, -1, -2):
        sine = 1.0 - sine * square / ((n + 2) * (n + 3))
        cosine = 1.0 - cosine * square / ((n + 1) * (n + 2))
    quarter = np.mod(turns, 4.0)
    value = np.where(np.mod(turns, 2.0) == 0, rest * sine, cosine)
    return np.where(quarter < 2.0, value, -value)


def atan(x: Floats) -> Floats:
    """Of an eighth of the angle by its series, the eighth by half-angle formulas."""
    size = np.abs(x)
    part = np.where(size > 1.0, 1.0 / np.maximum(size, 1.0), size)
    for _ in range(3):
        part = part / (1.0 + np.sqrt(1.0 + part * part))
    square, result = part * part, np.zeros_like(part)
    for n in range(27, -1, -2):
        result = 1 / n - result * square
    result = 8.0 * part * result
    return np.copysign(np.where(size > 1.0, HALF_PI - result, result), x)


def asin(x: Floats) -> Floats:
    inside = np.clip(x, -1.0, 1.0)
    with np.errstate(divide="ignore"):
        angle = atan(inside / np.sqrt((1.0 - inside) * (1.0 + inside)))
    return np.where(np.abs(x) <= 1.0, angle, np.nan)


def sinh(x: Floats) -> Floats:
    return 0.5 * exp(x) - 0.5 * exp(-x)


def cosh(x: Floats) -> Floats:
    return 0.5 * exp(x) + 0.5 * exp(-x)


def asinh(x: Floats) -> Floats:
    size = np.abs(x)
    return np.copysign(log(size + np.sqrt(size * size + 1.0)), x)


def acosh(x: Floats) -> Floats:
    above = np.maximum(x, 1.0)
    result = log(above + np.sqrt((above - 1.0) * (above + 1.0)))
    return np.where(x >= 1.0, result, np.nan)


def atanh(x: Floats) -> Floats:
    inside = np.where(np.abs(x) < 1.0, x, np.nan)
    return 0.5 * log((1.0 + inside) / (1.0 - inside))


def sqrt(x: Floats) -> Floats:
    return np.sqrt(np.where(x >= 0, x, np.nan))


def reciprocal(x: Floats, dividend: float) -> Floats:
    return dividend / np.where(x == 0, np.nan, x)


def power(x: Floats, exponent: float) -> Floats:
    """By repeated squares for whole exponents."""
    if exponent != int(exponent):
        result = exp(exponent * log(np.where(x > 0, x, 1.0)))
        at_zero = 0.0 if exponent > 0 else np.nan
        return np.where(x > 0, result, np.where(x < 0, np.nan, at_zero))
    result, factor = np.ones_like(x), x
    for bit in reversed(f"{abs(int(exponent)):b}"):
        result = result * factor if bit == "1" else result
        factor = factor * factor
    return result if exponent >= 0 else reciprocal(result, 1.0)


def sigmoid(x: Floats) -> Floats:
    return 1.0 / (1.0 + exp(-x))


def tanh(x: Floats) -> Floats:
    small = exp(-2.0 * np.abs(x))
    return np.copysign((1.0 - small) / (1.0 + small), x)


def softplus(x: Floats) -> Floats:
    return np.maximum(x, 0.0) + log1p(exp(-np.abs(x)))


def _exponential(x: Floats, scale: float, alpha: float, width: float) -> Floats:
    return scale * np.where(x > 0, x, alpha * (exp(np.minimum(x, 0.0) / width) - 1.0))


class Kind(NamedTuple):
    """What a function of one variable is.

    Parameters
    ----------
    real : (x, *parameters) -> y in floats, NaN where there is none
    exact : (input, output_format, modes, *parameters) -> block, of what polynomials are
    function : (*parameters) -> Function that is approximated, of anything else
    partial : whether there are x without a y
    """

    real: Callable[..., Floats]
    exact: Callable[..., Any] | None = None
    function: Callable[..., quant.Function] | None = None
    partial: bool = False


def _named(name: str) -> Callable[..., quant.Function]:
    return lambda: FUNCTIONS[name]


def _clip(tensor: blocks.Tensor, format: Format, modes: Any, low: float, high: float) -> Any:
    """An end that is infinite lies outside of the input's format."""
    ends = np.ldexp([float(tensor.format.min), float(tensor.format.max)], -tensor.format.frac)
    low, high = (low, max(high, ends[0])) if low > -math.inf else (min(high, ends[0]), high)
    high = high if high < math.inf else max(low, ends[1])
    return activation.clip(tensor, Fraction(low), Fraction(high), format, *modes)


KINDS: dict[str, Kind] = {
    "relu": Kind(lambda x: np.maximum(x, 0.0), lambda i, o, m: activation.leaky_relu(i, 0, o, *m)),
    "affine": Kind(
        lambda x, alpha, beta: alpha * x + beta,
        lambda i, o, m, alpha, beta: activation.from_pieces(
            i, [(None, True, (Fraction(beta), Fraction(alpha), 0))], o, *m
        ),
    ),
    "leaky_relu": Kind(
        lambda x, slope: np.where(x < 0, slope * x, x),
        lambda i, o, m, slope: activation.leaky_relu(i, Fraction(slope), o, *m),
    ),
    "thresholded_relu": Kind(
        lambda x, alpha: np.where(x > alpha, x, 0.0),
        lambda i, o, m, alpha: activation.thresholded_relu(i, Fraction(alpha), o, *m),
    ),
    "clip": Kind(lambda x, low, high: np.minimum(np.maximum(x, low), high), _clip),
    "absolute": Kind(np.abs, lambda i, o, m: activation.absolute(i, o, *m)),
    "hardsigmoid": Kind(
        lambda x, alpha, beta: np.clip(alpha * x + beta, 0.0, 1.0),
        lambda i, o, m, alpha, beta: activation.hardsigmoid(
            i, o, *m, alpha=Fraction(alpha), beta=Fraction(beta)
        ),
    ),
    "hardswish": Kind(
        lambda x: x * np.clip(x / 6.0 + 0.5, 0.0, 1.0),
        lambda i, o, m: activation.hardswish(i, o, *m),
    ),
    "shrink": Kind(
        lambda x, bias, lambd: np.where(x < -lambd, x + bias, np.where(x > lambd, x - bias, 0.0)),
        lambda i, o, m, bias, lambd: activation.shrink(i, Fraction(bias), Fraction(lambd), o, *m),
    ),
    "sign": Kind(np.sign, lambda i, o, m: activation.sign(i, o, *m)),
    "square": Kind(
        lambda x: x * x,
        lambda i, o, m: activation.from_pieces(i, [(None, True, (0, 0, 1))], o, *m),
    ),
    "sigmoid": Kind(sigmoid, function=_named("sigmoid")),
    "tanh": Kind(tanh, function=_named("tanh")),
    "scaled_tanh": Kind(lambda x, alpha, beta: alpha * tanh(beta * x), function=quant.scaled_tanh),
    "softplus": Kind(softplus, function=_named("softplus")),
    "softsign": Kind(lambda x: x / (1.0 + np.abs(x)), function=_named("softsign")),
    "silu": Kind(lambda x: x * sigmoid(x), function=_named("silu")),
    "mish": Kind(lambda x: x * tanh(softplus(x)), function=_named("mish")),
    "erf": Kind(erf, function=_named("erf")),
    "exp": Kind(exp, function=_named("exp")),
    "gelu": Kind(lambda x: x * (0.5 + 0.5 * erf(x * math.sqrt(0.5))), function=_named("gelu")),
    "gelu_tanh": Kind(
        lambda x: x * sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x)),
        function=_named("gelu_tanh"),
    ),
    "elu": Kind(lambda x, alpha: _exponential(x, 1.0, alpha, 1.0), function=quant.elu),
    "selu": Kind(lambda x, alpha, scale: _exponential(x, scale, alpha, 1.0), function=quant.selu),
    "celu": Kind(lambda x, alpha: _exponential(x, 1.0, alpha, alpha), function=quant.celu),
    "swish": Kind(lambda x, alpha: x * sigmoid(alpha * x), function=quant.swish),
    "sin": Kind(sin, function=_named("sin")),
    "cos": Kind(cos, function=_named("cos")),
    "tan": Kind(tan, function=_named("tan")),
    "asin": Kind(asin, function=_named("asin"), partial=True),
    "acos": Kind(lambda x: HALF_PI - asin(x), function=_named("acos"), partial=True),
    "atan": Kind(atan, function=_named("atan")),
    "sinh": Kind(sinh, function=_named("sinh")),
    "cosh": Kind(cosh, function=_named("cosh")),
    "asinh": Kind(asinh, function=_named("asinh")),
    "acosh": Kind(acosh, function=_named("acosh"), partial=True),
    "atanh": Kind(atanh, function=_named("atanh"), partial=True),
    "log": Kind(log, function=_named("log"), partial=True),
    "sqrt": Kind(sqrt, function=_named("sqrt"), partial=True),
    "reciprocal": Kind(reciprocal, function=quant.reciprocal, partial=True),
    "power": Kind(power, function=quant.power, partial=True),
}


@dataclass(frozen=True, eq=False)
class Activation(Layer):
    """``y = f(x)``, number by number.

    Parameters
    ----------
    function : a name of KINDS
    parameters : floats, as many as it has
    """

    function: str
    parameters: tuple[float, ...] = ()

    decides: ClassVar[tuple[str, ...]] = NARROWED

    def shape(self, source: Shape) -> Shape:
        return source

    def evaluate(self, x: Floats) -> Floats:
        return KINDS[self.function].real(x, *self.parameters)

    def quantise(self, stage: Stage) -> Decision:
        """Exact where polynomials are, else less than an output unit wrong."""
        kind, (tensor,) = KINDS[self.function], stage.inputs
        format = stage.function_format(self.evaluate)
        if kind.exact is not None:
            block = kind.exact(tensor, format, stage.modes, *self.parameters)
        else:
            assert kind.function is not None
            real = kind.function(*self.parameters)
            rounding, overflow = stage.modes
            forms = quant.candidates(
                real,
                tensor.format,
                format,
                rounding=rounding,
                overflow=overflow,
                undefined=self.filler,
            )
            form, _ = cheapest(forms, Target.named(PRICED))
            block = blocks.Nonlinearity(tensor, form)
        return Decision(block, (stage.function_bounds(block),))

    @property
    def filler(self) -> float | None:
        """What the function gives where it has no value; None if it has values everywhere."""
        return None


@dataclass(frozen=True, eq=False)
class PartialActivation(Activation):
    """``y = f(x)``, number by number, of a function that has no value for some x.

    Numbers without a value are refused, unless ``pole`` says what to give.

    Parameters
    ----------
    pole : float
    """

    pole: float | None = None

    decides = (*NARROWED, "pole")

    def evaluate(self, x: Floats) -> Floats:
        """Raises InputError for a number without a value."""
        y = super().evaluate(x)
        if self.pole is None and np.isnan(y).any():
            raise at_pole(self.name, self.function, x[np.isnan(y)].flat[0])
        return np.where(np.isnan(y), 0.0 if self.pole is None else self.pole, y)

    @property
    def filler(self) -> float:
        """0 stands for codes that never come."""
        return 0.0 if self.pole is None else self.pole

    def quantise(self, stage: Stage) -> Decision:
        """The square root of numbers from 0 on is exact, whatever their width."""
        (x,), (tensor,) = stage.sources, stage.inputs
        low, high = int(x.low.min()), int(x.high.max())
        if self.function != "sqrt" or low < 0:
            return super().quantise(stage)
        format = stage.range_format(float(np.sqrt(np.ldexp(float(high), -x.format.frac))), False)
        conversion = None
        if tensor.format.signed:
            unsigned = Format(max(high.bit_length(), 1), tensor.format.frac, False)
            conversion = blocks.Identity(tensor, unsigned)
            tensor = blocks.Tensor(tensor.shape, unsigned)
        block = blocks.SquareRoot(tensor, format, *stage.modes)
        bounds = block.reference(np.stack([x.low, x.high]))
        return Decision(block, ((bounds[0], bounds[1]),), (conversion,))


def at_pole(layer: str, function: str, x: float) -> InputError:
    """That ``layer`` reads a number for which its function has no value."""
    return InputError(
        f"layer {layer} must not read {x:.6g}, where {function} has no value; a Clip before it "
        f"can keep that away, or the field 'pole' of its precision says what to give"
    )


@dataclass(frozen=True, eq=False)
class PRelu(Layer):
    """``x`` from 0 on, ``slope * x`` below.

    Parameters
    ----------
    slope : floats, one for each channel
    """

    slope: Floats

    decides = WEIGHTED

    def shape(self, source: Shape) -> Shape:
        if not source or source[-1:] != self.slope.shape:
            raise InputError(
                f"PRelu {self.name} input must have {len(self.slope)} channels, not shape {source}"
            )
        return source

    def evaluate(self, x: Floats) -> Floats:
        return np.where(x < 0, self.slope * x, x)

    def quantise(self, stage: Stage) -> Decision:
        (x,), (tensor,), settings = stage.sources, stage.inputs, stage.settings
        number = settings.weight_format
        if number is None:
            bits = settings.weight_bits
            number = Format(bits, frac_for(float(np.abs(self.slope).max()), bits, signed=True))
        codes = from_float(self.slope, number)
        frac = max(number.frac, 0)
        factors = codes << frac - number.frac

        def exact(values: Ints) -> Ints:
            return np.where(values < 0, values * factors, values << frac)

        ends = [exact(x.low), exact(x.high), exact(np.clip(0, x.low, x.high))]
        low, high = np.minimum.reduce(ends), np.maximum.reduce(ends)
        whole = accumulator_format(low, high, x.format.frac + frac, stage.name)
        format = stage.output_format(exact(x.frames), low, high, whole.frac)
        if (codes == codes[0]).all():
            slope = Fraction(int(codes[0])) / Fraction(2) ** number.frac
            block: Any = activation.leaky_relu(tensor, slope, format, *stage.modes)
        else:
            block = blocks.PReLU(tensor, codes, number, format, *stage.modes)
        return stage.decision(block, low, high, whole)


@dataclass(frozen=True, eq=False)
class Rounded(Layer):
    """x rounded to a whole number: by floor, ceil, or to nearest and to even from the middle."""

    function: str

    def shape(self, source: Shape) -> Shape:
        return source

    def evaluate(self, x: Floats) -> Floats:
        return {"floor": np.floor, "ceil": np.ceil, "round": np.rint}[self.function](x)

    def quantise(self, stage: Stage) -> Decision:
        """Exact: no whole number takes more bits than what is rounded."""
        (x,), (tensor,) = stage.sources, stage.inputs
        frac = x.format.frac
        if frac <= 0:
            return Decision(blocks.Identity(tensor, x.format), ((x.low, x.high),))
        added = (1 << frac) - 1 if self.function == "ceil" else 0
        rounding = Rounding.RND_CONV if self.function == "round" else Rounding.TRN
        low, high = int(x.low.min()), int(x.high.max())
        number = Format.containing(low + added, high + added, frac)
        wide = Format(number.width, 0, number.signed)
        ends = quant.narrow([low + added, high + added], number, wide, rounding, Overflow.SAT)
        format = Format.containing(int(ends[0]), int(ends[1]), 0)
        block = blocks.Piecewise(
            tensor, (), ((added, 1, 0),), 1, frac, format, rounding, Overflow.SAT
        )
        return Decision(block, ((block.reference(x.low), block.reference(x.high)),))
