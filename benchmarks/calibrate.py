# SPDX-License-Identifier: Apache-2.0
"""Measures the prices in hdl/calibration.json: every operator, synthesised over a grid of sizes."""

import argparse
import functools
import json
import random
from pathlib import Path

import hdl.cost
from hdl.function import FunctionUnit
from hdl.synthesis import Synthesis, synthesise_many
from hdl.target import Target
from quant import FUNCTIONS, Approximation, Format, candidates

WIDTHS = (1, 2, 3, 4, 6, 8, 16, 32)
COUNTER_BITS = (1, 2, 3, 4, 5, 8, 12)
COLUMNS = 32
COPIES = 8  # words of bits that share one selector or address, so that their share counts little
EXCESS = (0, 1, 2, 3, 4, 5, 6, 8, 16)
# yosys spends area to make the slowest path faster, and leaves the others small. In a real design
# an operator is seldom on the slowest path, so each is measured beside something slower: adders in
# a row, the bits turned round in between so that they stay three adders.
SLOW = 32
_BITS = f"[{SLOW - 1}:0]"
_PORTS = f"input {_BITS} slow_a, input {_BITS} slow_b, output {_BITS} slow_y"
_TURNED = ["{" + ", ".join(f"slow_{k}[{n}]" for n in range(SLOW)) + "}" for k in (0, 1)]
_PATH = f"""wire {_BITS} slow_0 = slow_a + slow_b;
wire {_BITS} slow_1 = {_TURNED[0]} + slow_b;
assign slow_y = {_TURNED[1]} + slow_b;"""


class Bench:
    """One Verilog text of many small modules, and the tables their counts go into."""

    def __init__(self, only: str) -> None:
        self.only = only
        self.designs = {"slow_path": f"module slow_path({_PORTS});\n{_PATH}\nendmodule\n"}
        self.places: list[tuple[str, str, float, float, bool]] = []

    def add(
        self,
        table: str,
        size: float,
        ports: str,
        body: str,
        divisor: float = 1,
        alone: bool = False,
    ) -> None:
        """A module that measures ``table`` at ``size``; what it costs counts ``1 / divisor``.

        ``alone``: another one measures ``table_alone``, with nothing slower beside it.
        """
        if not table.startswith(self.only):
            return
        self._module(table, size, f"{ports}, {_PORTS}", f"{body}\n{_PATH}", divisor, True)
        if alone:
            self._module(f"{table}_alone", size, ports, body, divisor, False)

    def _module(
        self, table: str, size: float, ports: str, body: str, divisor: float, slow: bool
    ) -> None:
        top = f"{table}_at_{len(self.places)}"
        text = f"module {top}(input clk, input rst, {ports});\n{body}\nendmodule\n"
        self.designs[top] = text
        self.places.append((top, table, size, divisor, slow))

    def tables(self, results: dict[str, Synthesis]) -> dict[str, list[list[float]]]:
        """Sizes, look-up tables and carry cells of each table, by growing size."""
        rows: dict[str, list[tuple[float, float, float]]] = {}
        for top, table, size, divisor, slow in self.places:
            result, path = results[top], results["slow_path"]
            lut, carry = result.lut - slow * path.lut, result.carry - slow * path.carry
            row = (size, max(0, lut) / divisor, max(0, carry) / divisor)
            rows.setdefault(table, []).append(row)
        return {
            table: [[round(x, 3) for x in column] for column in zip(*sorted(row), strict=True)]
            for table, row in rows.items()
        }


def arithmetic(bench: Bench) -> None:
    """Adders and comparisons, by the bits of the result or of the operands."""
    for width in WIDTHS:
        top = width - 1
        two = f"input [{top}:0] a, input [{top}:0] b, output [{top}:0] y"
        one = f"input [{top}:0] a, input b, output [{top}:0] y"
        bench.add("adder", width, two, "assign y = a + b;")
        shorter = f"input [{width - 2}:0] a, input [{width - 2}:0] b, output [{top}:0] y"
        if width > 1:
            bench.add("carrying_adder", width, shorter, "assign y = a + b;")
        bench.add("subtract", width, two, "assign y = a - b;")
        constant = random.Random(width).getrandbits(width) | 1
        bench.add("constant_adder", width, one, f"assign y = a + {width}'d{constant};")
        bench.add("increment", width, one, "assign y = a + b;")
        bench.add("negate", width, one, f"assign y = (a ^ {{{width}{{b}}}}) + b;")
        ports = f"input load, input en, input [{top}:0] a, output reg [{top}:0] y"
        body = f"always @(posedge clk) if (en) y <= (load ? {width}'d0 : y) + a;"
        bench.add("accumulate", width, ports, body)
        ports = f"input [{top}:0] a, input [{top}:0] b, output y"
        bench.add("compare", width, ports, "assign y = a < b;")
        if width in hdl.cost.CHAINED:
            again = hdl.cost.CHAINED.stop + 1 - width
            a, b = (f"{{{n}, {{{again}{{{n}[0]}}}}}}" for n in "ab")
            bench.add("chained_compare", width, ports, f"assign y = {a} < {b};")
        ports = f"input [{top}:0] a, output y"
        bench.add("compare_place", width, ports, f"assign y = a >= {width}'d{constant};")
    for width in (*range(3, 13), 16, 32):
        top = width - 3  # of the number that is taken
        ports = f"input [{top + 1}:0] a, input [{top}:0] b, output [{top}:0] y, output digit"
        body = f"wire [{width - 1}:0] left = {{1'b1, a}} - b;\nassign digit = left[{width - 1}];\n"
        body += f"assign y = digit ? left[{top}:0] : a[{top}:0];"
        bench.add("trial_subtract", width, ports, body)


def selection(bench: Bench) -> None:
    """Multiplexers by words, gates by inputs."""
    for n in (2, 3, 4, 5, 6, 8, 12, 16, 32):
        bits = (n - 1).bit_length()
        ports = f"input [{n * COPIES - 1}:0] a, input [{bits - 1}:0] s, output [{COPIES - 1}:0] y"
        words = [
            "{" + ", ".join(f"a[{k * COPIES + bit}]" for k in reversed(range(n))) + "}"
            for bit in range(COPIES)
        ]
        body = "".join(
            f"wire [{n - 1}:0] words_{bit} = {word};\nassign y[{bit}] = words_{bit}[s];\n"
            for bit, word in enumerate(words)
        )
        bench.add("mux", n, ports, body, COPIES, alone=True)
    for n in (2, 3, 4, 5, 6, 8, 16, 64):
        bench.add("logic", n, f"input [{n - 1}:0] a, output y", "assign y = &a;")


def masking(bench: Bench) -> None:
    """Sums and largest of two numbers that are 0 but where flags say, by the flags of each.

    A table takes flags in for nothing if it has inputs left, so ``calibrate`` prices them by the
    difference from numbers without flags: the mean of sums and largest, and of flags that both
    share, as taps of a row do, and a flag of their own.
    """
    top = COPIES - 1
    for flags in range(4):
        for own in (0, 1):
            ports = f"input [{top}:0] a, input [{top}:0] b, output reg [{top + 1}:0] y, "
            ports += "input of_a, input of_b, input [2:0] of_both"
            shared = [f"of_both[{n}]" for n in range(flags - own)]
            c, d = (
                " & ".join([n, *(f"{{{COPIES}{{{f}}}}}" for f in mine)])
                for n in "ab"
                for mine in [[*shared, *([f"of_{n}"] if own and flags else [])]]
            )
            body = f"wire [{top}:0] c = {c}, d = {d};\nalways @(posedge clk) y <= "
            bench.add(f"mask_{own}_largest", flags, ports, f"{body}c < d ? d : c;", 2 * COPIES)
            bench.add(f"mask_{own}_sum", flags, ports, f"{body}c + d;", 2 * COPIES)


def memories(bench: Bench) -> None:
    """Read-only memories in logic by their depth, for random words read by a counter or by data.

    The counter matters: yosys builds the memory from the counter's adder, which makes it larger.
    """
    for depth in (2, 4, 8, 16, 20, 24, 32, 40, 48, 64, 80, 128, 192, 256, 512, 1024):
        bits = (depth - 1).bit_length()
        source = random.Random(depth)
        words = "".join(
            f"m[{n}] = {COLUMNS}'d{source.getrandbits(COLUMNS)};\n" for n in range(depth)
        )
        memory = f"""(* rom_style = "logic" *) reg [{COLUMNS - 1}:0] m [0:{depth - 1}];
initial begin
{words}end
always @(posedge clk) if (en) y <= m[c];
"""
        ports = f"input en, output reg [{COLUMNS - 1}:0] y"
        by_data = f"{ports}, input [{bits - 1}:0] c"
        bench.add("lookup", depth, by_data, memory, COLUMNS, alone=True)
        if depth > 256:
            continue
        following = f"c == {depth - 1} ? {bits}'d0 : c + {bits}'d1"
        counting = f"""reg [{bits - 1}:0] c;
always @(posedge clk) if (rst) c <= 0; else if (en) c <= {following};
{memory}"""
        bench.add("rom", depth, ports, counting, COLUMNS, alone=True)


def functions(bench: Bench, target: Target) -> None:
    """Tables of smooth functions and of their coefficients, per look-up table of a plain split.

    Each of several kinds of table is measured; ``calibrate`` takes their mean.
    """
    units = [FunctionUnit(form, 1) for form in _smooth()]
    for n, unit in enumerate(units):
        tables = unit.tables
        depth, width = tables.depth, tables.width
        bits = (depth - 1).bit_length()
        if not width or depth != 1 << bits:
            continue
        words = "".join(f"m[{n}] = {width}'d{word};\n" for n, word in enumerate(tables.words))
        ports = f"input en, input [{bits - 1}:0] a, output reg [{width - 1}:0] y"
        body = f"""(* rom_style = "logic" *) reg [{width - 1}:0] m [0:{depth - 1}];
initial begin
{words}end
always @(posedge clk) if (en) y <= m[a];"""
        share = hdl.cost.decisions(tuple(tables.words), width, target.lut_size)
        bench.add(f"table_{n}", bits, ports, body, share, alone=True)


@functools.cache
def _smooth() -> list[Approximation]:
    found = []
    for bits in range(2, 9):
        tanh, power = FUNCTIONS["tanh"], FUNCTIONS["exp2"]
        target = Format(8, 7)
        found.append(candidates(tanh, Format(bits + 1, bits - 2), target, degrees=(0,))[0])
        unsigned = Format(bits, bits, False), Format(8, 7, False)
        found.append(candidates(power, *unsigned, degrees=(0,))[0])
    for name in ("sigmoid", "gelu"):
        found += candidates(FUNCTIONS[name], Format(11, 7), Format(11, 9), degrees=(1, 2))
    return found


def control(bench: Bench) -> None:
    """Counters by bits, elastic pipelines by stages."""
    for bits in COUNTER_BITS:
        for table, n in (("counter_power", 1 << bits), ("counter", (3 << bits >> 2) or 2)):
            if table == "counter" and bits < 2:
                n = 2
            ports = f"input en, output reg [{bits - 1}:0] c"
            following = f"(c == {n - 1}) ? {bits}'d0 : c + 1'd1"
            body = f"always @(posedge clk) if (rst) c <= 0; else if (en) c <= {following};"
            bench.add(table, bits, ports, body)
        n = (1 << bits) - 1 if bits < 2 else (3 << bits >> 2)
        ports = "input put, input take, output empty, output full"
        body = f"""reg [{bits - 1}:0] c;
assign empty = c == 0, full = c == {n};
always @(posedge clk) if (rst) c <= 0;
  else begin if (put & ~take) c <= c + 1'd1; if (take & ~put) c <= c - 1'd1; end"""
        bench.add("level", bits, ports, body)
    for stages in (1, 2, 4, 8, 12):
        top = stages - 1
        ports = f"input valid, input ready, output [{top}:0] enable, output reg [{top}:0] v"
        body = "".join(
            f"assign enable[{s}] = ready | ~&v[{top}:{s}];\n"
            f"always @(posedge clk) if (rst) v[{s}] <= 0;\n"
            f"  else if (enable[{s}]) v[{s}] <= {f'v[{s - 1}]' if s else 'valid'};\n"
            for s in range(stages)
        )
        bench.add("elastic", stages, ports, body)


def saturation(bench: Bench) -> None:
    """Saturation by the bits that go, for 4 and 12 bits that stay, each sign and each mode."""
    for kind in ("SS", "SU", "UU"):
        for overflow in ("SAT", "SAT_ZERO"):
            for width in (4, 12):
                for excess in EXCESS:
                    _saturation(bench, kind, overflow, width, excess)


def _saturation(bench: Bench, kind: str, overflow: str, width: int, excess: int) -> None:
    from_signed, to_signed = kind[0] == "S", kind[1] == "S"
    magnitude = width - to_signed
    source = magnitude + excess + from_signed
    sign = f"a[{source - 1}]" if from_signed else "1'b0"
    upper = f"a[{magnitude + excess - 1}:{magnitude}]"
    above = f"(~{sign} & |{upper})" if excess else "1'b0"
    below = "1'b0"
    if from_signed:
        below = sign if not to_signed else f"({sign} & ~&{upper})" if excess else "1'b0"
    high = (1 << magnitude) - 1
    low = to_signed << magnitude
    outside = f"({sign} ? {width}'d{low} : {width}'d{high})"
    if overflow == "SAT_ZERO":
        outside = f"{width}'d0"
    kept = f"{{{sign}, a[{magnitude - 1}:0]}}" if to_signed else f"a[{magnitude - 1}:0]"
    ports = f"input [{source - 1}:0] a, output [{width - 1}:0] y"
    body = f"assign y = ({above} | {below}) ? {outside} : {kept};"
    bench.add(f"saturate_{kind}_{overflow}_{width}", excess, ports, body, alone=True)


def squarers(bench: Bench, target: Target) -> None:
    """Numbers times themselves in logic, by their bits."""
    for width in (1, 2, 3, 4, 6, 8, 12, 16, 24):
        for sign in (True, False):
            if hdl.cost.hard_multipliers(
                hdl.cost.Product(width, sign, width, sign, 2 * width), target
            ):
                continue
            reg = "signed " * sign
            ports = f"input {reg}[{width - 1}:0] a, output {reg}[{2 * width - 1}:0] y"
            kind = "signed" if sign else "unsigned"
            bench.add(f"squarer_{kind}", width, ports, "assign y = a * a;")


SOFT_ROWS = (1, 2, 3, 4, 6, 8, 12, 16)
SOFT_COLUMNS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24)


def multiplication(bench: Bench, target: Target) -> None:
    """Products in logic by the wider operand, a table for each narrower one, signed and not."""
    for narrow in SOFT_ROWS:
        for wide in SOFT_COLUMNS:
            for sign in (True, False):
                product = hdl.cost.Product(wide, sign, narrow, sign, wide + narrow)
                if wide < narrow or hdl.cost.hard_multipliers(product, target):
                    continue
                kind = "signed" if sign else "unsigned"
                reg = "signed " * sign
                ports = f"input {reg}[{wide - 1}:0] a, input {reg}[{narrow - 1}:0] b, "
                ports += f"output {reg}[{wide + narrow - 1}:0] y"
                bench.add(f"soft_{kind}_{narrow}", wide, ports, "assign y = a * b;")


def calibrate(target: Target, only: str) -> dict[str, list[list[float]]]:
    """The tables of one target whose names begin with ``only``."""
    bench = Bench(only)
    arithmetic(bench)
    selection(bench)
    masking(bench)
    memories(bench)
    functions(bench, target)
    control(bench)
    saturation(bench)
    multiplication(bench, target)
    squarers(bench, target)
    tables = bench.tables(synthesise_many(bench.designs, target))
    # Choices, memories, tables, saturation are on the slowest path in some designs, not in others.
    for table in [name.removesuffix("_alone") for name in tables if name.endswith("_alone")]:
        means = zip(tables[table][1], tables.pop(f"{table}_alone")[1], strict=True)
        tables[table][1] = [round(sum(pair) / 2, 3) for pair in means]
    kinds = [tables.pop(name) for name in sorted(tables) if name.startswith("mask_")]
    if kinds:
        more = [[lut - kind[1][0] for lut in kind[1]] for kind in kinds]
        means = [round(max(0.0, sum(pair) / len(pair)), 3) for pair in zip(*more, strict=True)]
        tables["mask"] = [kinds[0][0], means, [0.0] * len(means)]
    kinds = [tables.pop(name) for name in sorted(tables) if name.startswith("table_")]
    if kinds:
        sizes = sorted({kind[0][0] for kind in kinds})
        shares = [[kind[1][0] for kind in kinds if kind[0][0] == size] for size in sizes]
        means = [round(sum(share) / len(share), 3) for share in shares]
        tables["table"] = [sizes, means, [0.0] * len(sizes)]
    return tables


def text(tables: dict[str, dict[str, list[list[float]]]]) -> str:
    """The file: a line a table."""
    targets = []
    for target, prices in tables.items():
        lines = ",\n".join(f'  "{name}": {json.dumps(prices[name])}' for name in sorted(prices))
        targets.append(f' "{target}": {{\n{lines}\n }}')
    return "{\n" + ",\n".join(targets) + "\n}\n"


def main() -> None:
    """Rewrites the prices of the named targets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", default=Target.names())
    parser.add_argument("--only", default="", help="tables whose names begin so")
    path = Path(hdl.cost.__file__).with_name("calibration.json")
    tables = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    arguments = parser.parse_args()
    for name in arguments.targets:
        measured = calibrate(Target.named(name), arguments.only)
        tables[name] = tables.get(name, {}) | measured
        print(f"{name}: {len(measured)} tables")
    ordered = {name: tables[name] for name in Target.names() if name in tables}
    path.write_text(text(ordered), encoding="utf-8")


if __name__ == "__main__":
    main()
