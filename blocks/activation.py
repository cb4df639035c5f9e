# SPDX-License-Identifier: Apache-2.0
"""Exact activation functions: pieces of polynomials with rational factors, without any table.

Each function of this file makes a :class:`Piecewise`. Their constants are real numbers, given
exactly: ints or Fractions, never floats.
"""

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from math import ceil, floor, lcm
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

import quant
from hdl import (
    ZERO,
    Elementwise,
    LaneFunction,
    Narrowing,
    Pieces,
    Quotient,
    Scaling,
    looked_up,
)
from quant import Format, Ints, Kernel, Overflow, PlainKernel, Rounding
from quant.piecewise import Polynomial, piecewise, piecewise_bounds, quotient

from .block import (
    Lanes,
    Tensor,
    check_format,
    check_modes,
    check_tensor,
    divisors,
)
from .configurations import (
    Configuration,
    draw_fitting,
    draw_format,
    draw_integers,
    draw_lanes,
    draw_modes,
    draw_shape,
)
from .elementwise import ElementwiseBlock

WIDEST_TABLE = 6
"""Codes of so many bits are looked up where there is anything to compute."""
LARGEST_BITS = 59
"""Bits that the polynomials may take anywhere in the input's format."""


@dataclass(frozen=True)
class Piecewise(ElementwiseBlock):
    """``y = narrow(p(x) / (divisor * 2**frac))``, p a polynomial on each piece of the codes x.

    Exact rational arithmetic, rounded once. One stage where all pieces are x times a power of two
    or constants, else one more for the polynomials, and one for the quotient if there is one; what
    these come to for codes of at most 6 bits is a table.

    Source: A. Howard et al., Searching for MobileNetV3, 2019 (https://arxiv.org/abs/1905.02244), of
    hard swish; ONNX HardSwish (https://onnx.ai/onnx/operators/onnx__HardSwish.html)

    Parameters
    ----------
    input : Tensor of x, whose integers are the codes
    breaks : tuple of ints, ascending: codes at which the second and following pieces begin
    polynomials : tuple of (c0, c1, c2) for each piece: ``p = c0 + c1 * x + c2 * x * x``
    divisor : odd int above 0
    frac : int, fraction bits of p
    output_format : Format of y
    rounding, overflow : how the exact value is narrowed

    >>> from blocks import activation
    >>> block = activation.hardswish(Tensor((64,), Format(8, 4)), Format(8, 4))
    >>> print(block.breaks, block.polynomials, block.divisor)
    (-48, 48) ((0, 0, 0), (0, 48, 1), (0, 96, 0)) 3
    >>> print(block.reference(np.arange(-64, 64, 2))[:12])
    [ 0  0  0  0  0  0  0  0  0 -1 -2 -3]
    """

    input: Tensor
    breaks: tuple[int, ...]
    polynomials: tuple[Polynomial, ...]
    divisor: int
    frac: int
    output_format: Format
    rounding: Rounding = Rounding.RND
    overflow: Overflow = Overflow.SAT

    def __post_init__(self) -> None:
        check_tensor(self.input, "Piecewise input")
        check_format(self.output_format, "Piecewise output_format")
        check_modes(self)
        number = self.input.format
        if not isinstance(self.breaks, tuple) or not all(type(n) is int for n in self.breaks):
            raise TypeError(f"Piecewise breaks must be a tuple of ints, not {self.breaks!r}")
        for n, place in enumerate(self.breaks):
            least = self.breaks[n - 1] if n else number.min
            if not least < place <= number.max:
                raise ValueError(
                    f"Piecewise breaks must ascend above {number.min} up to {number.max}, "
                    f"not be {self.breaks}"
                )
        if not isinstance(self.polynomials, tuple) or not all(
            map(_is_polynomial, self.polynomials)
        ):
            raise TypeError(
                "Piecewise polynomials must be a tuple of tuples of 3 ints, "
                f"not {self.polynomials!r}"
            )
        pieces = len(self.breaks) + 1
        if len(self.polynomials) != pieces:
            raise ValueError(
                f"Piecewise polynomials must be {pieces}, one for each piece, "
                f"not {len(self.polynomials)}"
            )
        for name in ("divisor", "frac"):
            if type(getattr(self, name)) is not int:
                raise TypeError(f"Piecewise {name} must be an int, not {getattr(self, name)!r}")
        if self.divisor < 1 or self.divisor % 2 == 0:
            raise ValueError(f"Piecewise divisor must be odd and above 0, not {self.divisor}")
        largest = max(-number.min, number.max)
        for constant, linear, square in self._raised:
            reach = abs(constant) + abs(linear) * largest + abs(square) * largest**2
            bits = (reach * (4 * self.divisor if self.divisor > 1 else 1)).bit_length()
            if bits > LARGEST_BITS:
                raise ValueError(
                    f"Piecewise polynomials must fit {LARGEST_BITS} bits, not take {bits}"
                )

    @property
    def inputs(self) -> dict[str, Tensor]:
        return {"i": self.input}

    @property
    def outputs(self) -> dict[str, Tensor]:
        return {"o": Tensor(self.input.shape, self.output_format)}

    @property
    def _gain(self) -> int:
        """Fraction bits that p gains, so that a quotient always loses some to narrowing."""
        return max(0, self.output_format.frac - self.frac + 1) if self.divisor > 1 else 0

    @property
    def _raised(self) -> tuple[Polynomial, ...]:
        a = self._gain
        return tuple((p << a, q << a, r << a) for p, q, r in self.polynomials)

    def reference(self, x: ArrayLike) -> Ints:
        """Integers in, integers out, shape (..., *shape)."""
        return self._results(self.input.check(x, "Piecewise input"))

    def _results(self, codes: Ints) -> Ints:
        """y of codes."""
        value, frac = piecewise(codes, self.breaks, self._raised), self.frac + self._gain
        low, high = piecewise_bounds(self.input.format, self.breaks, self._raised)
        if self.divisor > 1:
            value, frac = quotient(value, self.divisor), frac + 1
            low, high = quotient(np.array([low, high]), self.divisor).tolist()
        number = quant.accumulator_format(low, high, frac, "Piecewise")
        return quant.narrow(value, number, self.output_format, self.rounding, self.overflow)

    def kernel(self) -> Kernel:
        """The reference on tiles."""
        return PlainKernel(self.reference, (self.input.shape,), self.input.size)

    def circuit(self, lanes: int) -> Elementwise:
        """The circuit of so many lanes."""
        return Elementwise({"i": self.input.format}, lanes, (self.function,))

    @cached_property
    def function(self) -> LaneFunction:
        """The circuit of one lane."""
        number, frac = self.input.format, self.frac + self._gain
        pieces = Pieces(number, self.breaks, self._raised)
        if number.width <= WIDEST_TABLE and not pieces.simple:
            codes = np.arange(1 << number.width)
            codes -= (codes > number.max) << number.width
            stages = 2 if self.divisor == 1 else 3
            return looked_up(number, self._results(codes), self.output_format, stages)
        steps, (low, high) = [pieces.step], pieces.bounds
        if self.divisor > 1:
            exact = Quotient(low, high, self.divisor)
            steps.append(exact.step(pieces.values))
            (low, high), frac = exact.bounds, frac + exact.more
        last = steps[-1]
        fixed = 0
        while fixed < last.number.width and last.sources and last.sources[fixed] < 0:
            fixed += 1
        number = Format(last.number.width, frac, last.number.signed)
        modes, half = (self.rounding, self.overflow), frac - self.output_format.frac - 1
        narrowing = Narrowing(number, low, high, self.output_format, *modes, fixed=fixed)
        if self.rounding is Rounding.RND and 0 <= half < len(last.sources):
            if last.sources[half] == ZERO:  # never rounded up, so the sign may say all below 0
                cut = replace(narrowing, rounding=Rounding.TRN)
                if len(last.stored(cut.needed)) < len(last.stored(narrowing.needed)):
                    narrowing = cut
        made = pieces if self.divisor == 1 else exact
        read = max(last.stored(narrowing.needed), default=-1) + 1
        steps[-1] = replace(last, arithmetic=made.inventory(read))
        return LaneFunction(tuple(steps), narrowing)


def _is_polynomial(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 3 and all(type(n) is int for n in value)


Real = int | Fraction
Piece = tuple[Real | None, bool, tuple[Real, Real, Real]]
"""Where it begins (None: everywhere), whether there too or only above, factors of 1, x, x * x."""


def from_pieces(
    input: Tensor, pieces: list[Piece], output_format: Format, *modes: Any
) -> Piecewise:
    """The block of a function whose pieces are told in real numbers, in ascending order."""
    check_tensor(input, "Piecewise input")
    unit = Fraction(1, 2) ** input.format.frac
    breaks: list[int] = []
    factors: list[tuple[Fraction, ...]] = []
    for start, included, polynomial in pieces:
        scaled = tuple(Fraction(c) * unit**degree for degree, c in enumerate(polynomial))
        if start is None:
            place = input.format.min
        else:
            place = ceil(start / unit) if included else floor(start / unit) + 1
        if place > input.format.max:
            break
        while breaks and breaks[-1] >= place:
            breaks.pop(), factors.pop()
        if place <= input.format.min:
            breaks, factors = [], [scaled]
        elif factors[-1] != scaled:
            breaks, factors = [*breaks, place], [*factors, scaled]
    common = lcm(*(c.denominator for polynomial in factors for c in polynomial))
    whole = [[int(c * common) for c in polynomial] for polynomial in factors]
    frac = (common & -common).bit_length() - 1
    joined = 0
    for row in whole:
        for c in row:
            joined |= c
    spare = (joined & -joined).bit_length() - 1 if joined else 0
    polynomials = tuple((a >> spare, b >> spare, c >> spare) for a, b, c in whole)
    return Piecewise(
        input, tuple(breaks), polynomials, common >> frac, frac - spare, output_format, *modes
    )


def _real(name: str, value: Real) -> Fraction:
    if type(value) is not int and not isinstance(value, Fraction):
        raise TypeError(f"{name} must be an int or a Fraction, not {value!r}")
    return Fraction(value)


IDENTITY, NOTHING = (0, 1, 0), (0, 0, 0)


def leaky_relu(input: Tensor, slope: Real, output_format: Format, *modes: Any) -> Piecewise:
    """``x`` from 0 on, ``slope * x`` below; RReLU at inference has the mean of its two slopes."""
    slope = _real("leaky_relu slope", slope)
    pieces: list[Piece] = [(None, True, (0, slope, 0)), (0, True, IDENTITY)]
    return from_pieces(input, pieces, output_format, *modes)


def threshold(
    input: Tensor, threshold: Real, value: Real, output_format: Format, *modes: Any
) -> Piecewise:
    """``x`` above the threshold, else ``value``."""
    threshold = _real("threshold threshold", threshold)
    below = (_real("threshold value", value), 0, 0)
    pieces: list[Piece] = [(None, True, below), (threshold, False, IDENTITY)]
    return from_pieces(input, pieces, output_format, *modes)


def thresholded_relu(input: Tensor, alpha: Real, output_format: Format, *modes: Any) -> Piecewise:
    """``x`` above alpha, else 0 (ONNX ThresholdedRelu)."""
    alpha = _real("thresholded_relu alpha", alpha)
    return threshold(input, alpha, 0, output_format, *modes)


def clip(input: Tensor, low: Real, high: Real, output_format: Format, *modes: Any) -> Piecewise:
    """``min(max(x, low), high)`` (ONNX Clip, PyTorch Hardtanh)."""
    low, high = _real("clip low", low), _real("clip high", high)
    if low > high:
        raise ValueError(f"clip low must not exceed high, not be {low} above {high}")
    pieces: list[Piece] = [
        (None, True, (low, 0, 0)),
        (low, True, IDENTITY),
        (high, True, (high, 0, 0)),
    ]
    return from_pieces(input, pieces, output_format, *modes)


def relu6(input: Tensor, output_format: Format, *modes: Any) -> Piecewise:
    """``min(max(x, 0), 6)``."""
    return clip(input, 0, 6, output_format, *modes)


def shrink(input: Tensor, bias: Real, lambd: Real, output_format: Format, *modes: Any) -> Piecewise:
    """``x + bias`` below -lambd, ``x - bias`` above lambd, else 0 (ONNX Shrink)."""
    bias, lambd = _real("shrink bias", bias), _real("shrink lambd", lambd)
    if lambd < 0:
        raise ValueError(f"shrink lambd must be at least 0, not {lambd}")
    pieces: list[Piece] = [
        (None, True, (bias, 1, 0)),
        (-lambd, True, NOTHING),
        (lambd, False, (-bias, 1, 0)),
    ]
    return from_pieces(input, pieces, output_format, *modes)


def hardshrink(input: Tensor, lambd: Real, output_format: Format, *modes: Any) -> Piecewise:
    """``x`` where its magnitude exceeds lambd, else 0."""
    return shrink(input, 0, lambd, output_format, *modes)


def softshrink(input: Tensor, lambd: Real, output_format: Format, *modes: Any) -> Piecewise:
    """``x`` moved towards 0 by lambd, and 0 where it would pass it."""
    return shrink(input, lambd, lambd, output_format, *modes)


def _ramp(name: str, alpha: Real, beta: Real) -> tuple[Fraction, Fraction, Fraction, Fraction]:
    """alpha and beta, and where ``alpha * x + beta`` is 0 and 1."""
    alpha, beta = _real(f"{name} alpha", alpha), _real(f"{name} beta", beta)
    if alpha <= 0:
        raise ValueError(f"{name} alpha must be above 0, not {alpha}")
    return alpha, beta, -beta / alpha, (1 - beta) / alpha


def hardsigmoid(
    input: Tensor,
    output_format: Format,
    *modes: Any,
    alpha: Real = Fraction(1, 6),
    beta: Real = Fraction(1, 2),
) -> Piecewise:
    """``min(max(alpha * x + beta, 0), 1)``; PyTorch's factors by default, ONNX's are 1/5, 1/2."""
    alpha, beta, start, end = _ramp("hardsigmoid", alpha, beta)
    pieces: list[Piece] = [
        (None, True, NOTHING),
        (start, True, (beta, alpha, 0)),
        (end, True, (1, 0, 0)),
    ]
    return from_pieces(input, pieces, output_format, *modes)


def hardswish(
    input: Tensor,
    output_format: Format,
    *modes: Any,
    alpha: Real = Fraction(1, 6),
    beta: Real = Fraction(1, 2),
) -> Piecewise:
    """``x * hardsigmoid(x)``, rounded once (PyTorch, ONNX)."""
    alpha, beta, start, end = _ramp("hardswish", alpha, beta)
    pieces: list[Piece] = [
        (None, True, NOTHING),
        (start, True, (0, beta, alpha)),
        (end, True, IDENTITY),
    ]
    return from_pieces(input, pieces, output_format, *modes)


def sign(input: Tensor, output_format: Format, *modes: Any) -> Piecewise:
    """-1, 0 or 1."""
    pieces: list[Piece] = [
        (None, True, (-1, 0, 0)),
        (0, True, NOTHING),
        (0, False, (1, 0, 0)),
    ]
    return from_pieces(input, pieces, output_format, *modes)


def step(input: Tensor, output_format: Format, *modes: Any, at_zero: Real = 1) -> Piecewise:
    """0 below 0, 1 above, ``at_zero`` at 0 (Heaviside)."""
    middle = (_real("step at_zero", at_zero), 0, 0)
    pieces: list[Piece] = [(None, True, NOTHING), (0, True, middle), (0, False, (1, 0, 0))]
    return from_pieces(input, pieces, output_format, *modes)


def absolute(input: Tensor, output_format: Format, *modes: Any) -> Piecewise:
    """``|x|``."""
    pieces: list[Piece] = [(None, True, (0, -1, 0)), (0, True, IDENTITY)]
    return from_pieces(input, pieces, output_format, *modes)


def negate(input: Tensor, output_format: Format, *modes: Any) -> Piecewise:
    """``-x``."""
    return from_pieces(input, [(None, True, (0, -1, 0))], output_format, *modes)


@dataclass(frozen=True, eq=False)
class PReLU(ElementwiseBlock):
    """``y = narrow(x)`` from 0 on, ``narrow(slope * x)`` below, a slope for each channel.

    Where the lanes are a multiple of the channels each has the shift-add graph of its own, else a
    multiplier and a table of slopes that turns. With one slope for all it is :func:`leaky_relu`.

    Source: K. He et al., Delving Deep into Rectifiers, 2015 (https://arxiv.org/abs/1502.01852);
    ONNX PRelu (https://onnx.ai/onnx/operators/onnx__PRelu.html)

    Parameters
    ----------
    input : Tensor of x, shape (..., channels)
    slope : ints in slope_format, shape (channels,)
    slope_format, output_format : Format of the slopes and of y
    rounding, overflow : how the exact value is narrowed

    >>> slope = np.arange(3, 32, 4)  # in steps of 2**-5
    >>> block = PReLU(Tensor((8, 8), Format(8, 4)), slope, Format(6, 5), Format(8, 4))
    >>> print(block.reference(np.full((8, 8), -32))[0])
    [ -3  -7 -11 -15 -19 -23 -27 -31]
    """

    input: Tensor
    slope: Ints
    slope_format: Format
    output_format: Format
    rounding: Rounding = Rounding.RND
    overflow: Overflow = Overflow.SAT

    def __post_init__(self) -> None:
        check_tensor(self.input, "PReLU input")
        check_format(self.slope_format, "PReLU slope_format")
        check_format(self.output_format, "PReLU output_format")
        check_modes(self)
        quant.check_shape(self.slope, self.input.shape[-1:], "PReLU slope")
        slope = self.slope_format.check(self.slope, "PReLU slope")
        slope.setflags(write=False)
        object.__setattr__(self, "slope", slope)
        _ = self._channels

    @property
    def inputs(self) -> dict[str, Tensor]:
        return {"i": self.input}

    @property
    def weight_format(self) -> Format:
        """Format of the slopes, as other blocks with weights call it."""
        return self.slope_format

    @property
    def outputs(self) -> dict[str, Tensor]:
        return {"o": Tensor(self.input.shape, self.output_format)}

    @cached_property
    def _channels(self) -> list[Piecewise]:
        """The function of each channel."""
        unit, one = Fraction(1, 2) ** self.slope_format.frac, Tensor((1,), self.input.format)
        modes = self.output_format, self.rounding, self.overflow
        return [leaky_relu(one, n * unit, *modes) for n in self.slope.tolist()]

    def reference(self, x: ArrayLike) -> Ints:
        """Integers in, integers out, shape (..., *shape)."""
        codes = self.input.check(x, "PReLU input")
        results = [
            channel.reference(codes[..., n, None]) for n, channel in enumerate(self._channels)
        ]
        return np.concatenate(results, axis=-1)

    def kernel(self) -> Kernel:
        """The reference on tiles."""
        return PlainKernel(self.reference, (self.input.shape,), self.input.size)

    def circuit(self, lanes: int) -> Elementwise | Scaling:
        """The circuit of so many lanes."""
        channels = self._channels if len(set(self._channels)) > 1 else self._channels[:1]
        if lanes % len(channels):
            return self._turning(lanes)
        functions = [channel.function for channel in channels]
        if len({function.stages for function in functions}) > 1:  # the quick wait for the others
            functions = [
                replace(f, steps=tuple(replace(s, registered=True) for s in f.steps))
                for f in functions
            ]
        return Elementwise({"i": self.input.format}, lanes, tuple(functions))

    def _turning(self, lanes: int) -> Scaling:
        """Numbers below 0 meet the slope whose turn it is, the others 1."""
        frac = max(self.slope_format.frac, 0)
        slopes = self.slope << frac - self.slope_format.frac
        slopes = np.resize(slopes, lcm(lanes, len(slopes))).reshape(-1, lanes)
        zeros, modes = np.zeros_like(slopes), (self.output_format, self.rounding, self.overflow)
        x = self.input.format
        return Scaling(x, slopes, zeros, zeros, x.frac + frac, *modes, positive=1 << frac)


def piecewise_configuration(random: np.random.Generator, index: int) -> Configuration:
    tensor = Tensor(draw_shape(random, index), draw_format(random, index))
    unit = Fraction(1, 2) ** tensor.format.frac
    span = tensor.format.max - tensor.format.min

    def part() -> Fraction:
        """A constant of the order of the input, now and then between two codes."""
        return Fraction(int(random.integers(1, span + 1)), int(random.integers(1, 4))) * unit

    slope = Fraction(int(random.integers(1, 16)), int(random.choice([8, 16, 10])))
    middle, wide = part() / 2 + tensor.format.min * unit, part()
    ramp: Any = {"alpha": 1 / part(), "beta": Fraction(1, 2)}
    makers: list[Any] = [
        lambda *a: leaky_relu(tensor, slope, *a),
        lambda *a: hardswish(tensor, *a, **ramp),
        lambda *a: softshrink(tensor, wide / 4, *a),
        lambda *a: hardsigmoid(tensor, *a, **ramp),
        lambda *a: leaky_relu(tensor, Fraction(1, 8), *a),
        lambda *a: clip(tensor, middle, middle + wide / 2, *a),
        lambda *a: threshold(tensor, middle + wide / 2, unit, *a),
        lambda *a: hardshrink(tensor, wide / 4, *a),
        lambda *a: absolute(tensor, *a),
        lambda *a: negate(tensor, *a),
        lambda *a: sign(tensor, *a),
        lambda *a: step(tensor, *a, at_zero=Fraction(1, 2)),
        lambda *a: shrink(tensor, wide / 8, wide / 4, *a),
        lambda *a: thresholded_relu(tensor, wide / 4, *a),
        lambda *a: from_pieces(
            tensor,
            [
                (None, True, (part(), -part(), 1)),
                (middle + wide / 4, True, (part(), slope, -slope)),
            ],
            *a,
        ),
    ]
    maker = makers[index % len(makers)]
    exact = maker(tensor.format)
    low, high = piecewise_bounds(tensor.format, exact.breaks, exact.polynomials)
    ends = low // exact.divisor, -(-high // exact.divisor)
    block = maker(draw_fitting(random, *ends, exact.frac), *draw_modes(random, index))
    return Configuration(block, draw_lanes(random, tensor.size))


def prelu_configuration(random: np.random.Generator, index: int) -> Configuration:
    signed = replace(draw_format(random, index), signed=True)
    tensor = Tensor(draw_shape(random, index), signed)
    number = draw_format(random, index)
    slope = draw_integers(random, number, tensor.shape[-1:])
    frac, x = max(number.frac, 0), tensor.format
    one = 1 << frac
    factors = [one, *(int(n) << frac - number.frac for n in slope)]
    ends = [n * factor for n in (x.min, x.max) for factor in factors]
    target = draw_fitting(random, min(ends), max(ends), x.frac + frac)
    block = PReLU(tensor, slope, number, target, *draw_modes(random, index))
    channels = len(slope)
    frames = [d for d in divisors(tensor.size // channels) if d * channels <= 16]
    lanes = channels * int(random.choice(frames or [1]))
    return Configuration(block, draw_lanes(random, tensor.size) if index % 2 else Lanes(lanes))
