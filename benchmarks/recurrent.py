# SPDX-License-Identifier: Apache-2.0
"""How busy the multipliers of recurrent layers are, in simulation, and how fast their models run.

Run: python benchmarks/recurrent.py
"""

import os
import sys
import time
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # read when numpy is first imported

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.utilisation import run
from blocks import Linear, Network, NetworkPlan, Recur, Tensor, gru, lstm
from blocks.planner import choices, chosen_candidates, mapped
from hdl import Target
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


def main() -> int:
    """Print both tables; returns 1 where a figure is not met."""
    console = Console(width=110)
    missed = [utilisation(console), speed(console)]
    return int(any(missed))


if __name__ == "__main__":
    sys.exit(main())
