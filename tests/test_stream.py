# SPDX-License-Identifier: Apache-2.0
"""What only moves words: buffers, forks and lane converters, to the cycle."""

import numpy as np
import pytest
from amaranth import ClockDomain, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator
from amaranth_bench import run
from circuit_check import CHANCES, check_circuit
from refusal import refused

from hdl import Fifo, Fork, Gather, Scatter, joined, pipeline_events, shape
from quant import Format

NUMBER = Format(5, 0)
DEPTHS = (1, 2, 3, 4, 7)


def layout(lanes):
    return data.ArrayLayout(shape(NUMBER), lanes)


def words(count, lanes, seed=0):
    random = np.random.default_rng(seed)
    return random.integers(NUMBER.min, NUMBER.max + 1, (count, lanes)).tolist()


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_fifo_keeps_words_and_cycles(depth):
    sent = words(20, 3, depth)
    check_circuit(
        lambda: Fifo(layout(3), depth),
        {"i": sent},
        {"o": sent},
        Fifo.events(depth, 5),
        4,
    )


@pytest.mark.parametrize("branches", [2, 3, 5])
def test_a_fork_gives_every_word_to_every_branch(branches):
    sent = words(12, 2)
    outputs = {f"o_{b}": sent for b in range(branches)}
    check_circuit(
        lambda: Fork(layout(2), branches), {"i": sent}, outputs, Fork.events(branches, 4), 3
    )


@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("ratio", [2, 3, 5])
def test_a_gather_puts_the_first_word_in_the_lowest_lanes(ratio, lanes):
    sent = words(6 * ratio, lanes)
    wide = np.reshape(sent, (6, -1)).tolist()
    cycles = check_circuit(
        lambda: Gather(NUMBER, lanes, ratio), {"i": sent}, {"o": wide}, Gather.events(ratio, 3), 2
    )
    assert cycles["i"] == list(range(6 * ratio))  # full rate
    assert cycles["o"] == [ratio * n for n in range(1, 7)]


@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("ratio", [2, 3, 5])
def test_a_scatter_sends_the_lowest_lanes_first(ratio, lanes):
    sent = words(6, lanes * ratio)
    narrow = [w[n * lanes : (n + 1) * lanes] for w in sent for n in range(ratio)]
    cycles = check_circuit(
        lambda: Scatter(NUMBER, lanes, ratio),
        {"i": sent},
        {"o": narrow},
        Scatter.events(ratio, 3),
        2,
    )
    assert cycles["o"] == list(range(1, 6 * ratio + 1))  # full rate


def simulated(component, bench):
    """Run ``bench`` with a reset that it may set."""
    top = Module()
    top.domains.sync = domain = ClockDomain()
    top.submodules.component = component
    simulator = Simulator(top)
    simulator.add_clock(1e-6)

    async def whole(ctx):
        await bench(ctx, domain.rst)

    simulator.add_testbench(whole)
    simulator.run()


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_fifo_takes_exactly_its_depth_while_nobody_reads(depth):
    fifo = Fifo(layout(1), depth)
    levels, taken, given = [], [], []

    async def bench(ctx, reset):
        ctx.set(fifo.i.valid, 1)
        for cycle in range(depth + 3):
            ctx.set(fifo.i.payload, [cycle % 16])
            taken.append(ctx.get(fifo.i.ready))
            await ctx.tick()
            levels.append(ctx.get(fifo.level))
        ctx.set(fifo.i.valid, 0)
        ctx.set(fifo.o.ready, 1)
        while ctx.get(fifo.o.valid):
            given.append(ctx.get(fifo.o.payload)[0])
            await ctx.tick()
            levels.append(ctx.get(fifo.level))

    simulated(fifo, bench)
    assert taken == [1] * depth + [0] * 3
    assert given == list(range(depth))
    assert levels == [*range(1, depth + 1), *[depth] * 3, *range(depth - 1, -1, -1)]


@pytest.mark.parametrize(("depth", "spacing"), [(1, 2), (2, 1), (3, 1), (7, 1)])
def test_a_fifo_of_one_word_moves_a_word_every_two_cycles_and_a_deeper_one_every_cycle(
    depth, spacing
):
    sent = words(16, 1)
    found = run(Fifo(layout(1), depth), {"i": sent}, {"o": 16})
    assert [cycle for cycle, _ in found["o"]] == list(range(1, 1 + 16 * spacing, spacing))
    assert Fifo.events(depth, 4).schedule(["i"], ["o"]).interval == 4 * spacing


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_fifo_offers_and_accepts_from_registers_alone(depth):
    """Neither handshake follows the other side's within a cycle."""
    fifo = Fifo(layout(1), depth)

    async def bench(ctx, reset):
        for fill in range(2 * depth + 4):
            seen = set()
            for valid in (0, 1):
                for ready in (0, 1):
                    ctx.set(fifo.i.valid, valid)
                    ctx.set(fifo.o.ready, ready)
                    seen.add((ctx.get(fifo.i.ready), ctx.get(fifo.o.valid)))
            assert len(seen) == 1
            ctx.set(fifo.i.valid, fill <= depth)
            ctx.set(fifo.o.ready, fill >= depth)
            await ctx.tick()

    simulated(fifo, bench)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("at", [1, 2, 3, 6])
def test_a_reset_empties_a_fifo_in_the_middle_of_a_frame(depth, at):
    fifo = Fifo(layout(1), depth)
    given = []

    async def bench(ctx, reset):
        ctx.set(fifo.i.valid, 1)
        for cycle in range(at):
            ctx.set(fifo.i.payload, [cycle])
            ctx.set(fifo.o.ready, cycle % 2)
            await ctx.tick()
        ctx.set(reset, 1)
        await ctx.tick()
        ctx.set(reset, 0)
        assert ctx.get(fifo.level) == 0
        assert not ctx.get(fifo.o.valid)
        ctx.set(fifo.o.ready, 1)
        sent = 0
        while len(given) < 10:
            ctx.set(fifo.i.valid, sent < 10)
            ctx.set(fifo.i.payload, [-sent])
            if ctx.get(fifo.o.valid):
                given.append(ctx.get(fifo.o.payload)[0])
            sent += sent < 10 and ctx.get(fifo.i.ready)
            await ctx.tick()

    simulated(fifo, bench)
    assert given == [-n for n in range(10)]


@pytest.mark.parametrize("component", [Gather, Scatter])
@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_a_reset_makes_a_lane_converter_begin_anew(component, at):
    converter = component(NUMBER, 1, 3)
    lanes_in, lanes_out = (1, 3) if component is Gather else (3, 1)
    sent = words(6 // lanes_in, lanes_in)
    expected = np.ravel(sent).tolist()
    given = []

    async def bench(ctx, reset):
        ctx.set(converter.i.valid, 1)
        ctx.set(converter.i.payload, [9] * lanes_in)
        ctx.set(converter.o.ready, 1)
        for _ in range(at):
            await ctx.tick()
        ctx.set(reset, 1)
        await ctx.tick()
        ctx.set(reset, 0)
        assert not ctx.get(converter.o.valid)
        place = 0
        while len(given) < 6:
            ctx.set(converter.i.valid, place < len(sent))
            ctx.set(converter.i.payload, sent[min(place, len(sent) - 1)])
            if ctx.get(converter.o.valid):
                given.extend(ctx.get(converter.o.payload)[k] for k in range(lanes_out))
            place += place < len(sent) and ctx.get(converter.i.ready)
            await ctx.tick()

    simulated(converter, bench)
    assert given == expected


def test_a_reset_makes_a_fork_serve_all_branches_again():
    fork = Fork(layout(1), 2)

    async def bench(ctx, reset):
        ctx.set(fork.i.valid, 1)
        ctx.set(fork.o_0.ready, 1)
        await ctx.tick()
        assert not ctx.get(fork.o_0.valid)  # branch 0 has the word, branch 1 has not
        ctx.set(reset, 1)
        await ctx.tick()
        ctx.set(reset, 0)
        assert ctx.get(fork.o_0.valid)
        assert ctx.get(fork.o_1.valid)

    simulated(fork, bench)


@pytest.mark.parametrize("seed", range(4))
def test_branches_of_a_fork_stall_on_their_own(seed):
    """Each branch takes every word once, none runs more than a word ahead of another."""
    random = np.random.default_rng(seed)
    sent = words(30, 1, seed)
    fork, patterns = Fork(layout(1), 3), random.integers(0, 2, (600, 3))
    patterns[:, 1] &= random.integers(0, 2, 600)  # the slowest branch decides
    taken = [[], [], []]

    async def bench(ctx, reset):
        place = 0
        for pattern in patterns.tolist():
            outputs = (fork.o_0, fork.o_1, fork.o_2)
            ctx.set(fork.i.valid, place < len(sent))
            ctx.set(fork.i.payload, sent[min(place, len(sent) - 1)])
            for o, ready in zip(outputs, pattern, strict=True):
                ctx.set(o.ready, ready)
            for o, ready, words_taken in zip(outputs, pattern, taken, strict=True):
                if ready and ctx.get(o.valid):
                    words_taken.append([ctx.get(o.payload)[0]])
            place += place < len(sent) and ctx.get(fork.i.ready)
            counts = [len(words_taken) for words_taken in taken]
            assert min(counts) == place  # taken when the last branch has taken it
            assert max(counts) <= place + 1
            await ctx.tick()

    simulated(fork, bench)
    assert taken == [sent] * 3


class Sum(wiring.Component):
    """Sums of the words of several streams, through an elastic pipeline of ``stages``."""

    def __init__(self, inputs, stages):
        self.stages, self.names = stages, [f"i_{n}" for n in range(inputs)]
        narrow = stream.Signature(layout(1))
        wide = stream.Signature(data.ArrayLayout(shape(Format(8, 0)), 1))
        super().__init__({**dict.fromkeys(self.names, In(narrow)), "o": Out(wide)})

    def elaborate(self, platform):
        m = Module()
        inputs = [getattr(self, name) for name in self.names]
        enables = joined(m, inputs, self.stages, self.o)
        value = sum(i.payload[0] for i in inputs)
        for s in range(self.stages):
            register = Signal(shape(Format(8, 0)), name=f"sum_{s}", reset_less=True)
            with m.If(enables[s]):
                m.d.sync += register.eq(value)
            value = register
        m.d.comb += self.o.payload[0].eq(value)
        return m


@pytest.mark.parametrize("stages", [0, 1, 2, 5])
@pytest.mark.parametrize("inputs", [1, 2, 3])
def test_an_elastic_pipeline_takes_a_word_of_each_input_together(inputs, stages):
    sent = {f"i_{n}": words(12, 1, n) for n in range(inputs)}
    sums = np.sum([np.array(w) for w in sent.values()], axis=0).tolist()
    events = pipeline_events(stages, 4, tuple(sent))
    cycles = check_circuit(lambda: Sum(inputs, stages), sent, {"o": sums}, events, 3)
    assert cycles["o"] == [stages + n for n in range(12)]  # a word a cycle


@pytest.mark.parametrize("stages", [1, 2, 5])
def test_an_elastic_pipeline_closes_its_bubbles_up(stages):
    """It takes a word a stage while its output waits, and with gaps between them too."""
    pipeline = Sum(1, stages)

    async def bench(ctx, reset):
        taken = 0
        for cycle in range(4 * stages + 4):
            ctx.set(pipeline.i_0.valid, cycle % 3 == 0)
            taken += cycle % 3 == 0 and ctx.get(pipeline.i_0.ready)
            await ctx.tick()
        assert taken == stages
        assert ctx.get(pipeline.o.valid)

    simulated(pipeline, bench)


@pytest.mark.parametrize(("offer", "accept"), CHANCES)
def test_two_converters_and_a_buffer_in_a_row_give_the_words_back(offer, accept):
    sent = words(12, 2)
    parts = [Gather(NUMBER, 2, 3), Fifo(layout(6), 2), Scatter(NUMBER, 2, 3)]

    class Row(wiring.Component):
        def __init__(self):
            super().__init__(
                {"i": In(stream.Signature(layout(2))), "o": Out(stream.Signature(layout(2)))}
            )

        def elaborate(self, platform):
            m = Module()
            m.submodules += parts
            wiring.connect(m, wiring.flipped(self.i), parts[0].i)
            wiring.connect(m, parts[0].o, parts[1].i)
            wiring.connect(m, parts[1].o, parts[2].i)
            wiring.connect(m, parts[2].o, wiring.flipped(self.o))
            return m

    found = run(Row(), {"i": sent}, {"o": 12}, offer=offer, accept=accept)
    assert [[int(n) for n in word] for _, word in found["o"]] == sent


@pytest.mark.parametrize("depth", [0, -1])
def test_a_fifo_without_a_word_is_refused(depth):
    with refused(ValueError, f"Fifo depth must be at least 1 word, not {depth}"):
        Fifo(layout(1), depth)


@pytest.mark.parametrize("branches", [1, 0])
def test_a_fork_without_a_choice_is_refused(branches):
    with refused(ValueError, f"Fork branches must be at least 2, not {branches}"):
        Fork(layout(1), branches)


@pytest.mark.parametrize("component", [Gather, Scatter])
def test_a_converter_that_converts_nothing_is_refused(component):
    with refused(ValueError, f"{component.__name__} ratio must be at least 2, not 1"):
        component(NUMBER, 1, 1)


def test_the_events_of_a_fifo_are_those_of_its_definition():
    """Word k comes in when word k - depth has left the cycle before; it leaves a cycle later."""
    for depth in DEPTHS:
        times = Fifo.events(depth, 3).times(5)
        arrived, left = [], []
        for k in range(15):
            ready = left[k - depth] + 1 if k >= depth else 0
            arrived.append(max(ready, arrived[-1] + 1 if arrived else 0))
            left.append(max(arrived[-1] + 1, left[-1] + 1 if left else 0))
        assert times["i"].ravel().tolist() == arrived
        assert times["o"].ravel().tolist() == left
