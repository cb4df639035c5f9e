# SPDX-License-Identifier: Apache-2.0
"""Division and square root, one digit a stage, exact to the last bit.

Source: M. D. Ercegovac, T. Lang, Digital Arithmetic, 2004, chapters 5 and 6 (restoring
recurrences).
"""

from dataclasses import dataclass
from functools import cached_property
from math import isqrt

from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from quant import Format, Overflow, Rounding

from .cost import Inventory, compare, elastic, logic, negate, register, trial_subtract
from .events import Events, pipeline_events
from .narrow import Narrowing, simplest_rounding
from .stream import joined, shape, stream_signature


@dataclass(frozen=True, eq=False)
class Recurrence:
    """A function of the numbers of one or two streams, found digit by digit in elastic stages.

    Digits come with those of half a unit and with a bit that says whether anything is left below
    them, as far as the rounding needs them; so it is exact.

    Parameters
    ----------
    inputs : port name -> Format
    target, rounding, overflow : of y
    lanes : int, numbers at a time
    """

    inputs: dict[str, Format]
    target: Format
    rounding: Rounding
    overflow: Overflow
    lanes: int

    @property
    def signed(self) -> bool:
        """Whether y may be negative before it is narrowed."""
        return any(number.signed for number in self.inputs.values())

    @property
    def halves(self) -> int:
        """Digits below one unit of the target that rounding needs."""
        return int(self.signed or self._mode is not Rounding.TRN)

    @property
    def sticky(self) -> int:
        """Bits that say whether anything is left below the digits: 1 or 0."""
        return int(self.signed or self._mode not in (Rounding.TRN, Rounding.RND))

    @property
    def exceptional(self) -> int:
        """What y is where there are no digits to find; 0 if that cannot happen."""
        return 0

    @property
    def _mode(self) -> Rounding:
        return simplest_rounding(self.rounding, 2, 0, self.target, self.overflow)

    @property
    def shift(self) -> int:
        """Bits by which what the digits are found from is shifted up."""
        raise NotImplementedError

    @property
    def digits(self) -> int:
        """Digits of the magnitude."""
        raise NotImplementedError

    @property
    def most(self) -> int:
        """Largest magnitude in digits."""
        raise NotImplementedError

    @property
    def _read_digits(self) -> int:
        """Digits that narrowing reads: not the upper ones where it wraps."""
        return min(self.digits, max(1, self.narrowing.needed.bit_length() - self.sticky))

    def numbers(self, left: int) -> dict[str, int]:
        """Bits of each register of a lane while ``left`` digits are to come."""
        raise NotImplementedError

    def copies(self, left: int) -> int:
        """Low bits of the remainder that are like the last digit, or 0 before the first; no
        register holds them.
        """
        raise NotImplementedError

    def step_inventory(self, left: int) -> Inventory:
        """The logic that finds the digit after which ``left`` are to come."""
        raise NotImplementedError

    @property
    def begins(self) -> bool:
        """Whether a stage of its own comes before the first digit."""
        raise NotImplementedError

    @property
    def stages(self) -> int:
        """Registers between input and output."""
        return self.begins + self.digits + 2

    @cached_property
    def narrowing(self) -> Narrowing:
        """Of the digits with the bit for what is left below them."""
        below = self.halves + self.sticky
        most = (self.most << self.sticky) + self.sticky
        low = min(-most if self.signed else 0, self.exceptional << below)
        most = max(most, self.exceptional << below)
        source = Format.containing(low, most, self.target.frac + below)
        return Narrowing(source, low, most, self.target, self.rounding, self.overflow)

    def inventory(self) -> Inventory:
        """What it is made of."""
        lane = register(self.narrowing.needed.bit_count()) + self.narrowing.inventory()
        for left in range(self.digits - 1 + self.begins, -1, -1):
            lane += register(sum(self.numbers(left).values()))
        for left in range(self.digits - 1, -1, -1):
            lane += self.step_inventory(left)
        return self.lanes * (lane + self.ends_inventory()) + elastic(self.stages)

    def ends_inventory(self) -> Inventory:
        """The logic before the first digit and behind the last: whether anything is left."""
        if not self.sticky:
            return Inventory()
        now = self.numbers(0)
        return logic(now["remainder"] + now["below"]) + logic(max(0, -self.shift))

    def events(self, words: int) -> Events:
        """Transfers of the ports, ``words`` a frame."""
        return pipeline_events(self.stages, words, tuple(self.inputs))


@dataclass(frozen=True, eq=False)
class Division(Recurrence):
    """``y = narrow(a / b)`` of the streams ``i_a`` and ``i_b``.

    Parameters
    ----------
    pole : int in target, what a number divided by 0 gives; None where b is never 0
    """

    pole: int | None = None

    @property
    def exceptional(self) -> int:
        """``pole``, or 0."""
        return self.pole or 0

    @cached_property
    def shift(self) -> int:
        """Bits by which the magnitude of a is shifted up."""
        a, b = self.inputs.values()
        return self.target.frac + self.halves - a.frac + b.frac

    @cached_property
    def numerator(self) -> int:
        """Largest shifted magnitude of a."""
        a = next(iter(self.inputs.values()))
        largest = max(a.max, -a.min)
        return largest << self.shift if self.shift >= 0 else largest >> -self.shift

    @cached_property
    def divisor(self) -> int:
        """Largest magnitude of b."""
        b = list(self.inputs.values())[1]
        return max(b.max, -b.min)

    @cached_property
    def digits(self) -> int:
        """Digits of the quotient; more than the target can hold only where numbers wrap."""
        needed = max(1, self.numerator.bit_length())
        if self.overflow is Overflow.WRAP:
            return needed
        return min(needed, self.target.width - self.target.signed + self.halves + 1)

    @property
    def most(self) -> int:
        """Largest quotient, in digits."""
        return min(self.numerator, (1 << self.digits) - 1)

    @property
    def exceeds(self) -> bool:
        """Whether a quotient may have more digits than that."""
        return self.numerator >> self.digits > 0

    @property
    def begins(self) -> bool:
        """The magnitudes have a stage of their own."""
        return True

    def remainder_bits(self, left: int) -> int:
        """Bits of the remainder while ``left`` digits are to come."""
        return min(self.divisor - 1, self.numerator >> left).bit_length()

    def rest_bits(self, left: int) -> int:
        """Bits of the shifted magnitude of a that come after those in the remainder."""
        return max(0, min(left, self.numerator.bit_length()) - max(0, self.shift))

    def copies(self, left: int) -> int:
        """Zeros that the shift brought beyond the digits."""
        zeros = max(0, self.shift - left) if left == self.digits else 0
        return min(self.remainder_bits(left), zeros)

    def numbers(self, left: int) -> dict[str, int]:
        """Bits of each register of a lane while ``left`` digits are to come."""
        remainder = self.remainder_bits(left) - self.copies(left)
        return {
            "remainder": remainder if left or self.sticky else 0,
            "rest": self.rest_bits(left),
            "divisor": self.divisor.bit_length() if left else 0,
            "quotient": max(0, self._read_digits - left),
            "negative": int(self.signed),
            "excess": int(self.exceeds),
            "pole": int(self.pole is not None),
            "below": int(self.shift < 0 and self.sticky),
        }

    def step_inventory(self, left: int) -> Inventory:
        """The logic that finds the digit after which ``left`` are to come."""
        bits, kept = self.divisor.bit_length(), self.numbers(left)["remainder"]
        return trial_subtract(max(bits, self.remainder_bits(left + 1) + 1) + 1, kept)

    def ends_inventory(self) -> Inventory:
        """Magnitudes, excess and pole; the sign, whose adder takes in the digits of an excess."""
        result, b = super().ends_inventory(), list(self.inputs.values())[1]
        for number in self.inputs.values():
            result += negate(number.width) if number.signed else Inventory()
        if self.exceeds:
            result += compare(max(self.divisor, self.numerator >> self.digits).bit_length())
        if self.pole is not None:
            result += logic(b.width) + logic(2, self.narrowing.needed.bit_count())
        elif self.exceeds and not self.signed:
            result += logic(2, self.digits)
        if self.signed:
            result += negate(self.narrowing.source.width)
        return result


@dataclass(frozen=True, eq=False)
class Root(Recurrence):
    """``y = narrow(sqrt(x))`` of the stream ``i``, which is unsigned."""

    @property
    def _number(self) -> Format:
        return self.inputs["i"]

    @cached_property
    def shift(self) -> int:
        """Bits by which x is shifted up: its square root then counts digits."""
        return 2 * (self.target.frac + self.halves) - self._number.frac

    @cached_property
    def radicand(self) -> int:
        """Largest shifted x."""
        largest = self._number.max
        return largest << self.shift if self.shift >= 0 else largest >> -self.shift

    @cached_property
    def digits(self) -> int:
        """Digits of the root: one for every two bits."""
        return max(1, (self.radicand.bit_length() + 1) // 2)

    @property
    def most(self) -> int:
        """Largest root, in digits."""
        return isqrt(self.radicand)

    @property
    def begins(self) -> bool:
        """The first digit is found from x itself."""
        return False

    def rest_bits(self, left: int) -> int:
        """Bits of the shifted x that are still to come."""
        return max(0, min(2 * left, self.radicand.bit_length()) - max(0, self.shift))

    def remainder_bits(self, left: int) -> int:
        """Bits of the remainder, at most twice the root so far."""
        part = self.radicand >> 2 * left
        root = isqrt(part)
        return max(2 * (root - 1), part - root * root).bit_length()

    def copies(self, left: int) -> int:
        """Low bits of the remainder that are like the last digit: no bits of x came with it."""
        return min(self.remainder_bits(left), max(0, min(2, self.shift - 2 * left)))

    def numbers(self, left: int) -> dict[str, int]:
        """Bits of each register of a lane while ``left`` digits are to come."""
        remainder = self.remainder_bits(left) - self.copies(left)
        return {
            "remainder": remainder if left or self.sticky else 0,
            "rest": self.rest_bits(left),
            "quotient": self.digits - left if left else self._read_digits,
            "below": int(self.shift < 0 and self.sticky),
        }

    def step_inventory(self, left: int) -> Inventory:
        """The logic that finds the digit after which ``left`` are to come."""
        before, now = self.numbers(left + 1), self.numbers(left)
        inputs = sum(before[name] for name in ("remainder", "rest", "quotient")) - now["rest"]
        if inputs <= 4:  # a table for each bit
            return logic(inputs, now["remainder"] + 1)
        zeros = min(2, max(0, self.shift - 2 * left))  # below the remainder
        bits = max(self.remainder_bits(left + 1) + 2, self.digits - left + 1)
        return trial_subtract(bits + 1 - zeros, now["remainder"], constant=True)


class RecurrenceArray(wiring.Component):
    """Hardware of :class:`Division` or :class:`Root`.

    Members
    -------
    one stream for every input, ``lanes`` numbers a transfer; all are taken in one cycle
    o : stream of y
    """

    def __init__(self, design: Division | Root):
        self.design = design
        ports = {p: In(stream_signature(f, design.lanes)) for p, f in design.inputs.items()}
        super().__init__({**ports, "o": Out(stream_signature(design.target, design.lanes))})

    def elaborate(self, platform):
        m = Module()
        design = self.design
        inputs = [getattr(self, port) for port in design.inputs]
        enables = joined(m, inputs, design.stages, self.o)
        for p in range(design.lanes):
            numbers = [i.payload[p] for i in inputs]
            if isinstance(design, Division):
                a, b = numbers
                now = self._magnitudes(m, a, b, p)
                now = self._kept(m, enables[0], now, design.digits, p)
            else:
                now = self._radicand(*numbers)
            for left in range(design.digits - 1, -1, -1):
                enable = enables[design.digits - 1 - left + design.begins]
                now = self._kept(m, enable, self._step(m, now, left, p), left, p)
            m.d.comb += self.o.payload[p].eq(self._narrowed(m, enables, now, p))
        return m

    def _magnitudes(self, m: Module, a: Value, b: Value, p: int) -> dict[str, Value]:
        """What the first digit of a quotient is found from."""
        design = self.design
        sizes = []
        for name, value in (("a", a), ("b", b)):
            size = Signal(len(value), name=f"{name}_size_{p}")
            negative = value[-1] if value.shape().signed else Const(0, 1)
            m.d.comb += size.eq(_negated(value, negative) if value.shape().signed else value)
            sizes.append((size, negative))
        (a_size, a_negative), (b_size, b_negative) = sizes
        whole = _shifted(a_size, design.shift)
        return {
            "remainder": whole[design.digits + design.copies(design.digits) :],
            "rest": whole[min(max(0, design.shift), design.digits) : design.digits],
            "divisor": b_size,
            "negative": a_negative ^ b_negative,
            "excess": whole[design.digits :] >= b_size,
            "pole": b == 0,
            "below": a_size[: max(0, -design.shift)].any(),
        }

    def _radicand(self, x: Value) -> dict[str, Value]:
        """What the first digit of a root is found from."""
        shift = self.design.shift
        return {
            "rest": _shifted(x, shift)[max(0, shift) :],
            "below": x[: max(0, -shift)].any(),
        }

    def _kept(
        self, m: Module, enable: Value, values: dict[str, Value], left: int, p: int
    ) -> dict[str, Value]:
        """A register for each value that has bits at this stage."""
        kept: dict[str, Value] = {}
        for name, bits in self.design.numbers(left).items():
            if bits:
                kept[name] = Signal(bits, name=f"{name}_{left}_{p}", reset_less=True)
                with m.If(enable):
                    m.d.sync += kept[name].eq(values[name])
        return kept

    def _step(self, m: Module, now: dict[str, Value], left: int, p: int) -> dict[str, Value]:
        """One digit: the remainder goes down by what it stands for where it is not too small."""
        base, count = max(0, self.design.shift), 1 if isinstance(self.design, Division) else 2
        rest = now.get("rest", Const(0, 0))
        digits = now.get("quotient", Const(0, 0))
        places = range(count * left - base, count * (left + 1) - base)
        coming = Cat(rest[n] if 0 <= n < len(rest) else Const(0, 1) for n in places)
        last = digits[0] if len(digits) else Const(0, 1)
        copies = last.replicate(self.design.copies(left + 1))
        before = Cat(copies, now.get("remainder", Const(0, 0)))
        remainder = Cat(coming, before)
        taken = now["divisor"] if count == 1 else Cat(Const(1, 2), digits)
        width = max(len(remainder), len(taken))
        above = Cat(Const(0, width - len(remainder)), Const(1, 1))  # 1 unless something is borrowed
        difference = Signal(width + 1, name=f"difference_{left}_{p}")
        m.d.comb += difference.eq(Cat(remainder, above) - taken)
        digit = difference[-1]
        return now | {
            "remainder": Mux(digit, difference, remainder)[self.design.copies(left) :],
            "rest": rest[: max(0, count * left - base)],
            "quotient": Cat(digit, digits),
        }

    def _narrowed(self, m: Module, enables: Value, now: dict[str, Value], p: int) -> Value:
        """The digits with what is left below them, their sign, and the narrowed number."""
        design, narrowing = self.design, self.design.narrowing
        found: Value = now["quotient"]
        if "excess" in now:
            found = found | now["excess"].replicate(len(found))
        if design.sticky:
            copied = found[:1] if design.copies(0) else Const(0, 0)
            left = Cat(copied, *(now[name] for name in ("remainder", "below") if name in now))
            found = Cat(left.any() if len(left) else Const(0, 1), found)
        value = found
        if "negative" in now:
            value = _negated(Cat(found, Const(0, 1)), now["negative"]).as_signed()
        if "pole" in now:
            value = Mux(now["pole"], design.exceptional << (design.halves + design.sticky), value)
        exact = Signal(shape(narrowing.source), name=f"exact_{p}", reset_less=True)
        with m.If(enables[-2]):
            m.d.sync += exact.eq(value)
        return narrowing.register(m, enables[-1], exact, f"narrowed_{p}")


def _negated(value: Value, negative: Value) -> Value:
    """``-value`` where ``negative``, in its bits: one adder behind exclusive ors."""
    width = len(value)
    return ((value.as_unsigned() ^ negative.replicate(width)) + negative)[:width]


def _shifted(value: Value, shift: int) -> Value:
    return Cat(Const(0, shift), value) if shift >= 0 else value[min(-shift, len(value)) :]
