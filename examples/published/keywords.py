# SPDX-License-Identifier: Apache-2.0
"""Arm's keyword spotting networks ML-KWS-for-MCU, those with an LSTM: twelve classes of speech.

TensorFlow 1's BasicLSTMCell, and LSTMCell with peepholes and a projection; their gates i, g, f, o
see x and h in one matrix, and 1 is added to the sums of f.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bitblocks import Graph
from bitblocks.graph import Port
from bitblocks.layers import Linear, Lstm

COEFFICIENTS = 10
ORDER = [0, 2, 1, 3]
"""Places of the gates i, f, g, o."""
FORGET = 1
"""Of these, the gate that forgets."""


def graph(weights: Path, steps: int) -> Graph:
    """MFCC frames of shape (steps, 10) -> 12 logits."""
    with np.load(weights) as file:
        own = {name: value.astype(np.float64) for name, value in file.items()}
    plain = "lstm.rnn.lstm_cell.kernel" not in own
    cell = "lstm.rnn.basic_lstm_cell." if plain else "lstm.rnn.lstm_cell."
    matrix = own[f"{cell}kernel"]
    gates = matrix.T.reshape(4, -1, len(matrix))[ORDER]
    bias = own[f"{cell}bias"].reshape(4, -1)[ORDER]
    bias[FORGET] += 1
    others = {}
    if not plain:
        others["peephole"] = np.stack([own[f"{cell}w_{gate}_diag"] for gate in "ifo"])
        others["projection"] = own[f"{cell}projection.kernel"].T
    x, h = gates[..., :COEFFICIENTS], gates[..., COEFFICIENTS:]
    lstm = Lstm("lstm", ("mfcc",), x, h, bias, outputs=("h_last",), **others)
    logits = Linear("logits", ("lstm",), own["W_o"].T, own["b_o"])
    return Graph(
        (Port("mfcc", "mfcc", (steps, COEFFICIENTS), (0, 1)),),
        (lstm, logits),
        (Port("logits", "logits", (12,), (0,)),),
    )


def utterances(golden: Path) -> NDArray:
    """MFCC of 40 utterances, shape (40, steps, 10)."""
    with np.load(golden) as file:
        return file["mfcc"].astype(np.float64)
