# SPDX-License-Identifier: Apache-2.0
"""The cocotb bench: runs inside the simulator, drives any design through its stream ports.

Reads ``jobs.json`` in the folder named by BITBLOCKS_JOBS and appends one line per job to
``results.jsonl`` there. Imports nothing but cocotb and the standard library. Values are read and
written through the handles below cocotb's value objects, which is three times as fast.
"""

import itertools
import json
import os
import random
import time
from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import Timer

PERIOD = 10


@cocotb.test()
async def bench(dut):
    folder = Path(os.environ["BITBLOCKS_JOBS"])
    work = json.loads((folder / "jobs.json").read_text())
    benches = [DesignBench(dut, k, design) for k, design in enumerate(work["designs"])]
    running = clock = None
    with (folder / "results.jsonl").open("w") as results:
        for job in work["jobs"]:
            design = benches[job["design"]]
            if design is not running:
                if clock is not None:
                    clock.stop()
                clock = Clock(design.clock, PERIOD, "step", impl="gpi")
                clock.start(start_high=False)
                await Timer(PERIOD // 2 - 1, "step")  # from here on just before each rising edge
                running = design
            results.write(json.dumps(await design.run(job)) + "\n")
        results.write("done\n")


def chances(bit, chance, seed):
    """``bit`` with probability ``chance``, else 0, for ever."""
    draw = random.Random(seed).random
    while True:
        yield from [bit if draw() < chance else 0 for _ in range(256)]


class Port:
    """One stream: the words still to come or go, and when each one moved."""

    def __init__(self, handle, index, spec):
        self.name, self.bits, self.is_input = spec["name"], spec["bits"], spec["input"]
        self.bit = 2 << index
        self.trouble_shift = 4 * index
        self.narrow = self.bits <= 32
        raw = handle._handle
        self.read = raw.get_signal_val_long if self.narrow else raw.get_signal_val_binstr
        self.write = raw.set_signal_val_int if self.narrow else raw.set_signal_val_binstr
        self.words, self.cycles, self.count = [], [], 0

    def begin(self, job):
        self.cycles = []
        if not self.is_input:
            self.words, self.count = [], job["outputs"].get(self.name, 0)
            return
        words = [int(word, 16) for word in job["inputs"].get(self.name, ())]
        if self.narrow:  # the simulator takes 32 bits as a signed number
            self.words = [w - (w >> 31 << 32) for w in words]
        else:
            self.words = [f"{w:0{self.bits}b}" for w in words]
        self.count = len(words)
        if words:
            self.write(0, self.words[0])

    def result(self):
        if self.is_input:
            return {"cycles": self.cycles}
        mask = (1 << self.bits) - 1
        words = [w & mask if self.narrow else int(w, 2) for w in self.words]
        return {"cycles": self.cycles, "words": [f"{w:x}" for w in words]}


class DesignBench:
    """Drives one design: one visit per clock cycle, one status read, few writes."""

    def __init__(self, dut, k, spec):
        def handle(name):
            return getattr(dut, f"{name}_{k}")

        self.clock = handle("clock")
        self.clock._handle.set_signal_val_int(0, 0)
        self.read_status = handle("status")._handle.get_signal_val_long
        self.write_control = handle("control")._handle.set_signal_val_int
        self.read_trouble = handle("trouble")._handle.get_signal_val_binstr
        self.troubles = spec["troubles"]
        self.ports = [
            Port(getattr(dut, f"word_{k}_{j}"), j, port) for j, port in enumerate(spec["ports"])
        ]
        self.monitors = [getattr(dut, f"maximum_{k}_{m}")._handle for m in range(spec["monitors"])]
        self.inputs = sum(port.bit for port in self.ports if port.is_input)
        self.outputs = sum(port.bit for port in self.ports if not port.is_input)
        self.movers: dict[int, list[Port]] = {}

    def moving(self, mask):
        """The ports whose bits are set in ``mask``."""
        self.movers[mask] = ports = [port for port in self.ports if port.bit & mask]
        return ports

    def offers(self, job):
        """For each cycle the bits of the sources that would offer and the sinks that accept."""
        fixed, varying = 0, []
        for number, port in enumerate(self.ports):
            pattern = job["patterns"].get(port.name)
            chance = job["stalls"][not port.is_input]
            if pattern == "wait":
                continue
            if pattern is not None:
                varying.append(itertools.cycle([port.bit * int(bit) for bit in pattern]))
            elif chance == 1:
                fixed |= port.bit
            else:
                varying.append(chances(port.bit, chance, job["seed"] * 32 + number))
        if not varying:
            return itertools.repeat(fixed)
        return (fixed | sum(bits) for bits in zip(*varying, strict=True))

    async def run(self, job):
        began = time.perf_counter()
        tick = Timer(PERIOD, "step")
        write_control, read_status, movers = self.write_control, self.read_status, self.movers
        inputs, outputs = self.inputs, self.outputs
        write_control(0, 1)
        for port in self.ports:
            port.begin(job)
        left = sum(port.count for port in self.ports)
        allowed = outputs | sum(port.bit for port in self.ports if port.is_input and port.count)
        waiting = sum(port.bit for port in self.ports if job["patterns"].get(port.name) == "wait")
        offer = self.offers(job).__next__
        cut, patience = job["cut"], job["patience"]
        end = job["drain"] if cut is None and not left else cut
        problem = None
        cycle = moved_at = 0
        for _ in range(job["reset_cycles"]):
            await tick
        control = offer() & allowed
        write_control(0, control)
        while True:
            await tick
            status = read_status()
            if status & 1:
                problem = self.trouble()
                break
            moved = status & control
            if moved:
                moved_at = cycle
                for port in movers.get(moved) or self.moving(moved):
                    cycles = port.cycles
                    cycles.append(cycle)
                    left -= 1
                    if port.is_input:
                        if len(cycles) < port.count:
                            port.write(0, port.words[len(cycles)])
                        else:
                            allowed &= ~port.bit
                    else:
                        port.words.append(port.read())
                        if len(cycles) > port.count:
                            problem = f"{port.name} gave more than {port.count} words"
                if problem:
                    break
                if not left and end is None:
                    end = cycle + 1 + job["drain"]
            elif cycle - moved_at >= patience and left:
                problem = "nothing moved for {} cycles: {}".format(
                    patience, ", ".join(f"{p.name} {len(p.cycles)}/{p.count}" for p in self.ports)
                )
                break
            elif not left and status & outputs:
                port = self.moving(status & outputs)[0]
                problem = f"{port.name} gave more than {port.count} words"
                break
            cycle += 1
            if cycle == end:
                break
            following = control & ~moved & inputs | offer() & allowed
            if waiting:
                following |= status & ~control & waiting
            if following != control:
                control = following
                write_control(0, control)
        return {
            "ports": {port.name: port.result() for port in self.ports},
            "problem": problem and f"cycle {cycle}: {problem}",
            "cycles": cycle,
            "maxima": [handle.get_signal_val_long() & 0xFFFFFFFF for handle in self.monitors],
            "seconds": time.perf_counter() - began,
        }

    def trouble(self):
        """What the fixture found wrong, in words."""
        bits = self.read_trouble()[::-1]
        found = [
            f"{port.name}: {text}"
            for port in self.ports
            for number, text in enumerate(self.troubles)
            if bits[port.trouble_shift + number] == "1"
        ]
        return "; ".join(found) or f"unknown status {bits}"
