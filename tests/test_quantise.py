# SPDX-License-Identifier: Apache-2.0
"""Post-training quantisation: its decisions against brute force, its integers everywhere equal."""

import json
import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from material import NETWORKS

import blocks
from bitblocks import InputError, evaluate, import_onnx, quantise
from bitblocks import precision as precision_file
from bitblocks.folding import fold_scales
from bitblocks.graph import Graph, Port
from bitblocks.layers import Add, Identity, Linear, Relu, Reshape, Scale
from quant import Format, from_float, to_float

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "examples" / "digits"


def port(name, source, *shape):
    return Port(name, source, shape, tuple(range(len(shape))))


def bell(generator, shape):
    """About normal, from integers only: the same floats on every machine."""
    return generator.integers(-1000, 1001, (3, *shape)).sum(0) / 1000


def linear(name, source, outputs, inputs, seed=0, spread=0):
    """A random Linear; rows differ in size by up to 2**spread."""
    generator = np.random.default_rng(seed)
    weight = bell(generator, (outputs, inputs))
    weight *= 2.0 ** generator.integers(-spread, spread + 1, (outputs, 1))
    return Linear(name, (source,), weight, bell(generator, (outputs,)))


def small_graph(spread=0):
    """6 -> 8 ReLU -> residual 8 -> 3, with two outputs, one of them read inside."""
    nodes = (
        linear("fc1", "x", 8, 6, 1, spread),
        Relu("relu1", ("fc1",)),
        linear("fc2", "relu1", 8, 8, 2, spread),
        Add("add", ("relu1", "fc2")),
        Relu("relu2", ("add",)),
        linear("fc3", "relu2", 3, 8, 3, spread),
    )
    outputs = (port("y", "fc3", 3), port("features", "relu2", 8))
    return Graph((port("x", "x", 6),), nodes, outputs)


def one_layer(weight, bias=None):
    weight = np.array(weight, float)
    bias = np.zeros(len(weight)) if bias is None else np.array(bias, float)
    layer = Linear("fc", ("x",), weight, bias)
    return Graph((port("x", "x", weight.shape[1]),), (layer,), (port("y", "fc", len(weight)),))


def frames(count=200, size=6, seed=9):
    return bell(np.random.default_rng(seed), (count, size))


def integers(network):
    """Every integer and format of a network, in text."""
    parts = []
    for node in network.nodes:
        block = node.block
        tensors = (*block.inputs.values(), *block.outputs.values())
        parts += [node.name, *node.sources, *(f"{t.shape} {t.format}" for t in tensors)]
        if isinstance(block, blocks.Linear):
            arrays = (block.weight, block.bias, block.shift)
            parts += [repr(array.tolist()) for array in arrays]
            parts += [str(block.weight_format)]
        parts += [str(getattr(block, mode, "")) for mode in ("rounding", "overflow")]
    return "\n".join(parts)


def block_of(network, name):
    return next(node.block for node in network.nodes if node.name == name)


def run(network, report, graph, x):
    """Floats that the network gives for floats, as a tuple in the order of the outputs."""
    stream = graph.frames(x)
    codes = [
        from_float(stream[port.name], report.precision[port.name].output_format)
        for port in graph.inputs
    ]
    results = network.reference(*codes)
    results = results if isinstance(results, tuple) else (results,)
    formats = [tensor.format for tensor in network.outputs.values()]
    return tuple(to_float(y, f) for y, f in zip(results, formats, strict=True))


@pytest.fixture(scope="module")
def digits():
    """The float graph, calibration frames, held-out frames and their labels."""
    pytest.importorskip("sklearn", reason="the digits ship inside scikit-learn")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images, held = bunch.images[:, None], np.arange(len(bunch.target)) % 5 == 4
    return (
        import_onnx(DIGITS / "digits.onnx"),
        images[~held][:256],
        images[held],
        bunch.target[held],
    )


# -- accuracy ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weight_bits", "bits", "loss"), [(8, 8, 0.005), (6, 6, 0.005), (4, 6, 0.01)]
)
def test_digits_keep_their_accuracy(digits, weight_bits, bits, loss):
    model, calibration, held_out, labels = digits
    exact = evaluate(model, held_out)[model.outputs[0].source].argmax(1) == labels
    network, report = quantise(model, calibration, weight_bits, bits)
    right = run(network, report, model, held_out)[0].argmax(1) == labels
    assert exact.mean() >= 0.97
    assert right.mean() >= exact.mean() - loss


def test_digits_become_six_blocks(digits):
    model, calibration, *_ = digits
    network, report = quantise(model, calibration)
    kinds = [(node.name, type(node.block).__name__) for node in network.nodes]
    assert kinds == [
        ("flatten", "Reshape"),
        ("fc1", "Linear"),
        ("residual_fc1", "Linear"),
        ("residual_fc2", "Linear"),
        ("residual_add", "Add"),
        ("fc2", "Linear"),
    ]
    assert str(report.precision["image"].output_format) == "u5.0"  # whole numbers to 16
    assert network.outputs["o"].format.width == 16


@pytest.mark.parametrize(
    ("name", "cut", "size"),
    [
        ("two_layer_pytorch", "7", 10),
        ("three_layer_pytorch", "15", 16),
        ("three_layer_keras", "biased_tensor_name3", 16),
    ],
)
def test_published_network_stays_close(name, cut, size):
    path = NETWORKS / f"{name}.onnx"
    if not path.exists():
        pytest.skip("the published networks are not beside this checkout")
    model = import_onnx(path, cut)
    _, report = quantise(model, frames(300, size))
    assert report.layers[-1].signal_to_noise > 30


@pytest.mark.parametrize("spread", [0, 3])
def test_many_bits_give_the_float_network(spread):
    model, x = small_graph(spread), frames()
    network, report = quantise(model, x, 16, 16)
    exact = evaluate(model, x)
    for have, out in zip(run(network, report, model, x), model.outputs, strict=True):
        want = exact[out.source]
        assert np.abs(have - want).max() < 2e-3 * np.abs(want).max()


@pytest.mark.parametrize("bits", [4, 6, 8, 10, 12])
def test_each_bit_gains_about_6_decibels(bits):
    model = small_graph()
    few, more = (quantise(model, frames(), n, n)[1].layers[-1] for n in (bits, bits + 2))
    assert 6 < more.signal_to_noise - few.signal_to_noise < 18


# -- the decisions, one by one -----------------------------------------------------------------


def rounded(value):
    return math.floor(value + Fraction(1, 2))


def test_network_equals_exact_fractions():
    model, x = small_graph(3), frames(40)
    network, report = quantise(model, x, 5, 6)
    codes = from_float(x[:8], report.precision["x"].output_format)
    trace = {
        "x": [
            [Fraction(int(n)) / 2 ** report.precision["x"].output_format.frac for n in row]
            for row in codes
        ]
    }
    for node in network.nodes:
        block, target = node.block, node.block.outputs["o"].format
        sums = []
        for index in range(8):
            a = trace[node.sources[0]][index]
            if isinstance(block, blocks.Add):
                sums.append([p + q for p, q in zip(a, trace[node.sources[1]][index], strict=True)])
                continue
            frac = block.weight_format.frac
            bias_unit = Fraction(2) ** (frac + block.input.format.frac)
            row = []
            for weight, bias, shift in zip(block.weight, block.bias, block.shift, strict=True):
                unit = Fraction(2) ** (frac - int(shift))
                products = (Fraction(int(w)) / unit * n for w, n in zip(weight, a, strict=True))
                row.append(sum(products) + int(bias) / bias_unit)
            sums.append(row)
        unit = Fraction(2) ** target.frac
        trace[node.name] = [
            [min(max(rounded(n * unit), target.min), target.max) / unit for n in row]
            for row in sums
        ]
    for out, have in zip(model.outputs, network.reference(codes), strict=True):
        source = {"fc3": "fc3", "relu2": "add"}[out.source]
        unit = 2 ** block_of(network, source).output_format.frac
        assert have.tolist() == [[int(n * unit) for n in row] for row in trace[source]]


def test_weights_are_the_nearest_or_saturated():
    model = small_graph(3)
    network, _ = quantise(model, frames(), 6, 8)
    for node in model.nodes:
        if isinstance(node, Linear):
            block = block_of(network, node.name)
            fracs = block.weight_format.frac - block.shift[:, None]
            exact = node.weight * 2.0**fracs
            nearest = np.floor(exact + 0.5).clip(-32, 31)
            np.testing.assert_array_equal(block.weight, nearest)


@pytest.mark.parametrize("bits", [3, 4, 8])
@pytest.mark.parametrize("tail", [1.0, 3.0, 20.0])
def test_weight_fraction_has_the_least_output_error(bits, tail):
    generator = np.random.default_rng(4)
    weight = generator.normal(size=(1, 40))
    weight[0, 0] = tail
    x = np.round(generator.normal(size=(100, 40)) * 8) / 8
    x[:, 0] *= 0.1
    model = one_layer(weight)
    network, _ = quantise(model, x, bits, 16)
    errors = {}
    for frac in range(-8, 16):
        codes = np.floor(weight * 2.0**frac + 0.5).clip(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        error = x @ (codes * 2.0**-frac - weight).T
        errors[frac] = np.var(error)
    assert block_of(network, "fc").weight_format.frac == min(errors, key=errors.get)


@pytest.mark.parametrize("tail", [1.0, 40.0])
@pytest.mark.parametrize("bits", [3, 7])
@pytest.mark.parametrize("rounding", ["RND", "TRN"])
def test_output_fraction_has_the_least_error(bits, tail, rounding):
    x = frames(100)
    x[0] *= tail
    nodes = (linear("fc1", "x", 5, 6, 1), linear("fc2", "fc1", 2, 5, 2))
    model = Graph((port("x", "x", 6),), nodes, (port("y", "fc2", 2),))
    want = evaluate(model, x)["fc1"]

    def error(network, report):
        block = block_of(network, "fc1")
        codes = from_float(x, report.precision["x"].output_format)
        return np.square(to_float(block.reference(codes), block.output_format) - want).sum()

    network, report = quantise(model, x, 12, bits, rounding=rounding)
    chosen = block_of(network, "fc1").output_format
    for frac in range(chosen.frac - 4, chosen.frac + 4):
        given = {"fc1": {"output_format": f"s{bits}.{frac}"}}
        other = quantise(model, x, 12, bits, rounding=rounding, precision=given)
        assert error(network, report) <= error(*other)


def test_bias_takes_up_the_mean_error():
    model, x = small_graph(3), frames()
    network, report = quantise(model, x, 3, 4)
    exact = evaluate(model, x)
    trace = {"x": from_float(x, report.precision["x"].output_format)}
    for node in network.nodes:
        trace[node.name] = node.block.reference(*(trace[source] for source in node.sources))
        if isinstance(node.block, blocks.Linear):
            block = node.block
            sums = trace[node.sources[0]] @ block.matrix.T + block.bias
            unit = 2.0 ** -(block.weight_format.frac + block.input.format.frac)
            means = (sums * unit - exact[node.name]).mean(0)
            assert np.abs(means).max() <= 0.51 * unit


def test_output_channels_have_fractions_of_their_own():
    weight = np.array([[1.0, -0.7], [0.06, 0.03], [0.0, 0.0], [1e-6, 1e-6], [16.0, 3.0]])
    block = block_of(quantise(one_layer(weight), frames(50, 2), 8, 8)[0], "fc")
    assert str(block.weight_format) == "s8.6"  # 4 bits more than the largest row takes
    assert block.shift[[0, 1, 3, 4]].tolist() == [0, 0, 0, 4]
    assert block.weight[4].tolist() == [64, 12]


def test_final_output_holds_its_sums_exactly_where_16_bits_do():
    network, _ = quantise(one_layer([[1.0, 0.5]]), np.array([[1.0, 2.0], [3.0, -4.0]]), 4, 4)
    block = block_of(network, "fc")
    assert block.output_format == block.sum_format
    assert block.output_format.width < 16


def test_unfoldable_scale_becomes_a_diagonal_matrix():
    shape, generator = (3, 2), np.random.default_rng(1)
    for weight in (generator.normal(size=shape), np.tile(generator.normal(size=2), (3, 1))):
        node = Scale("norm", ("x",), weight, weight + 1)
        model = Graph((port("x", "x", *shape),), (node,), (port("y", "norm", *shape),))
        x = generator.normal(size=(50, *shape))
        network, report = quantise(model, x, 12, 12)
        (have,) = run(network, report, model, x)
        np.testing.assert_allclose(have, x * weight + weight + 1, atol=0.02)


def test_positions_share_their_weights():
    model = Graph(
        (port("x", "x", 5, 4),),
        (
            linear("fc1", "x", 3, 4),
            Reshape("flat", ("fc1",), (15,)),
            Identity("same", ("flat",)),
            linear("fc2", "same", 2, 15, 1),
        ),
        (port("y", "fc2", 2),),
    )
    x = np.random.default_rng(2).normal(size=(100, 5, 4))
    network, report = quantise(model, x, 14, 14)
    (have,) = run(network, report, model, x)
    np.testing.assert_allclose(have, evaluate(model, x)["fc2"], atol=0.02)


def test_two_inputs_have_their_own_formats():
    nodes = (Add("add", ("a", "b")), Relu("relu", ("add",)))
    inputs = (port("a", "a", 4), port("b", "b", 4))
    model = Graph(inputs, nodes, (port("y", "relu", 4),))
    x = {"b": 100 * frames(50, 4), "a": frames(50, 4, seed=1)}
    network, report = quantise(model, x)
    formats = [report.precision[name].output_format for name in ("a", "b")]
    assert formats[0].frac >= formats[1].frac + 5
    (have,) = run(network, report, model, x)
    np.testing.assert_allclose(have, np.maximum(x["a"] + x["b"], 0), atol=3.0)


# -- without data, and overflow ----------------------------------------------------------------


def extremes(format, size, seed=0):
    """Frames of the smallest and largest numbers of ``format``, in floats."""
    ends = np.array([format.min, format.max, 0])
    return to_float(np.random.default_rng(seed).choice(ends, (500, size)), format)


@pytest.mark.parametrize(
    ("overflow", "calibrated"),
    [("SAT", False), ("SAT_SYM", False), ("WRAP", False), ("WRAP", True)],
)
@pytest.mark.parametrize("spread", [0, 3])
def test_interval_bounds_leave_no_overflow(overflow, calibrated, spread):
    """Without data nothing saturates; what may wrap does not, even beyond the data."""
    model, format = small_graph(spread), Format(8, 5)
    data = frames() if calibrated else None
    network, report = quantise(model, data, 12, 14, input_format="s8.5", overflow=overflow)
    x = extremes(format, 6)
    exact = evaluate(model, x)
    for have, out in zip(run(network, report, model, x), model.outputs, strict=True):
        want = exact[out.source]
        assert np.abs(have - want).max() < 0.01 * np.abs(want).max()


def chain(*weights):
    """Linear layers of one number each."""
    nodes = tuple(
        Linear(f"fc{n}", (f"fc{n - 1}" if n else "x",), np.array([[w]]), np.zeros(1))
        for n, w in enumerate(weights)
    )
    return Graph((port("x", "x", 1),), nodes, (port("y", nodes[-1].name, 1),))


def test_rounding_up_does_not_wrap():
    model = chain(1.0, 1.0)
    network, report = quantise(model, activation_bits=4, input_format="u8.0", overflow="WRAP")
    x = np.arange(256.0)[:, None]
    (have,) = run(network, report, model, x)
    assert np.abs(have - x).max() <= 16  # 4 bits for 0 to 255, none of them lost to 0


def test_no_output_is_finer_than_its_sums():
    x = np.array([[-1.0], [0.0], [1.0]])
    network, _ = quantise(chain(1.0, 1.0), x, weight_bits=2, input_format="s16.0")
    assert str(block_of(network, "fc0").output_format) == "s8.0"


def test_relu_stays_a_block_where_overflow_wraps():
    network, report = quantise(small_graph(), frames(), overflow="WRAP")
    assert [type(node.block).__name__ for node in network.nodes] == [
        "Linear",
        "ReLU",
        "Linear",
        "Add",
        "ReLU",
        "Linear",
    ]
    assert {layer.overflow for layer in report.layers if layer.overflow} == {"WRAP"}


def test_report_tells_noise_and_saturation():
    model, x = small_graph(), frames()
    network, report = quantise(model, x, 5, 5)
    exact = evaluate(model, x)
    names = {"fc1": "relu1", "add": "relu2"}
    assert [layer.name for layer in report.layers] == ["x", "fc1", "fc2", "add", "fc3"]
    assert (report.frames, report.calibrated) == (200, True)
    trace = {"x": from_float(x, report.precision["x"].output_format)}
    for node in network.nodes:
        trace[node.name] = node.block.reference(*(trace[source] for source in node.sources))
    for layer in report.layers:
        want = exact[names.get(layer.name, layer.name)]
        noise = np.square(to_float(trace[layer.name], layer.output_format) - want).sum()
        ratio = 10 * np.log10(np.square(want).sum() / noise)
        assert layer.signal_to_noise == pytest.approx(ratio)
        ends = [layer.output_format.max, layer.output_format.min or layer.output_format.max]
        assert layer.saturated == np.isin(trace[layer.name], ends).mean()


# -- the same decisions everywhere -------------------------------------------------------------

SCRIPT = """
import hashlib, sys
sys.path[:0] = sys.argv[1:3]
from test_quantise import *
model = small_graph(3)
x = frames(300)
texts = [integers(quantise(model, x, w, a)[0]) for w, a in ((8, 8), (4, 6), (12, 16))]
texts += [integers(quantise(model, input_format="s8.4")[0])]
pixels = np.random.default_rng(5).integers(0, 17, (64, 1, 8, 8))
texts += [integers(quantise(import_onnx(DIGITS / "digits.onnx"), pixels)[0])]
print(hashlib.sha256("".join(texts).encode()).hexdigest())
"""
DIGEST = "4d59c57c555a06de7006542ebc6d2e5817da65469b18be381bbd03f62bedeb2d"


def cores():
    """Kinds of processor whose float code this one can run."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    return [
        "Prescott",
        *(["Haswell"] if "avx2" in flags else []),
        *(["SkylakeX"] if "avx512vl" in flags else []),
    ]


@pytest.mark.parametrize("core", cores())
def test_every_machine_decides_the_same(core, tmp_path):
    environment = os.environ | {"OPENBLAS_CORETYPE": core, "PYTHONHASHSEED": "7"}
    if core == "Prescott":
        environment["NPY_DISABLE_CPU_FEATURES"] = "AVX512F AVX2 FMA3"
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(ROOT), str(ROOT / "tests")]
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.stderr == ""
    assert done.stdout.strip() == DIGEST


# -- the precision file ------------------------------------------------------------------------

SETTINGS = {
    "8 bits": {},
    "few bits": {"weight_bits": 3, "activation_bits": 4},
    "many bits": {"weight_bits": 14, "activation_bits": 16},
    "WRAP": {"overflow": "WRAP", "rounding": "TRN"},
    "SAT_ZERO": {"overflow": "SAT_ZERO", "rounding": "RND_CONV"},
    "SAT_SYM": {"overflow": "SAT_SYM"},
    "input format": {"input_format": "s9.5"},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("calibrated", [True, False])
def test_precision_file_given_back_gives_the_same_integers(tmp_path, settings, calibrated):
    data = frames() if calibrated else None
    if not calibrated:
        settings = {"input_format": "s8.4"} | settings
    model = small_graph(3)
    network, report = quantise(model, data, **settings)
    path = tmp_path / "precision.json"
    precision_file.write(path, report.precision)
    again, second = quantise(model, data, precision=path)
    assert integers(again) == integers(network)
    assert second == report
    assert precision_file.text(second.precision) == path.read_text()


def test_precision_file_is_readable_json(tmp_path):
    _, report = quantise(small_graph(), frames())
    precision_file.write(tmp_path / "precision.json", report.precision)
    content = json.loads((tmp_path / "precision.json").read_text())
    assert list(content) == ["x", "fc1", "fc2", "add", "fc3"]
    assert list(content["x"]) == ["output_format"]
    expected = ["output_format", "weight_format", "rounding", "overflow"]
    assert list(content["fc1"]) == expected
    assert list(content["add"]) == ["output_format", "rounding", "overflow"]


def test_precision_goes_before_everything_else():
    given = {
        "x": {"output_format": "s5.2"},
        "fc1": {"weight_bits": 4, "rounding": "TRN"},
        "fc2": {"weight_format": "s6.3", "output_format": "s9.3", "overflow": "SAT_SYM"},
        "fc3": {"output_format": "s20.8"},
    }
    network, report = quantise(small_graph(), frames(), input_format="s8.3", precision=given)
    assert str(network.inputs["i"].format) == "s5.2"
    fc1, fc2, fc3 = (block_of(network, name) for name in ("fc1", "fc2", "fc3"))
    assert (fc1.weight_format.width, fc1.rounding) == (4, "TRN")
    assert np.abs(fc1.weight).max() <= 8
    assert (str(fc2.weight_format), str(fc2.output_format)) == ("s6.3", "s9.3")
    assert (fc2.overflow, fc2.rounding) == ("SAT_SYM", "RND")
    assert str(fc3.output_format) == "s20.8"
    assert report.precision["fc2"].weight_format == Format(6, 3)


def test_signed_output_of_a_rectified_layer_gets_its_relu_back():
    given = {"fc1": {"output_format": "s8.4"}}
    network, report = quantise(small_graph(), frames(), precision=given)
    assert [node.name for node in network.nodes][:2] == ["fc1", "relu1"]
    assert "relu1" in report.precision
    again, _ = quantise(small_graph(), frames(), precision=report.precision)
    assert integers(again) == integers(network)


KNOWN = (
    "output_format, weight_format, recurrent_format, peephole_format, projection_format, "
    "sum_format, gate_format, tanh_format, cell_format, weight_bits, rounding, overflow, pole"
)
PRECISIONS = {
    "pole that is no number": (
        {"fc1": {"pole": True}},
        "precision of 'fc1' field 'pole' must be a finite number, not True",
    ),
    "endless pole": (
        {"fc1": {"pole": float("inf")}},
        "precision of 'fc1' field 'pole' must be a finite number, not inf",
    ),
    "unknown layer": (
        {"fc9": {}},
        "precision of 'fc9' is for no layer of the network; nearest: fc3, fc2, fc1",
    ),
    "fused layer": (
        {"relu1": {"overflow": "SAT"}},
        "precision of 'relu1' is for no layer of the network; nearest: x, fc1, fc2",
    ),
    "unknown field": (
        {"fc1": {"widht": 8}},
        f"precision of 'fc1' field 'widht' is unknown; known are {KNOWN}",
    ),
    "weights of an Add": (
        {"add": {"weight_bits": 8}},
        (
            "precision of 'add' field 'weight_bits' has no meaning there; "
            "it takes output_format, rounding, overflow"
        ),
    ),
    "rounding of an input": (
        {"x": {"rounding": "RND"}},
        "precision of 'x' field 'rounding' has no meaning there; it takes output_format",
    ),
    "format": (
        {"fc1": {"output_format": "8.4"}},
        (
            "precision of 'fc1' field 'output_format' must be a format like 's8.4' or 'u5.-1', "
            "not '8.4'"
        ),
    ),
    "format of a number": (
        {"fc1": {"output_format": 8}},
        "precision of 'fc1' field 'output_format' must be a format like 's8.4' or 'u5.-1', not 8",
    ),
    "unsigned weights": (
        {"fc1": {"weight_format": "u8.4"}},
        (
            "precision of 'fc1' field 'weight_format' must be a signed format like 's8.4', "
            "not 'u8.4'"
        ),
    ),
    "bits": (
        {"fc1": {"weight_bits": True}},
        "precision of 'fc1' field 'weight_bits' must be a whole number from 2 to 32, not True",
    ),
    "two widths": (
        {"fc1": {"weight_bits": 8, "weight_format": "s7.2"}},
        "precision of 'fc1' field 'weight_bits' must agree with weight_format s7.2, not be 8",
    ),
    "rounding": (
        {"fc1": {"rounding": "UP"}},
        (
            "precision of 'fc1' field 'rounding' must be one of RND, RND_ZERO, RND_MIN_INF, "
            "RND_INF, RND_CONV, TRN, TRN_ZERO, not 'UP'"
        ),
    ),
    "list": ([], "precision must map layer names to fields, not be of type list"),
    "layer of text": (
        {"fc1": "s8.4"},
        "precision of 'fc1' must map fields to values, not be of type str",
    ),
}


@pytest.mark.parametrize(("given", "message"), PRECISIONS.values(), ids=PRECISIONS)
def test_wrong_precision_is_refused_by_name(given, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        quantise(small_graph(), frames(), precision=given)


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"", "must be JSON"),
        (b"\xff\xfe", "must be JSON"),
        (b"{'fc1': 8}", "must be JSON"),
        (b"[" * 100000, "must be JSON"),
        (None, "does not exist"),
    ],
)
def test_wrong_precision_file_is_refused(tmp_path, content, rule):
    path = tmp_path / "precision.json"
    if content is not None:
        path.write_bytes(content)
    message = f"precision file {str(path)!r} {rule}"
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        quantise(small_graph(), frames(), precision=path)


def test_precision_file_that_names_a_layer_twice_is_refused(tmp_path):
    path = tmp_path / "precision.json"
    path.write_text('{"fc1": {}, "fc1": {}}')
    message = "precision must name each layer and field once, not 'fc1' twice"
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        quantise(small_graph(), frames(), precision=path)


# -- refusals ----------------------------------------------------------------------------------

REFUSED = {
    "nothing to go by": (
        {},
        "quantisation must have calibration data, or an input format for x",
    ),
    "weight bits": (
        {"weight_bits": 1},
        "weight_bits must be a whole number from 2 to 32, not 1",
    ),
    "activation bits": (
        {"activation_bits": 8.0},
        "activation_bits must be a whole number from 2 to 32, not 8.0",
    ),
    "rounding": (
        {"rounding": "half up"},
        (
            "rounding must be one of RND, RND_ZERO, RND_MIN_INF, RND_INF, RND_CONV, TRN, TRN_ZERO, "
            "not 'half up'"
        ),
    ),
    "overflow": (
        {"overflow": 3},
        "overflow must be one of SAT, SAT_ZERO, SAT_SYM, WRAP, not 3",
    ),
    "input format": (
        {"input_format": "8 bits"},
        "input_format must be a format like 's8.4' or 'u5.-1', not '8 bits'",
    ),
    "input format of another input": (
        {"input_format": {"z": "s8.4"}},
        "input_format must be for one of x, not 'z'",
    ),
    "shape": (
        {"calibration": np.zeros((4, 5))},
        "data for input x must have shape (frames, 6), not (4, 5)",
    ),
    "one frame without a batch": (
        {"calibration": np.zeros(6)},
        "data for input x must have shape (frames, 6), not (6,)",
    ),
    "ragged rows": (
        {"calibration": [[1, 2], [3]]},
        "data for input x must have shape (frames, 6), not rows of several lengths",
    ),
    "no frames": (
        {"calibration": np.zeros((0, 6))},
        "data for input x must have shape (frames, 6), not (0, 6)",
    ),
    "not a number": (
        {"calibration": np.full((4, 6), np.nan)},
        "data for input x must be finite, not NaN or infinite",
    ),
    "text": (
        {"calibration": np.full((4, 6), "a")},
        "data for input x must be numbers, not <U1",
    ),
    "another input": (
        {"calibration": {"z": np.zeros((4, 6))}},
        "data must be given for the inputs x, not z",
    ),
    "endless numbers": (
        {"calibration": np.full((4, 6), 1e200)},
        "data for input x must be below 2**400, not 1e+200",
    ),
    "long sums": (
        {"calibration": frames(), "weight_bits": 32, "activation_bits": 32},
        "layer fc1 cannot be built: fc1 accumulator must fit 63 bits, not 65",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED)
def test_wrong_argument_is_refused(arguments, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        quantise(small_graph(), **arguments)


def test_bias_that_dwarfs_its_weights_is_refused():
    message = "layer fc bias must be below 2**48 beside its weights, not 1e+20"
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        quantise(one_layer([[0.9]], [1e20]), input_format="s8.6")


def test_scale_of_too_many_numbers_is_refused():
    node = Scale("norm", ("x",), np.arange(2000.0), np.zeros(2000))
    model = Graph((port("x", "x", 2000),), (node,), (port("y", "norm", 2000),))
    message = "layer norm must scale at most 1024 numbers by themselves, not 2000"
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        quantise(model, np.ones((4, 2000)))


@pytest.mark.parametrize("seed", range(25))
def test_random_network_is_quantised(seed):
    """Any graph gives a network; at 14 bits it stays close to the float one."""
    generator = np.random.default_rng(seed)
    shapes, nodes = {"x": 5}, []
    for index in range(int(generator.integers(1, 8))):
        source, name = str(generator.choice(list(shapes))), f"n{index}"
        size = shapes[source]
        kind = generator.choice(["linear", "linear", "relu", "add", "scale", "zero"])
        if kind in ("linear", "zero"):
            size = int(generator.integers(1, 7))
            node = linear(name, source, size, shapes[source], seed + index, 3)
            node = replace(node, weight=node.weight * (kind == "linear"))
        elif kind == "relu":
            node = Relu(name, (source,))
        elif kind == "scale":
            node = Scale(name, (source,), generator.normal(size=size), generator.normal(size=size))
        else:
            equal = [other for other in shapes if shapes[other] == size]
            node = Add(name, (source, str(generator.choice(equal))))
        nodes.append(node)
        shapes[name] = size
    out = (port("y", nodes[-1].name, shapes[nodes[-1].name]),)
    model = fold_scales(Graph((port("x", "x", 5),), tuple(nodes), out))
    x = frames(100, 5, seed)
    network, report = quantise(model, x, 14, 14)
    (have,) = run(network, report, model, x)
    want = evaluate(model, x)[model.outputs[0].source]
    assert np.abs(have - want).max() <= 0.01 * max(np.abs(want).max(), 1)
    quantise(model, x, 3, 3, overflow="WRAP")
