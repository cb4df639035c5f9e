# SPDX-License-Identifier: Apache-2.0
"""Rows of a table, read by their codes."""

import numpy as np
from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from quant import Format, Ints

from . import cost
from .cost import Inventory
from .events import Events, chain, pipeline_events
from .memory import Rom, Tables
from .rearrange import Stretch, StretchStage
from .series import Series
from .stream import elastic, stream_signature


class Lookup:
    """Row ``table[code]`` for every code of a stream, ``lanes`` numbers a cycle.

    A code that takes several cycles is held in a register meanwhile; the memory is read in one
    stage.

    Parameters
    ----------
    table : ints, shape (2**bits, width): a row for every code
    codes : Format of the codes, unsigned, of so many bits
    number : Format of the rows
    lanes : int, dividing width
    style : "block" or "logic", what the memory becomes

    Members
    -------
    words : transfers of a row
    tables : of each lane, the codes of word 0 first
    """

    def __init__(self, table: Ints, codes: Format, number: Format, lanes: int, style: str):
        self.codes, self.number, self.lanes, self.style = codes, number, lanes, style
        self.words = table.shape[1] // lanes
        columns = table.reshape(len(table), self.words, lanes).transpose(2, 1, 0)
        self.tables = Tables([column.ravel() for column in columns], style)

    @property
    def held(self) -> Stretch | None:
        """What repeats a code for every word of its row; None if there is one."""
        if self.words == 1:
            return None
        return Stretch(np.array([self.words - 1]), self.words, self.codes.width, None)

    def inventory(self) -> Inventory:
        """What it is made of."""
        tables = self.tables
        memory = cost.rom(tables.depth, tables.width, self.style, tables.words, by_data=True)
        total = cost.elastic(1) + cost.counter(self.words) + memory
        return total + self.held.inventory() if self.held else total

    def events(self, codes: int) -> Events:
        """Transfers of ``i`` and ``o``, ``codes`` codes a frame."""
        read = pipeline_events(1, codes * self.words)
        return chain(self.held.events().repeated(codes), read) if self.held else read

    def circuit(self) -> wiring.Component:
        """A new circuit: codes at ``i``, rows at ``o``."""
        read = LookupRom(self)
        if not self.held:
            return read
        held = StretchStage(self.held, stream_signature(self.codes, 1))
        return Series(held=held, read=read)


class LookupRom(wiring.Component):
    """Hardware of :class:`Lookup`, but for what holds a code.

    Members
    -------
    i : stream of codes, each as often as its row has words
    o : stream of the rows
    """

    def __init__(self, design: Lookup):
        self.design = design
        super().__init__(
            {
                "i": In(stream_signature(design.codes, 1)),
                "o": Out(stream_signature(design.number, design.lanes)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        design, i, o = self.design, self.i, self.o
        m.submodules.rom = rom = Rom(design.tables)
        enables, valids = elastic(m, i.valid, 1, o.ready)
        place, moving = Signal(range(design.words)), Signal()
        m.d.comb += [
            moving.eq(i.valid & enables[0]),
            i.ready.eq(enables[0]),
            o.valid.eq(valids[0]),
            rom.address.eq(Cat(i.payload.as_value(), place)),
            rom.enable.eq(moving),
        ]
        with m.If(moving):
            m.d.sync += place.eq(Mux(place == design.words - 1, 0, place + 1))
        for n in range(design.lanes):
            m.d.comb += o.payload[n].eq(design.tables.number(n, rom.data))
        return m
