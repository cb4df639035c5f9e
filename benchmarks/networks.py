# SPDX-License-Identifier: Apache-2.0
"""The networks of the demo from model file to Verilog that equals the model: time and memory.

Run: python -m benchmarks.networks [network ...]
"""

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from examples.demo import examine
from examples.networks import NETWORKS


@dataclass(frozen=True)
class Limits:
    """Most seconds of a build, of the Verilog in it, and of the verification of all its frames.

    They are of a machine that does nothing else, so the lesser of time and processor time counts.
    """

    build: float = 60.0
    verilog: float = 60.0
    verify: float = 120.0


LIMITS = {
    **dict.fromkeys(
        ("two_layer_pytorch", "three_layer_pytorch", "three_layer_keras"), Limits(10.0, 5.0)
    ),
    **dict.fromkeys(
        (
            "two_layer_pytorch_unrolled",
            "three_layer_pytorch_unrolled",
            "three_layer_keras_unrolled",
        ),
        Limits(40.0, 15.0),
    ),
    "copy_ntm": Limits(verify=300.0),  # 7 million cycles
    "lstm_s": Limits(120.0),  # three hundred ways to fold its 60,000 weights
}
"""Of networks that are promised to take less than others."""
MEMORY = 2.0
"""Most GiB of the largest process."""


@dataclass
class Clock:
    """When each step began: seconds, and seconds of processor time with those of ended children."""

    steps: dict[str, tuple[float, float]] = field(default_factory=dict)

    def __call__(self, step: str) -> None:
        self.steps[step] = time.perf_counter(), sum(os.times()[:4])

    def between(self, first: str, last: str) -> tuple[float, float]:
        """Seconds, and seconds of processor time, from the begin of one step to that of another.

        A step is named by how it begins.
        """
        ends = [
            next(times for step, times in self.steps.items() if step.startswith(name))
            for name in (first, last)
        ]
        (start, worked), (end, done) = ends
        return end - start, done - worked


def measure(name: str, folder: Path) -> tuple[list[str], bool]:
    """The row of the table for a network, built in ``folder``, and whether all is as it must be."""
    example, limits, clock = NETWORKS[name], LIMITS.get(name, Limits()), Clock()
    outcome = examine(example, folder, clock)
    clock("done")
    cells, missed = [], bool(outcome.problems)
    for first, last, most in (
        ("reading the model", "running", limits.build),
        ("writing the Verilog", "writing the test bench", limits.verilog),
        ("computing", "done", limits.verify),
    ):
        seconds, work = clock.between(first, last)
        missed |= min(seconds, work) > most
        cells += [f"{seconds:.1f} ({work:.1f})", f"{most:g}"]
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    memory = max(resource.getrusage(kind).ru_maxrss for kind in kinds) / 2**20
    missed |= memory > MEMORY
    figures = f"{outcome.float_figure:.4f}, {outcome.fixed_figure:.4f}"
    checked = outcome.checked
    compared = f"{checked.frames_that_differ} of {checked.frames}"
    verdict = "; ".join(outcome.problems) or ("MISSED" if missed else "met")
    interval = f"{checked.interval_measured:g}" if checked.interval_measured else ""
    return [name, figures, compared, interval, *cells, f"{memory:.2f}", verdict], missed


def main() -> int:
    """Print the table; returns 1 where a limit is missed or integers differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", nargs="*", help=", ".join(NETWORKS))
    names = parser.parse_args().network or list(NETWORKS)
    if unknown := [name for name in names if name not in NETWORKS]:
        parser.error(f"network must be one of {', '.join(NETWORKS)}, not {unknown[0]}")
    console, failed = Console(width=140), False
    table = Table("network", "float, fixed", "differ", "cycles")
    for what in ("build", "Verilog", "verify"):
        for column in (f"{what} s (CPU)", "limit"):
            table.add_column(column, justify="right")
    table.add_column("GiB", justify="right")
    table.add_column("figures")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BITBLOCKS_CACHE"] = str(Path(folder) / "cache")  # nothing compiled before
        for name in names:
            if NETWORKS[name].missing:
                console.print(f"skipped {name}: {NETWORKS[name].missing}")
                continue
            # in a process of its own, whose memory is its own
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                cells, missed = pool.apply(measure, (name, Path(folder) / name))
            console.log(*cells)
            table.add_row(*cells)
            failed |= missed
    console.print(table)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
