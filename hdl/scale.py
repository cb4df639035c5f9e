# SPDX-License-Identifier: Apache-2.0
"""Products of a stream of numbers with constants that change from transfer to transfer."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from amaranth import Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from quant import Format, Ints, Rounding, dot_bounds

from .cost import (
    Inventory,
    Product,
    counter,
    elastic,
    multiplier,
    mux2,
    operand_register,
    product_register,
    register,
    rom,
)
from .events import Events, pipeline_events
from .mac import trailing_zeros, within, wrapped
from .memory import Rom, Tables
from .narrow import divide
from .stream import joined, shape, stream_signature

STAGES = 2


@dataclass(frozen=True, eq=False)
class Scale:
    """``w[g] * x`` lane by lane, a multiplier a lane; g counts the transfers, round and round.

    Two stages: constants and numbers, products.

    Parameters
    ----------
    weight : ints, shape (groups, lanes)
    number : Format of x
    style : "block" or "logic", what the memory of the constants becomes
    skipped, kept, gaps : ints, shape (lanes,): of each product, without the powers of two that
        divide the constants, the low bits that nobody reads, the bits that somebody does, those
        included, and the mask of bits among them that nobody reads; by default all are read
    positive : constant that numbers from 0 on meet instead; none by default

    Members
    -------
    low, high, scale : ints, shape (lanes,): bounds of the sums that leave, which stand for the
        products shifted down by ``scale``
    """

    weight: Ints
    number: Format
    style: str = "logic"
    skipped: Ints | None = None
    kept: Ints | None = None
    gaps: Ints | None = None
    positive: int | None = None

    @property
    def lanes(self) -> int:
        return self.weight.shape[1]

    @property
    def sources(self) -> list[int]:
        """Which of the sums is that of each lane."""
        return list(range(self.lanes))

    @property
    def inverted(self) -> list[bool]:
        """No sum comes inverted."""
        return [False] * self.lanes

    @property
    def twofold(self) -> list[bool]:
        """No sum is known to be one of two."""
        return [False] * self.lanes

    @property
    def offset(self) -> Ints:
        """Nothing has to be added."""
        return np.zeros(self.lanes, np.int64)

    def reading(self, skipped: Ints, kept: Ints, gaps: Ints) -> "Scale":
        """The same without what nobody reads of the sums."""
        return replace(self, skipped=skipped, kept=kept, gaps=gaps)

    @cached_property
    def used(self) -> list[int]:
        """Lanes whose products are read and not always 0."""
        return [p for p, lane in enumerate(self._constants) if lane.any() and self._read[p]]

    @cached_property
    def _constants(self) -> Ints:
        """All that the numbers of each lane may meet, shape (lanes, constants)."""
        positive = [] if self.positive is None else [np.full_like(self.weight[:1], self.positive)]
        return np.concatenate([self.weight, *positive]).T

    @cached_property
    def scale(self) -> Ints:
        return self._zeros + self._unread

    @cached_property
    def _zeros(self) -> Ints:
        """Powers of two, shape (lanes,), that divide the constants."""
        return np.array([trailing_zeros(lane) for lane in self._constants], np.int64)

    @cached_property
    def _unread(self) -> Ints:
        return np.zeros(self.lanes, np.int64) if self.skipped is None else self.skipped

    @cached_property
    def _read(self) -> list[int]:
        """Bits of the product of each lane that are read or below those."""
        return [64] * self.lanes if self.kept is None else self.kept.tolist()

    @cached_property
    def _bounds(self) -> tuple[Ints, Ints]:
        if self.positive is not None:
            least, most = self.weight * self.number.min, self.positive * self.number.max
            return np.minimum(least.min(axis=0), 0), np.maximum(least.max(axis=0), most)
        lanes = [dot_bounds(w[:, None], self.number, "Scale") for w in self.weight.T]
        return np.array([n.min() for n, _ in lanes]), np.array([n.max() for _, n in lanes])

    @property
    def low(self) -> Ints:
        return self._bounds[0] >> self.scale

    @property
    def high(self) -> Ints:
        return self._bounds[1] >> self.scale

    @cached_property
    def sums(self) -> list[Format]:
        """Format of the sum of each lane."""
        ends = zip(self.low.tolist(), self.high.tolist(), strict=True)
        widths = [read - unread for read, unread in zip(self._read, self._unread, strict=True)]
        return [within(*pair, int(n)) for pair, n in zip(ends, widths, strict=True)]

    @cached_property
    def tables(self) -> Tables:
        """The constants of the used lanes."""
        groups = len(self.weight)
        return Tables([self._wrapped(p)[:groups] for p in self.used], self.style, in_turn=True)

    def _wrapped(self, p: int) -> Ints:
        """The constants of a lane as far as its product is read."""
        return wrapped(self._constants[p] >> self._zeros[p], self._read[p])

    @cached_property
    def factors(self) -> list[Format]:
        """Format of what multiplies the numbers of each used lane."""
        ends = [(int(n.min()), int(n.max())) for n in map(self._wrapped, self.used)]
        return [Format.containing(*pair, 0) for pair in ends]

    def inventory(self) -> Inventory:
        """What it is made of."""
        tables, x = self.tables, self.number
        total = elastic(STAGES)
        if tables.width:
            total += counter(tables.depth) + rom(
                tables.depth, tables.width, self.style, tables.words
            )
        for n, p in enumerate(self.used):
            unread, width = int(self._unread[p]), self.sums[p].width
            x_width, w = min(x.width, self._read[p]), self.factors[n]
            w_width = 0 if (self._wrapped(p) == 1).all() else w.width
            product = Product(x_width, x.signed, w_width, w.signed, width + unread)
            total += multiplier(*product)
            if self.positive is not None and w_width:  # the choice reads the sign too
                total += register(1) + mux2(w_width)
                x_width = min(x_width, x.width - 1)
            total += operand_register(x_width, [product])
            gaps = 0 if self.gaps is None else int(self.gaps[p]) & ((1 << (width + unread)) - 1)
            total += product_register(product, unread + gaps.bit_count())
        return total

    def events(self, words: int) -> Events:
        """Transfers of ``i`` and ``o``, ``words`` a frame."""
        return pipeline_events(STAGES, words)


class ScaleArray(wiring.Component):
    """Hardware of :class:`Scale`.

    Members
    -------
    i : stream of x
    o : stream of the products, fields ``sum_0``, ``sum_1``, ...
    """

    def __init__(self, design: Scale):
        self.design = design
        products = {f"sum_{p}": shape(number) for p, number in enumerate(design.sums)}
        super().__init__(
            {
                "i": In(stream_signature(design.number, design.lanes)),
                "o": Out(stream.Signature(data.StructLayout(products))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        design, i, o = self.design, self.i, self.o
        enables = joined(m, [i], STAGES, o)
        m.submodules.rom = rom = Rom(design.tables)
        groups = design.tables.depth
        group, moving = Signal(range(groups)), Signal()
        m.d.comb += [
            moving.eq(i.valid & enables[0]),
            rom.address.eq(group),
            rom.enable.eq(moving),
        ]
        with m.If(moving):
            m.d.sync += group.eq(Mux(group == groups - 1, 0, group + 1))
        for n, p in enumerate(design.used):
            x = Signal(shape(design.number), name=f"x_{p}", reset_less=True)
            product = Signal(shape(design.sums[p]), name=f"product_{p}", reset_less=True)
            with m.If(moving):
                m.d.sync += x.eq(i.payload[p])
            with m.If(enables[1]):
                exact = x * self._factor(n, rom, x)
                unread = int(design._unread[p])
                m.d.sync += product.eq(divide(exact, unread, Rounding.TRN))
            m.d.comb += getattr(o.payload, f"sum_{p}").eq(product)
        return m

    def _factor(self, n: int, rom: Rom, x: Value) -> Value:
        """What the number of a used lane meets."""
        design = self.design
        constant = design.tables.number(n, rom.data)
        if design.positive is None:
            return constant
        positive = Const(int(design._wrapped(design.used[n])[-1]), shape(design.factors[n]))
        return Mux(x[-1], constant, positive)
