# SPDX-License-Identifier: Apache-2.0
"""What the commands print."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bitblocks.resources import COUNTS

if TYPE_CHECKING:
    from bitblocks.building import Built
    from bitblocks.verification import Verification

NARROWEST = 100
"""Columns that a table may take where the output is no terminal."""


def show_build(built: "Built") -> None:
    """The table of blocks, what is proven of their functions, and where the Verilog lies."""
    table = _table("block", "kind", "output", "weights", "mapping", *COUNTS, "SNR dB")
    for row in built.rows:
        ratio = "exact" if row["exact"] else row["signal_to_noise"]
        formats = (row["output_format"], row["weight_format"])
        counts = [row[name] for name in COUNTS]
        _row(table, row["name"], row["kind"], *formats, row["mapping"], *counts, ratio)
    project = built.project
    table.add_section()
    total = [sum(row[name] for row in built.rows) for name in COUNTS]
    _row(table, "total", "", "", "", project.target.name, *total, "")
    console = _console()
    console.print(table)
    for row in built.rows:
        if row["proof"] is not None:
            console.print(_plain(f"{row['name']}: {row['proof']}"), soft_wrap=True)
    cycles = f"latency {project.latency} cycles, interval {project.interval} cycles"
    console.print(Text(f"{project.name}: {cycles}"))
    if project.path is not None:
        console.print(Text(f"Verilog in {project.path / 'rtl' / project.name}.v"), soft_wrap=True)


def show_verification(outcome: "Verification") -> None:
    """What was compared, and whether it is equal."""
    table = _table("", "predicted", "measured")
    _row(table, "frames", outcome.frames, outcome.frames)
    _row(table, "frames that differ", 0, outcome.frames_that_differ)
    _row(table, "latency (cycles)", outcome.latency_predicted, outcome.latency_measured)
    _row(table, "interval (cycles)", outcome.interval_predicted, outcome.interval_measured)
    console = _console()
    console.print(table)
    verdict = "equals" if outcome.passed else "differs from"
    told = f"{outcome.words} words and {outcome.cycles} cycles in {outcome.simulator}"
    console.print(Text(f"The Verilog {verdict} its model: {told}"))


def show_figures(figures: dict[str, Any]) -> None:
    """Resources by block and in all, the synthesised ones beside the estimate."""
    table = _table("block", "kind", "mapping", *COUNTS)
    for block in figures["blocks"]:
        counts = [block[name] for name in COUNTS]
        _row(table, block["name"], block["kind"], block["mapping"], *counts)
    table.add_section()
    target = figures["target"]
    expected = figures.get("estimate", figures)
    _row(table, "estimated", "", target, *(expected[name] for name in COUNTS))
    if "estimate" in figures:
        _row(table, "synthesised", "", target, *(figures[name] for name in COUNTS))
    console = _console()
    console.print(table)
    told = f"latency {figures['latency_cycles']} cycles, interval {figures['interval_cycles']}"
    speed = figures["fmax_mhz"]
    console.print(Text(f"{told} cycles" + ("" if speed is None else f", {speed} MHz")))


def show_tools(tools: Sequence[Any]) -> None:
    """Every tool, its version, what needs it, how to get it."""
    table = _table("tool", "version", "needed for", "to get it", numbers=False)
    for tool in tools:
        remedy = "" if tool.version is not None else tool.how_to_get_it
        _row(table, tool.name, tool.version or "missing", tool.needed_for, remedy)
    _console().print(table)


def _table(*names: str, numbers: bool = True) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    words = ("block", "kind", "output", "weights", "mapping", "")
    for name in names:
        wide = name in words or not numbers
        table.add_column(name, justify="left" if wide else "right", overflow="fold")
    return table


def _row(table: Table, *cells: Any) -> None:
    """Cells as plain text: names may hold anything."""
    table.add_row(*(_plain("" if cell is None else str(cell)) for cell in cells))


def _plain(text: str) -> Text:
    return Text("".join(c if c.isprintable() else ascii(c)[1:-1] for c in text))


def _console() -> Console:
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=NARROWEST)
    return console
