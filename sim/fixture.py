# SPDX-License-Identifier: Apache-2.0
"""The Verilog module around the designs under test: what the bench can see with few accesses.

Inputs are driven from registers, so one visit of the bench per clock cycle is enough; every
handshake of a design is one bit of one status word, and the protocol is watched in Verilog.
"""

from collections.abc import Sequence

from .ports import Design

TOP = "bitblocks_fixture"
TROUBLES = (
    "valid or ready is unknown",
    "valid was withdrawn before ready came",
    "the payload changed before ready came",
    "the payload is unknown while valid",
)
"""What can be wrong with a port, in the order of its four bits of the trouble word."""


def fixture(designs: Sequence[Design], four_state: bool, waves: bool = False) -> str:
    """Verilog module that instantiates ``designs`` side by side, each with its own clock.

    For design k: ``clock_k``, ``control_k`` (bit 0 reset, bit 1 + j: valid of input or ready of
    output j), ``status_k`` (bit 0 trouble, bit 1 + j: ready of input or valid of output j),
    ``word_k_j``, ``trouble_k`` (four bits a port) and ``maximum_k_m``.

    Parameters
    ----------
    four_state : bool
        While an input is not valid its payload is unknown, else the complement of the next word.
    waves : bool
        With ``four_state``: write everything to waves.vcd.
    """
    ports: list[str] = []
    body: list[str] = []
    for k, design in enumerate(designs):
        _one(k, design, four_state, ports, body)
    if four_state and waves:
        body += ["", f'initial begin $dumpfile("waves.vcd"); $dumpvars(0, {TOP}); end']
    header = ",\n".join(f"  {port}" for port in ports)
    text = "\n".join(f"  {line}" if line else "" for line in body)
    return f"`timescale 1ns/1ns\nmodule {TOP}(\n{header}\n);\n{text}\nendmodule\n"


def _one(k: int, design: Design, four_state: bool, ports: list[str], body: list[str]) -> None:
    count = len(design.ports)
    public = "/* verilator public_flat_rw */"
    ports += [
        f"input clock_{k} {public}",
        f"input [{count}:0] control_{k} {public}",
        f"output [{count}:0] status_{k} {public}",
        f"output [{4 * count - 1}:0] trouble_{k} {public}",
    ]
    clocking = design.clocking
    invert = "~" if clocking.active_low else ""
    pins = [f".{clocking.clock}(clock_{k})", f".{clocking.reset}({invert}now_{k}[0])"]
    body += ["", f"// {design.top}", f"reg [{count}:0] now_{k};"]
    body += [f"always @(posedge clock_{k}) now_{k} <= control_{k};"]
    for j, port in enumerate(design.ports):
        at, bits, high = f"{k}_{j}", port.bits, port.word_bits - 1
        ports += [
            f"{'input' if port.direction == 'in' else 'output'} [{high}:0] word_{at} {public}"
        ]
        body += [f"wire other_{at};", f"assign status_{k}[{j + 1}] = other_{at} === 1'b1;"]
        if port.direction == "in":
            idle = f"{{{high + 1}{{1'bx}}}}" if four_state else f"~next_{at}"
            body += [
                f"reg [{high}:0] next_{at};",
                f"always @(posedge clock_{k}) next_{at} <= word_{at};",
                f"wire [{high}:0] payload_{at} = now_{k}[{j + 1}] ? next_{at} : {idle};",
                f"assign trouble_{k}[{4 * j}+:4] = {{3'b0, other_{at} === 1'bx}};",
            ]
            pins += [f".{port.valid}(now_{k}[{j + 1}])", f".{port.ready}(other_{at})"]
        else:
            body += [
                f"wire [{high}:0] payload_{at};",
                f"assign word_{at} = payload_{at};",
                f"reg waiting_{at};",
                f"reg [{high}:0] held_{at};",
                f"always @(posedge clock_{k}) begin",
                f"  waiting_{at} <= other_{at} & ~now_{k}[{j + 1}] & ~now_{k}[0];",
                f"  held_{at} <= payload_{at};",
                "end",
                f"assign trouble_{k}[{4 * j}] = other_{at} === 1'bx;",
                f"assign trouble_{k}[{4 * j + 1}] = waiting_{at} & other_{at} === 1'b0;",
                f"wire moved_{at} = other_{at} === 1'b1 & payload_{at} !== held_{at};",
                f"assign trouble_{k}[{4 * j + 2}] = waiting_{at} & moved_{at};",
                f"assign trouble_{k}[{4 * j + 3}] = other_{at} === 1'b1 & ^payload_{at} === 1'bx;",
            ]
            pins += [f".{port.valid}(other_{at})", f".{port.ready}(now_{k}[{j + 1}])"]
        pins += [f".{port.payload}(payload_{at}[{bits - 1}:0])"]
        if port.last is not None:
            pins += [f".{port.last}(payload_{at}[{bits}])"]
        if port.user is not None:
            pins += [f".{port.user}(payload_{at}[{port.user_bit}])"]
    body += [f"assign status_{k}[0] = |trouble_{k};"]
    body += [f"{design.top} dut_{k}({', '.join(pins)});"]
    for m, monitor in enumerate(design.monitors):
        at = f"{k}_{m}"
        ports += [f"output [31:0] maximum_{at} {public}"]
        body += [
            f"wire [31:0] level_{at} = dut_{k}.{monitor};",
            f"reg [31:0] most_{at};",
            f"wire more_{at} = (level_{at} > most_{at}) === 1'b1;",
            f"assign maximum_{at} = more_{at} ? level_{at} : most_{at};",
            f"always @(posedge clock_{k}) most_{at} <= now_{k}[0] ? 32'd0 : maximum_{at};",
        ]
