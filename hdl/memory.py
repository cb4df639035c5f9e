# SPDX-License-Identifier: Apache-2.0
"""Read-only memories that hold tables of constants."""

from collections.abc import Sequence

import numpy as np
from amaranth import Cat, Const, Module, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from quant import Format, Ints


class Tables:
    """Several tables of one depth, packed side by side into the words of one memory.

    Only what differs is stored: each column of bits that is neither constant nor equal to another.

    Parameters
    ----------
    tables : arrays of ints, each of shape (depth,)
    style : "block" or "logic": what the memory becomes
    in_turn : whether words are read one after the other, over and over, so that of words that
        repeat one period is enough

    Members
    -------
    depth, width : words of the memory, and bits of a word
    formats : Format of each table, the narrowest
    constants : for each table the number that it always holds, or None
    words : the stored words
    """

    def __init__(self, tables: Sequence[Ints], style: str, in_turn: bool = False):
        self.style = style
        self.formats = [Format.containing(int(t.min()), int(t.max()), 0) for t in tables]
        self.constants = [int(t[0]) if (t == t[0]).all() else None for t in tables]
        columns: dict[bytes, int] = {}
        self._places: list[list[int]] = []  # of every bit: its column, or -1 for 0, -2 for 1
        for table, number in zip(tables, self.formats, strict=True):
            places = []
            for bit in range(number.width):
                column = (table >> bit & 1).astype(np.uint8)
                if (column == column[0]).all():
                    places.append(-1 - int(column[0]))
                else:
                    places.append(columns.setdefault(column.tobytes(), len(columns)))
            self._places.append(places)
        self.width = len(columns)
        count = len(tables[0]) if self.width else 1
        stored = np.zeros((self.width, count), np.uint8)
        for key, place in columns.items():
            stored[place] = np.frombuffer(key, np.uint8)
        packed = np.packbits(stored, axis=0, bitorder="little").T
        words = [int.from_bytes(word.tobytes(), "little") for word in packed]
        periods = (d for d in range(1 if in_turn else count, count + 1) if count % d == 0)
        self.depth = next(d for d in periods if words == words[:d] * (count // d))
        self.words = words[: self.depth]

    def columns(self, n: int, bits: int = 64) -> set[int]:
        """Stored columns that the low ``bits`` of the n-th table need."""
        return {place for place in self._places[n][:bits] if place >= 0}

    def number(self, n: int, word: Value) -> Value:
        """Number of the n-th table in a stored word, in ``formats[n]``."""
        bits = [word[p] if p >= 0 else Const(-1 - p, 1) for p in self._places[n]]
        value = Cat(bits)
        return value.as_signed() if self.formats[n].signed else value


class Rom(wiring.Component):
    """Memory of :class:`Tables`, read a cycle after ``address``.

    Members
    -------
    address, enable : of the word to read
    data : the stored word; ``tables.number`` gives the numbers back
    """

    def __init__(self, tables: Tables):
        self.tables = tables
        super().__init__(
            {"address": In(range(tables.depth)), "enable": In(1), "data": Out(tables.width)}
        )

    def elaborate(self, platform):
        m = Module()
        tables = self.tables
        if tables.width:
            m.submodules.memory = memory = Memory(
                shape=tables.width,
                depth=tables.depth,
                init=tables.words,
                attrs={"rom_style": tables.style},
            )
            read = memory.read_port(domain="sync")
            m.d.comb += [
                read.addr.eq(self.address),
                read.en.eq(self.enable),
                self.data.eq(read.data),
            ]
        return m
