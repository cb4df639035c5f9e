# SPDX-License-Identifier: Apache-2.0
"""Sequences of constants: found as nests of loops where they are some, and gone through exactly."""

import itertools

import numpy as np
import pytest
from amaranth import ClockDomain, Module
from amaranth.sim import Simulator

from hdl.steps import Countdown, CountdownCounter, Steps, StepsCounter


def affine(extents, strides):
    """Increments of an address in nested loops, the outermost first; the last starts again."""
    addresses = [
        sum(c * s for c, s in zip(place, strides, strict=True))
        for place in itertools.product(*map(range, extents))
    ]
    return np.diff(addresses, append=addresses[0]).reshape(-1, 1) % 1024


SEQUENCES = {
    "one step": np.array([[3]]),
    "all zero": np.array([[0, 0], [0, 0]]),
    "constant": np.full((6, 1), 5),
    "alternating": np.array([[1], [2], [1], [2]]),
    "two columns": np.array([[1, 0], [1, 0], [4, 1]] * 2 + [[1, 0], [1, 0], [9, 7]]),
    "affine": affine((2, 3, 4), (1, 2, 6)),
    "irregular": np.array([[3], [1], [4], [1], [5]]),
    "irregular with a constant": np.array([[3, 2, 0], [1, 2, 0], [4, 2, 1]]),
    "irregular in loops": np.array([[5], [5], [1], [5], [5], [2], [5], [5], [1], [5], [5], [3]]),
    "two tables": np.array([[1], [2], [7], [1], [2], [8], [1], [2], [7], [1], [2], [7]]),
    "runs of other lengths": np.array([[0], [0], [1], [0], [1], [1]]),
}


def shown(component, read, patterns):
    """What ``read`` gives in each cycle, advancing where the pattern says so."""
    found = []

    async def bench(ctx):
        for advance in patterns:
            ctx.set(component.advance, advance)
            found.append(read(ctx))
            await ctx.tick()

    top = Module()
    top.domains.sync = ClockDomain()  # constants have no clock of their own
    top.submodules.component = component
    simulator = Simulator(top)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return found


@pytest.mark.parametrize("rows", SEQUENCES.values(), ids=SEQUENCES)
@pytest.mark.parametrize("style", ["logic", "block"])
def test_every_row_is_shown_in_its_turn(rows, style):
    counter = StepsCounter(Steps(rows, style))
    advances = np.random.default_rng(1).integers(0, 2, 5 * len(rows) + 8).tolist()

    def read(ctx):
        word = ctx.get(counter.row)
        for width in counter.design.widths:
            yield word & ((1 << width) - 1)
            word >>= width

    found = [list(row) for row in shown(counter, lambda ctx: list(read(ctx)), advances)]
    places = np.cumsum([0, *advances[:-1]]) % len(rows)
    assert found == rows[places].tolist()


@pytest.mark.parametrize("extents", [(3,), (2, 3), (4, 1, 2), (2, 3, 4), (3, 2, 2, 5)], ids=str)
def test_addresses_of_nested_loops_are_found_in_any_order(extents):
    sizes = np.cumprod([1, *extents[:0:-1]])[::-1]
    for order in itertools.permutations(range(len(extents))):
        steps = Steps(affine([extents[n] for n in order], [int(sizes[n]) for n in order]))
        assert not steps.tables
        assert len(steps.loops) <= len(extents)


def test_loops_that_continue_each_other_are_one():
    assert Steps(affine((3, 4), (4, 1))).extents == [12]
    assert Steps(affine((3, 4), (1, 3))).extents == [4, 3]
    assert Steps(np.full((12, 1), 1)).extents == []


def test_an_irregular_loop_among_regular_ones_is_a_table_of_its_own():
    column = np.pad(np.arange(6), 2, "reflect")
    rows = 6 * np.pad(np.arange(5), 1, "reflect")[:, None] + column
    words = (rows[..., None] * 4 + np.arange(4)).ravel()
    steps = Steps((np.diff(words, append=words[0]) + 200)[:, None])
    assert steps.extents == [4, 10, 7]
    assert [table.depth for table in steps.tables] == [10, 7]


def test_what_is_no_nest_is_a_table_of_one_period():
    steps = Steps(np.array([[3], [1], [4], [1], [5]] * 3))
    assert steps.extents == [5]
    assert [table.depth for table in steps.tables] == [5]


@pytest.mark.parametrize("period", [1, 5, 12])
@pytest.mark.parametrize("seed", range(6))
def test_a_countdown_marks_what_it_is_told(period, seed):
    random = np.random.default_rng([period, seed])
    marked = np.flatnonzero(random.integers(0, 2, period))
    marked = marked if marked.size else np.array([period - 1])
    countdown = CountdownCounter(Countdown(marked, period))
    advances = random.integers(0, 2, 6 * period + 5).tolist()
    places = np.cumsum([0, *advances[:-1]]) % period
    found = shown(countdown, lambda ctx: ctx.get(countdown.hit), advances)
    assert found == np.isin(places, marked).astype(int).tolist()
