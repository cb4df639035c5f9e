# SPDX-License-Identifier: Apache-2.0
"""The sum or the extreme of numbers that come side by side and one after the other."""

from dataclasses import dataclass

import numpy as np
from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.hdl import Shape
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from quant import Format

from . import cost
from .cost import Inventory
from .elementwise import less
from .events import NEVER, Events, chain, pipeline_events
from .narrow import trailing_zeros
from .stream import elastic, stream_signature


@dataclass(frozen=True, eq=False)
class Tree:
    """``sum``, ``maximum`` or ``minimum`` of some numbers, channel by channel.

    A tree among the numbers that a transfer brings of each channel, a stage a round, then
    accumulators: a register where the next transfer goes on with the same channels, else a ring of
    memory or of registers, in which every step moves all words on. The first transfer loads them,
    so no cycle clears them, and results follow each other without a gap.

    Parameters
    ----------
    kind : "sum", "maximum" or "minimum"
    number : Format of the numbers
    channels : results that come together
    fan : numbers of each channel in a transfer, the channels of one after those of the other
    rows : transfers that make one result
    words : transfers that follow each other with different channels
    style : "block", "distributed" or "registers", what the ring becomes
    needed : mask of the bits of a result that anyone reads
    apart : for a maximum, pairs of numbers of a transfer, 0 of the first two, of which one at least
        is always the lowest of all
    """

    kind: str
    number: Format
    channels: int
    fan: int
    rows: int = 1
    words: int = 1
    style: str = "registers"
    needed: int = (1 << 64) - 1
    apart: frozenset[int] = frozenset()

    @property
    def rounds(self) -> int:
        """Stages of the tree."""
        return (self.fan - 1).bit_length()

    @property
    def result(self) -> Format:
        """Format of the results."""
        return self._format(self.fan * self.rows)

    def _format(self, terms: int) -> Format:
        """Format of what becomes of so many numbers."""
        x = self.number
        if self.kind != "sum":
            return x
        return Format.containing(terms * x.min, terms * x.max, x.frac)

    @property
    def skipped(self) -> int:
        """Low bits of the numbers that no bit of an extreme which anyone reads depends on."""
        if self.kind == "sum":
            return 0
        return min(trailing_zeros(self.needed | 1 << 64), self.number.width - 1)

    def shape(self, terms: int) -> Shape:
        """Shape of what becomes of so many numbers, as far as a result depends on it."""
        number = self._format(terms)
        if self.kind != "sum":
            return Shape(number.width - self.skipped, number.signed)
        width = min(number.width, self.needed.bit_length())
        return Shape(width, number.signed and width == number.width)

    def _last_bits(self) -> int:
        """Of a register that holds nothing but a result."""
        return (self.needed & ((1 << self.result.width) - 1)).bit_count()

    def join(self, a: Value, b: Value) -> Value:
        """Of two numbers."""
        if self.kind == "sum":
            return a + b
        return Mux(less(a, b), b, a) if self.kind == "maximum" else Mux(less(b, a), b, a)

    def either(self, a: Value, b: Value) -> Value:
        """The larger of two numbers of which one is the lowest of all."""
        both = a | b
        return Cat(both[:-1], a[-1] & b[-1]).as_signed() if self.number.signed else both

    def _joining(self, width: int, terms: int) -> Inventory:
        """What makes so many bits of two numbers, of which one stands for so many ``terms``."""
        if self.kind != "sum":
            return cost.compare(width) + cost.mux2(width)
        carries = not self.number.signed and self.shape(terms).width < width
        return cost.carrying_adder(width) if carries else cost.adder(width)

    def inventory(self) -> Inventory:
        """What it is made of."""
        lane, terms = Inventory(), [1] * self.fan
        for done in range(self.rounds):
            joined = _paired(terms)
            for n, count in enumerate(joined):
                width, ends = self.shape(count).width, self.rows == 1 and done == self.rounds - 1
                lane += cost.register(self._last_bits() if ends else width)
                if done == 0 and n in self.apart:
                    lane += cost.logic(2, width)
                elif 2 * n + 1 < len(terms):
                    lane += self._joining(width, max(terms[2 * n : 2 * n + 2]))
            terms = joined
        total = cost.elastic(self.rounds)
        if self.rows > 1:
            width = self.shape(self.fan * self.rows).width
            lane += cost.accumulate(width) if self.kind == "sum" else cost.compare(width)
            total += cost.register(1) + cost.logic(3, 3) + cost.counter(self.rows)
            if self.words > 1:
                lane += Inventory() if self.kind == "sum" else cost.mux2(width)
                total += cost.counter(self.words)
            if self.words == 1 or self.style == "registers":
                lane += cost.register(width) + cost.delay_line(width, self.words - 1)
            else:
                lane += cost.register(self._last_bits())
                total += cost.ram(self.words, self.channels * width, self.style)
        return total + self.channels * lane

    def events(self, results: int = 1) -> Events:
        """Transfers of ``i`` and ``o``: ``results`` times ``words`` of ``o``."""
        outputs = results * self.words
        transfers = outputs * self.rows
        parts = [pipeline_events(self.rounds, transfers)] if self.rounds or self.rows == 1 else []
        if self.rows > 1:
            graph = Events()
            graph.event("i", transfers)
            graph.event("o", outputs)
            places = np.arange(transfers).reshape(results, self.rows, self.words)
            graph.after("o", "i", 1, places[:, -1].ravel())
            waits = np.full(transfers + 1, NEVER)
            waits[places[:, -1].ravel() + 1] = np.arange(outputs)
            waits[0] = -1
            graph.after("i", "o", 0, waits[:-1])
            parts.append(graph)
        return chain(*parts)


def _paired(terms: list[int]) -> list[int]:
    """Numbers behind each register of the next round; the last one may pass alone."""
    return [sum(terms[n : n + 2]) for n in range(0, len(terms), 2)]


class TreeArray(wiring.Component):
    """Hardware of :class:`Tree`.

    Members
    -------
    i : stream of the numbers, ``fan * channels`` a transfer, the channels fastest
    o : stream of the results, ``channels`` a transfer
    """

    def __init__(self, design: Tree):
        self.design = design
        super().__init__(
            {
                "i": In(stream_signature(design.number, design.fan * design.channels)),
                "o": Out(stream_signature(design.result, design.channels)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        design, i, o = self.design, self.i, self.o
        ready, valid = Signal(), i.valid
        if design.rounds:
            enables, valids = elastic(m, i.valid, design.rounds, ready, "round")
            m.d.comb += i.ready.eq(enables[0])
            valid = valids[-1]
        else:
            m.d.comb += i.ready.eq(ready)
        numbers: list[Value] = []
        for c in range(design.channels):
            players: list[Value] = []
            for k in range(design.fan):
                number = Signal(design.shape(1), name=f"number_{c}_{k}")
                given = i.payload[k * design.channels + c]
                m.d.comb += number.eq(given >> design.skipped)
                players.append(number)
            terms = [1] * design.fan
            for done in range(design.rounds):
                terms, pairs = (
                    _paired(terms),
                    [players[n : n + 2] for n in range(0, len(players), 2)],
                )
                players = []
                for n, (count, pair) in enumerate(zip(terms, pairs, strict=True)):
                    joined = Signal(
                        design.shape(count), name=f"joined_{c}_{done}_{n}", reset_less=True
                    )
                    new = pair[0]
                    if done == 0 and n in design.apart:
                        new = design.either(*pair)
                    elif len(pair) > 1:
                        new = design.join(*pair)
                    with m.If(enables[done]):
                        m.d.sync += joined.eq(new)
                    players.append(joined)
            numbers += players
        if design.rows == 1:
            m.d.comb += [ready.eq(o.ready), o.valid.eq(valid)]
            m.d.comb += [self._given(c, number) for c, number in enumerate(numbers)]
            return m
        self._accumulate(m, numbers, valid, ready)
        return m

    def _given(self, channel: int, number: Value):
        """The result of a channel, from its bits that anyone reads."""
        return self.o.payload[channel].eq(number << self.design.skipped)

    def _accumulate(self, m: Module, numbers: list[Value], valid: Value, ready: Value) -> None:
        """The transfers one after the other; a finished result stays until it is taken."""
        design, o = self.design, self.o
        shape = design.shape(design.fan * design.rows)
        row, first, last = Signal(range(design.rows)), Signal(), Signal()
        full, step, ends = Signal(), Signal(), Signal()
        m.d.comb += [
            first.eq(row == 0),
            last.eq(row == design.rows - 1),
            ready.eq(~full | o.ready),
            step.eq(valid & ready),
            o.valid.eq(full),
            ends.eq(1),
        ]
        with m.If(ready):
            m.d.sync += full.eq(step & last)
        with m.If(step & ends):
            m.d.sync += row.eq(Mux(last, 0, row + 1))
        kept: list[Value] = [
            Signal(shape, name=f"result_{c}", reset_less=True) for c in range(design.channels)
        ]
        before, written = kept, []
        if design.words > 1:
            before, written = self._ring(m, shape, step, ends, kept)
        for c, (number, old, result) in enumerate(zip(numbers, before, kept, strict=True)):
            new = Signal(shape, name=f"new_{c}")
            m.d.comb += self._given(c, result)
            if design.kind == "sum":
                m.d.comb += new.eq(Mux(first, 0, old) + number)
                better: Value = step
            else:
                wins = less(old, number) if design.kind == "maximum" else less(number, old)
                better = Signal(name=f"better_{c}")
                m.d.comb += better.eq(first | wins)
                m.d.comb += new.eq(Mux(better, number, old) if design.words > 1 else number)
            with m.If(step if design.words > 1 else step & better):
                m.d.sync += result.eq(new)
            if written:
                m.d.comb += written[c].eq(new)

    def _ring(self, m: Module, shape: Shape, step: Value, ends: Value, kept: list[Value]):
        """Accumulators behind those of this step, ``kept``: registers that move on, or a memory.

        The memory is read a step ahead, at another place than it is written. Returns what comes out
        for the channels of this step, and what is to be written of them, if anything.
        """
        design = self.design
        word, following = Signal(range(design.words)), Signal(range(design.words))
        m.d.comb += [
            ends.eq(word == design.words - 1),
            following.eq(Mux(ends, 0, word + 1)),
        ]
        with m.If(step):
            m.d.sync += word.eq(following)
        if design.style == "registers":
            for n in range(1, design.words):
                moved = [
                    Signal(shape, name=f"behind_{c}_{n}", reset_less=True)
                    for c in range(design.channels)
                ]
                with m.If(step):
                    m.d.sync += [new.eq(old) for new, old in zip(moved, kept, strict=True)]
                kept = moved
            return kept, []
        width = shape.width * design.channels
        m.submodules.ring = ring = Memory(
            shape=width, depth=design.words, init=[], attrs={"ram_style": design.style}
        )
        write, read = ring.write_port(), ring.read_port(domain="sync")
        m.d.comb += [
            read.addr.eq(following),
            read.en.eq(step),
            write.addr.eq(word),
            write.en.eq(step),
        ]
        parts = [slice(c * shape.width, (c + 1) * shape.width) for c in range(design.channels)]
        old = [read.data[part] for part in parts]
        return (
            [n.as_signed() if shape.signed else n for n in old],
            [write.data[part] for part in parts],
        )
