# SPDX-License-Identifier: Apache-2.0
"""What closes a loop over a circuit: a frame's start, the state that is fed, results dealt out."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from quant import Format, Ints

from . import cost
from .cost import Inventory
from .events import NEVER, Edge, Events
from .memory import Tables
from .stream import Fifo, Fork, stream_signature

AHEAD = 2
"""Frames that may begin before the state of the first of them is taken."""

BEGUN = stream.Signature(data.StructLayout({}))
"""Stream of a word a frame, without content."""

MARK = Format(1, 0, signed=False)
"""Of a mark, one for every frame: 1 where the state becomes the initial one before it."""

MARKED = stream_signature(MARK, 1)
"""Stream of a mark a frame."""


def _walk(
    m: Module, moved: Value, words: int, rounds: int, told: int
) -> tuple[Value, Value, Value]:
    """Count ``rounds`` times ``words`` transfers: the place, if that is the last, if in ``told``.

    The latter comes from a register: whether other circuits may go on depends on it.
    """
    place, round_ = Signal(range(words), name="place"), Signal(range(rounds), name="round")
    last, flag = Signal(name="last"), Signal(name="round_told", init=told == 0)
    m.d.comb += last.eq(place == words - 1)
    with m.If(moved):
        m.d.sync += place.eq(Mux(last, 0, place + 1))
        with m.If(last):
            m.d.sync += round_.eq(Mux(round_ == rounds - 1, 0, round_ + 1))
            if rounds > 2:
                m.d.sync += flag.eq(round_ == (told - 1) % rounds)
    if rounds <= 2:
        m.d.comb += flag.eq(round_ == told)
    return place, last, flag


def _walked(words: int, rounds: int) -> Inventory:
    """What that is made of, without the last place."""
    told = cost.register(1) if rounds > 2 else Inventory()
    return cost.counter(words) + cost.counter(rounds) + cost.logic((rounds - 1).bit_length()) + told


class Start(wiring.Component):
    """Tells ``followers`` that a frame has begun, when its first word is taken.

    Members
    -------
    i, o : the words; the first of a frame waits until every follower has room
    mark : if frames are ``marked``, stream of a mark a frame, taken with its first word
    start_0, start_1, ... : streams of a word a frame, the mark if there are any
    """

    def __init__(self, payload: data.ArrayLayout, words: int, followers: int, marked: bool = False):
        self.words, self.followers, self.marked = words, followers, marked
        words_of, start = stream.Signature(payload), MARKED if marked else BEGUN
        starts = {f"start_{n}": Out(start) for n in range(followers)}
        mark = {"mark": In(MARKED)} if marked else {}
        super().__init__({"i": In(words_of), "o": Out(words_of), **mark, **starts})

    def elaborate(self, platform):
        m = Module()
        i, o = self.i, self.o
        starts = [getattr(self, f"start_{n}") for n in range(self.followers)]
        place, free, moved = Signal(range(self.words)), Signal(), Signal()
        needed = [start.ready for start in starts]
        if self.marked:
            needed.append(self.mark.valid)
            m.d.comb += self.mark.ready.eq(moved & (place == 0))
        m.d.comb += [
            free.eq((place != 0) | Cat(needed).all()),
            o.payload.eq(i.payload),
            o.valid.eq(i.valid & free),
            i.ready.eq(o.ready & free),
            moved.eq(i.valid & i.ready),
        ]
        with m.If(moved):
            m.d.sync += place.eq(Mux(place == self.words - 1, 0, place + 1))
        for start in starts:
            m.d.comb += start.valid.eq(moved & (place == 0))
            if self.marked:
                m.d.comb += start.payload.eq(self.mark.payload)
        return m

    @staticmethod
    def mark_events(graph: Events, mark: str, words: str) -> None:
        """A mark is taken with the first of ``words``, which waits for what it waits for."""
        also = words, *graph.branches.get(words, ())
        for edge in [edge for edge in graph.edges if edge.target == mark]:
            for event in also:
                graph.share(edge, event)
        graph.after(mark, words, 0, 0)
        graph.branches[mark] = also

    @staticmethod
    def inventory(words: int, followers: int, marked: bool = False) -> Inventory:
        """What it is made of."""
        places = cost.counter(words) + cost.logic((words - 1).bit_length())
        inventory = places + cost.logic(1 + followers + marked) + 3 * cost.logic(2)
        return inventory + cost.logic(2) if marked else inventory


@dataclass(frozen=True, eq=False)
class Feed:
    """The state that a circuit takes: at first the initial one, then what it has given.

    Of a frame of ``rounds`` times ``words`` words the first ``words`` are the initial state and the
    others come back. If the state is ``kept``, it is the initial one after reset and before a frame
    with a mark, and else that after the frame before. The words that come back of that are taken
    either way, and after reset words without a meaning, so that marks change no cycle.

    Parameters
    ----------
    initial : ints, shape (words, lanes); None if they come by a stream of their own
    words : of the state
    rounds : ints from 1
    number : Format
    lanes : numbers in a word
    kept : whether the state lives on from frame to frame
    """

    initial: Ints | None
    words: int
    rounds: int
    number: Format
    lanes: int
    kept: bool = False

    @property
    def returns(self) -> bool:
        """Whether any word comes back."""
        return self.kept or self.rounds > 1

    @cached_property
    def tables(self) -> Tables:
        """Of the initial state, a table a lane."""
        assert self.initial is not None
        return Tables(list(self.initial.T), "logic")

    def offers(self, graph: Events, target: str, source: str) -> None:
        """The first words of ``target``, of a frame, wait for ``source``.

        That is the frame's first transfer of x, or the stream of the initial state.
        """
        words, total = self.words, graph.firings[target]
        first = np.arange(total) < words
        if self.initial is None:
            graph.offered(target, source, 1, np.where(first, np.arange(total), NEVER))
            graph.after(source, target, 1, self._taken(np.arange(words) - AHEAD, total))
            return
        graph.offered(target, source, 1, np.where(first, 0, NEVER))
        ends = np.where(np.arange(graph.firings[source]) == 0, words - 1 - AHEAD * total, NEVER)
        graph.offered(source, target, 1, ends)

    def kept_words(self, graph: Events, target: str, written: str) -> None:
        """All words of ``target`` come from a buffer of a state, written at ``written``."""
        count = graph.firings[target]
        graph.offered(target, written, 1, np.arange(count) - self.words)
        graph.after(written, target, 1, np.arange(count))

    def _taken(self, places: Ints, total: int) -> Ints:
        """Where words of the initial state are taken among all, negative ones in frames before."""
        return places // self.words * total + places % self.words

    def inventory(self) -> Inventory:
        """What it is made of."""
        bits = self.number.width * self.lanes
        total = _walked(self.words, self.rounds)
        total += cost.logic(max(1, (self.words - 1).bit_length()))
        if self.initial is None:
            total += Fifo.inventory(AHEAD, bits, "registers") + cost.logic(2) + cost.logic(3)
            return total + cost.mux2(bits)
        total += 3 * cost.logic(3)
        total += Fifo.inventory(AHEAD, 1, "registers") if self.kept else cost.level(AHEAD)
        tables = self.tables
        if tables.width:
            total += cost.table(self.words, tables.width, tables.words)
        if self.kept:
            total += cost.register(1) + 2 * cost.logic(3)
        return total + (cost.logic(2, bits) if not tables.width else cost.mux2(bits))


class FeedArray(wiring.Component):
    """Hardware of :class:`Feed`.

    Members
    -------
    i : stream of the words that come back
    o : stream of the state
    start : stream of a word for every frame that has begun, its mark if the state is kept; or
    initial : stream of the initial states
    """

    def __init__(self, design: Feed):
        self.design = design
        words = stream_signature(design.number, design.lanes)
        start = MARKED if design.kept else BEGUN
        first = {"start": In(start)} if design.initial is not None else {"initial": In(words)}
        back = {"i": In(words)} if design.returns else {}
        super().__init__({**back, "o": Out(words), **first})

    def elaborate(self, platform):
        m = Module()
        design, o = self.design, self.o
        moved = Signal()
        m.d.comb += moved.eq(o.valid & o.ready)
        place, last, first = _walk(m, moved, design.words, design.rounds, told=0)
        begun = Signal()  # whether the first round may go on
        renew: Value = Const(1, 1)
        if design.initial is None:
            m.submodules.begin = begin = Fifo(o.payload.shape(), AHEAD, "registers")
            wiring.connect(m, wiring.flipped(self.initial), begin.i)
            m.d.comb += [begun.eq(begin.o.valid), begin.o.ready.eq(first & moved)]
            initial = begin.o.payload.as_value()
        else:
            take = Signal()
            m.d.comb += take.eq(moved & first & last)
            if design.kept:
                m.submodules.marks = marks = Fifo(self.start.payload.shape(), AHEAD, "registers")
                wiring.connect(m, wiring.flipped(self.start), marks.i)
                fresh = Signal(init=1)  # nothing has come back yet
                m.d.comb += [begun.eq(marks.o.valid), marks.o.ready.eq(take)]
                with m.If(take):
                    m.d.sync += fresh.eq(0)
                renew = fresh | marks.o.payload[0]
            else:
                self._count(m, take, begun)
            initial = self._table(m, place)
        word = o.payload.as_value()
        if not design.returns:
            m.d.comb += [o.valid.eq(begun), word.eq(initial)]
            return m
        i = self.i
        if design.kept:
            may = ~first | begun
            m.d.comb += [o.valid.eq(i.valid & may), i.ready.eq(o.ready & may)]
        else:
            m.d.comb += [
                o.valid.eq(Mux(first, begun, i.valid)),
                i.ready.eq(o.ready & ~first),
            ]
        m.d.comb += word.eq(Mux(first & renew, initial, i.payload.as_value()))
        return m

    def _count(self, m: Module, take: Value, begun: Signal) -> None:
        """The frames that have begun and are not taken yet."""
        level, put = Signal(range(AHEAD + 1)), Signal()
        m.d.comb += [
            self.start.ready.eq(level != AHEAD),
            put.eq(self.start.valid & self.start.ready),
            begun.eq(level != 0),
        ]
        with m.If(put & ~take):
            m.d.sync += level.eq(level + 1)
        with m.If(take & ~put):
            m.d.sync += level.eq(level - 1)

    def _table(self, m: Module, place: Value) -> Value:
        """The word of the initial state at a place."""
        tables = self.design.tables
        stored = Signal(tables.width, name="stored")
        if tables.width:
            with m.Switch(place):
                for n, word in enumerate(tables.words):
                    with m.Case(n) if n < len(tables.words) - 1 else m.Default():
                        m.d.comb += stored.eq(word)
        width = self.design.number.width
        lanes = [Signal(width, name=f"initial_{n}") for n in range(self.design.lanes)]
        for n, lane in enumerate(lanes):
            m.d.comb += lane.eq(tables.number(n, stored))
        return Cat(lanes)


@dataclass(frozen=True)
class Deal:
    """Gives the words of a stream to several, some only those of the last round or of the others.

    Parameters
    ----------
    wants : for each branch "all", "last" or "others"
    words : of a round
    rounds : ints from 1
    """

    wants: Sequence[str]
    words: int
    rounds: int

    def taken(self, branch: int) -> Ints:
        """Places in a frame of the words that a branch takes."""
        total, first = self.words * self.rounds, self.words * (self.rounds - 1)
        ends = {"all": (0, total), "last": (first, total), "others": (0, first)}
        return np.arange(*ends[self.wants[branch]])

    @property
    def partial(self) -> bool:
        """Whether any branch leaves words out."""
        return any(want != "all" for want in self.wants) and self.rounds > 1

    def join(
        self,
        graph: Events,
        offers: Sequence[Edge],
        source: str,
        branch: int,
        target: str,
        first: int = 0,
    ) -> None:
        """The words of ``source`` that a branch takes are those of ``target`` from ``first`` on.

        ``offers`` is what the offer of a word of ``source`` waits for.
        """
        taken, count = self.taken(branch), graph.firings[target]
        if not len(taken):
            return
        mine = np.arange(count) - first
        inside = (mine >= 0) & (mine < len(taken))
        places = taken[np.where(inside, mine, 0)]
        for edge in offers:
            index = np.where(inside, edge.index[places], NEVER)
            graph.offered(target, edge.source, np.where(inside, edge.delay[places], 0), index)
        graph.offered(target, source, 1, np.where(inside, places - 1, NEVER))
        index = np.full(graph.firings[source], NEVER)
        index[taken] = np.arange(len(taken)) + first
        graph.after(source, target, 0, index)

    def inventory(self) -> Inventory:
        """What it is made of; the words are wires."""
        branches = len(self.wants)
        total = Inventory()
        if self.partial:
            total += _walked(self.words, self.rounds)
            total += cost.logic((self.words - 1).bit_length())
            total += sum((cost.logic(2) for want in self.wants if want != "all"), Inventory())
        return total + Fork.inventory(branches) if branches > 1 else total


class DealArray(wiring.Component):
    """Hardware of :class:`Deal`.

    Members
    -------
    i : stream of the words
    o_0, o_1, ... : those of each branch
    """

    def __init__(self, design: Deal, payload: data.ArrayLayout):
        self.design = design
        signature = stream.Signature(payload)
        outputs = {f"o_{n}": Out(signature) for n in range(len(design.wants))}
        super().__init__({"i": In(signature), **outputs})

    def elaborate(self, platform):
        m = Module()
        i, design = self.i, self.design
        outputs = [getattr(self, f"o_{n}") for n in range(len(design.wants))]
        last_round: Value = Const(0, 1)
        if design.partial:
            told = design.rounds - 1
            _, _, last_round = _walk(m, i.valid & i.ready, design.words, design.rounds, told)
        elif design.rounds == 1:
            last_round = Const(1, 1)
        wanted = {"all": Const(1, 1), "last": last_round, "others": ~last_round}
        done, served = Signal(len(outputs)), Signal(len(outputs))
        for n, (o, want) in enumerate(zip(outputs, design.wants, strict=True)):
            mine = wanted[want]
            m.d.comb += [
                o.valid.eq(i.valid & mine & ~done[n]),
                o.payload.eq(i.payload),
                served[n].eq(~mine | done[n] | o.ready),
            ]
        m.d.comb += i.ready.eq(served.all())
        if len(outputs) > 1:
            with m.If(i.valid):
                m.d.sync += done.eq(Mux(i.ready, 0, served))
        return m
