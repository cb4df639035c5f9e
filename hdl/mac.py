# SPDX-License-Identifier: Apache-2.0
"""Multiply-accumulate array: the folded product of a constant matrix and a stream of vectors."""

from collections import Counter
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.hdl import Shape
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped

from quant import Format, Ints, dot_bounds

from . import cost
from .cost import Inventory
from .events import NEVER, Events
from .memory import Rom, Tables
from .stream import elastic, shape, stream_signature


class Product(NamedTuple):
    """A multiplier: lane of x, format of the register behind it."""

    lane: int
    format: Format


class Term(NamedTuple):
    """Which number of the level before, and how many zeros below it."""

    number: int
    zeros: int


class Adder(NamedTuple):
    """Sum of one or two terms, none shifted further than it must be, format of its register."""

    terms: tuple[Term, ...]
    format: Format


class MacCore:
    """Sums of products with constants: ``pe * simd`` multipliers that serve many rows in turn.

    In each cycle ``simd`` elements meet ``pe`` rows; after some cycles ``pe`` sums are complete and
    leave, while the first products of the next rows load the accumulators: no cycle clears them.
    Which elements meet which weights, and how many make a sum, a *front* decides step by step; a
    sum may leave out products, or consist of none.

    Pipeline: read (weights and elements), product, a level of the adder tree a stage, accumulator.

    Parameters
    ----------
    weight : ints, shape (groups, pe, steps, simd); word ``group * steps + step`` of the memory
        holds the weights of a step
    number : Format of the elements
    style : "block" or "logic", what the memory of the weights becomes
    accumulates : whether any sum takes more than one step
    empties : whether any sum is empty: one step whose products do not count
    bounds : smallest and largest sum of each row, if not every step counts once
    in_turn : whether the words of the memory are read one after the other, over and over

    Members
    -------
    sums : Format of each distinct sum that leaves together
    sources : for each of the ``pe`` lanes, which of ``sums`` is its own
    inverted : for each lane False: no sum comes inverted
    twofold : for each lane False: no sum is known to be one of two
    offset : ints, shape (groups * pe,): zeros, nothing has to be added
    scale : ints, shape (groups * pe,): the sum stands for ``W @ x >> scale``, without the powers of
        two that all rows of a lane share
    low, high : ints, shape (groups * pe,): bounds of each row's sum
    priced : the multiplier of each product
    """

    def __init__(
        self,
        weight: Ints,
        number: Format,
        style: str = "block",
        accumulates: bool = True,
        empties: bool = False,
        bounds: tuple[Ints, Ints] | None = None,
        in_turn: bool = False,
    ):
        self.number, self.style, self.in_turn = number, style, in_turn
        self.accumulates, self.empties = accumulates, empties
        groups, self.pe, steps, self.simd = weight.shape
        self.depth = groups * steps
        self.inverted = self.twofold = [False] * self.pe
        self.offset = np.zeros(groups * self.pe, np.int64)
        lanes = weight.transpose(1, 0, 2, 3)
        scales = np.array([trailing_zeros(lane) for lane in lanes], np.int64)
        self.scale = np.tile(scales, groups)
        lanes = lanes >> scales.reshape(-1, 1, 1, 1)
        table = (weight >> scales.reshape(1, -1, 1, 1)).reshape(groups * self.pe, -1)
        self.low, self.high = dot_bounds(table, number, "Mac")
        if bounds is not None:
            self.low, self.high = (ends >> self.scale for ends in bounds)
        rows: dict[bytes, int] = {}
        self.sources = [rows.setdefault(lane.tobytes(), len(rows)) for lane in lanes]
        self.rows = [lanes[self.sources.index(row)] for row in range(len(rows))]
        self._kept, self._skipped = [64] * len(rows), [0] * len(rows)
        self._tree()

    def reading(self, skipped: Ints, kept: Ints, gaps: Ints) -> "MacCore":
        """The same without the upper bits of the sums that nobody reads.

        ``kept`` bits of the sum of each lane are read, the ``skipped`` lowest aside; ``gaps`` among
        them stay.
        """
        part = copy(self)
        rows = range(len(self.rows))
        lanes = [[p for p in range(self.pe) if self.sources[p] == row] for row in rows]
        part._kept = [max(int(kept[p]) for p in row) for row in lanes]
        if not self.accumulates:  # an accumulator needs what it carries from
            part._skipped = [min(int(skipped[p]) for p in row) for row in lanes]
        part._tree()
        return part

    def _widths(self) -> list[Format]:
        low = self.low.reshape(-1, self.pe).min(axis=0)
        high = self.high.reshape(-1, self.pe).max(axis=0)
        return [
            within(int(low[p]), int(high[p]), kept)
            for p, kept in zip(
                (self.sources.index(row) for row in range(len(self.rows))), self._kept, strict=True
            )
        ]

    def _tree(self) -> None:
        """Products and adders of all rows; what two rows have in common is there once.

        None is wider than the widest sum that it is part of: what wraps on the way is right again
        in the end. No sum has zeros below, since ``scale`` has them.
        """
        self.sums = self._widths()
        widths: dict[tuple[int, bytes], int] = {}  # of each lane and what it meets
        uses: list[list[tuple[tuple[int, bytes], int]]] = []  # of those and zeros below, by row
        for row, number, read in zip(self.rows, self.sums, self._kept, strict=True):
            uses.append([])
            for k in np.flatnonzero(row.any(axis=(0, 1))).tolist():
                table = row[:, :, k].ravel()  # in order of use
                zeros = trailing_zeros(table)
                if zeros < min(read, number.width):
                    use = k, (table >> zeros).tobytes()
                    widths[use] = max(widths.get(use, 0), number.width - zeros)
                    uses[-1].append((use, zeros))
        known: dict[tuple[bytes, Product], int] = {}
        places: dict[tuple[int, bytes], int] = {}
        for use, width in widths.items():
            table = np.frombuffer(use[1], np.int64)
            ends = np.array([[table.min()], [table.max()]])  # no other goes further
            low, high = dot_bounds(ends, self.number)
            kept = within(int(low.min()), int(high.max()), width)
            key = wrapped(table, kept.width).tobytes(), Product(use[0], kept)
            places[use] = known.setdefault(key, len(known))
        tables = [np.frombuffer(table, np.int64) for table, _ in known]
        self.products = [product for _, product in known]
        self.tables = Tables(tables, self.style, self.in_turn)
        self.priced = [self._priced(n) for n in range(len(tables))]
        self.tree_stages = (max(map(len, uses)) - 1).bit_length() if tables else 0
        rows = [[Term(places[use], zeros) for use, zeros in row] for row in uses]
        self.adders: list[list[Adder]] = []
        level: Sequence[Product | Adder] = self.products
        for _ in range(self.tree_stages):
            pairs = [[_pair(row[n : n + 2]) for n in range(0, len(row), 2)] for row in rows]
            wide: dict[tuple[Term, ...], int] = {}
            for row, number in zip(pairs, self.sums, strict=True):
                for terms, zeros in row:
                    wide[terms] = max(wide.get(terms, 0), number.width - zeros)
            numbers = {terms: n for n, terms in enumerate(wide)}
            rows = [[Term(numbers[terms], zeros) for terms, zeros in row] for row in pairs]
            self.adders.append([_adder(level, terms, width) for terms, width in wide.items()])
            level = self.adders[-1]
        self.totals = [row[0].number if row else None for row in rows]

    def _priced(self, n: int) -> cost.Product:
        """The multiplier of a product."""
        kept, table = self.products[n].format, self.tables.formats[n]
        width = 0 if self.tables.constants[n] == 1 else table.width
        a_width = min(self.number.width, kept.width)
        return cost.Product(a_width, self.number.signed, width, table.signed, kept.width)

    @property
    def stages(self) -> int:
        """Registers between the issue of a step and the accumulator."""
        return 2 + self.tree_stages

    @property
    def addressed(self) -> bool:
        """Whether the weights change from step to step, so that there is a memory of them."""
        return self.tables.width > 0

    @property
    def elements(self) -> dict[int, int]:
        """Lanes of the elements that meet any weight that is not zero, and their bits in use, a
        mask.
        """
        masks: dict[int, int] = {}
        for product, priced in zip(self.products, self.priced, strict=True):
            masks[product.lane] = masks.get(product.lane, 0) | (1 << priced.a_width) - 1
        return dict(sorted(masks.items()))

    @property
    def word_bits(self) -> int:
        """Bits of a word that are in use."""
        return sum(mask.bit_count() for mask in self.elements.values())

    def inventory(self) -> Inventory:
        """What it is made of."""
        total = cost.elastic(self.stages) + cost.register(1) + cost.logic(3, 2)
        if self.addressed:
            total += cost.logic(2)
        if self.accumulates:
            total += cost.register(self.stages + 1) + cost.logic(3)
        if self.empties:
            total += cost.register(self.stages)
        tables = self.tables
        total += cost.rom(tables.depth, tables.width, self.style, tables.words)
        products = self.priced
        unread = self._unread()
        for n, (product, low) in enumerate(zip(products, unread[0], strict=True)):
            low, bits = min(low, product.y_width), len(tables.columns(n))
            total += cost.multiplier(*product, bits) + cost.product_register(product, low)
        if self.adders:
            uses = Counter(term.number for adder in self.adders[0] for term in adder.terms)
        else:
            uses = Counter(number for number in self.totals if number is not None)
        alone = [product if uses[n] == 1 else None for n, product in enumerate(products)]
        for level, adders in enumerate(self.adders):
            for adder, low in zip(adders, unread[level + 1], strict=True):
                terms = [None if level else alone[term.number] for term in adder.terms]
                width = adder.format.width
                zeros = [term.zeros for term in adder.terms]
                total += cost.product_adder(width, terms, skipped=min(low, width), zeros=zeros)
        for number, source, low in zip(self.sums, self.totals, self._skipped, strict=True):
            if source is not None:
                term = None if self.adders or self.empties else alone[source]
                total += cost.product_adder(
                    number.width, [term], load=self.accumulates, skipped=low
                )
        return total

    def _unread(self) -> list[list[int]]:
        """Low bits that nobody reads of each product, then of each adder, level by level.

        They pass through adders only where the other operand has zeros.
        """
        levels: list[Sequence[Product | Adder]] = [self.products, *self.adders]
        unread = [[64] * len(level) for level in levels]
        for source, low in zip(self.totals, self._skipped, strict=True):
            if source is not None:
                unread[-1][source] = min(unread[-1][source], low)
        for depth in range(len(self.adders), 0, -1):
            for adder, low in zip(self.adders[depth - 1], unread[depth], strict=True):
                wires = max(term.zeros for term in adder.terms) if len(adder.terms) > 1 else low
                for n, zeros in adder.terms:
                    passed = min(low, wires) if zeros == 0 else 0
                    unread[depth - 1][n] = min(unread[depth - 1][n], passed)
        return unread

    @property
    def output(self) -> stream.Signature:
        """Stream of the sums of ``pe`` rows, fields ``sum_0``, ``sum_1``, ..."""
        return sums_signature(self.sums)

    def component(self) -> "MacCoreArray":
        """A new circuit."""
        return MacCoreArray(self)


@dataclass(frozen=True)
class Issues:
    """The issues of a frame's steps, one a cycle where nothing delays them, as an event.

    Parameters
    ----------
    event : its name
    total : steps in a frame
    chosen : ascending, the steps that stand for themselves; the others follow by counting
    """

    event: str
    total: int
    chosen: Ints

    def follow(self, graph: Events, target: str, wanted: Ints, delay: int) -> None:
        """Firing k of ``target`` comes ``delay`` after step ``wanted[k]``, negative: of an earlier
        frame, through the nearest one before it that stands for itself.
        """
        frame = wanted // self.total
        place = np.searchsorted(self.chosen, wanted % self.total, "right") - 1
        index = place + frame * len(self.chosen)
        nearest = self.chosen[place] + index // len(self.chosen) * self.total
        graph.after(target, self.event, delay + wanted - nearest, index)


def reduction_events(
    stages: int, lengths: Ints, waiting: Ints, issue: str = "u"
) -> tuple[Events, "Issues"]:
    """Events of a frame: ``issue``, of a step; ``a``, entry of a sum; ``o``, of its transfer.

    Only those steps stand for themselves that something other than the step before can delay.

    Parameters
    ----------
    stages : registers between the issue of a step and its entry
    lengths : steps of each sum of a frame
    waiting : the steps, counted through the frame, that the front can delay
    """
    lengths = np.asarray(lengths, np.int64)
    firsts, total = np.cumsum(lengths) - lengths, int(lengths.sum())
    issues = Issues(issue, total, np.union1d(waiting, (firsts + stages) % total))
    graph, sums = Events(), len(lengths)
    graph.event(issue, len(issues.chosen), spacing=None)
    graph.event("a", sums, spacing=None)
    graph.event("o", sums)
    issues.follow(graph, issue, issues.chosen - 1, 1)
    behind = issues.chosen - stages  # of these only firsts of a sum are ever delayed
    entered = np.searchsorted(firsts, behind % total, "right") - 1
    first = firsts[entered] == behind % total
    graph.after(issue, "a", 0, np.where(first, entered + behind // total * sums, NEVER))
    issues.follow(graph, "a", firsts, stages)
    graph.after("a", "a", np.roll(lengths, 1), np.arange(sums) - 1)
    graph.after("a", "o", 0, np.arange(sums) - 1)
    graph.after("o", "a", lengths)
    issues.follow(graph, "o", firsts + lengths - 1, stages + 1)
    return graph, issues


class Mac:
    """``W @ x`` folded onto ``pe * simd`` multipliers: ``groups`` times ``steps`` cycles a vector.

    A vector stays in a buffer for its ``groups`` passes and is replaced, word by word, during the
    last, so no cycle passes without products as long as words come in and sums are taken.

    Parameters
    ----------
    weight : ints, shape (outputs, inputs), not all zero
    number : Format of x
    pe, simd : int, dividing outputs and inputs
    weight_style : "block" or "logic", what the memory of W becomes
    buffer_style : "block", "distributed" or "registers", what the memory of x becomes

    Members
    -------
    groups, steps : int
    core : MacCore, the products and sums
    """

    def __init__(
        self,
        weight: Ints,
        number: Format,
        pe: int,
        simd: int,
        weight_style: str = "block",
        buffer_style: str = "block",
    ):
        outputs, inputs = weight.shape
        if min(pe, simd) < 1 or outputs % pe or inputs % simd:
            raise ValueError(
                f"Mac pe and simd must divide {outputs} outputs and {inputs} inputs, "
                f"not be {pe} and {simd}"
            )
        if not weight.any():
            raise ValueError("Mac weight must not be all zero")
        self.groups, self.steps = outputs // pe, inputs // simd
        self.buffer_style = buffer_style
        folded = weight.reshape(self.groups, pe, self.steps, simd)
        accumulates = self.steps > 1
        self.core = MacCore(folded, number, weight_style, accumulates, in_turn=True)

    def over(self, core: MacCore) -> "Mac":
        """The same in front of another core for the same elements."""
        part = copy(self)
        part.core = core
        return part

    def inventory(self) -> Inventory:
        """What it is made of."""
        total = self.core.inventory()
        if self.core.addressed:
            total += cost.counter(self.core.tables.depth)
        if self.steps > 1:
            total += cost.counter(self.steps)
        return total + self._buffer_inventory()

    def _buffer_inventory(self) -> Inventory:
        """What holds the elements of x."""
        core = self.core
        readers: dict[int, list[cost.Product]] = {lane: [] for lane in core.elements}
        for product, priced in zip(core.products, core.priced, strict=True):
            readers[product.lane].append(priced)
        operands = (
            cost.operand_register(core.elements[k].bit_count(), lane) for k, lane in readers.items()
        )
        bits = core.word_bits
        if self.groups == 1:
            return sum(operands, Inventory())
        passes = cost.counter(self.groups) + cost.logic((self.groups - 1).bit_length(), 2)
        if self.steps == 1:
            return sum(operands, passes + cost.register(bits + 1) + cost.logic(3, 2))
        levels = 2 * cost.level(self.steps) + cost.logic(3, 3)
        memory = cost.ram(self.steps, bits, self.buffer_style)
        return passes + levels + cost.counter(self.steps) + memory

    def events(self) -> Events:
        """Transfers of ``i`` and ``o`` for one vector."""
        steps, groups = self.steps, self.groups
        arriving = np.arange(steps)
        issue = "i" if groups == 1 else "u"
        graph, issues = reduction_events(self.core.stages, np.full(groups, steps), arriving, issue)
        if groups > 1:
            graph.event("i", steps)
            arrivals = np.full(len(issues.chosen), NEVER)
            arrivals[np.isin(issues.chosen, arriving)] = arriving
            graph.after(issue, "i", 1, arrivals)
            issues.follow(graph, "i", arriving - steps, int(steps > 1))
        return graph


def trailing_zeros(values: Ints) -> int:
    """Power of two that divides all of ``values``; 0 if all are 0."""
    together = int(np.bitwise_or.reduce(values, axis=None))
    return (together & -together).bit_length() - 1 if together else 0


def wrapped(table: Ints, width: int) -> Ints:
    """A table with the same low ``width`` bits and not more."""
    if width == 1:
        return table & 1
    if width < Format.containing(int(table.min()), int(table.max()), 0).width:
        half = 1 << (width - 1)
        return (table + half) % (2 * half) - half
    return table


def within(low: int, high: int, width: int) -> Format:
    """The narrowest format from ``low`` to ``high``, cut to ``width`` bits."""
    exact = Format.containing(low, high, 0)
    return Format(max(1, min(exact.width, width)), 0, exact.signed)


def _pair(terms: Sequence[Term]) -> tuple[tuple[Term, ...], int]:
    """Terms of an adder, and the zeros below their sum."""
    zeros = min(term.zeros for term in terms)
    return tuple(Term(term.number, term.zeros - zeros) for term in terms), zeros


def _adder(level: Sequence[Product | Adder], terms: tuple[Term, ...], width: int) -> Adder:
    low = sum(level[n].format.min << zeros for n, zeros in terms)
    high = sum(level[n].format.max << zeros for n, zeros in terms)
    return Adder(terms, within(low, high, width))


def sums_signature(sums: Sequence[Format]) -> stream.Signature:
    """Stream of sums, fields ``sum_0``, ``sum_1``, ..."""
    return stream.Signature(
        data.StructLayout({f"sum_{n}": shape(number) for n, number in enumerate(sums)})
    )


def pick(word: Value, number: Format, elements: Mapping[int, int]) -> Value:
    """Of a word the lanes and the bits in a mask of each."""
    return Cat(
        word[k * number.width + n]
        for k, mask in elements.items()
        for n in range(number.width)
        if mask >> n & 1
    )


def step_signature(design: Any) -> stream.Signature:
    """Stream of steps: address of the weights, whether it ends its sum, whether that is empty."""
    fields: dict[str, Any] = {"address": range(design.tables.depth if design.addressed else 1)}
    if design.accumulates:
        fields["last"] = 1
    if design.empties:
        fields["empty"] = 1
    return stream.Signature(data.StructLayout(fields))


def delayed(m: Module, flag: Value, enables: Value, name: str) -> Value:
    """A bit that travels with the words of an elastic pipeline."""
    for s in range(len(enables)):
        previous, flag = flag, Signal(name=f"{name}_{s}", reset_less=True)
        with m.If(enables[s]):
            m.d.sync += flag.eq(previous)
    return flag


def accumulation(m: Module, step, stages: int, o, accumulates: bool):
    """Control of accumulators behind ``stages`` stages: complete results wait until they are taken.

    Returns the enables of the stages, whether the accumulators take a term, and whether it is the
    first of its result. The handshakes of ``step`` and ``o`` are connected.
    """
    ready, done, begin = Signal(), Signal(), Signal(init=1)
    enables, valids = elastic(m, step.valid, stages, ready)
    last = delayed(m, step.payload.last, enables, "last") if accumulates else Const(1, 1)
    m.d.comb += [step.ready.eq(enables[0]), o.valid.eq(done), ready.eq(~done | o.ready)]
    with m.If(ready):
        m.d.sync += done.eq(valids[-1] & last)
        if accumulates:
            with m.If(valids[-1]):
                m.d.sync += begin.eq(last)
    return enables, ready & valids[-1], begin


class MacCoreArray(wiring.Component):
    """Hardware of :class:`MacCore`.

    Members
    -------
    step : stream of steps, see :func:`step_signature`
    word : the elements of the used lanes, from the cycle after their step until the next step
    o : stream of the sums of ``pe`` rows, fields ``sum_0``, ``sum_1``, ...
    """

    def __init__(self, design: MacCore):
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
        design, step = self.design, self.step
        m.submodules.rom = rom = Rom(design.tables)
        m.d.comb += [
            rom.address.eq(step.payload.address),
            rom.enable.eq(step.valid & step.ready),
        ]
        enables, take, begin = accumulation(m, step, design.stages, self.o, design.accumulates)
        empty = Const(0)
        if design.empties:
            empty = delayed(m, step.payload.empty, enables, "empty")
        self._accumulators(m, self._sums(m, enables, rom.data), take, begin, empty)
        return m

    def _sums(self, m: Module, enables, weights):
        """Products of every row, summed by a tree with a register after each level."""
        design = self.design
        elements, place = {}, 0
        for k, mask in design.elements.items():
            width = mask.bit_length()
            elements[k] = Signal(Shape(width, design.number.signed), name=f"element_{k}")
            m.d.comb += elements[k].eq(self.word[place : place + width])
            place += width

        def register(stage: int, number: Format, value, name: str):
            result = Signal(shape(number), name=name, reset_less=True)
            with m.If(enables[stage]):
                m.d.sync += result.eq(value)
            return result

        level = [
            register(
                1,
                product.format,
                elements[product.lane] * design.tables.number(n, weights),
                f"product_{n}",
            )
            for n, product in enumerate(design.products)
        ]
        for depth, adders in enumerate(design.adders):
            values = []
            for n, adder in enumerate(adders):
                terms = [level[number] << zeros for number, zeros in adder.terms]
                total = terms[0] + terms[1] if len(terms) == 2 else terms[0]
                values.append(register(2 + depth, adder.format, total, f"sum_{depth}_{n}"))
            level = values
        return [None if number is None else level[number] for number in design.totals]

    def _accumulators(self, m: Module, sums, take, begin, empty):
        """Load on the first step, add on the others."""
        for p, total in enumerate(sums):
            lane = getattr(self.o.payload, f"sum_{p}")
            if total is None:
                m.d.comb += lane.eq(0)
                continue
            accumulator = Signal(
                shape(self.design.sums[p]), name=f"accumulator_{p}", reset_less=True
            )
            kept = Mux(begin, 0, accumulator) if self.design.accumulates else 0
            with m.If(take):
                m.d.sync += accumulator.eq(kept + total)
                if self.design.empties:
                    with m.If(empty):
                        m.d.sync += accumulator.eq(0)
            m.d.comb += lane.eq(accumulator)


class MacArray(wiring.Component):
    """Hardware of :class:`Mac`.

    Members
    -------
    i : stream of x, ``simd`` elements a transfer
    o : stream of the sums of ``pe`` rows, fields ``sum_0``, ``sum_1``, ...
    """

    def __init__(self, design: Mac):
        self.design = design
        core = design.core
        super().__init__(
            {
                "i": In(stream_signature(core.number, core.simd)),
                "o": Out(core.output),
            }
        )

    def elaborate(self, platform):
        m = Module()
        design = self.design
        m.submodules.core = core = design.core.component()
        connect(m, core.o, flipped(self.o))
        available, issue = core.step.valid, Signal()
        m.d.comb += issue.eq(available & core.step.ready)

        steps = design.steps
        if design.core.addressed:
            depth = design.core.tables.depth
            place = Signal(range(depth))
            with m.If(issue):
                m.d.sync += place.eq(Mux(place == depth - 1, 0, place + 1))
            m.d.comb += core.step.payload.address.eq(place)
        step, last = Signal(range(steps)), Const(1, 1)
        if steps > 1:
            last = Signal()
            m.d.comb += [last.eq(step == steps - 1), core.step.payload.last.eq(last)]
            with m.If(issue):
                m.d.sync += step.eq(Mux(last, 0, step + 1))

        word = pick(self.i.payload.as_value(), design.core.number, design.core.elements)
        if design.groups == 1:
            m.d.comb += [available.eq(self.i.valid), self.i.ready.eq(core.step.ready)]
            read = Signal(len(word), reset_less=True)
            with m.If(issue):
                m.d.sync += read.eq(word)
        elif steps == 1:
            read = self._held_word(m, available, issue, word)
        else:
            read = self._buffered_words(m, available, issue, step, last, word)
        m.d.comb += core.word.eq(read)
        return m

    def _passes(self, m: Module, issue, last):
        """Signals for the first and the last of the passes over one vector."""
        pass_, first_pass, last_pass = (
            Signal(range(self.design.groups), name="group"),
            Signal(),
            Signal(),
        )
        m.d.comb += [first_pass.eq(pass_ == 0), last_pass.eq(pass_ == self.design.groups - 1)]
        with m.If(issue & last):
            m.d.sync += pass_.eq(Mux(last_pass, 0, pass_ + 1))
        return first_pass, last_pass

    def _held_word(self, m: Module, available, issue, word):
        """The vector is one word: a register holds it for its passes."""
        _, last_pass = self._passes(m, issue, Const(1, 1))
        held, full = Signal(len(word), reset_less=True), Signal()
        m.d.comb += [available.eq(full), self.i.ready.eq(~full | (issue & last_pass))]
        with m.If(self.i.ready):
            m.d.sync += full.eq(self.i.valid)
            with m.If(self.i.valid):
                m.d.sync += held.eq(word)
        read = Signal(len(word), reset_less=True)
        with m.If(issue):
            m.d.sync += read.eq(held)
        return read

    def _buffered_words(self, m: Module, available, issue, step, last, word):
        """A memory of one vector; each word is replaced after its last pass."""
        i, steps = self.i, self.design.steps
        first_pass, last_pass = self._passes(m, issue, last)
        m.submodules.buffer = buffer = Memory(
            shape=len(word), depth=steps, init=[], attrs={"ram_style": self.design.buffer_style}
        )
        write, read = buffer.write_port(), buffer.read_port(domain="sync")
        put = Signal()
        address = Signal(range(steps))  # of the next word to come
        fresh = Signal(range(steps + 1))  # words that wait for their first pass
        held = Signal(range(steps + 1))  # words that wait for their last pass
        m.d.comb += [
            i.ready.eq(held != steps),
            put.eq(i.valid & i.ready),
            write.addr.eq(address),
            write.data.eq(word),
            write.en.eq(put),
            read.addr.eq(step),
            read.en.eq(issue),
            available.eq(~first_pass | (fresh != 0)),
        ]
        with m.If(put):
            m.d.sync += address.eq(Mux(address == steps - 1, 0, address + 1))
        for counter, used in ((fresh, issue & first_pass), (held, issue & last_pass)):
            with m.If(put & ~used):
                m.d.sync += counter.eq(counter + 1)
            with m.If(used & ~put):
                m.d.sync += counter.eq(counter - 1)
        return read.data
