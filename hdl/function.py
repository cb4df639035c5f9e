# SPDX-License-Identifier: Apache-2.0
"""Functions of one variable, lane by lane: a table, or a table of polynomials and multipliers."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from quant import Approximation, Format, Ints, Overflow, Rounding

from .cost import (
    Cost,
    Inventory,
    Product,
    adder,
    elastic,
    logic,
    multiplier,
    negate,
    operand_register,
    product_register,
    register,
    rom,
    table,
)
from .events import Events, pipeline_events
from .mac import trailing_zeros
from .memory import Rom, Tables
from .narrow import Narrowing
from .stream import joined, shape, stream_signature
from .target import Target


@dataclass(frozen=True)
class _Register:
    """A register of numbers that all end in ``zeros`` zeros, which it leaves out."""

    format: Format
    zeros: int

    @classmethod
    def of(cls, values: Ints) -> "_Register":
        zeros = trailing_zeros(values)
        return cls(
            Format.containing(int(values.min()) >> zeros, int(values.max()) >> zeros, 0), zeros
        )


@dataclass(frozen=True, eq=False)
class FunctionUnit:
    """``y = f(x)`` on ``lanes`` numbers at a time, as an Approximation says.

    Stages: the place of x if the function is mirrored; the look-up; for lines a product and a sum;
    for parabolas two of each; the mirrored or clamped result. One multiplier a lane for lines, two
    for parabolas.

    Parameters
    ----------
    form : Approximation
    lanes : int
    style : "logic" or "block", what the memory of each lane becomes
    """

    form: Approximation
    lanes: int
    style: str = "logic"

    @property
    def stages(self) -> int:
        """Registers between input and output."""
        return self._mirrors + 1 + 2 * self.form.degree + self._finishes

    @property
    def _mirrors(self) -> bool:
        return self.form.symmetry is not None

    @property
    def _negates(self) -> bool:
        return self.form.symmetry is not None and self.form.symmetry.sign < 0

    @property
    def _finishes(self) -> bool:
        return self._negates or self.form.clamp

    @cached_property
    def place(self) -> Format:
        """Format of a place."""
        return Format.containing(0, self.form.places - 1, 0)

    @cached_property
    def _first(self) -> Ints:
        """First place of each word of the memory."""
        return np.arange(0, self.form.places, 1 << self.form.shortest)

    @cached_property
    def tables(self) -> Tables:
        """Coefficients, then a mask of the bits above a segment's start, if lengths vary.

        The highest is without the zeros that all segments share, the lowest without what the sum
        cuts off.
        """
        form = self.form
        at = form.segments[self._first]
        words = list(form.coefficients[:, at])
        words[-1] = words[-1] >> self.zeros
        words[0] = words[0] >> self.unheard
        if form.degree and form.longest > form.shortest:
            words.append(form.lengths[at] - 1 >> max(form.shortest, self.unread))
        return Tables(words, self.style)

    @cached_property
    def zeros(self) -> int:
        """Zeros below the highest coefficient of every segment; none of a table."""
        return trailing_zeros(self.form.coefficients[-1]) if self.form.degree else 0

    @cached_property
    def unheard(self) -> int:
        """Low bits of the lowest coefficient that meet zeros of the product and are cut off."""
        return min(self.registers["product"].zeros, self.form.guard) if self.form.degree else 0

    @cached_property
    def constant(self) -> int | None:
        """y of every code if that is the same: then no lane holds anything."""
        low, high = int(self.form.results.min()), int(self.form.results.max())
        return low if low == high else None

    @cached_property
    def unread(self) -> int:
        """Low bits of a place above its segment's start that are cut off where it is multiplied.

        Every slope of a line that is 0 or one power of two chooses it or nothing; tables have none.
        """
        if not self.form.degree:
            return self.form.longest
        if self.form.degree != 1 or not set(self.form.coefficients[1] >> self.zeros) <= {0, 1}:
            return 0
        cut = self.form.cut + self.registers["product"].zeros - self.zeros
        return min(max(0, cut), self.form.longest)

    @cached_property
    def values(self) -> dict[str, Ints]:
        """What the stages behind the look-up hold at every place."""
        form = self.form
        above = np.arange(form.places) - form.starts[form.segments]
        rows = form.coefficients[:, form.segments]
        found = {"above": above}
        slope = rows[1]
        if form.degree == 2:
            found["bend"] = rows[2] * above
            slope = (rows[1] << form.lift) + found["bend"]
            found["slope"] = slope
        found["product"] = slope * above >> form.cut
        return found

    @cached_property
    def registers(self) -> dict[str, _Register]:
        """Of ``values``."""
        return {name: _Register.of(values) for name, values in self.values.items()}

    @cached_property
    def sum(self) -> Format:
        """Format of y before it is mirrored."""
        y = self.form.unmirrored
        return Format.containing(int(y.min()), int(y.max()), self.form.output_format.frac)

    @cached_property
    def finish(self) -> Narrowing:
        """Of y, mirrored."""
        form = self.form
        low, high = int(form.unclamped.min()), int(form.unclamped.max())
        source = Format.containing(low, high, form.output_format.frac)
        symmetric = form.output_format.signed and form.low == -form.output_format.max
        overflow = Overflow.SAT_SYM if symmetric else Overflow.SAT
        return Narrowing(source, low, high, form.output_format, Rounding.TRN, overflow)

    @property
    def _lowest_bits(self) -> int:
        """Bits of the lowest coefficient that the sum needs."""
        return self.sum.width + self.form.guard - self.unheard if self.form.degree else 64

    @property
    def _slope_bits(self) -> int:
        """Bits of the slope that the sum needs."""
        return self.registers["slope"].format.width + self.registers["slope"].zeros - self.form.lift

    def inventory(self) -> Inventory:
        """What it is made of."""
        return self.lanes * self._lane() + elastic(self.stages)

    def _lane(self) -> Inventory:
        form, place = self.form, self.place
        if self.constant is not None:
            return Inventory()
        total = self._look_up()
        if self._mirrors:
            clamped = place.width < form.input_format.width
            low = min(self.unread, form.shortest)  # no part of the address either
            total += negate(place.width) + register(place.width - low)
            total += logic(form.input_format.width) if clamped else Inventory()
        if self._negates:
            total += register(self.stages - 1) + negate(self.finish.source.width)
        if self._finishes:
            total += self.finish.inventory()
        return total + self._polynomial() if form.degree else total

    def _polynomial(self) -> Inventory:
        """Products and sums of one lane, and what waits beside them."""
        form, tables, registers = self.form, self.tables, self.registers
        u, lowest = form.longest - self.unread, tables.columns(0, self._lowest_bits)
        masked = len(tables.formats) > form.degree + 1
        total = adder(self._lowest_bits) + register(self.sum.width)
        total += logic(2, min(u, form.longest - form.shortest)) if masked else Inventory()
        if form.degree == 1:
            cut = form.cut - self.zeros - self.unread
            product = self._product(tables.formats[1], "product", cut)
            total += register(u) if masked else operand_register(u, [product])
            total += register(len(lowest))
        else:
            slope = registers["slope"]
            width = slope.format.width + slope.zeros
            bend = self._product(tables.formats[2], "bend", -self.zeros)
            reach = min(bend.y_width, width - self.zeros)  # what is above the slope is not read
            bend = bend._replace(y_width=reach)
            bent = reach + self.zeros - registers["bend"].zeros
            product = self._product(Format(width, 0, slope.format.signed), "product", form.cut)
            total += multiplier(*bend) + operand_register(bent, [bend])
            total += adder(width - form.lift) + operand_register(slope.format.width, [product])
            total += register(2 * u) + operand_register(u, [product])
            straight = tables.columns(1, self._slope_bits)
            total += register(len(lowest | straight) + 2 * len(lowest))
        kept = registers["product"]
        if form.cut + kept.zeros:  # multiplier blocks take in whole results only
            held = register(kept.format.width)
        else:
            held = product_register(product)
        return total + multiplier(*product) + held

    def _product(self, factor: Format, name: str, cut: int) -> Product:
        """A place above its segment's start times ``factor``."""
        kept = self.registers[name]
        whole = kept.format.width + kept.zeros + cut
        return Product(self.form.longest - self.unread, False, factor.width, factor.signed, whole)

    def _look_up(self) -> Inventory:
        tables = self.tables
        if self.style == "block":
            return rom(tables.depth, tables.width, "block")
        return register(tables.width) + table(tables.depth, tables.width, tables.words)

    def events(self, words: int) -> Events:
        """Transfers of ``i`` and ``o``, ``words`` a frame."""
        return pipeline_events(self.stages, words)


class FunctionArray(wiring.Component):
    """Hardware of :class:`FunctionUnit`; its Verilog says what was proven of the function.

    Members
    -------
    i : stream of x
    o : stream of y
    """

    def __init__(self, design: FunctionUnit):
        self.design = design
        self.comment = design.form.statement()
        super().__init__(
            {
                "i": In(stream_signature(design.form.input_format, design.lanes)),
                "o": Out(stream_signature(design.form.output_format, design.lanes)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        enables = joined(m, [self.i], self.design.stages, self.o)
        for p in range(self.design.lanes):
            lane = _Lane(m, self.design, enables, p)
            m.d.comb += self.o.payload[p].eq(lane.result(self.i.payload[p]))
        return m


class _Lane:
    """Builds one lane of a :class:`FunctionArray`, stage by stage."""

    def __init__(self, m: Module, design: FunctionUnit, enables: Signal, lane: int):
        self.m, self.design, self.form = m, design, design.form
        self.enables, self.lane, self.stage = enables, lane, 0

    def result(self, x: Value) -> Value:
        """y of x."""
        m, form, design = self.m, self.form, self.design
        if design.constant is not None:
            return Const(design.constant, shape(form.output_format))
        place, negative = self.place(x)
        rom = Rom(design.tables)
        m.submodules[f"rom_{self.lane}"] = rom
        m.d.comb += [
            rom.address.eq(place >> form.shortest),
            rom.enable.eq(self.enables[self.stage]),
        ]
        above = Const(0, 0)
        if form.degree:
            above = self.register("above", place[design.unread : form.longest])
        negative = self.register("negative", negative)
        self.stage += 1
        tables = design.tables
        words = [tables.number(n, rom.data) for n in range(len(tables.formats))]
        if form.degree:
            if len(words) > form.degree + 1:
                whole = max(0, form.shortest - design.unread)
                mask = Cat(Const((1 << whole) - 1, whole), words.pop())
                masked = Signal(len(above), name=f"within_{self.lane}")
                m.d.comb += masked.eq(above & mask)
                above = masked
            y, negative = self.polynomial(words, above, negative)
        else:
            y = words[0]
        if not design._finishes:
            return y
        if design._negates:
            y = self.mirrored(y, negative)
        source = Signal(shape(design.finish.source), name=f"mirrored_{self.lane}")
        m.d.comb += source.eq(y)
        return design.finish.register(m, self.enables[self.stage], source, f"result_{self.lane}")

    def place(self, x: Value) -> tuple[Value, Value]:
        """Place of x, and whether its y is to be mirrored."""
        form, width = self.form, self.design.place.width
        if form.symmetry is None:
            return (Cat(x[:-1], ~x[-1]) if form.input_format.signed else x), Const(0, 0)
        negative, bits = x[-1], x[:width]
        if form.places == 1 << (form.input_format.width - 1):
            carry = negative & x[:-1].any()  # the smallest code counts as the one above it
        else:
            carry = negative
        flipped = bits.as_unsigned() ^ negative.replicate(width)
        place = self.register("place", (flipped + carry)[:width])
        negative = self.register("opposite", negative if self.design._negates else Const(0, 0))
        self.stage += 1
        return place, negative

    def polynomial(
        self, coefficients: list[Value], above: Value, negative: Value
    ) -> tuple[Value, Value]:
        """y from coefficients and the place above the segment's start, two stages a degree."""
        form = self.form
        lowest, slope = coefficients[0], coefficients[1]
        if form.degree == 2:
            bend = self.kept("bend", (coefficients[2] * above) << self.design.zeros)
            lowest, slope, above, negative = self.moved(lowest, slope, above, negative)
            whole = (slope << form.lift) + bend
            slope = self.kept("slope", whole)
            lowest, above, negative = self.moved(lowest, above, negative)
            whole = slope * above
        else:
            whole = (slope * above) << self.design.zeros + self.design.unread
        product = self.kept("product", whole, form.cut)
        lowest, negative = self.moved(lowest, negative)
        whole = (lowest << self.design.unheard) + product
        y = self.register("sum", whole >> form.guard, shape(self.design.sum))
        (negative,) = self.moved(negative)
        return y, negative

    def mirrored(self, y: Value, negative: Value) -> Value:
        """``constant - y`` where ``negative``, in as many bits as both need."""
        symmetry, width = self.form.symmetry, self.design.finish.source.width
        assert symmetry is not None  # negated only if there is one
        wide = Signal(shape(self.design.finish.source), name=f"upright_{self.lane}")
        self.m.d.comb += wide.eq(y)
        flipped = wide.as_unsigned() ^ negative.replicate(width)
        constant = (symmetry.constant + 1) % (1 << width)
        added = negative if constant == 1 else Mux(negative, Const(constant, width), 0)
        return (flipped + added)[:width]

    def kept(self, name: str, value: Value, drop: int = 0) -> Value:
        """A register of what varies of ``value >> drop``, and the number that it holds."""
        kept = self.design.registers[name]
        drop += kept.zeros
        exact = value[drop:] if drop < len(value) else value[-1]
        exact = exact.as_signed() if value.shape().signed else exact
        held = self.register(name, exact, shape(kept.format))
        number = Cat(Const(0, kept.zeros), held)
        return number.as_signed() if kept.format.signed else number

    def moved(self, *values: Value) -> tuple[Value, ...]:
        """The values one stage later, which begins."""
        later = tuple(self.register("held", v, v.shape()) if len(v) else v for v in values)
        self.stage += 1
        return later

    def register(self, name: str, value: Value, as_shape=None) -> Value:
        """A register of the stage that begins."""
        if not len(value):
            return value
        held = Signal(
            len(value) if as_shape is None else as_shape,
            name=f"{name}_{self.stage}_{self.lane}",
            reset_less=True,
        )
        with self.m.If(self.enables[self.stage]):
            self.m.d.sync += held.eq(value)
        return held


def cheapest(
    forms: Iterable[Approximation], target: Target, lanes: int = 1
) -> tuple[Approximation, str]:
    """Of several forms the cheapest on ``target``, and the style of its memory.

    A multiplier and a block RAM count as a hundred look-up tables each, about what devices have of
    each; what is equal in that is decided by flip-flops, then by the order given.
    """
    priced = []
    for n, form in enumerate(forms):
        for style in ("logic", "block"):
            unit = FunctionUnit(form, lanes, style)
            if style == "block" and not unit.tables.width:
                continue
            priced.append((_weight(unit.inventory().cost(target)), n, style, form))
    if not priced:
        raise ValueError("cheapest forms must be at least one, not none")
    *_, style, form = min(priced, key=lambda entry: entry[:2])
    return form, style


def _weight(cost: Cost) -> tuple[int, int]:
    return cost.lut + 100 * (cost.dsp + cost.bram), cost.ff
