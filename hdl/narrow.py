# SPDX-License-Identifier: Apache-2.0
"""Narrowing in hardware: the twin of :func:`quant.narrow`."""

from dataclasses import dataclass

from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.hdl import Shape

import quant
from quant import Format, Overflow, Rounding
from quant.narrow import round_shift

from .stream import shape


def narrow(
    value: Value,
    source: Format,
    target: Format,
    rounding: Rounding = Rounding.RND,
    overflow: Overflow = Overflow.SAT,
    bounds: tuple[int, int] | None = None,
) -> Value:
    """Round, then fit ``target``: combinational, in the shape of ``target``.

    Parameters
    ----------
    value : in the shape of ``source``; used more than once, so it should be a Signal
    bounds : smallest and largest integer that ``value`` takes, if that is known better than from
        ``source``: logic for what cannot happen is left out
    """
    low, high = bounds or (source.min, source.max)
    drop = source.frac - target.frac
    low, high = (round_shift(n, drop, rounding) for n in (low, high))
    bits = max((~n if n < 0 else n).bit_length() for n in (low, high))
    rounded = _resize(divide(value, drop, rounding), Shape(max(1, bits + (low < 0)), low < 0))
    return _fit(rounded, low, high, target, overflow)


@dataclass(frozen=True)
class Narrowing:
    """A register of a narrowed value that stores only bits that carry information.

    No copies of the sign, no constant zeros below, nothing at all for a constant.

    Parameters
    ----------
    source : Format of the value; low, high : smallest and largest integer it takes
    target, rounding, overflow : what it is narrowed to
    fixed : low bits of the value that never change
    """

    source: Format
    low: int
    high: int
    target: Format
    rounding: Rounding = Rounding.RND
    overflow: Overflow = Overflow.SAT
    fixed: int = 0

    @property
    def _modes(self) -> tuple[Format, Format, Rounding, Overflow]:
        return self.source, self.target, self.rounding, self.overflow

    @property
    def bounds(self) -> tuple[int, int]:
        """Smallest and largest narrowed integer."""
        low, high = quant.narrow_bounds(self.low, self.high, *self._modes)
        return int(low), int(high)

    @property
    def unchanging(self) -> int:
        """Low bits of the narrowed number that are always the same."""
        gained = self.target.frac - self.source.frac
        clipped = self.overflow in (Overflow.SAT, Overflow.SAT_SYM) and (
            self.bounds != (self.low << max(0, gained), self.high << max(0, gained))
        )
        if gained < 0 or clipped:
            return 0
        if self.overflow is Overflow.SAT_ZERO and self.low & ((1 << self.fixed) - 1):
            return min(gained, self.target.width - 1)
        return min(gained + self.fixed, self.target.width - 1)

    @property
    def stored(self) -> Format | None:
        """Format of the bits in the register; None for a constant."""
        low, high = self.bounds
        if low == high:
            return None
        lost = self.unchanging
        return Format.containing(low >> lost, high >> lost, self.target.frac - lost)

    def register(self, m: Module, enable: Value, value: Value, name: str) -> Value:
        """Add the register, loaded where ``enable``; return it in the shape of ``target``."""
        low, _ = self.bounds
        if self.stored is None:
            return Const(low, shape(self.target))
        y = narrow(value, *self._modes, (self.low, self.high))
        register = Signal(shape(self.stored), name=name, reset_less=True)
        with m.If(enable):
            m.d.sync += register.eq(y[self.unchanging :])
        bits = Cat(Const(low % (1 << self.unchanging), self.unchanging), register)
        return _resize(bits.as_signed() if self.stored.signed else bits, shape(self.target))


def divide(value: Value, drop: int, rounding: Rounding) -> Value:
    """``value / 2**drop`` rounded to an integer, one bit wider than it must be."""
    signed, width = value.shape().signed, len(value)
    if drop <= 0:
        return _resize(Cat(Const(0, -drop), value), Shape(width - drop, signed))
    sign = value[-1] if signed else Const(0, 1)
    floor = _resize(
        value[min(drop, width) :] if drop < width else sign, Shape(max(1, width - drop), signed)
    )
    half = value[drop - 1] if drop <= width else sign
    below = value[: min(drop - 1, width)]
    rest = below.any() if len(below) else Const(0, 1)
    match rounding:
        case Rounding.RND:
            return floor + half
        case Rounding.RND_ZERO:
            return floor + (half & (rest | sign))
        case Rounding.RND_MIN_INF:
            return floor + (half & rest)
        case Rounding.RND_INF:
            return floor + (half & (rest | ~sign))
        case Rounding.RND_CONV:
            return floor + (half & (rest | floor[0]))
        case Rounding.TRN:
            return floor
        case Rounding.TRN_ZERO:
            return floor + ((half | rest) & sign)


def _fit(value: Value, low: int, high: int, target: Format, overflow: Overflow) -> Value:
    """An integer between ``low`` and ``high`` in the bits of ``target``."""
    kept = _resize(value, shape(target))
    symmetric = overflow is Overflow.SAT_SYM and target.signed and target.width > 1
    least = -target.max if symmetric else target.min
    if overflow is Overflow.WRAP or (least <= low and high <= target.max):
        return kept
    magnitude = target.width - target.signed
    sign = value[-1] if value.shape().signed else Const(0, 1)
    top = len(value) - value.shape().signed
    upper = value[min(magnitude, top) : top]  # must all be copies of the sign
    above = ~sign & upper.any() if high > target.max else Const(0, 1)
    below = Const(0, 1)
    if low < least:
        below = sign & ~upper.all() if target.signed else sign
        if symmetric:
            below |= sign & ~value[:magnitude].any()
    outside = Const(0, shape(target))
    if overflow is not Overflow.SAT_ZERO:
        outside = Mux(sign, Const(least, shape(target)), Const(target.max, shape(target)))
    return _resize(Mux(above | below, outside, kept), shape(target))


def _resize(value: Value, to: Shape) -> Value:
    """The low bits of ``value``, extended by its own sign where it is shorter."""
    if len(value) < to.width:
        fill = value[-1] if value.shape().signed else Const(0, 1)
        value = Cat(value, fill.replicate(to.width - len(value)))
    bits = value[: to.width]
    return bits.as_signed() if to.signed else bits
