# SPDX-License-Identifier: Apache-2.0
"""The multiply-accumulate array: exact sums, every cycle, and no cycle without products."""

import numpy as np
import pytest
from amaranth import ClockDomain, Module
from amaranth.sim import Simulator
from circuit_check import check_circuit
from refusal import refused

from hdl import Mac, MacArray
from quant import Format

SHAPES = [  # outputs, inputs, pe, simd
    (1, 1, 1, 1),
    (1, 4, 1, 1),
    (4, 1, 1, 1),
    (4, 1, 2, 1),
    (2, 2, 1, 1),
    (4, 6, 1, 1),
    (4, 6, 2, 3),
    (4, 6, 4, 2),
    (4, 6, 2, 6),
    (4, 6, 4, 6),
    (3, 8, 3, 4),
    (8, 8, 4, 2),
    (6, 5, 2, 1),
    (4, 3, 1, 3),
    (6, 10, 1, 10),
]
NUMBERS = {
    "s5": Format(5, 0),
    "u4": Format(4, 0, False),
    "s1": Format(1, 0),
    "u1": Format(1, 0, False),
}


def matrix(outputs, inputs, seed=0):
    random = np.random.default_rng([outputs, inputs, seed])
    weight = random.integers(-9, 10, (outputs, inputs))
    weight.flat[0] = 7
    return weight


def sums_of(design):
    """Reads the sums of all rows from a payload, with the powers of two that rows share."""

    def read(payload):
        fields = [int(getattr(payload, f"sum_{source}")) for source in design.core.sources]
        return [total << int(z) for total, z in zip(fields, design.core.scale, strict=False)]

    return read


def check_mac(weight, number, pe, simd, frames=4, style="registers"):
    """Values under stalls, every cycle, and the interval; returns the cycles of the ports."""
    design = Mac(weight, number, pe, simd, "logic", style)
    random = np.random.default_rng(1)
    x = random.integers(number.min, number.max + 1, (frames, weight.shape[1]))
    x[0], x[-1] = number.min, number.max
    y = [[sum(int(a) * int(b) for a, b in zip(w, row, strict=True)) for w in weight] for row in x]
    return design, check_circuit(
        lambda: MacArray(design),
        {"i": x.reshape(-1, simd).tolist()},
        {"o": np.reshape(y, (-1, pe)).tolist()},
        design.events(),
        frames,
        sums_of(design),
    )


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "{}x{}-{}x{}".format(*s))
def test_sums_are_exact_and_no_cycle_passes_without_products(shape):
    outputs, inputs, pe, simd = shape
    design, cycles = check_mac(matrix(outputs, inputs), NUMBERS["s5"], pe, simd)
    groups, steps = outputs // pe, inputs // simd
    assert (design.groups, design.steps) == (groups, steps)
    assert design.events().schedule(["i"], ["o"]).interval == groups * steps
    assert np.diff(cycles["o"][groups - 1 :: groups]).tolist() == [groups * steps] * 3


@pytest.mark.parametrize("number", NUMBERS.values(), ids=NUMBERS)
@pytest.mark.parametrize("shape", [(4, 6, 2, 3), (2, 4, 1, 4), (2, 4, 2, 1)])
def test_sums_are_exact_for_any_number(shape, number):
    outputs, inputs, pe, simd = shape
    check_mac(matrix(outputs, inputs, 1), number, pe, simd, 3)


WEIGHTS = {
    "rows alike": np.tile([[3, -5, 7, 1]], (4, 1)),
    "one row zero": np.array([[1, 2, 3, 4], [0, 0, 0, 0], [5, 6, 7, 8], [-1, -2, -3, -4]]),
    "lane zero": np.array([[1, 2, 3, 4], [0, 0, 0, 0], [5, 6, 7, 8], [0, 0, 0, 0]]),
    "column zero": np.array([[1, 0, 3, 0], [2, 0, -1, 0], [3, 0, 0, 0], [4, 0, 1, 0]]),
    "powers of two": np.array([[8, 16, 0, -8], [4, 4, 12, -4], [8, 8, 8, 8], [64, 0, 0, 4]]),
    "one weight": np.array([[0, 0, 0, 0], [0, 0, -1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]),
    "all ones": np.ones((4, 4), np.int64),
    "large": np.array([[-(2**20), 2**20 - 1, 1, 0]] * 2 + [[2**20 - 1] * 4] * 2),
}


@pytest.mark.parametrize("weight", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("pe_simd", [(1, 2), (2, 2), (2, 4)], ids=str)
def test_sums_are_exact_where_weights_are_special(weight, pe_simd):
    check_mac(weight, NUMBERS["s5"], *pe_simd, frames=3)


@pytest.mark.parametrize("seed", range(40))
def test_the_array_never_idles(seed):
    """The event graph of many shapes: an interval of groups times steps, less than a step late."""
    random = np.random.default_rng(seed)
    pe, groups, simd, steps = random.integers(1, 9, 4).tolist()
    design = Mac(matrix(pe * groups, simd * steps), NUMBERS["s5"], pe, simd)
    schedule = design.events().schedule(["i"], ["o"])
    assert schedule.interval == schedule.longest_interval == groups * steps
    front = design.core.stages
    assert front == 2 + (simd - 1).bit_length()
    waits = 1 if groups > 1 else 0
    assert schedule.latency == groups * steps + front + waits


def test_equal_rows_and_products_are_there_once():
    design = Mac(WEIGHTS["rows alike"], NUMBERS["s5"], 4, 2)
    assert design.core.sources == [0, 0, 0, 0]
    assert len(design.core.sums) == 1
    assert len(design.core.products) == 2
    assert list(design.core.elements) == [0, 1]


def test_products_and_sums_that_are_alike_but_for_a_power_of_two_are_there_once():
    weight = np.array([[24, 8, 3, 5], [3, 1, 7, 5], [6, 2, 1, 0]])
    design, _ = check_mac(weight, NUMBERS["s5"], 3, 4, frames=3)
    assert len(design.core.products) == 2 + 3 + 1  # by column: 3, 1; 3, 7, 1; 5
    first, second = design.core.adders
    assert [adder.terms for adder in first].count(((0, 0), (1, 0))) == 1
    assert (len(first), len(second)) == (1 + 3, 3)


def test_columns_of_zeros_have_no_multiplier():
    design = Mac(WEIGHTS["column zero"], NUMBERS["s5"], 1, 4)
    assert list(design.core.elements) == [0, 2]
    assert len(design.core.products) == 2


def test_bounds_are_those_of_each_row():
    weight, number = WEIGHTS["powers of two"], NUMBERS["u4"]
    design = Mac(weight, number, 2, 2)
    core = design.core
    for row, low, high, scale in zip(weight, core.low, core.high, core.scale, strict=True):
        ends = [(int(w) * number.min, int(w) * number.max) for w in row]
        assert low << scale == sum(min(pair) for pair in ends)
        assert high << scale == sum(max(pair) for pair in ends)
    assert core.scale.tolist() == [3, 2, 3, 2]


@pytest.mark.parametrize("shape", [(4, 6, 2, 3), (4, 6, 4, 2), (4, 3, 1, 3), (3, 4, 1, 1)], ids=str)
@pytest.mark.parametrize("at", [1, 2, 5, 9])
def test_a_reset_in_the_middle_of_a_frame_begins_anew(shape, at):
    outputs, inputs, pe, simd = shape
    design = Mac(matrix(outputs, inputs), NUMBERS["s5"], pe, simd)
    array, read = MacArray(design), sums_of(design)
    x = np.random.default_rng(3).integers(-16, 16, (2, inputs))
    words, expected = x.reshape(-1, simd).tolist(), (x @ matrix(outputs, inputs).T).reshape(-1, pe)
    given = []

    async def bench(ctx):
        ctx.set(array.i.valid, 1)
        ctx.set(array.i.payload, [15] * simd)
        ctx.set(array.o.ready, at % 2)
        for _ in range(at):
            await ctx.tick()
        ctx.set(domain.rst, 1)
        await ctx.tick()
        ctx.set(domain.rst, 0)
        assert not ctx.get(array.o.valid)
        ctx.set(array.o.ready, 1)
        place = 0
        for _ in range(100):
            ctx.set(array.i.valid, place < len(words))
            ctx.set(array.i.payload, words[min(place, len(words) - 1)])
            if ctx.get(array.o.valid):
                given.append(read(ctx.get(array.o.payload)))
            place += place < len(words) and ctx.get(array.i.ready)
            await ctx.tick()

    top = Module()
    top.domains.sync = domain = ClockDomain()
    top.submodules.array = array
    simulator = Simulator(top)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert given == expected.tolist()


@pytest.mark.parametrize(("pe", "simd"), [(3, 2), (2, 4), (8, 1)])
def test_a_folding_that_does_not_divide_is_refused(pe, simd):
    with refused(
        ValueError, f"Mac pe and simd must divide 4 outputs and 6 inputs, not be {pe} and {simd}"
    ):
        Mac(matrix(4, 6), NUMBERS["s5"], pe, simd)


def test_a_matrix_of_zeros_is_refused():
    with refused(ValueError, "Mac weight must not be all zero"):
        Mac(np.zeros((4, 6), np.int64), NUMBERS["s5"], 2, 2)


@pytest.mark.parametrize("kept", range(8))
@pytest.mark.parametrize("shape", [(4, 6, 2, 3), (3, 4, 1, 4), (2, 4, 2, 1)], ids=str)
def test_bits_that_are_read_are_those_of_the_sums(shape, kept):
    """Modulo the bits that are read, nothing changes; none is wider."""
    outputs, inputs, pe, simd = shape
    weight, number = matrix(outputs, inputs) << 1, NUMBERS["s5"]
    weight[0] <<= 2
    mac = Mac(weight, number, pe, simd)
    whole = mac.core
    zeros = np.zeros(pe, np.int64)
    design = whole.reading(zeros, np.full(pe, kept), zeros)
    assert [f.width for f in design.sums] == [max(1, min(kept, f.width)) for f in whole.sums]
    assert all(p.format.width <= max(1, kept) for p in design.products)
    x = np.random.default_rng(2).integers(number.min, number.max + 1, (3, inputs))
    y = [[sum(int(a) * int(b) for a, b in zip(w, row, strict=True)) for w in weight] for row in x]
    wanted = [
        [t >> int(z) & (1 << kept) - 1 for t, z in zip(r, whole.scale, strict=True)] for r in y
    ]

    def read(payload):
        fields = [int(getattr(payload, f"sum_{source}")) for source in design.sources]
        return [total & (1 << kept) - 1 for total in fields]

    check_circuit(
        lambda: MacArray(mac.over(design)),
        {"i": x.reshape(-1, simd).tolist()},
        {"o": np.reshape(wanted, (-1, pe)).tolist()},
        mac.over(design).events(),
        3,
        read,
    )
