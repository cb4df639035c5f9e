# SPDX-License-Identifier: Apache-2.0
"""Whole windows of a stream of pixels: exact, to the cycle, for all that can be unrolled."""

import itertools

import numpy as np
import pytest
from amaranth import ClockDomain, Module
from amaranth.sim import Simulator
from circuit_check import check_circuit
from refusal import refused

from hdl import Axis, Raster, RasterWindow, Target, can_unroll, synthesise_many, verilog
from quant import Format

NUMBER = Format(6, 0)
RANDOM = range(18)
SAME = {"before": 1, "after": 1}


def random_axes(seed):
    random = np.random.default_rng(seed)
    axes = []
    while len(axes) < 1 + seed % 3:
        size, kernel, stride, dilation = random.integers(1, (6, 4, 4, 3)).tolist()
        axis = Axis(size, kernel, stride, dilation, *random.integers(0, (3, 4)).tolist())
        if can_unroll([axis]):
            axes.append(axis)
    return axes


CASES = {
    "one pixel": ([Axis(1, 1)], 1, 0),
    "one pixel, padded": ([Axis(1, 3, **SAME)] * 2, 2, 0),
    "row": ([Axis(5, 3)], 1, 0),
    "row, padded": ([Axis(5, 3, **SAME)], 2, -5),
    "same size": ([Axis(4, 3, **SAME), Axis(5, 3, **SAME)], 2, 0),
    "valid": ([Axis(4, 3), Axis(5, 3)], 1, 0),
    "pooling": ([Axis(4, 2, 2), Axis(6, 2, 2)], 2, 0),
    "pooling that leaves a rest": ([Axis(5, 2, 2), Axis(7, 2, 2)], 1, 0),
    "stride 2, padded": ([Axis(6, 3, 2, 1, 1, 1), Axis(5, 3, 2, 1, 1, 1)], 1, 7),
    "stride beyond the kernel": ([Axis(7, 2, 3), Axis(7, 2, 4)], 1, 0),
    "dilation": ([Axis(5, 2, 1, 3, 1, 2), Axis(7, 3, 1, 2, 2, 2)], 1, 0),
    "dilation beyond the frame": ([Axis(2, 2, 1, 4, 3, 2), Axis(3, 2, 1, 4, 2, 4)], 1, 0),
    "column": ([Axis(6, 3, **SAME), Axis(1, 1)], 2, 0),
    "column in a padded row": ([Axis(6, 3, **SAME), Axis(1, 3, **SAME)], 2, 0),
    "last tap never inside": ([Axis(1, 2, 1, 2, 1, 2), Axis(4, 2)], 1, 0),
    "far padding": ([Axis(2, 3, 1, 1, 2, 4), Axis(3, 3, 1, 1, 2, 5)], 1, 0),
    "volume": ([Axis(3, 2), Axis(3, 3, **SAME), Axis(4, 2)], 1, 0),
    "volume, padded": ([Axis(3, 3, **SAME)] * 3, 1, 0),
    "volume, strides": ([Axis(4, 2, 2), Axis(3, 2, 2, 1, 1, 1), Axis(4, 3, 2, 1, 1, 1)], 1, 1),
} | {f"random {seed}": (random_axes(seed), 1 + seed % 2, seed % 4) for seed in RANDOM}
every_case = pytest.mark.parametrize(("axes", "channels", "fill"), CASES.values(), ids=CASES)


def windows(frame, axes, fill):
    """Every window of a frame, number by number."""
    for position in itertools.product(*(range(axis.windows) for axis in axes)):
        window = []
        for tap in itertools.product(*(range(axis.kernel) for axis in axes)):
            place = tuple(
                p * axis.stride + t * axis.dilation - axis.before
                for p, t, axis in zip(position, tap, axes, strict=True)
            )
            inside = all(0 <= p < axis.size for p, axis in zip(place, axes, strict=True))
            window += frame[place].tolist() if inside else [fill] * frame.shape[-1]
        yield window


def frames_of(axes, channels, fill, frames):
    random = np.random.default_rng(5)
    shape = (frames, *(axis.size for axis in axes), channels)
    x = random.integers(NUMBER.min, NUMBER.max + 1, shape)
    y = [window for frame in x for window in windows(frame, axes, fill)]
    return x.reshape(-1, channels).tolist(), y


def test_positions_are_counted_as_everywhere():
    assert Axis(28, 3, **SAME).windows == 28
    assert Axis(28, 2, 2).windows == 14
    assert Axis(7, 3, 2, 2, 1, 0).windows == 2
    assert Axis(2, 3).windows == 0


@every_case
def test_windows_and_cycles(axes, channels, fill):
    design = Raster(axes, channels, NUMBER, fill)
    x, y = frames_of(axes, channels, fill, 3)
    check_circuit(lambda: RasterWindow(design), {"i": x}, {"o": y}, design.events(), 3)


@pytest.mark.parametrize("name", ["same size", "pooling", "dilation", "volume, padded"])
@pytest.mark.parametrize("styles", [["registers"] * 2, ["registers", "block"]], ids="+".join)
def test_rows_and_slices_may_be_registers(name, styles):
    axes, channels, fill = CASES[name]
    design = Raster(axes, channels, NUMBER, fill, styles)
    x, y = frames_of(axes, channels, fill, 3)
    check_circuit(lambda: RasterWindow(design), {"i": x}, {"o": y}, design.events(), 3)


@every_case
def test_a_frame_takes_a_cycle_a_pixel_and_a_few_for_the_lower_padding(axes, channels, fill):
    design = Raster(axes, channels, NUMBER, fill)
    assert design.events().schedule(["i"], ["o"]).interval == design.steps


def reads(axes, channels, share):
    """Which numbers of a window are read, at random."""
    taps = np.prod([axis.kernel for axis in axes])
    return np.random.default_rng(taps).random(taps * channels) < share


@pytest.mark.parametrize("share", [0.0, 0.2, 0.6])
@pytest.mark.parametrize("name", ["same size", "row", "volume, padded", "dilation", "pooling"])
def test_numbers_that_nobody_reads_are_left_out(name, share):
    axes, channels, fill = CASES[name]
    read = reads(axes, channels, share)
    design = Raster(axes, channels, NUMBER, fill, read=read)
    x, y = frames_of(axes, channels, fill, 3)
    y = np.where(read, y, fill).tolist()
    check_circuit(lambda: RasterWindow(design), {"i": x}, {"o": y}, design.events(), 3)


def test_what_is_not_read_is_not_kept():
    axes = [Axis(9, 3), Axis(20, 3)]
    corner = np.zeros((3, 3, 2), bool)
    corner[2, 2, 1] = True
    assert Raster(axes, 2, NUMBER, read=corner.ravel()).memories() == {}
    corner[1, 0, 0] = True
    assert Raster(axes, 2, NUMBER, read=corner.ravel()).memories() == {0: (20, 6)}


def test_windows_without_lower_padding_leave_at_the_rate_of_pixels():
    assert Raster([Axis(28, 3), Axis(28, 3)], 1, NUMBER).steps == 28 * 28
    assert Raster([Axis(28, 2, 2), Axis(28, 2, 2)], 1, NUMBER).steps == 28 * 28
    assert Raster([Axis(28, 3, **SAME), Axis(28, 3, **SAME)], 1, NUMBER).steps == 28 * 28 + 29


def test_memories_hold_rows_and_the_slices_that_are_needed():
    plane = Raster([Axis(28, 3, **SAME), Axis(20, 3, **SAME)], 3, NUMBER)
    assert plane.memories() == {0: (20, 2 * 3 * 6)}
    volume = Raster([Axis(9, 3), Axis(8, 2), Axis(7, 3)], 1, NUMBER)
    assert volume.memories() == {0: (56, 2 * 6), 1: (7, 1 * 3 * 6)}
    dilated = Raster([Axis(28, 3, 1, 2), Axis(20, 3, 1, 2)], 1, NUMBER)
    assert dilated.memories() == {0: (40, 2 * 6)}


@pytest.mark.parametrize("name", ["same size", "valid", "volume, padded", "pooling"])
@pytest.mark.parametrize("at", [1, 4, 9, 17])
def test_a_reset_in_the_middle_of_a_frame_begins_anew(name, at):
    axes, channels, fill = CASES[name]
    window = RasterWindow(Raster(axes, channels, NUMBER, fill))
    x, y = frames_of(axes, channels, fill, 2)
    given = []

    async def bench(ctx):
        ctx.set(window.i.valid, 1)
        ctx.set(window.i.payload, [15] * channels)
        ctx.set(window.o.ready, at % 2)
        for _ in range(at):
            await ctx.tick()
        ctx.set(domain.rst, 1)
        await ctx.tick()
        ctx.set(domain.rst, 0)
        assert not ctx.get(window.o.valid)
        ctx.set(window.o.ready, 1)
        place = 0
        while len(given) < len(y):
            ctx.set(window.i.valid, place < len(x))
            ctx.set(window.i.payload, x[min(place, len(x) - 1)])
            if ctx.get(window.o.valid):
                payload = ctx.get(window.o.payload)
                given.append([payload[n] for n in range(len(y[0]))])
            place += place < len(x) and ctx.get(window.i.ready)
            await ctx.tick()

    top = Module()
    top.domains.sync = domain = ClockDomain()
    top.submodules.window = window
    simulator = Simulator(top)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert given == y


@pytest.mark.parametrize("target", ["ecp5", "xilinx7"])
def test_inventory_equals_synthesis(target):
    target = Target.named(target)
    styles = itertools.cycle(["registers", "distributed", "block"])
    names = [name for name in CASES if name not in ("one pixel", *map("random {}".format, RANDOM))]
    made = {}
    for n, name in enumerate(names):
        axes, channels, fill = CASES[name]
        chosen = [next(styles) for _ in axes[1:]]
        made[f"case_{n}"] = Raster(axes, channels, NUMBER, fill, chosen)
        if n % 3 == 0:
            read = reads(axes, channels, 0.5)
            made[f"part_{n}"] = Raster(axes, channels, NUMBER, fill, ["block"] * 2, read)
    texts = {name: verilog(RasterWindow(d), name) for name, d in made.items()}
    counted = synthesise_many(texts, target)
    for name, design in made.items():
        estimate, found = design.inventory().cost(target), counted[name].cost
        assert (estimate.register_bits, estimate.ff) == (found.register_bits, found.ff), design.axes
        assert estimate.bram == found.bram, design.axes
        if found.lut > 200:
            assert abs(estimate.lut - found.lut) <= 0.4 * found.lut, (estimate, found)


@pytest.mark.parametrize(
    "axis",
    [Axis(2, 3), Axis(5, 3, before=3), Axis(5, 1, before=1), Axis(5, 3, after=-1)],
    ids=["no window", "far before", "one tap", "cut"],
)
def test_what_cannot_be_unrolled_is_refused(axis):
    assert not can_unroll([Axis(5, 3), axis])
    with refused(
        ValueError, f"Raster axes must be such that can_unroll holds, not {[Axis(5, 3), axis]}"
    ):
        Raster([Axis(5, 3), axis], 1, NUMBER)


@pytest.mark.parametrize("seed", range(40))
def test_whatever_can_be_unrolled_is(seed):
    """Large random frames, by their event graph."""
    random = np.random.default_rng(seed)
    axes = []
    while len(axes) < 2:
        size, kernel, stride, dilation = random.integers(1, (14, 6, 4, 4)).tolist()
        axis = Axis(size, kernel, stride, dilation, *random.integers(0, (8, 8)).tolist())
        if can_unroll([axis]):
            axes.append(axis)
    design = Raster(axes, 1, NUMBER)
    times = design.events().times(2)
    assert np.diff(times["o"].ravel()).min(initial=1) >= 1
    assert (times["o"][1] - times["o"][0] == design.steps).all()
