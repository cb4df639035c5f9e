# SPDX-License-Identifier: Apache-2.0
"""Functions of one variable: a line for each in KINDS.

Floats go through arithmetic that IEEE 754 leaves no choice about, so that every machine finds the
same; numpy's own exponential is another one on other processors.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

import blocks
import quant
from bitblocks.graph import Floats, Layer, Shape
from bitblocks.quantisation import NARROWED, Decision, Stage
from blocks import activation
from hdl import Target
from hdl.function import cheapest
from quant import FUNCTIONS, Format

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
    real : (x, *parameters) -> y in floats
    exact : (input, output_format, modes, *parameters) -> block, of what polynomials are
    function : (*parameters) -> Function that is approximated, of anything else
    """

    real: Callable[..., Floats]
    exact: Callable[..., Any] | None = None
    function: Callable[..., quant.Function] | None = None


def _named(name: str) -> Callable[..., quant.Function]:
    return lambda: FUNCTIONS[name]


def _clip(tensor: blocks.Tensor, format: Format, modes: Any, low: float, high: float) -> Any:
    """An end that is infinite lies outside of the input's format."""
    ends = np.ldexp([float(tensor.format.min), float(tensor.format.max)], -tensor.format.frac)
    low, high = (low, max(high, ends[0])) if low > -math.inf else (min(high, ends[0]), high)
    high = high if high < math.inf else max(low, ends[1])
    return activation.clip(tensor, Fraction(low), Fraction(high), format, *modes)


KINDS: dict[str, Kind] = {
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
    "sigmoid": Kind(sigmoid, function=_named("sigmoid")),
    "tanh": Kind(tanh, function=_named("tanh")),
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

    decides = NARROWED

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
                real, tensor.format, format, rounding=rounding, overflow=overflow
            )
            form, _ = cheapest(forms, Target.named(PRICED))
            block = blocks.Nonlinearity(tensor, form)
        return Decision(block, (stage.function_bounds(block),))
