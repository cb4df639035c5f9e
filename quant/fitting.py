# SPDX-License-Identifier: Apache-2.0
"""Finding the integers of an approximation: segments, coefficients and shifts that meet an error.

Every choice is made by integer arithmetic on all places, exactly as the hardware will compute, so
a fit that is found is a proof of its error.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import product as product_of
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .approximation import MAX_INPUT_BITS, MAX_OUTPUT_BITS, Approximation, product
from .format import Format, Ints
from .function import GUARD, Function, Samples, Symmetry, sample
from .narrow import Overflow, Rounding

_FREE = 1 << 40  # no limit
_MAX_SEGMENTS = 1024


def candidates(
    function: Function,
    input_format: Format,
    output_format: Format,
    *,
    error: float = 1.0,
    rounding: Rounding | str = Rounding.RND,
    overflow: Overflow | str = Overflow.SAT,
    undefined: float | None = None,
    degrees: tuple[int, ...] = (0, 1, 2),
) -> list[Approximation]:
    """Approximations of ``function`` that differ in form, each with its measured error.

    Tables of every code and, if the function is symmetric, of half of them; for each degree and
    each length of the longest segment the one that stores fewest bits. A result is less than
    ``error`` output units from the function, limited to the output's range, at every input code;
    where no table can be, the table of correctly rounded values stands alone. Odd functions stay
    odd within the range, ``sigmoid(x) + sigmoid(-x)`` stays 1 (tables included, as long as they
    round half up and saturate), and what never falls (or rises) at the codes never does. A jump
    that pieces cannot follow, or an overflow that does not saturate, leaves tables only.

    Parameters
    ----------
    rounding, overflow : of tables; pieces meet the error, and saturate as ``overflow`` says
    undefined : the function's value where it has none; it may be infinite

    Raises
    ------
    TypeError, ValueError : an input of more than 16 bits, an output of more than 32; a function
        without a value somewhere and no ``undefined``; NaN; an error not above 0
    """
    rounding, overflow = Rounding(rounding), Overflow(overflow)
    _check(function, input_format, output_format, error)
    samples = sample(function, input_format, output_format, rounding, overflow, undefined)
    goal = _Goal(function, input_format, output_format, samples, error, rounding, overflow)
    found = [*goal.tables()] if 0 in degrees else []
    for degree in sorted({*degrees} - {0}):
        found += goal.polynomials(degree)
    return found


def approximate(
    function: Function,
    input_format: Format,
    output_format: Format,
    degree: int,
    *,
    error: float = 1.0,
    rounding: Rounding | str = Rounding.RND,
    overflow: Overflow | str = Overflow.SAT,
    undefined: float | None = None,
) -> Approximation:
    """The approximation of one degree that stores fewest bits; see :func:`candidates`.

    Raises ValueError where pieces of this degree do not meet the error.

    >>> from quant.function import FUNCTIONS
    >>> tanh = approximate(FUNCTIONS["tanh"], Format(8, 5), Format(8, 7), degree=1)
    >>> tanh.reference([-128, -1, 0, 1, 16, 127]).tolist()
    [-127, -4, 0, 4, 60, 127]
    """
    if degree not in (0, 1, 2):
        raise ValueError(f"Approximation degree must be 0, 1 or 2, not {degree!r}")
    found = candidates(
        function,
        input_format,
        output_format,
        error=error,
        rounding=rounding,
        overflow=overflow,
        undefined=undefined,
        degrees=(degree,),
    )
    if not found:
        raise ValueError(
            f"Approximation of {function.name} must have another degree for an error below "
            f"{error}, not {degree}"
        )
    return min(found, key=lambda form: (form.storage_bits, form.longest))


def _check(function: object, input_format: object, output_format: object, error: object) -> None:
    if not isinstance(function, Function):
        raise TypeError(f"Approximation function must be a Function, not {function!r}")
    for number, name, most in (
        (input_format, "input_format", MAX_INPUT_BITS),
        (output_format, "output_format", MAX_OUTPUT_BITS),
    ):
        if not isinstance(number, Format):
            raise TypeError(f"Approximation {name} must be a Format, not {number!r}")
        if number.width > most:
            raise ValueError(
                f"Approximation {name} must have at most {most} bits, not {number.width}"
            )
    if isinstance(error, bool) or not isinstance(error, int | float | Fraction):
        raise TypeError(f"Approximation error must be a number, not {error!r}")
    if not 0 < error < _FREE:
        raise ValueError(f"Approximation error must be above 0 and below 2**40, not {error}")


class _Limits(NamedTuple):
    """What y may be at every place, and what it should be."""

    low: Ints
    high: Ints
    wanted: Ints  # in units of 2**-GUARD
    symmetry: Symmetry | None
    clamp: bool


class _Scale(NamedTuple):
    """Shifts of an Approximation."""

    cut: int
    lift: int
    guard: int


class _Shape(NamedTuple):
    """Segments and coefficients that keep within limits."""

    starts: Ints
    coefficients: Ints
    scale: "_Scale"
    low: Ints  # of each segment, what the lowest coefficient may be
    high: Ints


_TABLE = _Scale(0, 0, 0)
_SATURATING = (Overflow.SAT, Overflow.SAT_SYM)


@dataclass
class _Goal:
    """Everything about one function that its approximations share."""

    function: Function
    input_format: Format
    output_format: Format
    samples: Samples
    error: float
    rounding: Rounding
    overflow: Overflow

    def tables(self) -> Iterator[Approximation]:
        """All codes, and half of them."""
        results = self.samples.rounded
        free = self.rounding is Rounding.RND and self.overflow in _SATURATING
        for limits in self._mirrored():
            if limits.clamp:
                continue
            count = len(limits.low)
            positive = self.samples.rounded[-self.input_format.min :]
            rounded = np.append(positive, limits.wanted[-1] >> GUARD)[:count]
            values = np.clip(rounded, limits.low, limits.high)
            half = self._table(limits, values)
            if self._is_faithful(half) and (free or (half.results == results).all()):
                yield half
                results = half.results
                break
        nothing = np.zeros(len(results), np.int64)
        yield self._table(_Limits(nothing, nothing, nothing, None, False), results)

    def _table(self, limits: _Limits, values: Ints) -> Approximation:
        """A value for every place, or for as many places in a row as always have the same."""
        length = 1
        while 2 * length < len(values) and _alike(values, 2 * length):
            length *= 2
        starts = np.arange(0, len(values), length)
        return self._spec(limits, starts, values[None, starts], _TABLE)

    def polynomials(self, degree: int) -> Iterator[Approximation]:
        """The best for each length of the longest segment."""
        if self.overflow not in _SATURATING:
            return
        for limits in [*self._mirrored(), self._plain()]:
            if (limits.low > limits.high).any():
                continue
            found = False
            for shape in _shapes(limits, degree):
                spec = self._spec(limits, *shape[:3])
                if spec.longest and _bends(spec) and self._is_faithful(spec):
                    found = True
                    yield spec
            if found:
                return

    def _limits(self, clamp: bool) -> tuple[Ints, Ints]:
        """Smallest and largest y at each code; the error stays strictly below the wanted one."""
        samples = self.samples
        spare = int(self.error * (1 << GUARD)) - 1  # the samples are rounded: one is kept in hand
        low = -(-(samples.exact - spare) >> GUARD)
        high = samples.exact + spare >> GUARD
        low, high = np.maximum(low, samples.low), np.minimum(high, samples.high)
        if clamp:
            least, most = self._reach()
            low[samples.values < samples.low << GUARD] = least
            high[samples.values > samples.high << GUARD] = most
        return low, high

    def _plain(self) -> _Limits:
        """A place for every code; clamped if the function leaves the range by a unit or more."""
        samples = self.samples
        unit = 1 << GUARD
        beyond = np.maximum(samples.values - samples.exact, samples.exact - samples.values)
        clamp = bool((beyond >= unit).any())
        return _Limits(*self._limits(clamp), self._wanted(), None, clamp)

    def _reach(self) -> tuple[int, int]:
        """Smallest and largest integer that a clamp is fed with: one bit more than the output."""
        above = self.samples.high + 1
        return -2 * above if self.output_format.signed else -above, 2 * above - 1

    def _wanted(self) -> Ints:
        """The values, limited to what a clamp is fed with."""
        least, most = self._reach()
        return np.clip(self.samples.values, least << GUARD, most << GUARD)

    def _mirrored(self) -> Iterator[_Limits]:
        """A place for every |x|, the simplest first; nothing if the function is not symmetric."""
        symmetry, frac = self.function.symmetry, self.output_format.frac
        if symmetry is None or not self.input_format.signed:
            return
        if symmetry.constant and frac < 0:
            return
        symmetry = Symmetry(symmetry.sign, symmetry.constant << max(0, frac))
        middle = -self.input_format.min
        wanted = self._wanted()
        own = wanted[middle:]
        opposite = wanted[:middle][::-1]
        if symmetry.sign < 0:
            opposite = (symmetry.constant << GUARD) - opposite
        wanted = np.append(own, opposite[-1])
        for clamp in (False, True):
            low, high = self._limits(clamp)
            below, above = low[:middle][::-1], high[:middle][::-1]  # at -1, -2, ...
            if symmetry.sign < 0:
                below, above = symmetry.constant - above, symmetry.constant - below
            least, most = np.empty(middle + 1, np.int64), np.empty(middle + 1, np.int64)
            least[:middle], most[:middle] = low[middle:], high[middle:]
            least[middle], most[middle] = below[-1], above[-1]
            least[1:middle] = np.maximum(least[1:middle], below[:-1])
            most[1:middle] = np.minimum(most[1:middle], above[:-1])
            if (least > most).any():
                continue
            last = max(least[-2], least[-1]), min(most[-2], most[-1])
            if last[0] <= last[1]:  # the smallest code may be taken for the one above
                shorter = least[:-1].copy(), most[:-1].copy()
                shorter[0][-1], shorter[1][-1] = last
                yield _Limits(*shorter, wanted[:-1], symmetry, clamp)
            yield _Limits(least, most, wanted, symmetry, clamp)
            return

    def _spec(
        self,
        limits: _Limits,
        starts: Ints,
        coefficients: Ints,
        scale: _Scale,
    ) -> Approximation:
        if len(coefficients) > 1:  # what no lowest coefficient has bits for is cut at once
            unused = min(_trailing_zeros(coefficients[0]), scale.guard)
            coefficients = coefficients.copy()
            coefficients[0] >>= unused
            scale = _Scale(scale.cut + unused, scale.lift, scale.guard - unused)
        spec = Approximation(
            self.function.name,
            self.input_format,
            self.output_format,
            limits.symmetry,
            len(limits.low),
            starts,
            coefficients,
            *scale,
            limits.clamp,
            self.samples.low,
            self.samples.high,
        )
        largest, mean = spec.measured(self.samples)
        return replace(spec, max_error=largest, mean_error=mean)

    def _is_faithful(self, spec: Approximation) -> bool:
        """The error is met and the order of the function kept."""
        steps = np.diff(self.samples.exact)
        rises, falls = bool((steps >= 0).all()), bool((steps <= 0).all())
        order = spec.monotone
        ordered = (not rises or order == 1) and (not falls or order == -1)
        constant = rises and falls
        assert spec.max_error is not None  # measured when it was made
        return spec.max_error < self.error and (ordered or constant)


def _bends(spec: Approximation) -> bool:
    """Whether the highest coefficient is worth a multiplier; a lower degree serves if not."""
    highest = spec.coefficients[-1]
    largest = int(np.abs(highest >> _trailing_zeros(highest)).max())
    return largest > (1 if spec.degree > 1 else 0)


def _alike(values: Ints, length: int) -> bool:
    """Whether in each ``length`` values, from the first on, all are the same."""
    return bool((values == values[np.arange(len(values)) // length * length]).all())


def _trailing_zeros(values: Ints) -> int:
    """Power of two that divides all of ``values``; 62 if all are 0."""
    together = int(np.bitwise_or.reduce(values))
    return (together & -together).bit_length() - 1 if together else 62


def _shapes(limits: _Limits, degree: int) -> Iterator[_Shape]:
    """For each length of the longest segment the shape of fewest bits."""
    longest = (len(limits.low) - 1).bit_length()
    allowed = min(_MAX_SEGMENTS, max(1, len(limits.low) // 4))  # more would be a table again
    best_count = allowed
    while longest > 0:
        tried: list[tuple[int, int, _Shape]] = []
        fewest = allowed
        for scale in _scales(degree, longest):
            shape = _partition(limits, degree, longest, scale, min(allowed, 2 * fewest))
            if shape is None:
                continue
            fewest = min(fewest, len(shape.starts))
            tried.append((_bits(shape), len(tried), shape))
            reached = int(np.diff(shape.starts, append=len(limits.low)).max()).bit_length() - 1
            if len(tried) == 1 and reached < longest - 1:
                break
        if tried and reached < longest - 1:
            longest = reached + 1
            continue
        if tried:
            yield _ordered(min(tried)[2], limits)
            best_count = min(best_count, fewest)
            if fewest > 2 * best_count:  # ever shorter segments store ever more
                return
        longest -= 1


def _scales(degree: int, longest: int) -> Iterator[_Scale]:
    """Precisions of the coefficients worth trying: one much finer than needed, then coarser ones.

    A coefficient of u**k times the longest u**k should be wrong by about a quarter of a unit.
    """
    if degree == 1:
        for guard in range(4, -1, -1):
            for first in range(longest + 2, longest - 2, -1):  # fraction bits of the slope
                if first >= guard:
                    yield _Scale(first - guard, 0, guard)
        return
    finest = (4, longest + 3, 2 * longest + 2)
    coarser = product_of(range(3, 0, -1), range(1, -3, -1), range(-1, -4, -1))
    for guard, first, second in (
        finest,
        *((guard, longest + a, 2 * longest + b) for guard, a, b in coarser),
    ):
        if guard <= first <= second:
            yield _Scale(second - guard, second - first, guard)


def _bits(shape: _Shape) -> int:
    widths = 0
    for row in shape.coefficients:
        change = int(np.bitwise_or.reduce(row ^ row[0]))
        width = Format.containing(int(row.min()), int(row.max()), 0).width
        widths += (change & ((1 << width) - 1)).bit_count()
    return widths * len(shape.starts)


def _partition(
    limits: _Limits, degree: int, longest: int, scale: _Scale, most: int
) -> _Shape | None:
    """Segments as long as they may be; None if there are more than ``most``."""
    places = len(limits.low)
    size = 1 << longest
    padding = (0, -places % size)
    low = np.pad(limits.low, padding, constant_values=-_FREE)
    high = np.pad(limits.high, padding, constant_values=_FREE)
    wanted = np.pad(limits.wanted, padding, mode="edge") / float(1 << GUARD)
    active = np.arange(0, len(low), size)
    leaves: list[tuple[Ints, ...]] = []
    count = 0
    for bits in range(longest, -1, -1):
        size = 1 << bits
        index = active[:, None] + np.arange(size)
        fitted = _fit(wanted[index], low[index], high[index], degree, scale)
        good = fitted[1] <= fitted[2]
        leaves.append((active[good], fitted[0][:, good], fitted[1][good], fitted[2][good]))
        count += int(good.sum())
        rest = active[~good]
        if count + 2 * len(rest) > most:
            return None
        if not len(rest):
            break
        active = np.stack([rest, rest + size // 2], axis=1).ravel()
        active = active[active < places]
    else:
        return None
    starts = np.concatenate([leaf[0] for leaf in leaves])
    order = np.argsort(starts)
    coefficients = np.concatenate([leaf[1] for leaf in leaves], axis=1)[:, order]
    ends = (np.concatenate([leaf[n] for leaf in leaves])[order] for n in (2, 3))
    return _Shape(starts[order], coefficients, scale, *ends)


def _fit(
    wanted: NDArray[np.float64], low: Ints, high: Ints, degree: int, scale: _Scale
) -> tuple[Ints, Ints, Ints]:
    """Coefficients of many segments of one length, shape (segments, length).

    Returns (coefficients, least, most): the lowest coefficient may lie from least to most; where
    least exceeds most there was none.
    """
    count, size = wanted.shape
    above = np.arange(size)
    floor, ceiling = low << scale.guard, (high + 1 << scale.guard) - 1
    best = np.zeros((degree + 1, count), np.int64)
    widest = np.full(count, -_FREE << 8)
    least, most = np.full(count, 1, np.int64), np.zeros(count, np.int64)
    for rows in _guesses(wanted, degree, scale):
        added = product([row[:, None] for row in rows], above, scale.cut, scale.lift)
        first, last = (floor - added).max(axis=1), (ceiling - added).min(axis=1)
        better = last - first > widest
        widest = np.where(better, last - first, widest)
        least, most = np.where(better, first, least), np.where(better, last, most)
        for row, guess in zip(best[1:], rows, strict=True):
            row[better] = guess[better]
    bounded = np.clip(least, -_FREE, _FREE), np.clip(most, -_FREE, _FREE)
    best[0] = bounded[0] + bounded[1] >> 1
    return best, least, most


def _guesses(wanted: NDArray[np.float64], degree: int, scale: _Scale) -> Iterator[list[Ints]]:
    """Integers near the best real coefficients of u, u**2, ... for every segment."""
    size = wanted.shape[1]
    unit = float(1 << (scale.guard + scale.cut - scale.lift))  # of the slope
    if size == 1:
        yield [np.zeros(len(wanted), np.int64)] * degree
        return
    if degree == 1:
        slope = (wanted[:, -1] - wanted[:, 0]) * (unit / (size - 1))
        base = np.floor(slope).astype(np.int64)
        for more in (0, 1, -1, 2):
            yield [base + more]
        return
    # The zeros of the cubic that a parabola leaves: the middle, and sqrt(3)/2 either side of it.
    middle = (size - 1) // 2
    reach = max(1, min(middle, round((size - 1) * 0.4330127018922193)))
    left, right = max(0, middle - reach), min(size - 1, middle + reach)
    curvature = np.zeros(len(wanted))
    if left < middle < right:
        rise = (wanted[:, right] - wanted[:, middle]) / (right - middle)
        fall = (wanted[:, middle] - wanted[:, left]) / (middle - left)
        curvature = (rise - fall) / (right - left)
    finer = float(1 << scale.lift)
    base = np.floor(curvature * (unit * finer)).astype(np.int64)
    drop = (wanted[:, right] - wanted[:, left]) / (right - left)
    for more in (0, 1, -1):
        second = base + more
        slope = drop * unit - second * ((left + right) / finer)
        first = np.floor(slope).astype(np.int64)
        for extra in (0, 1, -1, 2):
            yield [first + extra, second]


def _ordered(shape: _Shape, limits: _Limits) -> _Shape:
    """The lowest coefficients moved, within what they may be, until y steps back nowhere.

    Does what it can where segments meet; whether it sufficed is for the caller to measure.
    """
    steps = np.diff(limits.wanted)
    rises, falls = bool((steps >= 0).all()), bool((steps <= 0).all())
    if rises == falls:
        return shape
    sign = 1 if rises else -1
    lasts = np.append(shape.starts[1:], len(limits.low)) - 1
    scale = shape.scale
    lowest = shape.coefficients[0].copy()
    ends = product([*shape.coefficients[1:]], lasts - shape.starts, scale.cut, scale.lift)
    guard = scale.guard
    for _ in range(3):
        for n in range(len(lowest) - 1):
            before = int(lowest[n] + ends[n]) >> guard
            after = int(lowest[n + 1]) >> guard
            if sign * (after - before) >= 0:
                continue
            # The next segment starts where this one ends, or this one ends where the next starts.
            raised = before << guard if sign > 0 else (before + 1 << guard) - 1
            lowered = ((after + 1 << guard) - 1 if sign > 0 else after << guard) - int(ends[n])
            if shape.low[n + 1] <= raised <= shape.high[n + 1]:
                lowest[n + 1] = raised
            elif shape.low[n] <= lowered <= shape.high[n]:
                lowest[n] = lowered
    coefficients = shape.coefficients.copy()
    coefficients[0] = lowest
    return shape._replace(coefficients=coefficients)
