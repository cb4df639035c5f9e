# SPDX-License-Identifier: Apache-2.0
"""A table that several heads write and read in the same cycle."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

import numpy as np
from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from quant import Format, Ints

from . import cost
from .cost import Inventory
from .events import Events, pipeline_events
from .memory import Rom, Tables
from .stream import joined, stream_signature


class Banks:
    """Words of ``width`` numbers that ``writes`` heads write and ``reads`` heads read in a cycle.

    Each writing head has a bank of its own, with a copy for each reading head, so that no memory
    has more than a port to write and one to read; words in registers are one bank for all heads.
    Registers tell for every word which bank has it; where none has since the frame began, the word
    is the initial one, so nothing is swept. A word that is read as it is written passes the
    memories by; of two heads that write one word, the later one does.

    Parameters
    ----------
    sizes : of the dimensions of the table, whose indices make an address
    number : Format of the numbers of a word
    width, reads, writes : ints from 1
    steps : of a frame, from 2
    initial : ints, shape (*sizes, width)
    style : "block", "distributed" or "registers", what the banks become

    Source: C. E. LaForest, J. G. Steffan, Efficient multi-ported memories for FPGAs, 2010 (the
    live value table).
    """

    def __init__(
        self,
        sizes: tuple[int, ...],
        number: Format,
        width: int,
        reads: int,
        writes: int,
        steps: int,
        initial: Ints,
        style: str,
    ):
        self.sizes, self.number, self.width = sizes, number, width
        self.reads, self.writes, self.steps, self.style = reads, writes, steps, style
        self.bits = [(size - 1).bit_length() for size in sizes]
        self.index = Format(max(1, *self.bits), 0, False)
        self.places = self._combined(map(range, sizes))
        table = np.zeros((self.depth, width), np.int64)
        table[self.places] = initial.reshape(-1, width)
        self.tables = Tables(list(table.T), "logic")

    def _combined(self, indices: Iterable[Sequence[int]]) -> list[int]:
        """Addresses of all combinations of the indices of each dimension, in raster order."""
        places = [0]
        for own, bits in zip(indices, self.bits, strict=True):
            places = [(place << bits) + index for place in places for index in own]
        return places

    @cached_property
    def nearest(self) -> list[int]:
        """Of every address one with a word: an index that is too large has lost its lowest ones.

        So tables that look words up choose between as few as there are.
        """
        indices = []
        for size, bits in zip(self.sizes, self.bits, strict=True):
            own = list(range(1 << bits))
            for index in own[size:]:
                own[index] = own[index & (index - 1)]
            indices.append(own)
        return self._combined(indices)

    @property
    def depth(self) -> int:
        """Words of a bank: every dimension as large as its bits allow."""
        return 1 << sum(self.bits)

    @property
    def word(self) -> int:
        """Bits of a word."""
        return self.width * self.number.width

    @property
    def banks(self) -> int:
        """How many places a word may be in."""
        return 1 if self.style == "registers" else self.writes

    @property
    def live(self) -> int:
        """Bits that name a bank, or none."""
        return self.banks.bit_length()

    @property
    def spare(self) -> int:
        """Bits of an address that are 0 for every word."""
        return len(self.sizes) * self.index.width - sum(self.bits)

    @property
    def complete(self) -> bool:
        """Whether there is a word at every address."""
        return len(self.places) == 1 << len(self.sizes) * self.index.width

    @property
    def masked(self) -> bool:
        """Whether an initial word must be kept from an address that none has."""
        return bool(self.spare and self.tables.width)

    def inventory(self) -> Inventory:
        """What it is made of."""
        words, word, address = len(self.places), self.word, sum(self.bits)
        reads, writes = self.reads, self.writes
        total = cost.elastic(1) + cost.counter(self.steps) + cost.logic(4)
        total += cost.register(words * self.live) + writes * cost.logic(address + 1, words)
        total += cost.logic(self.banks + 2, words * self.live)
        total += reads * (cost.mux(words, self.live) + cost.register(self.live))
        compared = cost.logic(2 * len(self.sizes) * self.index.width + (not self.complete))
        total += reads * (writes * compared + cost.register(1))
        total += (reads if writes > 1 else 1) * cost.register(word)
        passing = cost.flag_mux(writes, word)
        total += reads * (passing + cost.flag_mux(self.banks + 1 + bool(self.tables.width), word))
        if self.style == "registers":
            total += words * (cost.register(word) + cost.logic(writes + 1) + passing)
            total += reads * (cost.mux(words, word) + cost.register(word))
        else:
            total += writes * reads * cost.ram(self.depth, word, self.style)
        if self.tables.width:
            rom = cost.rom(self.depth, self.tables.width, "logic", self.tables.words)
            total += reads * (rom + cost.register(int(self.masked)))
        return total

    def events(self) -> Events:
        """Transfers of all ports, a step each."""
        return pipeline_events(1, self.steps, ("i_write_address", "i_write", "i_read_address"))


class BankedMemory(wiring.Component):
    """Hardware of :class:`Banks`.

    Members
    -------
    i_write_address, i_read_address : streams of a step's indices, head by head
    i_write : stream of a step's words, head by head
    o : stream of the words that are read
    """

    def __init__(self, design: Banks):
        self.design = design
        axes = len(design.sizes)
        super().__init__(
            {
                "i_write_address": In(stream_signature(design.index, design.writes * axes)),
                "i_write": In(stream_signature(design.number, design.writes * design.width)),
                "i_read_address": In(stream_signature(design.index, design.reads * axes)),
                "o": Out(stream_signature(design.number, design.reads * design.width)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        design, o = self.design, self.o
        inputs = [self.i_write_address, self.i_write, self.i_read_address]
        enables = joined(m, inputs, 1, o)
        moving, step = Signal(), Signal(range(design.steps))
        m.d.comb += moving.eq(enables[0] & Cat(i.valid for i in inputs).all())
        last = step == design.steps - 1
        with m.If(moving):
            m.d.sync += step.eq(Mux(last, 0, step + 1))
        word = design.word
        written = [
            self.i_write.payload.as_value()[head * word : (head + 1) * word]
            for head in range(design.writes)
        ]
        to = list(self._addresses(self.i_write_address.payload, design.writes))
        of = list(self._addresses(self.i_read_address.payload, design.reads))
        live = [Signal(design.live, name=f"live_{n}") for n in range(len(design.places))]
        kept: list[Value] = []  # the words, if they are registers
        for n, (signal, place) in enumerate(zip(live, design.places, strict=True)):
            named = [known & (address == place) for address, known, _ in to]
            bank: Value = Const(1, design.live)
            for head, hit in list(enumerate(named, 1))[1 : design.banks]:
                bank = Mux(hit, head, bank)
            with m.If(moving & (Cat(named).any() | last)):
                m.d.sync += signal.eq(Mux(last, 0, bank))
            if design.style == "registers":
                kept.append(Signal(word, name=f"word_{n}", reset_less=True))
                with m.If(moving & Cat(named).any()):
                    m.d.sync += kept[-1].eq(_latest(named, written))
        banks = (
            self._found(m, moving, of, kept) if kept else self._banks(m, moving, to, of, written)
        )
        at, none = dict(zip(design.places, live, strict=True)), Const(0, design.live)
        table = [at.get(place, none) for place in range(design.depth)]
        exists = sum(1 << place for place in design.places)
        passers: list[Signal] = []
        for head, (address, known, whole) in enumerate(of):
            found, source = Signal(design.live), Signal(design.live, name=f"source_{head}")
            there: Value = Const(1, 1)  # whether there is a word at this address
            if not design.complete:
                there = known & Const(exists, design.depth).bit_select(address, 1)
            m.d.comb += found.eq(Mux(known, _select(table, address), 0))
            hit = Cat(there & (whole == other) for _, _, other in to)
            passing = _latest(list(hit), written)
            passed = Signal(name=f"passed_{head}")
            with m.If(moving):
                m.d.sync += [source.eq(found), passed.eq(hit.any())]
            if not passers or design.writes > 1:  # one writing head has one word for all
                passers.append(Signal(word, name=f"passer_{head}", reset_less=True))
                with m.If(moving):
                    m.d.sync += passers[-1].eq(passing)
            value: Value = self._initial(m, head, address, known, moving)
            for bank, data in enumerate(banks[head]):
                value = Mux(source == bank + 1, data, value)
            part = o.payload.as_value()[head * word : (head + 1) * word]
            m.d.comb += part.eq(Mux(passed, passers[-1], value))
        return m

    def _addresses(self, payload, heads: int) -> Iterator[tuple[Value, Value, Value]]:
        """Of each head the address, whether there is such a word, and all bits of the indices."""
        design, axes = self.design, len(self.design.sizes)
        for head in range(heads):
            indices = [payload[head * axes + axis] for axis in range(axes)]
            parts = [index[:bits] for index, bits in zip(indices, design.bits, strict=True)]
            above = [index[bits:] for index, bits in zip(indices, design.bits, strict=True)]
            known = ~Cat(above).any() if design.spare else Const(1, 1)
            yield Cat(reversed(parts)), known, Cat(indices)

    def _banks(self, m: Module, moving, to, of, written) -> list[list[Value]]:
        """What each reading head finds in each bank."""
        design = self.design
        found: list[list[Value]] = [[] for _ in of]
        for bank, ((address, known, _), value) in enumerate(zip(to, written, strict=True)):
            for head in range(design.reads):
                memory = Memory(
                    shape=design.word,
                    depth=design.depth,
                    init=[],
                    attrs={"ram_style": design.style},
                )
                m.submodules[f"bank_{bank}_{head}"] = memory
                write = memory.write_port()
                m.d.comb += [
                    write.addr.eq(address),
                    write.data.eq(value),
                    write.en.eq(moving & known),
                ]
                read = memory.read_port(domain="sync")
                m.d.comb += [read.addr.eq(of[head][0]), read.en.eq(moving)]
                found[head].append(read.data)
        return found

    def _found(self, m: Module, moving, of, kept: list[Value]) -> list[list[Value]]:
        """What each reading head finds in registers."""
        at, found = dict(zip(self.design.places, kept, strict=True)), []
        table = [at[place] for place in self.design.nearest]
        for head, (address, _, _) in enumerate(of):
            data = Signal(self.design.word, name=f"found_{head}", reset_less=True)
            with m.If(moving):
                m.d.sync += data.eq(_select(table, address))
            found.append([data])
        return found

    def _initial(self, m: Module, head: int, address, known, moving) -> Value:
        """The initial word at an address a cycle ago; 0 if there is none."""
        design, tables = self.design, self.design.tables
        if not tables.width:
            return Const(0, design.word)
        m.submodules[f"initial_{head}"] = rom = Rom(tables)
        m.d.comb += [rom.address.eq(address), rom.enable.eq(moving)]
        numbers = []
        for n in range(design.width):
            number = Signal(design.number.width, name=f"initial_{head}_{n}")
            m.d.comb += number.eq(tables.number(n, rom.data))
            numbers.append(number)
        if not design.masked:
            return Cat(numbers)
        inside = Signal(name=f"inside_{head}")
        with m.If(moving):
            m.d.sync += inside.eq(known)
        return Mux(inside, Cat(numbers), 0)


def _select(words: list[Value], address: Value) -> Value:
    """The word at an address, bit by bit: trees of choices between two."""
    columns = (Cat(word[bit] for word in words) for bit in range(len(words[0])))
    return Cat(column.bit_select(address, 1) for column in columns)


def _latest(hits: list[Value], words: list[Value]) -> Value:
    """The word of the last head that hits, the first if no other does."""
    latest = words[0]
    for hit, word in zip(hits[1:], words[1:], strict=True):
        latest = Mux(hit, word, latest)
    return latest
