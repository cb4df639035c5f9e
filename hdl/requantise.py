# SPDX-License-Identifier: Apache-2.0
"""From exact sums to numbers of a format: align, add a constant, narrow."""

from dataclasses import dataclass
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
from .events import Events, pipeline_events
from .memory import Rom, Tables
from .narrow import Narrowing, divide, simplest_rounding
from .stream import elastic, shape, stream_signature

STAGES = 2


@dataclass(frozen=True, eq=False)
class Lane:
    """``y = narrow((sum << shift) + bias)`` for the rows of one lane, one after another.

    To round half up is to add half a unit, which joins the constant; bits that rounding only cuts
    off are not kept, and constants have none where no sum has any.

    Members
    -------
    shift, bias : ints, shape (groups,)
    dropped : low bits of the result that are cut off
    narrowing : of the rest
    """

    shift: Ints
    bias: Ints
    dropped: int
    narrowing: Narrowing

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
        cut: int = 0,
    ) -> "Lane":
        """The lane of rows with sums from ``low`` to ``high``; all of shape (groups,).

        ``cut`` low bits of the sum with its constant are cut off before anything is rounded.
        """
        drop, dropped = frac - target.frac, cut
        least = int(((low << shift) + bias).min())
        below = np.clip(np.minimum(shift, drop - 1), 0, 62)  # constant bits below half a unit
        ties = cut > 0 or bool((bias & ((1 << below) - 1) == 0).any())
        rounding = simplest_rounding(rounding, drop, least, target, overflow, ties)
        if rounding is Rounding.RND and 0 < drop < 62:
            bias, rounding = bias + (1 << (drop - 1)), Rounding.TRN
        if rounding is Rounding.TRN and drop > 0:
            dropped = min(drop, 62)
        common = min(int(shift.min()), dropped)
        shift, bias, dropped = shift - common, bias >> common, dropped - common
        least = int(((low << shift) + bias).min()) >> dropped
        most = int(((high << shift) + bias).max()) >> dropped
        fixed = max(0, int(shift[0]) - dropped) if len(shift) == 1 else 0
        source = Format.containing(least, most, frac - common - dropped)
        narrowing = Narrowing(source, least, most, target, rounding, overflow, fixed)
        width = dropped + narrowing.needed.bit_length()
        if len(shift) > 1:  # upper bits that nobody needs have no place in a memory
            bias = (bias + (1 << width >> 1)) % (1 << width) - (1 << width >> 1)
            shift = shift if width else np.zeros_like(shift)
        return cls(shift, bias, dropped, narrowing)

    @property
    def width(self) -> int:
        """Bits of ``(sum << shift) + bias`` that y depends on, from the lowest."""
        return self.dropped + self.narrowing.needed.bit_length()

    @property
    def kept(self) -> int:
        """Bits of the sum that y depends on, from the lowest."""
        return max(0, self.width - int(self.shift.min()))

    @property
    def skipped(self) -> int:
        """Low bits of the sum that cannot change y: cut off, and no constant carries from them."""
        zeros = [
            min(self.dropped - s, _trailing_zeros(b >> s)) if b >> s else self.dropped - s
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


def _trailing_zeros(n: int) -> int:
    return (n & -n).bit_length() - 1


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
    cut: int = 0,
) -> tuple[Ints, Ints, Ints]:
    """Low bits of the sum of each lane that cannot change y; bits that y depends on; gaps in them.

    All of shape (lanes,): a count, a count from the lowest bit, a mask. Parameters of
    Requantisation.
    """
    rows = [n.reshape(-1, lanes).T for n in (low, high, shift, bias)]
    modes = frac, target, rounding, overflow, cut
    made = [
        Lane.of(lane_low, lane_high, lane_shift, lane_bias, *modes)
        for lane_low, lane_high, lane_shift, lane_bias in zip(*rows, strict=True)
    ]
    return (
        np.array([lane.skipped for lane in made], np.int64),
        np.array([lane.kept for lane in made], np.int64),
        np.array([lane.gaps for lane in made], np.int64),
    )


class Requantisation:
    """``y = narrow((sum << shift) + bias)``, ``lanes`` rows a transfer.

    Two stages: the sum with its constant, and the narrowed number.

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
    cut : low bits of the sum with its constant that are cut off before anything is rounded

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
        cut: int = 0,
    ):
        self.inverted = inverted or [False] * len(sources)
        self.sums, self.sources, self.lanes = sums, sources, len(sources)
        self.groups, self.target, self.style = len(bias) // self.lanes, target, style
        rows = (n.reshape(-1, self.lanes).T for n in (low, high, shift, bias))
        self.rows = [
            Lane.of(
                lane_low, lane_high, lane_shift, lane_bias, frac, target, rounding, overflow, cut
            )
            for lane_low, lane_high, lane_shift, lane_bias in zip(*rows, strict=True)
        ]
        keys = [
            (source, inverted, lane.bias.tobytes(), lane.shift.tobytes())
            for source, inverted, lane in zip(sources, self.inverted, self.rows, strict=True)
        ]
        self.twins = [keys.index(key) for key in keys]

    def changes(self, p: int) -> bool:
        """Whether lane p has registers of its own: no twin before it, and y is no constant."""
        return self.twins[p] == p and self.rows[p].narrowing.stored is not None

    @cached_property
    def tables(self) -> Tables | None:
        """The constants of the lanes, then what their shifts have above the least of the lane."""
        if self.groups == 1:
            return None
        shifts = [lane.shift - lane.shift.min() for lane in self.rows]
        return Tables([*(lane.bias for lane in self.rows), *shifts], self.style, in_turn=True)

    def inventory(self) -> Inventory:
        """What it is made of."""
        total = elastic_stages(STAGES)
        tables = self.tables
        if tables is not None and tables.width:
            total += counter(tables.depth) + mux2((tables.depth - 1).bit_length())
            total += rom(tables.depth, tables.width, self.style, tables.words)
        for p, lane in enumerate(self.rows):
            if not self.changes(p):
                continue
            shifts = len(set(lane.shift.tolist()))
            if shifts > 1:
                total += mux(shifts, self.sums[self.sources[p]].width + shifts - 1)
            narrowing = lane.narrowing
            changing = narrowing.needed >> narrowing.fixed
            sums = adder if self.tables is not None else constant_adder
            total += sums(lane.kept) + register(changing.bit_count())
            total += narrowing.inventory()
        return total

    def events(self) -> Events:
        """Transfers of ``i`` and ``o``, one a frame."""
        return pipeline_events(STAGES)


def requantised(
    part: Any,
    shift: Ints,
    bias: Ints,
    frac: int,
    target: Format,
    rounding: Rounding,
    overflow: Overflow,
    cut: int = 0,
) -> tuple[Any, Requantisation]:
    """Exact sums without what nobody reads of them, and what narrows them.

    Parameters
    ----------
    part : MacCore, Parallel or Scale
    shift, bias : ints: row j stands for ``(row << shift[j]) + bias[j]``
    frac, target, rounding, overflow, cut : of :class:`Requantisation`
    """
    modes = frac, target, rounding, overflow
    bias, lanes = bias + (part.offset << shift), len(part.sources)
    part = part.reading(
        *read_bits(part.low, part.high, part.scale + shift, bias, lanes, *modes, cut)
    )
    rows = part.low, part.high, part.scale + shift, bias
    return part, Requantisation(part.sums, part.sources, *rows, *modes, part.inverted, cut=cut)


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
        enables, valids = elastic(m, i.valid, STAGES, o.ready)
        m.d.comb += [i.ready.eq(enables[0]), o.valid.eq(valids[-1])]
        constants = self._constants(m, i.valid & enables[0])
        results: list[Value] = []
        for p, lane in enumerate(design.rows):
            if design.twins[p] < p:
                results.append(results[design.twins[p]])
                continue
            biased = self._biased(m, enables[0], p, constants)
            results.append(lane.narrowing.register(m, enables[1], biased, f"narrowed_{p}"))
        m.d.comb += [o.payload[p].eq(y) for p, y in enumerate(results)]
        return m

    def _biased(self, m: Module, enable, p: int, constants) -> Value:
        """Register of the sum of lane p with its constant, without the bits that never change."""
        lane = self.design.rows[p]
        narrowing = lane.narrowing
        number, fixed = shape(narrowing.source), narrowing.fixed
        if not self.design.changes(p):
            return Const(narrowing.low, number)
        total = constants[p] + self._aligned(m, p, constants)
        changing = Signal(
            Shape(number.width - fixed, number.signed), name=f"biased_{p}", reset_less=True
        )
        with m.If(enable):
            m.d.sync += changing.eq(divide(total, lane.dropped + fixed, Rounding.TRN))
        biased = Signal(number, name=f"sum_{p}")
        m.d.comb += biased.eq(Cat(Const(narrowing.low % (1 << fixed), fixed), changing))
        return biased

    def _constants(self, m: Module, moving) -> list:
        """The constant of each lane, then the changing part of its shift."""
        design = self.design
        if design.tables is None:
            return [Const(int(lane.bias[0])) for lane in design.rows]
        m.submodules.constants = rom = Rom(design.tables)
        groups = design.tables.depth
        group, following = Signal(range(groups)), Signal(range(groups))
        m.d.comb += [following.eq(group), rom.address.eq(following), rom.enable.eq(1)]
        with m.If(moving):
            m.d.comb += following.eq(Mux(group == groups - 1, 0, group + 1))
        m.d.sync += group.eq(following)
        return [design.tables.number(n, rom.data) for n in range(2 * design.lanes)]

    def _aligned(self, m: Module, p: int, constants):
        """The sum of lane p shifted by its fraction bits."""
        shift = self.design.rows[p].shift
        total = getattr(self.i.payload, f"sum_{self.design.sources[p]}")
        if self.design.inverted[p]:
            total = _inverted(total)
        least, most = int(shift.min()), int(shift.max())
        if least == most:
            return total << least
        aligned = Signal(Shape(len(total) + most, total.shape().signed), name=f"aligned_{p}")
        with m.Switch(constants[self.design.lanes + p]):
            for more in range(most - least + 1):
                with m.Case(more) if more < most - least else m.Default():
                    m.d.comb += aligned.eq(total << (least + more))
        return aligned


def _inverted(value: Value) -> Value:
    """Every bit inverted, one more in front of a number without sign."""
    return (~Cat(value, Const(0, not value.shape().signed))).as_signed()
