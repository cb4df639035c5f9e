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
from numpy.testing import assert_array_equal
from onnx.reference import ReferenceEvaluator

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
    return state.hexdigest()


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
    assert path.stat().st_size < 20_000
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
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


def test_denoiser_gains_six_decibels():
    noisy, clean = denoiser.held_out()
    assert denoiser.gain(noisy, clean, evaluate("denoiser", noisy)) >= 7.5


def test_gain_is_the_ratio_of_squared_errors():
    clean = np.array([1.0, -2.0])
    assert denoiser.gain(np.array([11.0, -2.0]), clean, np.array([1.0, -3.0])) == 20


def test_shapes_and_their_moves_are_told_apart():
    clips, labels = (part[:128] for part in shapes3d.held_out())
    assert (evaluate("shapes3d", clips).argmax(axis=1) == labels).mean() >= 0.95


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
        (
            denoiser.training,
            "1f3a18ac1743e355d91c3ee66563e052fb6d472d38fa2f4b97faad2b203e3e81",
        ),
        (
            denoiser.held_out,
            "fb8b2ad30ac189db827070f45f494dfc3a713b954d7f073899e78dd62469a21f",
        ),
        (
            shapes3d.training,
            "631019723800c809f11e17b7fa7e6d340e176736a0f4acde3971dc645ee80a88",
        ),
        (
            shapes3d.held_out,
            "c652bbf8f2e2e22c72dfa037e2e3c1f835e70fb4565459616528c5e04249fe79",
        ),
    ],
    ids=["denoiser-training", "denoiser-held-out", "shapes3d-training", "shapes3d-held-out"],
)
def test_data_are_the_same_on_every_machine(arrays, expected):
    assert digest(*arrays()) == expected
