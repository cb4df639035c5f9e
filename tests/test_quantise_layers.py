# SPDX-License-Identifier: Apache-2.0
"""Layers of windows and moves become integers: against Linear, against floats, within bounds."""

import re
from pathlib import Path

import numpy as np
import pytest

import blocks
from bitblocks import InputError, evaluate, import_onnx, quantise
from bitblocks.graph import Graph, Layer, Port
from bitblocks.layers import (
    Add,
    AveragePool,
    Concat,
    Convolution,
    Linear,
    Maximum,
    MaxPool,
    Minimum,
    Mul,
    Norm,
    Rearrange,
    Relu,
    Reshape,
    Softmax,
    Sub,
    TransposedConvolution,
)
from bitblocks.quantisation import Decision
from quant import Format, from_float, to_float

DATA = Path(__file__).parents[2] / "shared" / "data"


def port(name, source, *shape):
    return Port(name, source, shape, tuple(range(len(shape))))


def bell(generator, shape):
    return generator.integers(-1000, 1001, (3, *shape)).sum(0) / 1000


def convolution(name, source, outputs, kernel, inputs, groups=1, seed=0, kind=Convolution, **where):
    generator, axes = np.random.default_rng(seed), len(kernel)
    weight = bell(generator, (outputs, *kernel, inputs // groups))
    weight *= 2.0 ** generator.integers(-2, 3, (outputs, *[1] * (axes + 1)))
    where = {"stride": (1,) * axes, "dilation": (1,) * axes, "padding": ((0, 0),) * axes} | where
    return kind(name, (source,), weight, bell(generator, (outputs,)), groups=groups, **where)


def model_of(shape, *nodes):
    plain = Graph((port("x", "x", *shape),), nodes, (port("y", "x", *shape),))
    return Graph(plain.inputs, nodes, (port("y", nodes[-1].name, *plain.shapes[nodes[-1].name]),))


def run(network, report, model, x):
    codes = from_float(x, report.precision["x"].output_format)
    return to_float(network.reference(codes), network.outputs["o"].format)


def block_of(network, name):
    return next(node.block for node in network.nodes if node.name == name)


@pytest.mark.parametrize("calibrated", [True, False])
@pytest.mark.parametrize("rectified", [True, False])
def test_window_as_large_as_the_frame_is_decided_like_a_matrix(calibrated, rectified):
    shape, conv = (2, 3, 4), convolution("c", "x", 5, (2, 3), 4)
    end = (Relu("r", ("c",)),) if rectified else ()
    window = model_of(shape, conv, *end)
    flat = Linear("c", ("f",), conv.weight.reshape(5, -1), conv.bias)
    matrix = model_of(shape, Reshape("f", ("x",), (24,)), flat, *end)
    x = bell(np.random.default_rng(1), (100, *shape)) if calibrated else None
    for bits in ((8, 8), (4, 5)):
        settings = (x, *bits, "s8.5")
        a, b = (block_of(quantise(m, *settings)[0], "c") for m in (window, matrix))
        assert a.weight.reshape(5, -1).tolist() == b.weight.tolist()
        assert a.bias.tolist() == b.bias.tolist()
        assert a.shift.tolist() == b.shift.tolist()
        assert (a.weight_format, a.output_format) == (b.weight_format, b.output_format)


NETWORKS = {
    "convolution": (
        (6, 5, 2),
        [convolution("c", "x", 3, (3, 2), 2, stride=(2, 1), padding=((1, 0), (0, 1)))],
    ),
    "depthwise and pointwise": (
        (5, 5, 4),
        [
            convolution("d", "x", 4, (3, 3), 4, 4, padding=((1, 1), (1, 1))),
            Relu("r", ("d",)),
            convolution("p", "r", 6, (1, 1), 4, seed=1),
        ],
    ),
    "1D with dilation": ((9, 3), [convolution("c", "x", 4, (3,), 3, dilation=(2,))]),
    "3D": (
        (3, 4, 3, 2),
        [convolution("c", "x", 2, (2, 2, 3), 2, padding=((0, 1), (1, 0), (1, 1)))],
    ),
    "transposed": (
        (3, 4, 2),
        [
            convolution(
                "t",
                "x",
                3,
                (3, 2),
                2,
                kind=TransposedConvolution,
                stride=(2, 2),
                padding=((1, -1), (0, 0)),
            ),
            Relu("r", ("t",)),
            convolution("c", "r", 2, (1, 1), 3, seed=1),
        ],
    ),
    "largest": (
        (5, 6, 2),
        [MaxPool("m", ("x",), (3, 2), (2, 2), (1, 1), ((1, 0), (0, 0)), True)],
    ),
    "mean": ((5, 6, 2), [AveragePool("a", ("x",), (3, 2), (2, 2), (1, 1), ((1, 0), (0, 0)), True)]),
    "mean with padding": (
        (5, 6, 2),
        [
            AveragePool("a", ("x",), (3, 4), (2, 2), (1, 1), ((1, 1), (0, 1)), False, True),
            convolution("c", "a", 3, (1, 1), 2),
        ],
    ),
    **{
        kind.__name__.lower(): (
            (4, 3),
            [
                convolution("a", "x", 2, (1,), 3),
                Relu("r", ("a",)),
                convolution("b", "x", 2, (1,), 3, seed=7),
                kind("m", ("r", "b")),
                convolution("c", "m", 3, (2,), 2, seed=2),
            ],
        )
        for kind in (Sub, Mul, Maximum, Minimum)
    },
    "moved": (
        (4, 3),
        [
            Rearrange("m", ("x",), np.array([[0, 5, -1], [11, 3, 3]]), 0.75),
            convolution("c", "m", 2, (2,), 3),
        ],
    ),
    "joined": (
        (4, 3),
        [
            convolution("a", "x", 3, (1,), 3),
            Concat("j", ("x", "a", "x"), 0),
            convolution("c", "j", 2, (2,), 3, seed=2),
        ],
    ),
    "joined by channels, then added": (
        (4, 3),
        [
            convolution("a", "x", 2, (1,), 3),
            Concat("j", ("a", "x"), 1),
            convolution("c", "j", 5, (1,), 5, seed=2),
            Add("s", ("c", "j")),
        ],
    ),
}


@pytest.mark.parametrize(("shape", "nodes"), NETWORKS.values(), ids=NETWORKS)
def test_many_bits_give_the_float_network(shape, nodes):
    model = model_of(shape, *nodes)
    x = bell(np.random.default_rng(3), (60, *shape))
    network, report = quantise(model, x, 16, 16)
    want = evaluate(model, x)[model.outputs[0].source]
    have = run(network, report, model, x)
    assert have.shape == want.shape
    assert np.abs(have - want).max() <= 2e-3 * np.abs(want).max()


def extremes(format, shape, seed=0):
    ends = np.array([format.min, format.max, 0])
    return to_float(np.random.default_rng(seed).choice(ends, (300, *shape)), format)


@pytest.mark.parametrize("overflow", ["SAT", "WRAP"])
@pytest.mark.parametrize(("shape", "nodes"), NETWORKS.values(), ids=NETWORKS)
def test_bounds_leave_no_overflow_without_data(overflow, shape, nodes):
    model = model_of(shape, *nodes)
    network, report = quantise(model, None, 12, 14, "s8.5", overflow=overflow)
    x = extremes(Format(8, 5), shape)
    want = evaluate(model, x)[model.outputs[0].source]
    have = run(network, report, model, x)
    assert np.abs(have - want).max() <= 0.01 * np.abs(want).max()


@pytest.mark.parametrize("calibrated", [True, False])
@pytest.mark.parametrize("logarithm", [True, False])
def test_softmax_is_within_a_unit(calibrated, logarithm):
    model = model_of((3, 5), Softmax("s", ("x",), logarithm))
    x = np.random.default_rng(3).integers(-128, 128, (60, 3, 5)) / 32
    network, report = quantise(model, x if calibrated else None, 8, 8, "s8.5")
    format, want = network.outputs["o"].format, evaluate(model, x)["s"]
    have = run(network, report, model, x)
    assert format.signed == logarithm
    assert np.abs(have - want).max() <= 2.0**-format.frac * (1 if calibrated else 1.001)
    assert list(report.precision["s"].to_json()) == ["output_format"]


@pytest.mark.parametrize("groups", [0, 1])
@pytest.mark.parametrize("calibrated", [True, False])
def test_norm_of_whole_numbers_keeps_its_epsilon(groups, calibrated):
    """Whose unit squared is far above epsilon."""
    shape, ones = (2, 3), np.ones(3)
    model = model_of(shape, Norm("n", ("x",), ones, 0.25 * ones, 1e-5, groups))
    x = np.random.default_rng(3).integers(-2, 3, (60, *shape)).astype(float)
    x = x[x.std(-1).min(-1) > 0]
    network, report = quantise(model, x if calibrated else None, 12, 12, "s4.0")
    format, want = network.outputs["o"].format, evaluate(model, x)["n"]
    slack = 2.0**-format.frac + 2.0**-11 if calibrated else 0.01
    assert np.abs(run(network, report, model, x) - want).max() <= slack


def test_logarithm_of_softmax_has_as_many_bits_as_it_can_be_right_in():
    model = model_of((3,), Softmax("s", ("x",), True))
    x = np.random.default_rng(3).integers(-8, 8, (60, 3)) / 4
    network, report = quantise(model, x, input_format="s5.2")
    format = network.outputs["o"].format
    assert 10 < format.width <= 16
    have, want = run(network, report, model, x), evaluate(model, x)["s"]
    assert np.abs(have - want).max() <= 2.0**-format.frac


def test_sources_of_several_formats_are_converted_before_they_are_joined():
    shape, nodes = NETWORKS["joined"]
    model = model_of(shape, *nodes)
    x = bell(np.random.default_rng(3), (60, *shape))
    network, report = quantise(model, x, 8, 8)
    kinds = {node.name: type(node.block).__name__ for node in network.nodes}
    assert kinds["j"] == "Concat"
    assert {"j_input_0", "j_input_1", "j_input_2"} & set(kinds)
    assert all(kinds[n] == "Identity" for n in kinds if n.startswith("j_input"))
    again, _ = quantise(model, x, 8, 8, precision=report.precision)
    codes = from_float(x, report.precision["x"].output_format)
    np.testing.assert_array_equal(again.reference(codes), network.reference(codes))


def test_sources_of_one_format_are_joined_as_they_are():
    model = model_of((4, 3), Concat("j", ("x", "x"), 0))
    network, _ = quantise(model, input_format="s8.5")
    assert [type(node.block).__name__ for node in network.nodes] == ["Concat"]
    assert network.outputs["o"].format == Format(8, 5)


def test_relu_goes_into_the_convolution_before_it():
    shape, nodes = NETWORKS["depthwise and pointwise"]
    network, report = quantise(model_of(shape, *nodes), input_format="s8.5")
    assert [node.name for node in network.nodes] == ["d", "p"]
    assert not block_of(network, "d").output_format.signed
    assert list(report.precision["d"].to_json()) == [
        "output_format",
        "weight_format",
        "rounding",
        "overflow",
    ]


def test_layer_without_a_block_is_refused_by_name():
    class Strange(Layer):
        def shape(self, source):
            return source

        def evaluate(self, x):
            return x

    model = model_of((4,), Strange("odd", ("x",)))
    message = "layer odd cannot be built: Strange has no block"
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        quantise(model, input_format="s8.5")


class Halves(Layer):
    """Both halves of a vector."""

    @property
    def tensors(self):
        return (f"{self.name}.a", f"{self.name}.b")

    def shape(self, source):
        return (source[0] // 2,), (source[0] // 2,)

    def evaluate(self, x):
        return tuple(np.split(x, 2, axis=1))

    def quantise(self, stage):
        (tensor,), (x,) = stage.inputs, stage.sources
        parts = np.split(np.arange(tensor.size), 2)
        nodes = [
            blocks.Node(name, blocks.Rearrange(tensor, part), ("x",))
            for name, part in zip("pq", parts, strict=True)
        ]
        network = blocks.Network({"x": tensor}, nodes, {"a": "p", "b": "q"})
        return Decision(network, tuple((x.low[part], x.high[part]) for part in parts))


def test_graph_knows_layers_of_several_outputs():
    model = model_of((4,), Halves("h", ("x",)), Add("s", ("h.a", "h.b")))
    x = np.arange(8.0).reshape(2, 4)
    assert model.shapes["h.b"] == (2,)
    assert evaluate(model, x)["s"].tolist() == [[2, 4], [10, 12]]
    network, report = quantise(model, x, input_format="s8.2")
    assert run(network, report, model, x).tolist() == [[2, 4], [10, 12]]
    assert [layer.name for layer in report.layers] == ["x", "h.a", "h.b", "s"]
    assert list(report.precision) == ["x", "s"]


def test_fewer_frames_are_looked_at_where_tensors_are_large():
    model = model_of((256, 256, 3), convolution("c", "x", 3, (1, 1), 3))
    x = np.zeros((40, 256, 256, 3), np.int8)
    x[:, ::7] = 3
    assert quantise(model, x)[1].frames == 2**22 // (256 * 256 * 3)


@pytest.mark.slow
@pytest.mark.parametrize(("bits", "loss"), [((8, 8), 0.005), ((4, 6), 0.01)])
def test_published_convolutions_keep_their_accuracy(bits, loss):
    path = DATA / "onnx_mnist_cnn" / "mnist-conv.onnx"
    if not path.exists():
        pytest.skip("the published networks are not beside this checkout")
    model = import_onnx(path)
    with np.load(DATA / "mnist_t10k" / "mnist_t10k_half0.npz") as digits:
        images, labels = digits["x"][:, np.newaxis], digits["y"]
    network, report = quantise(model, images[:64], *bits)
    held, labels = images[1000:2000], labels[1000:2000]
    exact = evaluate(model, held)[model.outputs[0].source].argmax(1) == labels
    frames = model.frames(held)[model.inputs[0].name]
    codes = from_float(frames, report.precision[model.inputs[0].name].output_format)
    right = network.run(codes).argmax(1) == labels
    assert exact.mean() >= 0.975
    assert right.mean() >= exact.mean() - loss
    assert isinstance(block_of(network, network.nodes[0].name), blocks.Convolution)
