# SPDX-License-Identifier: Apache-2.0
"""Sequences of constants that repeat for ever, such as addresses and the gaps between words."""

import numpy as np
from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import NDArray

from quant import Ints

from . import cost
from .cost import Inventory
from .memory import Rom, Tables


class Loop:
    """One of several nested loops: a row of constants for every iteration but the last.

    Parameters
    ----------
    rows : ints, shape (iterations, columns); at the last one the loop around it says the row
    style : "logic" or "block", what the memory becomes if the rows differ

    Members
    -------
    table : Tables of the rows, the last iteration first; None if they are all alike
    """

    def __init__(self, rows: Ints, style: str):
        self.extent, self.first = len(rows), rows[0].tolist()
        differ = (rows[:-1] != rows[0]).any()
        reverse = np.concatenate([rows[:1], rows[-2::-1]])
        self.table = Tables(list(reverse.T), style) if differ else None


class Steps:
    """Rows of constants, one a step, over and over, as nested loops.

    The innermost loop says the row of a step, unless it ends; then the loop around it does, and so
    on. The increments of an affine address are always the same in a loop; what is irregular is a
    table of one loop, or, at worst, of all steps.

    Parameters
    ----------
    rows : ints from 0, shape (steps, columns), of one period
    style : "logic" or "block", what the memories of tables become

    Members
    -------
    loops : the innermost first; none if the rows are all alike
    last : the row when all loops end
    widths : bits of each column
    """

    def __init__(self, rows: Ints, style: str = "logic"):
        rows = np.asarray(rows, np.int64)
        rows = rows[: _shortest_period(rows)]
        self.widths = [int(n).bit_length() for n in rows.max(axis=0)]
        self.style = style
        self.loops: list[Loop] = []
        while len(rows) > 1:
            extent = _innermost(rows)
            self.loops.append(Loop(rows[:extent], style))
            rows = rows[extent - 1 :: extent]
        self.last: list[int] = rows[0].tolist()

    @property
    def extents(self) -> list[int]:
        """Iterations of the loops, the innermost first."""
        return [loop.extent for loop in self.loops]

    @property
    def tables(self) -> list[Tables]:
        """Those of the loops that have one."""
        return [loop.table for loop in self.loops if loop.table is not None]

    @property
    def table_rows(self) -> int:
        """Rows of all tables."""
        return sum(table.depth for table in self.tables)

    def inventory(self) -> Inventory:
        """What it is made of."""
        total = cost.logic(len(self.loops) + 1, sum(self.widths) if self.loops else 0)
        for loop in self.loops:
            total += cost.counter(loop.extent) + cost.logic(3)
            if loop.table is not None:
                depth, width = loop.table.depth, loop.table.width
                total += cost.rom(depth, width, self.style, loop.table.words)
                total += cost.register(1) + cost.logic(2, width)
        return total


def _shortest_period(rows: NDArray[np.int64]) -> int:
    """Fewest rows of which all are repetitions."""
    count = len(rows)
    return next(n for n in _divisors(count) if (rows[n:] == rows[: count - n]).all())


def _innermost(rows: NDArray[np.int64]) -> int:
    """Iterations of the innermost loop: of one with rows all alike, else of the shortest."""
    other = (rows != rows[0]).any(axis=1)
    extent = int(other.argmax()) + 1
    if len(rows) % extent == 0 and not other.reshape(-1, extent)[:, :-1].any():
        return extent
    for extent in _divisors(len(rows))[1:]:
        blocks = rows.reshape(-1, extent, rows.shape[1])
        if (blocks[:, :-1] == blocks[0, :-1]).all():
            break
    return extent


def _divisors(count: int) -> list[int]:
    return [n for n in range(1, count + 1) if count % n == 0]


class StepsCounter(wiring.Component):
    """Hardware of :class:`Steps`; what it shows comes from registers.

    Members
    -------
    advance : go on to the next step
    row : the columns of this step side by side; ``column`` takes them apart
    """

    def __init__(self, design: Steps):
        self.design = design
        super().__init__({"advance": In(1), "row": Out(sum(design.widths))})

    def column(self, n: int):
        """The constant of the n-th column at this step."""
        start = sum(self.design.widths[:n])
        return self.row[start : start + self.design.widths[n]]

    def elaborate(self, platform):
        m = Module()
        carry, rows = self.advance, []
        for n, loop in enumerate(self.design.loops):
            left, last = Signal(range(loop.extent), init=loop.extent - 1), Signal()
            left.name, last.name = f"left_{n}", f"last_{n}"
            following = Signal.like(left, name=f"following_{n}")
            m.d.comb += [last.eq(left == 0), following.eq(Mux(last, loop.extent - 1, left - 1))]
            with m.If(carry):
                m.d.sync += left.eq(following)
            row = self._packed(loop.first)
            if loop.table is not None:
                row = Mux(*self._read(m, n, loop.table, following, carry), row)
            rows.append((last, row))
            carry = carry & last
        value = self._packed(self.design.last)
        for last, row in reversed(rows):
            value = Mux(last, value, row)
        m.d.comb += self.row.eq(value)
        return m

    def _packed(self, row: list[int]):
        return Cat(Const(n, width) for n, width in zip(row, self.design.widths, strict=True))

    def _read(self, m: Module, n: int, table: Tables, following, carry):
        """Whether anything has been read from a table yet, and the row that was."""
        m.submodules[f"table_{n}"] = rom = Rom(table)
        begun = Signal(name=f"begun_{n}")
        m.d.comb += [rom.address.eq(following), rom.enable.eq(carry)]
        with m.If(carry):
            m.d.sync += begun.eq(1)
        numbers = (table.number(k, rom.data) for k in range(len(self.design.widths)))
        padded = (Cat(number, Const(0, 64)) for number in numbers)
        return begun, Cat(n[:width] for n, width in zip(padded, self.design.widths, strict=True))


class Countdown:
    """Marks some of the positions 0, 1, 2, ... in a pattern that repeats.

    Parameters
    ----------
    marked : ints, increasing, at least one
    period : positions after which the pattern repeats
    style : what the memory becomes where gaps are no nest of loops
    """

    def __init__(self, marked: Ints, period: int, style: str = "logic"):
        gaps = np.diff(marked, append=marked[0] + period) - 1
        self.first = int(marked[0])
        self.steps = Steps(gaps[:, None], style)
        self.width = self.steps.widths[0]

    def inventory(self) -> Inventory:
        """What it is made of."""
        if not self.width:
            return Inventory()
        count = cost.register(self.width) + cost.constant_adder(self.width)
        return self.steps.inventory() + count + cost.mux2(self.width) + cost.logic(self.width)


class CountdownCounter(wiring.Component):
    """Hardware of :class:`Countdown`.

    Members
    -------
    advance : go on to the next position
    left : positions to the next that is marked; from registers
    hit : this position is marked
    """

    def __init__(self, design: Countdown):
        self.design = design
        super().__init__({"advance": In(1), "left": Out(design.width), "hit": Out(1)})

    def elaborate(self, platform):
        m = Module()
        design = self.design
        if not design.width:
            m.d.comb += self.hit.eq(1)
            return m
        m.submodules.gaps = gaps = StepsCounter(design.steps)
        left = Signal(design.width, init=design.first)
        m.d.comb += [
            self.left.eq(left),
            self.hit.eq(left == 0),
            gaps.advance.eq(self.advance & self.hit),
        ]
        with m.If(self.advance):
            m.d.sync += left.eq(Mux(self.hit, gaps.column(0), left - 1))
        return m
