# SPDX-License-Identifier: Apache-2.0
"""The largest or the sum of some numbers that come one after the other, lane by lane."""

from dataclasses import dataclass

from amaranth import Module, Mux, Signal
from amaranth.hdl import Shape
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from quant import Format

from . import cost
from .cost import Inventory
from .mac import accumulation, step_signature
from .stream import stream_signature


@dataclass(frozen=True)
class Reduction:
    """``max`` or ``sum`` of up to ``terms`` numbers in each of ``lanes``: a core for windows.

    One stage reads; the accumulators load the first number, so that no cycle clears them.

    Parameters
    ----------
    kind : "maximum" or "sum"
    number : Format of the numbers
    lanes : int
    terms : most numbers that a result takes
    needed : mask of the bits of a result that anyone reads
    """

    kind: str
    number: Format
    lanes: int
    terms: int
    needed: int = (1 << 64) - 1

    stages = 1
    addressed = False
    empties = False

    @property
    def accumulates(self) -> bool:
        return self.terms > 1

    @property
    def simd(self) -> int:
        return self.lanes

    @property
    def mask(self) -> int:
        """The bits of a result that are there; those between and above them are 0."""
        everything = (1 << min(self.result.width, self.needed.bit_length())) - 1
        return everything if self.accumulates else everything & self.needed

    @property
    def elements(self) -> dict[int, int]:
        """Every lane and the mask of its bits in use."""
        used = self.mask & ((1 << self.number.width) - 1)
        return dict.fromkeys(range(self.lanes), used) if used else {}

    @property
    def word_bits(self) -> int:
        return sum(mask.bit_count() for mask in self.elements.values())

    @property
    def result(self) -> Format:
        """Format of the results."""
        x = self.number
        if self.kind == "maximum":
            return x
        return Format.containing(self.terms * x.min, self.terms * x.max, x.frac)

    @property
    def output(self) -> stream.Signature:
        """Stream of the results."""
        return stream_signature(self.result, self.lanes)

    def inventory(self) -> Inventory:
        """What it is made of."""
        total = cost.elastic(1) + cost.register(1) + cost.logic(3, 2)
        if self.accumulates:
            total += cost.register(2) + cost.logic(3)
        width = self.mask.bit_count()
        if self.kind == "maximum":
            compare = cost.compare(width) if self.accumulates else Inventory()
            return total + self.lanes * (cost.register(width) + compare)
        if not width:
            return total
        return total + self.lanes * cost.product_adder(width, [None], load=self.accumulates)

    def component(self) -> "ReductionArray":
        """A new circuit."""
        return ReductionArray(self)


class ReductionArray(wiring.Component):
    """Hardware of :class:`Reduction`.

    Members
    -------
    step : stream of steps, see :func:`hdl.mac.step_signature`
    word : a number of each lane, from the cycle after its step until the next step
    o : stream of the results
    """

    def __init__(self, design: Reduction):
        self.design = design
        super().__init__(
            {
                "step": In(step_signature(design)),
                "word": In(design.word_bits),
                "o": Out(design.output),
            }
        )

    def elaborate(self, platform):
        m = Module()
        design = self.design
        _, take, begin = accumulation(m, self.step, design.stages, self.o, design.accumulates)
        width = design.mask.bit_length()
        number = Shape(width, design.result.signed and width == design.result.width)
        word = iter(self.word)
        for p, mask in design.elements.items():
            signed = design.number.signed and mask.bit_length() == design.number.width
            x = Signal(Shape(mask.bit_length(), signed), name=f"element_{p}")
            result = Signal(number, name=f"result_{p}", reset_less=True)
            m.d.comb += [x[n].eq(next(word)) for n in range(len(x)) if mask >> n & 1]
            m.d.comb += self.o.payload[p].eq(result)
            if design.kind == "sum":
                kept = Mux(begin, 0, result) if design.accumulates else 0
                with m.If(take):
                    m.d.sync += result.eq(kept + x)
            else:
                larger = begin | (x > result) if design.accumulates else 1
                with m.If(take & larger):
                    m.d.sync += result.eq(x)
        return m
