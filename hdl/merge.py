# SPDX-License-Identifier: Apache-2.0
"""Several streams become one, some words of each in turn."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from amaranth import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from quant import Format

from . import cost
from .cost import Inventory
from .events import NEVER, Events
from .stream import elastic, stream_signature


@dataclass(frozen=True)
class Merge:
    """``runs[n]`` words of the n-th stream, for each stream in turn, over and over; one stage.

    Parameters
    ----------
    runs : ints from 1, one for each of two or more streams
    rounds : how often the streams take turns in a frame
    number : Format
    lanes : numbers in a word
    """

    runs: Sequence[int]
    rounds: int
    number: Format
    lanes: int

    def inventory(self) -> Inventory:
        """What it is made of."""
        streams, bits, longest = len(self.runs), self.number.width * self.lanes, max(self.runs)
        stage = cost.elastic(1) + cost.register(bits) + cost.mux(streams, bits + 1)
        turns = cost.counter(streams) + cost.logic(1 + (streams - 1).bit_length(), streams)
        return stage + turns + cost.counter(longest) + cost.logic(2 + (longest - 1).bit_length())

    def events(self) -> Events:
        """Transfers of ``i_0``, ``i_1``, ... and ``o`` of one frame."""
        graph = Events()
        words = self.rounds * sum(self.runs)
        graph.event("o", words, spacing=None)
        places = np.arange(words).reshape(self.rounds, -1)
        starts = np.cumsum([0, *self.runs])
        for n, run in enumerate(self.runs):
            mine = places[:, starts[n] : starts[n + 1]].ravel()
            graph.event(f"i_{n}", self.rounds * run, spacing=None)
            graph.after(f"i_{n}", "o", 0, mine - 1)
            index = np.full(words, NEVER)
            index[mine] = np.arange(len(mine))
            graph.after("o", f"i_{n}", 1, index)
        return graph


class MergeArray(wiring.Component):
    """Hardware of :class:`Merge`.

    Members
    -------
    i_0, i_1, ... : streams of the words
    o : stream of all
    """

    def __init__(self, design: Merge):
        self.design = design
        words = stream_signature(design.number, design.lanes)
        inputs = {f"i_{n}": In(words) for n in range(len(design.runs))}
        super().__init__({**inputs, "o": Out(words)})

    def elaborate(self, platform):
        m = Module()
        design, o = self.design, self.o
        inputs = [getattr(self, f"i_{n}") for n in range(len(design.runs))]
        streams, longest = len(inputs), max(design.runs)
        turn, place = Signal(range(streams)), Signal(range(longest))
        valid, last = Signal(), Signal()
        enables, valids = elastic(m, valid, 1, o.ready)
        word = Signal.like(o.payload.as_value(), name="word", reset_less=True)
        offered = Signal.like(word)
        with m.Switch(turn):
            for n, (i, run) in enumerate(zip(inputs, design.runs, strict=True)):
                with m.Case(n) if n < streams - 1 else m.Default():
                    m.d.comb += [
                        valid.eq(i.valid),
                        offered.eq(i.payload.as_value()),
                        last.eq(place == run - 1),
                        i.ready.eq(enables[0]),
                    ]
        with m.If(enables[0]):
            m.d.sync += word.eq(offered)
            with m.If(valid):
                m.d.sync += place.eq(Mux(last, 0, place + 1))
                with m.If(last):
                    m.d.sync += turn.eq(Mux(turn == streams - 1, 0, turn + 1))
        m.d.comb += [o.valid.eq(valids[0]), o.payload.as_value().eq(word)]
        return m
