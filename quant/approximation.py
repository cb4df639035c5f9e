# SPDX-License-Identifier: Apache-2.0
"""A function of one variable as frozen integers: a table, or piecewise polynomials."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from .bounds import to_ints
from .format import Format, Ints
from .function import GUARD, Samples, Symmetry

MAX_INPUT_BITS = 16
MAX_OUTPUT_BITS = 32


@dataclass(frozen=True, eq=False)
class Approximation:
    """``y = f(x)`` in integers: look up a segment, evaluate its polynomial, mirror.

    The *place* of x is the integer ``|x|`` with a ``symmetry``, else ``x - input_format.min``; a
    place beyond ``places - 1`` counts as that one. With c the coefficients of the segment of a
    place and u the place above the segment's start, y is

    * ``c[0]``, a table,
    * ``(c[0] + (c[1] * u >> cut)) >> guard``, or
    * ``(c[0] + (((c[1] << lift) + c[2] * u) * u >> cut)) >> guard``.

    Nothing is lost inside, so where the polynomial does not fall y does not. Where x < 0 and there
    is a symmetry, ``y = constant + sign * y``; ``clamp`` limits the whole at last.

    Parameters
    ----------
    name : str, what function it is, for people
    input_format, output_format : Format of x (16 bits at most) and of y (32 bits at most)
    symmetry : of places, with its constant in units of y; None for one place a code
    places : int
    starts : ints, ascending from 0, shape (segments,): first place of each segment. Every segment
        is a power of two long, but the last may miss places at its end, and starts at a multiple
        of its length.
    coefficients : ints, shape (degree + 1, segments), degree 0 to 2
    cut, lift, guard : int, see above; 0 where they do not occur
    clamp : whether values beyond the output's range are limited to it, as far as
    low, high : ints
    max_error, mean_error : bounds of |y - f(x)| in units of y over every input code, f(x) limited
        to the range of the output; None if nobody measured
    """

    name: str
    input_format: Format
    output_format: Format
    symmetry: Symmetry | None
    places: int
    starts: Ints
    coefficients: Ints
    cut: int
    lift: int
    guard: int
    clamp: bool
    low: int
    high: int
    max_error: float | None = None
    mean_error: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch("[ -~]+", self.name):
            raise ValueError(f"Approximation name must be a line of plain text, not {self.name!r}")
        for number, name, most in (
            (self.input_format, "input_format", MAX_INPUT_BITS),
            (self.output_format, "output_format", MAX_OUTPUT_BITS),
        ):
            if not isinstance(number, Format):
                raise TypeError(f"Approximation {name} must be a Format, not {number!r}")
            if number.width > most:
                raise ValueError(
                    f"Approximation {name} must have at most {most} bits, not {number.width}"
                )
        for array in ("starts", "coefficients"):
            values = to_ints(getattr(self, array), f"Approximation {array}")
            values.setflags(write=False)
            object.__setattr__(self, array, values)
        if self.symmetry is not None and not self.input_format.signed:
            raise ValueError("Approximation symmetry must have a signed input, not an unsigned one")
        whole = 1 << self.input_format.width
        most = whole if self.symmetry is None else whole // 2 + 1
        if not 1 <= self.places <= most:
            raise ValueError(
                f"Approximation places must be between 1 and {most}, not {self.places}"
            )
        if self.coefficients.ndim != 2 or not 1 <= len(self.coefficients) <= 3:
            raise ValueError(
                "Approximation coefficients must have shape (1 to 3, segments), "
                f"not {self.coefficients.shape}"
            )
        if self.starts.shape != self.coefficients.shape[1:]:
            raise ValueError(
                f"Approximation starts must have shape ({self.coefficients.shape[1]},), "
                f"not {self.starts.shape}"
            )
        for name, degree in (("cut", 1), ("lift", 2), ("guard", 1)):
            value, most = getattr(self, name), 40 if self.degree >= degree else 0
            if type(value) is not int or not 0 <= value <= most:
                raise ValueError(
                    f"Approximation {name} must be between 0 and {most} for degree {self.degree}, "
                    f"not {value!r}"
                )
        lengths = self.lengths
        if self.starts[0] or lengths.min() < 1 or (self.starts & (lengths - 1)).any():
            raise ValueError(
                "Approximation starts must ascend from 0 by powers of two, each at a multiple of "
                "its length"
            )
        if (lengths & (lengths - 1)).any():
            raise ValueError(
                "Approximation starts must ascend from 0 by powers of two, each at a multiple of "
                "its length"
            )
        wide = int(np.abs(self.coefficients).max())
        if wide >= 1 << 44:
            raise ValueError(f"Approximation coefficients must be below 2**44, not reach {wide}")
        unclamped = self.unclamped
        number = self.output_format
        if not number.min <= self.low <= self.high <= number.max:
            raise ValueError(
                f"Approximation low and high must be in [{number.min}, {number.max}], "
                f"not be {self.low} and {self.high}"
            )
        if not self.clamp:
            number.check(unclamped, "Approximation result")

    @property
    def degree(self) -> int:
        """Of the polynomials; 0 for a table."""
        return len(self.coefficients) - 1

    @cached_property
    def lengths(self) -> Ints:
        """Places of each segment; the last one's the least power of two that reaches the end."""
        last = max(1, self.places - int(self.starts[-1]))
        return np.append(np.diff(self.starts), 1 << (last - 1).bit_length())

    @property
    def longest(self) -> int:
        """Bits of the place above the start of its segment."""
        return int(self.lengths.max()).bit_length() - 1

    @property
    def shortest(self) -> int:
        """Low bits of a place that no segment's start depends on."""
        return int(self.lengths.min()).bit_length() - 1

    @property
    def storage_bits(self) -> int:
        """Segments times the bits of their coefficients that change from segment to segment."""
        changing = np.bitwise_or.reduce(self.coefficients ^ self.coefficients[:, :1], axis=1)
        bits = 0
        for row, change in zip(self.coefficients, changing, strict=True):
            width = Format.containing(int(row.min()), int(row.max()), 0).width
            bits += (int(change) & ((1 << width) - 1)).bit_count()
        return bits * len(self.starts)

    def places_of(self, x: Ints) -> Ints:
        """Place of each code."""
        place = np.abs(x) if self.symmetry is not None else x - self.input_format.min
        return np.minimum(place, self.places - 1)

    @cached_property
    def segments(self) -> Ints:
        """Segment of every place."""
        return np.searchsorted(self.starts, np.arange(self.places), "right") - 1

    @cached_property
    def unmirrored(self) -> Ints:
        """y of every place, without symmetry and clamp."""
        above = np.arange(self.places) - self.starts[self.segments]
        lowest, *rest = self.coefficients[:, self.segments]
        return lowest + product(rest, above, self.cut, self.lift) >> self.guard

    @cached_property
    def unclamped(self) -> Ints:
        """y of every code, ascending, before the clamp."""
        codes = np.arange(self.input_format.min, self.input_format.max + 1)
        y = self.unmirrored[self.places_of(codes)]
        if self.symmetry is not None:
            y = np.where(codes < 0, self.symmetry.constant + self.symmetry.sign * y, y)
        return y

    @cached_property
    def results(self) -> Ints:
        """y of every code, ascending from the smallest; int64."""
        return np.clip(self.unclamped, self.low, self.high) if self.clamp else self.unclamped

    def reference(self, x: ArrayLike) -> Ints:
        """The integers of the hardware; any shape."""
        codes = self.input_format.check(x, f"{self.name} input")
        return self.results[codes - self.input_format.min]

    @property
    def monotone(self) -> int:
        """1 if no result is below that of a smaller code, -1 if none is above, else 0."""
        steps = np.diff(self.results)
        return 1 if (steps >= 0).all() else -1 if (steps <= 0).all() else 0

    @property
    def mirrored(self) -> bool:
        """Whether the symmetry holds for the results too; a clamp at one end alone breaks it."""
        if self.symmetry is None:
            return False
        zero = -self.input_format.min
        above, below = self.results[zero:], self.results[1 : zero + 1][::-1]
        return bool((below == self.symmetry.constant + self.symmetry.sign * above).all())

    def measured(self, samples: Samples) -> tuple[float, float]:
        """Largest and mean error over every input code, in units of y."""
        errors = np.abs((self.results << GUARD) - samples.exact)
        unit = 1 << (GUARD + 1)  # the samples themselves are rounded to half of 2**-GUARD
        largest = (2 * int(errors.max()) + 1) / unit
        return largest, (2 * sum(errors.tolist()) + len(errors)) / (unit * len(errors))

    def statement(self) -> str:
        """What is proven of it, in one line."""
        kind = ("table", "linear", "quadratic")[self.degree]
        segments = f", {len(self.starts)} segments" if self.degree else ""
        proof = ""
        if self.max_error is not None and self.mean_error is not None:
            largest, mean = map(_nine_digits, (self.max_error, self.mean_error))
            proof = f": |error| <= {largest} units, {mean} in the mean, over all codes"
        order = {1: "; never falls", -1: "; never rises", 0: ""}[self.monotone]
        mirror = ""
        if self.symmetry is not None and self.mirrored:
            constant = f"{self.symmetry.constant} " if self.symmetry.constant else ""
            sign = "-" + " " * bool(constant) if self.symmetry.sign < 0 else ""
            mirror = f"; f(-x) = {constant}{sign}f(x)"
        formats = f"{self.input_format} -> {self.output_format}"
        return f"{self.name} {formats}, {kind}{segments}{proof}{order}{mirror}"


def _nine_digits(bound: float) -> Decimal:
    """Rounded up, so that it stays a bound."""
    return Decimal(bound).quantize(Decimal("1e-9"), ROUND_CEILING)


def product(rows: Sequence[Ints], above: Ints, cut: int, lift: int) -> Ints:
    """What the coefficients but the lowest add to it, at places ``above`` the segments' starts."""
    if not rows:
        return np.zeros_like(above)
    slope = rows[0] if len(rows) == 1 else (rows[0] << lift) + rows[1] * above
    return slope * above >> cut
