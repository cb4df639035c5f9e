# SPDX-License-Identifier: Apache-2.0
"""Handwritten digits, from the trained network to Verilog that equals its model bit for bit."""

import argparse
import sys
import time
from pathlib import Path

from data import calibration, digits
from rich.console import Console
from rich.table import Table

import bitblocks
from bitblocks.resources import COUNTS

MODEL = Path(__file__).with_name("digits.onnx")
FRAMES = 200


def main() -> int:
    """Build, check and synthesise; 0 if every frame is equal and the cycles are as predicted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="build directory to write")
    output = parser.parse_args().output
    began = time.perf_counter()
    console = Console(highlight=False, width=100)

    def progress(step: str) -> None:
        console.print(f"{time.perf_counter() - began:5.1f} s  {step}")

    _, (images, labels) = digits()
    built = bitblocks.build(MODEL, output, calibration=calibration(), force=True, progress=progress)
    project = built.project
    progress(f"running {len(images)} held-out digits through both models")
    graph = bitblocks.import_onnx(MODEL)
    logits = bitblocks.evaluate(graph, images)[graph.outputs[0].source]
    float_accuracy = (logits.argmax(axis=1) == labels).mean()
    fixed_accuracy = (bitblocks.run(project, images).argmax(axis=1) == labels).mean()
    checked = bitblocks.verify(project, data=images, frames=FRAMES, progress=progress)
    progress("synthesising")
    counted = bitblocks.synth(project)
    expected = counted["estimate"]

    table = Table(title=f"{len(labels)} held-out digits, {project.target}")
    for name, justify in (("", "left"), ("float", "right"), ("fixed point", "right")):
        table.add_column(name, justify=justify)
    table.add_row("accuracy", f"{float_accuracy:.4f}", f"{fixed_accuracy:.4f}")
    table.add_section()
    table.add_row("", "model", "Verilog", style="bold")
    table.add_row("frames compared", str(checked.frames), str(checked.frames))
    table.add_row("frames that differ", "", str(checked.frames_that_differ))
    table.add_section()
    table.add_row("", "predicted", "measured", style="bold")
    for what in ("latency", "interval"):
        values = (getattr(checked, f"{what}_{seen}") for seen in ("predicted", "measured"))
        table.add_row(f"{what} (cycles)", *map(str, values))
    table.add_section()
    table.add_row("", "estimated", "synthesised", style="bold")
    for name in COUNTS:
        table.add_row(name.upper(), str(expected[name]), str(counted[name]))
    console.print(table)
    console.print(f"Verilog: {output / 'rtl' / project.name}.v, bench: {output / 'tb'}")
    for problem in checked.problems:
        console.print(problem, style="red", markup=False)
    progress("done")
    return 0 if checked.passed else 1


if __name__ == "__main__":
    sys.exit(main())
