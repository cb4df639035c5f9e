# SPDX-License-Identifier: Apache-2.0
"""The AXI4-Stream top: packing, tlast, frame errors, cycles."""

import random
import re

import numpy as np
import pytest
from amaranth import Module, Value, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator
from verilog_bench import lint

import bitblocks
import hdl
from bitblocks.resources import axi_inventory
from blocks import Tensor, rnn
from hdl import synthesise, verilog
from hdl.axi import AxiStreamPort, AxiTop
from quant import Format

S5, U9, S12 = Format(5, 2), Format(9, 0, signed=False), Format(12, 4)


class Join(wiring.Component):
    """One register: o_sum = i_a[0] + i_b in lane 0, i_a[1] in lane 1; o_flag = i_a[0] < 0."""

    def __init__(self):
        super().__init__(
            {
                "i_a": In(stream.Signature(data.ArrayLayout(signed(5), 2))),
                "i_b": In(stream.Signature(data.ArrayLayout(unsigned(9), 1))),
                "o_sum": Out(stream.Signature(data.ArrayLayout(signed(12), 2))),
                "o_flag": Out(stream.Signature(unsigned(1))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        done = (~self.o_sum.valid | self.o_sum.ready) & (~self.o_flag.valid | self.o_flag.ready)
        both = self.i_a.valid & self.i_b.valid
        m.d.comb += [self.i_a.ready.eq(done & both), self.i_b.ready.eq(done & both)]
        with m.If(self.o_sum.ready):
            m.d.sync += self.o_sum.valid.eq(0)
        with m.If(self.o_flag.ready):
            m.d.sync += self.o_flag.valid.eq(0)
        with m.If(done & both):
            first, second = self.i_a.payload
            m.d.sync += [
                self.o_sum.valid.eq(1),
                self.o_flag.valid.eq(1),
                self.o_sum.payload[0].eq(first + self.i_b.payload[0]),
                self.o_sum.payload[1].eq(second),
                self.o_flag.payload.eq(first < 0),
            ]
        return m


class Slice(wiring.Component):
    """A register for one stream of ``lanes`` elements."""

    def __init__(self, shape, lanes=1):
        signature = stream.Signature(data.ArrayLayout(shape, lanes))
        super().__init__({"i": In(signature), "o": Out(signature)})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.i.ready.eq(~self.o.valid | self.o.ready)
        with m.If(self.i.ready):
            m.d.sync += [self.o.valid.eq(self.i.valid), self.o.payload.eq(self.i.payload)]
        return m


def join_top():
    inputs = {"x": AxiStreamPort("i_a", S5, 2, 3), "module": AxiStreamPort("i_b", U9, 1, 3)}
    outputs = {
        "sum": AxiStreamPort("o_sum", S12, 2, 3),
        "flag": AxiStreamPort("o_flag", Format(1, 0, signed=False), 1, 2),
    }
    return AxiTop(Join(), inputs, outputs)


def slice_top(format, lanes, transfers):
    shape = (signed if format.signed else unsigned)(format.width)
    port = AxiStreamPort("i", format, lanes, transfers)
    back = AxiStreamPort("o", format, lanes, transfers)
    return AxiTop(Slice(shape, lanes), {"x": port}, {"y": back})


def play(top, words, cycles, stalls=0.0, seed=0):
    """Offer (tdata, tlast) words; (tdata, tlast, cycle) per output, frame_error per cycle."""
    chance = random.Random(seed)
    taken = dict.fromkeys(words, 0)
    offers = dict.fromkeys(words, False)
    got = {prefix: [] for prefix in top.output_prefixes.values()}
    errors = []

    async def bench(ctx):
        ctx.set(top.aresetn, 0)
        await ctx.tick()
        ctx.set(top.aresetn, 1)
        for cycle in range(cycles):
            for prefix, queue in words.items():
                left = taken[prefix] < len(queue)
                offers[prefix] = left and (offers[prefix] or chance.random() >= stalls)
                ctx.set(getattr(top, f"{prefix}_tvalid"), offers[prefix])
                if left:
                    tdata, tlast = queue[taken[prefix]]
                    ctx.set(getattr(top, f"{prefix}_tdata"), tdata)
                    ctx.set(getattr(top, f"{prefix}_tlast"), tlast)
            for prefix in got:
                ctx.set(getattr(top, f"{prefix}_tready"), chance.random() >= stalls)
            errors.append(ctx.get(top.frame_error))
            for prefix in words:
                if offers[prefix] and ctx.get(getattr(top, f"{prefix}_tready")):
                    taken[prefix] += 1
                    offers[prefix] = False
            for prefix, found in got.items():
                tvalid, tready = getattr(top, f"{prefix}_tvalid"), getattr(top, f"{prefix}_tready")
                if ctx.get(tvalid) and ctx.get(tready):
                    tdata = ctx.get(getattr(top, f"{prefix}_tdata"))
                    found.append((tdata, ctx.get(getattr(top, f"{prefix}_tlast")), cycle))
            await ctx.tick()

    simulator = Simulator(top)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return got, errors


def test_ports_are_named_and_sized_as_the_contract_says():
    one = slice_top(S12, 3, 4).signature.members
    assert {
        name: Value.cast(getattr(slice_top(S12, 3, 4), name)).shape().width for name in one
    } == {
        "aclk": 1,
        "aresetn": 1,
        "s_axis_tdata": 48,
        "s_axis_tvalid": 1,
        "s_axis_tready": 1,
        "s_axis_tlast": 1,
        "m_axis_tdata": 48,
        "m_axis_tvalid": 1,
        "m_axis_tready": 1,
        "m_axis_tlast": 1,
        "frame_error": 1,
    }
    several = list(join_top().signature.members)
    assert several[2] == "s_axis_x_tdata"
    assert several[6] == "s_axis_module_tdata"
    assert several[-5:-1] == [
        f"m_axis_flag_{name}" for name in ("tdata", "tvalid", "tready", "tlast")
    ]


@pytest.mark.parametrize("stalls", [0.0, 0.5])
def test_elements_are_extended_to_bytes_and_pad_bits_ignored(stalls):
    draw = random.Random(7)
    a, b, sums, flags, low, high = [], [], [], [], -(1 << 4), (1 << 4) - 1
    for n in range(12):
        first, second = draw.choice([low, high, 0, -1]), draw.randint(low, high)
        other = draw.choice([0, 511, 300])
        pads = draw.getrandbits(6)
        word = (first & 31) | (pads & 7) << 5 | (second & 31) << 8 | (pads >> 3) << 13
        a.append((word, n % 3 == 2))
        b.append((other | pads << 9, n % 3 == 2))
        sums.append((((first + other) & 0xFFFF) | (second & 0xFFFF) << 16, n % 3 == 2))
        flags.append((int(first < 0), n % 2 == 1))
    words = {"s_axis_x": a, "s_axis_module": b}
    got, errors = play(join_top(), words, 200, stalls)
    assert [(word, bool(last)) for word, last, _ in got["m_axis_sum"]] == sums
    assert [(word, bool(last)) for word, last, _ in got["m_axis_flag"]] == flags
    assert not any(errors)


def test_nothing_is_added_to_the_latency():
    got, _ = play(slice_top(S5, 1, 4), {"s_axis": [(n, n == 3) for n in range(4)]}, 8)
    assert [cycle for _, _, cycle in got["m_axis"]] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("lasts", "wrong"),
    [
        ("001001001", None),
        ("001000001", 5),
        ("011001001", 1),
        ("001001101", 6),
        ("000", 2),
        ("100", 0),
    ],
)
@pytest.mark.parametrize("stalls", [0.0, 0.6])
def test_a_misplaced_tlast_is_told_until_reset(lasts, wrong, stalls):
    top = slice_top(S5, 1, 3)
    words = [(n, last == "1") for n, last in enumerate(lasts)]
    got, errors = play(top, {"s_axis": words}, 60, stalls, seed=3)
    assert [last for _, last, _ in got["m_axis"]] == [int(n % 3 == 2) for n in range(len(lasts))]
    if wrong is None:
        assert not any(errors)
    else:
        first = errors.index(1)
        assert all(errors[first:])
        if not stalls:
            assert first == wrong + 1


def test_frames_of_one_transfer_end_with_every_transfer():
    got, errors = play(slice_top(S5, 1, 1), {"s_axis": [(n, 1) for n in range(5)]}, 12)
    assert [last for _, last, _ in got["m_axis"]] == [1] * 5
    assert not any(errors)
    _, errors = play(slice_top(S5, 1, 1), {"s_axis": [(1, 1), (1, 0), (1, 1)]}, 12)
    assert errors.index(1) == 2


def test_reset_clears_the_counters_and_the_error():
    top = slice_top(S5, 1, 3)
    seen = []

    async def bench(ctx):
        ctx.set(top.m_axis_tready, 1)
        for resetn, tvalid, tlast in [
            *[(0, 0, 0), (1, 1, 1), (1, 1, 0), (0, 1, 0)],  # an error, then reset in mid-frame
            *[(1, 1, 0), (1, 1, 0), (1, 1, 1), (1, 0, 0), (1, 0, 0)],
        ]:
            ctx.set(top.aresetn, resetn)
            ctx.set(top.s_axis_tvalid, tvalid)
            ctx.set(top.s_axis_tlast, tlast)
            transfer = ctx.get(top.m_axis_tvalid)
            seen.append((ctx.get(top.frame_error), transfer and ctx.get(top.m_axis_tlast)))
            await ctx.tick()

    simulator = Simulator(top)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert [error for error, _ in seen] == [0, 0, 1, 1, 0, 0, 0, 0, 0]
    assert [last for _, last in seen] == [0, 0, 0, 0, 0, 0, 0, 1, 0]


def test_verilog_of_tops_is_free_of_lint(tmp_path):
    for name, top in {"one": slice_top(S5, 3, 4), "several": join_top()}.items():
        text = hdl.verilog(top, name)
        (tmp_path / f"{name}.v").write_text(text)
        assert lint(tmp_path, f"{name}.v") == ""
        ports = re.findall(r"(?:input|output)(?: reg)? (?:\[\d+:0\] )?(\w+)", text.split(");")[0])
        assert ports == list(top.signature.members)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: AxiStreamPort(3, S5, 1, 1), TypeError, "stream_name must be a string, not int"),
        (lambda: AxiStreamPort("i", "s5", 1, 1), TypeError, "format must be a Format, not str"),
        (lambda: AxiStreamPort("i", S5, 1.0, 1), TypeError, "lanes must be an integer, not float"),
        (lambda: AxiStreamPort("i", S5, 0, 1), ValueError, "lanes must be at least 1, not 0"),
        (
            lambda: AxiStreamPort("i", S5, 1, -2),
            ValueError,
            "transfers_per_frame must be at least 1, not -2",
        ),
    ],
)
def test_wrong_ports_are_refused(make, error, message):
    with pytest.raises(error, match=f"^AxiStreamPort {message}$"):
        make()


def test_ports_that_do_not_fit_the_component_are_refused():
    good = AxiStreamPort("o", S5, 1, 1)
    with pytest.raises(
        ValueError, match=r"^AxiTop input x must be a stream of the component, not 'z'$"
    ):
        AxiTop(Slice(signed(5)), {"x": AxiStreamPort("z", S5, 1, 1)}, {"y": good})
    with pytest.raises(ValueError, match=r"^AxiTop input x must be an input of the component$"):
        AxiTop(Slice(signed(5)), {"x": good}, {"y": good})
    message = r"^AxiTop input x must have as many bits as the stream, 5, not 10$"
    with pytest.raises(ValueError, match=message):
        AxiTop(Slice(signed(5)), {"x": AxiStreamPort("i", S5, 2, 1)}, {"y": good})


@pytest.mark.parametrize("kept", [False, True], ids=["frames", "marked frames"])
def test_the_top_costs_what_synthesis_counts_beside_its_network(kept):
    number, sums = Format(6, 3), Format(8, 3)
    weight, recurrent = np.arange(-4, 4).reshape(2, 4), np.array([[6, 1], [2, 3]])
    formats = number, number, sums, sums
    x = Tensor((3, 4), number)
    layer = rnn(x, weight, recurrent, np.array([0, 3]), *formats, activation="relu", kept=kept)
    project = bitblocks.build(layer, None, interval=64).project
    target = project.target
    whole = synthesise(project.verilog, project.name, target).cost
    inside = synthesise(verilog(project.network.rtl(project.plan), "core"), "core", target).cost
    price = axi_inventory(project).cost(target)
    assert price.ff == whole.ff - inside.ff
    assert abs(price.lut - (whole.lut - inside.lut)) <= 4
