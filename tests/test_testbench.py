# SPDX-License-Identifier: Apache-2.0
"""The test bench that travels with a design: passes where all is right, fails where it is not."""

import re
import subprocess
import sys

import numpy as np
import pytest
from simulators import icarus_needed

from sim import AXI, Design, StreamPort, verilog_testbench
from sim.tools import verilator

DESIGN = """
module averager(input aclk, input aresetn,
  input s_axis_tvalid, output s_axis_tready, input [15:0] s_axis_tdata, input s_axis_tlast,
  output m_axis_tvalid, input m_axis_tready, output [23:0] m_axis_tdata, output m_axis_tlast,
  output frame_error);
  // running sum within frames of three words
  reg valid, last, wrong;
  reg [23:0] sum;
  reg [1:0] count;
  wire move = s_axis_tvalid & s_axis_tready;
  assign s_axis_tready = ~valid | m_axis_tready;
  assign m_axis_tvalid = valid;
  assign m_axis_tdata = sum;
  assign m_axis_tlast = last;
  assign frame_error = wrong;
  always @(posedge aclk) begin
    if (s_axis_tready) valid <= s_axis_tvalid;
    if (move) begin
      sum <= (count == 2'd0 ? 24'd0 : sum) + {8'd0, s_axis_tdata};
      last <= count == 2'd2;
      count <= count == 2'd2 ? 2'd0 : count + 2'd1;
      if (s_axis_tlast != (count == 2'd2)) wrong <= 1'b1;
    end
    if (~aresetn) begin
      valid <= 1'b0;
      count <= 2'd0;
      wrong <= 1'b0;
    end
  end
endmodule
"""
PORTS = [StreamPort.axi("s_axis", "in", 16), StreamPort.axi("m_axis", "out", 24)]
AVERAGER = Design(DESIGN, "averager", PORTS, AXI)
WORDS = np.random.default_rng(1).integers(0, 2**16, (40, 3))
SUMS = np.cumsum(WORDS, axis=1)


def files(**options):
    inputs, outputs = {"s_axis": WORDS.ravel().tolist()}, {"m_axis": SUMS.ravel().tolist()}
    options = {"frames": 40, "flags": ["frame_error"], "limit": 5000} | options
    return verilog_testbench(AVERAGER, inputs, outputs, **options)


def run_in_icarus(folder, texts, design=DESIGN):
    """What the bench prints, compiled and run in plain Icarus as its README says."""
    icarus_needed()
    (folder / "tb").mkdir()
    (folder / "rtl").mkdir()
    for name, text in texts.items():
        (folder / "tb" / name).write_text(text)
    (folder / "rtl" / "averager.v").write_text(design)
    command = texts["README"].splitlines()[1]
    assert "-g2005 " in command
    told = subprocess.run(
        command, cwd=folder / "tb", shell=True, capture_output=True, text=True, timeout=60
    )
    assert told.returncode == 0, told.stderr
    assert told.stderr == ""
    return told.stdout.splitlines()


def test_a_right_design_passes(tmp_path):
    texts = files()
    assert set(texts) == {"tb_averager.v", "s_axis.hex", "m_axis.hex", "README"}
    (line,) = (line for line in run_in_icarus(tmp_path, texts) if "$finish" not in line)
    assert line == "PASS 120 words"


FAULTS = {
    "wrong-word": (
        ("{8'd0, s_axis_tdata}", "{8'd0, s_axis_tdata & 16'hfffe}"),
        r"m_axis word \d+ must be [0-9a-f]{7}, not [0-9a-f]{7}",
    ),
    "wrong-last": (
        ("last <= count == 2'd2;", "last <= 1'b0;"),
        r"m_axis word 2 must be 1[0-9a-f]{6}, not 0[0-9a-f]{6}",
    ),
    "hang": (
        ("m_axis_tvalid = valid;", "m_axis_tvalid = valid & 1'b0;"),
        "not complete after 5000 cycles",
    ),
    "doubled-word": (
        ("if (s_axis_tready) valid <= s_axis_tvalid;", "if (s_axis_tready) valid <= 1'b1;"),
        r"m_axis word \d+ must be [0-9a-f]{7}, not [0-9a-fx]{7}",
    ),
    "unknown-word": (
        ("(count == 2'd0 ? 24'd0 : sum)", "sum"),
        "m_axis word 0 must be 0[0-9a-f]{6}, not 0xxxxxx",
    ),
    "unknown-valid": (
        ("      valid <= 1'b0;\n", ""),
        r"m_axis valid is unknown in cycle \d+",
    ),
    "frame-error": (
        ("s_axis_tlast != (count == 2'd2)", "s_axis_tlast"),
        r"frame_error must stay low, not be 1 in cycle \d+",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_design_fails(tmp_path, fault):
    (old, new), message = FAULTS[fault]
    assert DESIGN.count(old) == 1
    told = run_in_icarus(tmp_path, files(), DESIGN.replace(old, new))
    told = [line for line in told if "$finish" not in line]
    assert re.fullmatch(message, told[0])
    assert told[1:] == ["FAIL"]


@pytest.mark.parametrize("word", [0, 57, 119])
def test_a_damaged_vector_fails(tmp_path, word):
    texts = files()
    lines = texts["m_axis.hex"].splitlines()
    lines[word] = f"{int(lines[word], 16) ^ 4:07x}"
    texts["m_axis.hex"] = "\n".join([*lines, ""])
    told = run_in_icarus(tmp_path, texts)
    assert told[0].startswith(f"m_axis word {word} must be ")
    assert told[1] == "FAIL"


def test_a_word_too_many_fails(tmp_path):
    inputs, outputs = {"s_axis": WORDS.ravel().tolist()}, {"m_axis": SUMS.ravel().tolist()}
    texts = verilog_testbench(AVERAGER, inputs, outputs, frames=40)
    shorter = verilog_testbench(AVERAGER, inputs, {"m_axis": outputs["m_axis"][:-40]}, frames=40)
    texts |= {"tb_averager.v": shorter["tb_averager.v"]}
    texts["m_axis.hex"] = "".join(texts["m_axis.hex"].splitlines(keepends=True)[:80])
    told = run_in_icarus(tmp_path, texts)
    assert told[:2] == ["m_axis gives more than 80 words", "FAIL"]


def write_all(folder):
    for name, text in files().items():
        (folder / name).write_text(text)
    (folder / "averager.v").write_text(DESIGN)


def test_the_bench_is_accepted_by_verilator(tmp_path):
    write_all(tmp_path)
    program, environment = verilator()
    options = ["--lint-only", "--timing", "-Wall", "-Wno-BLKSEQ", "-Wno-DECLFILENAME"]
    told = subprocess.run(
        [program, *options, "--top-module", "tb_averager", "tb_averager.v", "averager.v"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (told.stderr, told.returncode) == ("", 0)


@pytest.mark.full
def test_the_bench_passes_in_verilator(tmp_path):
    write_all(tmp_path)
    program, environment = verilator()
    variables = {
        "CXX": "g++",
        "LINK": "g++",
        "PYTHON3": sys.executable,
        "CFG_CXXFLAGS_PCH_I": "-include",
        "CFG_CXXFLAGS_COROUTINES": "-fcoroutines",
        "CFG_LDLIBS_THREADS": "-pthread",
    }
    options = ["--binary", "--timing", "--top-module", "tb_averager", "-Wno-fatal", "-Mdir", "obj"]
    makeflags = " ".join(f"{name}={value}" for name, value in variables.items())
    subprocess.run(
        [program, *options, "tb_averager.v", "averager.v"],
        cwd=tmp_path,
        env=environment | {"MAKEFLAGS": makeflags},
        check=True,
    )
    command = [str(tmp_path / "obj" / "Vtb_averager")]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert told.stdout.splitlines()[0] == "PASS 120 words"


def test_the_bench_is_the_same_bytes_every_time():
    assert files() == files()


REFUSALS = {
    "lacking-port": (
        lambda: verilog_testbench(AVERAGER, {"s_axis": [1]}, {}),
        "verilog_testbench words must be given for every port, not lack m_axis",
    ),
    "no-words": (
        lambda: verilog_testbench(AVERAGER, {"s_axis": []}, {"m_axis": [1]}),
        "verilog_testbench words of s_axis must be at least one, not none",
    ),
    "frames": (
        lambda: verilog_testbench(AVERAGER, {"s_axis": [1]}, {"m_axis": [1]}, frames=2),
        "verilog_testbench words of s_axis must divide into 2 frames, not 1",
    ),
    "too-wide": (
        lambda: verilog_testbench(AVERAGER, {"s_axis": [65536]}, {"m_axis": [1]}),
        "verilog_testbench word for s_axis must be in [0, 2**16), not 0x10000",
    ),
}


@pytest.mark.parametrize(("act", "message"), REFUSALS.values(), ids=REFUSALS)
def test_wrong_arguments_are_refused(act, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        act()
