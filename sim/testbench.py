# SPDX-License-Identifier: Apache-2.0
"""A test bench that travels with a design: plain Verilog-2005 and files of vectors."""

from collections.abc import Mapping, Sequence

from .ports import Design, StreamPort

DRAIN = 64


def verilog_testbench(
    design: Design,
    inputs: Mapping[str, Sequence[int]],
    outputs: Mapping[str, Sequence[int]],
    *,
    frames: int = 1,
    user: Mapping[str, Sequence[bool]] | None = None,
    flags: Sequence[str] = (),
    limit: int = 1_000_000,
    source: str = "",
) -> dict[str, str]:
    """Files of a self-checking bench for ``design``: ``tb_<top>.v``, vectors, ``README``.

    The bench offers ``inputs`` and accepts outputs with pseudo-random stalls, compares every word
    with ``outputs`` and every last-transfer mark with its place, prints ``PASS <n> words``, or the
    first mismatch and ``FAIL``, and ends by ``$finish``. It must be run in the folder of its files.

    Parameters
    ----------
    inputs, outputs : dict from each port to its words, as for :class:`Job`
    frames : int
        Number of frames in the words of each port, for the ports with a last signal.
    user : dict from port to one bool per word, for inputs that have a user signal
    flags : names of one-bit outputs that must stay low (``frame_error``)
    limit : int
        Cycles after which the bench gives up.
    source : str
        Path of the design's Verilog as seen from the bench, for the README.
    """
    name = f"tb_{design.top}"
    source = source or f"../rtl/{design.top}.v"
    files = {}
    for port in design.ports:
        given = inputs if port.direction == "in" else outputs
        if port.name not in given:
            raise ValueError(
                f"verilog_testbench words must be given for every port, not lack {port.name}"
            )
        if not given[port.name]:
            raise ValueError(
                f"verilog_testbench words of {port.name} must be at least one, not none"
            )
        bits = (user or {}).get(port.name, [False] * len(given[port.name]))
        files[f"{port.name}.hex"] = _vectors(given[port.name], port, frames, bits)
    counts = {
        port.name: len((inputs if port.direction == "in" else outputs)[port.name])
        for port in design.ports
    }
    files[f"{name}.v"] = _bench(design, name, counts, flags, limit)
    files["README"] = (
        "A self-checking test bench in plain Verilog-2005, for any simulator. In this folder:\n"
        f"  iverilog -g2005 -s {name} -o {name} {name}.v {source} && vvp {name}\n"
        f"prints PASS {sum(counts[p.name] for p in design.ports if p.direction == 'out')} words, "
        "or the first mismatch and FAIL.\n"
    )
    return files


def _vectors(words: Sequence[int], port: StreamPort, frames: int, user: Sequence[bool]) -> str:
    if len(words) % frames:
        raise ValueError(
            f"verilog_testbench words of {port.name} must divide into {frames} frames, "
            f"not {len(words)}"
        )
    digits = -(-port.word_bits // 4)
    lines = []
    for number, (word, beside) in enumerate(zip(words, user, strict=True), 1):
        if not 0 <= word < 1 << port.bits:
            raise ValueError(
                f"verilog_testbench word for {port.name} must be in [0, 2**{port.bits}), "
                f"not {word:#x}"
            )
        last = port.last is not None and number % (len(words) // frames) == 0
        word |= last << port.bits | bool(beside) << port.user_bit
        lines.append(f"{word:0{digits}x}\n")
    return "".join(lines)


def _bench(
    design: Design, name: str, counts: Mapping[str, int], flags: Sequence[str], limit: int
) -> str:
    clocking = design.clocking
    invert = "~" if clocking.active_low else ""
    declared: list[str] = []
    pins = [f".{clocking.clock}(clock)", f".{clocking.reset}({invert}reset)"]
    load: list[str] = []
    steps: list[str] = []
    complete: list[str] = []
    for number, port in enumerate(design.ports):
        p, high, count = port.name, port.word_bits - 1, counts[port.name]
        chance = f"random[{7 * number % 32}] | random[{(7 * number + 13) % 32}]"
        word = f"{p}_word"
        declared += [
            f"reg [{high}:0] {p}_words [0:{count - 1}];",
            f"reg [31:0] {p}_count;",
        ]
        load += [f'$readmemh("{p}.hex", {p}_words);', f"{p}_count = 32'd0;"]
        if port.direction == "in":
            declared += [f"reg [{high}:0] {word};", f"reg {p}_valid;", f"wire {p}_ready;"]
            load += [f"{p}_valid = 1'b0;", f"{word} = {high + 1}'d0;"]
            steps += [
                f"if (~{p}_valid | {p}_ready) begin",
                f"  {p}_valid <= {p}_count < 32'd{count} & ({chance});",
                f"  if ({p}_count < 32'd{count} & ({chance})) begin",
                f"    {word} <= {p}_words[{p}_count];",
                f"    {p}_count <= {p}_count + 32'd1;",
                "  end",
                "end",
            ]
            complete += [f"{p}_count == 32'd{count} & ~{p}_valid"]
        else:
            declared += [f"wire [{high}:0] {word};", f"wire {p}_valid;", f"reg {p}_ready;"]
            load += [f"{p}_ready = 1'b0;"]
            steps += [
                f"{p}_ready <= {chance};",
                f"if ({p}_valid !== 1'b0 & {p}_valid !== 1'b1 & ~failed) begin",
                f'  $display("{p} valid is unknown in cycle %0d", cycle);',
                "  failed = 1'b1;",
                "end",
                f"if ({p}_valid & {p}_ready & ~failed) begin",
                f"  if ({p}_count == 32'd{count}) begin",
                f'    $display("{p} gives more than {count} words");',
                "    failed = 1'b1;",
                f"  end else if ({word} !== {p}_words[{p}_count]) begin",
                f'    $display("{p} word %0d must be %h, not %h", {p}_count,',
                f"      {p}_words[{p}_count], {word});",
                "    failed = 1'b1;",
                "  end",
                f"  {p}_count <= {p}_count + 32'd1;",
                "end",
            ]
            complete += [f"{p}_count == 32'd{count}"]
        pins += [
            f".{port.valid}({p}_valid)",
            f".{port.ready}({p}_ready)",
            f".{port.payload}({word}[{port.bits - 1}:0])",
        ]
        if port.last is not None:
            pins += [f".{port.last}({word}[{port.bits}])"]
        if port.user is not None:
            pins += [f".{port.user}({word}[{port.user_bit}])"]
    for flag in flags:
        declared += [f"wire {flag};"]
        pins += [f".{flag}({flag})"]
        steps += [
            f"if ({flag} !== 1'b0 & ~failed) begin",
            f'  $display("{flag} must stay low, not be %b in cycle %0d", {flag}, cycle);',
            "  failed = 1'b1;",
            "end",
        ]
    total = sum(counts[port.name] for port in design.ports if port.direction == "out")

    def lines(texts: Sequence[str], indent: int) -> str:
        return "\n".join(" " * indent + text for text in texts)

    separator = ",\n    "
    return f"""`timescale 1ns/1ps
module {name};
  reg clock, reset, failed;
  reg [31:0] cycle, quiet, random;
{lines(declared, 2)}
  wire complete = {" & ".join(complete)};
  {design.top} dut(
    {separator.join(pins)}
  );
  initial begin
    clock = 1'b0;
    reset = 1'b1;
    failed = 1'b0;
    cycle = 32'd0;
    quiet = 32'd0;
    random = 32'd1;
{lines(load, 4)}
  end
  always #5 clock = ~clock;
  always @(posedge clock) begin
    cycle <= cycle + 32'd1;
    reset <= cycle < 32'd2;
    random <= {{random[30:0], random[31] ^ random[21] ^ random[1] ^ random[0]}};
    if (~reset) begin
{lines(steps, 6)}
      quiet <= complete ? quiet + 32'd1 : 32'd0;
      if (cycle == 32'd{limit} & ~failed) begin
        $display("not complete after {limit} cycles");
        failed = 1'b1;
      end
      if (failed) begin
        $display("FAIL");
        $finish;
      end else if (quiet == 32'd{DRAIN}) begin
        $display("PASS {total} words");
        $finish;
      end
    end
  end
endmodule
"""
