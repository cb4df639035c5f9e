# SPDX-License-Identifier: Apache-2.0
"""From exact sums to numbers of a format: align, add a constant, narrow."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.hdl import Shape
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from quant import Format, Ints, Overflow, Rounding

from .cost import Inventory, adder, constant_adder, counter, mux, mux2, register, rom
from .cost import elastic as elastic_stages
from .elementwise import bit_sources, source_register, stored_bits
from .events import Events, pipeline_events
from .memory import Rom, Tables
from .narrow import Narrowing, below_zero, divide, simplest_rounding, trailing_zeros
from .stream import joined, shape, stream_signature

FIRST_DROP = 31
"""Bits that sums which are rounded twice lose first, as in gemmlowp's fixed-point products."""


@dataclass(frozen=True, eq=False)
class Lane:
    """``y = narrow((sum << shift) + bias)`` for the rows of one lane, one after another.

    With ``left``, 31 bits of that are first rounded off, ties up, and the rest is shifted by it.
    To round half up is to add half a unit, which joins the constant; bits that rounding only cuts
    off are not kept, and constants have none where no sum has any.

    Members
    -------
    shift, bias : ints, shape (groups,)
    dropped : low bits of the result that are cut off
    narrowing : of the rest
    left : ints, shape (groups,), or None
    twofold : whether the narrowed number is always the lowest or the highest, as of a single bit
    """

    shift: Ints
    bias: Ints
    dropped: int
    narrowing: Narrowing
    left: Ints | None = None
    twofold: bool = False

    @classmethod
    def of(
        cls,
        low: Ints,
        high: Ints,
        shift: Ints,
        bias: Ints,
        frac: int,
        target: Format,
        rounding: Rounding,
        overflow: Overflow,
        offset: int = 0,
        left: Ints | None = None,
        cut: int = 0,
    ) -> "Lane":
        """The lane of rows with sums from ``low`` to ``high``; all of shape (groups,).

        ``cut`` low bits of the sum with its constant are cut off before anything is rounded.
        """
        modes = target, rounding, overflow
        if left is not None:
            return cls._twice(low, high, shift, bias, left, frac, modes, offset)
        drop, dropped = frac - target.frac, cut
        least = int(((low << shift) + bias).min())
        below = np.clip(np.minimum(shift, drop - 1), 0, 62)  # constant bits below half a unit
        ties = cut > 0 or bool((bias & ((1 << below) - 1) == 0).any())
        zeros = trailing_zeros(int(np.bitwise_or.reduce(bias)) | 1 << int(shift.min()))
        exact = drop - (0 if cut else zeros)
        matters = below_zero(overflow, offset)
        rounding = simplest_rounding(rounding, exact, least, target, matters, ties)
        if offset and _commutes(rounding, drop, offset):
            bias, offset = bias + (offset << drop), 0
        if rounding is Rounding.RND and 0 < drop < 62:
            bias, rounding = bias + (1 << (drop - 1)), Rounding.TRN
        if rounding is Rounding.TRN and drop > 0:
            dropped = min(drop, 62)
        if not low.any() and not high.any():  # nothing carries from the constants alone
            shift = np.full_like(shift, dropped)
        unread = np.minimum(shift, dropped)  # bits of the constant that meet zeros and are cut off
        bias = bias >> unread << unread
        common = min(int(shift.min()), dropped)
        shift, bias, dropped = shift - common, bias >> common, dropped - common
        least = int(((low << shift) + bias).min()) >> dropped
        most = int(((high << shift) + bias).max()) >> dropped
        alike = trailing_zeros(int(np.bitwise_or.reduce(bias ^ bias[0])) >> dropped | 1 << 62)
        fixed = max(0, min(int(shift.min()) - dropped, alike))  # bits of a constant alone
        source = Format.containing(least, most, frac - common - dropped)
        modes = target, rounding, overflow
        narrowing = Narrowing(source, least, most, *modes, fixed, offset)
        width = dropped + narrowing.needed.bit_length() if narrowing.needed else 0
        if len(shift) > 1:  # upper bits that nobody needs have no place in a memory
            bias = (bias + (1 << width >> 1)) % (1 << width) - (1 << width >> 1)
            shift = shift if width else np.zeros_like(shift)
        return cls(shift, bias, dropped, narrowing)

    @classmethod
    def _twice(
        cls,
        low: Ints,
        high: Ints,
        shift: Ints,
        bias: Ints,
        left: Ints,
        frac: int,
        modes: tuple[Format, Rounding, Overflow],
        offset: int,
    ) -> "Lane":
        """The lane of rows that are rounded twice."""
        bias = bias + (1 << (FIRST_DROP - 1))
        common = min(int(shift.min()), FIRST_DROP)
        shift, bias, dropped = shift - common, bias >> common, FIRST_DROP - common
        least, most = (((n << shift) + bias) >> dropped << left for n in (low, high))
        lowest, highest = int(least.min()), int(most.max())
        source, fixed = Format.containing(lowest, highest, frac), int(left.min())
        narrowing = Narrowing(source, lowest, highest, *modes, fixed, offset)
        return cls(shift, bias, dropped, narrowing, left)

    @property
    def width(self) -> int:
        """Bits of ``(sum << shift) + bias`` that y depends on, from the lowest."""
        needed = self.narrowing.needed.bit_length()
        return self.dropped + max(0, needed - int(self.left_shift.min())) if needed else 0

    @property
    def left_shift(self) -> Ints:
        """``left``, or zeros."""
        return np.zeros_like(self.shift) if self.left is None else self.left

    @property
    def cut(self) -> int:
        """Low bits of ``(sum << shift) + bias`` that have no register."""
        return self.dropped + (self.narrowing.fixed if self.left is None else 0)

    @cached_property
    def sources(self) -> tuple[int, ...]:
        """``Step.sources`` of the number to narrow if some of its bits are copies of others."""
        narrowing = self.narrowing
        if not self.twofold:
            return ()
        ends = np.array([narrowing.low, narrowing.high])
        sources = bit_sources(ends, narrowing.source.width)
        changing = (narrowing.needed >> narrowing.fixed).bit_count()
        return sources if len(stored_bits(sources, narrowing.needed)) < changing else ()

    @property
    def stored(self) -> int:
        """Bits of the register of the sum with its constant."""
        narrowing = self.narrowing
        if self.sources:
            return len(stored_bits(self.sources, narrowing.needed))
        return (narrowing.needed >> narrowing.fixed).bit_count()

    @property
    def kept(self) -> int:
        """Bits of the sum that y depends on, from the lowest."""
        return max(0, self.width - int(self.shift.min()))

    @property
    def added(self) -> int:
        """Bits of the adder of the constant: from the lowest that it changes."""
        if not self.bias.any():
            return 0
        zeros = trailing_zeros(int(np.bitwise_or.reduce(self.bias)))
        return max(0, self.width - max(zeros, int(self.shift.min())))

    @property
    def skipped(self) -> int:
        """Low bits of the sum that cannot change y: not read, and no constant carries from them."""
        unread = self.dropped
        if self.left is None and self.narrowing.needed:
            unread += trailing_zeros(self.narrowing.needed)
        zeros = [
            min(unread - s, trailing_zeros(b >> s)) if b >> s else unread - s
            for s, b in zip(self.shift.tolist(), self.bias.tolist(), strict=True)
        ]
        return max(0, min(zeros))

    @property
    def gaps(self) -> int:
        """Mask of bits of the sum, below the highest that y depends on, that it does not look at.

        There are none where a constant is added, since that carries through all bits.
        """
        if self.bias.any() or self.shift.min() < self.shift.max():
            return 0
        read = self.narrowing.needed << self.dropped >> int(self.shift[0])
        unread = ~read & ((1 << read.bit_length()) - 1)
        return unread >> self.skipped << self.skipped


def _commutes(rounding: Rounding, drop: int, offset: int) -> bool:
    """Whether an offset may as well be added before the rounding, and has place there."""
    even = rounding is Rounding.RND_CONV and offset % 2 == 0
    shifted = even or rounding in (Rounding.RND, Rounding.RND_MIN_INF, Rounding.TRN)
    return shifted and 0 <= drop and offset.bit_length() + drop < 60


def read_bits(
    low: Ints,
    high: Ints,
    shift: Ints,
    bias: Ints,
    lanes: int,
    frac: int,
    target: Format,
    rounding: Rounding,
    overflow: Overflow,
    offset: int = 0,
    left: Ints | None = None,
    cut: int = 0,
) -> tuple[Ints, Ints, Ints]:
    """Low bits of the sum of each lane that cannot change y; bits that y depends on; gaps in them.

    All of shape (lanes,): a count, a count from the lowest bit, a mask. Parameters of
    Requantisation.
    """
    modes = frac, target, rounding, overflow, offset
    made = _lanes(low, high, shift, bias, left, lanes, modes, cut)
    return (
        np.array([lane.skipped for lane in made], np.int64),
        np.array([lane.kept for lane in made], np.int64),
        np.array([lane.gaps for lane in made], np.int64),
    )


def _lanes(
    low: Ints,
    high: Ints,
    shift: Ints,
    bias: Ints,
    left: Ints | None,
    lanes: int,
    modes: tuple[int, Format, Rounding, Overflow, int],
    cut: int,
) -> list[Lane]:
    """Each lane of rows of shape (groups * lanes,)."""
    rows = zip(*(n.reshape(-1, lanes).T for n in (low, high, shift, bias)), strict=True)
    lefts = [None] * lanes if left is None else left.reshape(-1, lanes).T
    return [
        Lane.of(lane_low, lane_high, lane_shift, lane_bias, *modes, lane_left, cut)
        for (lane_low, lane_high, lane_shift, lane_bias), lane_left in zip(rows, lefts, strict=True)
    ]


class Requantisation:
    """``y = narrow((sum << shift) + bias)``, ``lanes`` rows a transfer.

    Parameters
    ----------
    sums : Format of each distinct sum
    sources : for each lane, which of ``sums`` is its own
    low, high : ints, shape (groups * lanes,): bounds of the sum of each row
    shift, bias : ints, shape (groups * lanes,)
    frac : int, fraction bits of ``bias``
    target, rounding, overflow : what y is narrowed to
    inverted : for each lane, whether its sum comes with every bit inverted, as ``-sum - 1``
    style : "block" or "logic": what the memory of the constants becomes
    offset : int that is added to each rounded number; only where no fraction bits are gained
    left : None, or ints, shape (groups * lanes,): 31 bits of each sum with its bias are rounded off
        first, ties up, and the rest is shifted by these; ``frac`` counts the fraction bits of that
    cut : low bits of the sum with its constant that are cut off before anything is rounded
    stages : registers: 2 behind the sum with its constant and behind the narrowed number, 1 behind
        the latter alone, or 0
    twofold : for each lane, whether its sum is always the lowest or the highest; by default none

    Members
    -------
    rows : the Lane of each lane
    twins : for each lane the first one with equal numbers
    """

    def __init__(
        self,
        sums: list[Format],
        sources: list[int],
        low: Ints,
        high: Ints,
        shift: Ints,
        bias: Ints,
        frac: int,
        target: Format,
        rounding: Rounding,
        overflow: Overflow,
        inverted: list[bool] | None = None,
        style: str = "logic",
        offset: int = 0,
        left: Ints | None = None,
        cut: int = 0,
        stages: int = 2,
        twofold: list[bool] | None = None,
    ):
        self.stages = stages
        self.inverted = inverted or [False] * len(sources)
        self.sums, self.sources, self.lanes = sums, sources, len(sources)
        self.groups, self.target, self.style = len(bias) // self.lanes, target, style
        modes = frac, target, rounding, overflow, offset
        self.rows = _lanes(low, high, shift, bias, left, self.lanes, modes, cut)
        if twofold is not None and self.groups == 1:
            pairs = zip(self.rows, twofold, strict=True)
            self.rows = [replace(lane, twofold=two) for lane, two in pairs]
        keys = [
            (source, inverted, *(n.tobytes() for n in (lane.bias, lane.shift, lane.left_shift)))
            for source, inverted, lane in zip(sources, self.inverted, self.rows, strict=True)
        ]
        self.twins = [keys.index(key) for key in keys]

    def subtracts(self, p: int) -> bool:
        """Whether the sum of lane p is subtracted from its constant.

        It comes inverted; where a constant is added, that is for nothing.
        """
        shift, bias = self.rows[p].shift, self.rows[p].bias
        return self.inverted[p] and bool(bias.any()) and bool(shift.min() == shift.max())

    def constants(self, p: int) -> Ints:
        """What lane p adds its sums to, or subtracts them from."""
        lane = self.rows[p]
        return lane.bias - (1 << lane.shift) if self.subtracts(p) else lane.bias

    def changes(self, p: int) -> bool:
        """Whether lane p has registers of its own: no twin before it, and y is no constant."""
        return self.twins[p] == p and self.rows[p].narrowing.stored is not None

    @cached_property
    def tables(self) -> Tables | None:
        """The constants of the lanes, then what their shifts have above the least of the lane.

        The shifts behind the first rounding come last.
        """
        if self.groups == 1:
            return None
        shifts = [lane.shift - lane.shift.min() for lane in self.rows]
        shifts += [lane.left_shift - lane.left_shift.min() for lane in self.rows]
        constants = [self.constants(p) for p in range(self.lanes)]
        return Tables([*constants, *shifts], self.style, in_turn=True)

    def inventory(self) -> Inventory:
        """What it is made of."""
        total = elastic_stages(self.stages)
        tables = self.tables
        if tables is not None and tables.width:
            total += counter(tables.depth) + mux2((tables.depth - 1).bit_length())
            total += rom(tables.depth, tables.width, self.style, tables.words)
        copies: set[bytes] = set()
        for p, lane in enumerate(self.rows):
            if not self.changes(p):
                continue
            shifts = len(set(lane.shift.tolist()))
            if shifts > 1:
                total += mux(shifts, self.sums[self.sources[p]].width + shifts - 1)
            total += mux(len(set(lane.left_shift.tolist())), lane.narrowing.source.width)
            narrowing = lane.narrowing
            sums = adder if self.tables is not None else constant_adder
            added = lane.width - int(lane.shift.min()) if self.subtracts(p) else lane.added
            total += sums(max(0, added))
            if self.stages > 1:
                copied = self._copied(lane)
                total += register(lane.stored - len(copied) + len({*copied} - copies))
                copies.update(copied)
            total += narrowing.inventory() if self.stages else narrowing.logic()
        return total

    def _copied(self, lane: Lane) -> list[bytes]:
        """Bits of constants alone, below the lowest bit of the sums, that have registers behind.

        Synthesis merges those that are alike, and has none that never change.
        """
        if self.tables is None or lane.sources or lane.left is not None:
            return []
        needed = lane.narrowing.needed << lane.dropped
        places = range(lane.cut, int(lane.shift.min()))
        columns = [lane.bias >> n & 1 for n in places if needed >> n & 1]
        return [column.tobytes() for column in columns if column.any() and not column.all()]

    def events(self) -> Events:
        """Transfers of ``i`` and ``o``, one a frame."""
        return pipeline_events(self.stages)


def requantised(
    part: Any,
    shift: Ints,
    bias: Ints,
    frac: int,
    target: Format,
    rounding: Rounding,
    overflow: Overflow,
    offset: int = 0,
    left: Ints | None = None,
    cut: int = 0,
    stages: int = 2,
    style: str = "logic",
) -> tuple[Any, Requantisation]:
    """Exact sums without what nobody reads of them, and what narrows them.

    Parameters
    ----------
    part : MacCore, Parallel or Scale
    shift, bias : ints: row j stands for ``(row << shift[j]) + bias[j]``; where they are more than
        the rows of the part, these come again and again
    frac, target, rounding, overflow, offset, left, cut, stages, style : of
        :class:`Requantisation`
    """
    modes = frac, target, rounding, overflow

    def rows(part: Any) -> tuple[Ints, Ints, Ints, Ints]:
        low, high, scale = (np.resize(n, bias.shape) for n in (part.low, part.high, part.scale))
        return low, high, scale + shift, bias

    bias, lanes = bias + (np.resize(part.offset, bias.shape) << shift), len(part.sources)
    part = part.reading(*read_bits(*rows(part), lanes, *modes, offset, left, cut))
    more: Any = (part.inverted, style, offset, left, cut, stages, part.twofold)
    return part, Requantisation(part.sums, part.sources, *rows(part), *modes, *more)


class Requantiser(wiring.Component):
    """Hardware of :class:`Requantisation`.

    Members
    -------
    i : stream of sums, fields ``sum_0``, ``sum_1``, ...
    o : stream of y, ``lanes`` a transfer
    """

    def __init__(self, design: Requantisation):
        self.design = design
        layout = data.StructLayout({f"sum_{p}": shape(f) for p, f in enumerate(design.sums)})
        super().__init__(
            {
                "i": In(stream.Signature(layout)),
                "o": Out(stream_signature(design.target, design.lanes)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        design, i, o = self.design, self.i, self.o
        enables = joined(m, [i], design.stages, o)
        constants = self._constants(m, i.valid & i.ready)
        results: list[Value] = []
        for p, lane in enumerate(design.rows):
            if design.twins[p] < p:
                results.append(results[design.twins[p]])
                continue
            biased = self._biased(m, enables, p, constants)
            if design.stages:
                y = lane.narrowing.register(m, enables[-1], biased, f"narrowed_{p}")
            else:
                y = lane.narrowing.value(biased)
            results.append(y)
        m.d.comb += [o.payload[p].eq(y) for p, y in enumerate(results)]
        return m

    def _biased(self, m: Module, enables, p: int, constants) -> Value:
        """The sum of lane p with its constant, without the bits that never change, perhaps kept."""
        lane = self.design.rows[p]
        narrowing = lane.narrowing
        number, fixed = shape(narrowing.source), narrowing.fixed
        if not self.design.changes(p):
            return Const(narrowing.low, number)
        aligned = self._aligned(m, p, constants)
        total = constants[p] - aligned if self.design.subtracts(p) else constants[p] + aligned
        if lane.sources and self.design.stages > 1:
            whole = Signal(number, name=f"biased_{p}")
            m.d.comb += whole.eq(divide(total, lane.dropped, Rounding.TRN))
            sources, needed = lane.sources, narrowing.needed
            return source_register(
                m, enables[0], whole, narrowing.source, sources, needed, f"sum_{p}"
            )
        rest = divide(total, lane.cut, Rounding.TRN)
        left = lane.left_shift
        if left.min() < left.max():
            more = constants[2 * self.design.lanes + p]
            rest = self._shifted(m, rest, left - left.min(), more, f"left_{p}")
        changing = Signal(
            Shape(number.width - fixed, number.signed), name=f"biased_{p}", reset_less=True
        )
        if self.design.stages > 1:
            with m.If(enables[0]):
                m.d.sync += changing.eq(rest)
        else:
            m.d.comb += changing.eq(rest)
        biased = Signal(number, name=f"sum_{p}")
        m.d.comb += biased.eq(Cat(Const(narrowing.low % (1 << fixed), fixed), changing))
        return biased

    def _constants(self, m: Module, moving) -> list:
        """The constant of each lane, then the changing part of its shift."""
        design = self.design
        if design.tables is None:
            return [Const(int(design.constants(p)[0])) for p in range(design.lanes)]
        m.submodules.constants = rom = Rom(design.tables)
        groups = design.tables.depth
        group, following = Signal(range(groups)), Signal(range(groups))
        m.d.comb += [following.eq(group), rom.address.eq(following), rom.enable.eq(1)]
        with m.If(moving):
            m.d.comb += following.eq(Mux(group == groups - 1, 0, group + 1))
        m.d.sync += group.eq(following)
        return [design.tables.number(n, rom.data) for n in range(len(design.tables.formats))]

    def _aligned(self, m: Module, p: int, constants):
        """The sum of lane p shifted by its fraction bits."""
        lane = self.design.rows[p]
        shift = lane.shift
        total = getattr(self.i.payload, f"sum_{self.design.sources[p]}")
        if self.design.inverted[p] and not self.design.subtracts(p):
            total = _inverted(total)
        if shift.min() == shift.max():
            return total << int(shift[0])
        if lane.skipped:  # shifted further up they look as if they were read
            total = (total >> lane.skipped) << lane.skipped
        return self._shifted(m, total, shift, constants[self.design.lanes + p], f"aligned_{p}")

    def _shifted(self, m: Module, value: Value, shift: Ints, number: Value, name: str) -> Value:
        """The value shifted by ``number`` more than the least shift."""
        least, most = int(shift.min()), int(shift.max())
        shifted = Signal(Shape(len(value) + most, value.shape().signed), name=name)
        with m.Switch(number):
            for more in range(most - least + 1):
                with m.Case(more) if more < most - least else m.Default():
                    m.d.comb += shifted.eq(value << (least + more))
        return shifted


def _inverted(value: Value) -> Value:
    """Every bit inverted, one more in front of a number without sign."""
    return (~Cat(value, Const(0, not value.shape().signed))).as_signed()
