# SPDX-License-Identifier: Apache-2.0
"""Functions of single numbers, applied to one or several streams lane by lane."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from amaranth import Cat, Const, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped

from quant import Format, Ints

from .cost import (
    CHAINED,
    Inventory,
    Product,
    elastic,
    logic,
    multiplier,
    product_register,
    register,
    table,
)
from .events import Events, pipeline_events
from .memory import Tables
from .narrow import Narrowing, trailing_zeros
from .rearrange import Stretch, StretchStage
from .stream import joined, shape, stream_signature

ZERO, ONE = -1, -2
"""As the source of a bit: it is constant."""


@dataclass(frozen=True, eq=False)
class Step:
    """One exact operation of a lane, with a register behind it unless told otherwise.

    Parameters
    ----------
    function : module for signals of its own, values (one of each input, or the result of the step
        before) -> value
    number : Format of the result
    arithmetic : what ``function`` is made of, a product aside
    registered : whether there is a register
    sources : for each bit of the result the lowest bit that is always like it, perhaps itself, or
        ``ZERO`` or ``ONE``; only the former are stored, as synthesis would find; all by default
    product : whether ``function`` is the product of both inputs
    choice : for each bit of the result the inputs of the gates behind the arithmetic that make it;
        1 if the arithmetic resets it
    alone : mask of the bits of the result that depend on the last input alone: lanes that meet the
        same number of it store them once
    """

    function: Callable[..., Value]
    number: Format
    arithmetic: Inventory = field(default_factory=Inventory)
    registered: bool = True
    sources: tuple[int, ...] = ()
    product: bool = False
    choice: tuple[int, ...] = ()
    alone: int = 0

    def stored(self, needed: int) -> list[int]:
        """Bits of the register, if those in the mask ``needed`` are read."""
        return stored_bits(self.sources or range(self.number.width), needed)

    def register(self, m: Module, enable: Value, value: Value, needed: int, name: str) -> Value:
        """Add the register, loaded where ``enable``; return the number, unread bits being 0."""
        if self.sources:
            return source_register(m, enable, value, self.number, self.sources, needed, name)
        result = Signal(shape(self.number), name=name, reset_less=True)
        with m.If(enable):
            m.d.sync += result.eq(value)
        return result


def stored_bits(sources: Iterable[int], needed: int) -> list[int]:
    """Bits that a register with ``Step.sources`` stores, if those in a mask are read."""
    return sorted({s for bit, s in enumerate(sources) if s >= 0 and needed >> bit & 1})


def source_register(
    m: Module,
    enable: Value,
    value: Value,
    number: Format,
    sources: tuple[int, ...],
    needed: int,
    name: str,
) -> Value:
    """Add a register of :func:`stored_bits`; return the number, unread bits being 0."""
    result = Signal(shape(number), name=name, reset_less=True)
    stored = stored_bits(sources, needed)
    bits = Signal(len(stored), name=f"{name}_bits", reset_less=True)
    with m.If(enable):
        m.d.sync += bits.eq(Cat(value[bit] for bit in stored))
    read = [s if needed >> bit & 1 else ZERO for bit, s in enumerate(sources)]
    parts = [bits[stored.index(s)] if s >= 0 else Const(int(s == ONE), 1) for s in read]
    m.d.comb += result.eq(Cat(parts))
    return result


def less(a: Value, b: Value, chained: bool = False) -> Value:
    """``a < b``, signs having changed places: one carry chain, no logic in front of or behind it.

    The choice between two words takes a third of the look-up tables on ecp5 that way. There the
    carry leaves a cell of two bits as it is, but only logic finds it after the first of them: of an
    odd number of bits the lowest comes twice.

    A chain of two such cells becomes tables, which is less, but on the slowest path several for
    each reader; ``chained``: the lowest bit comes again until there are three cells.
    """
    signed = a.shape().signed or b.shape().signed
    width = max(len(n) + (signed and not n.shape().signed) for n in (a, b))
    x, y = (_extended(n, width) for n in (a, b))
    again = width % 2 if width > 1 else 0
    if chained and width in CHAINED:
        again = CHAINED.stop + 1 - width
    tops = (y[-1], x[-1]) if signed else (x[-1], y[-1])
    x, y = (Cat(n[:1].replicate(again), n[:-1], top) for n, top in zip((x, y), tops, strict=True))
    return x < y


def at_least(value: Value, constant: int) -> Value:
    """``value >= constant``, of an int above the smallest code: a gate for every bit that matters.

    On ecp5 that takes a third of the look-up tables of a carry chain; but not on the slowest path,
    where they become more to make it faster.
    """
    bits = Cat(value[:-1], ~value[-1]) if value.shape().signed else value
    place = constant + (1 << len(value) - 1 if value.shape().signed else 0)
    lowest = trailing_zeros(place)
    result = bits[lowest]
    for n in range(lowest + 1, len(bits)):
        result = bits[n] & result if place >> n & 1 else bits[n] | result
    return result


def _extended(value: Value, width: int) -> Value:
    fill = value[-1] if value.shape().signed else Const(0, 1)
    return Cat(value, fill.replicate(width - len(value)))


def bit_sources(values: Ints, width: int) -> tuple[int, ...]:
    """``Step.sources`` of numbers of ``width`` bits that take exactly these values."""
    first: dict[bytes, int] = {}
    sources = []
    for bit in range(width):
        column = (values >> bit & 1).astype(np.uint8)
        if (column == column[0]).all():
            sources.append(ONE if column[0] else ZERO)
        else:
            sources.append(first.setdefault(np.packbits(column).tobytes(), bit))
    return tuple(sources)


def _merged(first: Value, second: Value, mask: int) -> Value:
    """Bits of the first number where the mask has any, else of the second."""
    pairs = zip(first, second, strict=True)
    bits = Cat(one if mask >> n & 1 else other for n, (one, other) in enumerate(pairs))
    return bits.as_signed() if second.shape().signed else bits


@dataclass(frozen=True, eq=False)
class LaneFunction:
    """``y = narrow(steps(x, ...))`` of one lane.

    Each registered step is a stage, and so is the narrowing unless told otherwise.

    Parameters
    ----------
    steps : from one number of each input to their exact result, in ``narrowing.source``
    narrowing : of the exact result
    narrow_stage : whether the narrowed result has a register
    """

    steps: tuple[Step, ...]
    narrowing: Narrowing
    narrow_stage: bool = True

    @property
    def stages(self) -> int:
        """Registers between input and output."""
        return sum(step.registered for step in self.steps) + self.narrow_stage

    @property
    def needed(self) -> Iterable[tuple[Step, int]]:
        """Each step with the mask of the bits of its result that are read."""
        for step in self.steps:
            last = step is self.steps[-1]
            yield step, self.narrowing.needed if last else (1 << step.number.width) - 1

    def inventory(self, inputs: Iterable[Format], again: bool = False) -> Inventory:
        """What it is made of; ``again``: beside a lane that meets the same last input."""
        total = Inventory()
        for step, needed in self.needed:
            total += step.arithmetic
            gates = [step.choice[bit] for bit in step.stored(needed)] if step.choice else []
            total += sum(map(logic, gates), logic(2 * (1 in gates)))  # a reset waits for the enable
            if step.product:
                a, b = inputs
                total += _product(a, b, needed, step.registered)
            elif step.registered:
                own = needed & ~step.alone if again else needed
                total += register(len(step.stored(own)))
        narrowing = self.narrowing
        return total + (narrowing.inventory() if self.narrow_stage else narrowing.logic())


def looked_up(number: Format, values: Ints, target: Format, stages: int) -> LaneFunction:
    """Results out of a table, and registers that pass them on, so many stages in all.

    Parameters
    ----------
    number, target : Formats of the codes and of the results
    values : the result of every code, the codes in the order of their bits
    """
    tables, sources = Tables([values], "logic"), bit_sources(values, target.width)

    def read(m: Module, x: Value) -> Value:
        if not tables.width:
            return Const(int(values[0]), shape(target))
        memory = Memory(
            shape=tables.width, depth=tables.depth, init=tables.words, attrs={"rom_style": "logic"}
        )
        m.submodules += memory
        port = memory.read_port(domain="comb")
        m.d.comb += port.addr.eq(x)
        return tables.number(0, port.data)

    gates = table(tables.depth, tables.width, tables.words)
    steps = [Step(read, target, gates, sources=sources)]
    steps += [Step(lambda m, y: y, target, sources=sources) for _ in range(1, stages)]
    narrowing = Narrowing(target, int(values.min()), int(values.max()), target)
    return LaneFunction(tuple(steps), narrowing, narrow_stage=False)


def product_of(a: Format, b: Format, needed: int) -> Product:
    """Of two numbers, as wide as it is needed."""
    width = needed.bit_length()
    return Product(min(a.width, width), a.signed, min(b.width, width), b.signed, width)


def _product(a: Format, b: Format, needed: int, registered: bool) -> Inventory:
    """A multiplier and the register behind it, if there is one."""
    product = product_of(a, b, needed)
    if not registered:
        return multiplier(*product)
    unread = product.y_width - needed.bit_count()
    return multiplier(*product) + product_register(product, unread)


@dataclass(frozen=True, eq=False)
class Elementwise:
    """Functions of one number of each stream, ``lanes`` at a time; wires if they have no stages.

    Parameters
    ----------
    inputs : port name -> Format
    functions : of equally many stages and one target; the lanes take them round and round
    shared : numbers that follow each other in the first stream and meet one number of the last;
        a divisor or a multiple of the lanes
    read : bits of a number of the last stream that anyone reads; all by default

    Members
    -------
    hold : Stretch that keeps a number of the last stream for several transfers; None if none stays
    """

    inputs: dict[str, Format]
    lanes: int
    functions: tuple[LaneFunction, ...]
    shared: int = 1
    read: int | None = None

    def lanes_of(self, port: str) -> int:
        """Numbers in a transfer of an input."""
        last = len(self.inputs) > 1 and port == [*self.inputs][-1]
        return max(1, self.lanes // self.shared) if last else self.lanes

    @property
    def hold(self) -> Stretch | None:
        times = self.shared // self.lanes
        *_, number = self.inputs.values()
        bits = number.width if self.read is None else self.read
        return Stretch(np.array([times - 1]), times, bits, None) if times > 1 else None

    @property
    def stages(self) -> int:
        """Registers between input and output."""
        return self.functions[0].stages

    def first(self, p: int) -> int:
        """The first lane that meets the same number of the last stream as lane p."""
        alike = self.lanes // self.lanes_of([*self.inputs][-1])
        return p // alike * alike

    def of_lane(self, p: int) -> LaneFunction:
        """The function of a lane."""
        return self.functions[p % len(self.functions)]

    def inventory(self) -> Inventory:
        """What it is made of."""
        formats = tuple(self.inputs.values())
        kinds = Counter((p % len(self.functions), self.first(p) < p) for p in range(self.lanes))
        lanes = (n * self.functions[f].inventory(formats, again) for (f, again), n in kinds.items())
        total = sum(lanes, elastic(self.stages))
        if self.hold is None:
            return total
        factors = [
            product_of(formats[0], formats[-1], needed)
            for function in self.functions
            for step, needed in function.needed
            if step.product
        ]
        return total + self.hold.inventory(factors)

    def events(self, words: int) -> Events:
        """Transfers of the ports, ``words`` a frame."""
        graph = pipeline_events(self.stages, words, tuple(self.inputs))
        if self.hold is not None:
            port = [*self.inputs][-1]
            held = self.hold.events().repeated(words * self.lanes // self.shared)
            graph.include(held, rename={"i": port, "o": "i"})
            del graph.ports[port]
        return graph

    def circuit(self) -> "ElementwiseArray":
        """A new circuit."""
        return ElementwiseArray(self)


class ElementwiseArray(wiring.Component):
    """Hardware of :class:`Elementwise`.

    Members
    -------
    one stream for every input, ``lanes_of`` it numbers a transfer; all are taken in one cycle
    o : stream of y
    """

    def __init__(self, design: Elementwise):
        self.design, target = design, design.functions[0].narrowing.target
        inputs = {
            port: In(stream_signature(number, design.lanes_of(port)))
            for port, number in design.inputs.items()
        }
        super().__init__({**inputs, "o": Out(stream_signature(target, design.lanes))})

    def elaborate(self, platform):
        m = Module()
        design, o = self.design, self.o
        inputs = [getattr(self, port) for port in design.inputs]
        if design.hold is not None:
            *_, number = design.inputs.values()
            m.submodules.hold = hold = StretchStage(design.hold, stream_signature(number, 1))
            connect(m, flipped(inputs[-1]), hold.i)
            inputs[-1] = hold.o
        enables = joined(m, inputs, design.stages, o)
        registers: dict[tuple[int, Step], Value] = {}  # by lane
        for p in range(design.lanes):
            values, stage, function = [], 0, design.of_lane(p)
            for i in inputs:
                values.append(i.payload[p * len(i.payload) // design.lanes])
            for n, (step, needed) in enumerate(function.needed):
                name = f"exact_{p}" if n == len(function.steps) - 1 else f"step_{n}_{p}"
                value = Signal(shape(step.number), name=f"{name}_next" if step.registered else name)
                m.d.comb += value.eq(step.function(m, *values))
                values = [value]
                if step.registered:
                    first = registers.get((design.first(p), step))
                    others = step.alone if first is not None else 0
                    held = step.register(m, enables[stage], value, needed & ~others, name)
                    if first is not None and others & needed:
                        held = _merged(first, held, others)
                    registers[p, step] = held
                    values = [held]
                    stage += 1
            if function.narrow_stage:
                narrowing = function.narrowing
                values = [narrowing.register(m, enables[-1], values[0], f"narrowed_{p}")]
            else:
                values = [function.narrowing.value(values[0])]
            m.d.comb += o.payload[p].eq(values[0])
        return m
