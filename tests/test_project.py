# SPDX-License-Identifier: Apache-2.0
"""Saving blocks, and the build directory: what is written, whole or not at all, and read back."""

import json
import os
from dataclasses import is_dataclass
from pathlib import Path

import numpy as np
import pytest
import tiny_network
from refusal import refused

import bitblocks
import blocks
from bitblocks import files, tables
from bitblocks.project import pretty
from blocks import (
    Folded,
    Lanes,
    Network,
    NetworkPlan,
    Nonlinearity,
    ReLU,
    Tensor,
    Unrolled,
)
from blocks.saving import KINDS, load, save
from hdl import Target
from quant import FUNCTIONS, Format, approximate


def everything(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by relative path."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    output = tmp_path_factory.mktemp("project") / "made" / "out"
    return bitblocks.build(tiny_network.residual_network(), output, name="tiny", interval=24)


def test_the_proof_of_a_function_is_in_the_table_the_report_and_the_verilog(tmp_path, capsys):
    """Its network's name and what is proven, word for word the same."""
    x = Tensor((4,), Format(8, 5))
    tanh = approximate(FUNCTIONS["tanh"], x.format, Format(8, 7), degree=1)
    network = Network.chain(ReLU(x, x.format), Nonlinearity(x, tanh))
    built = bitblocks.build(network, tmp_path / "out", interval=4)
    proof = (
        "tanh s8.5 -> s8.7, linear, 9 segments: |error| <= 0.936193556 units, "
        "0.338982184 in the mean, over all codes; never falls; f(-x) = -f(x)"
    )
    assert [row["proof"] for row in built.rows] == [None, proof, None]
    told = json.loads((tmp_path / "out/results/build.json").read_text())
    assert [row["proof"] for row in told["blocks"]] == [None, proof, None]
    assert f"\n// {proof}\nmodule network_" in built.project.verilog
    tables.show_build(built)
    assert f"\n{built.rows[1]['name']}: {proof}\n" in capsys.readouterr().out


# -- blocks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("made", [tiny_network.residual_network, tiny_network.two_sided_network])
def test_a_saved_network_gives_the_same_integers(made):
    network = made()
    data, arrays = save(network)
    again = load(json.loads(json.dumps(data)), arrays)
    random = np.random.default_rng(1)
    frames = [
        random.integers(t.format.min, t.format.max, (20, *t.shape), endpoint=True)
        for t in network.inputs.values()
    ]
    np.testing.assert_array_equal(again.reference(*frames), network.reference(*frames))
    assert save(again)[0] == data


def test_arrays_are_named_by_node_and_field():
    _, arrays = save(tiny_network.residual_network())
    assert list(arrays) == [
        "fc1.weight",
        "fc1.bias",
        "fc1.shift",
        "inner.branch.weight",
        "inner.branch.bias",
        "inner.branch.shift",
        "neuron.weight",
    ]


def test_arrays_of_hostile_names_get_names_that_are_safe():
    network = tiny_network.residual_network("//x\n'\"", "a/b")
    data, arrays = save(network)
    assert [name for name in arrays if "/" in name or "\n" in name or ".." in name] == []
    x = np.arange(-8, 4).reshape(2, 6) % 8
    np.testing.assert_array_equal(load(data, arrays).reference(x), network.reference(x))


def test_every_block_can_be_saved():
    kinds = [
        kind
        for name in blocks.__all__
        if is_dataclass(kind := getattr(blocks, name)) and hasattr(kind, "reference")
    ]
    assert kinds
    for kind in kinds:
        assert KINDS[kind.__name__] is kind


def test_a_saved_plan_is_the_same_plan():
    depths = {"kind.i": 3, "array.i": 4}
    plan = NetworkPlan({"kind": Folded(2, 3), "array": Lanes(2), "x": Unrolled()}, {"i": 2}, depths)
    data, arrays = save(plan)
    assert load(json.loads(json.dumps(data)), arrays) == plan
    assert arrays == {}


KNOWN = ", ".join(sorted((*KINDS, "Network", "NetworkPlan")))


def changed(change):
    data, arrays = save(tiny_network.linear(Tensor((3,), Format(4, 0)), 2, Format(8, 0)))
    change(data)
    return data, arrays


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(schema=2), "Saved block schema must be 1, not 2"),
        (lambda d: d.update(schema=True), "Saved block schema must be 1, not True"),
        (lambda d: d.pop("schema"), "Saved block schema must be 1, not None"),
        (lambda d: d.pop("kind"), "Saved block must have a kind"),
        (
            lambda d: d.update(kind="os.system"),
            f"Saved block kind must be one of {KNOWN}, not 'os.system'",
        ),
        (
            lambda d: d.update(colour=1),
            (
                "Saved Linear fields must be input, weight, bias, weight_format, output_format, "
                "shift, rounding, overflow, not input, "
                "weight, bias, weight_format, output_format, shift, "
                "rounding, overflow, colour"
            ),
        ),
        (
            lambda d: d.update(weight={"array": "w"}),
            "Saved block array must be there, not missing: 'w'",
        ),
        (
            lambda d: d.update(weight={"pickle": "w"}),
            "Saved block value must be of a known form, not with pickle",
        ),
        (
            lambda d: d.update(rounding="UP"),
            (
                "Linear rounding must be one of RND, RND_ZERO, RND_MIN_INF, RND_INF, RND_CONV, "
                "TRN, TRN_ZERO, not 'UP'"
            ),
        ),
    ],
)
def test_saved_blocks_that_are_wrong_are_refused(change, message):
    with refused(ValueError, message):
        load(*changed(change))


def test_what_is_no_block_is_not_saved():
    with refused(TypeError, "Saved block must be a block, a network or a plan, not 3"):
        save(3)


# -- files --------------------------------------------------------------------------------------


def test_arrays_are_the_same_bytes_every_time_and_numpy_reads_them(tmp_path):
    arrays = {"b.weight": np.arange(6).reshape(2, 3), "a": np.array(7)}
    content = files.npz(arrays)
    assert content == files.npz({name: array.copy() for name, array in arrays.items()})
    (tmp_path / "x.npz").write_bytes(content)
    with np.load(tmp_path / "x.npz", allow_pickle=False) as found:
        assert found.files == ["b.weight", "a"]
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array)


def test_short_values_of_json_stay_on_a_line():
    data = {"shape": [1, 2], "many": list(range(60)), "empty": {}, "none": None}
    assert json.loads(pretty(data)) == data
    assert pretty(data).splitlines()[1] == '  "shape": [1, 2],'


def test_an_error_leaves_nothing_behind(tmp_path, monkeypatch):
    written = []

    def fail(path, content):
        written.append(path)
        if len(written) == 3:
            raise OSError(28, os.strerror(28))
        return len(content)

    monkeypatch.setattr(Path, "write_bytes", fail)
    output = tmp_path / "a" / "b" / "out"
    with refused(
        bitblocks.InputError, f"output {str(output)!r} cannot be written: {os.strerror(28)}"
    ):
        files.write_folder(output, dict.fromkeys("abcd", b"."), False, lambda folder: None)
    assert len(written) == 3
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_appears_meanwhile_is_kept(tmp_path, monkeypatch):
    output = tmp_path / "out"
    put = files._put

    def late(partial, path, force):
        path.mkdir()
        (path / "theirs").write_text("kept")
        put(partial, path, force)

    monkeypatch.setattr(files, "_put", late)
    with refused(bitblocks.InputError, f"output {str(output)!r} must not come to be meanwhile"):
        files.write_folder(output, {"a": b"."}, False, lambda folder: None)
    assert everything(tmp_path) == {"out/theirs": b"kept"}


@pytest.mark.parametrize("swaps", [True, False])
def test_a_former_build_is_replaced_whole(tmp_path, monkeypatch, swaps):
    if not swaps:
        monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    files.write_folder(tmp_path / "out", {"old": b"1", "x/y": b"2"}, False, lambda folder: None)
    files.write_folder(tmp_path / "out", {"new": b"3"}, True, lambda folder: None)
    assert everything(tmp_path) == {"out/new": b"3"}


# -- the build directory ------------------------------------------------------------------------


def test_the_build_directory_holds_what_others_rely_on(built):
    folder = built.project.path
    data = json.loads((folder / "network.json").read_bytes())
    assert {name: data[name] for name in list(data)[:7]} == {
        "schema": 1,
        "name": "tiny",
        "target": "ecp5",
        "inputs": [
            {
                "name": "image",
                "port": "s_axis",
                "shape": [6],
                "axes": [0],
                "lanes": built.project.plan.lanes["i"],
                "format": {"signed": True, "width": 4, "frac": 2},
            }
        ],
        "outputs": [
            {
                "name": "logits",
                "port": "m_axis",
                "shape": [1],
                "axes": [0],
                "lanes": 1,
                "format": {"signed": True, "width": 9, "frac": 4},
            }
        ],
        "latency_cycles": built.project.latency,
        "interval_cycles": built.project.interval,
    }
    assert [name for name in everything(folder) if not name.startswith("tb/")] == [
        "network.json",
        "network.npz",
        "results/build.json",
        "rtl/tiny.v",
    ]
    assert built.project.interval <= 24


def test_an_opened_project_is_the_one_that_was_built(built):
    project = bitblocks.Project.open(built.project.path)
    assert (project.inputs, project.outputs) == (built.project.inputs, built.project.outputs)
    assert (project.plan, project.verilog) == (built.project.plan, built.project.verilog)
    assert project.contents() == built.project.contents()
    codes = np.random.default_rng(0).integers(-8, 8, (30, 6))
    expected = tiny_network.residual_network().reference(codes)
    np.testing.assert_array_equal(bitblocks.run(project, codes, codes=True), expected)
    np.testing.assert_array_equal(bitblocks.run(project.path, codes / 4), expected / 16)


def test_the_reference_takes_a_few_frames_at_a_time(built, monkeypatch):
    project, counts = built.project, []
    codes = project.codes(np.random.default_rng(0).integers(-8, 8, (10, 6)), codes=True)
    (expected,) = project.reference(codes)
    monkeypatch.setattr("bitblocks.project.NUMBERS_AT_ONCE", 4 * 6 + 1)  # the largest tensor has 6
    reference = type(project.network).reference

    def counting(network, frames):
        counts.append(len(frames))
        return reference(network, frames)

    monkeypatch.setattr(type(project.network), "reference", counting)
    (found,) = project.reference(codes)
    np.testing.assert_array_equal(found, expected)
    assert counts == [4, 4, 2]


def test_floats_are_rounded_and_saturated_on_their_way_in(built):
    x = np.array([[0.124, 0.126, -99, 99, 1.75, -2.0]])
    codes = np.array([[0, 1, -8, 7, 7, -8]])
    np.testing.assert_array_equal(
        bitblocks.run(built.project, x), bitblocks.run(built.project, codes, codes=True) / 16
    )


def test_frames_are_given_and_come_in_the_layout_of_the_model(tmp_path):
    path = Path(__file__).parents[1] / "examples" / "digits" / "digits.onnx"
    graph = bitblocks.import_onnx(path)
    network, _ = bitblocks.quantise(graph, input_format="u5.0")
    built = bitblocks.build(path, input_format="u5.0", interval=1024)
    port = built.project.inputs[0]
    assert (port.shape, port.axes) == ((1, 8, 8), (1, 2, 0))
    images = np.random.default_rng(0).integers(0, 17, (5, 1, 8, 8))
    np.testing.assert_array_equal(
        bitblocks.run(built.project, images, codes=True),
        network.reference(images.transpose(0, 2, 3, 1)),
    )


def test_a_mapping_is_for_a_network_that_nothing_else_maps():
    network = tiny_network.residual_network()
    mapping = blocks.plan(network, Target.named("ecp5"))
    for model, others in (
        (network, {"interval": 24}),
        (network, {"unroll": True}),
        ("a.onnx", {}),
    ):
        with refused(bitblocks.InputError, "mapping must be given with a Network alone"):
            bitblocks.build(model, mapping=mapping, **others)


def test_codes_are_integers(built):
    shape = (1, *built.project.inputs[0].shape)
    name = built.project.inputs[0].name
    with refused(bitblocks.InputError, f"codes for input {name} must be integers, not float64"):
        built.project.run(np.zeros(shape), codes=True)


def test_several_inputs_and_outputs_come_by_name():
    network = tiny_network.two_sided_network()
    project = bitblocks.build(network, name="two").project
    assert [port.port for port in project.inputs] == ["s_axis_a", "s_axis_b"]
    assert [port.port for port in project.outputs] == ["m_axis_sum", "m_axis_rectified"]
    a, b = np.arange(12).reshape(2, 2, 3) - 6, np.arange(12).reshape(2, 6) % 8
    found = bitblocks.run(project, {"a": a, "b": b}, codes=True)
    for got, expected in zip(found.values(), network.reference(a, b), strict=True):
        np.testing.assert_array_equal(got, expected)
    with refused(bitblocks.InputError, "data must come by name for the inputs a, b"):
        bitblocks.run(project, a)
    with refused(bitblocks.InputError, "data must be given for the inputs a, b, not a"):
        bitblocks.run(project, {"a": a})
    with refused(bitblocks.InputError, "data must have as many frames for every input, not 2, 1"):
        bitblocks.run(project, {"a": a, "b": b[:1]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(schema=2), "FILE schema must be 1, not 2"),
        (lambda d: d.pop("schema"), "FILE must hold a network with its schema"),
        (lambda d: d.pop("plan"), "FILE is damaged: misses 'plan'"),
        (
            lambda d: d.update(name="../x"),
            "FILE is damaged: its name must be an identifier, not '../x'",
        ),
        (
            lambda d: d.update(target="z80"),
            (
                "FILE is damaged: Target name must be one of ecp5, ice40, gowin, xilinx7, "
                "xilinxup, not 'z80'"
            ),
        ),
        (
            lambda d: d["inputs"][0].update(axes=[1]),
            "FILE is damaged: axes must be an order of 1 axes, not [1]",
        ),
        (
            lambda d: d["inputs"][0].update(lanes=5),
            "FILE is damaged: its inputs must be those of its network",
        ),
        (
            lambda d: d["inputs"][0].update(lanes=0),
            "FILE is damaged: lanes must be a whole number above 0, not 0",
        ),
        (
            lambda d: d.update(latency_cycles="1"),
            "FILE is damaged: its cycles must be finite numbers from 0 on, not '1'",
        ),
        (
            lambda d: d.update(latency_cycles=float("nan")),
            "FILE is damaged: its cycles must be finite numbers from 0 on, not nan",
        ),
        (
            lambda d: d.update(interval_cycles=-1),
            "FILE is damaged: its cycles must be finite numbers from 0 on, not -1",
        ),
        (
            lambda d: d["plan"]["plans"].pop("fc1"),
            "FILE is damaged: Network plan must have plans of 'fc1', not none",
        ),
        (
            lambda d: d["plan"]["plans"].update(fc1=None),
            "FILE is damaged: Linear plan must be Folded or Unrolled, not None",
        ),
        (
            lambda d: d["plan"]["depths"].clear(),
            "FILE is damaged: Network plan must have depths of 'fc1.i', not none",
        ),
        (
            lambda d: d["plan"]["lanes"].clear(),
            "FILE is damaged: Network plan must have lanes of 'i', not none",
        ),
        (
            lambda d: d.update(network=d["plan"]),
            "FILE is damaged: it must hold a network and its plan",
        ),
    ],
)
def test_a_damaged_network_file_is_refused(built, tmp_path, change, message):
    data = json.loads((built.project.path / "network.json").read_bytes())
    change(data)
    path = tmp_path / "network.json"
    path.write_text(json.dumps(data))
    (tmp_path / "network.npz").write_bytes((built.project.path / "network.npz").read_bytes())
    with refused(bitblocks.InputError, message.replace("FILE", repr(str(path)))):
        bitblocks.Project.open(tmp_path)


def test_a_pickle_is_never_loaded(built, tmp_path):
    (tmp_path / "network.json").write_bytes((built.project.path / "network.json").read_bytes())
    path = tmp_path / "network.npz"
    np.savez(path, **{"fc1.weight": np.array([{}], object)}, allow_pickle=True)
    message = f"the arrays {str(path)!r} must be a .npy file of numbers, whole and unpickled"
    with refused(bitblocks.InputError, message):
        bitblocks.Project.open(tmp_path)
