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


class Steps:
    """Rows of constants, one a step, over and over: nested loops where they are, else a table.

    In a nest of loops the row of a step depends only on how many inner loops end with it, as the
    increments of an affine address do.

    Parameters
    ----------
    rows : ints from 0, shape (steps, columns), of one period
    style : "logic" or "block", what the memory of a table becomes

    Members
    -------
    extents : of the loops, the innermost first; none if the rows are all alike or a table
    rows : of a nest of loops, row n where n inner loops end; of a table one a step
    tables : the table, or None
    widths : bits of each column
    """

    def __init__(self, rows: Ints, style: str = "logic"):
        rows = np.asarray(rows, np.int64)
        rows = rows[: shortest_period(rows)]
        self.widths = [int(n).bit_length() for n in rows.max(axis=0)]
        self.style = style
        self.first = rows[0].tolist()
        nest = _nest(rows)
        self.tables = None
        self.extents: list[int] = []
        if nest is None:
            self.tables = Tables(list(rows.T), style)
            self.rows = rows
        else:
            self.extents, self.rows = nest

    def inventory(self) -> Inventory:
        """What it is made of."""
        if self.tables is not None:
            depth, width = self.tables.depth, self.tables.width
            memory = cost.rom(depth, width, self.style, self.tables.words)
            return memory + cost.counter(depth) + cost.register(1) + cost.logic(2, width)
        total = sum((cost.counter(extent) + cost.logic(3) for extent in self.extents), Inventory())
        return total + cost.logic(len(self.extents) + 1, sum(self.widths) if self.extents else 0)


def shortest_period(rows: NDArray[np.int64]) -> int:
    """Fewest rows of which all are repetitions."""
    count = len(rows)
    divide = [n for n in range(1, count + 1) if count % n == 0]
    return next(n for n in divide if (rows[n:] == rows[: count - n]).all())


def _nest(rows: NDArray[np.int64]) -> tuple[list[int], NDArray[np.int64]] | None:
    """Extents of loops and a row for each number of loops that end; None if there are none."""
    extents, levels = [], []
    while len(rows) > 1:
        other = (rows != rows[0]).any(axis=1)
        extent = int(other.argmax()) + 1
        if len(rows) % extent or other.reshape(-1, extent)[:, :-1].any():
            return None
        extents.append(extent)
        levels.append(rows[0])
        rows = rows[extent - 1 :: extent]
    return extents, np.array([*levels, rows[0]])


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
        design = self.design
        if design.tables is not None:
            m.d.comb += self.row.eq(self._table(m, design.tables))
            return m
        levels = [self._packed(row) for row in design.rows.tolist()]
        carry, value, ends = self.advance, levels[-1], []
        for n, extent in enumerate(design.extents):
            count, last = Signal(range(extent), name=f"count_{n}"), Signal(name=f"last_{n}")
            m.d.comb += last.eq(count == extent - 1)
            with m.If(carry):
                m.d.sync += count.eq(Mux(last, 0, count + 1))
            carry = carry & last
            ends.append(last)
        for last, level in zip(reversed(ends), reversed(levels[:-1]), strict=True):
            value = Mux(last, value, level)
        m.d.comb += self.row.eq(value)
        return m

    def _packed(self, row: list[int]):
        return Cat(Const(n, width) for n, width in zip(row, self.design.widths, strict=True))

    def _table(self, m: Module, tables: Tables):
        """The row of a memory, read with each advance; the row before the first is a constant."""
        m.submodules.rom = rom = Rom(tables)
        following, begun = Signal(range(tables.depth), init=1), Signal()
        m.d.comb += [rom.address.eq(following), rom.enable.eq(self.advance)]
        with m.If(self.advance):
            last = following == tables.depth - 1
            m.d.sync += [following.eq(Mux(last, 0, following + 1)), begun.eq(1)]
        numbers = [tables.number(n, rom.data) for n in range(len(self.design.widths))]
        read = Cat(
            number[:width] for number, width in zip(numbers, self.design.widths, strict=True)
        )
        return Mux(begun, read, self._packed(self.design.first))


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
