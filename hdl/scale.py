# SPDX-License-Identifier: Apache-2.0
"""Products of a stream of numbers with constants that change from transfer to transfer."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from amaranth import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from quant import Format, Ints, Rounding, dot_bounds

from .cost import (
    Inventory,
    Product,
    counter,
    elastic,
    multiplier,
    operand_register,
    product_register,
    rom,
)
from .events import Events, pipeline_events
from .mac import trailing_zeros
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
    skipped : ints, shape (lanes,): low bits of the products that nobody reads; none by default
    """

    weight: Ints
    number: Format
    style: str = "logic"
    skipped: Ints | None = None

    @property
    def lanes(self) -> int:
        return self.weight.shape[1]

    @property
    def used(self) -> list[int]:
        """Lanes with any constant that is not zero."""
        return [int(p) for p in np.flatnonzero(self.weight.any(axis=0))]

    @cached_property
    def scale(self) -> Ints:
        """Low bits, shape (lanes,), which the products leave out: constant zeros, or unread."""
        return self._zeros if self.skipped is None else np.maximum(self._zeros, self.skipped)

    @cached_property
    def _zeros(self) -> Ints:
        """Powers of two, shape (lanes,), that divide the constants."""
        return np.array([trailing_zeros(lane) for lane in self.weight.T], np.int64)

    @cached_property
    def bounds(self) -> tuple[Ints, Ints]:
        """Smallest and largest product of each lane, shape (lanes,), without the scale."""
        lanes = [dot_bounds(w[:, None], self.number, "Scale") for w in self.weight.T]
        low, high = np.array([n.min() for n, _ in lanes]), np.array([n.max() for _, n in lanes])
        return low >> self.scale, high >> self.scale

    @cached_property
    def sums(self) -> list[Format]:
        """Format of the product of each lane."""
        ends = zip(*(n.tolist() for n in self.bounds), strict=True)
        return [Format.containing(low, high, 0) for low, high in ends]

    @cached_property
    def tables(self) -> Tables:
        """The constants of the used lanes."""
        return Tables([self.weight[:, p] >> self._zeros[p] for p in self.used], self.style)

    def inventory(self) -> Inventory:
        """What it is made of."""
        groups = len(self.weight)
        total = elastic(STAGES) + counter(groups)
        total += rom(groups, self.tables.width, self.style, self.tables.words)
        x = self.number
        for n, p in enumerate(self.used):
            w, y = self.tables.formats[n], self.sums[p]
            product = Product(x.width, x.signed, w.width, w.signed, y.width)
            total += operand_register(x.width, [product]) + multiplier(*product[:5])
            total += product_register(product)
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
        groups = len(design.weight)
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
                exact = x * design.tables.number(n, rom.data)
                unread = int(design.scale[p] - design._zeros[p])
                m.d.sync += product.eq(divide(exact, unread, Rounding.TRN))
            m.d.comb += getattr(o.payload, f"sum_{p}").eq(product)
        return m
