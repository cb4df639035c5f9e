# SPDX-License-Identifier: Apache-2.0
"""The cocotb bench: right designs pass with exact cycles, wrong ones are found out."""

import dataclasses
import os
import shutil

import numpy as np
import pytest

import sim.cache
from sim import (
    AXI,
    STALLS,
    BuildError,
    Design,
    Job,
    SimulationError,
    StreamPort,
    has_icarus,
    simulate,
)

PIPELINE = """
module pipeline(input clk, input rst,
  input i_valid, output i_ready, input [7:0] i_payload,
  output o_valid, input o_ready, output [7:0] o_payload);
  reg valid_0, valid_1, valid_2;
  reg [7:0] stage_0, stage_1, stage_2;
  wire move_2 = ~valid_2 | o_ready;
  wire move_1 = ~valid_1 | move_2;
  wire move_0 = ~valid_0 | move_1;
  assign i_ready = move_0;
  assign o_valid = valid_2;
  assign o_payload = stage_2;
  always @(posedge clk) begin
    if (move_0) begin valid_0 <= i_valid; stage_0 <= i_payload + 8'd1; end
    if (move_1) begin valid_1 <= valid_0; stage_1 <= stage_0 * 8'd3; end
    if (move_2) begin valid_2 <= valid_1; stage_2 <= stage_1; end
    if (rst) begin valid_0 <= 1'b0; valid_1 <= 1'b0; valid_2 <= 1'b0; end
  end
endmodule
"""

FIFO = """
module fifo(input clk, input rst,
  input i_valid, output i_ready, input [99:0] i_payload,
  output o_valid, input o_ready, output [99:0] o_payload);
  fifo_store store(clk, rst, i_valid, i_ready, i_payload, o_valid, o_ready, o_payload);
endmodule
module fifo_store(input clk, input rst,
  input i_valid, output i_ready, input [99:0] i_payload,
  output o_valid, input o_ready, output [99:0] o_payload);
  reg [99:0] words [0:3];
  reg [1:0] head, tail;
  reg [2:0] level;
  assign i_ready = level < 3'd4;
  assign o_valid = level != 3'd0;
  assign o_payload = words[head];
  always @(posedge clk) begin
    if (i_valid & i_ready) begin words[tail] <= i_payload; tail <= tail + 2'd1; end
    if (o_valid & o_ready) head <= head + 2'd1;
    level <= level + {2'd0, i_valid & i_ready} - {2'd0, o_valid & o_ready};
    if (rst) begin head <= 2'd0; tail <= 2'd0; level <= 3'd0; end
  end
endmodule
"""

ACCUMULATOR = """
module accumulator(input aclk, input aresetn,
  input s_axis_tvalid, output s_axis_tready, input [7:0] s_axis_tdata, input s_axis_tlast,
  output m_axis_tvalid, input m_axis_tready, output [15:0] m_axis_tdata, output m_axis_tlast,
  output reg frame_error);
  reg valid;
  reg [15:0] sum, total;
  reg [1:0] count;
  wire take = s_axis_tvalid & s_axis_tready;
  wire [15:0] updated = (count == 2'd0 ? 16'd0 : sum) + {8'd0, s_axis_tdata};
  assign s_axis_tready = ~valid | m_axis_tready | count != 2'd3;
  assign m_axis_tvalid = valid;
  assign m_axis_tdata = total;
  assign m_axis_tlast = 1'b1;
  always @(posedge aclk) begin
    if (m_axis_tready) valid <= 1'b0;
    if (take) begin
      sum <= updated;
      count <= count + 2'd1;
      if (s_axis_tlast != (count == 2'd3)) frame_error <= 1'b1;
      if (count == 2'd3) begin total <= updated; valid <= 1'b1; end
    end
    if (!aresetn) begin valid <= 1'b0; count <= 2'd0; frame_error <= 1'b0; end
  end
endmodule
"""


def plain(verilog, top, bits, monitors=()):
    ports = [StreamPort.plain("i", "in", bits), StreamPort.plain("o", "out", bits)]
    return Design(verilog, top, ports, monitors=monitors)


DESIGNS = [
    plain(PIPELINE, "pipeline", 8),
    plain(FIFO, "fifo", 100, ["store.level"]),
    Design(
        ACCUMULATOR,
        "accumulator",
        [StreamPort.axi("s_axis", "in", 8), StreamPort.axi("m_axis", "out", 16)],
        clocking=AXI,
        monitors=["frame_error"],
    ),
]
BYTES = np.random.default_rng(1).integers(0, 256, 200).tolist()
WIDE = [(byte << 92) + (byte << 40) + 7 * byte for byte in BYTES]


def through_pipeline(words):
    return [(word + 1) * 3 % 256 for word in words]


def sums_of_four(words):
    return [sum(words[k : k + 4]) for k in range(0, len(words) - 3, 4)]


@pytest.fixture(params=["verilator", "icarus"])
def simulator(request):
    if request.param == "icarus" and not has_icarus() and not os.environ.get("CI"):
        pytest.skip("Icarus Verilog is not installed")
    return request.param


def three_jobs(**options):
    return [
        Job({"i": BYTES}, {"o": 200}, "pipeline", **options),
        Job({"i": WIDE}, {"o": 200}, "fifo", **options),
        Job({"s_axis": BYTES}, {"m_axis": 50}, "accumulator", last={"s_axis": 4}, **options),
    ]


def test_designs_are_exact_under_every_standard_stall_pattern(simulator):
    jobs = [job for stalls in STALLS for job in three_jobs(stalls=stalls, seed=3)]
    jobs.sort(key=lambda job: job.design)
    results = simulate(DESIGNS, jobs, simulator)
    assert [result.job for result in results] == jobs
    for result in results:
        if result.job.design == "accumulator":
            assert result.ports["m_axis"].words == sums_of_four(BYTES)
            assert result.ports["m_axis"].last == [True] * 50
            assert result.maxima == {"frame_error": 0}
        else:
            expected = WIDE if result.job.design == "fifo" else through_pipeline(BYTES)
            assert result.ports["o"].words == expected


def test_both_simulators_agree_cycle_for_cycle():
    if not has_icarus() and not os.environ.get("CI"):
        pytest.skip("Icarus Verilog is not installed")
    jobs = three_jobs(stalls=(0.5, 0.5)) + three_jobs(patterns={}, seed=8, stalls=(0.9, 0.2))
    one, other = (simulate(DESIGNS, jobs, name) for name in ("verilator", "icarus"))
    for a, b in zip(one, other, strict=True):
        assert a.cycles == b.cycles
        for name in a.ports:
            np.testing.assert_array_equal(a.ports[name].cycles, b.ports[name].cycles)


def test_cycles_count_from_the_first_offer(simulator):
    pipeline, fifo, accumulator = simulate(DESIGNS, three_jobs(), simulator)
    np.testing.assert_array_equal(pipeline.ports["i"].cycles, np.arange(200))
    np.testing.assert_array_equal(pipeline.ports["o"].cycles, np.arange(3, 203))
    np.testing.assert_array_equal(fifo.ports["o"].cycles, np.arange(1, 201))
    np.testing.assert_array_equal(accumulator.ports["m_axis"].cycles, np.arange(4, 204, 4))


def test_stalls_hold_words_back_by_their_probability(simulator):
    (result,) = simulate(DESIGNS[0], [Job({"i": BYTES}, {"o": 200}, stalls=(0.3, 1))], simulator)
    assert 200 / 0.4 < result.ports["o"].cycles[-1] < 200 / 0.2


def test_patterns_are_followed_bit_by_bit(simulator):
    job = Job({"i": BYTES[:4]}, {"o": 4}, patterns={"i": "0011", "o": "00000001"})
    (result,) = simulate(DESIGNS[0], [job], simulator)
    assert result.ports["i"].cycles.tolist() == [2, 3, 6, 7]
    assert result.ports["o"].cycles.tolist() == [7, 15, 23, 31]


def test_a_sink_that_waits_for_valid_gets_everything(simulator):
    (result,) = simulate(
        DESIGNS[0], [Job({"i": BYTES}, {"o": 200}, patterns={"o": "wait"})], simulator
    )
    assert result.ports["o"].words == through_pipeline(BYTES)
    assert result.ports["o"].cycles[:3].tolist() == [4, 6, 8]


def test_the_largest_value_of_an_inner_signal_is_reported(simulator):
    jobs = [
        Job({"i": WIDE}, {"o": 200}),
        Job({"i": WIDE[:20]}, {"o": 20}, patterns={"o": "000001"}),
        Job({"i": WIDE[:3]}, {"o": 3}, patterns={"o": "000001"}),
    ]
    results = simulate(DESIGNS[1], jobs, simulator)
    assert [result.maxima["store.level"] for result in results] == [1, 4, 3]


def test_a_misplaced_last_reaches_the_design(simulator):
    words, last = BYTES[:8], [False] * 8
    jobs = [
        Job({"s_axis": words}, {"m_axis": 2}, last={"s_axis": last}),
        Job({"s_axis": words}, {"m_axis": 2}, last={"s_axis": 4}),
    ]
    results = simulate(DESIGNS[2], jobs, simulator)
    assert [result.maxima["frame_error"] for result in results] == [1, 0]


def test_reset_at_any_cycle_leaves_the_next_job_exact(simulator):
    jobs = []
    for cut in range(1, 14):
        before = Job({"s_axis": BYTES[:8]}, {"m_axis": 2}, cut=cut, last={"s_axis": 4})
        after = dataclasses.replace(before, inputs={"s_axis": BYTES[cut : cut + 12]}, cut=None)
        jobs += [
            before,
            dataclasses.replace(after, outputs={"m_axis": 3}, reset_cycles=cut % 3 + 1),
        ]
    results = simulate(DESIGNS[2], jobs, simulator)
    for cut in range(1, 14):
        before, after = results[2 * cut - 2 : 2 * cut]
        assert before.cycles == cut
        assert before.ports["s_axis"].cycles.tolist() == list(range(min(cut, 8)))
        assert before.ports["m_axis"].words == sums_of_four(BYTES[:8])[: (cut - 1) // 4]
        assert after.ports["m_axis"].words == sums_of_four(BYTES[cut : cut + 12])
        assert after.ports["m_axis"].cycles.tolist() == [4, 8, 12]


def problem_of(old, new, simulator="verilator", **options):
    """What the bench says of the pipeline with ``old`` replaced by ``new`` in its text."""
    assert PIPELINE.count(old) == 1
    design = plain(PIPELINE.replace(old, new), "pipeline", 8)
    options = {"patterns": {"o": "0001"}, "patience": 100} | options
    job = Job({"i": BYTES[:20]}, {"o": 20}, **options)
    (result,) = simulate(design, [job], simulator, strict=False)
    return result.problem


def test_the_right_pipeline_meets_no_problem(simulator):
    assert problem_of("8'd3", "8'd3", simulator) is None


def test_a_valid_that_drops_is_found(simulator):
    flicker = "reg on; always @(posedge clk) on <= ~rst & ~on; assign o_valid = valid_2 & on;"
    found = problem_of("assign o_valid = valid_2;", flicker, simulator, patterns={"o": "00000001"})
    assert found == "cycle 4: o: valid was withdrawn before ready came"


def test_a_payload_that_changes_while_waiting_is_found(simulator):
    right = "if (move_2) begin valid_2 <= valid_1; stage_2 <= stage_1; end"
    wrong = "stage_2 <= stage_1; if (move_2) valid_2 <= valid_1;"
    found = problem_of(right, wrong, simulator, patterns={"o": "00000001"})
    assert found == "cycle 4: o: the payload changed before ready came"


def test_a_ready_that_stays_low_is_found(simulator):
    found = problem_of("assign i_ready = move_0;", "assign i_ready = 1'b0;", simulator)
    assert found == "cycle 100: nothing moved for 100 cycles: i 0/20, o 0/20"


def test_a_valid_that_waits_for_ready_is_found_by_a_sink_that_waits(simulator):
    wrong = "assign o_valid = valid_2 & o_ready;"
    options = {"simulator": simulator, "patience": 50}
    for pattern, expected in [
        ("0001", None),
        ("wait", "nothing moved for 50 cycles: i 3/20, o 0/20"),
    ]:
        found = problem_of("assign o_valid = valid_2;", wrong, patterns={"o": pattern}, **options)
        assert found is expected or found.endswith(expected)


def test_a_dropped_word_is_found(simulator):
    wrong = f"valid_0 <= i_valid & i_payload != 8'd{BYTES[7]};"
    found = problem_of("valid_0 <= i_valid;", wrong, simulator, patterns={})
    assert found == "cycle 121: nothing moved for 100 cycles: i 20/20, o 19/20"


def test_a_doubled_word_is_found(simulator):
    wrong = (
        "reg again; always @(posedge clk) again <= ~rst & valid_2 & o_ready;"
        "assign o_valid = valid_2 | again;"
    )
    found = problem_of("assign o_valid = valid_2;", wrong, simulator, patterns={})
    assert found == "cycle 23: o offers more than 20 words"


def test_a_word_out_of_nothing_is_found_before_other_ports_are_done(simulator):
    wrong = "assign o_valid = 1'b1;"
    found = problem_of("assign o_valid = valid_2;", wrong, simulator, patterns={"i": "01"})
    assert found == "cycle 20: o gave more than 20 words"


def test_a_missing_reset_is_found(simulator):
    """Verilator starts registers at random, Icarus at X; both see a valid bit without reset."""
    right = "begin valid_0 <= 1'b0; valid_1 <= 1'b0; valid_2 <= 1'b0; end"
    wrong = "begin valid_0 <= 1'b0; valid_1 <= 1'b0; end"
    found = problem_of(right, wrong, simulator)
    if simulator == "icarus":
        assert found == "cycle 0: i: valid or ready is unknown; o: valid or ready is unknown"


def test_a_latency_off_by_one_shows_in_the_cycles(simulator):
    slow = PIPELINE.replace("assign i_ready = move_0;", "assign i_ready = move_0 & started;")
    slow = slow.replace(
        "reg valid_0,", "reg started; always @(posedge clk) started <= ~rst; reg valid_0,"
    )
    (result,) = simulate(plain(slow, "pipeline", 8), [Job({"i": BYTES}, {"o": 200})], simulator)
    assert result.ports["o"].cycles[0] == 4


@pytest.fixture
def icarus():
    if not has_icarus() and not os.environ.get("CI"):
        pytest.skip("Icarus Verilog is not installed")


@pytest.mark.usefixtures("icarus")
def test_an_unknown_payload_is_found_by_icarus():
    wrong = "stage_2 <= {stage_1[7:1], stage_1[0] & never}; end reg never; always begin #10000;"
    right = "stage_2 <= stage_1; end"
    design = PIPELINE.replace(right, "stage_2 <= stage_1 | never; end").replace(
        "reg valid_0,", "reg [7:0] never; reg valid_0,"
    )
    assert wrong != right
    job = Job({"i": BYTES}, {"o": 200})
    (result,) = simulate(plain(design, "pipeline", 8), [job], "icarus", strict=False)
    assert result.problem == "cycle 3: o: the payload is unknown while valid"


@pytest.mark.usefixtures("icarus")
def test_a_payload_taken_without_valid_is_unknown_in_icarus():
    """What a source shows while it is not valid must not reach an output."""
    wrong = "stage_0 <= i_payload + 8'd1; if (move_0) begin valid_0 <= i_valid | ~rst; end"
    right = "if (move_0) begin valid_0 <= i_valid; stage_0 <= i_payload + 8'd1; end"
    found = problem_of(right, wrong, "icarus", patterns={"i": "0001"})
    assert found == "cycle 3: o: the payload is unknown while valid"


def test_a_problem_raises_unless_it_is_asked_for(simulator):
    design = plain(PIPELINE.replace("i_ready = move_0", "i_ready = 1'b0"), "pipeline", 8)
    job = Job({"i": BYTES}, {"o": 200}, name="all bytes", patience=7)
    message = (
        r"^job 0 \(all bytes\) on pipeline: cycle 7: "
        r"nothing moved for 7 cycles: i 0/200, o 0/200$"
    )
    with pytest.raises(SimulationError, match=message):
        simulate(design, [job], simulator)


def test_a_simulation_that_ends_early_is_not_taken_for_success(simulator):
    ends = PIPELINE.replace("if (move_2) begin", "if (stage_2 == 8'd6) $finish; if (move_2) begin")
    jobs = [Job({"i": [0]}, {"o": 1}), Job({"i": [1]}, {"o": 1}), Job({"i": [2]}, {"o": 1})]
    message = r"^Simulation must report all 3 jobs, not end after [01]: exit status "
    with pytest.raises(SimulationError, match=message):
        simulate(plain(ends, "pipeline", 8), jobs, simulator)


def test_a_simulation_that_does_not_end_is_stopped(simulator):
    job = Job({"i": [0]}, {"o": 2}, patience=10**12)
    with pytest.raises(SimulationError, match=r"^Simulation must end within 2\.0 s, not go on$"):
        simulate(DESIGNS[0], [job], simulator, timeout=2.0)


def test_verilog_with_an_error_is_refused_with_the_words_of_the_tool(simulator):
    tool = {"verilator": "Verilator", "icarus": "Icarus"}[simulator]
    broken = plain(PIPELINE.replace("move_0;", "move_9;"), "pipeline", 8)
    with pytest.raises(BuildError, match=rf"^{tool} must accept the design, not say: .*move_9"):
        simulate(broken, [Job({"i": [0]}, {"o": 1})], simulator)


def test_waves_are_written_where_they_are_wanted(simulator, tmp_path):
    target = tmp_path / "some.vcd"
    job = Job({"i": BYTES[:5]}, {"o": 5})
    plain_run = simulate(DESIGNS[0], [job], simulator)
    waved = simulate(DESIGNS[0], [job], simulator, waves=target)
    assert waved == plain_run
    text = target.read_text()
    assert "$enddefinitions" in text
    assert " stage_2 " in text
    assert text.count("\n#") > 10


def test_no_perl_and_no_make_is_needed(simulator, monkeypatch, tmp_path):
    for program in ("g++", "as", "ld", "iverilog", "vvp", "sh"):
        path = shutil.which(program)
        if path is not None:
            (tmp_path / program).symlink_to(path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("perl") is None
    fresh = PIPELINE + f"// {simulator} {tmp_path.name} {os.getpid()}"
    (result,) = simulate(plain(fresh, "pipeline", 8), [Job({"i": [4]}, {"o": 1})], simulator)
    assert result.ports["o"].words == [15]


def test_the_environment_of_this_process_stays_as_it_was(simulator):
    before = dict(os.environ)
    simulate(DESIGNS[0], [Job({"i": [4]}, {"o": 1})], simulator)
    assert dict(os.environ) == before


def test_an_equal_entry_is_built_once(monkeypatch, tmp_path):
    monkeypatch.setenv("BITBLOCKS_CACHE", str(tmp_path))
    built = []

    def counting(path):
        built.append(path)

    assert sim.cache.materialise("a" * 32, counting, tmp_path)
    assert not sim.cache.materialise("a" * 32, counting, tmp_path)
    assert sim.cache.materialise("b" * 32, counting, tmp_path)
    assert len(built) == 2
