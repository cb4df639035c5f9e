# SPDX-License-Identifier: Apache-2.0
"""Time of the schedules that a planner compares while it sizes the buffers of a large network."""

import sys
import time

from rich.console import Console
from rich.table import Table

from hdl import Events, Fifo, Fork, Gather, Scatter, pipeline_events

LAYERS, WORDS, LANES = 6, 3200, 8
DEPTHS = range(8, 208, 2)
FIRINGS = 100_000
AIM = 10.0
"""Most seconds for a schedule of at least ``FIRINGS`` firings a frame for each of ``DEPTHS``."""


def network(depth: int) -> Events:
    """Layers in a row, each of them slow, with a way around it that holds ``depth`` words."""
    graph = Events()
    graph.event("i", WORDS)
    start, groups = "i", WORDS // LANES
    for n in range(LAYERS):
        layer, around, end = f"layer_{n}", f"around_{n}", f"sum_{n}" if n < LAYERS - 1 else "o"
        graph.include(Fork.events(2, WORDS), rename={"i": start, "o_0": layer, "o_1": around})
        graph.include(Fifo.events(2, WORDS), rename={"i": layer, "o": f"{layer}.words"})
        graph.include(
            Gather.events(LANES, groups), rename={"i": f"{layer}.words", "o": f"{layer}.i"}
        )
        graph.include(pipeline_events(5, groups), f"{layer}.")
        graph.serial(f"{layer}.o", 6 + n)
        graph.include(Scatter.events(LANES, groups), rename={"i": f"{layer}.o", "o": f"{layer}.y"})
        graph.include(Fifo.events(2, WORDS), rename={"i": f"{layer}.y", "o": end})
        graph.include(Fifo.events(depth, WORDS), rename={"i": around, "o": end})
        start = end
    return graph


def main() -> int:
    """Print the table; returns 1 where it takes too long."""
    network(DEPTHS[0]).schedule(["i"], ["o"])  # compiled now, if it was not
    began, intervals = time.perf_counter(), set()
    for depth in DEPTHS:
        graph = network(depth)
        intervals.add(graph.schedule(["i"], ["o"]).interval)
    seconds, firings = time.perf_counter() - began, sum(graph.firings.values())
    table = Table("schedules", "firings a frame", "shortest interval", "seconds", "aim")
    figures = (f"{len(DEPTHS)}", f"{firings:,}", f"{min(intervals):g}", f"{seconds:.1f}")
    table.add_row(*figures, f"{AIM:.0f}")
    Console().print(table)
    return int(seconds > AIM or firings < FIRINGS)


if __name__ == "__main__":
    sys.exit(main())
