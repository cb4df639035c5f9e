# SPDX-License-Identifier: Apache-2.0
"""The example networks: their data, what they are made of, and their float figures.

The figures come from the evaluator inside the onnx package, not from this project.
"""

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from onnx.reference import ReferenceEvaluator

from examples.copy_ntm import data as copy_ntm
from examples.copy_ntm import machine
from examples.denoiser import data as denoiser
from examples.draws import Draws
from examples.shapes3d import data as shapes3d

EXAMPLES = Path(__file__).parents[1] / "examples"
OPERATORS = {  # operators of each network, apart from constants
    "digits_cnn": {
        "Conv": 4,
        "BatchNormalization": 4,
        "Relu": 4,
        "Add": 1,
        "MaxPool": 1,
        "GlobalAveragePool": 1,
        "Flatten": 1,
        "Gemm": 1,
    },
    "denoiser": {"Conv": 3, "ConvTranspose": 2, "Relu": 4},
    "digits_lstm": {  # the zeros at which the LSTM starts are as many as the batch has frames
        "Shape": 1,
        "Gather": 2,
        "Unsqueeze": 1,
        "Concat": 1,
        "ConstantOfShape": 1,
        "Transpose": 2,
        "LSTM": 1,
        "Squeeze": 1,
        "Gemm": 1,
    },
    "digits_transformer": {
        "Conv": 1,
        "MatMul": 10,
        "Gemm": 3,
        "Softmax": 2,
        "LayerNormalization": 4,
        "Relu": 2,
        "ReduceMean": 1,
        "Add": 11,
        "Mul": 4,
        "Transpose": 17,
        "Reshape": 23,
        "Shape": 2,
        "Slice": 6,
        "Gather": 6,
        "Concat": 4,
        "Squeeze": 2,
        "Unsqueeze": 2,
    },
    "shapes3d": {
        "Conv": 2,
        "BatchNormalization": 2,
        "Relu": 2,
        "MaxPool": 1,
        "GlobalAveragePool": 1,
        "Flatten": 1,
        "Gemm": 1,
    },
}
NAMES = pytest.mark.parametrize("name", sorted(OPERATORS))


def load(name):
    return onnx.load(EXAMPLES / name / f"{name}.onnx", load_external_data=False)


def evaluate(name, x):
    return ReferenceEvaluator(load(name)).run(None, {load(name).graph.input[0].name: x})[0]


def digest(*arrays):
    """Over shapes and values, whatever the byte order of the machine."""
    state = hashlib.sha256()
    for array in arrays:
        state.update(str(array.shape).encode())
        state.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return state.hexdigest()[:16]


def held_out_digits():
    pytest.importorskip("sklearn", reason="the digits are inside scikit-learn")
    from examples.digits.data import digits

    return digits()[1]


@NAMES
def test_networks_are_made_of_what_they_promise(name):
    nodes = load(name).graph.node
    assert Counter(node.op_type for node in nodes if node.op_type != "Constant") == OPERATORS[name]


@NAMES
def test_network_files_are_small_whole_and_name_no_place(name):
    path, model = EXAMPLES / name / f"{name}.onnx", load(name)
    onnx.checker.check_model(model, full_check=True)
    assert path.stat().st_size < 40_000
    assert [(entry.domain, entry.version) for entry in model.opset_import] in (
        [("", 17)],
        [("", 18)],
    )
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    for port in (*model.graph.input, *model.graph.output):
        batch, *rest = port.type.tensor_type.shape.dim
        assert batch.dim_param == "N"
        assert all(length.dim_value > 0 for length in rest)
    for part in (model, model.graph, *model.graph.node):
        assert part.doc_string == ""
        assert not part.metadata_props
    assert model.producer_name == model.producer_version == ""


def test_convolutional_network_tells_digits_apart():
    images, labels = held_out_digits()
    right = evaluate("digits_cnn", images).argmax(axis=1) == labels
    assert right.mean() >= 0.985


def test_lstm_tells_digits_apart_row_by_row():
    images, labels = held_out_digits()
    right = evaluate("digits_lstm", images[:, 0]).argmax(axis=1) == labels
    assert right.mean() >= 0.96


def test_transformer_tells_digits_apart():
    images, labels = held_out_digits()
    right = evaluate("digits_transformer", images).argmax(axis=1) == labels
    assert right.mean() >= 0.96


def test_denoiser_gains_seven_and_a_half_decibels():
    noisy, clean = denoiser.held_out()
    assert denoiser.gain(noisy, clean, evaluate("denoiser", noisy)) >= 7.5


def test_gain_is_the_ratio_of_squared_errors():
    clean = np.array([1.0, -2.0])
    # squared errors of 100 and 1
    assert denoiser.gain(np.array([11.0, -2.0]), clean, np.array([1.0, -3.0])) == 20


def test_shapes_and_their_moves_are_told_apart():
    clips, labels = (part[:128] for part in shapes3d.held_out())
    assert (evaluate("shapes3d", clips).argmax(axis=1) == labels).mean() >= 0.95


def test_turing_machine_copies_sequences_twice_as_long_as_in_training():
    x, bits = copy_ntm.held_out()
    assert x.shape[1] == 2 * 2 * copy_ntm.TRAINED
    with np.load(EXAMPLES / "copy_ntm" / "copy_ntm.npz") as weights:
        answers = machine.run(weights, x)[:, bits.shape[1] :]
    assert ((answers > 0) == bits).mean() >= 0.99


def turing_weights(reader, writer):
    """The heads' parameters are these vectors, whatever comes in."""
    shapes = {"controller": (4, 25), "reader": (21, 4), "writer": (53, 4), "output": (8, 20)}
    weights = {f"{name}.weight": np.zeros(shape) for name, shape in shapes.items()}
    weights |= {f"{name}.bias": np.zeros(shape[0]) for name, shape in shapes.items()}
    return weights | {"reader.bias": np.array(reader), "writer.bias": np.array(writer)}


def test_turing_machine_heads_move_and_write_as_told():
    on, back = [0] * 17 + [-50, -50, -50, 50], [0] * 17 + [-50, 50, -50, -50]
    weights = turing_weights(reader=back, writer=on + [50] * 16 + [1] * 16)
    state = machine.start(2)
    for _ in range(3):
        _, state = machine.step(weights, np.ones((2, 9)), state)
    assert_array_equal(state.reading.argmax(axis=1), 61)
    assert_array_equal(state.writing.argmax(axis=1), 3)
    expected = np.zeros((2, 64, 16))
    expected[:, 1:4] = np.tanh(1)
    assert_allclose(state.memory, expected, atol=1e-12)
    assert_allclose(state.read, 0, atol=1e-12)


def test_turing_machine_sharpens_by_the_square():
    heads = [0] * 17 + [-50, *np.log([1, 2, 3])]
    _, state = machine.step(
        turing_weights(heads, heads + [0] * 32), np.ones((1, 9)), machine.start(1)
    )
    expected = np.zeros((1, 64))
    expected[0, [63, 0, 1]] = np.array([1, 4, 9]) / 14
    assert_allclose(state.reading, expected, atol=1e-12)
    assert_allclose(state.writing, expected, atol=1e-12)


def test_turing_machine_finds_rows_by_content_and_reads_before_it_writes():
    state = machine.start(1)
    state.memory[0] = np.random.default_rng(3).normal(size=(64, 16))
    row = state.memory[0, 40].copy()
    reader = [*np.arctanh(row / 4), 500, 50, -50, 50, -50]
    weights = turing_weights(reader, writer=reader + [50] * 16 + [0] * 16)
    weights["output.weight"][:, 4:] = np.eye(8, 16)
    logits, after = machine.step(weights, np.zeros((1, 9)), state)
    assert after.reading.argmax() == 40
    assert_allclose(after.read[0], row, rtol=1e-6)
    assert_allclose(logits[0], row[:8], rtol=1e-6)
    assert_allclose(after.memory[0, 40], 0, atol=1e-6)
    assert_allclose(after.memory[0, 41:], state.memory[0, 41:], rtol=1e-6)


def test_signals_are_multiples_of_the_converters_step_around_clean_ones():
    noisy, clean = denoiser.held_out()
    codes = noisy.astype(float) * 64
    assert_array_equal(codes, np.round(codes))
    assert codes.min() >= -128
    assert codes.max() <= 127
    noise = noisy.astype(float) - clean
    assert abs(noise.mean()) < 0.005
    assert abs(noise.std() - 0.217) < 0.002
    # two sinusoids of 7 turns in 128 samples at most: nearly all of it is in the lowest 5 bins
    power = np.square(np.abs(np.fft.rfft(clean[:, 0]))).sum(axis=0)
    assert power[:5].sum() > 0.95 * power.sum()


@pytest.mark.parametrize("data", [denoiser, shapes3d], ids=["denoiser", "shapes3d"])
def test_data_are_written_as_arrays(data, tmp_path):
    data.write(tmp_path / "new")
    files = {path.stem: np.load(path) for path in (tmp_path / "new").iterdir()}
    assert_array_equal(files.pop("calibration"), data.training()[0][:256])
    x, target = data.held_out()
    assert_array_equal(files.pop("held_out"), x)
    (written,) = files.values()
    assert_array_equal(written, target)


def test_labels_of_clips_are_those_of_matched_filters():
    clips, labels = (part[:64] for part in shapes3d.held_out())
    scores = []
    for shape in ("111 101 111", "010 111 010"):
        template = np.zeros((12, 12))
        template[:3, :3] = [[int(pixel) for pixel in row] for row in shape.split()]
        template = (template - template.mean()) / template.std()
        for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            frames = [np.roll(clips[:, 0, t], (-t * down, -t * right), (1, 2)) for t in range(8)]
            spectrum = np.fft.fft2(np.mean(frames, axis=0)) * np.fft.fft2(template).conj()
            scores.append(np.fft.ifft2(spectrum).real.max(axis=(1, 2)))
    assert_array_equal(np.argmax(scores, axis=0), labels)


def test_drawn_integers_are_even_and_noise_is_bell_shaped():
    draws = Draws(5)
    counts = np.bincount(draws.below(7, 7000))
    assert counts.shape == (7,)
    assert abs(counts - 1000).max() < 150  # five standard deviations
    noise = draws.noise(100, 1000)
    assert noise.shape == (100, 1000)
    assert abs(noise.mean()) < 600
    assert abs(noise.std() / (2**16 / 3**0.5) - 1) < 0.01
    # a sum of four even parts: kurtosis 3 - 6 / (5 * 4)
    assert abs((noise.astype(float) ** 4).mean() / noise.std() ** 4 - 2.7) < 0.05


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        pytest.param(denoiser.training, "1f3a18ac1743e355", id="denoiser-training"),
        pytest.param(denoiser.held_out, "fb8b2ad30ac189db", id="denoiser-held-out"),
        pytest.param(shapes3d.training, "631019723800c809", id="shapes3d-training"),
        pytest.param(shapes3d.held_out, "c652bbf8f2e2e22c", id="shapes3d-held-out"),
        pytest.param(copy_ntm.held_out, "c9e904ec38c87eee", id="copy_ntm-held-out"),
    ],
)
def test_data_are_the_same_on_every_machine(arrays, expected):
    assert digest(*arrays()) == expected
