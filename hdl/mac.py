# SPDX-License-Identifier: Apache-2.0
"""Multiply-accumulate array: the folded product of a constant matrix and a stream of vectors."""

from collections.abc import Sequence
from copy import copy
from typing import NamedTuple

import numpy as np
from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from quant import Format, Ints, dot_bounds

from . import cost
from .cost import Inventory
from .events import NEVER, Events
from .memory import Rom, Tables
from .stream import elastic, shape, stream_signature


class Product(NamedTuple):
    """A multiplier: lane of x, format of the register behind it, zeros below that."""

    lane: int
    format: Format
    zeros: int


class Adder(NamedTuple):
    """Sum of one or two numbers of the level before, format of its register, zeros below that."""

    terms: tuple[int, ...]
    format: Format
    zeros: int


class Mac:
    """``W @ x`` folded onto ``pe * simd`` multipliers: ``groups`` times ``steps`` cycles a vector.

    In each cycle ``simd`` elements of x meet ``pe`` rows of W; after ``steps`` cycles ``pe`` sums
    are complete and leave, while the first products of the next rows load the accumulators. A
    vector stays in a buffer for its ``groups`` passes and is replaced, word by word, during the
    last, so no cycle passes without products as long as words come in and sums are taken.

    Pipeline: read (weights and elements), product, a level of the adder tree a stage, accumulator.

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
    sums : Format of each distinct sum that leaves together
    sources : for each of the ``pe`` lanes, which of ``sums`` is its own
    inverted : for each lane False: no sum comes inverted
    offset : ints, shape (outputs,): zeros, nothing has to be added
    scale : ints, shape (outputs,): the sum stands for ``W @ x >> scale``, without the powers of two
        that all rows of a lane share
    low, high : ints, shape (outputs,): bounds of each row's sum
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
        if outputs % pe or inputs % simd:
            raise ValueError(
                f"Mac pe and simd must divide {outputs} outputs and {inputs} inputs, "
                f"not be {pe} and {simd}"
            )
        if not weight.any():
            raise ValueError("Mac weight must not be all zero")
        self.number, self.pe, self.simd = number, pe, simd
        self.inverted, self.offset = [False] * pe, np.zeros(outputs, np.int64)
        self.groups, self.steps = outputs // pe, inputs // simd
        self.weight_style, self.buffer_style = weight_style, buffer_style
        lanes = weight.reshape(self.groups, pe, self.steps, simd).transpose(1, 0, 2, 3)
        scales = [trailing_zeros(lane) for lane in lanes]
        self.scale = np.tile(np.array(scales, np.int64), self.groups)
        lanes = lanes >> np.array(scales).reshape(-1, 1, 1, 1)
        self.low, self.high = dot_bounds(weight >> self.scale[:, None], number, "Mac")
        rows: dict[bytes, int] = {}
        self.sources = [rows.setdefault(lane.tobytes(), len(rows)) for lane in lanes]
        self.rows = [lanes[self.sources.index(row)] for row in range(len(rows))]
        self._kept, self._skipped = [64] * len(rows), [0] * len(rows)
        self._tree()

    def reading(self, skipped: Ints, kept: Ints, gaps: Ints) -> "Mac":
        """The same without the upper bits of the sums that nobody reads.

        ``kept`` bits of the sum of each lane are read, the ``skipped`` lowest aside; ``gaps`` among
        them stay.
        """
        part = copy(self)
        rows = range(len(self.rows))
        lanes = [[p for p in range(self.pe) if self.sources[p] == row] for row in rows]
        part._kept = [max(int(kept[p]) for p in row) for row in lanes]
        if self.steps == 1:  # an accumulator needs what it carries from
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

        None is wider than the sum of its row: what wraps on the way is right again in the end.
        """
        self.sums = self._widths()
        tables: list[Ints] = []
        self.products: list[Product] = []
        self.adders: list[list[Adder]] = []
        known: dict[tuple, int] = {}
        rows: list[list[int]] = []
        for row, number, read in zip(self.rows, self.sums, self._kept, strict=True):
            places = []
            for k in np.flatnonzero(row.any(axis=(0, 1))).tolist():
                table = row[:, :, k].ravel()  # in order of use
                zeros = trailing_zeros(table)
                if zeros >= min(read, number.width):
                    continue
                low, high = dot_bounds((table >> zeros)[:, None], self.number)
                kept = within(int(low.min()), int(high.max()), number.width - zeros)
                key = (k, table.tobytes(), kept)
                if key not in known:
                    known[key] = len(tables)
                    tables.append(wrapped(table >> zeros, kept.width))
                    self.products.append(Product(k, kept, zeros))
                places.append(known[key])
            rows.append(places)
        self.tables = Tables(tables, self.weight_style)
        level: Sequence[Product | Adder] = self.products
        for _ in range(self.tree_stages):
            adders: dict[Adder, int] = {}
            for places, number in zip(rows, self.sums, strict=True):
                for n, pair in enumerate(zip(places[::2], [*places[1::2], None], strict=False)):
                    adder = _adder(level, pair, number.width)
                    places[n] = adders.setdefault(adder, len(adders))
                del places[(len(places) + 1) // 2 :]
            self.adders.append(list(adders))
            level = self.adders[-1]
        self.totals = [places[0] if places else None for places in rows]

    @property
    def tree_stages(self) -> int:
        """Levels of the adder tree, a register after each."""
        return (self.simd - 1).bit_length()

    @property
    def front_stages(self) -> int:
        """Registers between the issue of a step and the accumulator."""
        return 2 + self.tree_stages

    @property
    def used_lanes(self) -> list[int]:
        """Lanes of x that meet any weight that is not zero."""
        return sorted({product.lane for product in self.products})

    def inventory(self) -> Inventory:
        """What it is made of."""
        steps, front = self.steps, self.front_stages
        total = cost.elastic(front) + cost.register(1) + cost.logic(3, 2)
        if self.tables.width:
            total += cost.counter(self.tables.depth) + cost.logic(2)
        if steps > 1:
            total += cost.counter(steps) + cost.register(front + 1) + cost.logic(3)
        tables = self.tables
        total += cost.rom(tables.depth, tables.width, self.weight_style, tables.words)
        products = [
            cost.Product(
                min(self.number.width, product.format.width),
                self.number.signed,
                0 if tables.constants[n] == 1 else tables.formats[n].width,
                tables.formats[n].signed,
                product.format.width,
            )
            for n, product in enumerate(self.products)
        ]
        unread = self._unread()
        for product, low in zip(products, unread[0], strict=True):
            low = min(low, product.y_width)
            total += cost.multiplier(*product[:5]) + cost.product_register(product, low)
        total += self._buffer_inventory(products)
        readers = self.adders[0] if self.adders else []
        uses = [t for adder in readers for t in adder.terms] if readers else self.totals

        def alone(n: int, zeros: int) -> cost.Product | None:
            """A product that one adder alone reads, for what a multiplier block takes in."""
            below = self.products[n].zeros - zeros
            return products[n]._replace(zeros=below) if uses.count(n) == 1 else None

        for level, adders in enumerate(self.adders):
            for adder, low in zip(adders, unread[level + 1], strict=True):
                terms = [None if level else alone(t, adder.zeros) for t in adder.terms]
                low = min(low, adder.format.width)
                total += cost.product_adder(adder.format.width, terms, skipped=low)
        for number, source, low in zip(self.sums, self.totals, self._skipped, strict=True):
            if source is not None:
                term = None if self.adders else alone(source, 0)
                total += cost.product_adder(number.width, [term], load=steps > 1, skipped=low)
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
                gaps = [levels[depth - 1][t].zeros - adder.zeros for t in adder.terms]
                for t, gap in zip(adder.terms, gaps, strict=True):
                    passed = low if len(gaps) == 1 else min(low, max(gaps)) if gap == 0 else 0
                    unread[depth - 1][t] = min(unread[depth - 1][t], passed)
        return unread

    def _buffer_inventory(self, products: list[cost.Product]) -> Inventory:
        """What holds the elements of x."""
        readers: dict[int, list[cost.Product]] = {lane: [] for lane in self.used_lanes}
        for product, priced in zip(self.products, products, strict=True):
            readers[product.lane].append(priced)
        widths = [max(priced.a_width for priced in lane) for lane in readers.values()]
        operands = [
            cost.operand_register(width, lane)
            for width, lane in zip(widths, readers.values(), strict=True)
        ]
        bits = sum(widths)
        if self.groups == 1:
            return sum(operands, Inventory())
        passes = cost.counter(self.groups) + cost.logic((self.groups - 1).bit_length(), 2)
        if self.steps == 1:
            return sum(operands, passes + cost.register(bits + 1) + cost.logic(3, 2))
        levels = 2 * cost.level(self.steps) + cost.logic(3, 3)
        memory = cost.ram(self.steps, bits, self.buffer_style)
        return passes + levels + cost.counter(self.steps) + memory

    def events(self) -> Events:
        """Transfers of ``i`` and ``o`` for one vector.

        Between them ``u``, the issue of a step, and ``a``, its entry into the accumulators; only
        those steps stand for themselves that something other than the step before can delay.
        """
        steps, groups, front = self.steps, self.groups, self.front_stages
        total = steps * groups
        firsts = np.arange(groups) * steps
        if groups == 1:
            issues = np.arange(steps)
        else:
            issues = np.unique(np.concatenate([np.arange(steps), (firsts + front) % total]))
        graph = Events()
        u = graph.event("i", steps) if groups == 1 else graph.event("u", len(issues), spacing=None)
        graph.event("a", groups, spacing=None)
        graph.event("o", groups)

        def follow(target: str, wanted, chosen, source: str, delay: int) -> None:
            """Step ``wanted[k]`` after the step, through the nearest one that stands for itself."""
            vector = wanted // total
            place = np.searchsorted(chosen, wanted % total, "right") - 1
            index = place + vector * len(chosen)
            nearest = chosen[place % len(chosen)] + index // len(chosen) * total
            graph.after(target, source, delay + wanted - nearest, index)

        follow(u, issues - 1, issues, u, 1)
        follow(u, issues - front, firsts, "a", 0)
        follow("a", firsts, issues, u, front)
        graph.after("a", "a", steps, np.arange(groups) - 1)
        graph.after("a", "o", 0, np.arange(groups) - 1)
        graph.after("o", "a", steps)
        follow("o", firsts + steps - 1, issues, u, front + 1)
        if groups > 1:
            graph.event("i", steps)
            arrivals = np.full(len(issues), NEVER)
            arrivals[np.isin(issues, np.arange(steps))] = np.arange(steps)
            graph.after(u, "i", 1, arrivals)
            follow("i", np.arange(steps) - steps, issues, u, int(steps > 1))
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


def _adder(level: Sequence[Product | Adder], pair: tuple, width: int) -> Adder:
    terms = tuple(n for n in pair if n is not None)
    parts = [level[n] for n in terms]
    zeros = min(part.zeros for part in parts)
    low = sum(part.format.min << (part.zeros - zeros) for part in parts)
    high = sum(part.format.max << (part.zeros - zeros) for part in parts)
    return Adder(terms, within(low, high, width - zeros), zeros)


class MacArray(wiring.Component):
    """Hardware of :class:`Mac`.

    Members
    -------
    i : stream of x, ``simd`` elements a transfer
    o : stream of the sums of ``pe`` rows, fields ``sum_0``, ``sum_1``, ...
    """

    def __init__(self, design: Mac):
        self.design = design
        sums = {f"sum_{n}": shape(number) for n, number in enumerate(design.sums)}
        super().__init__(
            {
                "i": In(stream_signature(design.number, design.simd)),
                "o": Out(stream.Signature(data.StructLayout(sums))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        design = self.design
        stages = design.front_stages
        m.submodules.rom = rom = Rom(design.tables)
        available, issue = Signal(), Signal()
        accumulate = Signal()  # the accumulators take what the front offers
        enables, valids = elastic(m, available, stages, accumulate)
        m.d.comb += issue.eq(available & enables[0])

        steps = design.steps
        depth = design.tables.depth
        place = Signal(range(depth))
        with m.If(issue):
            m.d.sync += place.eq(Mux(place == depth - 1, 0, place + 1))
        m.d.comb += [rom.address.eq(place), rom.enable.eq(issue)]
        step, last = Signal(range(steps)), Const(1, 1)
        if steps > 1:
            last = Signal()
            m.d.comb += last.eq(step == steps - 1)
            with m.If(issue):
                m.d.sync += step.eq(Mux(last, 0, step + 1))
        elements = self._elements(m, available, enables[0], issue, step, last)

        sums = self._sums(m, enables, elements, rom.data)
        if steps > 1:
            for s in range(stages):
                previous, last = last, Signal(name=f"last_{s}", reset_less=True)
                with m.If(enables[s]):
                    m.d.sync += last.eq(previous)
        self._accumulators(m, sums, valids[-1], last, accumulate)
        return m

    def _elements(self, m: Module, available, enable, issue, step, last):
        """Elements of x a cycle after their step was issued; says when a step is available."""
        i, word = self.i, self.i.payload.as_value()
        element = self.design.number.width
        lanes = self.design.used_lanes
        word = Cat(word[k * element : (k + 1) * element] for k in lanes)
        if self.design.groups == 1:
            m.d.comb += [available.eq(i.valid), i.ready.eq(enable)]
            read = Signal(len(word), reset_less=True)
            with m.If(issue):
                m.d.sync += read.eq(word)
        elif self.design.steps == 1:
            read = self._held_word(m, available, issue, word)
        else:
            read = self._buffered_words(m, available, issue, step, last, word)
        number = shape(self.design.number)
        elements = {}
        for place, k in enumerate(lanes):
            elements[k] = Signal(number, name=f"element_{k}")
            m.d.comb += elements[k].eq(read[place * element : (place + 1) * element])
        return elements

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

    def _sums(self, m: Module, enables, elements, weights):
        """Products of every row, summed by a tree with a register after each level."""
        design = self.design

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
        parts: Sequence[Product | Adder] = design.products
        for depth, adders in enumerate(design.adders):
            values = []
            for n, adder in enumerate(adders):
                terms = [level[t] << (parts[t].zeros - adder.zeros) for t in adder.terms]
                total = terms[0] + terms[1] if len(terms) == 2 else terms[0]
                values.append(register(2 + depth, adder.format, total, f"sum_{depth}_{n}"))
            level, parts = values, adders
        return [None if t is None else level[t] << parts[t].zeros for t in design.totals]

    def _accumulators(self, m: Module, sums, valid, last, accumulate):
        """Load on the first step, add on the others; complete sums wait until they are taken."""
        o, done = self.o, Signal()
        m.d.comb += [o.valid.eq(done), accumulate.eq(~done | o.ready)]
        begin = Signal(init=1)
        with m.If(accumulate):
            m.d.sync += done.eq(valid & last)
            if self.design.steps > 1:
                with m.If(valid):
                    m.d.sync += begin.eq(last)
        for p, total in enumerate(sums):
            lane = getattr(o.payload, f"sum_{p}")
            if total is None:
                m.d.comb += lane.eq(0)
                continue
            accumulator = Signal(
                shape(self.design.sums[p]), name=f"accumulator_{p}", reset_less=True
            )
            kept = Mux(begin, 0, accumulator) if self.design.steps > 1 else 0
            with m.If(accumulate & valid):
                m.d.sync += accumulator.eq(kept + total)
            m.d.comb += lane.eq(accumulator)
