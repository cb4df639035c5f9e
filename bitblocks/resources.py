# SPDX-License-Identifier: Apache-2.0
"""What a built network costs: estimated without any tool, or counted by yosys and nextpnr."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from bitblocks.errors import InputError
from bitblocks.project import Project, write_result
from blocks import Folded, Lanes, TableLanes, Unrolled
from hdl import Cost, Target
from hdl.cost import Inventory, counter, logic, register

COUNTS = ("lut", "ff", "carry", "dsp", "bram")
"""The counts of every report, in its order."""
OUTSIDE = "streams"
"""What reports call everything between and around the blocks."""


def estimate(directory: str | Path | Project, target: str | None = None) -> dict[str, Any]:
    """LUT, FF, carry, DSP, BRAM, latency and interval, in all and per block, without any tool.

    Members ``target, lut, ff, carry, dsp, bram, latency_cycles, interval_cycles, fmax_mhz`` (here
    None) and ``blocks``, a list. ``target``: another one than it was planned for. Raises
    InputError.
    """
    project = directory if isinstance(directory, Project) else Project.open(directory)
    device = find_target(project, target)
    blocks = block_costs(project, device)
    total = sum((cost for _, cost in blocks), Cost())
    return {
        "target": device.name,
        **_counts(total),
        "latency_cycles": project.latency,
        "interval_cycles": project.interval,
        "fmax_mhz": None,
        "blocks": [{**block, **_counts(cost)} for block, cost in blocks],
    }


def synth(
    directory: str | Path | Project, target: str | None = None, place: bool = False
) -> dict[str, Any]:
    """The members of :func:`estimate` as yosys counts them, and ``estimate`` beside them.

    ``place``: nextpnr finds ``fmax_mhz`` too. The result is kept in ``results/synth.json``.
    Synthesis flattens the design, so the figures in ``blocks`` are the estimated ones.
    Raises InputError, and RuntimeError where a tool is missing or fails.
    """
    from hdl.synthesis import synthesise

    project = directory if isinstance(directory, Project) else Project.open(directory)
    device = find_target(project, target)
    expected = estimate(project, device.name)
    try:
        found = synthesise(project.verilog, project.name, device, place)
    except ValueError as error:
        raise InputError(str(error)) from error
    result = {
        **expected,
        **_counts(found.cost),
        "fmax_mhz": found.fmax_mhz,
        "register_bits": found.cost.register_bits,
        "estimate": {name: expected[name] for name in COUNTS},
    }
    if project.path is not None:
        write_result(project.path, "synth", result)
    return result


def find_target(project: Project, name: str | None) -> Target:
    """The target called ``name``, or the project's own; raises InputError for an unknown one."""
    try:
        return project.target if name is None else Target.named(name)
    except ValueError as error:
        raise InputError(str(error)) from error


def block_costs(project: Project, target: Target) -> list[tuple[dict[str, Any], Cost]]:
    """(name, kind and mapping, cost) of each block, and of what lies between and around them."""
    plan, flat = project.plan, project.network.flat
    found = []
    for node in flat.nodes:
        mapped = plan.plans[node.name]
        about = {"name": node.name, "kind": type(node.block).__name__, "mapping": words(mapped)}
        found.append((about, node.block.cost(mapped, target)))
    around = flat.routing_cost(plan, target) + axi_inventory(project).cost(target)
    found.append(({"name": OUTSIDE, "kind": "", "mapping": ""}, around))
    return found


def axi_inventory(project: Project) -> Inventory:
    """The circuit of the AXI4-Stream top: a counter for each port, the mark, ``frame_error``."""
    ports = (*project.inputs, *project.outputs)
    checks = sum((logic(4) for _ in project.inputs), Inventory())
    if project.network.marked:  # its valid, on the first transfer
        checks += logic((project.inputs[0].transfers - 1).bit_length() + 1)
    return sum((counter(port.transfers) for port in ports), register(1) + checks)


def words(plan: Any) -> str:
    """How a block is mapped, in words."""
    if isinstance(plan, Folded):
        return f"folded {plan.pe} x {plan.simd}"
    if isinstance(plan, Unrolled):
        return "unrolled"
    if isinstance(plan, Lanes | TableLanes):
        return f"{plan.lanes} lane{'s' * (plan.lanes > 1)}"
    return type(plan).__name__.lower()


def _counts(cost: Cost) -> dict[str, int]:
    counts = asdict(cost)
    return {name: counts[name] for name in COUNTS}
