# SPDX-License-Identifier: Apache-2.0
"""From exact sums to numbers of a format: align, add a constant, narrow."""

from functools import cached_property

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


class Requantisation:
    """``y = narrow((sum << shift) + bias)``, ``lanes`` rows a transfer.

    Two stages: the sum with its constant, and the narrowed number. To round half up is to add half
    a unit, which joins the constant; bits that rounding only cuts off are not kept.

    Parameters
    ----------
    sums : Format of each distinct sum
    sources : for each lane, which of ``sums`` is its own
    low, high : ints, shape (groups * lanes,): bounds of the sum of each row
    shift, bias : ints, shape (groups * lanes,)
    frac : int, fraction bits of ``bias``
    target, rounding, overflow : what y is narrowed to
    negate : for each lane, whether its sum is the opposite of what comes
    style : "block" or "logic": what the memory of the constants becomes
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
        negate: list[bool] | None = None,
        style: str = "logic",
    ):
        self.negate = negate or [False] * len(sources)
        self.sums, self.sources, self.lanes = sums, sources, len(sources)
        self.groups = len(bias) // self.lanes
        self.target, self.overflow, self.style = target, overflow, style
        self.shift = shift.reshape(self.groups, self.lanes)
        bias, rounding, self.dropped = _constant(low, shift, bias, frac, target, rounding, overflow)
        self.bias = bias.reshape(self.groups, self.lanes)
        self.rounding = rounding
        self.source_frac = frac - self.dropped
        shape = self.bias.shape
        self.low = ((low.reshape(shape) << self.shift) + self.bias).min(axis=0) >> self.dropped
        self.high = ((high.reshape(shape) << self.shift) + self.bias).max(axis=0) >> self.dropped
        keys = [
            (source, self.negate[p], self.bias[:, p].tobytes(), self.shift[:, p].tobytes())
            for p, source in enumerate(sources)
        ]
        self.twins = [keys.index(key) for key in keys]  # the first lane with equal numbers

    def biased(self, p: int) -> Format:
        """Format of lane p with its constant, as far as it is kept."""
        return Format.containing(int(self.low[p]), int(self.high[p]), self.source_frac)

    def fixed(self, p: int) -> int:
        """Low bits of lane p with its constant that never change."""
        if self.groups > 1:
            return 0
        return max(0, int(self.shift[0, p]) - self.dropped)

    def narrowing(self, p: int) -> Narrowing:
        """Of lane p."""
        low, high = int(self.low[p]), int(self.high[p])
        return Narrowing(
            self.biased(p), low, high, self.target, self.rounding, self.overflow, self.fixed(p)
        )

    @cached_property
    def tables(self) -> Tables | None:
        """The constants of the lanes, then what their shifts have above the least of the lane."""
        if self.groups == 1:
            return None
        return Tables([*self.bias.T, *(self.shift - self.shift.min(axis=0)).T], self.style)

    def inventory(self) -> Inventory:
        """What it is made of."""
        total = elastic_stages(STAGES)
        if self.tables is not None:
            total += counter(self.groups) + mux2((self.groups - 1).bit_length())
            total += rom(self.groups, self.tables.width, self.style, self.tables.words)
        for p in range(self.lanes):
            narrowing = self.narrowing(p)
            if self.twins[p] < p or self.low[p] == self.high[p]:
                continue
            width = self.biased(p).width + self.dropped
            shifts = len(set(self.shift[:, p].tolist()))
            if shifts > 1:
                total += mux(shifts, self.sums[self.sources[p]].width + shifts - 1)
            changing = narrowing.needed >> self.fixed(p)
            sums = adder if self.tables is not None else constant_adder
            total += sums(width - int(self.shift[:, p].min())) + register(changing.bit_count())
            total += narrowing.inventory()
        return total

    def events(self) -> Events:
        """Transfers of ``i`` and ``o``, one a frame."""
        return pipeline_events(STAGES)


def _constant(
    low: Ints,
    shift: Ints,
    bias: Ints,
    frac: int,
    target: Format,
    rounding: Rounding,
    overflow: Overflow,
) -> tuple[Ints, Rounding, int]:
    """The constant with half a unit where that rounds, the rounding left, the bits it cuts off."""
    drop = frac - target.frac
    least = int(((low << shift) + bias).min())
    rounding = simplest_rounding(rounding, drop, least, target, overflow)
    if rounding is Rounding.RND and 0 < drop < 62:
        bias, rounding = bias + (1 << (drop - 1)), Rounding.TRN
    return bias, rounding, min(drop, 62) if rounding is Rounding.TRN and drop > 0 else 0


def unread_bits(
    low: Ints,
    shift: Ints,
    bias: Ints,
    frac: int,
    target: Format,
    rounding: Rounding,
    overflow: Overflow,
) -> Ints:
    """Low bits of each sum that cannot change y: cut off, and no constant carries out of them."""
    constant, _, dropped = _constant(low, shift, bias, frac, target, rounding, overflow)
    zeros = [
        dropped if c % (1 << dropped) == 0 else (c & -c).bit_length() - 1 for c in constant.tolist()
    ]
    return np.maximum(np.minimum(zeros, dropped) - shift, 0)


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
        for p in range(design.lanes):
            if design.twins[p] < p:
                results.append(results[design.twins[p]])
                continue
            biased = self._biased(m, enables[0], p, constants)
            results.append(design.narrowing(p).register(m, enables[1], biased, f"narrowed_{p}"))
        m.d.comb += [o.payload[p].eq(y) for p, y in enumerate(results)]
        return m

    def _biased(self, m: Module, enable, p: int, constants) -> Value:
        """Register of the sum of lane p with its constant, without the bits that never change."""
        design = self.design
        number = shape(design.biased(p))
        low, high, fixed = int(design.low[p]), int(design.high[p]), design.fixed(p)
        if low == high:
            return Const(low, number)
        aligned = self._aligned(m, p, constants)
        total = constants[p] - aligned if design.negate[p] else constants[p] + aligned
        changing = Signal(
            Shape(number.width - fixed, number.signed), name=f"biased_{p}", reset_less=True
        )
        with m.If(enable):
            m.d.sync += changing.eq(divide(total, design.dropped + fixed, Rounding.TRN))
        biased = Signal(number, name=f"sum_{p}")
        m.d.comb += biased.eq(Cat(Const(low % (1 << fixed), fixed), changing))
        return biased

    def _constants(self, m: Module, moving) -> list:
        """The constant of each lane, then the changing part of its shift."""
        design = self.design
        if design.tables is None:
            return [Const(int(b)) for b in design.bias[0]]
        m.submodules.constants = rom = Rom(design.tables)
        group, following = Signal(range(design.groups)), Signal(range(design.groups))
        m.d.comb += [following.eq(group), rom.address.eq(following), rom.enable.eq(1)]
        with m.If(moving):
            m.d.comb += following.eq(Mux(group == design.groups - 1, 0, group + 1))
        m.d.sync += group.eq(following)
        return [design.tables.number(n, rom.data) for n in range(2 * design.lanes)]

    def _aligned(self, m: Module, p: int, constants):
        """The sum of lane p shifted by its fraction bits."""
        shift = self.design.shift[:, p]
        total = getattr(self.i.payload, f"sum_{self.design.sources[p]}")
        least, most = int(shift.min()), int(shift.max())
        if least == most:
            return total << least
        aligned = Signal(Shape(len(total) + most, total.shape().signed), name=f"aligned_{p}")
        with m.Switch(constants[self.design.lanes + p]):
            for more in range(most - least + 1):
                with m.Case(more) if more < most - least else m.Default():
                    m.d.comb += aligned.eq(total << (least + more))
        return aligned
