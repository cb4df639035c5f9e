# SPDX-License-Identifier: Apache-2.0
"""Streams whose words come out in another order: dropped, repeated, permuted, with constants."""

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from amaranth import Cat, Const, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped
from numpy.typing import NDArray

from quant import Format, Ints

from . import cost
from .cost import Inventory
from .events import NEVER, Events, chain, pipeline_events
from .memory import Tables
from .steps import Countdown, CountdownCounter, Steps, StepsCounter
from .stream import elastic, stream_signature


class Select:
    """Passes some words of a frame on, in one stage, and drops the others.

    Parameters
    ----------
    kept : ints, increasing: which words of a frame pass
    words : of a frame
    bits : of a word
    table_style : "logic" or "block", of the table that says so where that is no nest of loops
    """

    def __init__(self, kept: Ints, words: int, bits: int, table_style: str = "logic"):
        self.kept, self.words, self.bits = kept, words, bits
        self.countdown = Countdown(kept, words, table_style)

    def inventory(self) -> Inventory:
        """What it is made of."""
        stage = cost.elastic(1) + cost.register(self.bits) + cost.logic(3, 2)
        return stage + self.countdown.inventory()

    def events(self) -> Events:
        """Transfers of ``i`` and ``o`` of one frame."""
        graph = Events()
        graph.event("i", self.words)
        graph.event("o", len(self.kept), spacing=None)
        graph.after("o", "i", 1, self.kept)
        before = np.full(self.words, NEVER)
        before[self.kept] = np.arange(len(self.kept)) - 1
        graph.after("i", "o", 0, before)
        return graph


class Stretch:
    """Passes every word on, in one stage, after a number of copies of it or of a constant word.

    Constants leave no earlier than the first word of their frame could: as many of those before a
    word as there are before the first wait for it.

    Parameters
    ----------
    last : ints, increasing: the places in the outgoing frame where a word goes for the last time;
        at the places before it go the copies or constants
    places : in an outgoing frame; those behind the last word are constants
    bits : of a word
    fill : the number in every lane of the constant word; None for copies
    table_style : "logic" or "block", of the table of gaps where they are no nest of loops
    """

    def __init__(
        self, last: Ints, places: int, bits: int, fill: int | None, table_style: str = "logic"
    ):
        self.last, self.places, self.bits, self.fill = last, places, bits, fill
        self.countdown = Countdown(last, places, table_style)

    def inventory(self, products: Sequence[cost.Product] = ()) -> Inventory:
        """What it is made of; ``products`` are the multipliers that alone read it, if any are."""
        word = cost.operand_register(self.bits, products) if products else cost.register(self.bits)
        stage = cost.elastic(1) + word + cost.logic(3)
        if self.fill is not None:
            stage += cost.logic(2, self.bits) + cost.logic(1 + self.countdown.width)
        return stage + self.countdown.inventory()

    def events(self) -> Events:
        """Transfers of ``i`` and ``o`` of one frame."""
        graph = Events()
        words = len(self.last)
        graph.event("i", words, spacing=None)
        graph.event("o", self.places)
        previous = np.append(self.last[-1] - self.places, self.last[:-1])
        graph.after("i", "o", 0, previous)
        index = np.full(self.places, NEVER)
        waiting = np.diff(self.last, prepend=-1) - 1
        if self.fill is not None:
            waiting = np.minimum(waiting, self.last[0])
        index[self.last - waiting] = np.arange(words)
        graph.after("o", "i", 1, index)
        return graph


class Reorder:
    """Words are written to a ring of memory as they come and read in a fixed order.

    A word is read from the cycle after it was written on, a cycle before it leaves; its place is
    free once no later word of the order needs it or one that came before it, or a little later
    where that keeps the order a nest of loops. The next frame is written while this one is read.

    Parameters
    ----------
    order : ints, shape (reads,): which word of the frame each read takes; every word at least once
    bits : of a word
    buffer_style : "block", "distributed" or "registers", what the memory becomes
    table_style : "logic" or "block", of the table of addresses where they are no nest of loops

    Members
    -------
    words : of a frame
    depth : words of memory, the smallest power of two with which frames follow each other as fast
        as words come and go, one of either a cycle
    steps : increments of the read address, and of the words released
    """

    def __init__(
        self, order: Ints, bits: int, buffer_style: str = "block", table_style: str = "logic"
    ):
        self.order, self.bits, self.buffer_style = order, bits, buffer_style
        self.words = int(order.max()) + 1
        advance = np.diff(order, append=order[0] + self.words)
        releases = self._releases(advance - advance.min())
        self.released: NDArray[np.int64] = np.cumsum(releases)
        before = self.released - releases
        depth = max(2, 1 << int((order - before).max()).bit_length())
        while not self._keeps_rate(depth):
            depth *= 2
        self.depth = depth
        together = int(np.bitwise_or.reduce(releases))
        self.unit_bits = (together & -together).bit_length() - 1
        rows = np.stack([advance % (2 * depth), releases % (2 * depth) >> self.unit_bits], axis=1)
        self.steps = Steps(rows, table_style)

    def _releases(self, advance: NDArray[np.int64]) -> NDArray[np.int64]:
        """Words released with each read, such that the loops of the addresses remain.

        In loops without tables one number for each number of loops that end with the read, as many
        as can be, the innermost loops first. Else all that can be, at every read or at the ends of
        some inner loops. What is left when the frame ends.
        """
        reads, words = len(self.order), self.words
        needed = np.append(np.minimum.accumulate(self.order[::-1])[::-1][1:], words)
        places = np.arange(1, reads + 1)
        loops = Steps(advance[:, None])
        sizes = [*np.cumprod([1, *loops.extents]).tolist(), reads]
        if loops.tables:
            for size in sizes:
                ends = places % size == 0
                releases = np.zeros(reads, np.int64)
                releases[ends] = np.diff(needed[ends], prepend=0)
                rows = np.stack([advance, releases], axis=1)
                if Steps(rows).table_rows == loops.table_rows:
                    break
            return releases
        releases = np.zeros(reads, np.int64)
        for inner, outer in pairwise(sizes):
            at = (places % inner == 0) & (places % outer != 0)
            if at.any():
                counts, left = np.cumsum(at), needed - np.cumsum(releases)
                releases[at] = (left[counts > 0] // counts[counts > 0]).min()
        releases[-1] = words - releases[:-1].sum()
        return releases

    @cached_property
    def _first_reads(self) -> NDArray[np.int64]:
        """Whether each read takes a word later than all before it in its frame."""
        latest = np.maximum.accumulate(self.order)
        return np.append(True, latest[1:] > latest[:-1])

    def _freeing(self, depth: int) -> NDArray[np.int64]:
        """For each word of a frame the read that frees its place; negative in earlier frames."""
        needed = np.arange(self.words) - depth + 1  # words released by then
        frames = -((needed - 1) // self.words)
        reads = np.searchsorted(self.released, needed + frames * self.words)
        return reads - frames * len(self.order)

    def _keeps_rate(self, depth: int) -> bool:
        """Whether the depth allows a frame every ``max(words, reads)`` cycles.

        What is scarcer, cycles for words or for reads, leaves no choice of their times; the other
        is tried as early as it can be (reads) or as late (words).
        """
        words, reads = self.words, len(self.order)
        interval = max(words, reads)
        if words == interval:
            writes = np.arange(words)
            late = np.maximum.accumulate(self.order + 1 - np.arange(reads))
            late = np.maximum(late, late[-1] + reads - interval)
            read_times = late + np.arange(reads)
        else:
            read_times = np.arange(reads)
            first = np.full(self.words, reads)
            np.minimum.at(first, self.order, read_times)
            slack = np.minimum.accumulate((first - 1 - np.arange(words))[::-1])[::-1]
            writes = np.arange(words) + np.minimum(slack, slack[0] + interval - words)
        freeing = self._freeing(depth)
        freed = read_times[freeing % reads] + freeing // reads * interval
        return bool((writes > freed).all())

    def inventory(self) -> Inventory:
        """What it is made of."""
        bits = self.depth.bit_length()  # one more than an address has
        total = cost.elastic(1) + cost.ram(self.depth, self.bits, self.buffer_style)
        total += cost.counter(2 * self.depth) + cost.register(2 * bits - self.unit_bits)
        total += cost.adder(bits) + cost.adder(bits - self.unit_bits) + cost.compare(bits)
        return total + cost.logic(2 * bits) + cost.logic(3, 2) + self.steps.inventory()

    def events(self) -> Events:
        """Transfers of ``i`` and ``o`` of one frame.

        Read k is issued when word k - 1 leaves and what it takes was written the cycle before.
        """
        graph = Events()
        words, reads = self.words, len(self.order)
        graph.event("i", words)
        graph.event("o", reads)
        graph.after("o", "i", 2, np.where(self._first_reads, self.order, NEVER))
        freeing = self._freeing(self.depth)
        new = np.append(True, freeing[1:] > freeing[:-1])
        graph.after("i", "o", 1, np.where(new, freeing - 1, NEVER))
        latest = np.maximum.accumulate(self.order)[freeing % reads] + freeing // reads * words
        direct = new & (latest == np.arange(words) - 1)
        graph.after("i", "i", 2, np.where(direct, latest, NEVER))
        return graph


class SelectStage(wiring.Component):
    """Hardware of :class:`Select`."""

    def __init__(self, design: Select, signature):
        self.design = design
        super().__init__({"i": In(signature), "o": Out(signature)})

    def elaborate(self, platform):
        m = Module()
        i, o = self.i, self.o
        m.submodules.kept = kept = CountdownCounter(self.design.countdown)
        enables, valids = elastic(m, i.valid & kept.hit, 1, o.ready)
        word = Signal.like(i.payload.as_value(), name="word", reset_less=True)
        m.d.comb += [
            i.ready.eq(enables[0] | ~kept.hit),
            kept.advance.eq(i.valid & i.ready),
            o.valid.eq(valids[0]),
            o.payload.as_value().eq(word),
        ]
        with m.If(enables[0]):
            m.d.sync += word.eq(i.payload.as_value())
        return m


class StretchStage(wiring.Component):
    """Hardware of :class:`Stretch`."""

    def __init__(self, design: Stretch, signature):
        self.design = design
        super().__init__({"i": In(signature), "o": Out(signature)})

    def elaborate(self, platform):
        m = Module()
        design, i, o = self.design, self.i, self.o
        m.submodules.last = last = CountdownCounter(design.countdown)
        enables, valids = elastic(m, i.valid, 1, o.ready & last.hit)
        word = Signal.like(i.payload.as_value(), name="word", reset_less=True)
        with m.If(enables[0]):
            m.d.sync += word.eq(i.payload.as_value())
        m.d.comb += [
            i.ready.eq(enables[0]),
            o.valid.eq(valids[0]),
            o.payload.as_value().eq(word),
            last.advance.eq(o.valid & o.ready),
        ]
        if design.fill is not None:
            with m.If(~last.hit):
                m.d.comb += o.valid.eq(valids[0] | (last.left > int(design.last[0])))
                m.d.comb += [lane.eq(design.fill) for lane in o.payload]
        return m


class ReorderBuffer(wiring.Component):
    """Hardware of :class:`Reorder`."""

    def __init__(self, design: Reorder, signature):
        self.design = design
        super().__init__({"i": In(signature), "o": Out(signature)})

    def elaborate(self, platform):
        m = Module()
        design, i, o = self.design, self.i, self.o
        word, bits = i.payload.as_value(), design.depth.bit_length()
        m.submodules.memory = memory = Memory(
            shape=len(word),
            depth=design.depth,
            init=[],
            attrs={"ram_style": design.buffer_style},
        )
        m.submodules.steps = steps = StepsCounter(design.steps)
        write, read = memory.write_port(), memory.read_port(domain="sync")
        # All count modulo twice the depth, so that full and empty differ.
        written, address = Signal(bits), Signal(bits, init=int(design.order[0]))
        released = Signal(bits - design.unit_bits)
        put, available, issue, ahead = Signal(), Signal(), Signal(), Signal(bits)
        enables, valids = elastic(m, available, 1, o.ready)
        freed = Cat(Const(0, design.unit_bits), released)
        m.d.comb += [
            i.ready.eq((written ^ freed) != design.depth),
            put.eq(i.valid & i.ready),
            write.addr.eq(written),
            write.data.eq(word),
            write.en.eq(put),
            ahead.eq(written + ~address),  # words written behind the one to read
            available.eq(~ahead[-1]),
            issue.eq(available & enables[0]),
            steps.advance.eq(issue),
            read.addr.eq(address),
            read.en.eq(issue),
            o.valid.eq(valids[0]),
            o.payload.as_value().eq(read.data),
        ]
        with m.If(put):
            m.d.sync += written.eq(written + 1)
        with m.If(issue):
            m.d.sync += [
                address.eq(address + steps.column(0)),
                released.eq(released + steps.column(1)),
            ]
        return m


class Rearrange:
    """A stream whose transfer k carries word ``index[k]`` of the frame, or a constant word.

    Words that nobody reads are dropped; if the others leave in the order in which they came,
    perhaps several times in a row, there is no memory.

    Parameters
    ----------
    index : ints, shape (transfers,), below ``words``; -1 for the constant word; not -1 everywhere
    words : in an incoming frame
    number : Format
    lanes : numbers in a word
    fill : every number of the constant word
    buffer_style : "block", "distributed" or "registers", what a buffer becomes
    table_style : "logic" or "block", what a table of addresses becomes

    Members
    -------
    parts : what it is made of, in a row; nothing if every word leaves as it came
    """

    def __init__(
        self,
        index: Ints,
        words: int,
        number: Format,
        lanes: int,
        fill: int = 0,
        buffer_style: str = "block",
        table_style: str = "logic",
    ):
        self.number, self.lanes, self.transfers = number, lanes, len(index)
        bits = number.width * lanes
        self.parts: list[Select | Reorder | Stretch] = []
        places = np.flatnonzero(index >= 0)
        kept, order = np.unique(index[places], return_inverse=True)
        if len(kept) < words:
            self.parts.append(Select(kept, words, bits, table_style))
        if (np.diff(order) < 0).any():
            self.parts.append(Reorder(order, bits, buffer_style, table_style))
        elif len(kept) < len(order):
            last = np.append(np.flatnonzero(np.diff(order)), len(order) - 1)
            self.parts.append(Stretch(last, len(order), bits, None, table_style))
        if len(places) < len(index):
            self.parts.append(Stretch(places, len(index), bits, fill, table_style))

    @property
    def tables(self) -> list[Tables]:
        """Tables of addresses and gaps."""
        steps = (p.steps if isinstance(p, Reorder) else p.countdown.steps for p in self.parts)
        return [table for part in steps for table in part.tables]

    @property
    def depth(self) -> int:
        """Words of memory."""
        return sum(part.depth for part in self.parts if isinstance(part, Reorder))

    def inventory(self) -> Inventory:
        """What it is made of."""
        return sum((part.inventory() for part in self.parts), Inventory())

    def events(self) -> Events:
        """Transfers of ``i`` and ``o`` of one frame."""
        if not self.parts:
            return pipeline_events(0, self.transfers)
        return chain(*(part.events() for part in self.parts))


_STAGES: dict[type, Any] = {Select: SelectStage, Reorder: ReorderBuffer, Stretch: StretchStage}


class RearrangeArray(wiring.Component):
    """Hardware of :class:`Rearrange`.

    Members
    -------
    i : stream of the words of x
    o : stream of the words of y
    """

    def __init__(self, design: Rearrange):
        self.design = design
        self._words = stream_signature(design.number, design.lanes)
        super().__init__({"i": In(self._words), "o": Out(self._words)})

    def elaborate(self, platform):
        m = Module()
        stream = flipped(self.i)
        for n, design in enumerate(self.design.parts):
            stage = _STAGES[type(design)](design, self._words)
            m.submodules[f"{type(design).__name__.lower()}_{n}"] = stage
            connect(m, stream, stage.i)
            stream = stage.o
        connect(m, stream, flipped(self.o))
        return m
