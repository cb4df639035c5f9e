# SPDX-License-Identifier: Apache-2.0
"""Estimated resources beside those that yosys counts: catalogue configurations and the demo.

Look-up tables are compared in designs above 200 of them; multipliers, block RAMs and flip-flops
must be equal in every design (on Xilinx register bits, wherever the tool puts them, and flip-flops
within 3 %); of what is composed of other blocks the flip-flops are an upper bound, 10 % at most
above. Run: python -m benchmarks.cost [--configurations N]
"""

import argparse
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "digits"))
from data import calibration

from bitblocks import build
from bitblocks.resources import block_costs
from blocks.catalogue import CATALOGUE
from hdl import Cost, Target, synthesise_many, verilog

TARGETS = ("ecp5", "xilinx7")
CONFIGURATIONS = 8
LARGE = 200  # look-up tables
MEDIAN, WORST = 0.15, 0.40
COMPOSED_SHARE = 0.9
MODEL = Path(__file__).parents[1] / "examples" / "digits" / "digits.onnx"


@dataclass(frozen=True)
class Compared:
    """One design, estimated and counted."""

    name: str
    estimate: Cost
    found: Cost
    composed: bool

    @property
    def error(self) -> float:
        """Of the look-up tables, relative to those that were counted."""
        return (self.estimate.lut - self.found.lut) / self.found.lut

    def ff_differ(self, target: Target) -> bool:
        """Whether flip-flops are other than estimated."""
        if self.composed:
            share = self.found.register_bits / max(self.estimate.register_bits, 1)
            return not COMPOSED_SHARE <= share <= 1
        if not target.name.startswith("xilinx"):
            return self.estimate.ff != self.found.ff
        elsewhere = abs(self.estimate.ff - self.found.ff) > 0.03 * self.found.ff
        return elsewhere or self.estimate.register_bits != self.found.register_bits


@dataclass(frozen=True)
class Batch:
    """Designs, their Verilog and their estimates by name."""

    target: Target
    verilog: dict[str, str]
    estimates: dict[str, Cost]
    composed: frozenset[str] = frozenset()

    def compared(self) -> list[Compared]:
        """Estimates beside counts."""
        found = synthesise_many(self.verilog, self.target)
        return [
            Compared(name, cost, found[name].cost, name in self.composed)
            for name, cost in self.estimates.items()
        ]


def demo(unroll: bool, target: Target) -> Batch:
    """The network of handwritten digits."""
    name = "digits_unrolled" if unroll else "digits_folded"
    built = build(MODEL, calibration=calibration(), unroll=unroll, target=target.name, name=name)
    project = built.project
    estimate = sum((cost for _, cost in block_costs(project, target)), Cost())
    return Batch(target, {name: project.verilog}, {name: estimate})


def catalogue(kind: str, count: int, target: Target) -> Batch:
    """Configurations of a block; those that are wires alone leave nothing to compare."""
    entry = CATALOGUE[kind]
    texts: dict[str, str] = {}
    estimates: dict[str, Cost] = {}
    for n in range(count):
        made = entry.configuration(n)
        estimate = made.block.cost(made.plan, target)
        if estimate != Cost():
            name = f"{kind}_{n}"  # Gate and gate are two kinds
            estimates[name] = estimate
            texts[name] = verilog(made.block.rtl(made.plan), name)
    composed = frozenset(estimates if entry.composed else ())
    return Batch(target, texts, estimates, composed)


def compared(count: int, console: Console) -> dict[str, list[Compared]]:
    """All designs by target, the longest runs first, as many at once as there are targets."""
    targets = [Target.named(name) for name in TARGETS]
    batches = [demo(True, target) for target in targets]
    batches += [demo(False, target) for target in targets]
    batches += [catalogue(kind, count, target) for kind in CATALOGUE for target in targets]
    results: dict[str, list[Compared]] = {name: [] for name in TARGETS}
    with ThreadPoolExecutor(len(targets)) as pool:
        runs = [pool.submit(batch.compared) for batch in batches]
        waiting = track(zip(batches, runs, strict=True), "synthesis", len(batches), console=console)
        for batch, run in waiting:
            results[batch.target.name] += run.result()
    return results


def main() -> int:
    """Print the tables; returns 1 where a limit is missed or a count is not equal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configurations", type=int, default=CONFIGURATIONS, help="of each block")
    console = Console(width=100)
    results = compared(parser.parse_args().configurations, console)
    table = Table(title=f"limits: LUT median {MEDIAN:.0%}, worst {WORST:.0%}; all others equal")
    for column in (
        "target",
        "designs",
        f"above {LARGE} LUT",
        "LUT median",
        "LUT worst",
        "worst is",
    ):
        table.add_column(column)
    for column in ("DSP differ", "BRAM differ", "FF differ"):
        table.add_column(column, justify="right")
    details = Table("target", "design", "LUT", "", "DSP", "", "BRAM", "", "FF", "")
    details.title = "the demo and what differs: estimated, counted"
    missed = False
    for name, designs in results.items():
        target = Target.named(name)
        large = [design for design in designs if design.found.lut > LARGE]
        errors = [abs(design.error) for design in large]
        worst = max(large, key=lambda design: abs(design.error))
        dsp = [design for design in designs if design.estimate.dsp != design.found.dsp]
        bram = [design for design in designs if design.estimate.bram != design.found.bram]
        ff = [design for design in designs if design.ff_differ(target)]
        median = statistics.median(errors)
        missed |= median > MEDIAN or max(errors) > WORST or bool(dsp or bram or ff)
        figures = f"{median:.1%}", f"{worst.error:+.1%}", worst.name
        differing = (str(len(some)) for some in (dsp, bram, ff))
        table.add_row(name, str(len(designs)), str(len(large)), *figures, *differing)
        shown = [design for design in designs if design in dsp + bram + ff]
        shown += [design for design in large if abs(design.error) > WORST]
        shown += [design for design in designs if design.name.startswith("digits")]
        for design in dict.fromkeys(shown):
            pairs = zip(
                *(
                    [getattr(cost, count) for count in ("lut", "dsp", "bram", "ff")]
                    for cost in (design.estimate, design.found)
                ),
                strict=True,
            )
            details.add_row(name, design.name, *(str(n) for pair in pairs for n in pair))
    console.print(details)
    console.print(table)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
