# SPDX-License-Identifier: Apache-2.0
"""From a model, or a network made in Python, to a build directory."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bitblocks import precision as precision_file
from bitblocks.errors import InputError
from bitblocks.files import check_folder, read_arrays
from bitblocks.graph import Graph
from bitblocks.onnx_import import import_onnx
from bitblocks.project import (
    Layouts,
    Project,
    foreign,
    pretty,
    project_ports,
    write_project,
    write_verilog,
)
from bitblocks.quantisation import LayerReport, Report, quantise
from bitblocks.resources import COUNTS, estimate
from bitblocks.verification import design_of, random_frames, random_marks, user_of
from blocks import Network, NetworkPlan, Nonlinearity, plan
from hdl import Target, legal_name
from hdl.names import RESERVED
from quant import Format, Overflow, Rounding

DEFAULT_TARGET = "ecp5"
BENCH_FRAMES = 8
"""Frames in the vectors of the test bench that travels with a design."""

LAST_STEP = "writing the build directory"
"""What ``progress`` of :func:`build` is told before the folder appears in one step."""


@dataclass(frozen=True)
class Built:
    """A build: the project, what was decided, and one row of its table per block.

    Parameters
    ----------
    report : of the quantisation, None for a network that was integers from the start
    rows : name, kind, output_format, weight_format, mapping, counts, signal_to_noise, exact, and
        the proof of a function of one variable
    """

    project: Project
    report: Report | None
    rows: tuple[dict[str, Any], ...]


def build(
    model: str | Path | Graph | Network,
    output: str | Path | None = None,
    *,
    calibration: Any = None,
    weight_bits: int = 8,
    activation_bits: int = 8,
    input_format: Format | str | Mapping[str, Format | str] | None = None,
    rounding: Rounding | str = Rounding.RND,
    overflow: Overflow | str = Overflow.SAT,
    precision: str | Path | Mapping[str, Any] | None = None,
    interval: int | None = None,
    unroll: bool = False,
    mapping: NetworkPlan | None = None,
    cut: str | Sequence[str] | None = None,
    batch: bool = True,
    target: str = DEFAULT_TARGET,
    name: str | None = None,
    force: bool = False,
    progress: Callable[[str], None] = lambda step: None,
) -> Built:
    """Import, quantise and plan ``model``, write its Verilog, and the build directory ``output``.

    Parameters
    ----------
    model : an ONNX file, a float graph, or a Network of integers, whose numbers are settled
    output : folder to write, whole or not at all; nothing is written without one
    calibration : frames, or a .npy or .npz file of them; see :func:`bitblocks.quantise`
    interval, unroll : see :func:`blocks.plan`
    mapping : the plan of a Network, instead of one that is searched for
    cut : tensors before which the model ends
    batch : whether axis 0 of the model is the batch, else a frame is all of an input
    name : of the Verilog's top module; else made from the file's name
    force : replace a build directory that exists
    progress : told what comes next

    Raises InputError for everything that is wrong about what was given.
    """
    if interval is not None and unroll:
        raise InputError("interval and unroll must not be given together")
    if mapping is not None and (interval is not None or unroll or not isinstance(model, Network)):
        raise InputError("mapping must be given with a Network alone")
    if output is not None:
        check_folder(Path(output).resolve(), force, foreign)
    try:
        device = Target.named(target)
    except ValueError as error:
        raise InputError(str(error)) from error
    top = _top_name(model, name)
    report: Report | None = None
    layouts: Layouts = {}
    if isinstance(model, Network):
        network = model
    else:
        graph = model
        if not isinstance(graph, Graph):
            progress("reading the model")
            graph = import_onnx(graph, cut, batch)
        if isinstance(calibration, str | Path):
            calibration = read_arrays(calibration, "calibration data")
        progress("quantising")
        network, report = quantise(
            graph,
            calibration,
            weight_bits,
            activation_bits,
            input_format,
            rounding,
            overflow,
            precision,
        )
        layouts = {
            (number, port.name): (port.shape, port.axes)
            for number, ports in enumerate((graph.inputs, graph.outputs))
            for port in ports
        }
    progress("planning")
    try:
        mapped = mapping or plan(network, device, interval, unroll)
    except ValueError as error:  # an interval that no plan meets
        raise InputError(str(error)) from error
    timing = network.timing(mapped)
    schedule = timing.schedule(
        [timing.port(port) for port in network.inputs],
        [timing.port(port) for port in network.outputs],
    )
    inputs, outputs = project_ports(network, mapped, layouts)
    project = Project(
        top,
        device,
        network,
        mapped,
        inputs,
        outputs,
        schedule.latency,
        _whole(schedule.interval),
    )
    progress("writing the Verilog")
    project.__dict__["verilog"] = write_verilog(project)
    built = Built(project, report, _rows(project, report))
    if output is None:
        return built
    contents = project.contents()
    if report is not None:
        contents["precision.json"] = precision_file.text(report.precision).encode()
    contents["results/build.json"] = pretty({"blocks": list(built.rows)}).encode()
    progress("writing the test bench")
    contents |= bench_files(project)
    progress(LAST_STEP)
    write_project(contents, output, force)
    placed = replace(project, path=Path(output))
    return replace(built, project=placed)


def bench_files(project: Project) -> dict[str, bytes]:
    """The self-checking test bench with its vectors, by path in the build directory."""
    from sim.testbench import verilog_testbench

    batch = random_frames(project, BENCH_FRAMES, 0)
    marks = random_marks(BENCH_FRAMES, 0)
    words = []
    expected = project.reference(batch, marks)
    for ports, frames in ((project.inputs, batch), (project.outputs, expected)):
        words.append({port.port: port.words(f) for port, f in zip(ports, frames, strict=True)})
    bench = verilog_testbench(
        design_of(project),
        *words,
        frames=BENCH_FRAMES,
        user=user_of(project, marks, 0),
        flags=("frame_error",),
        limit=1000 + 100 * BENCH_FRAMES * (project.latency + math.ceil(project.interval)),
    )
    return {f"tb/{name}": text.encode() for name, text in bench.items()}


def _top_name(model: str | Path | Graph | Network, name: str | None) -> str:
    """A legal name for the top module."""
    if name is None:
        stem = Path(model).stem if isinstance(model, str | Path) else "network"
        return legal_name(stem, set())
    if legal_name(name, set()) != name or name.lower() in RESERVED:
        raise InputError(
            "name must be letters, digits and single underscores, a letter first, "
            f"and no keyword, not {name!r}"
        )
    return name


def _whole(number: float) -> int | float:
    return int(number) if number == int(number) else number


def _rows(project: Project, report: Report | None) -> tuple[dict[str, Any], ...]:
    """The table of blocks: formats, mapping, cost, and the signal-to-noise ratio after each."""
    layers: dict[str, LayerReport] = {}
    if report is not None:
        layers = {layer.name: layer for layer in report.layers}
    blocks = {node.name: node.block for node in project.network.flat.nodes}
    rows = []
    for entry in estimate(project)["blocks"]:
        block, layer = blocks.get(entry["name"]), layers.get(entry["name"])
        formats: dict[str, str | None] = {"output_format": None, "weight_format": None}
        if block is not None:
            formats["output_format"] = str(next(iter(block.outputs.values())).format)
            weight_format = getattr(block, "weight_format", None)
            formats["weight_format"] = None if weight_format is None else str(weight_format)
        ratio = None
        if layer is not None and math.isfinite(layer.signal_to_noise):
            ratio = round(layer.signal_to_noise, 1)
        rows.append(
            {
                "name": entry["name"],
                "kind": entry["kind"],
                **formats,
                "mapping": entry["mapping"],
                **{count: entry[count] for count in COUNTS},
                "signal_to_noise": ratio,
                "exact": layer is not None and layer.signal_to_noise == math.inf,
                "proof": block.form.statement() if isinstance(block, Nonlinearity) else None,
            }
        )
    return tuple(rows)
