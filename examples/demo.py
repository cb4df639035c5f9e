# SPDX-License-Identifier: Apache-2.0
"""From a trained network to Verilog that equals its fixed-point model bit for bit."""

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import bitblocks
from bitblocks.project import Project
from bitblocks.resources import COUNTS
from blocks import Network
from examples.networks import NETWORKS, Example

NUMBERS = 2**22
"""Most numbers of a tensor that the float network works on at once."""


@dataclass(frozen=True)
class Outcome:
    """What was found about a network.

    Parameters
    ----------
    project : as it was built
    compared : frames that the figures are about
    float_figure, fixed_figure : of the metric
    checked : the Verilog against the model
    """

    example: Example
    project: Project
    compared: int
    float_figure: float
    fixed_figure: float
    checked: bitblocks.Verification

    @property
    def problems(self) -> list[str]:
        """A sentence for everything that is not as it must be."""
        found, metric = list(self.checked.problems), self.example.metric
        if not self.fixed_figure >= self.float_figure - metric.loss:
            found.append(
                f"{metric.name} must be at most {metric.loss:g} below {self.float_figure:.4f} "
                f"in fixed point, not {self.fixed_figure:.4f}"
            )
        return found


def float_outputs(graph: bitblocks.Graph, x: NDArray[Any]) -> NDArray[Any]:
    """The only output of the float network for frames in the model's layout, in stream order."""
    largest = max(int(np.prod(shape)) for shape in graph.shapes.values())
    size = max(1, NUMBERS // largest)
    parts = (bitblocks.evaluate(graph, x[n : n + size]) for n in range(0, len(x), size))
    return np.concatenate([part[graph.outputs[0].source] for part in parts])


def examine(
    example: Example, output: Path, progress: Callable[[str], None] = lambda step: None
) -> Outcome:
    """Build ``example`` into the folder ``output``, compare it with its float network, verify it.

    ``progress`` is told what comes next.
    """
    data = example.data()
    progress("reading the model")
    options = dict(example.options)
    model: bitblocks.Graph | Network
    if example.composed is None:
        model = graph = example.read()
        options["calibration"] = data.calibration
    else:
        model = example.composed.network()
        options["mapping"] = example.composed.mapping(model)
    built = bitblocks.build(
        model,
        output,
        name=example.model.stem.replace("-", "_"),
        force=True,
        progress=progress,
        **options,
    )
    project = built.project
    progress(f"running {len(data.x)} frames through both models")
    if example.composed is None:
        (port,) = project.outputs
        wanted = port.from_stream(float_outputs(graph, data.x))
    else:
        wanted = example.composed.floats(data.x)
    target = wanted if data.target is None else data.target
    figures = (example.metric.of(y, data.x, target) for y in (wanted, project.run(data.x)))
    float_figure, fixed_figure = figures
    checked = bitblocks.verify(project, data=data.x, frames=example.frames, progress=progress)
    return Outcome(example, project, len(data.x), float_figure, fixed_figure, checked)


def table(outcome: Outcome, counted: Mapping[str, Any]) -> Table:
    """All of it, and the resources that :func:`bitblocks.synth` has ``counted``."""
    project, checked = outcome.project, outcome.checked
    table = Table(title=f"{project.name}, {outcome.compared} frames, {project.target}")
    for name, justify in (("", "left"), ("float", "right"), ("fixed point", "right")):
        table.add_column(name, justify=justify)
    figures = (outcome.float_figure, outcome.fixed_figure)
    table.add_row(outcome.example.metric.name, *(f"{figure:.4f}" for figure in figures))
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
        table.add_row(name.upper(), str(counted["estimate"][name]), str(counted[name]))
    return table


def main() -> int:
    """Build, check and synthesise; 0 if every figure, frame and cycle is as it must be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", choices=NETWORKS, nargs="?", default="digits")
    parser.add_argument("--output", type=Path, default=Path("build/demo"), help="build directory")
    arguments = parser.parse_args()
    example, output = NETWORKS[arguments.network], arguments.output
    if example.missing:
        parser.error(example.missing)
    began = time.perf_counter()
    console = Console(highlight=False, width=100)

    def progress(step: str) -> None:
        console.print(f"{time.perf_counter() - began:5.1f} s  {step}")

    outcome = examine(example, output, progress)
    progress("synthesising")
    console.print(table(outcome, bitblocks.synth(outcome.project)))
    console.print(f"Verilog: {output / 'rtl' / outcome.project.name}.v, bench: {output / 'tb'}")
    for problem in outcome.problems:
        console.print(problem, style="red", markup=False)
    progress("done")
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
