# SPDX-License-Identifier: Apache-2.0
"""One call that runs designs under Verilator or Icarus, driven by the cocotb bench."""

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from quant import Ints

from . import compiled, tools
from .cache import scratch
from .fixture import TOP, TROUBLES, fixture
from .ports import Design, Job

SIMULATORS = ("verilator", "icarus")
_BENCH = Path(__file__).with_name("bench.py")


class SimulationError(RuntimeError):
    """The simulation did not run to its end, or a design broke the rules of its streams."""


@dataclass(frozen=True, eq=False)
class Transfers:
    """What moved over one port.

    Members
    -------
    words : list of int, payloads in order
    last : list of bool, empty for a port without that signal
    cycles : int64 array, the cycle of each transfer
    """

    words: list[int]
    last: list[bool]
    cycles: Ints


@dataclass(frozen=True, eq=False)
class Result:
    """What came of one job; cycle 0 is the first after its reset.

    Members
    -------
    ports : dict from port name to Transfers
    cycles : int, length of the job
    problem : str or None, the first rule broken, and when
    maxima : dict from monitor to the largest value it had
    seconds : float, time the bench took
    """

    job: Job
    ports: dict[str, Transfers]
    cycles: int
    problem: str | None
    maxima: dict[str, int]
    seconds: float


def simulate(
    designs: Design | Sequence[Design],
    jobs: Sequence[Job],
    simulator: str = "verilator",
    *,
    waves: Path | str | None = None,
    strict: bool = True,
    timeout: float = 3600.0,
) -> list[Result]:
    """Run ``jobs`` one after another on the Verilog of ``designs``; one result per job, in order.

    All designs are compiled into one simulation (names of modules must differ, equal texts count
    once); what was compiled before is taken from the cache. Jobs on the same design should stand
    together.

    Parameters
    ----------
    simulator : "verilator" or "icarus"
        Icarus also finds unknown values.
    waves : path or None
        Where to write a VCD file of everything.
    strict : bool
        Raise SimulationError if any job met a problem; else it is in the result.
    timeout : float, seconds of the whole simulation

    Raises BuildError where a tool refuses the Verilog, MissingTool, and SimulationError.
    """
    designs = [designs] if isinstance(designs, Design) else list(designs)
    if simulator not in SIMULATORS:
        raise ValueError(f"simulate simulator must be 'verilator' or 'icarus', not {simulator!r}")
    numbers = _numbers(designs)
    work = {
        "designs": [_design_spec(design) for design in designs],
        "jobs": [_job_spec(job, designs, numbers) for job in jobs],
    }
    if not jobs:
        return []
    sources = list(dict.fromkeys(design.verilog for design in designs))
    with scratch() as folder:
        command = _compile(designs, sources, simulator, folder, waves)
        (folder / "jobs.json").write_text(json.dumps(work))
        shutil.copy(_BENCH, folder / "bitblocks_bench.py")
        told = _launch(command, folder, timeout)
        answers = _read_results(folder / "results.jsonl", len(jobs), told)
        if waves is not None:
            shutil.copyfile(folder / "waves.vcd", waves)
    results = []
    for job, answer in zip(jobs, answers, strict=True):
        results.append(_result(job, designs[_design_number(job, designs, numbers)], answer))
    if strict:
        problems = [
            f"job {k}{f' ({r.job.name})' * bool(r.job.name)} on "
            f"{designs[_design_number(r.job, designs, numbers)].top}: {r.problem}"
            for k, r in enumerate(results)
            if r.problem
        ]
        if problems:
            raise SimulationError("\n".join(problems))
    return results


def _numbers(designs: Sequence[Design]) -> dict[str, int]:
    if not designs:
        raise ValueError("simulate designs must be at least one, not none")
    numbers = {design.top: k for k, design in enumerate(designs)}
    if len(numbers) < len(designs):
        tops = ", ".join(design.top for design in designs)
        raise ValueError(f"simulate designs must have different tops, not {tops}")
    return numbers


def _design_number(job: Job, designs: Sequence[Design], numbers: Mapping[str, int]) -> int:
    if not job.design and len(designs) == 1:
        return 0
    if job.design not in numbers:
        raise ValueError(f"Job design must be one of {', '.join(numbers)}, not {job.design!r}")
    return numbers[job.design]


def _design_spec(design: Design) -> dict[str, object]:
    ports = [
        {"name": port.name, "bits": port.word_bits, "input": port.direction == "in"}
        for port in design.ports
    ]
    return {"ports": ports, "troubles": TROUBLES, "monitors": len(design.monitors)}


def _job_spec(job: Job, designs: Sequence[Design], numbers: Mapping[str, int]) -> dict[str, object]:
    number = _design_number(job, designs, numbers)
    design = designs[number]
    for name in (*job.inputs, *job.last, *job.user):
        if design.port(name).direction != "in":
            raise ValueError(f"Job inputs must name ports that are inputs, not {name!r}")
    for name in job.outputs:
        if design.port(name).direction != "out":
            raise ValueError(f"Job outputs must name ports that are outputs, not {name!r}")
    for name, pattern in job.patterns.items():
        if design.port(name).direction == "in" and pattern == "wait":
            raise ValueError(f"Job pattern 'wait' must be for an output, not {name!r}")
    return {
        "design": number,
        "inputs": {
            name: [f"{word:x}" for word in job.words(design.port(name))] for name in job.inputs
        },
        "outputs": dict(job.outputs),
        "stalls": job.stalls,
        "patterns": dict(job.patterns),
        "seed": job.seed,
        "reset_cycles": job.reset_cycles,
        "cut": job.cut,
        "patience": job.patience,
        "drain": job.drain,
    }


def _compile(
    designs: Sequence[Design],
    sources: list[str],
    simulator: str,
    folder: Path,
    waves: Path | str | None,
) -> list[str]:
    shell = fixture(designs, four_state=simulator == "icarus", waves=waves is not None)
    if simulator == "icarus":
        program = compiled.icarus([shell, *sources], TOP, folder)
        command = [tools.icarus("vvp"), "-m", tools.cocotb_library("icarus"), str(program)]
        return [*command, "-none" if waves is None else "-vcd"]
    main = compiled.cocotb_main()
    program = compiled.verilated([shell, *sources], TOP, main, folder, trace=waves is not None)
    command = [str(program), "+verilator+rand+reset+2", "+verilator+seed+1"]
    return command if waves is None else [*command, "--trace", "--trace-file", "waves.vcd"]


def _launch(command: list[str], folder: Path, timeout: float) -> str:
    environment = {
        **tools.cocotb_environment(),
        "PYTHONPATH": str(folder),
        "BITBLOCKS_JOBS": str(folder),
        "COCOTB_TOPLEVEL": TOP,
        "COCOTB_TEST_MODULES": "bitblocks_bench",
        "COCOTB_RESULTS_FILE": str(folder / "results.xml"),
    }
    try:
        told = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            text=True,
            errors="replace",
            check=False,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except subprocess.TimeoutExpired:
        raise SimulationError(f"Simulation must end within {timeout} s, not go on") from None
    return f"exit status {told.returncode}\n{told.stdout}"


def _read_results(path: Path, jobs: int, told: str) -> list[dict]:
    """The bench's own records; neither exit status nor silence counts as success."""
    lines = path.read_text().splitlines() if path.exists() else []
    if len(lines) != jobs + 1 or lines[-1] != "done":
        raise SimulationError(
            f"Simulation must report all {jobs} jobs, not end after "
            f"{max(len(lines), 0)}: {told[-3000:]}"
        )
    return [json.loads(line) for line in lines[:-1]]


def _result(job: Job, design: Design, answer: dict) -> Result:
    ports = {}
    for port in design.ports:
        moved = answer["ports"][port.name]
        cycles = np.array(moved["cycles"], dtype=np.int64)
        if port.direction == "in":
            words = job.words(port)[: len(cycles)] if port.name in job.inputs else []
        else:
            words = [int(word, 16) for word in moved["words"]]
        last = [bool(word >> port.bits) for word in words] if port.last is not None else []
        mask = (1 << port.bits) - 1
        ports[port.name] = Transfers([word & mask for word in words], last, cycles)
    maxima = dict(zip(design.monitors, answer["maxima"], strict=True))
    problem, seconds = answer["problem"], answer["seconds"]
    return Result(job, ports, answer["cycles"], problem, maxima, seconds)
