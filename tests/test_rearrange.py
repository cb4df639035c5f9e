# SPDX-License-Identifier: Apache-2.0
"""Words in another order: exact, to the cycle, with as little memory as the rate allows."""

import itertools
from math import prod

import numpy as np
import pytest
from amaranth import ClockDomain, Module
from amaranth.sim import Simulator
from circuit_check import check_circuit

from hdl import Deadlock, Target, synthesise_many, verilog
from hdl.rearrange import Rearrange, RearrangeArray, Reorder
from quant import Format

NUMBER = Format(7, 0)
FILL = -3


def raster(*shape):
    return np.arange(prod(shape)).reshape(shape)


def random_index(seed):
    random = np.random.default_rng(seed)
    words = int(random.integers(1, 12))
    index = random.integers(-1, words, random.integers(1, 17))
    return (index if index.max() >= 0 else index + 1), words


CASES = {
    "one word": (raster(1), 1),
    "as it comes": (raster(5), 5),
    "transposed": (raster(3, 4).T, 12),
    "transposed square": (raster(4, 4).T, 16),
    "three axes": (raster(2, 3, 4).transpose(1, 2, 0), 24),
    "inner axes": (raster(3, 2, 3).transpose(0, 2, 1), 18),
    "first axis": (raster(2, 3, 2).transpose(1, 0, 2), 12),
    "rows": (raster(5, 6)[1:4], 30),
    "columns": (raster(5, 6)[:, 1::2], 30),
    "backwards": (raster(5, 6)[::-1, ::-2], 30),
    "one of many": (np.array([7]), 9),
    "frame of constants": (np.pad(raster(3, 4), ((1, 2), (3, 1)), constant_values=-1), 12),
    "constants in front": (np.pad(raster(4), (3, 0), constant_values=-1), 4),
    "constants behind": (np.pad(raster(4), (0, 3), constant_values=-1), 4),
    "edges": (np.pad(raster(3, 4), ((1, 2), (3, 1)), "edge"), 12),
    "reflected": (np.pad(raster(3, 4), 2, "reflect"), 12),
    "each thrice": (np.repeat(raster(5), 3), 5),
    "all thrice": (np.tile(raster(5), 3), 5),
    "rows twice": (np.repeat(raster(3, 4), 2, 0), 12),
    "pixels doubled": (np.repeat(np.repeat(raster(3, 3), 2, 0), 2, 1), 9),
    "few, four times each": (np.repeat([1, 4, 5], 4), 7),
    "chosen": (raster(4, 3)[:, [2, 0, 2]], 12),
} | {f"random {seed}": random_index(seed) for seed in range(6)}
every_case = pytest.mark.parametrize(("index", "words"), CASES.values(), ids=CASES)


def design(index, words, lanes=1, style="registers", tables="logic"):
    return Rearrange(np.ravel(index), words, NUMBER, lanes, FILL, style, tables)


def frames_of(index, words, lanes, frames):
    """Random frames in words, and what they become word by word."""
    x = np.random.default_rng(3).integers(NUMBER.min, NUMBER.max + 1, (frames, words, lanes))
    constant = [FILL] * lanes
    y = [x[f, k].tolist() if k >= 0 else constant for f in range(frames) for k in np.ravel(index)]
    return x.reshape(-1, lanes).tolist(), y


@every_case
def test_words_and_cycles(index, words):
    made = design(index, words, lanes=2)
    if made.parts:
        x, y = frames_of(index, words, 2, 3)
        check_circuit(lambda: RearrangeArray(made), {"i": x}, {"o": y}, made.events(), 3)
    else:
        assert np.ravel(index).tolist() == list(range(words))


@pytest.mark.parametrize("name", [name for name in CASES if "constants" in name])
def test_constants_wait_for_the_first_word_of_their_frame(name):
    index, words = CASES[name]
    array = RearrangeArray(design(index, words))
    x, y = frames_of(index, words, 1, 2)
    given = []

    async def bench(ctx):
        ctx.set(array.o.ready, 1)
        place = 0
        for _ in range(8 * len(y)):
            ctx.set(array.i.valid, place < len(x))
            ctx.set(array.i.payload, x[min(place, len(x) - 1)])
            if ctx.get(array.o.valid):
                assert place, "before the first word"
                given.append([ctx.get(array.o.payload)[0]])
            place += place < len(x) and ctx.get(array.i.ready)
            await ctx.tick()

    simulator = Simulator(array)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert given == y


@pytest.mark.parametrize("shape", [(1, 2, 2), (1, 2, 8), (2, 2, 3), (3, 4, 2), (1, 3, 3)], ids=str)
@pytest.mark.parametrize("times", [1, 2])
def test_the_least_memory_that_does_not_stop_is_exact_too(shape, times, monkeypatch):
    """Slower than words come and go: cycles in which a word waits for a place to be free."""
    monkeypatch.setattr(Reorder, "_keeps_rate", lambda self, depth: True)
    index = np.repeat(raster(*shape).swapaxes(1, 2), times)
    made = design(index, prod(shape))
    x, y = frames_of(index, prod(shape), 1, 3)
    check_circuit(lambda: RearrangeArray(made), {"i": x}, {"o": y}, made.events(), 3)


@every_case
def test_frames_follow_each_other_as_fast_as_words_come_and_go(index, words):
    made = design(index, words)
    interval = made.events().schedule(["i"], ["o"]).interval if made.parts else words
    assert interval == max(words, np.size(index))


LARGE = {
    "transposed": (raster(12, 20).T, 240),
    "long": (raster(40, 3).T, 120),
    "wide": (raster(3, 40).T, 120),
    "four axes": (raster(3, 4, 5, 6).transpose(3, 1, 0, 2), 360),
    "rows doubled": (np.repeat(raster(9, 11), 2, 0), 99),
    "tiled": (np.tile(raster(9), 9), 9),
    "backwards": (raster(100)[::-1], 100),
    "shuffled": (np.random.default_rng(0).permutation(90), 90),
}


@pytest.mark.parametrize(("index", "words"), [*CASES.values(), *LARGE.values()])
def test_half_of_the_memory_would_be_too_little(index, words):
    """Half as deep a ring stops for ever, or is slower than words come and go."""
    buffers = [p for p in design(index, words).parts if isinstance(p, Reorder)]
    for buffer in buffers:
        best = max(buffer.words, len(buffer.order))
        assert buffer.events().schedule(["i"], ["o"]).interval == best
        if buffer.depth > 2:
            buffer.depth //= 2
            try:
                assert buffer.events().schedule(["i"], ["o"]).interval > best
            except Deadlock:
                pass


@pytest.mark.parametrize("shape", [(2, 3), (4, 4), (2, 3, 4), (3, 1, 2), (2, 3, 2, 3)], ids=str)
def test_permuted_axes_need_no_table(shape):
    for axes in itertools.permutations(range(len(shape))):
        made = design(raster(*shape).transpose(axes), prod(shape))
        assert not made.tables


def test_a_frame_of_reflections_needs_tables_of_a_row_and_a_column():
    made = design(np.pad(raster(40, 50), 2, "reflect"), 2000)
    assert [table.depth for table in made.tables] == [54, 44]
    assert made.depth == 256


@pytest.mark.parametrize(
    ("name", "depth"),
    [
        ("as it comes", 0),
        ("rows", 0),
        ("columns", 0),
        ("frame of constants", 0),
        ("each thrice", 0),
        ("all thrice", 8),
        ("rows twice", 8),
        ("pixels doubled", 4),
        ("transposed", 16),
    ],
)
def test_memory_is_no_larger_than_the_order_asks_for(name, depth):
    assert design(*CASES[name]).depth == depth


@pytest.mark.parametrize("name", ["transposed", "frame of constants", "reflected", "random 1"])
@pytest.mark.parametrize("at", [1, 2, 5, 9, 14])
def test_a_reset_in_the_middle_of_a_frame_begins_anew(name, at):
    index, words = CASES[name]
    array = RearrangeArray(design(index, words))
    x, y = frames_of(index, words, 1, 2)
    given = []

    async def bench(ctx):
        ctx.set(array.i.valid, 1)
        ctx.set(array.i.payload, [15])
        ctx.set(array.o.ready, at % 2)
        for _ in range(at):
            await ctx.tick()
        ctx.set(domain.rst, 1)
        await ctx.tick()
        ctx.set(domain.rst, 0)
        ctx.set(array.o.ready, 1)
        place = 0
        while len(given) < len(y):
            ctx.set(array.i.valid, place < len(x))
            ctx.set(array.i.payload, x[min(place, len(x) - 1)])
            if ctx.get(array.o.valid):
                given.append([ctx.get(array.o.payload)[0]])
            place += place < len(x) and ctx.get(array.i.ready)
            await ctx.tick()

    top = Module()
    top.domains.sync = domain = ClockDomain()
    top.submodules.array = array
    simulator = Simulator(top)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert given == y


@pytest.mark.parametrize("target", ["ecp5", "xilinx7"])
def test_inventory_equals_synthesis(target):
    target = Target.named(target)
    styles = itertools.cycle(["registers", "distributed", "block"])
    tables = itertools.cycle(["logic", "block"])
    names = [name for n, name in enumerate(CASES) if n > 1 and n % 2]
    made = [design(*CASES[name], 2, next(styles), next(tables)) for name in names]
    made = {f"case_{n}": d for n, d in enumerate(made)}
    texts = {name: verilog(RearrangeArray(d), name) for name, d in made.items()}
    counted = synthesise_many(texts, target)
    for name, d in made.items():
        estimate, found = d.inventory().cost(target), counted[name].cost
        where = f"{name} {[type(part).__name__ for part in d.parts]}"
        assert (estimate.ff, estimate.bram) == (found.ff, found.bram), where
