# SPDX-License-Identifier: Apache-2.0
"""Verilog says what Amaranth says, bit for bit, and says it cleanly."""

import hashlib
import itertools
import os
import random
import re
import sys
from pathlib import Path

import pytest
from amaranth import Assert, ClockSignal, Instance, Module, Print, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from refusal import refused
from verilog_bench import icarus, lint, ports, run, simulate, stimuli
from verilog_zoo import SHAPES, ZOO, Circuit, hierarchy, random_circuit

import hdl
from hdl import yosys
from hdl.names import LONGEST, RESERVED, legal_name


def make(name):
    if name.startswith("random_"):
        return random_circuit(int(name.removeprefix("random_")))
    build, shapes = ZOO[name]
    return Circuit(shapes, build)


def compare(texts, folder, cycles):
    """Every output of every cycle after the first, in which reset acts."""
    designs = {}
    for name, text in texts.items():
        component = make(name)
        designs[name] = (component, text, stimuli(component, cycles, name))
    found = icarus(designs, folder)
    for name, (component, _, rows) in designs.items():
        expected = simulate(make(name), rows)
        widths = [-(-len(value) // 4) for _, value in ports(component, wiring.Out)]
        shown = [[f"{y:0{w}x}" for y, w in zip(row, widths, strict=True)] for row in expected]
        assert found[name][1:] == shown[1:], name
        assert len(shown) == cycles


@pytest.fixture(scope="module")
def texts():
    names = [*ZOO, *(f"random_{seed}" for seed in range(12))]
    return {name: hdl.verilog(make(name), name) for name in names}


@pytest.fixture(scope="module")
def folder(texts, tmp_path_factory):
    place = tmp_path_factory.mktemp("zoo")
    for name, text in texts.items():
        (place / f"{name}.v").write_text(text)
    return place


def test_verilog_equals_amaranth_bit_for_bit(texts, tmp_path):
    compare(texts, tmp_path, cycles=100)


def test_verilator_has_nothing_to_complain_about(texts, folder):
    assert {name: lint(folder, f"{name}.v") for name in texts} == dict.fromkeys(texts, "")


def test_yosys_reads_it_and_finds_nothing_undriven_or_looped(texts, folder):
    reads = [f"read_verilog {name}.v" for name in texts]
    yosys.run([*reads, "proc", "check -assert"], folder)


def test_text_holds_no_waiver_path_date_or_version(texts):
    for name, text in texts.items():
        assert not re.search(r"lint_off|verilator|/\*|//|/work|\.py|[Yy]osys|[Aa]maranth", text), (
            name
        )
        assert "always @*" not in text


def test_registers_are_set_by_reset_and_only_read_only_memories_by_initial(texts):
    for text in texts.values():
        for block in re.findall(r"initial begin\n(.*?)\n    end", text, re.DOTALL):
            names = {line.split("[")[0].strip() for line in block.splitlines()}
            (name,) = names
            assert not re.search(rf"\b{name}\[[^;]* <= ", text)
    assert sum(text.count("initial") for text in texts.values()) >= 2


def test_the_same_bytes_in_other_folders_and_under_other_hash_seeds(texts, tmp_path):
    names = ["hierarchy_1", "memories_0", "choices_1", "random_5"]
    program = (
        "import hashlib, warnings; warnings.simplefilter('ignore'); import hdl, test_verilog\n"
        f"for name in {names!r}:\n"
        "    print(hashlib.sha256(hdl.verilog(test_verilog.make(name), name).encode()).hexdigest())"
    )
    here = Path(__file__).parent
    expected = [hashlib.sha256(texts[name].encode()).hexdigest() for name in names]
    for seed in ("1", "777"):
        place = tmp_path / f"folder {seed}"
        place.mkdir()
        paths = os.pathsep.join([str(here), str(here.parent)])
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": paths}
        printed = run([sys.executable, "-c", program], place, environment)
        assert printed.split() == expected


def test_two_designs_live_in_one(tmp_path):
    circuits = {name: Circuit(SHAPES[1], hierarchy) for name in ("first", "second")}
    text = {name: hdl.verilog(circuit, name) for name, circuit in circuits.items()}
    modules = [re.findall(r"^module (\w+)", one, re.MULTILINE) for one in text.values()]
    assert modules[0] == [name.replace("second", "first", 1) for name in modules[1]]
    assert all(name.startswith("first_") for name in modules[0][1:])
    assert "first_pair_left" in modules[0]
    assert not set(modules[0]) & set(modules[1])
    for name, one in text.items():
        (tmp_path / f"{name}.v").write_text(one)
    pins = ".clk(clk), .rst(rst), .a(a), .b(b)"
    (tmp_path / "both.v").write_text(
        "module both (input clk, input rst, input [3:0] a, input [4:0] b, output [13:0] y);\n"
        + "".join(
            f"{name} {name}_part ({pins}, .y0(y[{low + 6}:{low}]), .y1(), .y2());\n"
            for name, low in (("first", 0), ("second", 7))
        )
        + "endmodule\n"
    )
    sources = ["both.v", "first.v", "second.v"]
    run(["iverilog", "-g2005", "-Wall", "-s", "both", "-o", "both", *sources], tmp_path)
    complaints = lint(tmp_path, "--top-module", "both", "-Wno-PINCONNECTEMPTY", *sources)
    assert complaints == ""


class Rounder(wiring.Component):
    """A small stream block as the blocks of this project are written."""

    i: In(stream.Signature(data.ArrayLayout(signed(8), 2)))
    o: Out(stream.Signature(signed(12)))

    def elaborate(self, platform):
        m = Module()
        sums = Signal(signed(18))
        m.d.comb += sums.eq(self.i.payload[0] * self.i.payload[1])
        m.d.comb += self.i.ready.eq(~self.o.valid | self.o.ready)
        with m.If(self.i.ready):
            m.d.sync += self.o.valid.eq(self.i.valid)
            m.d.sync += self.o.payload.eq((sums + 8) >> 4)
        return m


def test_the_text_is_what_a_designer_would_write():
    assert hdl.verilog(Rounder(), "rounder") == (
        "module rounder (\n"
        "    input clk,\n"
        "    input rst,\n"
        "    input [15:0] i_payload,\n"
        "    input i_valid,\n"
        "    output i_ready,\n"
        "    output reg [11:0] o_payload,\n"
        "    output reg o_valid,\n"
        "    input o_ready\n"
        ");\n"
        "    wire [15:0] sums = $signed({{8{i_payload[7]}}, i_payload[7:0]})"
        " * $signed({{8{i_payload[15]}}, i_payload[15:8]});\n"
        "    wire [11:0] o_payload_next = sums[15:4] + {11'd0, sums[3]};\n"
        "    assign i_ready = ~o_valid | o_ready;\n"
        "    always @(posedge clk)\n"
        "        if (rst) begin\n"
        "            o_valid <= 1'b0;\n"
        "            o_payload <= 12'd0;\n"
        "        end else if (i_ready) begin\n"
        "            o_valid <= i_valid;\n"
        "            o_payload <= o_payload_next;\n"
        "        end\n"
        "    wire unused = &{1'b0, sums[2:0]};\n"
        "endmodule\n"
    )


def test_attributes_reach_the_memory_and_the_register():
    def build(m, a, b):
        m.submodules.curve = curve = Memory(
            shape=unsigned(4), depth=4, init=[3, 1, 2, 0], attrs={"rom_style": 'block"; //'}
        )
        port = curve.read_port(domain="comb")
        m.d.comb += port.addr.eq(a)
        held = Signal(4, attrs={"keep": 1, "ram_style": "registers", "src": "secret"})
        m.d.sync += held.eq(port.data)
        return [held + 1]

    text = hdl.verilog(Circuit(SHAPES[0], build), "styled")
    assert '(* rom_style = "block__ __" *) reg [3:0] curve [0:3];' in text
    assert '(* keep = "1", ram_style = "registers" *) reg [3:0] held;' in text
    assert "secret" not in text


class Ready(wiring.Component):
    """Adds through a module that it brings as RTLIL; in simulation it does so itself."""

    a: In(4)
    b: In(4)
    y: Out(4)

    def elaborate(self, platform):
        m = Module()
        if platform is None:
            m.d.comb += self.y.eq(self.a + self.b)
            return m
        platform.rtlil_modules["ready"] = (
            "module \\ready\n  wire width 4 input 1 \\a\n  wire width 4 input 2 \\b\n"
            "  wire width 4 output 3 \\y\n  wire width 1 input 4 \\clk\n  cell $add $1\n"
            "    parameter \\A_SIGNED 0\n    parameter \\B_SIGNED 0\n    parameter \\A_WIDTH 4\n"
            "    parameter \\B_WIDTH 4\n    parameter \\Y_WIDTH 4\n    connect \\A \\a\n"
            "    connect \\B \\b\n    connect \\Y \\y\n  end\nend\n"
        )
        for name, left in (("once", self.a), ("again", self.b)):
            wire = Signal(4, name=f"{name}_sum")
            m.submodules[name] = Instance(
                "ready", i_a=left, i_b=self.b, i_clk=ClockSignal(), o_y=wire
            )
            if name == "once":
                m.d.comb += self.y.eq(wire)
        return m


def test_modules_may_come_as_rtlil(tmp_path):
    text = hdl.verilog(Ready(), "outer")
    (tmp_path / "outer.v").write_text(text)
    assert lint(tmp_path, "outer.v") == ""
    assert re.findall(r"^module (\w+)", text, re.MULTILINE) == ["outer", "outer_ready"]
    rows = stimuli(Ready(), 40, 1)
    found = icarus({"outer": (Ready(), text, rows)}, tmp_path)["outer"]
    assert found == [[f"{y:x}"] for (y,) in simulate(Ready(), rows)]


HOSTILE = [
    *[
        "",
        " ",
        "..",
        "../../etc",
        "a/b",
        "a\\b",
        'say "x"',
        "it's",
        "new\nline",
        "tab\t",
        "`define",
    ],
    *[
        "$display",
        "1x1",
        "9",
        "_",
        "__",
        "_x_",
        "x__y",
        "é",
        "层",
        "\U0001f600",
        "a;b",
        "a)b",
        "{}",
    ],
    *["endmodule\nmodule x", "/* x", "// x", "\\x ", "x" * 5000, "x" * 5000 + "y", "\0", "\ud800"],
    *[
        "CON",
        "nul",
        "Wire",
        "WIRE",
        "a.b",
        "a b",
        "A B",
        "a-b",
        "a_b",
        "input",
        "input_",
        "n_input",
    ],
]


def test_hostile_names_become_identifiers_that_every_tool_reads(tmp_path):
    taken = set()
    texts = [*HOSTILE, *sorted(RESERVED), *sorted(word.upper() for word in RESERVED)]
    names = [legal_name(text, taken) for text in texts]
    assert len({name.lower() for name in names}) == len(names) == len(taken)
    for name in names:
        assert re.fullmatch(r"[A-Za-z](_?[A-Za-z0-9])*", name)
        assert len(name) <= LONGEST + 4
        assert name.lower() not in RESERVED
    lines = [f"module {names[0]} (input clk, output {names[1]});"]
    lines += [f"    reg {name};" for name in names[2:]]
    values = [names[1], *names[2:]]
    chain = [
        f"    always @(posedge clk) {one} <= {other};"
        for one, other in itertools.pairwise(names[2:])
    ]
    chain.append(f"    always @(posedge clk) {names[-1]} <= ~{names[2]};")
    lines += [*chain, f"    assign {values[0]} = {names[2]};", "endmodule", ""]
    (tmp_path / f"{names[0]}.v").write_text("\n".join(lines))
    assert lint(tmp_path, f"{names[0]}.v") == ""
    run(["iverilog", "-g2005", "-o", "sim", f"{names[0]}.v"], tmp_path)
    run(["iverilog", "-g2012", "-o", "sim", f"{names[0]}.v"], tmp_path)
    yosys.run([f"read_verilog -sv {names[0]}.v"], tmp_path)
    again = set()
    assert [legal_name(text, again) for text in texts] == names


def test_hostile_submodules_and_signals_are_renamed(tmp_path):
    def build(m, a, b):
        for name in ("begin", "a/b", "a b", "9", "x\ty"):
            m.submodules[name] = inner = Rounder()
            m.d.comb += [inner.i.payload[0].eq(a), inner.i.payload[1].eq(b), inner.i.valid.eq(1)]
            m.d.comb += inner.o.ready.eq(1)
            begin = Signal(12, name="end")
            m.d.sync += begin.eq(inner.o.payload)
            yield begin

    circuit = Circuit(SHAPES[1], build)
    text = hdl.verilog(circuit, "hostile")
    (tmp_path / "hostile.v").write_text(text)
    assert lint(tmp_path, "hostile.v") == ""
    run(["iverilog", "-g2005", "-Wall", "-o", "sim", "hostile.v"], tmp_path)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("fc1", "fc1"),
        ("encoder.fc1", "encoder_fc1"),
        ("/model/Gemm_0", "model_Gemm_0"),
        ("always", "n_always"),
        ("Signal", "n_Signal"),
        ("3x3", "n3x3"),
        ("", "unnamed"),
        ("i__payload$8[0]", "i_payload_8_0"),
    ],
)
def test_names_stay_as_near_as_they_can(text, name):
    assert legal_name(text, set()) == name


def test_names_must_be_strings():
    with pytest.raises(TypeError, match=r"^Name must be a string, not int$"):
        legal_name(3, set())


def with_contents(m, a, b):
    m.submodules.table = table = Memory(shape=unsigned(4), depth=4, init=[1])
    write, read = table.write_port(), table.read_port()
    m.d.comb += [write.addr.eq(a), write.data.eq(b), write.en.eq(1), read.addr.eq(b)]
    return [read.data]


def transparent(m, a, b):
    m.submodules.table = table = Memory(shape=unsigned(4), depth=4, init=[])
    write = table.write_port()
    read = table.read_port(transparent_for=(write,))
    m.d.comb += [write.addr.eq(a), write.data.eq(b), write.en.eq(1), read.addr.eq(b)]
    return [read.data]


def printing(m, a, b):
    m.d.sync += Print(a)
    return [a]


def asserting(m, a, b):
    m.d.sync += Assert(a != b)
    return [a]


def foreign(m, a, b):
    y = Signal(4)
    m.submodules.multiplier = Instance("DSP48E1", i_a=a, i_b=b, o_y=y)
    return [y]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (with_contents, "Verilog memory table must start at zero, for it is written"),
        (transparent, "Verilog memory table must not have a transparent read port"),
        (printing, "Verilog cell must be a circuit's, not $print"),
        (asserting, "Verilog cell must be a circuit's, not $check"),
        (foreign, "Verilog instance multiplier must be of a module of the design, not DSP48E1"),
    ],
)
def test_what_cannot_become_verilog_is_refused(build, message):
    with refused(ValueError, message):
        hdl.verilog(Circuit(SHAPES[0], build), "top")


@pytest.mark.parametrize("name", ["1x", "Wire", "x\n", "", "a b", "é", "$x"])
def test_names_that_are_no_identifiers_are_refused(name):
    message = re.escape(f"Verilog name must be a legal identifier, not {name!r}")
    with pytest.raises(ValueError, match=f"^{message}$"):
        hdl.verilog(Rounder(), name)


def test_what_is_no_component_or_no_name_is_refused():
    message = "^Verilog component must be an Amaranth component, not Module$"
    with pytest.raises(TypeError, match=message):
        hdl.verilog(Module(), "top")
    with pytest.raises(TypeError, match=r"^Verilog name must be a string, not int$"):
        hdl.verilog(Rounder(), 3)


def test_yosys_tells_its_last_words(tmp_path):
    with pytest.raises(
        yosys.YosysError, match=r"^Yosys must end with status 0, not 1: (?s:.*)nowhere"
    ):
        yosys.run(["read_verilog nowhere.v"], tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("start", range(100, 1100, 100))
def test_random_circuits_equal_amaranth(start, tmp_path):
    names = [f"random_{seed}" for seed in range(start, start + 100)]
    found = {name: hdl.verilog(make(name), name) for name in names}
    compare(found, tmp_path, cycles=60)
    for name in names:
        assert lint(tmp_path, f"{name}.v") == ""


class Sums(wiring.Component):
    """``count`` sums of random earlier ones, as RTLIL: a graph of the size of a whole network."""

    x: In(64)
    y: Out(16)

    def __init__(self, count):
        self.count = count
        super().__init__()

    def elaborate(self, platform):
        draw = random.Random(1)
        lines = ["module \\sums", "wire width 64 input 1 \\x", "wire width 16 output 2 \\y"]
        words = [f"\\x [{16 * n + 15}:{16 * n}]" for n in range(4)]
        sizes = ["A_WIDTH", "B_WIDTH", "Y_WIDTH"]
        for n in range(self.count):
            lines += [f"wire width 16 \\sum_{n}", f"cell ${draw.choice(['add', 'sub'])} $sum_{n}"]
            lines += ["parameter \\A_SIGNED 0", "parameter \\B_SIGNED 0"]
            lines += [f"parameter \\{name} 16" for name in sizes]
            lines += [f"connect \\A {words[-1]}", f"connect \\B {draw.choice(words[-200:])}"]
            lines += [f"connect \\Y \\sum_{n}", "end"]
            words.append(f"\\sum_{n}")
        platform.rtlil_modules["sums"] = "\n".join([*lines, f"connect \\y {words[-1]}", "end\n"])
        m = Module()
        m.submodules.graph = Instance("sums", i_x=self.x, o_y=self.y)
        return m


def test_six_thousand_adders_take_seconds():
    text = hdl.verilog(Sums(6000), "many")
    assert len(re.findall(r" [+-] ", text)) == 6000
