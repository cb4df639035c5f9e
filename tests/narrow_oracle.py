# SPDX-License-Identifier: Apache-2.0
"""What narrow must return, from the definition of each mode in exact fractions."""

from collections.abc import Callable
from fractions import Fraction
from functools import cache
from math import ceil, floor

import numpy as np

from quant import Format, narrow

ROUNDINGS = ("RND", "RND_ZERO", "RND_MIN_INF", "RND_INF", "RND_CONV", "TRN", "TRN_ZERO")
OVERFLOWS = ("SAT", "SAT_ZERO", "SAT_SYM", "WRAP")


@cache
def exact_round(x: Fraction, mode: str) -> int:
    """The integer that ``mode`` rounds ``x`` to."""
    x = Fraction(int(x.numerator), int(x.denominator))  # numpy's would stay in the cache
    neighbours = {floor(x), ceil(x)}
    if mode == "TRN":
        return min(neighbours)
    if mode == "TRN_ZERO":
        return min(neighbours, key=abs)
    distance = min(abs(n - x) for n in neighbours)
    nearest = [n for n in neighbours if abs(n - x) == distance]
    rules: dict[str, Callable[[list[int]], int]] = {
        "RND": max,
        "RND_MIN_INF": min,
        "RND_ZERO": lambda tied: min(tied, key=abs),
        "RND_INF": lambda tied: max(tied, key=abs),
        "RND_CONV": lambda tied: min(tied, key=lambda n: n % 2),
    }
    return rules[mode](nearest)


@cache
def exact_fit(n: int, width: int, signed: bool, mode: str) -> int:
    """The integer of ``width`` bits that ``mode`` makes of ``n``."""
    n, top = int(n), 2 ** (width - 1) if signed else 2**width
    bottom = -top if signed else 0
    if mode == "WRAP":
        return bottom + (n - bottom) % 2**width  # the one of these congruent to n
    if mode == "SAT_ZERO":
        return n if bottom <= n < top else 0
    if mode == "SAT_SYM" and signed and width > 1:
        bottom += 1
    return min(max(n, bottom), top - 1)


def exact_narrow(n: int, source: Format, target: Format, rounding: str, overflow: str) -> int:
    """``narrow`` of one integer."""
    scaled = Fraction(n) * Fraction(2) ** (target.frac - source.frac)
    return exact_fit(exact_round(scaled, rounding), target.width, target.signed, overflow)


def small_formats(widest: int) -> list[Format]:
    """Every format up to ``widest`` bits, both signs, fraction bits from -2 to width + 2."""
    return [
        Format(width, frac, signed)
        for width in range(1, widest + 1)
        for frac in range(-2, width + 3)
        for signed in (False, True)
    ]


def compare(
    widest: int, every: int = 1, advance: Callable[[], object] = lambda: None
) -> tuple[int, int]:
    """Cast every input of every pair of small formats in all modes: (casts, differences).

    Of the combinations of source, target and modes only each ``every``-th is run. ``advance`` is
    called after each source format.
    """
    formats = small_formats(widest)
    casts = differences = index = 0
    for source in formats:
        inputs = np.arange(source.min, source.max + 1)
        for target in formats:
            for rounding in ROUNDINGS:
                for overflow in OVERFLOWS:
                    index += 1
                    if index % every:
                        continue
                    found = narrow(inputs, source, target, rounding, overflow)
                    wanted = _expected(
                        source.width,
                        source.signed,
                        source.frac - target.frac,
                        target.width,
                        target.signed,
                        rounding,
                        overflow,
                    )
                    casts += inputs.size
                    differences += int(np.count_nonzero(found != wanted))
        advance()
    return casts, differences


@cache
def _expected(
    source_width: int,
    source_signed: bool,
    drop: int,
    width: int,
    signed: bool,
    rounding: str,
    overflow: str,
) -> np.ndarray:
    """``exact_narrow`` of every input of a source; only the difference of fractions matters."""
    source = Format(source_width, drop, source_signed)
    target = Format(width, 0, signed)
    return np.array(
        [
            exact_narrow(n, source, target, rounding, overflow)
            for n in range(source.min, source.max + 1)
        ]
    )
