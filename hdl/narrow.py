# SPDX-License-Identifier: Apache-2.0
"""Narrowing in hardware: the twin of :func:`quant.narrow`."""

from dataclasses import dataclass

from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.hdl import Shape

import quant
from quant import Format, Overflow, Rounding
from quant.narrow import round_shift, saturation_range

from .cost import Inventory, constant_adder, register, rounding, saturate, tabulated
from .cost import logic as gates
from .stream import shape


def narrow(
    value: Value,
    source: Format,
    target: Format,
    rounding: Rounding = Rounding.RND,
    overflow: Overflow = Overflow.SAT,
    bounds: tuple[int, int] | None = None,
    offset: int = 0,
) -> Value:
    """Round, then fit ``target``: combinational, in the shape of ``target``.

    Parameters
    ----------
    value : in the shape of ``source``; used more than once, so it should be a Signal
    bounds : smallest and largest integer that ``value`` takes, if that is known better than from
        ``source``: logic for what cannot happen is left out
    offset : int that is added to the rounded number; only where no fraction bits are gained
    """
    low, high = bounds or (source.min, source.max)
    drop = source.frac - target.frac
    low, high = (round_shift(n, drop, rounding) + offset for n in (low, high))
    bits = max((~n if n < 0 else n).bit_length() for n in (low, high))
    rounded = divide(value, drop, rounding)
    rounded = rounded + offset if offset else rounded
    rounded = _resize(rounded, Shape(max(1, bits + (low < 0)), low < 0))
    return _fit(rounded, low, high, target, overflow)


def simplest_rounding(
    rounding: Rounding,
    drop: int,
    low: int,
    target: Format,
    overflow: Overflow,
    ties: bool = True,
) -> Rounding:
    """The cheapest rounding mode with the same results, for ``drop`` bits that may be other than 0.

    Where nothing is negative, or what is negative becomes 0, modes that differ below zero only are
    one; half a unit is the only tie of a single dropped bit, and does not count where all that it
    takes to an even number is 1.5, which saturates to 1; and without ``ties``, where what is below
    half a unit is never 0, all modes to nearest are one.
    """
    if drop <= 0:
        return Rounding.TRN
    if not ties and rounding not in (Rounding.TRN, Rounding.TRN_ZERO):
        return Rounding.RND
    if low >= 0 or (not target.signed and overflow is not Overflow.WRAP):
        rounding = {
            Rounding.RND_INF: Rounding.RND,
            Rounding.RND_ZERO: Rounding.RND_MIN_INF,
            Rounding.TRN_ZERO: Rounding.TRN,
        }.get(rounding, rounding)
        saturates = overflow in (Overflow.SAT, Overflow.SAT_SYM)
        if rounding is Rounding.RND_CONV and drop == 1 and target.max == 1 and saturates:
            return Rounding.TRN
    return Rounding.TRN if rounding is Rounding.RND_MIN_INF and drop == 1 else rounding


@dataclass(frozen=True)
class Narrowing:
    """A register of a narrowed value that stores only bits that carry information.

    No copies of the sign, no constant zeros below, nothing at all for a constant.

    Parameters
    ----------
    source : Format of the value; low, high : smallest and largest integer it takes
    target, rounding, overflow : what it is narrowed to
    fixed : low bits of the value that never change
    offset : int that is added to the rounded number; only where no fraction bits are gained
    """

    source: Format
    low: int
    high: int
    target: Format
    rounding: Rounding = Rounding.RND
    overflow: Overflow = Overflow.SAT
    fixed: int = 0
    offset: int = 0

    def __post_init__(self) -> None:
        drop = self.source.frac - self.target.frac
        drop -= trailing_zeros(self.low | 1 << self.fixed)
        modes = self.target, below_zero(self.overflow, self.offset), self._ties
        mode = simplest_rounding(self.rounding, drop, self.low, *modes)
        object.__setattr__(self, "rounding", mode)

    @property
    def _ties(self) -> bool:
        """Whether what rounding finds below half a unit may be 0."""
        places = min(self.fixed, self.source.frac - self.target.frac - 1)
        return places <= 0 or self.low % (1 << places) == 0

    @property
    def _modes(self) -> tuple[Format, Format, Rounding, Overflow]:
        return self.source, self.target, self.rounding, self.overflow

    @property
    def bounds(self) -> tuple[int, int]:
        """Smallest and largest narrowed integer."""
        least, most, source = self.low, self.high, self.source
        if self.offset:
            least, most = self._rounded
            source = Format.containing(least, most, self.target.frac)
        modes = self.target, self.rounding, self.overflow
        low, high = quant.narrow_bounds(least, most, source, *modes)
        return int(low), int(high)

    @property
    def unchanging(self) -> int:
        """Low bits of the narrowed number that are always the same."""
        gained = self.target.frac - self.source.frac
        if gained < 0:
            return 0
        count = min(gained + self.fixed, self.target.width - 1)
        usual = self.low << gained
        for n in (self.low << gained, self.high << gained):
            if self.overflow is not Overflow.WRAP:
                fitted = self._fitted(n)
                differing = (fitted ^ usual) & ((1 << count) - 1)
                count = min(count, trailing_zeros(differing)) if differing else count
        return count

    def _fitted(self, n: int) -> int:
        """What saturation makes of a rounded value."""
        least, most = saturation_range(self.target, self.overflow)
        if least <= n <= most:
            return n
        if self.overflow is Overflow.SAT_ZERO:
            return 0
        return least if n < least else most

    @property
    def stored(self) -> Format | None:
        """Format of the bits in the register; None for a constant."""
        low, high = self.bounds
        if low == high:
            return None
        lost = self.unchanging
        least, most = self._rounded
        bits = 1 + max((~n if n < 0 else n).bit_length() for n in (least, most))
        if self._wraps and least < 0 and not self.target.signed and bits < self.target.width:
            return Format(bits - lost, self.target.frac - lost)  # the rest are copies of the sign
        return Format.containing(low >> lost, high >> lost, self.target.frac - lost)

    @property
    def needed(self) -> int:
        """Mask of the bits of the value that the narrowed number depends on."""
        width, drop = self.source.width, self.source.frac - self.target.frac
        if self.stored is None:
            return 0
        everything = (1 << width) - 1
        sign = 1 << (width - 1) if self.source.signed else 0
        exact = drop <= 0 or self.rounding is Rounding.TRN
        low, high = self._rounded
        signs = low < 0 and not self.offset
        if exact and signs and saturation_range(self.target, self.overflow) == (-1, 0):
            if self.overflow in (Overflow.SAT, Overflow.SAT_SYM):
                return sign  # of a single bit
        if exact and not self.target.signed and signs and high <= self.target.max:
            if not self._wraps:  # below zero the sign says all
                return sign | everything & _shifted((1 << high.bit_length()) - 1, drop)
        bits = self.target.width if self._wraps else Format.containing(low, high, 0).width
        if self.offset:  # the sum may have fewer bits than what is added to
            low, high = low - self.offset, high - self.offset
            bits = min(bits, Format.containing(low, high, 0).width)
        mask = _shifted((1 << bits) - 1, drop)
        if drop > 0 and self.rounding is not Rounding.TRN:
            looked_at = (1 << drop) - 1  # half a unit and what is below
            if not self._ties:
                looked_at = 0 if self.rounding is Rounding.TRN_ZERO else 1 << (drop - 1)
            elif self.rounding is Rounding.RND:
                looked_at = 1 << (drop - 1)
            mask |= looked_at
            if self.rounding in (Rounding.RND_ZERO, Rounding.RND_INF, Rounding.TRN_ZERO):
                mask |= sign
        if mask > everything:  # beyond its end a number continues with its sign
            mask |= sign
        return mask & everything

    @property
    def _rounded(self) -> tuple[int, int]:
        """Smallest and largest rounded value with the offset, before it is fitted."""
        drop = self.source.frac - self.target.frac
        low, high = (round_shift(n, drop, self.rounding) for n in (self.low, self.high))
        return low + self.offset, high + self.offset

    @property
    def _wraps(self) -> bool:
        """Whether values that do not fit are cut."""
        low, high = self._rounded
        fits = self.target.min <= low and high <= self.target.max
        return self.overflow is Overflow.WRAP and not fits

    def inventory(self) -> Inventory:
        """What the register and the logic before it are made of."""
        if self.stored is None:
            return Inventory()
        return self.logic(registered=True) + register(self.stored.width)

    def logic(self, registered: bool = False) -> Inventory:
        """What the logic before the register is made of, if there is one."""
        if self.stored is None:
            return Inventory()
        drop = self.source.frac - self.target.frac
        low, high = self._rounded
        width = (low < 0) + max((~n if n < 0 else n).bit_length() for n in (low, high))
        target = self.target
        logic = rounding(
            min(width, target.width) + drop if self._wraps else width + drop, drop, self.rounding
        )
        if self.offset and (drop == 0 or self.rounding is Rounding.TRN):
            logic += constant_adder(width)  # else it joins the adder that rounds
        fitted = low < target.min or high > target.max
        if fitted:
            signs = low < 0, target.width, target.signed
            logic += saturate(width, *signs, self.overflow, registered)
            if registered and low >= 0 and drop < 0 and not self.unchanging:
                logic += gates(width - target.width)  # bits below the value, which nothing resets
        outputs = self.stored.width + (registered and fitted)  # a gate sets or resets some
        return tabulated(self.needed.bit_count(), outputs, logic)

    def value(self, value: Value) -> Value:
        """The narrowed number without a register."""
        return narrow(value, *self._modes, (self.low, self.high), self.offset)

    def register(self, m: Module, enable: Value, value: Value, name: str) -> Value:
        """Add the register, loaded where ``enable``; return it in the shape of ``target``."""
        low, _ = self.bounds
        if self.stored is None:
            return Const(low, shape(self.target))
        y = self.value(value)
        register = Signal(shape(self.stored), name=name, reset_less=True)
        with m.If(enable):
            m.d.sync += register.eq(y[self.unchanging :])
        gained = max(0, self.target.frac - self.source.frac)
        constant = (self.low << gained) % (1 << self.unchanging)
        bits = Cat(Const(constant, self.unchanging), register)
        return _resize(bits.as_signed() if self.stored.signed else bits, shape(self.target))


def below_zero(overflow: Overflow, offset: int) -> Overflow:
    """The overflow as it matters to numbers below zero: what is added may take them above it."""
    return Overflow.WRAP if offset else overflow


def trailing_zeros(n: int) -> int:
    """Power of two that divides ``n``, which is not 0."""
    return (n & -n).bit_length() - 1


def _shifted(mask: int, drop: int) -> int:
    """Bits of a value that the bits ``mask`` of ``value / 2**drop`` stand for."""
    return mask << drop if drop > 0 else mask >> -drop


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
