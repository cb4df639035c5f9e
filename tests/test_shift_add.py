# SPDX-License-Identifier: Apache-2.0
"""Adder graphs against the matrices they stand for, their circuits against W @ x and yosys."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from amaranth import Module, Signal
from amaranth.back import rtlil as amaranth_rtlil
from amaranth.sim import Simulator

from hdl import Target, yosys
from hdl.adder_graph import ZERO, Adder, AdderGraph, Output, build_adder_graph
from hdl.shift_add import Pipeline, ShiftAdd
from hdl.synthesis import synthesise_many
from hdl.verilog import verilog

KINDS = ("dense", "sparse", "negative", "equal", "opposite", "powers", "columns", "related", "zero")


def matrix(kind: str, seed: int, most: int = 20, bits: int | None = None) -> np.ndarray:
    """A matrix of 1 to ``most`` rows and columns, of up to 8 bits."""
    random = np.random.default_rng([seed, KINDS.index(kind)])
    rows, columns = random.integers(1, most + 1, 2)
    limit = 1 << int(random.integers(1, 8)) if bits is None else 1 << bits
    weight = random.integers(-limit, limit, (rows, columns))
    if kind == "sparse":
        weight *= random.random(weight.shape) < 0.3
    elif kind == "negative":
        weight = -np.abs(weight)
    elif kind == "equal":
        weight[:] = weight[0]
    elif kind == "opposite":
        weight[rows // 2 :] = -weight[: rows - rows // 2]
    elif kind == "powers":
        places = random.integers(0, columns, rows)
        weight = np.zeros_like(weight)
        weight[range(rows), places] = 1 << random.integers(0, 5, rows)
    elif kind == "columns":
        weight[:, columns // 2 :] = weight[:, :1] << 1
    elif kind == "related":
        for row in range(1, rows):
            weight[row] = weight[row - 1]
            weight[row, random.integers(columns)] += 1 << int(random.integers(0, 4))
    elif kind == "zero":
        weight *= random.random((rows, 1)) < 0.5
    return weight


def intervals(columns: int, seed: int) -> list[tuple[int, int]]:
    """Intervals of inputs: signed, unsigned, lopsided, single numbers, by ``seed``."""
    random = np.random.default_rng(seed)
    if seed % 3 == 0:
        return [(-128, 127)] * columns
    if seed % 3 == 1:
        return [(0, (1 << int(random.integers(1, 9))) - 1)] * columns
    low = random.integers(-40, 5, columns)
    high = low + random.integers(0, 90, columns)
    return list(zip(low.tolist(), high.tolist(), strict=True))


def pipeline(kind: str, seed: int, most: int = 6, bits: int | None = None) -> Pipeline:
    weight = matrix(kind, seed, most, bits)
    graph = build_adder_graph(
        weight, intervals(weight.shape[1], seed), negated=seed % 2 == 1, extra_depth=seed % 3
    )
    return Pipeline(graph, 1 + seed % 3)


def cut(made: Pipeline, seed: int) -> Pipeline:
    """The same with bits of its outputs that nobody reads: below, above, in between."""
    random = np.random.default_rng(seed)
    count = len(made.graph.outputs)
    skipped, kept = random.integers(0, 4, count), random.integers(0, 9, count)
    gaps = random.integers(0, 256, count) * random.integers(0, 2, count)
    cuts = {"skipped": skipped, "kept": kept, "gaps": gaps}
    return replace(made, **{name: tuple(values.tolist()) for name, values in cuts.items()})


@pytest.mark.parametrize("kind", KINDS)
def test_coefficients_equal_the_matrix(kind):
    for seed in range(24):
        weight = matrix(kind, seed, most=20 if seed % 6 == 0 else 9)
        graph = build_adder_graph(weight, intervals(weight.shape[1], seed), negated=seed % 2 == 1)
        assert (graph.matrix() == weight).all()
        if seed % 2 == 0:
            assert not any(output.negate for output in graph.outputs if output)


def test_evaluation_equals_the_product():
    random = np.random.default_rng(1)
    for seed in range(20):
        weight = matrix("dense", seed)
        graph = build_adder_graph(weight, intervals(weight.shape[1], seed))
        x = np.stack([random.integers(a, b + 1, 50) for a, b in graph.inputs], axis=-1)
        np.testing.assert_array_equal(graph.evaluate(x), x @ weight.T)


def test_bounds_are_attained_by_corners_of_the_inputs_and_never_exceeded():
    for seed in range(40):
        weight = matrix("dense", seed, most=4)
        graph = build_adder_graph(weight, intervals(weight.shape[1], seed))
        corners = np.stack(np.meshgrid(*graph.inputs, indexing="ij"), axis=-1)
        corners = corners.reshape(-1, weight.shape[1])
        every_node = AdderGraph(
            graph.inputs,
            graph.adders,
            tuple(Output(node, 0, False) for node in range(len(graph.bounds))),
        )
        values = every_node.evaluate(corners)
        assert list(zip(values.min(axis=0), values.max(axis=0), strict=True)) == list(graph.bounds)
        values = corners @ weight.T
        extremes = list(zip(values.min(axis=0), values.max(axis=0), strict=True))
        assert extremes == list(graph.output_bounds)


def test_no_two_nodes_are_equal_up_to_sign_and_a_power_of_two():
    for seed in range(30):
        weight = matrix("dense", seed, most=12)
        graph = build_adder_graph(weight, [(-8, 7)] * weight.shape[1], negated=True)
        seen = set()
        for row in graph.coefficients():
            joined = int(np.bitwise_or.reduce(row))
            row = row // (joined & -joined)
            assert tuple(row) not in seen
            assert tuple(-row) not in seen
            seen.add(tuple(row))


@pytest.mark.parametrize("extra_depth", [0, 1, 2])
def test_depth_stays_near_the_shortest_possible(extra_depth):
    for kind in ("dense", "related", "sparse"):
        for seed in range(6):
            weight = matrix(kind, seed, most=14)
            graph = build_adder_graph(
                weight, [(-8, 7)] * weight.shape[1], extra_depth=extra_depth, negated=True
            )
            # non-adjacent digits of a, counted apart from the code under test
            digits = [
                sum(bin(3 * abs(w) ^ abs(w)).count("1") for w in row) for row in weight.tolist()
            ]
            shortest = max(max(n - 1, 0).bit_length() for n in digits)
            assert graph.depth <= shortest + extra_depth


@pytest.mark.parametrize(
    ("weight", "adders", "negated_adders"),
    [
        ([[1]], 0, 0),
        ([[0]], 0, 0),
        ([[-4]], 1, 0),
        ([[8, 0], [0, -1]], 1, 0),
        ([[3]], 1, 1),
        ([[-3]], 1, 1),
        ([[1, 2], [1, 2], [4, 8]], 1, 1),
        ([[1, 1], [-1, -1]], 2, 1),
        ([[1, -1], [-1, 1]], 2, 1),
        ([[-1, -1]], 2, 1),
        ([[0, 0], [1, 1]], 1, 1),
        ([[5, 5, 5]], 3, 3),
        ([[2, 2], [3, 3], [7, 7]], 3, 3),
    ],
)
def test_small_matrices_cost_what_they_must(weight, adders, negated_adders):
    inputs = [(-8, 7)] * len(weight[0])
    assert len(build_adder_graph(weight, inputs).adders) == adders
    assert len(build_adder_graph(weight, inputs, negated=True).adders) == negated_adders


def test_numbers_that_do_not_overlap_are_joined_without_adders():
    made = Pipeline(build_adder_graph([[17, 1]], [(0, 15)] * 2))
    assert [(cell.subtract, cell.width) for cell in made.sums] == [
        (False, 9)
    ]  # 17 x0 is two copies of four bits
    made = Pipeline(build_adder_graph([[1, 16]], [(0, 15)] * 2))
    assert made.sums == ()
    assert made.flip_flops == 8


def test_known_numbers_of_a_small_graph():
    made = Pipeline(build_adder_graph([[1, 1], [1, -1]], [(-8, 7)] * 2, extra_depth=0), 1)
    assert made.stages == 1
    assert [(cell.subtract, cell.width) for cell in made.sums] == [(False, 5), (True, 5)]
    assert made.flip_flops == 9  # the lowest bits of sum and difference are one
    assert made.graph.output_bounds == ((-16, 14), (-15, 15))


def test_restarts_never_cost_more():
    for seed in range(4):
        weight = matrix("dense", seed, most=8)
        inputs = [(-128, 127)] * weight.shape[1]
        one = build_adder_graph(weight, inputs)
        many = build_adder_graph(weight, inputs, restarts=5)
        assert many.bits <= one.bits
        assert (many.matrix() == weight).all()


def test_random_matrices_are_shared_as_well_as_measured_before():
    sizes = {}
    for size, bits in ((8, 8), (16, 4), (16, 8)):
        limit = 2 ** (bits - 1) - 1
        weight = np.random.default_rng(0).integers(-limit, limit + 1, (size, size))
        sizes[size, bits] = build_adder_graph(weight, [(-128, 127)] * size).bits
    assert sizes[8, 8] <= 1220
    assert sizes[16, 4] <= 2380
    assert sizes[16, 8] <= 4500


def read(made: Pipeline, values: list[int]) -> list[int]:
    """What y shows of the outputs."""
    if not made.skipped:
        return values
    shown = []
    cuts = made.skipped, made.kept, made.gaps, made.output_shapes
    for value, skip, kept, gap, shape in zip(values, *cuts, strict=True):
        bits = value >> skip & ~gap & (1 << min(kept, shape.width)) - 1
        shown.append(bits - (bits >> shape.width - 1 << shape.width) * shape.signed)
    return shown


def driven(made: Pipeline, seed: int, cycles: int = 40) -> None:
    """Simulate the circuit with random stage enables beside a list of vectors."""
    random = np.random.default_rng(seed)
    low, high = (np.array(ends) for ends in zip(*made.graph.inputs, strict=True))
    weight = made.graph.matrix().astype(np.int64)
    signs = np.array([-1 if output and output.negate else 1 for output in made.graph.outputs])
    m = Module()
    m.submodules.dut = dut = ShiftAdd(made)
    m.d.sync += Signal(name="clocked").eq(1)  # a graph without adders may have no register
    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    compared = 0

    async def bench(ctx):
        nonlocal compared
        held: list[np.ndarray | None] = [None] * made.stages
        for cycle in range(cycles):
            x = random.integers(low, high + 1)
            if cycle % 3 == 0:
                x = np.where(random.random(len(low)) < 0.5, low, high)
            enable = random.random(made.stages) < (0.5 if cycle % 2 else 0.95)
            ctx.set(dut.x, x.tolist())
            ctx.set(dut.enable, sum(1 << stage for stage in np.flatnonzero(enable).tolist()))
            await ctx.tick()
            before = [x, *held]
            held = [before[s] if enable[s] else held[s] for s in range(made.stages)]
            if held[-1] is not None:
                y = [ctx.get(dut.y[n]) for n in range(len(weight))]
                assert y == read(made, (signs * (weight @ held[-1])).tolist())
                compared += 1

    simulator.add_testbench(bench)
    simulator.run()
    assert compared


@pytest.mark.parametrize("kind", KINDS)
def test_circuit_equals_the_product_under_random_enables(kind):
    for seed in range(8):
        driven(pipeline(kind, seed), seed)


@pytest.mark.parametrize("kind", KINDS)
def test_circuit_without_bits_that_nobody_reads_shows_the_others(kind):
    for seed in range(8, 12):
        driven(cut(pipeline(kind, seed), seed), seed, 20)


def test_a_carry_ends_above_two_zeros_and_begins_again():
    """Bits 0 to 3 and 8 to 11 are sums, 4 and 12 take their carries, 5 to 7 are zeros."""
    joins = Adder(0, 1, 0, 8, False), Adder(2, 3, 0, 8, False), Adder(4, 5, 0, 0, False)
    graph = AdderGraph(((0, 15),) * 3 + ((0, 63),), joins, (Output(6, 0, False),))
    made = Pipeline(graph, 1)
    assert (made.stages, made.flip_flops) == (1, 12)
    assert [(cell.subtract, cell.width) for cell in made.sums] == [(False, 15)]
    driven(made, 1, 200)


def test_bits_are_cut_only_above_those_that_are_kept():
    for seed in range(20):
        made = cut(pipeline("dense", seed), seed)
        bounds = made.graph.output_bounds
        for (low, high), skip, kept, shape in zip(
            bounds, made.skipped, made.kept, made.output_shapes, strict=True
        ):
            reach = max(abs(low), abs(high) + 1)
            assert shape.width >= min(kept, (reach - 1 >> skip).bit_length() + 1 - (low >= 0))


def test_flip_flops_equal_synthesis():
    made = {f"graph_{n}": pipeline(KINDS[n % 9], n, 5) for n in range(18)}
    made |= {f"cut_{n}": cut(pipeline(KINDS[n % 9], n, 5), n) for n in range(18, 36)}
    texts = {name: verilog(ShiftAdd(one), name) for name, one in made.items()}
    results = synthesise_many(texts, Target.named("ecp5"))
    assert {n: results[n].ff for n in made} == {n: one.flip_flops for n, one in made.items()}


class Collector:
    """What stands for the platform when RTLIL modules are wanted."""

    def __init__(self) -> None:
        self.rtlil_modules: dict[str, str] = {}


def test_rtlil_module_equals_the_amaranth_circuit(tmp_path):
    for seed in range(3):
        weight = matrix("dense", seed, 3, 2)
        made = Pipeline(build_adder_graph(weight, [(-2, 1 + seed)] * weight.shape[1]), 1 + seed % 2)
        plain = amaranth_rtlil.convert(ShiftAdd(made), name="plain", emit_src=False)
        collector = Collector()
        short = amaranth_rtlil.convert(
            ShiftAdd(made), name="short", platform=collector, emit_src=False
        )
        (name,) = collector.rtlil_modules
        assert re.fullmatch("shift_add_[0-9a-f]{12}", name)
        plain = re.sub(r"\\top\b", r"\\plain", plain)
        folder = tmp_path / str(seed)
        folder.mkdir()
        (folder / "both.il").write_text(plain + short + collector.rtlil_modules[name])
        commands = [
            "read_rtlil both.il",
            "setattr -mod -unset top *",
            "proc",
            "flatten",
            "async2sync",
            "miter -equiv -flatten -make_outputs plain short miter",
            "hierarchy -top miter",
            "sat -verify -prove trigger 0 -seq 6 -set-init-zero miter",
        ]
        yosys.run(commands, folder)


def test_the_same_arguments_give_the_same_graph_under_any_hash_seed():
    code = (
        "import numpy as np\n"
        "from hdl.adder_graph import build_adder_graph\n"
        "from hdl.shift_add import Pipeline, rtlil\n"
        "w = np.random.default_rng(5).integers(-100, 100, (9, 12))\n"
        "g = build_adder_graph(w, [(-8, 7)] * 12, restarts=2)\n"
        "print(g, rtlil(Pipeline(g)))\n"
    )
    texts = []
    for seed in ("0", "1", "77"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path.cwd())}
        run = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        texts.append(run.stdout)
    assert texts[0]
    assert texts[0] == texts[1] == texts[2]


def test_dropping_bits_that_are_not_zero_is_refused():
    graph = AdderGraph(((0, 3),) * 2, (Adder(0, 1, 0, 0, False, 1),), (Output(2, 0, False),))
    with pytest.raises(
        ArithmeticError, match=r"^AdderGraph node 2 must drop only bits that are 0$"
    ):
        graph.coefficients()


def test_a_negation_is_a_subtraction_from_zero():
    graph = build_adder_graph([[-1]], [(0, 3)])
    assert graph.adders == (Adder(ZERO, 0, 0, 0, True),)
    assert graph.output_bounds == ((-3, 0),)


@pytest.mark.parametrize(
    ("weight", "inputs", "kind", "message"),
    [
        ([[0.5]], [(0, 1)], TypeError, "AdderGraph weight must be integers, not float64"),
        (
            [1, 2],
            [(0, 1)],
            ValueError,
            r"AdderGraph weight must have shape \(outputs, inputs\), not \(2,\)",
        ),
        (
            np.zeros((2, 0), int),
            [],
            ValueError,
            r"AdderGraph weight must have shape \(outputs, inputs\), not \(2, 0\)",
        ),
        (
            [[1, 2]],
            [(0, 1)],
            ValueError,
            "AdderGraph inputs must be 2 intervals, one for each column, not 1",
        ),
        (
            [[1]],
            [(3, 2)],
            ValueError,
            r"AdderGraph inputs must run from low to high, not \(3, 2\)",
        ),
        (
            [[1 << 40]],
            [(0, 1 << 20)],
            ValueError,
            rf"AdderGraph sums must stay below 2\*\*59, not reach {1 << 60}",
        ),
    ],
)
def test_wrong_arguments_are_refused(weight, inputs, kind, message):
    with pytest.raises(kind, match=f"^{message}$"):
        build_adder_graph(weight, inputs)


def test_stages_without_adders_are_refused():
    graph = build_adder_graph([[1]], [(0, 1)])
    with pytest.raises(ValueError, match=r"^Pipeline adders_per_stage must be at least 1, not 0$"):
        Pipeline(graph, 0)
