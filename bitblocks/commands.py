# SPDX-License-Identifier: Apache-2.0
"""The commands; each is one call of the function of the same name and what it prints."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from bitblocks.command import DIFFERENT, say, settle
from bitblocks.errors import InputError

app = typer.Typer(
    help="From trained networks to fixed-point models and Verilog that equals them bit for bit.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="Build directory.")]
Target = Annotated[
    str | None,
    typer.Option(metavar="T", help="ecp5, ice40, gowin, xilinx7 or xilinxup; else the build's."),
]
Json = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write the figures here too.")
]


def _option(metavar: str, help: str) -> Any:
    return typer.Option(metavar=metavar, help=help)


@app.command()
def build(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="Trained network.")],
    output: Annotated[Path, _option("DIR", "Build directory to write.")],
    calibrate: Annotated[
        Path | None, _option("X.npy", "Frames that the ranges of numbers are taken from.")
    ] = None,
    weight_bits: Annotated[int, _option("N", "Width of the weights.")] = 8,
    activation_bits: Annotated[int, _option("N", "Width of what layers give.")] = 8,
    input_format: Annotated[
        str | None, _option("F", "Format of the inputs, such as u5.0 or s8.4.")
    ] = None,
    rounding: Annotated[str, _option("MODE", "RND, RND_ZERO, ..., TRN_ZERO.")] = "RND",
    overflow: Annotated[str, _option("MODE", "SAT, SAT_ZERO, SAT_SYM or WRAP.")] = "SAT",
    precision: Annotated[
        Path | None, _option("FILE", "Formats and modes by layer, as precision.json has them.")
    ] = None,
    interval: Annotated[
        int | None, _option("CYCLES", "From frame to frame at most; one per input if left out.")
    ] = None,
    unroll: Annotated[bool, typer.Option("--unroll", help="Every matrix as adders.")] = False,
    cut: Annotated[
        list[str] | None, _option("TENSOR", "End the network before this tensor is read.")
    ] = None,
    no_batch: Annotated[
        bool, typer.Option("--no-batch", help="Axis 0 belongs to the frame.")
    ] = False,
    target: Annotated[str, _option("T", "Family of devices.")] = "ecp5",
    name: Annotated[str | None, _option("NAME", "Of the top module.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a build directory.")] = False,
) -> int:
    """Import, quantise and plan a network; write its Verilog, test bench and model."""
    from bitblocks import building, tables

    with _progress() as progress:

        def told(step: str) -> None:
            progress(step)
            if step == building.LAST_STEP:
                settle()

        built = building.build(
            model,
            output,
            calibration=calibrate,
            weight_bits=weight_bits,
            activation_bits=activation_bits,
            input_format=input_format,
            rounding=rounding,
            overflow=overflow,
            precision=precision,
            interval=interval,
            unroll=unroll,
            cut=cut or None,
            batch=not no_batch,
            target=target,
            name=name,
            force=force,
            progress=told,
        )
    tables.show_build(built)
    return 0


@app.command()
def run(
    directory: Directory,
    input: Annotated[Path, _option("X.npy", "Frames; .npz by name for several inputs.")],
    output: Annotated[Path, _option("Y.npy", "Results; .npz by name for several outputs.")],
    codes: Annotated[
        bool, typer.Option("--codes", help="Integers in and out, not floats.")
    ] = False,
) -> int:
    """Run the bit-accurate model on a batch."""
    from bitblocks import files
    from bitblocks.project import Project

    project = Project.open(directory)
    files.check_file(output)
    results = project.run(files.read_arrays(input, "input"), codes)
    content = files.npz(results) if isinstance(results, dict) else files.npy(results)
    files.write_file(output, content)
    return 0


@app.command()
def verify(
    directory: Directory,
    simulator: Annotated[str, _option("NAME", "verilator or icarus.")] = "verilator",
    frames: Annotated[int | None, _option("N", "Frames to compare.")] = None,
    input: Annotated[Path | None, _option("X.npy", "These frames, not random ones.")] = None,
    seed: Annotated[int, _option("N", "Of random frames and stalls.")] = 0,
    stalls: Annotated[float, _option("P", "Chance of a stall in a cycle.")] = 0.3,
    waves: Annotated[
        bool, typer.Option("--waves", help="Write results/waves.vcd in the build directory.")
    ] = False,
) -> int:
    """Drive the Verilog by cocotb and compare every word, latency and interval with the model."""
    import sim
    from bitblocks import files, tables, verification

    data = None if input is None else files.read_arrays(input, "input")
    with _progress() as progress:
        try:
            outcome = verification.verify(
                directory,
                simulator=simulator,
                frames=frames,
                data=data,
                seed=seed,
                stalls=stalls,
                waves=directory / "results" / "waves.vcd" if waves else None,
                progress=progress,
            )
        except sim.MissingTool as error:
            raise InputError(str(error)) from error
        except verification.VerificationError as error:
            say(str(error))
            return DIFFERENT
    tables.show_verification(outcome)
    for problem in outcome.problems:
        say(problem)
    return 0 if outcome.passed else DIFFERENT


@app.command()
def estimate(directory: Directory, target: Target = None, json_file: Json = None) -> int:
    """Resources, latency and interval, per block and in all, without any tool."""
    from bitblocks import resources, tables

    _check_json(json_file)
    figures = resources.estimate(directory, target)
    _write_json(json_file, figures)
    tables.show_figures(figures)
    return 0


@app.command()
def synth(
    directory: Directory,
    target: Target = None,
    place: Annotated[bool, typer.Option("--place", help="Place it too, for Fmax.")] = False,
    json_file: Json = None,
) -> int:
    """The figures of estimate from yosys, and Fmax from nextpnr."""
    from bitblocks import resources, tables

    _check_json(json_file)
    with _progress() as progress:
        progress("synthesising")
        try:
            figures = resources.synth(directory, target, place)
        except RuntimeError as error:  # a tool is missing, or gives up
            raise InputError(str(error)) from error
    _write_json(json_file, figures)
    tables.show_figures(figures)
    return 0


@app.command()
def doctor() -> int:
    """Which tools are there, and how to get those that are not; 1 if a needed one is missing."""
    import sim
    from bitblocks import tables

    tools = sim.doctor()
    tables.show_tools(tools)
    return DIFFERENT if any(needed(tool) and tool.version is None for tool in tools) else 0


def needed(tool: Any) -> bool:
    """Whether a tool of ``sim.doctor`` cannot be done without."""
    return "optional" not in tool.needed_for


def _check_json(path: Path | None) -> None:
    """Before the work is done."""
    if path is not None:
        from bitblocks import files

        files.check_file(path)


def _write_json(path: Path | None, figures: dict[str, Any]) -> None:
    if path is not None:
        from bitblocks import files
        from bitblocks.project import pretty

        files.write_file(path, pretty(figures).encode())


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """What is being done, on stderr while it is done, where somebody watches."""
    from rich.console import Console

    console = Console(stderr=True)
    with console.status("starting") as status:
        yield lambda step: status.update(step)
