# SPDX-License-Identifier: Apache-2.0
"""How busy the multipliers of recurrent layers are, in simulation, and how fast their models run.

And how soon a jet is told from others by the shape of the known top-tagging LSTM, with its clock as
placed, which takes a quarter of an hour: --place.

Run: python benchmarks/recurrent.py [--place]
"""

import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # read when numpy is first imported

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.utilisation import run
from blocks import (
    Add,
    Lanes,
    Linear,
    Mul,
    Network,
    NetworkPlan,
    Node,
    Nonlinearity,
    Prompt,
    Recur,
    TableLanes,
    Tensor,
    Unrolled,
    gru,
    lstm,
)
from blocks.planner import choices, chosen_candidates, mapped
from hdl import Target, synthesise, verilog
from quant import FUNCTIONS, Approximation, Format, candidates

TARGET = Target.named("ecp5")
STEPS, FRAMES = 12, 3
BUSY, INTERLEAVED = 0.9, 0.97
# kind, units (and inputs), streams, units at a time behind the matrices, pe x simd of each matrix
LAYERS = (
    ("lstm", 32, 1, 1, {"sums": (64, 1)}),
    ("lstm", 32, 1, 1, {"sums": (128, 1)}),
    ("lstm", 64, 1, 2, {"sums": (64, 2)}),
    ("lstm", 32, 2, 1, {"sums": (32, 2)}),
    ("gru", 32, 1, 4, {"x_sums": (32, 1), "h_sums": (32, 1)}),
    ("gru", 64, 1, 2, {"x_sums": (48, 1), "h_sums": (48, 1)}),
    ("gru", 32, 2, 1, {"x_sums": (24, 1), "h_sums": (24, 1)}),
)
SEQUENCES = 8192
LEAST_SEQUENCES, LEAST_STEPS = 60_000, 20_000
"""A second, of an LSTM of 28 inputs, 20 units and 28 steps; single steps likewise."""
ROUNDS = 8
TAGGER_CYCLES, TAGGER_MICROSECONDS = 200, 2.0
"""Most, from the first word of a sequence to its result."""
TAGGER_TARGET = replace(TARGET, device="LFE5UM5G-85F", speed_grade=8)

NUMBER, GATE = Format(8, 7), Format(8, 8, signed=False)


def table(name: str, source: Format, target: Format) -> Approximation:
    """The function as one look-up, a stage."""
    forms = candidates(FUNCTIONS[name], source, target, degrees=(0,))
    return next(form for form in forms if form.symmetry is None)


def layer(kind: str, steps: int, inputs: int, units: int, streams: int = 1, **loop) -> Network:
    """A recurrent layer without a weight that is 0, so that every product counts."""
    random = np.random.default_rng(0)
    gates = 4 if kind == "lstm" else 3
    shapes = (gates, units, inputs), (gates, units, units)
    matrices = [random.integers(1, 100, s) * random.choice([-1, 1], s) for s in shapes]
    bias = random.integers(-500, 500, (gates, units))
    shape = (steps, inputs) if streams == 1 else (steps, streams, inputs)
    parts = Tensor(shape, NUMBER), *matrices, bias, NUMBER, NUMBER, Format(8, 5), GATE
    if kind == "lstm":
        return lstm(*parts, NUMBER, Format(10, 6), NUMBER, choose=table, **loop)
    return gru(*parts, NUMBER, choose=table, **loop)


def folded(network: Network, at_once: int, matrices: dict[str, tuple[int, int]]) -> NetworkPlan:
    """The plan in which the matrices of the loop are folded so."""
    loop = network.nodes[0].block
    known = choices(loop.cell, TARGET)
    chosen = chosen_candidates(loop.cell, known, TARGET, 10**6)
    for name, own in known.items():
        if name in matrices:
            pe, simd = matrices[name]
            chosen[name] = next(c for c in own if f"pe={pe}, simd={simd}," in repr(c.plan))
        else:
            turns = loop.tensor("h").size // at_once
            chosen[name] = next((c for c in own if c.interval == turns), chosen[name])
    inner = loop.roomy(loop.with_lanes(mapped(loop.cell, chosen)))
    lanes = loop.lanes(inner)
    return NetworkPlan({"loop": inner}, lanes, {"loop.i": 2}, {"loop.i": "registers"})


def utilisation(console: Console) -> bool:
    """Print how busy the multipliers of matrices are; True where they are not busy enough."""
    shown = Table("layer", "streams", "pe x simd", "multipliers", "cycles a step", "utilisation")
    missed = False
    for number, (kind, units, streams, at_once, matrices) in enumerate(LAYERS):
        network = layer(kind, STEPS, units, units, streams)
        loop: Recur = network.nodes[0].block
        random = np.random.default_rng(1)
        x = random.integers(-128, 128, (FRAMES + 1, *network.inputs["i"].shape))
        found, _ = run(f"{kind}_{number}", network, folded(network, at_once, matrices), x)
        ends = found.frame_cycles["o"]
        cycles = float(ends[-1] - ends[0]) / FRAMES / loop.rounds
        multipliers = sum(pe * simd for pe, simd in matrices.values())
        work = sum(n.block.weight.size for n in loop.cell.nodes if isinstance(n.block, Linear))
        busy = work / multipliers / cycles
        missed |= busy < (BUSY if streams == 1 else INTERLEAVED)
        folding = ", ".join(f"{pe} x {simd}" for pe, simd in matrices.values())
        name = f"{kind}, {units} to {units}"
        row = folding, str(multipliers), f"{cycles:.1f}", f"{busy:.2%}"
        shown.add_row(name, str(streams), *row)
    console.print(shown)
    return missed


def speed(console: Console) -> bool:
    """Print how fast the models are; True where they are not fast enough."""
    network = layer("lstm", 28, 28, 20, sequences=(), finals=("h",))
    x = np.random.default_rng(2).integers(-128, 128, (SEQUENCES, 28, 28))
    np.testing.assert_array_equal(network.run(x)[:64], network.reference(x[:64]))
    session = layer("lstm", 1, 28, 20, kept=True).session()
    seconds, of_steps = [], []
    for _ in range(ROUNDS):  # the best, since the machine may be busy
        start = time.perf_counter()
        network.run(x)
        seconds.append(time.perf_counter() - start)
        start = time.perf_counter()
        for frame in x[0, :, None].repeat(20, axis=0):
            session.step(frame)
        of_steps.append(time.perf_counter() - start)
    found = SEQUENCES / min(seconds), 28 * 20 / min(of_steps)
    shown = Table("LSTM, 28 to 20", "a second", "wanted")
    shown.add_row("sequences of 28 steps, many at once", f"{found[0]:,.0f}", f"{LEAST_SEQUENCES:,}")
    shown.add_row("single steps of a session", f"{found[1]:,.0f}", f"{LEAST_STEPS:,}")
    console.print(shown)
    return found[0] < LEAST_SEQUENCES or found[1] < LEAST_STEPS


def tagger() -> Network:
    """20 steps of 6 numbers through 20 units, then 64 neurons and one, all in 6 to 9 bits.

    Source: E. E. Khoda et al., Ultra-low latency recurrent neural network inference on FPGAs for
    physics applications with hls4ml, 2022 (https://arxiv.org/abs/2207.00559), of the shape; weights
    are random, most of them small as of a trained network
    """
    random = np.random.default_rng(0)
    units = 20

    def weights(*shape: int) -> np.ndarray:
        return np.rint(random.normal(0, 9, shape)).clip(-32, 31).astype(np.int64)

    matrices = [weights(4, units, 6), weights(4, units, units)]
    biases = [random.integers(-500, 500, shape) for shape in ((4, units), 64, 1)]
    x, hidden, score = Format(8, 6), Format(8, 5, signed=False), Format(8, 4)
    state, gate, sums, cells = Format(6, 5), Format(6, 6, signed=False), Format(7, 4), Format(9, 5)
    parts = Tensor((20, 6), x), *matrices, biases[0], state, state, sums, gate, state, cells
    layer = lstm(*parts, state, choose=table, sequences=(), finals=("h",))
    dense = [weights(64, units), weights(1, 64)]
    first = Linear(Tensor((units,), state), dense[0], biases[1], state, hidden)
    last = Linear(Tensor((64,), hidden), dense[1], biases[2], state, score)
    result = Nonlinearity(Tensor((1,), score), table("sigmoid", score, GATE))
    nodes = (
        Node("lstm", layer, ("x",)),
        Node("hidden", first, ("lstm",)),
        Node("score", last, ("hidden",)),
        Node("y", result, ("score",)),
    )
    return Network({"x": Tensor((20, 6), x)}, nodes, {"y": "y"})


def prompt(network: Network) -> NetworkPlan:
    """All units at once, few registers in the loop, and no long way for whether words may go on.

    A step takes six cycles: the entry, two stages of sums of h, the gates, the cell, its tanh.
    What is not in the loop has more registers.
    """
    loop = network.flat.node("lstm.loop").block
    units = loop.tensor("h").size
    ends = "c_tanh.i", "kept.i_b"

    def of(node: Node) -> Any:
        size = next(iter(node.block.outputs.values())).size
        if node.name == "h_sums":
            return Unrolled(adders_per_stage=3, narrow_stages=0, held=True)
        if isinstance(node.block, Linear):
            return Unrolled(adders_per_stage=2, narrow_stages=1, held=True)
        if isinstance(node.block, Add | Mul):
            return Prompt(size, 0)
        return (TableLanes if isinstance(node.block, Nonlinearity) else Lanes)(min(size, units))

    def buffers(network: Network) -> dict[str, int]:
        names = (route.name for route in network.routes if network.buffered(route))
        return {name: 2 * (name in ends) for name in names}

    plans = {node.name: of(node) for node in loop.cell.nodes}
    lanes = {"i_x": 6, "i_h": units, "i_c": units, "o_h": units, "o_c": units}
    depths = buffers(loop.cell)
    inner = NetworkPlan(plans, lanes, depths, dict.fromkeys(depths, "registers"))
    plans = {node.name: of(node) for node in network.flat.nodes if node.name != "lstm.loop"}
    depths = buffers(network)
    styles = dict.fromkeys(depths, "registers")
    return NetworkPlan({"lstm.loop": inner, **plans}, {"i": 6, "o": 1}, depths, styles)


def latency(console: Console, place: bool) -> bool:
    """Print how long the tagger takes; True where that is too long."""
    network = tagger()
    plan = prompt(network)
    graph = network.timing(plan)
    schedule = graph.schedule([graph.port("i")], [graph.port("o")])
    x = np.random.default_rng(1).integers(-128, 128, (FRAMES + 1, 20, 6))
    found, _ = run("tagger", network, plan, x)
    ends = found.frame_cycles["o"]
    simulated = found.latency, float(ends[-1] - ends[0]) / FRAMES
    if simulated != (schedule.latency, schedule.interval):
        raise SystemExit(f"tagger takes {simulated} cycles, not as predicted")
    shown = Table("top-tagging LSTM", "found", "wanted")
    shown.add_row("latency, cycles", f"{schedule.latency}", f"{TAGGER_CYCLES}")
    shown.add_row("interval, cycles", f"{schedule.interval:g}", f"{TAGGER_CYCLES}")
    shown.add_row("look-up tables, estimated", f"{network.cost(plan, TARGET).lut:,}", "")
    missed = schedule.latency > TAGGER_CYCLES
    if place:
        clock = synthesise(
            verilog(network.rtl(plan), "tagger"), "tagger", TAGGER_TARGET, place=True
        ).fmax_mhz
        assert clock is not None
        microseconds = schedule.latency / clock
        missed |= microseconds > TAGGER_MICROSECONDS
        shown.add_row(f"clock on {TAGGER_TARGET.device}, MHz", f"{clock:.1f}", "")
        shown.add_row("latency, microseconds", f"{microseconds:.2f}", f"{TAGGER_MICROSECONDS:g}")
    console.print(shown)
    return missed


def main() -> int:
    """Print all tables; returns 1 where a figure is not met."""
    console = Console(width=110)
    missed = [utilisation(console), speed(console), latency(console, "--place" in sys.argv[1:])]
    return int(any(missed))


if __name__ == "__main__":
    sys.exit(main())
