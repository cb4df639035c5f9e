# SPDX-License-Identifier: Apache-2.0
"""Exact functions of one number, piece by piece: polynomials of degree up to two, and quotients."""

from itertools import pairwise

import numpy as np

from .format import Format, Ints

Polynomial = tuple[int, int, int]
"""Factors of 1, x and x * x."""


def piecewise(x: Ints, breaks: tuple[int, ...], polynomials: tuple[Polynomial, ...]) -> Ints:
    """The polynomial of the piece that each ``x`` lies in; exact where the result fits 63 bits.

    Piece 0 ends before ``breaks[0]``, piece k begins at ``breaks[k - 1]``.

    >>> piecewise(np.array([-3, 0, 4]), (0,), ((0, -1, 0), (1, 0, 2))).tolist()
    [3, 1, 33]
    """
    piece = np.searchsorted(np.array(breaks, np.int64), x, side="right")
    chosen = np.array(polynomials, np.int64)[piece]
    constant, linear, square = (chosen[..., degree] for degree in range(3))
    return constant + x * (linear + x * square)


def piecewise_bounds(
    number: Format, breaks: tuple[int, ...], polynomials: tuple[Polynomial, ...]
) -> tuple[int, int]:
    """Smallest and largest :func:`piecewise` over every x of a format, both attained.

    >>> piecewise_bounds(Format(4, 0), (0,), ((0, 6, 2), (1, 2, 0)))
    (-4, 80)
    """
    found: list[int] = []
    for (first, end), (constant, linear, square) in zip(
        pairwise((number.min, *breaks, number.max + 1)), polynomials, strict=True
    ):
        places = [first, end - 1]
        if square:  # an extreme lies next to the vertex
            vertex = -linear // (2 * square)
            places += [place for place in (vertex, vertex + 1) if first <= place < end]
        found += [constant + linear * x + square * x * x for x in places]
    return min(found), max(found)


def quotient(value: Ints, divisor: int) -> Ints:
    """``value / divisor`` with one more bit, rounded to odd; ``divisor`` is odd.

    ``2 * floor(value / divisor)``, plus 1 unless the division is exact. Narrowing it by 2 bits or
    more gives what narrowing the exact quotient by one bit less would, in every mode.

    Source: S. Boldo, G. Melquiond, Emulation of FMA and correctly rounded sums: proved algorithms
    using rounding to odd, IEEE Transactions on Computers 57(4), 2008.

    >>> quotient(np.array([-7, -6, 7]), 3).tolist()
    [-5, -4, 5]
    """
    whole, rest = np.divmod(value, divisor)
    return 2 * whole + (rest != 0)
