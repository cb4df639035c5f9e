# SPDX-License-Identifier: Apache-2.0
"""Tables of constants: every number comes back, and no column of bits is stored twice."""

import numpy as np
import pytest
from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out
from amaranth.sim import Simulator
from circuit_check import check_circuit

from hdl import Rom, Tables, shape
from hdl.scale import Scale, ScaleArray
from quant import Format

TABLES = {
    "one number": [[5]],
    "zeros": [[0, 0, 0]],
    "constants": [[3, 3], [-3, -3], [-1, -1]],
    "signed": [[-8, 7, 0, -1], [1, 2, 3, 4]],
    "opposites": [[1, 0, 1, 1], [-1, 0, -1, -1], [2, 0, 2, 2]],
    "complement": [[0, 1, 0], [1, 0, 1]],
    "equal": [[5, 9, -2], [5, 9, -2]],
    "wide": [[-(2**40), 2**40 - 1, 12345], [2**62 - 1, 0, 1]],
    "even": [[4, 8, -12, 0]],
}


def stored_columns(tables):
    """Distinct columns of bits, of all numbers in 64 bits, that are not constant."""
    columns = set()
    for table in tables:
        for bit in range(64):
            column = tuple(n >> bit & 1 for n in table)
            if len(set(column)) > 1:
                columns.add(column)
    return columns


class Reader(wiring.Component):
    """All tables read at one address."""

    def __init__(self, tables):
        self.rom = Rom(tables)
        super().__init__({f"y_{n}": Out(shape(number)) for n, number in enumerate(tables.formats)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.rom = self.rom
        for n in range(len(self.rom.tables.formats)):
            y = self.rom.tables.number(n, self.rom.data)
            assert y.shape() == shape(self.rom.tables.formats[n])
            m.d.comb += getattr(self, f"y_{n}").eq(y)
        m.d.sync += Signal().eq(1)  # a clock even where nothing is stored
        return m


def read_back(tables, steps):
    """What (address, enable) steps read, a cycle later each."""
    reader = Reader(tables)
    found = []

    async def bench(ctx):
        for address, enable in steps:
            ctx.set(reader.rom.address, address)
            ctx.set(reader.rom.enable, enable)
            await ctx.tick()
            found.append([ctx.get(getattr(reader, f"y_{n}")) for n in range(len(tables.formats))])

    simulator = Simulator(reader)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return found


@pytest.mark.parametrize("style", ["block", "logic"])
@pytest.mark.parametrize("rows", TABLES.values(), ids=TABLES)
def test_every_number_comes_back_a_cycle_later(rows, style):
    tables = Tables([np.array(row) for row in rows], style)
    found = read_back(tables, [(n % tables.depth, 1) for n in range(len(rows[0]))])
    assert found == np.transpose(rows).tolist()


@pytest.mark.parametrize("rows", TABLES.values(), ids=TABLES)
def test_only_columns_that_differ_are_stored(rows):
    tables = Tables([np.array(row) for row in rows], "logic")
    assert tables.width == len(stored_columns(rows))
    assert tables.depth == len(tables.words)
    assert len(rows[0]) % tables.depth == 0
    assert all(0 <= word < 1 << tables.width for word in tables.words)
    for row, number in zip(rows, tables.formats, strict=True):
        assert (min(row) < 0) == number.signed
        assert number.min <= min(row) <= max(row) <= number.max
        narrower = Format(max(1, number.width - 1), 0, number.signed)
        assert number.width == 1 or min(row) < narrower.min or max(row) > narrower.max


@pytest.mark.parametrize("seed", range(8))
def test_random_tables_come_back(seed):
    random = np.random.default_rng(seed)
    depth = int(random.integers(2, 40))
    rows = [
        random.integers(-(1 << random.integers(0, 9)), 1 << random.integers(0, 9), depth)
        << random.integers(0, 3)
        for _ in range(random.integers(1, 6))
    ]
    tables = Tables(rows, "block")
    assert tables.depth == depth
    assert read_back(tables, [(n, 1) for n in range(depth)]) == np.transpose(rows).tolist()


@pytest.mark.parametrize(
    ("rows", "depth"),
    [
        ([[5, 5, 5, 5]], 1),
        ([[1, 2, 1, 2, 1, 2]], 2),
        ([[1, 2, 1, 2, 1, 2], [0, 3, 4, 0, 3, 4]], 6),
        ([[1, 2, 3, 1, 2, 3], [7] * 6], 3),
        ([[1, 2, 1, 2, 1]], 5),
    ],
)
def test_words_that_repeat_are_stored_once(rows, depth):
    tables = Tables([np.array(row) for row in rows], "logic", in_turn=True)
    assert tables.depth == depth
    found = read_back(tables, [(n % depth, 1) for n in range(len(rows[0]))])
    assert found == np.transpose(rows).tolist()


def test_nothing_moves_without_enable():
    tables = Tables([np.array([1, -2, 3])], "block")
    steps = [(1, 1), (2, 0), (0, 0), (2, 1), (1, 0)]
    assert read_back(tables, steps) == [[-2], [-2], [-2], [3], [3]]


@pytest.mark.parametrize("number", [Format(4, 0), Format(3, 0, False), Format(1, 0)], ids=str)
@pytest.mark.parametrize("groups", [2, 3])
@pytest.mark.parametrize("lanes", [1, 3])
def test_products_with_constants_that_change_are_exact(lanes, groups, number):
    """Lanes of zeros have no multiplier; the power of two that a lane shares is left out."""
    random = np.random.default_rng(groups)
    weight = random.integers(-9, 10, (groups, lanes)) << random.integers(0, 4, lanes)
    if lanes > 1:
        weight[:, 1] = 0
    design = Scale(weight, number)
    x = random.integers(number.min, number.max + 1, (6 * groups, lanes))
    y = [
        [int(a) * int(b) for a, b in zip(row, weight[n % groups], strict=True)]
        for n, row in enumerate(x)
    ]

    def read(payload):
        lanes_read = (int(getattr(payload, f"sum_{p}")) for p in range(lanes))
        return [value << int(z) for value, z in zip(lanes_read, design.scale, strict=True)]

    check_circuit(
        lambda: ScaleArray(design),
        {"i": x.tolist()},
        {"o": y},
        design.events(2 * groups),
        3,
        read,
    )
    assert design.used == [p for p in range(lanes) if weight[:, p].any()]
    low, high = design.low, design.high
    every = [
        sorted((int(w) * n) >> int(z) for w in column for n in (number.min, number.max))
        for column, z in zip(weight.T, design.scale, strict=True)
    ]
    assert low.tolist() == [e[0] for e in every]
    assert high.tolist() == [e[-1] for e in every]
