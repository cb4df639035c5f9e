# SPDX-License-Identifier: Apache-2.0
"""The networks of the demo: trained models, data for them, and what the fixed-point model may lose.

One entry of ``NETWORKS`` is all that a network needs to be shown, checked and measured.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import bitblocks
from bitblocks import Graph
from blocks import Network, NetworkPlan

EXAMPLES = Path(__file__).parent
_ABOVE = EXAMPLES.parents[1:3]
"""Beside this checkout, or beside the folder that holds it and other work trees."""
SHARED = next(
    (path for path in (folder / "shared" / "data" for folder in _ABOVE) if path.is_dir()),
    _ABOVE[0] / "shared" / "data",
)
"""Public models and data that are too large for this repository."""
PUBLISHED = SHARED / "hls4ml_example_models" / "onnx"
MNIST = SHARED / "onnx_mnist_cnn"
KEYWORDS = SHARED / "arm_mlkws"
WAKEWORD = SHARED / "precise_gru_wakeword"
MNIST_LSTM = SHARED / "tflm_mnist_lstm" / "trained_lstm_float.tflite"
LSTM_DIGITS = 500
RANDOM_FRAMES = 1000


@dataclass(frozen=True)
class Data:
    """Frames in the model's layout, all of shape (frames, ...).

    Parameters
    ----------
    calibration : for quantisation; None for what is composed of integers
    x : for comparing, not seen in training
    target : what is right for each of ``x``; None where only the float network can tell
    """

    calibration: NDArray[Any] | None
    x: NDArray[Any]
    target: NDArray[Any] | None = None


@dataclass(frozen=True)
class Metric:
    """A figure of merit, the more the better.

    Parameters
    ----------
    name : with its unit
    of : (y, x, target) -> figure
    loss : by how much the fixed-point model may be below the float one
    """

    name: str
    of: Callable[[NDArray[Any], NDArray[Any], NDArray[Any]], float]
    loss: float


@dataclass(frozen=True)
class Composed:
    """A network that is composed of integers in Python, not read from an ONNX file.

    Parameters
    ----------
    network : makes it
    mapping : its plan
    floats : x -> what the network in floating point gives
    """

    network: Callable[[], Network]
    mapping: Callable[[Network], NetworkPlan]
    floats: Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True)
class Example:
    """A network to be shown.

    Parameters
    ----------
    model : file, of ONNX unless the network is composed
    data : gives the frames
    frames : how many of them the Verilog is compared on
    metric : what counts
    options : for :func:`bitblocks.build`; 8 bits and folded if it is empty
    composed : how a network of integers is made that no ONNX file holds
    graph : how a float network is made of a file that is not ONNX
    """

    model: Path
    data: Callable[[], Data]
    frames: int
    metric: Metric
    options: Mapping[str, Any] = field(default_factory=dict)
    composed: Composed | None = None
    graph: Callable[[], Graph] | None = None

    def read(self) -> Graph:
        """The float network; of an example that is not composed."""
        return bitblocks.import_onnx(self.model) if self.graph is None else self.graph()

    @property
    def missing(self) -> str | None:
        """Why it cannot be shown here, None if it can."""
        if self.model.is_file():
            return None
        return f"{self.model.name} is not beside this checkout, in ../shared/data"


def decisions(y: NDArray[Any]) -> NDArray[Any]:
    """The class of each frame: the place of the largest output, or whether the only one is above ½.

    Shape (frames, outputs) -> (frames,).
    """
    return y.argmax(axis=1) if y.shape[1] > 1 else y[:, 0] > 0.5


def _accuracy(y: NDArray[Any], x: NDArray[Any], target: NDArray[Any]) -> float:
    return float((decisions(y) == target).mean())


def _agreement(y: NDArray[Any], x: NDArray[Any], target: NDArray[Any]) -> float:
    return _accuracy(y, x, decisions(target))


def _gain(y: NDArray[Any], x: NDArray[Any], target: NDArray[Any]) -> float:
    from examples.denoiser.data import gain

    return gain(x, target, y)


def _bits_right(y: NDArray[Any], x: NDArray[Any], target: NDArray[Any]) -> float:
    return float(((y[:, -target.shape[1] :] > 0) == target).mean())


def _digits() -> Data:
    from examples.digits.data import calibration, digits

    return Data(calibration(), *digits()[1])


def _digit_rows() -> Data:
    """The digits as 8 steps of 8 pixels."""
    data = _digits()
    assert data.calibration is not None
    return replace(data, calibration=data.calibration[:, 0], x=data.x[:, 0])


def _denoiser() -> Data:
    from examples.denoiser.data import held_out, training

    return Data(training()[0][:256], *held_out())


def _shapes3d() -> Data:
    from examples.shapes3d.data import held_out, training

    return Data(training()[0][:256], *held_out())


def _copied() -> Data:
    from examples.copy_ntm.data import held_out

    return Data(None, *held_out())


def _copying() -> Example:
    from examples.copy_ntm.network import floats, mapping, network

    composed = Composed(network, mapping, floats)
    model = EXAMPLES / "copy_ntm" / "copy_ntm.npz"
    return Example(model, _copied, 100, BITS_RIGHT, composed=composed)


def _mnist() -> Data:
    """5000 digits; every twentieth is calibration data too, since there are no other ones."""
    with np.load(SHARED / "mnist_t10k" / "mnist_t10k_half0.npz") as file:
        images, labels = file["x"].astype(np.float32)[:, np.newaxis], file["y"].astype(np.int64)
    return Data(images[::20], images, labels)


def _mnist_rows() -> Data:
    """500 digits, 0 to 1, and others for calibration."""
    with np.load(SHARED / "mnist_t10k" / "mnist_t10k_half0.npz") as file:
        images, labels = file["x"] / 255.0, file["y"].astype(np.int64)
    compared, others = images[:LSTM_DIGITS], images[LSTM_DIGITS::30]
    return Data(others, compared, labels[:LSTM_DIGITS])


def _mnist_lstm() -> Graph:
    from examples.published.mnist_lstm import graph

    return graph(MNIST_LSTM)


def _keywords(name: str, steps: int, interval: int) -> Example:
    """One of Arm's networks of this many steps.

    The utterances are calibration data too, since there are no others.
    """

    def data() -> Data:
        from examples.published.keywords import utterances

        x = utterances(KEYWORDS / f"{name}_golden.npz")
        return Data(x, x)

    def made() -> Graph:
        from examples.published.keywords import graph

        return graph(weights, steps)

    weights = KEYWORDS / f"{name}_weights.npz"
    options = {**WIDE, "interval": interval}
    return Example(weights, data, 5, TWO_OF_FORTY, options, graph=made)


def _wakeword(kept: bool, interval: int) -> Example:
    """The recording is calibration data too, since there is no other."""

    def data() -> Data:
        from examples.published.wakeword import frames, windows

        golden = WAKEWORD / "golden_test_wav.npz"
        x = frames(golden) if kept else windows(golden)
        return Data(x, x)

    def made() -> Graph:
        from examples.published.wakeword import WINDOW, graph

        return graph(model, 1 if kept else WINDOW, kept)

    model = WAKEWORD / "hey_mycroft.tflite"
    options = {**WIDE, "interval": interval}
    return Example(model, data, 83 if kept else 55, ALWAYS, options, graph=made)


def _random(*shape: int) -> Callable[[], Data]:
    """Normal numbers, for the published networks that come without data."""

    def data() -> Data:
        random = np.random.default_rng(1)
        calibration = random.normal(size=(512, *shape))
        return Data(calibration, random.normal(size=(RANDOM_FRAMES, *shape)))

    return data


HALF_A_POINT = Metric("accuracy", _accuracy, 0.005)
A_POINT = Metric("accuracy", _accuracy, 0.01)
HALF_A_DECIBEL = Metric("gain (dB)", _gain, 0.5)
BITS_RIGHT = Metric("bits right", _bits_right, 0.01)
TWO_OF_FORTY = Metric("decides as the float network", _agreement, 0.05)
ALWAYS = Metric("decides as the float network", _agreement, 0.0)
WIDE = {"activation_bits": 12}
"""Numbers and states; weights have 8 bits."""
AGREEMENT = Metric("decides as the float network", _agreement, 0.1)
"""For random frames, of which many lie at the border between two classes."""


def _own(
    name: str, data: Callable[[], Data], frames: int, metric: Metric, **options: Any
) -> Example:
    return Example(EXAMPLES / name / f"{name}.onnx", data, frames, metric, options)


def _published(name: str, frames: int, *shape: int) -> dict[str, Example]:
    """Folded, and unrolled under a name that says so."""
    folded = Example(PUBLISHED / f"{name}.onnx", _random(*shape), frames, AGREEMENT)
    return {name: folded, f"{name}_unrolled": replace(folded, options={"unroll": True})}


NETWORKS: dict[str, Example] = {
    "digits": _own("digits", _digits, 200, HALF_A_POINT),
    "digits_cnn": _own("digits_cnn", _digits, 359, HALF_A_POINT),
    "digits_lstm": _own("digits_lstm", _digit_rows, 100, A_POINT, interval=4096),
    "digits_transformer": _own("digits_transformer", _digits, 100, A_POINT, interval=1024),
    "denoiser": _own("denoiser", _denoiser, 50, HALF_A_DECIBEL),
    "shapes3d": _own("shapes3d", _shapes3d, 50, A_POINT),
    "copy_ntm": _copying(),
    "mnist_cnn": Example(MNIST / "mnist-conv.onnx", _mnist, 20, HALF_A_POINT),
    "mnist_lstm": Example(
        MNIST_LSTM, _mnist_rows, 20, A_POINT, {"interval": 8192}, graph=_mnist_lstm
    ),
    "basic_lstm_s": _keywords("Basic_LSTM_S", 49, 65536),
    "lstm_s": _keywords("LSTM_S", 25, 65536),
    "precise_gru": _wakeword(kept=True, interval=512),
    "precise_gru_windows": _wakeword(kept=False, interval=16384),
    **_published("conv1d_small_keras", 100, 10, 4),
    **_published("conv2d_small_keras", 100, 8, 8, 1),
    **_published("two_layer_pytorch", RANDOM_FRAMES, 10),
    **_published("three_layer_pytorch", RANDOM_FRAMES, 16),
    **_published("three_layer_keras", RANDOM_FRAMES, 16),
}
