# SPDX-License-Identifier: Apache-2.0
"""Holding the Verilog of a build directory against its model, word by word, cycle by cycle."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bitblocks.errors import InputError
from bitblocks.files import check_file, make_folder
from bitblocks.project import Project, ProjectPort, write_result
from quant import Ints

if TYPE_CHECKING:
    import sim

FRAMES = 200
"""Frames that are compared unless told otherwise."""
FRAMES_LIMIT = 2**24
"""Most that may be."""
STALLS = 0.3
"""Chance per cycle that a source or a sink stalls, unless told otherwise."""
RESETS = 0.2
"""Share of the frames before which a state that is kept is reset."""
JOB_WORDS = 20_000
"""Most transfers of one job on its busiest port."""


@dataclass(frozen=True)
class Difference:
    """The first word that is not the model's.

    Parameters
    ----------
    frame : number of the frame among those compared
    output : its name
    index : of the element in the model's layout, None where the difference is not in an element
    verilog, model : values, integers in the output's format
    what : one sentence that tells it all
    """

    frame: int
    output: str
    index: tuple[int, ...] | None
    verilog: int | None
    model: int | None
    what: str


@dataclass(frozen=True)
class Verification:
    """What came of a comparison.

    Parameters
    ----------
    frames, frames_that_differ, words : numbers of them compared
    latency_measured, interval_measured : cycles without stalls, None if not seen
    latency_predicted, interval_predicted : as in network.json
    problems : sentences, none if all is well
    difference : the first one
    cycles : simulated
    """

    simulator: str
    frames: int
    frames_that_differ: int
    words: int
    latency_measured: int | None
    interval_measured: int | float | None
    latency_predicted: int
    interval_predicted: int | float
    problems: tuple[str, ...]
    difference: Difference | None
    cycles: int

    @property
    def passed(self) -> bool:
        """Whether everything is as the model and network.json say."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """The content of ``results/verify.json``."""
        data: dict[str, Any] = {"passed": self.passed, **self.__dict__}
        data["problems"] = list(self.problems)
        if self.difference is not None:
            data["difference"] = dict(self.difference.__dict__)
            index = self.difference.index
            data["difference"]["index"] = None if index is None else list(index)
        return data


def verify(
    directory: str | Path | Project,
    *,
    simulator: str = "verilator",
    frames: int | None = None,
    data: Any = None,
    codes: bool = False,
    seed: int = 0,
    stalls: float = STALLS,
    waves: str | Path | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> Verification:
    """Drive the Verilog of a build directory by cocotb, compare every word with the model.

    The first frames go through without stalls, which measures latency and interval; then all go
    through with random ones. A state that is kept is reset before frames at random.

    Parameters
    ----------
    simulator : "verilator" or "icarus"; the latter finds unknown values too
    frames : how many, 200 if left out, or all of ``data``
    data : frames in the model's layout, one array or a mapping by input; else random numbers that
        cover the input formats, their ends first
    codes : data are integers already
    stalls : chance per cycle that a source does not offer, and that a sink does not accept
    waves : where to write a VCD file

    The result is kept in ``results/verify.json``. Raises InputError; sim.MissingTool where a tool
    is missing; VerificationError where the simulation cannot be made or does not end.
    """
    import sim

    project = directory if isinstance(directory, Project) else Project.open(directory)
    if simulator not in ("verilator", "icarus"):
        raise InputError(f"simulator must be verilator or icarus, not {simulator!r}")
    if frames is not None and (type(frames) is not int or not 1 <= frames <= FRAMES_LIMIT):
        raise InputError(f"frames must be a whole number from 1 to {FRAMES_LIMIT}, not {frames!r}")
    if type(seed) is not int or seed < 0:
        raise InputError(f"seed must be a whole number from 0 on, not {seed!r}")
    if not 0 <= stalls <= 0.95:
        raise InputError(f"stalls must be a chance from 0 to 0.95, not {stalls!r}")
    if data is None:
        batch = random_frames(project, frames or FRAMES, seed)
    else:
        batch = project.codes(data, codes)
        if frames is not None and frames > len(batch[0]):
            raise InputError(
                f"frames must be at most the {len(batch[0])} that are given, not {frames}"
            )
        batch = [values[:frames] for values in batch]
    design = design_of(project)
    for stream in design.ports:
        if stream.payload not in project.verilog:
            raise InputError(f"the Verilog must have the ports {stream.name}_..., as network.json")
    progress("computing the model's integers")
    marks = random_marks(len(batch[0]), seed)
    steady, period = _steady(project)
    parts = _parts(project, len(batch[0]), steady + period + 1)
    expected = [project.reference([v[frame] for v in batch], marks[frame]) for frame in parts]
    jobs = []
    for number, (frame, wanted) in enumerate(zip(parts, expected, strict=True)):
        chances = (1.0, 1.0) if not number else _CHANCES[number % 3](1 - stalls)
        jobs.append(
            sim.Job(
                {
                    port.port: port.words(values[frame])
                    for port, values in zip(project.inputs, batch, strict=True)
                },
                {
                    port.port: port.transfers * len(values)
                    for port, values in zip(project.outputs, wanted, strict=True)
                },
                stalls=chances,
                last={port.port: port.transfers for port in project.inputs},
                user=user_of(project, marks[frame], seed + number),
                seed=seed + number,
                patience=1000 + 20 * int(project.latency + project.interval),
            )
        )
    progress(f"simulating {len(batch[0])} frames")
    if waves is not None:
        make_folder(Path(waves).parent)
        check_file(Path(waves))
    try:
        results = sim.simulate(design, jobs, simulator, waves=waves, strict=False)
    except sim.SimulationError as error:
        raise VerificationError(str(error).splitlines()[0]) from error
    except sim.BuildError as error:
        lines = str(error).splitlines()
        told = [line for line in lines if "error" in line.lower()] or lines
        raise VerificationError(f"the Verilog must compile, not end with: {told[0]}") from error
    problems: list[str] = []
    difference: Difference | None = None
    differing: set[int] = set()
    words = 0
    for frame, wanted, result in zip(parts, expected, results, strict=True):
        for port, values in zip(project.outputs, wanted, strict=True):
            got = result.ports[port.port]
            words += len(got.words)
            found = _compare(port, values, got.words, got.last, frame)
            differing.update(d.frame for d in found)
            if found and (difference is None or found[0].frame < difference.frame):
                difference = found[0]
        if result.problem:
            problems.append(f"the Verilog breaks a rule of its streams: {result.problem}")
        if result.maxima["frame_error"]:
            problems.append("frame_error rises although every frame ends where it must")
    if difference is not None:
        problems.insert(0, difference.what)
    latency, interval = _measured(project, results[0], steady, period)
    for what, measured, predicted in (
        ("latency", latency, project.latency),
        ("interval", interval, project.interval),
    ):
        if measured is not None and measured != predicted:
            problems.append(f"{what} must be {predicted} cycles, not {measured}")
    if (latency is None or interval is None) and not problems:
        problems.append("latency and interval must be seen, but too few frames came out")
    outcome = Verification(
        simulator,
        len(batch[0]),
        len(differing),
        words,
        latency,
        interval,
        project.latency,
        project.interval,
        tuple(dict.fromkeys(problems)),
        difference,
        sum(result.cycles for result in results),
    )
    if project.path is not None:
        write_result(project.path, "verify", outcome.to_json())
    return outcome


class VerificationError(RuntimeError):
    """The simulation of a build cannot be made or did not end; one sentence."""


_CHANCES: tuple[Callable[[float], tuple[float, float]], ...] = (
    lambda chance: (1.0, chance),
    lambda chance: (chance, chance),
    lambda chance: (chance, 1.0),
)


def random_frames(project: Project, count: int, seed: int) -> list[Ints]:
    """Integers for every input in stream order: all least, all greatest, then random ones."""
    generator = np.random.default_rng(seed)
    batch = []
    for port in project.inputs:
        number = port.format
        shape = (count, *port.stream_shape)
        values = generator.integers(number.min, number.max, shape, endpoint=True)
        values[:1], values[1:2] = number.max, number.min
        batch.append(values)
    return batch


def random_marks(count: int, seed: int) -> Ints:
    """For each frame 1 if a state that is kept is reset before it, else 0."""
    return (np.random.default_rng((seed, count)).random(count) < RESETS).astype(np.int64)


def user_of(project: Project, marks: Ints, seed: int) -> dict[str, list[bool]]:
    """The bit beside each transfer: a mark on the first of a frame, anything on the others."""
    if not project.network.marked:
        return {}
    port = project.inputs[0]
    bits = np.random.default_rng(seed).random((len(marks), port.transfers)) < 0.5
    bits[:, 0] = marks
    return {port.port: bits.ravel().tolist()}


def design_of(project: Project) -> "sim.Design":
    """The Verilog of a project as simulations see it."""
    import sim

    marked = project.inputs[0].port if project.network.marked else None
    ports = [
        sim.StreamPort.axi(
            port.port, direction, port.element_bits * port.lanes, port.port == marked
        )
        for direction, group in (("in", project.inputs), ("out", project.outputs))
        for port in group
    ]
    return sim.Design(project.verilog, project.name, tuple(ports), sim.AXI, ("frame_error",))


def _steady(project: Project) -> tuple[int, int]:
    """(frame from which the schedule repeats, frames after which it does)."""
    timing = project.network.timing(project.plan)
    schedule = timing.schedule(
        [timing.port(port) for port in project.network.inputs],
        [timing.port(port) for port in project.network.outputs],
    )
    return schedule.start, schedule.period


def _parts(project: Project, count: int, steady: int) -> list[Ints]:
    """Which frames each job takes: ``steady`` or more without stalls first, then all, in parts."""
    busiest = max(port.transfers for port in project.inputs + project.outputs)
    first = np.arange(max(steady, min(count, 8))) % count
    size = max(1, min(-(-count // 3), JOB_WORDS // busiest))
    return [first, *np.split(np.arange(count), range(size, count, size))]


def _compare(
    port: ProjectPort, values: Ints, words: Sequence[int], last: Sequence[bool], frames: Ints
) -> list[Difference]:
    """One difference for each frame that is not the model's; ``frames`` are their numbers."""
    wanted = port.words(values)
    found = []
    for number, frame in enumerate(frames.tolist()):
        for transfer in range(port.transfers):
            place = number * port.transfers + transfer
            if place >= len(words):
                what = f"frame {frame}, output {port.name}: it does not come out whole"
                found.append(Difference(frame, port.name, None, None, None, what))
                break
            if words[place] != wanted[place]:
                numbers = values[number].ravel()
                found.append(
                    _difference(port, frame, transfer, words[place], wanted[place], numbers)
                )
                break
            if last[place] != (transfer == port.transfers - 1):
                rule = "0, not 1" if last[place] else "1, not 0"
                where = f"frame {frame}, output {port.name}, transfer {transfer}"
                what = f"{where}: tlast must be {rule}"
                found.append(Difference(frame, port.name, None, None, None, what))
                break
    return found


def _difference(
    port: ProjectPort, frame: int, transfer: int, word: int, wanted: int, values: Ints
) -> Difference:
    """The first element of a transfer that differs, or its padding."""
    bits = port.element_bits
    for lane in range(port.lanes):
        place = transfer * port.lanes + lane
        got = word >> bits * lane & (1 << bits) - 1
        if got == wanted >> bits * lane & (1 << bits) - 1:
            continue
        if place >= len(values):
            break
        if port.format.signed and got >> bits - 1:
            got -= 1 << bits
        position = np.unravel_index(place, port.stream_shape)
        index = tuple(int(position[port.axes.index(n)]) for n in range(len(port.axes)))
        model = int(values[place])
        shown = ", ".join(map(str, index))
        what = (
            f"frame {frame}, output {port.name}, element [{shown}]: the Verilog gives {got}, "
            f"the model {model} (in units of 2^{-port.format.frac})"
        )
        return Difference(frame, port.name, index, got, model, what)
    what = f"frame {frame}, output {port.name}, transfer {transfer}: its padding must be zero"
    return Difference(frame, port.name, None, None, None, what)


def _measured(
    project: Project, result: Any, steady: int, period: int
) -> tuple[int | None, int | float | None]:
    """Latency and interval of a run without stalls."""
    from sim.verify import frame_ends, measured_latency

    ends, starts = {}, {}
    for port in project.outputs:
        ends[port.port] = frame_ends(result.ports[port.port].cycles, port.transfers)
    for port in project.inputs:
        starts[port.port] = result.ports[port.port].cycles
    whole = min(map(len, ends.values()))
    if not whole or not min(map(len, starts.values())):
        return None, None
    latency = measured_latency(starts, ends)
    if whole <= steady + period:
        return latency, None
    interval = max(int(done[steady + period] - done[steady]) / period for done in ends.values())
    return latency, int(interval) if interval == int(interval) else interval
