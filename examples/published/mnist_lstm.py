# SPDX-License-Identifier: Apache-2.0
"""TensorFlow Lite Micro's LSTM that reads MNIST digits row by row, with float weights."""

from pathlib import Path

import numpy as np

from bitblocks import Graph
from bitblocks.graph import Port
from bitblocks.layers import Linear, Lstm, Reshape
from examples.published.tflite_file import constants

ROWS, COLUMNS, UNITS = 28, 28, 20
X, H, BIAS = (15, 14, 13, 12), (7, 6, 5, 4), (11, 10, 9, 8)
"""Tensors of the operator UNIDIRECTIONAL_SEQUENCE_LSTM: those of the gates i, f, g, o."""


def graph(model: Path) -> Graph:
    """Digits of shape (28, 28), 0 to 1 -> 10 logits."""
    own = constants(model)

    def of_gates(numbers: tuple[int, ...]) -> np.ndarray:
        return np.stack([own[f"arith.constant{n - 4 or ''}"] for n in numbers])

    lstm = Lstm("lstm", ("rows",), of_gates(X), of_gates(H), of_gates(BIAS))
    flat = Reshape("flat", ("lstm",), (ROWS * UNITS,))
    output = "model/sequential/output/"
    weight, bias = own[f"{output}MatMul"], own[f"{output}BiasAdd/ReadVariableOp"]
    logits = Linear("logits", ("flat",), weight, bias)
    return Graph(
        (Port("rows", "rows", (ROWS, COLUMNS), (0, 1)),),
        (lstm, flat, logits),
        (Port("logits", "logits", (10,), (0,)),),
    )
