# SPDX-License-Identifier: Apache-2.0
"""Functions of single numbers, applied to one or several streams lane by lane."""

from collections.abc import Callable
from dataclasses import dataclass, field

from amaranth import Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from quant import Format

from .cost import Inventory, Product, elastic, multiplier, product_register, register
from .events import Events, pipeline_events
from .narrow import Narrowing
from .stream import joined, shape, stream_signature


@dataclass(frozen=True, eq=False)
class Elementwise:
    """``y = narrow(exact(x, ...))`` on ``lanes`` numbers of each stream at a time.

    One stage narrows; one before it holds the exact result where that takes arithmetic. Without
    either the streams are wires.

    Parameters
    ----------
    inputs : port name -> Format
    exact : values of one number of each input -> their exact result, in ``narrowing.source``
    narrowing : of the exact result
    exact_stage, narrow_stage : whether there are registers for each
    arithmetic : what ``exact`` is made of, a product aside
    product : whether ``exact`` is the product of two inputs
    copies : bits from a to b of the exact result lie between numbers that do not overlap; they are
        copies of bit a - 1, for which synthesis keeps one register, or, if not the third, zeros
    """

    inputs: dict[str, Format]
    lanes: int
    exact: Callable[..., Value]
    narrowing: Narrowing
    exact_stage: bool
    narrow_stage: bool = True
    arithmetic: Inventory = field(default_factory=Inventory)
    product: bool = False
    copies: tuple[int, int, bool] = (0, 0, False)

    @property
    def stages(self) -> int:
        """Registers between input and output."""
        return self.exact_stage + self.narrow_stage

    def inventory(self) -> Inventory:
        """What it is made of."""
        lane = self.arithmetic
        if self.product:
            lane += self._product_inventory()
        elif self.exact_stage:
            lane += register(self._kept_bits)
        if self.narrow_stage:
            lane += self.narrowing.inventory()
        return self.lanes * lane + elastic(self.stages)

    def _product_inventory(self) -> Inventory:
        """A multiplier, as wide as its result is needed, and the register behind it."""
        needed = self.narrowing.needed
        width = needed.bit_length()
        a, b = self.inputs.values()
        operands = (min(a.width, width), a.signed, min(b.width, width), b.signed)
        product = Product(*operands, width)
        return multiplier(*product[:5]) + product_register(product, width - needed.bit_count())

    @property
    def _kept_bits(self) -> int:
        """Bits of the exact result that have a register of their own."""
        needed, (start, end, repeated) = self.narrowing.needed, self.copies
        copies = needed & ((1 << end) - (1 << start))
        original = 1 << start >> 1 if repeated else 0
        return ((needed & ~copies) | (original if copies else 0)).bit_count()

    def events(self, words: int) -> Events:
        """Transfers of the ports, ``words`` a frame."""
        return pipeline_events(self.stages, words, tuple(self.inputs))


class ElementwiseArray(wiring.Component):
    """Hardware of :class:`Elementwise`.

    Members
    -------
    one stream for every input, ``lanes`` numbers a transfer; all are taken in one cycle
    o : stream of y
    """

    def __init__(self, design: Elementwise):
        self.design = design
        inputs = {
            port: In(stream_signature(number, design.lanes))
            for port, number in design.inputs.items()
        }
        super().__init__(
            {**inputs, "o": Out(stream_signature(design.narrowing.target, design.lanes))}
        )

    def elaborate(self, platform):
        m = Module()
        design, o = self.design, self.o
        inputs = [getattr(self, port) for port in design.inputs]
        enables = joined(m, inputs, design.stages, o)
        number = shape(design.narrowing.source)
        for p in range(design.lanes):
            value = Signal(number, name=f"exact_{p}", reset_less=True)
            exact = design.exact(*(i.payload[p] for i in inputs))
            if design.exact_stage:
                with m.If(enables[0]):
                    m.d.sync += value.eq(exact)
            else:
                m.d.comb += value.eq(exact)
            if design.narrow_stage:
                value = design.narrowing.register(m, enables[-1], value, f"narrowed_{p}")
            m.d.comb += o.payload[p].eq(value)
        return m
