# SPDX-License-Identifier: Apache-2.0
"""Mycroft Precise's "hey mycroft": a GRU over MFCC frames, and how sure it is after each.

Keras' GRU with ``recurrent_activation="hard_sigmoid"``, ``activation="linear"`` and
``reset_after=False``.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bitblocks import Graph
from bitblocks.graph import Port
from bitblocks.layers import Activation, Gru, Linear
from examples.published.tflite_file import constants

COEFFICIENTS, WINDOW = 13, 29
GATES = "", "_1", "_2"
"""Of update, reset and candidate, behind the names of matrices."""
LINEAR = "affine", (1.0, 0.0)


def graph(model: Path, steps: int, kept: bool) -> Graph:
    """MFCC frames of shape (steps, 13) -> the probability that the word has just been said.

    Where the state is kept the frames of a recording follow each other for ever; else each window
    of them starts anew.
    """
    own = constants(model)
    cell = "sequential/net/while/gru_cell/"
    slope = float(own[f"{cell}Const_2"]), float(own[f"{cell}Const_3"])
    gru = Gru(
        "gru",
        ("mfcc",),
        weight=np.stack([own[f"{cell}MatMul{gate}"] for gate in GATES]),
        recurrent=np.stack([own[f"{cell}MatMul_{number}"] for number in (3, 4, 5)]),
        bias=np.stack([own[f"{cell}strided_slice_{number}"] for number in (3, 4, 5)]),
        outputs=("h_last",),
        kept=kept,
        functions=(("hardsigmoid", slope), LINEAR),
        reset_after=False,
    )
    bias = own["sequential/dense_1/BiasAdd/ReadVariableOp/resource"]
    dense = Linear("dense", ("gru",), own["sequential/dense_1/MatMul"], bias)
    sure = Activation("sure", ("dense",), "sigmoid")
    shape = steps, COEFFICIENTS
    return Graph(
        (Port("mfcc", "mfcc", shape, (0, 1)),),
        (gru, dense, sure),
        (Port("sure", "sure", (1,), (0,)),),
    )


def windows(golden: Path) -> NDArray:
    """The windows of a recording, shape (windows, 29, 13)."""
    with np.load(golden) as file:
        return file["mfcc"].astype(np.float64)


def frames(golden: Path) -> NDArray:
    """The same frame by frame, shape (frames, 1, 13): each window begins a frame later."""
    x = windows(golden)
    return np.concatenate([x[0], x[1:, -1]])[:, np.newaxis]
