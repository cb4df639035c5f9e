# SPDX-License-Identifier: Apache-2.0
"""What independent statements of blocks are made of: exact fractions, and a list of them."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import Any

from quant import Format, Ints

STATEMENTS: dict[type, Callable[..., Any]] = {}
"""Kind of block -> what it computes, told without its own code: block, frames -> outputs.

Frames have shape (batch, *shape); outputs are an array or :class:`Within`, a tuple if several.
"""


@dataclass(frozen=True)
class Within:
    """Integers between two bounds, for functions that cannot be stated exactly."""

    low: Ints
    high: Ints


def statement(kind: type) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function as the statement of a kind of block."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        STATEMENTS[kind] = function
        return function

    return enter


def number(integer: int, form: Format) -> Fraction:
    """The value that an integer of a format stands for."""
    return Fraction(int(integer)) / Fraction(2) ** form.frac


def narrowed(value: Fraction, block: Any) -> int:
    """The integer that a block's output format, rounding and overflow make of an exact value."""
    form: Format = block.output_format
    scaled = value * Fraction(2) ** form.frac
    return fit(rounded(scaled, block.rounding.value), form, block.overflow.value)


def rounded(value: Fraction, mode: str) -> int:
    """The definitions of ap_fixed, word for word."""
    below, above = floor(value), ceil(value)
    if mode == "TRN":
        return below
    if mode == "TRN_ZERO":
        return below if value >= 0 else above
    if value - below != above - value:  # not half-way, or an integer
        return below if value - below < above - value else above
    if below == above:
        return below
    even = below if below % 2 == 0 else above
    toward_zero, away = (below, above) if value > 0 else (above, below)
    return {
        "RND": above,
        "RND_MIN_INF": below,
        "RND_ZERO": toward_zero,
        "RND_INF": away,
        "RND_CONV": even,
    }[mode]


def fit(integer: int, form: Format, mode: str) -> int:
    """What an integer becomes in the bits of a format."""
    least = -(2 ** (form.width - 1)) if form.signed else 0
    most = least + 2**form.width - 1
    if mode == "WRAP":
        return (integer - least) % 2**form.width + least
    if mode == "SAT_SYM" and form.signed and form.width > 1:
        least = -most
    if least <= integer <= most:
        return integer
    if mode == "SAT_ZERO":
        return 0
    return most if integer > most else least
