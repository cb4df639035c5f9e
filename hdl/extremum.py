# SPDX-License-Identifier: Apache-2.0
"""Where the largest or smallest number of a vector is, some numbers at a time."""

from dataclasses import dataclass

import numpy as np
from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from quant import Format

from .cost import Inventory, compare, counter, logic, mux2, register
from .cost import elastic as elastic_stages
from .elementwise import less
from .events import NEVER, Events, chain, pipeline_events
from .stream import elastic, shape, stream_signature


@dataclass(frozen=True, eq=False)
class Extremum:
    """Index of the extreme number of every vector.

    A tournament among the lanes, a stage a round, then one between the words of the vector. The
    result leaves a cycle after the last word; there is no gap between vectors.

    Parameters
    ----------
    number : Format of the numbers
    lanes : power of two, numbers a transfer
    groups : transfers a vector
    smallest : whether the smallest is sought, not the largest
    last : whether the last of equals wins, not the first
    """

    number: Format
    lanes: int
    groups: int
    smallest: bool = False
    last: bool = False

    @property
    def rounds(self) -> int:
        """Rounds of the tournament among the lanes."""
        return self.lanes.bit_length() - 1

    @property
    def index(self) -> Format:
        """Format of the result."""
        return Format.containing(0, self.lanes * self.groups - 1, 0)

    def replaces(self, earlier: Value, later: Value) -> Value:
        """Whether a number takes the place of one before it."""
        if self.smallest:
            return ~less(earlier, later) if self.last else less(later, earlier)
        return ~less(later, earlier) if self.last else less(earlier, later)

    def inventory(self) -> Inventory:
        """What it is made of."""
        width, total = self.number.width, elastic_stages(self.rounds)
        for done in range(self.rounds):
            ends = self.groups == 1 and done == self.rounds - 1  # then nobody asks for the value
            kept = 0 if ends else width
            match = compare(width) + mux2(kept + done) + register(kept + done + 1)
            total += (self.lanes >> (done + 1)) * match
        if self.groups == 1:
            return total
        group = (self.groups - 1).bit_length()
        best = width + self.rounds + group
        total += compare(width) + logic(3) + register(best) + counter(self.groups)
        return total + mux2(self.index.width) + register(self.index.width) + elastic_stages(1)

    def events(self, vectors: int) -> Events:
        """Transfers of ``i`` and ``o``."""
        words = vectors * self.groups
        parts = [pipeline_events(self.rounds, words)] if self.rounds else []
        if self.groups > 1:
            last = Events()
            last.event("i", words)
            last.event("o", vectors)
            ends = np.arange(1, vectors + 1) * self.groups - 1
            last.after("o", "i", 1, ends)
            waits = np.full(words, NEVER)
            waits[ends] = np.arange(vectors) - 1
            last.after("i", "o", 0, waits)
            parts.append(last)
        return chain(*parts)


class ExtremumFinder(wiring.Component):
    """Hardware of :class:`Extremum`.

    Members
    -------
    i : stream of the numbers, ``lanes`` a transfer
    o : stream of one index a vector
    """

    def __init__(self, design: Extremum):
        self.design = design
        super().__init__(
            {
                "i": In(stream_signature(design.number, design.lanes)),
                "o": Out(stream_signature(design.index, 1)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        design, i, o = self.design, self.i, self.o
        number, rounds = shape(design.number), design.rounds
        taken, valid = Signal(), i.valid
        players: list[tuple[Value, Value]] = [(i.payload[p], Cat()) for p in range(design.lanes)]
        if rounds:
            enables, valids = elastic(m, i.valid, rounds, taken, "round")
            m.d.comb += i.ready.eq(enables[0])
            valid = valids[-1]
        else:
            m.d.comb += i.ready.eq(taken)
        for done in range(rounds):
            winners: list[tuple[Value, Value]] = []
            pairs = zip(players[::2], players[1::2], strict=True)
            for n, ((earlier, place), (later, other)) in enumerate(pairs):
                later_wins = Signal(name=f"later_{done}_{n}")
                m.d.comb += later_wins.eq(design.replaces(earlier, later))
                value = Signal(number, name=f"value_{done}_{n}", reset_less=True)
                index = Signal(done + 1, name=f"index_{done}_{n}", reset_less=True)
                with m.If(enables[done]):
                    m.d.sync += [
                        value.eq(Mux(later_wins, later, earlier)),
                        index.eq(Cat(Mux(later_wins, other, place)[:done], later_wins)),
                    ]
                winners.append((value, index))
            players = winners
        ((value, place),) = players
        if design.groups == 1:
            m.d.comb += [taken.eq(o.ready), o.valid.eq(valid), o.payload[0].eq(place)]
            return m
        group = Signal(range(design.groups))
        best = Signal(number, reset_less=True)
        best_index = Signal(rounds + len(group), reset_less=True)
        index, result = Signal(design.index.width), Signal(design.index.width, reset_less=True)
        better, ends, moves = Signal(), Signal(), Signal()
        m.d.comb += [
            ends.eq(group == design.groups - 1),
            taken.eq(~ends | o.ready | ~o.valid),
            moves.eq(valid & taken),
            better.eq((group == 0) | design.replaces(best, value)),
            index.eq(Mux(better, Cat(place, group), best_index)),
            o.payload[0].eq(result),
        ]
        with m.If(o.ready):
            m.d.sync += o.valid.eq(0)
        with m.If(moves):
            m.d.sync += [group.eq(Mux(ends, 0, group + 1)), best_index.eq(index)]
            with m.If(better):
                m.d.sync += best.eq(value)
            with m.If(ends):
                m.d.sync += [result.eq(index), o.valid.eq(1)]
        return m
